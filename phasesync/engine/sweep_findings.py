"""
What the lists of one place show: which objects differ from the journal, and which were compared at all.

Memory grows with what is wrong, not with what is there: of an object that agrees, eight bytes of its id are kept.
Decides nothing; a run asks for each suspect by itself.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from phasesync.core.planning.listing_check import (
    ExpectedListing,
    NotComparable,
    SyncTraits,
    expectation,
    is_as_expected,
    traits_of,
)
from phasesync.core.remote import Observed
from phasesync.core.sweep_check import Place, SweptObject
from phasesync.engine.context import Context


@dataclass(frozen=True, kw_only=True, slots=True)
class _Suspect:
    """
    A listed object that differs from the journal.

    Attributes:
        changed_at: its LastChangedDate; None if AWS does not report it.
        awaited: a run that observes it is to come anyway.
    """

    sync_id: str
    changed_at: datetime | None
    awaited: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Missing:
    """
    What follows from objects that are not listed.

    Attributes:
        wanted: ids of syncs that want one of them.
        suspected: ids of syncs that a run has to check.
    """

    wanted: set[str]
    suspected: set[str]


class Findings:
    """What the lists of one place have shown so far."""

    def __init__(self, context: Context, place: Place) -> None:
        self._context = context
        self._place = place
        self._traits: dict[str, SyncTraits] = {}
        self._agreed: set[int] = set()
        self._differ: dict[int, _Suspect] = {}
        self._skipped = 0
        self._unlisted = 0
        self._syncs_of_unlisted = 0
        self.unlisted_news = 0
        """How many objects are not listed and are observed by no run that is to come anyway."""
        self.left_to_runs: set[str] = set()
        """Ids of syncs that a list cannot settle: their next check is not deferred."""
        self.unsettled_since: datetime | None = None
        """The oldest LastChangedDate of a listed object that we changed lately, so that it was not compared."""

    @property
    def objects(self) -> int:
        """How many objects were compared, or skipped because we had just changed them."""
        return len(self._agreed) + self._skipped + self.suspects

    @property
    def suspects(self) -> int:
        """How many objects are not listed as expected."""
        return len(self._differ) + self._unlisted

    @property
    def suspected(self) -> int:
        """How many syncs they belong to; a sync with objects that differ and others that are missing counts twice."""
        return len(self.suspected_syncs) + self._syncs_of_unlisted

    @property
    def suspected_syncs(self) -> set[str]:
        """Ids of the syncs of listed objects that differ."""
        return {suspect.sync_id for suspect in self._differ.values()}

    def listed_before(self, since: datetime) -> int:
        """Return how many objects differ that were changed before, and that no run observes that is to come anyway."""
        return sum(
            not suspect.awaited and suspect.changed_at is not None and suspect.changed_at < since
            for suspect in self._differ.values()
        )

    def knows(self, entry_id: str) -> bool:
        """Return whether an object was listed and compared."""
        key = _key(entry_id)
        return key in self._agreed or key in self._differ

    def compare(self, listed: Sequence[Observed]) -> None:
        """
        Compare some entries of a list with the journal.

        An object that is listed twice, such as while an earlier object of its name is being deleted, is no suspect if
        one of the entries fits.
        """
        by_name: defaultdict[str, list[Observed]] = defaultdict(list)
        for observed in listed:
            by_name[observed.name].append(observed)
        claimants: defaultdict[str, set[str]] = defaultdict(set)
        for swept in self._context.store.sweeps.journalled(self._place, list(by_name)):
            expected = self.expected(swept)
            if swept.entry is None or expected in (NotComparable.SYNC, NotComparable.OBJECT):
                continue
            name = swept.entry.remote_name
            claimants[name].add(swept.sync.id)
            if isinstance(expected, ExpectedListing):
                self._note(swept, expected, by_name[name])
            else:
                self._hold(by_name[name])
                if swept.wanted:
                    self._agreed.add(_key(swept.id))
        for sync_ids in claimants.values():
            if len(sync_ids) > 1:  # Two syncs want one object: their runs decide.
                self.left_to_runs |= sync_ids

    def missing(self, objects: Sequence[SweptObject]) -> Missing:
        """Note objects that were not listed; those that should be are suspects."""
        missing = Missing(wanted=set(), suspected=set())
        for swept in objects:
            expected = self.expected(swept)
            self._skipped += expected is NotComparable.RECENT and swept.wanted
            if isinstance(expected, ExpectedListing):
                missing.suspected.add(swept.sync.id)
                self._unlisted += 1
                self.unlisted_news += not _is_awaited(swept)
            if swept.wanted:
                missing.wanted.add(swept.sync.id)
        self._syncs_of_unlisted += len(missing.suspected)
        return missing

    def expected(self, swept: SweptObject) -> ExpectedListing | NotComparable | None:
        """Return how an object should be listed; None if it or its sync does not authenticate."""
        sync, entry = swept.sync, swept.entry
        if entry is None:
            self.left_to_runs.add(sync.id)
            return None
        traits = self._traits.get(sync.id)
        if traits is None:
            traits = traits_of(sync.id, sync.config, region=self._place.region, instance_id=self._context.instance_id)
            self._traits = {sync.id: traits}  # Objects come sync by sync, nearly.
        expected = expectation(traits, sync.config, entry, wanted=swept.wanted, now=self._context.clock.now())
        if expected is NotComparable.SYNC:
            self.left_to_runs.add(sync.id)
        return expected

    def _note(self, swept: SweptObject, expected: ExpectedListing, listed: Sequence[Observed]) -> None:
        key = _key(swept.id)
        if any(is_as_expected(expected, observed) for observed in listed):
            self._differ.pop(key, None)
            self._agreed.add(key)
        elif key not in self._agreed:
            self._differ[key] = _Suspect(
                sync_id=swept.sync.id, changed_at=listed[0].last_changed_at, awaited=_is_awaited(swept)
            )

    def _hold(self, listed: Sequence[Observed]) -> None:
        dates = [observed.last_changed_at for observed in listed if observed.last_changed_at is not None]
        if self.unsettled_since is not None:
            dates.append(self.unsettled_since)
        self.unsettled_since = min(dates, default=None)


def _is_awaited(swept: SweptObject) -> bool:
    return swept.sync.overdue or not swept.sync.settled


def _key(entry_id: str) -> int:
    """Return the first eight bytes of a random id of 32 hex digits."""
    return int(entry_id[:16], 16)
