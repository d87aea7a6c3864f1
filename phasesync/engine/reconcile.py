"""
One sync, once: load -> read the source -> observe -> plan -> guard -> apply -> record.

Level-based: the claim names a sync and nothing else is taken from whoever woke it. No loop over time in here; how often
this happens is `scheduler.py`'s.

Works on one claim: keeps it alive while the sync is reconciled.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from phasesync.core.change import VALUE_WRITES, Change, Plan
from phasesync.core.events import ClaimLost, SyncUnreadable
from phasesync.core.planning.budget import DAY, within_a_day
from phasesync.core.planning.guard import GuardedPlan, apply_guard
from phasesync.core.planning.plan import make_plan
from phasesync.core.remote import Action, Desired, JournalEntry
from phasesync.core.run import Outcome, Run
from phasesync.core.schedule import SLOW_PAUSE
from phasesync.core.sync import Layout, SyncStatus, Trigger
from phasesync.core.sync_state import Claim, SyncState
from phasesync.engine.apply import Applier, JournalWriter, landed, result_of
from phasesync.engine.claims import Checkpoint, ClaimKeeper
from phasesync.engine.context import Context
from phasesync.engine.defects import internal_error
from phasesync.engine.desired import DesiredState, load_desired, policy_of
from phasesync.engine.observe import (
    END_OF_LOOKING,
    Observation,
    deletable,
    entries_of,
    graces_that_ended,
    look_steadily,
    may_be_trusted,
    observe_all,
)
from phasesync.engine.run_result import RunBuilder, unreadable
from phasesync.errors import (
    CiphertextError,
    ClaimLostError,
    DestinationError,
    KeyUnavailableError,
    NotFoundError,
    OutcomeUnknownError,
    PermissionDeniedError,
    PhasesyncError,
    QuotaExceededError,
    RemoteChangedError,
    StaleDatabaseError,
)

MAX_ROUNDS = 4
"""How often one run looks again after something changed in its hands; then it tries later."""


NEXT_STEP = timedelta(seconds=30)
"""When a deletion of several steps is looked at again: never waited for inside a claim."""

_LOST_ANSWERS = 3
"""After so many writes of unknown end in one run the destination is not asked any more."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A plan and what it was made from."""

    task: DesiredState
    seen: Observation
    plan: Plan
    guarded: GuardedPlan


