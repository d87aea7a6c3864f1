"""Compares what readers at AWS get with what the store wants, by reading the values; only on an operator's word."""

from dataclasses import dataclass, replace
from enum import StrEnum

from phasesync.core.fingerprint import fingerprint, same
from phasesync.core.payloads import build_payloads
from phasesync.core.planning.ownership import refusal_of
from phasesync.core.remote import Payload
from phasesync.core.sync import Sync
from phasesync.core.sync_state import SyncState
from phasesync.engine.context import Context
from phasesync.engine.hints import hint_of, hints_for
from phasesync.engine.observe import END_OF_LOOKING, look_steadily
from phasesync.engine.pinned_account import verify_account
from phasesync.engine.source import Source, read_source
from phasesync.errors import DestinationError
from phasesync.ports.destination import Destination


class Comparison(StrEnum):
    """What came of comparing one remote object."""

    SAME = "same"
    DIFFERS = "differs"
    MISSING = "missing"
    """It does not exist, or has no current value."""
    UNREADABLE = "unreadable"
    """It could not be read, or the store cannot make its payload."""


_BEHIND = "the newest edit is not applied yet"
_DOUBTFUL = (Comparison.DIFFERS, Comparison.MISSING)


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One remote object; `reason` says why it could not be compared, or why it differs where that is known."""

    remote_name: str
    result: Comparison
    reason: str | None = None
    hint: str | None = None


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What came of comparing all remote objects of a sync, by name."""

    sync: Sync
    objects: tuple[Compared, ...]

    @property
    def all_same(self) -> bool:
        """Whether every object is as the store wants it."""
        return all(one.result is Comparison.SAME for one in self.objects)

    @property
    def undecided(self) -> bool:
        """Whether nothing differs as far as values could be read, and some could not."""
        found = {one.result for one in self.objects}
        return Comparison.UNREADABLE in found and found <= {Comparison.UNREADABLE, Comparison.SAME}


def verify_sync(context: Context, name: str) -> Verified:
    """
    Read every remote object of a sync and compare it with the store.

    Raises:
        NotFoundError: the sync.
        EnvironmentStoreError: the source cannot be read.
        DestinationError: what would meet every object.
    """
    state = context.store.syncs.state_of(name)
    sync = state.sync
    with hints_for(sync):
        compared = _all(context, state)
    if any(one.result in _DOUBTFUL for one in compared) and _is_behind(context, name):
        compared = tuple(
            replace(one, reason=one.reason or _BEHIND) if one.result in _DOUBTFUL else one for one in compared
        )
    return Verified(sync=sync, objects=compared)


def _is_behind(context: Context, name: str) -> bool:
    sync = context.store.syncs.get_sync(name)
    return sync.pending or sync.running


def _all(context: Context, state: SyncState) -> tuple[Compared, ...]:
    sync = state.sync
    destination = context.destinations.open(sync.destination_kind, state.credential, sync.region, tenant=sync.id)
    verify_account(state, destination)
    # An edit that goes out meanwhile is at AWS and not in what was read before.
    return look_steadily(
        _read(context, sync),
        lambda: _read(context, sync),
        lambda source: _compare_all(context, sync, destination, source),
        doubtful=lambda compared: any(one.result in _DOUBTFUL for one in compared),
        moved=lambda before, after: before.reads != after.reads,
    )


def _read(context: Context, sync: Sync) -> Source:
    source = read_source(context.store.secrets, sync)
    if (unresolved := source.error()) is not None:
        raise unresolved
    return source


def _compare_all(context: Context, sync: Sync, destination: Destination, source: Source) -> tuple[Compared, ...]:
    mapped = build_payloads(sync, source.values, context.digests)
    compared = [_compare(context, sync, destination, one, payload) for one, payload in mapped.payloads.items()]
    compared += [
        Compared(remote_name=one, result=Comparison.UNREADABLE, reason=error.message, hint=hint_of(error, sync))
        for one, error in mapped.problems.items()
    ]
    return tuple(sorted(compared, key=lambda one: one.remote_name))


def _compare(context: Context, sync: Sync, destination: Destination, name: str, payload: Payload) -> Compared:
    try:
        value = destination.read_value(name)
    except END_OF_LOOKING:
        raise
    except DestinationError as error:
        return Compared(remote_name=name, result=Comparison.UNREADABLE, reason=error.message, hint=hint_of(error, sync))
    if value is None:
        return Compared(remote_name=name, result=Comparison.MISSING)
    if same(fingerprint(context.digests, value), payload.fingerprint):
        return Compared(remote_name=name, result=Comparison.SAME)
    return Compared(remote_name=name, result=Comparison.DIFFERS, reason=_why_not_ours(destination, name, sync))


def _why_not_ours(destination: Destination, name: str, sync: Sync) -> str | None:
    """Return why no sync may write an object whose value differs; None where one may, or where AWS does not say."""
    try:
        seen = destination.observe(name)
    except END_OF_LOOKING:
        raise
    except DestinationError:  # The comparison is made already; this would only have explained it.
        return None
    refusal = refusal_of(name, seen, sync.region)
    return None if refusal is None else refusal[0]
