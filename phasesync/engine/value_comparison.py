"""Compares the values at AWS with the store by reading them; only at an operator's request."""

from dataclasses import dataclass, replace
from enum import StrEnum

from phasesync.core.fingerprint import fingerprint, same
from phasesync.core.payloads import build_payloads
from phasesync.core.planning.ownership import refusal_of
from phasesync.core.remote import Payload
from phasesync.core.sync import Sync
from phasesync.core.sync_claim import SyncState
from phasesync.engine.context import Context
from phasesync.engine.error_hints import hint_of, hints_for
from phasesync.engine.observe import STOPS_OBSERVING, observe_consistently, verify_account
from phasesync.engine.source import Source, read_source
from phasesync.errors import DestinationError
from phasesync.ports.destination import Destination


class Comparison(StrEnum):
    """The result of comparing one remote object."""

    SAME = "same"
    DIFFERS = "differs"
    MISSING = "missing"
    """It does not exist, or has no current value."""
    UNREADABLE = "unreadable"
    """It could not be read, or the store cannot build its payload."""


_BEHIND = "the newest edit is not applied yet"
_DOUBTFUL = (Comparison.DIFFERS, Comparison.MISSING)


@dataclass(frozen=True, kw_only=True)
class ObjectVerification:
    """One remote object. `reason`: why it could not be compared, or why it differs if that is known."""

    remote_name: str
    result: Comparison
    reason: str | None = None
    hint: str | None = None


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The result of comparing all remote objects of a sync, by name."""

    sync: Sync
    objects: tuple[ObjectVerification, ...]

    @property
    def all_same(self) -> bool:
        """Whether every object is as the store wants it."""
        return all(verified.result is Comparison.SAME for verified in self.objects)

    @property
    def undecided(self) -> bool:
        """Whether some values could not be read, and none of the others differs."""
        results = {verified.result for verified in self.objects}
        return Comparison.UNREADABLE in results and results <= {Comparison.UNREADABLE, Comparison.SAME}


def verify_sync(context: Context, name: str) -> Verification:
    """
    Read every remote object of a sync and compare it with the store.

    Raises:
        NotFoundError: the sync.
        EnvironmentStoreError: the source cannot be read.
        DestinationError: a failure that would meet every object.
    """
    state = context.store.sync_states.state_of(name)
    sync = state.sync
    with hints_for(sync):
        compared = _all(context, state)
    if any(verified.result in _DOUBTFUL for verified in compared) and _is_behind(context, name):
        compared = tuple(
            replace(verified, reason=verified.reason or _BEHIND) if verified.result in _DOUBTFUL else verified
            for verified in compared
        )
    return Verification(sync=sync, objects=compared)


def _is_behind(context: Context, name: str) -> bool:
    sync = context.store.syncs.get_sync(name)
    return sync.pending or sync.running


def _all(context: Context, state: SyncState) -> tuple[ObjectVerification, ...]:
    sync = state.sync
    destination = context.destinations.open(sync.destination_kind, state.credential, sync.region, tenant=sync.id)
    verify_account(state, destination)
    # An edit that is applied meanwhile is at AWS, and not in the source that was read before.
    return observe_consistently(
        _read(context, sync),
        lambda: _read(context, sync),
        lambda source: _compare_all(context, sync, destination, source),
        doubtful=lambda compared: any(verified.result in _DOUBTFUL for verified in compared),
        moved=lambda before, after: before.reads != after.reads,
    )


def _read(context: Context, sync: Sync) -> Source:
    source = read_source(context.store.secrets, sync)
    if (unresolved := source.error()) is not None:
        raise unresolved
    return source


def _compare_all(
    context: Context, sync: Sync, destination: Destination, source: Source
) -> tuple[ObjectVerification, ...]:
    payloads = build_payloads(sync, source.values, context.digests)
    compared = [
        _compare(context, sync, destination, remote_name, payload) for remote_name, payload in payloads.payloads.items()
    ]
    compared += [
        ObjectVerification(
            remote_name=remote_name, result=Comparison.UNREADABLE, reason=error.message, hint=hint_of(error, sync)
        )
        for remote_name, error in payloads.problems.items()
    ]
    return tuple(sorted(compared, key=lambda verified: verified.remote_name))


def _compare(context: Context, sync: Sync, destination: Destination, name: str, payload: Payload) -> ObjectVerification:
    try:
        value = destination.read_value(name)
    except STOPS_OBSERVING:
        raise
    except DestinationError as error:
        return ObjectVerification(
            remote_name=name, result=Comparison.UNREADABLE, reason=error.message, hint=hint_of(error, sync)
        )
    if value is None:
        return ObjectVerification(remote_name=name, result=Comparison.MISSING)
    if same(fingerprint(context.digests, value), payload.fingerprint):
        return ObjectVerification(remote_name=name, result=Comparison.SAME)
    return ObjectVerification(
        remote_name=name, result=Comparison.DIFFERS, reason=_why_not_ours(destination, name, sync)
    )


def _why_not_ours(destination: Destination, name: str, sync: Sync) -> str | None:
    """Return why no sync may write an object with another value; None if one may, or if AWS does not say."""
    try:
        observed = destination.observe(name)
    except STOPS_OBSERVING:
        raise
    except DestinationError:  # The comparison is made already; this would only explain it.
        return None
    refusal = refusal_of(name, observed, sync.region)
    return None if refusal is None else refusal[0]
