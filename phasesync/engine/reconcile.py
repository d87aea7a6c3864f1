"""
One sync, once: load -> read the source -> observe -> plan -> guard -> apply -> record.

Level-based: the claim names a sync and nothing else is taken from whoever woke it. No loop over time in here; how often
this happens is `scheduler.py`'s.
"""

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from phasesync.core.events import ClaimLost, SyncUnreadable
from phasesync.core.fingerprint import Digests
from phasesync.core.guard import Guarded, judge
from phasesync.core.journal import settle_by_evidence
from phasesync.core.mapping import check_size, map_json
from phasesync.core.model import Run
from phasesync.core.ownership import owner_tags
from phasesync.core.plan import VALUE_WRITES, Plan, Policy, make_plan
from phasesync.core.remote import Action, Desired, JournalEntry
from phasesync.core.schedule import SLOW_PAUSE
from phasesync.core.status import Outcome
from phasesync.core.tags import desired_tags, unwanted_tags
from phasesync.engine.apply import Applier, landed
from phasesync.engine.attempt import Attempt, unreadable
from phasesync.engine.claims import Permit
from phasesync.engine.restored import check_not_restored
from phasesync.engine.source import read_source
from phasesync.errors import (
    AccountMismatchError,
    CiphertextError,
    ClaimLostError,
    DestinationError,
    InternalError,
    KeyUnavailableError,
    NotFoundError,
    PhasesyncError,
    RemoteChangedError,
)
from phasesync.ports import (
    Claim,
    Clock,
    Destination,
    Destinations,
    EnvironmentStore,
    EventSink,
    StateStore,
    SyncState,
)

