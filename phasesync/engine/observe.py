"""
Looks without a claim: the database and AWS are read one after the other, and a run may write in between.

What AWS shows is then newer than what the database said, which looks like a database that is older than AWS, or like a
value that somebody else wrote. Whoever writes notes that in the database before the call. So a doubtful finding counts
only where the database says the same before and after the look; else everything is read anew.

Looks at what a sync writes to: which objects, what AWS reports of each, and what that proves of the journal.

One object that cannot be described does not stop the others; a destination that cannot be reached ends the looking.
Writes nothing.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, TypeVar

from phasesync.core.fingerprint import Digests, same
from phasesync.core.planning.budget import within_a_day
from phasesync.core.planning.journal import clamp_to_clock, record_unwanted, record_wanted, settle_by_evidence
from phasesync.core.planning.metadata import wanted_metadata
from phasesync.core.remote import Desired, JournalEntry, Observed
from phasesync.core.remote_names import name_of_key
from phasesync.core.sync import Layout, OnRemove, Sync
from phasesync.core.sync_state import SyncState
from phasesync.engine.stale_database import check_not_restored, may_be_spent
from phasesync.errors import (
    AccountMismatchError,
    CredentialRejectedError,
    DestinationError,
    DestinationUnavailableError,
    StaleDatabaseError,
    StalePlanError,
    ThrottledError,
)
from phasesync.ports.destination import Destination

S = TypeVar("S")
T = TypeVar("T")

PAUSES_S: Final = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Between looks that met a write; edits that follow each other are coalesced, so that there is time in between."""


def look_steadily(
    first: S,
    again: Callable[[], S],
    observe_all: Callable[[S], T],
    *,
    doubtful: Callable[[T], bool],
    moved: Callable[[S, S], bool],
) -> T:
    """
    Look until what is found is beyond doubt, or the database stood still during the look.

    Args:
        first: what the database says.
        again: reads that anew.
        look: looks at AWS.
        doubtful: whether a write in between may have made what was found.
        moved: whether the database says another thing than before.

    Raises:
        StalePlanError: it moved during every look.
    """
    state = first
    for pause_s in PAUSES_S:
        found = observe_all(state)
        if not doubtful(found):
            return found
        latest = again()
        if not moved(state, latest):
            return found
        state = latest
        time.sleep(pause_s)
    raise StalePlanError(
        "the sync was written to during every look at it, so nothing is known for certain",
        hint="try it again in a moment, or stop the writing meanwhile: phasesync syncs pause NAME",
    )