class Reconciler:
    """Brings a destination in step with the store, one sync at a time. Safe to share between threads."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def reconcile(self, claim: Claim, checkpoint: Checkpoint) -> Run | None:
        """
        Reconcile a claimed sync, record the run and release the claim.

        Args:
            claim: the right to do it.
            checkpoint: asked before every AWS write.

        Returns:
            The run as recorded; None when the sync is gone or the claim passed to somebody else, so that there is
            nothing to record.

        Raises:
            StoreUnavailableError: the run could not be recorded; the claim ends by itself.
        """
        started_at = self._context.clock.now()
        try:
            state = self._context.store.syncs.load(claim)
        except NotFoundError:
            return None
        except ClaimLostError:
            self._context.events.emit(ClaimLost(sync_id=claim.sync_id))
            return None
        except (CiphertextError, KeyUnavailableError) as error:
            self._halt(claim, error, started_at)
            return None
        attempt = RunBuilder()
        try:
            self._work(state, claim, checkpoint, attempt)
        except PhasesyncError as error:
            attempt.errors.append(error)
        except Exception as error:  # noqa: BLE001  A defect in one sync must not stop the others, nor pass in silence.
            attempt.errors.append(internal_error(error))
        try:
            return self._record(state, claim, attempt, started_at)
        except ClaimLostError:
            self._context.events.emit(ClaimLost(sync_id=claim.sync_id))
            return None

    def work(self, claim: Claim, keeper: ClaimKeeper) -> None:
        """
        Reconcile a claimed sync in a thread of a dispatcher; the claim is renewed meanwhile.

        Raises:
            StoreUnavailableError: the result could not be recorded.
        """
        checkpoint = keeper.hold(claim)
        try:
            self.reconcile(claim, checkpoint)
        finally:
            keeper.drop(claim)

    def _halt(self, claim: Claim, error: PhasesyncError, started_at: datetime) -> None:
        """Record that a sync's own row or journal cannot be trusted; nothing of it is read or written."""
        run = unreadable(claim, error, started_at=started_at, now=self._context.clock.now())
        try:
            self._context.store.runs.halt(claim, run, retry_in=SLOW_PAUSE)
        except ClaimLostError:
            self._context.events.emit(ClaimLost(sync_id=claim.sync_id))
            return
        self._context.events.emit(SyncUnreadable(sync_id=claim.sync_id, run_id=run.id, error=type(error).__name__))

    def prepare(self, state: SyncState) -> Prepared:
        """
        Make the plan of a sync without a claim and without writing anything.

        Args:
            state: the sync as it was read; where a run writes meanwhile, the plan is made from what it is then.

        Raises:
            EnvironmentStoreError, DestinationError, PlanError: what a run would have met.
            StalePlanError: a run wrote during every look.
        """
        found = look_steadily(
            state,
            lambda: self._context.store.syncs.state_of(state.sync.name),
            self._prepare_once,
            doubtful=lambda found: isinstance(found, StaleDatabaseError),
            moved=lambda before, after: before.journal != after.journal,
        )
        if isinstance(found, StaleDatabaseError):
            raise found
        return found

    def _prepare_once(self, state: SyncState) -> Prepared | StaleDatabaseError:
        attempt = RunBuilder()
        task = self._open(state, attempt, manual=False)
        entries = entries_of(state, task.wanted, task.account)
        try:
            return self._look(task, task.wanted, entries, frozenset(), attempt)
        except StaleDatabaseError as error:
            return error

    def _work(self, state: SyncState, claim: Claim, checkpoint: Checkpoint, attempt: RunBuilder) -> None:
        task = self._open(state, attempt, manual=claim.trigger is Trigger.MANUAL)
        pen = JournalWriter(self._context, claim, reads=attempt.reads, sync_version=state.sync.version)
        applier = Applier(
            destination=task.destination,
            pen=pen,
            checkpoint=checkpoint,
            digests=self._context.digests,
            instance_id=self._context.instance_id,
            recovery_days=state.sync.config.recovery_days,
        )
        for name, error in task.problems.items():
            attempt.fail_object(name, error)
        entries = entries_of(state, task.wanted, task.account)
        trusted = self._trusted(task, claim, entries)
        attempt.unlooked = len(trusted)
        for entry in graces_that_ended(state, task.left_behind, task.account):
            pen.save(entry)
        wanted = task.wanted
        for _ in range(MAX_ROUNDS):
            prepared = self._look(task, wanted, entries, trusted, attempt)
            self._store_evidence(prepared, entries, pen, attempt)
            again = self._carry_out(prepared, applier, pen, entries, attempt)
            if not again:
                return
            # Only what moved is looked at again; deletions have had their turn.
            wanted, task, trusted = {name: task.wanted[name] for name in again}, _without_leaving(task), frozenset()
        for name in wanted:
            attempt.fail_object(name, RemoteChangedError("the remote object kept changing while it was written"))

    def _trusted(self, task: DesiredState, claim: Claim, entries: Mapping[str, JournalEntry]) -> frozenset[str]:
        sync, now = task.state.sync, self._context.clock.now()
        settled = sync.settled_status in (SyncStatus.IN_SYNC, SyncStatus.PENDING)
        # Where edits follow each other without a pause, no run but theirs would ever come to a check that is due.
        due = sync.next_due_at is not None and sync.next_due_at <= now
        if sync.config.layout is not Layout.PER_KEY or claim.trigger is not Trigger.CHANGE or not settled or due:
            return frozenset()
        return may_be_trusted(task.wanted, entries, now=now)

    def _open(self, state: SyncState, attempt: RunBuilder, *, manual: bool) -> DesiredState:
        return load_desired(self._context, state, attempt, manual=manual)

    def _look(
        self,
        task: DesiredState,
        wanted: Mapping[str, Desired],
        entries: Mapping[str, JournalEntry],
        trusted: frozenset[str],
        attempt: RunBuilder,
    ) -> Prepared:
        """Observe, plan and judge. `entries` are the journal entries as this run has moved them on."""
        sync, now = task.state.sync, self._context.clock.now()
        seen = observe_all(
            task.destination,
            wanted=wanted,
            entries={name: entries[name] for name in wanted},
            unwanted=deletable(task.state, task.left_behind, task.account),
            trusted=trusted,
            digests=self._context.digests,
            instance_id=self._context.instance_id,
            now=now,
            restored=task.state.restored,
        )
        plan = make_plan(
            [one for name, one in wanted.items() if name in seen.observed],
            seen.observed,
            seen.entries,
            seen.leaving(task.left_behind, account=task.account, region=sync.region),
            policy_of(sync, instance_id=self._context.instance_id, account=task.account, now=now),
            unobserved=[entries[name] for name in task.wanted if name not in seen.observed],
            undescribed=[one for one in task.left_behind if _is_here(one, task) and one.remote_name in seen.failed],
        )
        attempt.drifted = attempt.drifted or plan.drifted
        guarded = apply_guard(
            plan, sync.config, sync.approved_digest, now=now, manual=task.manual, restored=task.state.restored
        )
        return Prepared(task=task, seen=seen, plan=plan, guarded=guarded)

    def _store_evidence(
        self, prepared: Prepared, entries: dict[str, JournalEntry], pen: JournalWriter, attempt: RunBuilder
    ) -> None:
        """Store what looking proved, and note what AWS did not tell."""
        for name, error in prepared.seen.failed.items():
            attempt.fail_object(name, error)
        for name in sorted(prepared.seen.changed):
            intent = entries[name].intent if name in entries else None
            settled = prepared.seen.entries[name]
            if intent is not None and settled.intent is None and intent.action in VALUE_WRITES:
                attempt.results.append(landed(name, intent))
            entries[name] = pen.save(settled)

    def _carry_out(
        self,
        prepared: Prepared,
        applier: Applier,
        pen: JournalWriter,
        entries: dict[str, JournalEntry],
        attempt: RunBuilder,
    ) -> list[str]:
        """Apply what may go out; return the wanted objects that have to be looked at again."""
        again: set[str] = set()
        failed: set[str] = set()
        unknown = 0
        for name in {change.remote_name for change in prepared.plan.changes}:
            attempt.forget(name)
        # What was approved to be deleted together goes together: the approval names it still when the copies are gone.
        copies_first = prepared.guarded.approved and any(_removes_copies(change) for change in prepared.guarded.go)
        for change in prepared.guarded.go:
            name = change.remote_name
            if name in again or name in failed:
                continue
            if change.action in (Action.CONFLICT, Action.REFUSE):
                attempt.refuse(change)
                continue
            if copies_first and change.action is Action.DELETE:
                later = replace(change, action=Action.NOOP, reason="deleted when the copies of the others are gone")
                attempt.results.append(result_of(later, Outcome.UNCHANGED))
                continue
            try:
                applied = applier.apply(change, entries.get(name) or change.entry)
            except RemoteChangedError as error:
                if name not in prepared.task.wanted:
                    attempt.fail(change, error)
                    continue
                entries[name] = pen.latest(name, entries[name])
                again.add(name)
                continue
            except DestinationError as error:
                entry = pen.latest(name, entries.get(name) or prepared.seen.entries[name])
                entries[name] = entry
                if isinstance(error, QuotaExceededError) and change.action in (Action.PUT, Action.REKEY):
                    error.retry_after = _until_a_version_is_a_day_old(entry, self._context.clock.now())
                attempt.fail(change, error)
                if change.action not in _APART or change.adopts:
                    failed.add(name)
                unknown += isinstance(error, OutcomeUnknownError)
                if isinstance(error, END_OF_LOOKING) or unknown >= _LOST_ANSWERS:
                    return []
                continue
            attempt.results.append(applied.result)
            if change.failed_replicas:
                attempt.errors.append(_copies_failed(change))
            if applied.entry is not None:
                entries[name] = applied.entry
            if applied.again:
                again.add(name)
            if _removes_copies(change):
                attempt.wake_at.append(self._context.clock.now() + NEXT_STEP)
        attempt.wake_at += [change.due_at for change in prepared.plan.changes if change.due_at is not None]
        attempt.wait(
            [held for held in prepared.guarded.held if held.change.remote_name not in again],
            [late for late in prepared.guarded.delayed if late.change.remote_name not in again],
        )
        # An approval is for once: it outlives a call that failed, and nothing else.
        attempt.approval_over = not failed and not again and not copies_first
        return sorted(again - failed)

    def _record(self, state: SyncState, claim: Claim, attempt: RunBuilder, started_at: datetime) -> Run:
        record = attempt.conclude(
            state.sync,
            claim,
            started_at=started_at,
            now=self._context.clock.now(),
            coalesce=self._context.coalesce(),
            spread=self._context.random(),
        )
        self._context.store.runs.finish(claim, record.run, record.after)
        self._context.events.emit(record.event)
        return record.run


