"""
Checks whole accounts and Regions for drift in few calls: with lists of up to 100 objects, not a call for each object.

The incremental sweep lists what changed last, newest first, and ends where the former sweep had begun: one call where
nothing changed. The full sweep lists everything. It also finds objects that lost our tag, and changes that the date
does not show. Nothing is written to AWS, and nothing is decided from a list alone: a sync with an object that is not
listed as the journal says becomes due, and an ordinary run decides. The checks of other syncs are deferred.

Why nothing is missed (all dates are LastChangedDate, by AWS's clock; a list may lack the changes of 5 minutes):

- A change is in every list from 5 minutes after it. The first such sweep reads down to the time of the sweep before it,
  or the newest date that it read, minus 6 minutes (`next_since`). That sweep was made when the change was less than 5
  minutes old, and no list shows a date later than its own time. So the change is read, however long daemons stood still
  in between. The time of a list is AWS's (the header Date); ours counts only if it is earlier. How far lists were read
  is stored when a sweep has ended: another daemon goes on from there.
- What was read and could not be compared is not passed over. An object that we changed lately is read again until it
  can be compared. A suspected sync that is running runs once more; one that is paused runs when its pause ends. One
  that is held, halted or failing is observed whole by the run that brings it in step again.
- The stored date begins with a list of changes that comes before the first full sweep. That sweep compares all older
  changes. So a check may be deferred from then on, whenever the newest run of the sync was: its objects agreed with the
  journal when they were last observed or listed, and every change since is read as above. A check is deferred to the
  second full sweep from now, so that a sync is checked by itself if full sweeps do not come.

Where an endpoint does not sort lists, everything is listed when enough checks are due. Where lists are not available,
the checks simply become due.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Final

from phasesync.core.chores import Chore
from phasesync.core.credential import Credential
from phasesync.core.events import (
    ChoreFailed,
    DriftMissedByIncrementalSweep,
    IncrementalSweepUnavailable,
    SweepDenied,
    SweepFinished,
)
from phasesync.core.planning.listing_check import (
    PAGE,
    ChangesReader,
    UnorderedListError,
    next_since,
    pages,
    shown_by_lists,
    worth_a_list,
)
from phasesync.core.remote import ChangesPage, Observed
from phasesync.core.sweep_check import Check, Place, SweptPlace, SweptSync
from phasesync.core.sync import Layout, SyncConfig
from phasesync.engine.context import Context
from phasesync.engine.sweep_findings import Findings
from phasesync.errors import (
    CredentialRejectedError,
    DestinationError,
    DestinationRejectedError,
    InterruptedRunError,
    NotFoundError,
    PermissionDeniedError,
)
from phasesync.ports.destination import Destination

_CALL: Final = timedelta(milliseconds=100)
"""A generous estimate for one list call. While one daemon sweeps a place, no other begins."""
_FULL_SWEEP: Final = timedelta(minutes=10)
"""A full sweep that another daemon began longer ago has failed."""
_REFUSED_FOR: Final = timedelta(hours=1)
"""A credential that may not list, or an endpoint that does not sort, is not tried again for this long."""
_UNCOVERED: Final = SyncConfig(remote_name="").interval
"""Where lists show nothing more, deferred checks become due within this time."""
_TENANT: Final = "sweep"

_DueIn = Callable[[SweptSync], timedelta | None]
"""Returns when a sync that lists found in step is checked next; None leaves its check as it is."""


class Sweeper:
    """Checks by lists what would otherwise be checked object by object. For one thread."""

    def __init__(
        self, context: Context, *, every: Callable[[], timedelta], full_every: Callable[[], timedelta]
    ) -> None:
        """
        Args:
            context: what it works with.
            every: returns how often `sweep` is called.
            full_every: returns how often everything is listed.
        """
        self._context = context
        self._every = every
        self._full_every = full_every
        self._took: dict[Place, timedelta] = {}
        """Place -> how long its last full sweep took."""
        self._denied: dict[tuple[str, int, str], float] = {}
        """Credential, its version and Region -> when it was refused."""
        self._unsorted: dict[Place, float] = {}
        """Place -> when its lists were found to be unsorted."""
        self._failed: dict[Place, str] = {}
        """Place -> the error of its newest sweep, if it failed."""

    def sweep(self, stopping: Callable[[], bool]) -> None:
        """
        Sweep every place once, if no other daemon does.

        Args:
            stopping: asked between pages and before anything is stored; True ends the sweep.

        Raises:
            StoreUnavailableError: the database cannot be asked.
        """
        for swept in self._context.store.sweeps.places():
            if stopping():
                return
            try:
                self._sweep_place(swept, stopping)
                self._failed.pop(swept.place, None)
            except InterruptedRunError:
                return
            except (DestinationError, NotFoundError) as error:
                # Its checks become due. Their runs meet the same error and report it with names and hints.
                self._report_failure(swept.place, error)

    def _sweep_place(self, swept: SweptPlace, stopping: Callable[[], bool]) -> None:
        if not self._permitted(swept):
            return
        if not self._is_refused(self._unsorted.get(swept.place)):
            if not self._claim("sweep", swept.place, every=self._every() * 0.8):
                return
            try:
                self._with_destination(swept, lambda destination: self._sweep_changes(swept, destination, stopping))
            except UnorderedListError as error:
                self._report_unsorted(swept, str(error))
            else:
                return
        self._sweep_what_is_due(swept, stopping)

    # --- incremental and full sweeps

    def _sweep_changes(self, swept: SweptPlace, destination: Destination, stopping: Callable[[], bool]) -> None:
        place, full_ago = swept.place, swept.full_ago
        is_due = full_ago is None or full_ago >= self._full_every() or full_ago < timedelta(0)
        claimed_for = min(_FULL_SWEEP, self._full_every() * 0.8)
        full = is_due and self._claim("full-sweep", place, every=claimed_for)
        if swept.changed_since is None and not full:
            return  # Another daemon has just begun with this place.
        began = self._context.clock.monotonic()
        findings = Findings(self._context, place)
        reader = ChangesReader(swept.changed_since)
        for page in self._changes(destination):
            if stopping():
                raise InterruptedRunError
            findings.compare(reader.take(page))
            if reader.done:
                break
        if stopping():
            raise InterruptedRunError
        self._context.store.sweeps.suspect(findings.suspected_syncs)
        # A full sweep compares everything older, so that an odd date counts until then at most.
        answered_at = reader.answered_at
        since = next_since(
            None if full else swept.changed_since,
            newest=reader.newest,
            # The earlier of two clocks: too early costs a page, too late a change.
            listed_at=None if answered_at is None else min(answered_at, self._context.clock.now()),
            unsettled=findings.unsettled_since,
        )
        self._context.store.sweeps.save(place, changed_since=since)
        settled = 0
        if not full:
            settled = self._defer_due_soon(swept, stopping)
        self._report(place, findings, full=False, syncs=settled, calls=destination.calls, began=began)
        if full:
            before = destination.calls
            everything, settled = self._sweep_everything(
                place, destination, stopping, due_in=self._until_second_full_sweep
            )
            self._context.store.sweeps.save_full(place, began_ago=self._since(began))
            self._report_missed(swept, everything)
            self._took[place] = self._since(began)
            self._report(place, everything, full=True, syncs=settled, calls=destination.calls - before, began=began)

    def _changes(self, destination: Destination) -> Iterator[ChangesPage]:
        """Yield pages of what changed last, newest first. UnorderedListError if the endpoint refuses to sort."""
        pages_of_changes = destination.sweep_newest(self._context.instance_id)
        try:
            first = next(pages_of_changes)
        except StopIteration:
            return
        except DestinationRejectedError:
            raise UnorderedListError("refused") from None
        yield first
        yield from pages_of_changes

    def _sweep_everything(
        self, place: Place, destination: Destination, stopping: Callable[[], bool], *, due_in: _DueIn
    ) -> tuple[Findings, int]:
        """
        List everything, and then go through all syncs of the place.

        No transaction is open during a call, and no more than a page of objects and some hundred syncs are in memory.

        Returns:
            What was found, and how many checks were deferred.
        """
        findings = Findings(self._context, place)
        page: list[Observed] = []
        for observed in destination.sweep(self._context.instance_id):
            page.append(observed)
            if len(page) == PAGE:
                if stopping():
                    raise InterruptedRunError
                findings.compare(page)
                page = []
        findings.compare(page)
        suspected = findings.suspected_syncs
        settled, position = 0, None
        while True:
            if stopping():
                raise InterruptedRunError
            part = self._context.store.sweeps.entries(place, after_=position)
            unlisted = [entry for sync in part.syncs for entry in sync.entries if not findings.knows(entry)]
            wanted: set[str] = set()
            for start in range(0, len(unlisted), PAGE):
                objects = self._context.store.sweeps.objects(place, unlisted[start : start + PAGE])
                missing = findings.missing(objects)
                wanted |= missing.wanted
                suspected |= missing.suspected
            checks = []
            for sync_entries in part.syncs:
                sync = sync_entries.sync
                was_listed = any(findings.knows(entry) for entry in sync_entries.entries)
                whole = (
                    was_listed or sync.id in wanted or (sync_entries.entries and sync.config.layout is not Layout.JSON)
                )
                if sync.id in suspected or not whole:
                    continue
                checks += self._deferred(sync, findings, due_in)
            self._context.store.sweeps.suspect({item.sync.id for item in part.syncs if item.sync.id in suspected})
            settled += self._context.store.sweeps.defer(checks)
            if (position := part.position) is None:
                return findings, settled

    def _deferred(self, sync: SweptSync, findings: Findings, due_in: _DueIn) -> list[Check]:
        if not sync.settled or sync.id in findings.left_to_runs or not shown_by_lists(sync.config):
            return []
        pause = due_in(sync)
        return [] if pause is None else [Check(sync=sync, due_in=pause)]

    def _defer_due_soon(self, swept: SweptPlace, stopping: Callable[[], bool]) -> int:
        """
        Defer the checks that are due before the next two sweeps, where nothing is under way; return how many.

        These are the syncs that ran lately. Those that a sweep has just suspected are due already.
        """
        full_ago = swept.full_ago
        if full_ago is None:
            return 0
        ahead = 2 * self._every()

        def due_in(sync: SweptSync) -> timedelta | None:
            pause = self._until_second_full_sweep(sync)
            return None if pause is None or pause - full_ago <= ahead else pause - full_ago

        count, position = 0, None
        while not stopping():
            part = self._context.store.sweeps.due_soon(swept.place, within=ahead, after_=position)
            findings = Findings(self._context, swept.place)
            # An entry that is missing here is an object that no one listed yet, and not a suspect.
            wanted = {
                swept_object.sync.id
                for swept_object in part.objects
                if findings.expected(swept_object) is not None and swept_object.wanted
            }
            checks = []
            for sync in part.syncs:
                if sync.id in wanted or sync.config.layout is not Layout.JSON:
                    checks += self._deferred(sync, findings, due_in)
            count += self._context.store.sweeps.defer(checks)
            if (position := part.position) is None:
                break
        return count

    def _until_second_full_sweep(self, sync: SweptSync) -> timedelta | None:
        """Return when a sync is due after a full sweep; None if it asks for checks that are more frequent than ours."""
        if sync.config.interval < self._every():
            return None
        return self._full_every() * (2 + 0.1 * self._context.random())

    # --- where lists are not sorted

    def _sweep_what_is_due(self, swept: SweptPlace, stopping: Callable[[], bool]) -> None:
        """List everything where this takes fewer calls than the checks that are due soon."""
        place = swept.place
        # A sweep that takes long begins earlier. Otherwise its objects would be checked one by one meanwhile.
        within = 2 * self._every() + self._took.get(place, timedelta(0))
        due, objects = self._context.store.sweeps.due_count(place, within=within)
        if not worth_a_list(due, objects):
            return
        if not self._claim("due-sweep", place, every=self._every() * 0.8 + pages(objects) * _CALL):
            return

        def sweep(destination: Destination) -> None:
            began = self._context.clock.monotonic()
            findings, settled = self._sweep_everything(
                place, destination, stopping, due_in=lambda sync: sync.config.interval
            )
            self._took[place] = self._since(began)
            self._report(place, findings, full=True, syncs=settled, calls=destination.calls, began=began)

        self._with_destination(swept, sweep)

    def _report_unsorted(self, swept: SweptPlace, reason: str) -> None:
        """Remember that lists of a place are not sorted; report it once."""
        place = swept.place
        if place not in self._unsorted:
            self._context.events.emit(
                IncrementalSweepUnavailable(account=place.account, region=place.region, reason=reason)
            )
        self._unsorted[place] = self._context.clock.monotonic()
        self._forget(swept)

    # --- credentials

    def _permitted(self, swept: SweptPlace) -> list[Credential]:
        return [item for item in swept.credentials if not self._is_refused(self._denied.get(_key(item, swept.place)))]

    def _with_destination(self, swept: SweptPlace, work: Callable[[Destination], None]) -> None:
        """Work with the first credential that may list and leads to the account."""
        place = swept.place
        denied = False
        for credential in self._permitted(swept):
            try:
                destination = self._context.destinations.open(
                    place.destination_kind, credential, place.region, tenant=_TENANT
                )
                if destination.account_id() != place.account:
                    continue  # The next runs halt the syncs that use it.
                work(destination)
                return
            except PermissionDeniedError as error:
                self._deny(credential, place, error)
                denied = True
            except CredentialRejectedError:
                continue  # As above.
        if denied:
            self._forget(swept)

    def _deny(self, credential: Credential, place: Place, error: PermissionDeniedError) -> None:
        """Remember that a credential may not list; report it once."""
        key = _key(credential, place)
        if key not in self._denied:
            self._context.events.emit(
                SweepDenied(
                    account=place.account,
                    region=place.region,
                    credential=credential.name,
                    hint=f'allow "{error.action}" on "*" in the policy of the role or user: '
                    f"phasesync aws policy --all --credential {credential.name} prints the whole policy",
                )
            )
        self._denied[key] = self._context.clock.monotonic()

    def _is_refused(self, since: float | None) -> bool:
        return since is not None and self._context.clock.monotonic() - since < _REFUSED_FOR.total_seconds()

    # --- the rest

    def _forget(self, swept: SweptPlace) -> None:
        """Have syncs checked by themselves again whose checks were deferred because of sweeps."""
        if swept.changed_since is not None or swept.full_ago is not None:
            self._context.store.sweeps.forget(swept.place, within=_UNCOVERED, spread=self._context.random)

    def _claim(self, name: str, place: Place, *, every: timedelta) -> bool:
        chore = f"{name}:{place.destination_kind}:{place.account}:{place.region}"
        return self._context.store.daemons.claim_chore(chore, self._context.owner, every=every)

    def _since(self, began: float) -> timedelta:
        return timedelta(seconds=self._context.clock.monotonic() - began)

    def _report(self, place: Place, findings: Findings, *, full: bool, syncs: int, calls: int, began: float) -> None:
        self._context.events.emit(
            SweepFinished(
                account=place.account,
                region=place.region,
                full=full,
                objects=findings.objects,
                suspects=findings.suspects,
                syncs=syncs + findings.suspected,
                calls=calls,
                duration_ms=round(self._since(began).total_seconds() * 1000),
            )
        )

    def _report_missed(self, swept: SweptPlace, everything: Findings) -> None:
        """Report what a full sweep found although incremental sweeps had gone before it."""
        since = swept.changed_since
        if since is None or swept.full_ago is None:
            return
        listed, unlisted = everything.listed_before(since), everything.unlisted_news
        if listed or unlisted:
            place = swept.place
            self._context.events.emit(
                DriftMissedByIncrementalSweep(
                    account=place.account, region=place.region, listed=listed, unlisted=unlisted
                )
            )

    def _report_failure(self, place: Place, error: DestinationError | NotFoundError) -> None:
        """Report a failed sweep once, until its failure changes."""
        name = type(error).__name__
        if self._failed.get(place) != name:
            self._context.events.emit(ChoreFailed(chore=Chore.SWEEP, error=name, message=error.message))
        self._failed[place] = name


def _key(credential: Credential, place: Place) -> tuple[str, int, str]:
    return credential.id, credential.version, place.region
