"""
Observes what a sync writes to: what AWS reports of each object, and what that proves of the journal.

An object that cannot be described does not stop the others. A destination that cannot be reached stops everything.
Writes nothing.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, TypeVar

from phasesync.core.credential import require_account
from phasesync.core.fingerprint import Digests, same
from phasesync.core.planning.journal import clamp_to_clock, record_unwanted, record_wanted, settle_by_evidence
from phasesync.core.planning.metadata import wanted_metadata
from phasesync.core.planning.version_budget import within_a_day
from phasesync.core.remote import Desired, JournalEntry, Observed
from phasesync.core.remote_names import name_of_key
from phasesync.core.sync import Layout, OnRemove, Sync
from phasesync.core.sync_claim import SyncState
from phasesync.engine.stale_database import check_not_stale, token_may_be_spent
from phasesync.errors import (
    AccountMismatchError,
    CredentialRejectedError,
    DestinationError,
    DestinationUnavailableError,
    Hint,
    StaleDatabaseError,
    StalePlanError,
    ThrottledError,
)
from phasesync.ports.destination import Destination

State = TypeVar("State")
Finding = TypeVar("Finding")

PAUSES_S: Final = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Pauses between attempts that met a write. Edits in a row are coalesced, so that there is time in between."""

STOPS_OBSERVING = (
    AccountMismatchError,
    CredentialRejectedError,
    DestinationUnavailableError,
    StaleDatabaseError,
    ThrottledError,
)
"""Errors that would meet every further object too, or that forbid to go on with any."""


def verify_account(state: SyncState, destination: Destination) -> str:
    """
    Return the account that a sync's destination leads to.

    Raises:
        AccountMismatchError: the sync or its credential is pinned to another one.
        DestinationError: AWS does not say who we are.
    """
    return require_account(state.credential, destination.account_id(), state.sync.account)


def observe_consistently(
    first: State,
    read: Callable[[], State],
    observe: Callable[[State], Finding],
    *,
    doubtful: Callable[[Finding], bool],
    moved: Callable[[State, State], bool],
) -> Finding:
    """
    Observe without a claim, until the finding is beyond doubt or the database did not change meanwhile.

    The database and AWS are read one after the other, and a run may write in between. Then AWS is newer than what was
    read from the database, which looks like a database that is older than AWS, or like a value that another writer
    wrote. A run notes each write in the database before the call. So a doubtful finding counts only if the database
    says the same before and after; otherwise everything is read again.

    Args:
        first: what the database says.
        read: reads that again.
        observe: asks AWS.
        doubtful: whether a write in between may have caused a finding.
        moved: whether the database has changed since.

    Raises:
        StalePlanError: it changed during every attempt.
    """
    state = first
    for pause_s in PAUSES_S:
        finding = observe(state)
        if not doubtful(finding):
            return finding
        latest = read()
        if not moved(state, latest):
            return finding
        state = latest
        time.sleep(pause_s)
    raise StalePlanError(
        "the sync was changed during every observation, so nothing is known for certain",
        hint=Hint("try it again in a moment, or stop the writing meanwhile: phasesync syncs pause {name}"),
    )


