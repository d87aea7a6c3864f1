"""
Checks a whole account and Region for drift in few calls: with lists of up to 100 objects, not a call for each object.

If the list agrees with the journal, the sync needs no run: its next check is deferred, and nothing is logged. Otherwise
the sync is due at once, and an ordinary run decides. Nothing is written to AWS, and nothing is decided from a list
alone. If lists are not available, the checks simply become due.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from phasesync.core.chores import SWEEP_EVERY, Chore
from phasesync.core.credential import Credential
from phasesync.core.events import ChoreFailed, SweepDenied, SweepFinished
from phasesync.core.planning.listing_check import (
    ExpectedListing,
    NotComparable,
    SyncTraits,
    expectation,
    mismatches,
    pages,
    shown_by_lists,
    traits_of,
    worth_a_list,
)
from phasesync.core.remote import Observed
from phasesync.core.sweep_check import Check, SweepGroup, SweptObject, SweptSync
from phasesync.core.sync import Layout
from phasesync.engine.context import Context
from phasesync.errors import (
    CredentialRejectedError,
    DestinationError,
    InterruptedRunError,
    NotFoundError,
    PermissionDeniedError,
)
from phasesync.ports.destination import Destination

_AHEAD: Final = 2 * SWEEP_EVERY
"""Checks that are due within this time are swept: a round later they might be due already."""
_CALL: Final = timedelta(milliseconds=100)
"""A generous estimate for one list call. While one daemon sweeps a place, no other begins."""
_DENIED_FOR: Final = timedelta(hours=1)
"""A credential that may not list is not tried again for this long, unless it changes."""
_TENANT: Final = "sweep"


@dataclass(kw_only=True)
class _Expectations:
    """What is expected of the syncs of one group, collected while the journal is read."""

    expected: dict[str, ExpectedListing] = field(default_factory=dict)
    syncs: dict[str, SweptSync] = field(default_factory=dict)
    aside: set[str] = field(default_factory=set)
    """Ids of syncs that a list cannot settle: they become due."""
    traits: dict[str, SyncTraits] = field(default_factory=dict)
    skipped: int = 0
    """Number of wanted objects that we changed recently."""
    wants: set[str] = field(default_factory=set)

    def settled(self) -> list[SweptSync]:
        """Return the syncs that a list can settle."""
        return [sync for id_, sync in self.syncs.items() if id_ not in self.aside]


class Sweeper:
    """Checks by lists what would otherwise be checked object by object. For one thread."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._took: dict[str, timedelta] = {}
        """Place -> how long its last sweep took."""
        self._denied: dict[tuple[str, int, str], float] = {}
        """Credential, its version and Region -> when it was refused."""

    def sweep(self, stopping: Callable[[], bool]) -> None:
        """
        Sweep every place where this takes fewer calls than the checks that are due soon. Called every `SWEEP_EVERY`.

        Args:
            stopping: asked between objects and before anything is stored; True ends the sweep, and nothing is stored.

        Raises:
            StoreUnavailableError: the database cannot be asked.
        """
        # A sweep that takes long begins earlier. Otherwise its objects would be checked one by one meanwhile.
        for group in self._context.store.sweeps.due_groups(
            within=_AHEAD + max(self._took.values(), default=timedelta(0))
        ):
            credentials = [
                credential for credential in group.credentials if not self._is_denied(credential, group.region)
            ]
            if stopping():
                return
            if not credentials or not worth_a_list(group.due, group.objects):
                continue
            if not self._context.store.daemons.claim_chore(
                _chore(group), self._context.owner, every=_at_most_every(group)
            ):
                continue
            try:
                self._sweep(group, credentials, stopping)
            except InterruptedRunError:
                return
            except (DestinationError, NotFoundError) as error:
                # Its checks become due. Their runs meet the same error and report it with names and hints.
                self._context.events.emit(
                    ChoreFailed(chore=Chore.SWEEP, error=type(error).__name__, message=error.message)
                )

    def _sweep(self, group: SweepGroup, credentials: list[Credential], stopping: Callable[[], bool]) -> None:
        began = self._context.clock.monotonic()
        expectations = self._read(group, stopping)
        for credential in credentials:
            try:
                destination = self._context.destinations.open(
                    group.destination_kind, credential, group.region, tenant=_TENANT
                )
                if destination.account_id() != group.account:
                    continue  # The next runs halt the syncs that use it.
                listed = self._listed(destination, stopping) if expectations.expected else iter(())
                mismatched = mismatches(expectations.expected, listed)
            except PermissionDeniedError as error:
                self._deny(credential, group, error)
                continue
            except CredentialRejectedError:
                continue  # As above.
            if stopping():
                return
            self._settle(expectations, {expectations.expected[name].traits.sync_id for name in mismatched})
            duration_s = self._context.clock.monotonic() - began
            self._took[_chore(group)] = timedelta(seconds=duration_s)
            self._context.events.emit(
                SweepFinished(
                    account=group.account,
                    region=group.region,
                    objects=len(expectations.expected) + expectations.skipped,
                    suspects=len(mismatched),
                    syncs=len(expectations.settled()),
                    calls=destination.calls,
                    duration_ms=round(duration_s * 1000),
                )
            )
            return

    def _read(self, group: SweepGroup, stopping: Callable[[], bool]) -> _Expectations:
        """Return what is expected; only what a list shows is kept of each journal entry."""
        expectations = _Expectations()
        for swept in self._context.store.sweeps.objects_of(group):
            if stopping():
                raise InterruptedRunError
            self._expect(expectations, swept, group)
        for sync in expectations.settled():
            if sync.config.layout is Layout.JSON and sync.id not in expectations.wants:
                expectations.aside.add(sync.id)  # Its only object is not in the journal.
        expectations.expected = {
            name: expected
            for name, expected in expectations.expected.items()
            if expected.traits.sync_id not in expectations.aside
        }
        return expectations

    def _expect(self, expectations: _Expectations, swept: SweptObject, group: SweepGroup) -> None:
        sync, entry = swept.sync, swept.entry
        expectations.syncs[sync.id] = sync
        if sync.id in expectations.aside:
            return
        if entry is None or not shown_by_lists(sync.config):
            expectations.aside.add(sync.id)
            return
        traits = expectations.traits.get(sync.id)
        if traits is None:
            traits = traits_of(sync.id, sync.config, region=group.region, instance_id=self._context.instance_id)
            expectations.traits = {sync.id: traits}  # Objects arrive sync by sync.
        if swept.wanted:
            expectations.wants.add(sync.id)
        expected = expectation(traits, sync.config, entry, wanted=swept.wanted, now=self._context.clock.now())
        if expected is NotComparable.SYNC:
            expectations.aside.add(sync.id)
        elif expected is NotComparable.OBJECT:
            expectations.skipped += swept.wanted
        elif (other := expectations.expected.get(entry.remote_name)) is not None:
            expectations.aside |= {sync.id, other.traits.sync_id}  # Two syncs want one object: their runs decide.
        else:
            expectations.expected[entry.remote_name] = expected

    def _listed(self, destination: Destination, stopping: Callable[[], bool]) -> Iterator[Observed]:
        """Yield what is listed, page by page, until the list ends or this daemon stops."""
        for observed in destination.sweep(self._context.instance_id):
            if stopping():
                return
            yield observed

    def _settle(self, expectations: _Expectations, suspected: set[str]) -> None:
        self._context.store.sweeps.schedule_checks(
            [
                Check(sync=sync, due_in=timedelta(0) if sync.id in suspected else sync.config.interval)
                for sync in expectations.settled()
            ]
        )

    def _is_denied(self, credential: Credential, region: str) -> bool:
        since = self._denied.get((credential.id, credential.version, region))
        return since is not None and self._context.clock.monotonic() - since < _DENIED_FOR.total_seconds()

    def _deny(self, credential: Credential, group: SweepGroup, error: PermissionDeniedError) -> None:
        """Remember that a credential may not list; report it once."""
        place = (credential.id, credential.version, group.region)
        if place not in self._denied:
            self._context.events.emit(
                SweepDenied(
                    account=group.account,
                    region=group.region,
                    credential=credential.name,
                    hint=f'allow "{error.action}" on "*" in the policy of the role or user: '
                    f"phasesync aws policy --all --credential {credential.name} prints the whole policy",
                )
            )
        self._denied[place] = self._context.clock.monotonic()


def _chore(group: SweepGroup) -> str:
    return f"sweep:{group.destination_kind}:{group.account}:{group.region}"


def _at_most_every(group: SweepGroup) -> timedelta:
    """Return how long no other daemon sweeps this place: until the sweep should be over, but less than a round."""
    return SWEEP_EVERY * 0.8 + pages(group.objects) * _CALL