END_OF_LOOKING = (
    AccountMismatchError,
    CredentialRejectedError,
    DestinationUnavailableError,
    StaleDatabaseError,
    ThrottledError,
)
"""What would meet every further object too, or forbids to go on with any."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """
    What one look told.

    Attributes:
        observed: remote name -> what AWS reports, None = absent.
        entries: remote name -> journal entry, with what looking proved.
        changed: names of the entries that looking changed, so that they have to be stored.
        failed: remote name -> why it could not be described; such an object is in no plan.
        trusted: names that were not looked at, because nothing about them changed since they were last found in step.
    """

    observed: Mapping[str, Observed | None] = field(default_factory=dict)
    entries: Mapping[str, JournalEntry] = field(default_factory=dict)
    changed: frozenset[str] = frozenset()
    failed: Mapping[str, DestinationError] = field(default_factory=dict)
    trusted: frozenset[str] = frozenset()

    def leaving(self, left_behind: Iterable[JournalEntry], *, account: str, region: str) -> list[JournalEntry]:
        """Return entries of objects that are no longer wanted, as looking left them; without those that failed."""
        found = []
        for entry in left_behind:
            here = (entry.account, entry.region) == (account, region)
            if not (here and entry.remote_name in self.failed):
                found.append(self.entries.get(entry.remote_name, entry) if here else entry)
        return found


def observe_all(
    destination: Destination,
    *,
    wanted: Mapping[str, Desired],
    entries: Mapping[str, JournalEntry],
    unwanted: Iterable[JournalEntry],
    trusted: frozenset[str],
    digests: Digests,
    instance_id: str,
    now: datetime,
    restored: bool,
) -> Observation:
    """
    Describe objects and settle what that proves.

    Args:
        destination: where.
        wanted: remote name -> the object as it should be.
        entries: remote name -> journal entry of every wanted object.
        unwanted: entries of objects in this account and Region that are no longer wanted and may be deleted.
        trusted: wanted names that need not be looked at.
        digests: make the tokens of restored databases.
        instance_id: ours.
        now: the time.
        restored: the database is known to be older than AWS, and that was not accepted: the guard holds everything.

    Raises:
        StaleDatabaseError: this database is older than AWS, which was not known; nothing may be written.
        DestinationError: what would meet every object.
    """
    observed: dict[str, Observed | None] = {}
    settled: dict[str, JournalEntry] = {}
    failed: dict[str, DestinationError] = {}
    leaving = {entry.remote_name: entry for entry in unwanted}
    for name, entry in sorted({**entries, **leaving}.items()):
        if name in trusted:
            continue
        try:
            seen = destination.observe(name)
            if seen is not None and name in wanted and wanted[name].resource_policy is not None:
                seen = replace(seen, resource_policy=_policy_of(destination, seen))
        except END_OF_LOOKING:
            raise
        except DestinationError as error:
            failed[name] = error
            continue
        evident = clamp_to_clock(entry, now)
        # Nothing is written anyway where it is known; what an open write became is not to be told then.
        if not (restored and may_be_spent(entry, seen)):
            evident = settle_by_evidence(evident, seen)
        if not restored:
            check_not_restored(evident, seen, digests, instance_id)
        observed[name] = seen
        settled[name] = (
            record_wanted(evident, wanted[name], seen, instance_id)
            if name in wanted
            else record_unwanted(evident, seen, asked=True, now=now)
        )
    former = {**leaving, **entries}
    return Observation(
        observed=observed,
        entries=settled,
        changed=frozenset(name for name, entry in settled.items() if entry is not former[name]),
        failed=failed,
        trusted=trusted,
    )


def _policy_of(destination: Destination, seen: Observed) -> str | None:
    # A policy of something that is scheduled for deletion cannot be asked for, nor does it matter.
    return None if seen.deleted_at is not None else destination.resource_policy(seen.arn)


def may_be_trusted(
    wanted: Mapping[str, Desired], entries: Mapping[str, JournalEntry], *, now: datetime
) -> frozenset[str]:
    """
    Return the wanted objects that an edit did not touch and that were in step when they were last looked at.

    For runs that an edit woke, in layout per-key: one changed key of three hundred takes two calls, not three hundred.
    Drift of the others is found by the checks. Never the objects that a call of ours may still be changing.
    """
    return frozenset(
        name
        for name, one in wanted.items()
        if (entry := entries.get(name)) is not None
        and entry.written_before
        and entry.intent is None
        and entry.unwanted_since is None
        and entry.deletion_at is None
        and not within_a_day(entry.enforced_at, now)
        and not one.unwanted_tags
        and same(entry.fingerprint, one.payload.fingerprint)
        and dict(entry.metadata) == wanted_metadata(one)
    )


def leaving(state: SyncState, wanted: Iterable[str], account: str) -> list[JournalEntry]:
    """Return the entries of objects that the sync wrote elsewhere or under other names."""
    here = {(name, account, state.sync.region) for name in wanted}
    return [entry for entry in state.journal if (entry.remote_name, entry.account, entry.region) not in here]


def deletable(state: SyncState, left_behind: Iterable[JournalEntry], account: str) -> list[JournalEntry]:
    """
    Return those of them that this run's destination could delete, where the sync asks for deletion at all.

    Only what has the name that its key has now: changing where a sync writes removes nothing from the store.
    """
    if (
        state.restored
        or state.sync.config.on_remove is not OnRemove.DELETE
        or state.sync.config.layout is not Layout.PER_KEY
    ):
        return []
    return [
        entry
        for entry in left_behind
        if (entry.account, entry.region) == (account, state.sync.region)
        and (entry.written_before or entry.intent is not None)
        and entry.remote_name in _names_now(state.sync, entry)
    ]


def graces_that_ended(state: SyncState, left_behind: Iterable[JournalEntry], account: str) -> list[JournalEntry]:
    """
    Return those whose grace had begun and which may not be deleted as the sync is set now, without that grace.

    Nobody looks at them meanwhile, so that nothing tells whether their keys come back: a later grace begins anew.
    """
    if state.restored:
        return []
    left = list(left_behind)
    leaving = {entry.id for entry in deletable(state, left, account)}
    return [
        replace(entry, unwanted_since=None)
        for entry in left
        if entry.unwanted_since is not None and entry.id not in leaving
    ]


def _names_now(sync: Sync, entry: JournalEntry) -> list[str]:
    """Return the names that the keys of an object have now."""
    keys = entry.keys or (entry.intent.keys if entry.intent is not None else {})
    place = {"app": sync.app, "environment": sync.environment, "path": sync.path}
    return [name_of_key(sync.config, **place, key=key) for key in keys]


def entries_of(state: SyncState, names: Iterable[str], account: str) -> dict[str, JournalEntry]:
    """Return the journal entries of objects that the sync writes to now; an empty one where nothing was written."""
    sync = state.sync
    stored = {(entry.remote_name, entry.account, entry.region): entry for entry in state.journal}
    return {
        name: stored.get((name, account, sync.region))
        or JournalEntry(
            id=None,
            sync_id=sync.id,
            remote_name=name,
            account=account,
            region=sync.region,
            generation=state.generation_floor,
        )
        for name in names
    }