_APART = frozenset({Action.RETAG, Action.SET_DESCRIPTION, Action.SET_POLICY, Action.REPLICATE})
"""A failure of these does not keep the value of the same object from being written."""


def _copies_failed(change: Change) -> PermissionDeniedError:
    """Return the error for copies that failed and were asked for again: mostly a key, so a person has to look."""
    return PermissionDeniedError(
        f"{change.remote_name}: the copy in {', '.join(change.failed_replicas)} failed; it was asked for again",
        hint=f"aws secretsmanager describe-secret --secret-id {change.remote_name} says why (ReplicationStatus); the "
        "role needs kms:Decrypt here and kms:GenerateDataKey and kms:Encrypt there: phasesync aws policy NAME",
    )


def _removes_copies(change: Change) -> bool:
    """Whether a change prepares a deletion."""
    return change.deletes and change.action is Action.REPLICATE


def _is_here(entry: JournalEntry, task: DesiredState) -> bool:
    return (entry.account, entry.region) == (task.account, task.state.sync.region)


def _without_leaving(task: DesiredState) -> DesiredState:
    return replace(task, left_behind=(), problems={})


def _until_a_version_is_a_day_old(entry: JournalEntry, now: datetime) -> timedelta:
    """Return how long AWS will refuse another version: it prunes what is older than a day."""
    oldest = min(within_a_day(entry.versions_at, now), default=now)
    return max(oldest + DAY - now, timedelta(minutes=1))
