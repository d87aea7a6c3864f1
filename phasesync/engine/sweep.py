"""
Drift of a whole account and Region in few calls: lists of up to 100 objects each, in place of a call for each object.

What is listed as the journal has it needs no run: its next check is put off, and nothing is logged. What is not, is due
at once, and an ordinary run settles it. Nothing is written to AWS, and nothing is decided from a list alone. Where
lists are not to be had, the checks simply become due.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from phasesync.core.credential import Credential
from phasesync.core.daemons import SWEEP_EVERY, Chore
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
from phasesync.core.sweep import Check, SweepGroup, SweptObject, SweptSync
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
"""About what one list takes, generously: while one daemon sweeps a place, no other begins."""
_DENIED_FOR: Final = timedelta(hours=1)
"""A credential that may not list is not asked again for so long, unless it changes."""
_CUSTOMER: Final = "sweep"


@dataclass(kw_only=True)
class _Ledger:
    """What is expected of the syncs of one group, as it is read."""

    expected: dict[str, ExpectedListing] = field(default_factory=dict)
    syncs: dict[str, SweptSync] = field(default_factory=dict)
    aside: set[str] = field(default_factory=set)
    """Syncs that a list cannot settle: they become due."""
    traits: dict[str, SyncTraits] = field(default_factory=dict)
    skipped: int = 0
    """Wanted objects that we changed lately."""
    wants: set[str] = field(default_factory=set)

    def settled(self) -> list[SweptSync]:
        """Return the syncs that the list tells all about."""
        return [sync for id_, sync in self.syncs.items() if id_ not in self.aside]


class Sweeper:
    """Checks by lists what would else be checked one by one. For one thread."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._took: dict[str, timedelta] = {}
        """Place -> how long its last sweep took."""
        self._denied: dict[tuple[str, int, str], float] = {}
        """Credential, its version and Region -> when it was refused."""

    def sweep(self, stopping: Callable[[], bool]) -> None:
        """
        Sweep every place where that takes fewer calls than the checks that are due soon. Called every `SWEEP_EVERY`.

        Args:
            stopping: asked between objects and before anything is stored; True ends the sweep without a trace.

        Raises:
            StoreUnavailableError: the database cannot be asked.
        """
        # A sweep that takes long begins earlier, or its objects would be asked for one by one meanwhile.
        for group in self._context.store.sweeps.due_groups(
            within=_AHEAD + max(self._took.values(), default=timedelta(0))
        ):
            credentials = [one for one in group.credentials if not self._is_denied(one, group.region)]
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
                # Its checks become due, and their runs meet the same and say so with names and hints.
                self._context.events.emit(
                    ChoreFailed(chore=Chore.SWEEP, error=type(error).__name__, message=error.message)
                )

    def _sweep(self, group: SweepGroup, credentials: list[Credential], stopping: Callable[[], bool]) -> None:
        began = self._context.clock.monotonic()
        ledger = self._read(group, stopping)
        for credential in credentials:
            try:
                destination = self._context.destinations.open(
                    group.destination_kind, credential, group.region, tenant=_CUSTOMER
                )
                if destination.account_id() != group.account:
                    continue  # The syncs that use it are halted by their next run.
                listed = self._listed(destination, stopping) if ledger.expected else iter(())
                found = mismatches(ledger.expected, listed)
            except PermissionDeniedError as error:
                self._deny(credential, group, error)
                continue
            except CredentialRejectedError:
                continue  # Likewise.
            if stopping():
                return
            self._settle(ledger, {ledger.expected[name].traits.sync_id for name in found})
            duration_s = self._context.clock.monotonic() - began
            self._took[_chore(group)] = timedelta(seconds=duration_s)
            self._context.events.emit(
                SweepFinished(
                    account=group.account,
                    region=group.region,
                    objects=len(ledger.expected) + ledger.skipped,
                    suspects=len(found),
                    syncs=len(ledger.settled()),
                    calls=destination.calls,
                    duration_ms=round(duration_s * 1000),
                )
            )
            return

    def _read(self, group: SweepGroup, stopping: Callable[[], bool]) -> _Ledger:
        """Return what is expected; of each journal entry only what a list can tell is kept."""
        ledger = _Ledger()
        for one in self._context.store.sweeps.objects_of(group):
            if stopping():
                raise InterruptedRunError
            self._expect(ledger, one, group)
        for sync in ledger.settled():
            if sync.config.layout is Layout.JSON and sync.id not in ledger.wants:
                ledger.aside.add(sync.id)  # Its one object is not in the journal.
        ledger.expected = {
            name: expected for name, expected in ledger.expected.items() if expected.traits.sync_id not in ledger.aside
        }
        return ledger

    def _expect(self, ledger: _Ledger, one: SweptObject, group: SweepGroup) -> None:
        sync, entry = one.sync, one.entry
        ledger.syncs[sync.id] = sync
        if sync.id in ledger.aside:
            return
        if entry is None or not shown_by_lists(sync.config):
            ledger.aside.add(sync.id)
            return
        traits = ledger.traits.get(sync.id)
        if traits is None:
            traits = traits_of(sync.id, sync.config, region=group.region, instance_id=self._context.instance_id)
            ledger.traits = {sync.id: traits}  # They come sync by sync.
        if one.wanted:
            ledger.wants.add(sync.id)
        expected = expectation(traits, sync.config, entry, wanted=one.wanted, now=self._context.clock.now())
        if expected is NotComparable.SYNC:
            ledger.aside.add(sync.id)
        elif expected is NotComparable.OBJECT:
            ledger.skipped += one.wanted
        elif (other := ledger.expected.get(entry.remote_name)) is not None:
            ledger.aside |= {sync.id, other.traits.sync_id}  # Two want one object: their runs will say whose it is.
        else:
            ledger.expected[entry.remote_name] = expected

    def _listed(self, destination: Destination, stopping: Callable[[], bool]) -> Iterator[Observed]:
        """Yield what is listed, page by page, until it ends or this daemon does."""
        for seen in destination.sweep(self._context.instance_id):
            if stopping():
                return
            yield seen

    def _settle(self, ledger: _Ledger, suspected: set[str]) -> None:
        self._context.store.sweeps.schedule_checks(
            [
                Check(sync=sync, due_in=timedelta(0) if sync.id in suspected else sync.config.interval)
                for sync in ledger.settled()
            ]
        )

    def _is_denied(self, credential: Credential, region: str) -> bool:
        since = self._denied.get((credential.id, credential.version, region))
        return since is not None and self._context.clock.monotonic() - since < _DENIED_FOR.total_seconds()

    def _deny(self, credential: Credential, group: SweepGroup, error: PermissionDeniedError) -> None:
        """Remember that a credential may not list; tell it once."""
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
    """Return how long others keep off: until the sweep should be over, and never a whole round of a small one."""
    return SWEEP_EVERY * 0.8 + pages(group.objects) * _CALL