@dataclass(frozen=True, kw_only=True)
class Observation:
    """
    The result of observing the objects of a sync once.

    Attributes:
        at: when it began.
        observed: remote name -> what AWS reports; None if absent.
        entries: remote name -> journal entry, with what the observation proved.
        changed: names of the entries that it changed, so that they have to be stored.
        failed: remote name -> why it could not be described; such an object is in no plan.
        trusted: names that were not observed, because nothing about them changed since they were last in step.
    """

    at: datetime
    observed: Mapping[str, Observed | None] = field(default_factory=dict)
    entries: Mapping[str, JournalEntry] = field(default_factory=dict)
    changed: frozenset[str] = frozenset()
    failed: Mapping[str, DestinationError] = field(default_factory=dict)
    trusted: frozenset[str] = frozenset()

    def leaving(self, left_behind: Iterable[JournalEntry], *, account: str, region: str) -> list[JournalEntry]:
        """Return the entries of objects that are no longer wanted, updated, without those that failed."""
        entries = []
        for entry in left_behind:
            here = (entry.account, entry.region) == (account, region)
            if not (here and entry.remote_name in self.failed):
                entries.append(self.entries.get(entry.remote_name, entry) if here else entry)
        return entries


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
        destination: of the sync.
        wanted: remote name -> the object as it should be.
        entries: remote name -> journal entry of every wanted object.
        unwanted: entries of objects in this account and Region that are no longer wanted and may be deleted.
        trusted: wanted names that need not be observed.
        digests: make the tokens with which an older database is recognised.
        instance_id: ours.
        now: the time.
        restored: the database is known to be older than AWS, and that was not accepted: the guard holds everything.

    Raises:
        StaleDatabaseError: this database is older than AWS, which was not known; nothing may be written.
        DestinationError: a failure that would meet every object.
    """
    all_observed: dict[str, Observed | None] = {}
    settled: dict[str, JournalEntry] = {}
    failed: dict[str, DestinationError] = {}
    former = {**{entry.remote_name: entry for entry in unwanted}, **entries}
    for name, entry in sorted(former.items()):
        if name in trusted:
            continue
        try:
            observed = _observe(destination, name, wanted.get(name))
        except STOPS_OBSERVING:
            raise
        except DestinationError as error:
            failed[name] = error
            continue
        settled_entry = clamp_to_clock(entry, now)
        # If the database is known to be older, nothing is written anyway, and the outcome of an open write is unknown.
        if not (restored and token_may_be_spent(entry, observed)):
            settled_entry = settle_by_evidence(settled_entry, observed)
        if not restored:
            check_not_stale(settled_entry, observed, digests, instance_id)
        all_observed[name] = observed
        settled[name] = (
            record_wanted(settled_entry, wanted[name], observed, instance_id)
            if name in wanted
            else record_unwanted(settled_entry, observed, asked=True, now=now)
        )
    return Observation(
        at=now,
        observed=all_observed,
        entries=settled,
        changed=frozenset(name for name, entry in settled.items() if entry is not former[name]),
        failed=failed,
        trusted=trusted,
    )


def _observe(destination: Destination, name: str, wanted: Desired | None) -> Observed | None:
    """Describe one object, with its resource policy if the sync sets one."""
    observed = destination.observe(name)
    if observed is None or wanted is None or wanted.resource_policy is None:
        return observed
    # The policy of an object that is scheduled for deletion cannot be read, and does not matter.
    policy = None if observed.deleted_at is not None else destination.resource_policy(observed.arn)
    return replace(observed, resource_policy=policy)


def may_be_trusted(
    wanted: Mapping[str, Desired], entries: Mapping[str, JournalEntry], *, now: datetime
) -> frozenset[str]:
    """
    Return the wanted objects that an edit did not touch and that were in step when they were last observed.

    For runs that an edit triggered, in layout per-key: one changed key of three hundred takes two calls, not three
    hundred. The checks find drift of the others. Objects that a call of ours may still be changing are never trusted.
    """
    return frozenset(
        name
        for name, desired in wanted.items()
        if (entry := entries.get(name)) is not None
        and entry.written_before
        and entry.intent is None
        and entry.unwanted_since is None
        and entry.deletion_at is None
        and not within_a_day(entry.enforced_at, now)
        and not desired.unwanted_tags
        and same(entry.fingerprint, desired.payload.fingerprint)
        and dict(entry.metadata) == wanted_metadata(desired)
    )


def left_behind(state: SyncState, wanted: Iterable[str], account: str) -> list[JournalEntry]:
    """Return the entries of objects that the sync wrote elsewhere or under other names, and no longer wants."""
    here = {(name, account, state.sync.region) for name in wanted}
    return [entry for entry in state.journal if (entry.remote_name, entry.account, entry.region) not in here]


def deletable(state: SyncState, left_behind: Iterable[JournalEntry], account: str) -> list[JournalEntry]:
    """
    Return the entries of objects that this run could delete, if the sync asks for deletion at all.

    Only objects that have the name that their key has now: to change where a sync writes removes no key.
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
    Return entries that had begun their grace and may not be deleted as the sync is set now; their grace is removed.

    They are not observed meanwhile, so nothing shows whether their keys come back: a later grace starts again.
    """
    if state.restored:
        return []
    entries = list(left_behind)
    leaving = {entry.id for entry in deletable(state, entries, account)}
    return [
        replace(entry, unwanted_since=None)
        for entry in entries
        if entry.unwanted_since is not None and entry.id not in leaving
    ]


def _names_now(sync: Sync, entry: JournalEntry) -> list[str]:
    """Return the names that the keys of an object have now."""
    keys = entry.keys or (entry.intent.keys if entry.intent is not None else {})
    place = {"app": sync.app, "environment": sync.environment, "path": sync.path}
    return [name_of_key(sync.config, **place, key=key) for key in keys]


def entries_of(state: SyncState, names: Iterable[str], account: str) -> dict[str, JournalEntry]:
    """Return the journal entries of objects that the sync writes to now; an empty entry if nothing was written."""
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