MAX_ROUNDS = 4
"""How often one run looks again after something changed in its hands; then it tries later."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """
    A plan and what it was made from.

    Attributes:
        entries: remote name -> journal entry, with intents settled where looking proved them.
        settled: names of the entries that looking settled, so that they have to be stored.
    """

    entries: Mapping[str, JournalEntry]
    settled: frozenset[str]
    plan: Plan
    guarded: Guarded


class Reconciler:
    """Brings a destination in step with the store, one sync at a time. Safe to share between threads."""

    def __init__(
        self,
        *,
        environments: EnvironmentStore,
        state: StateStore,
        destinations: Destinations,
        digests: Digests,
        instance_id: str,
        clock: Clock,
        events: EventSink,
        spread: Callable[[], float],
        coalesce: Callable[[], timedelta],
    ) -> None:
        """
        Args:
            environments: the source.
            state: syncs, journal and runs.
            destinations: opens the destination of a sync.
            digests: keyed digests of this instance.
            instance_id: marks what is ours.
            clock: time.
            events: takes what happened.
            spread: random numbers in [0, 1) that spread retries and checks.
            coalesce: how long edits gather after a write; asked at each run, since settings may change.
        """
        self._environments = environments
        self._state = state
        self._destinations = destinations
        self._digests = digests
        self._instance_id = instance_id
        self._clock = clock
        self._events = events
        self._spread = spread
        self._coalesce = coalesce

    def reconcile(self, claim: Claim, permit: Permit) -> Run | None:
        """
        Reconcile a claimed sync, record the run and release the claim.

        Args:
            claim: the right to do it.
            permit: asked before every AWS write.

        Returns:
            The run as recorded; None when the sync is gone or the claim passed to somebody else, so that there is
            nothing to record.

        Raises:
            StoreUnavailableError: the run could not be recorded; the claim ends by itself.
        """
        started_at = self._clock.now()
        try:
            state = self._state.load(claim)
        except NotFoundError:
            return None
        except ClaimLostError:
            self._events.emit(ClaimLost(sync_id=claim.sync_id))
            return None
        except (CiphertextError, KeyUnavailableError) as error:
            self._halt(claim, error, started_at)
            return None
        attempt = Attempt()
        try:
            self._work(state, claim, permit, attempt)
        except PhasesyncError as error:
            attempt.errors.append(error)
        except Exception as error:  # noqa: BLE001  A defect in one sync must not stop the others, nor pass in silence.
            attempt.errors.append(InternalError(f"internal error: {_where(error)}"))
        try:
            return self._record(state, claim, attempt, started_at)
        except ClaimLostError:
            self._events.emit(ClaimLost(sync_id=claim.sync_id))
            return None

    def _halt(self, claim: Claim, error: PhasesyncError, started_at: datetime) -> None:
        """Record that a sync's own row or journal cannot be trusted; nothing of it is read or written."""
        run = unreadable(claim, error, started_at=started_at, now=self._clock.now())
        try:
            self._state.halt(claim, run, retry_in=SLOW_PAUSE)
        except ClaimLostError:
            self._events.emit(ClaimLost(sync_id=claim.sync_id))
            return
        self._events.emit(SyncUnreadable(sync_id=claim.sync_id, run_id=run.id, error=type(error).__name__))

    def prepare(self, state: SyncState) -> Prepared:
        """
        Make the plan of a sync without a claim and without writing anything.

        Raises:
            EnvironmentStoreError, DestinationError, PlanError: what a run would have met.
        """
        attempt = Attempt()
        desired, destination = self._open(state, attempt)
        return self._look(state, desired, destination, attempt, _entries(state, desired, attempt))

    def _work(self, state: SyncState, claim: Claim, permit: Permit, attempt: Attempt) -> None:
        desired, destination = self._open(state, attempt)
        applier = Applier(
            state=self._state,
            destination=destination,
            claim=claim,
            permit=permit,
            digests=self._digests,
            instance_id=self._instance_id,
            clock=self._clock,
        )
        entries = _entries(state, desired, attempt)
        for _ in range(MAX_ROUNDS):
            prepared = self._look(state, desired, destination, attempt, entries)
            for name in prepared.settled:
                intent = entries[name].intent
                if intent is not None and intent.action in VALUE_WRITES:
                    attempt.results.append(landed(name, intent))
            entries = dict(prepared.entries)
            for name in prepared.settled:
                entries[name] = self._state.save_entry(claim, entries[name])
            if not self._carry_out(prepared, applier, entries, attempt):
                return
        attempt.errors.append(RemoteChangedError("the remote object kept changing while it was written"))

    def _open(self, state: SyncState, attempt: Attempt) -> tuple[Desired, Destination]:
        """Read the source and open the destination, in this order: what cannot be read costs no call."""
        sync = state.sync
        source = read_source(self._environments, sync)
        attempt.reads, attempt.labels = source.reads, source.labels
        if (unresolved := source.error()) is not None:
            raise unresolved
        payload = map_json(sync.config.remote_name, source.values, self._digests)
        check_size(payload)
        attempt.destination = destination = self._destinations.open(
            sync.destination_kind, state.credential, sync.region
        )
        attempt.account = destination.account_id()
        for pinned in (sync.account, state.credential.account):
            if pinned is not None and pinned != attempt.account:
                raise AccountMismatchError(
                    f"the credential {sync.credential} now leads to account {attempt.account}, pinned is {pinned}",
                    hint=f"correct the credential, or accept the account: phasesync credentials update "
                    f"{sync.credential} --account {attempt.account}",
                )
        tags = desired_tags(sync.config, owner_tags(self._instance_id, sync.id))
        written = _entry(state, sync.config.remote_name, attempt.account).tags_written
        desired = Desired(
            remote_name=sync.config.remote_name,
            payload=payload,
            description=sync.config.description,
            kms_key=sync.config.kms_key,
            tags=tags,
            unwanted_tags=unwanted_tags(sync.config, tags, written),
        )
        return desired, destination

    def _look(
        self,
        state: SyncState,
        desired: Desired,
        destination: Destination,
        attempt: Attempt,
        entries: Mapping[str, JournalEntry],
    ) -> Prepared:
        """Observe and plan. `entries` are the journal entries as this run has moved them on."""
        sync = state.sync
        observed = {name: destination.observe(name) for name in entries}
        settled = {name: settle_by_evidence(entry, observed[name]) for name, entry in entries.items()}
        for name, entry in settled.items():
            check_not_restored(entry, observed[name], self._digests, self._instance_id)
        plan = make_plan(
            [desired],
            observed,
            settled,
            _left_behind(state, settled, attempt.account or ""),
            Policy(instance_id=self._instance_id, region=sync.region, adopt=sync.adopt),
        )
        attempt.drifted = attempt.drifted or plan.drifted
        return Prepared(
            entries=settled,
            settled=frozenset(name for name in entries if settled[name] is not entries[name]),
            plan=plan,
            guarded=judge(plan, sync.config, sync.approved_digest),
        )

    def _carry_out(
        self, prepared: Prepared, applier: Applier, entries: dict[str, JournalEntry], attempt: Attempt
    ) -> bool:
        """Apply what may go out; return whether the objects have to be looked at again."""
        again: set[str] = set()
        failed: set[str] = set()
        # What an earlier round found unchanged is said anew by this one.
        attempt.results = [result for result in attempt.results if result.outcome is not Outcome.UNCHANGED]
        for change in prepared.guarded.go:
            name = change.remote_name
            if name in again or name in failed:
                continue
            if change.action in (Action.CONFLICT, Action.REFUSE):
                attempt.refuse(change)
                continue
            try:
                applied = applier.apply(change, entries.get(name) or change.entry)
            except RemoteChangedError:
                entries[name] = applier.latest(name, entries[name])
                again.add(name)
                continue
            except DestinationError as error:
                failed.add(name)
                attempt.fail(change, error)
                continue
            attempt.results.append(applied.result)
            if applied.entry is not None:
                entries[name] = applied.entry
            if applied.again:
                again.add(name)
        if again and not failed:
            return True
        # An approval is for once: it outlives a call that failed, and nothing else.
        attempt.approval_over = not failed
        attempt.hold(prepared.guarded)
        return False

    def _record(self, state: SyncState, claim: Claim, attempt: Attempt, started_at: datetime) -> Run:
        record = attempt.conclude(
            state.sync,
            claim,
            started_at=started_at,
            now=self._clock.now(),
            coalesce=self._coalesce(),
            spread=self._spread(),
        )
        self._state.finish(claim, record.run, record.after)
        self._events.emit(record.event)
        return record.run


def _entries(state: SyncState, desired: Desired, attempt: Attempt) -> dict[str, JournalEntry]:
    return {desired.remote_name: _entry(state, desired.remote_name, attempt.account or "")}


def _entry(state: SyncState, remote_name: str, account: str) -> JournalEntry:
    """Return the journal entry of an object that the sync writes to now; an empty one where nothing was written."""
    here = (remote_name, account, state.sync.region)
    for entry in state.journal:
        if (entry.remote_name, entry.account, entry.region) == here:
            return entry
    return JournalEntry(
        id=None, sync_id=state.sync.id, remote_name=remote_name, account=account, region=state.sync.region
    )


def _left_behind(state: SyncState, wanted: Mapping[str, JournalEntry], account: str) -> list[JournalEntry]:
    """Return entries of objects that the sync wrote elsewhere or under other names."""
    here = {(name, account, state.sync.region) for name in wanted}
    return [entry for entry in state.journal if (entry.remote_name, entry.account, entry.region) not in here]


def _where(error: Exception) -> str:
    """Name the class and the place of a defect; the text may carry values and is left out."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {frame.name}, line {frame.lineno} of {Path(frame.filename).name}"
