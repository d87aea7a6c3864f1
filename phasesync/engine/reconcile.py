"""
Reconciles one sync, once: load, read, observe, plan, guard, apply, record.

Level-based: a claim names a sync, and the run reads everything else itself. There is no loop over time here;
`scheduler.py` decides how often a run happens.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from phasesync.core.change import VALUE_WRITES, Change, Plan
from phasesync.core.events import ClaimLost, SyncUnreadable
from phasesync.core.planning.guard import GuardedPlan, apply_guard
from phasesync.core.planning.plan import make_plan
from phasesync.core.planning.version_budget import DAY, within_a_day
from phasesync.core.remote import Action, Desired, JournalEntry
from phasesync.core.run import Outcome, Run
from phasesync.core.schedule import SLOW_PAUSE
from phasesync.core.sync import Layout, SyncStatus, Trigger
from phasesync.core.sync_claim import Claim, SyncState
from phasesync.engine.apply import Applied, Applier, JournalWriter, landed, result_of
from phasesync.engine.claims import Checkpoint, ClaimKeeper
from phasesync.engine.context import Context
from phasesync.engine.defects import error_of
from phasesync.engine.desired import DesiredState, load_desired, plan_context_of
from phasesync.engine.observe import (
    STOPS_OBSERVING,
    Observation,
    deletable,
    entries_of,
    graces_that_ended,
    may_be_trusted,
    observe_all,
    observe_consistently,
)
from phasesync.engine.older_copy import require_compared
from phasesync.engine.run_result import RunBuilder, unreadable
from phasesync.engine.source import Source, read_sources
from phasesync.engine.windows import WindowGate
from phasesync.errors import (
    CiphertextError,
    ClaimLostError,
    DestinationError,
    Hint,
    KeyUnavailableError,
    NotFoundError,
    OutcomeUnknownError,
    PermissionDeniedError,
    PhasesyncError,
    QuotaExceededError,
    RemoteChangedError,
    StaleDatabaseError,
    StoreUnavailableError,
)
from phasesync.ports.tracing import Span

MAX_ROUNDS = 4
"""How often one run observes again after an object changed while it was written. Then a later run tries again."""

NEXT_STEP = timedelta(seconds=30)
"""When the next step of a deletion is due. A run never waits for it while it holds the claim."""

_LOST_ANSWERS = 3
"""After this many writes of unknown outcome, a run makes no further calls."""


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """A plan, what the guard lets through of it, and what it was made from."""

    desired: DesiredState
    observation: Observation
    plan: Plan
    guarded: GuardedPlan


@dataclass(frozen=True, kw_only=True)
class _Scope:
    """
    What one round of a run is about.

    Attributes:
        desired: what the whole run is about.
        wanted: the wanted objects that this round observes.
        entries: remote name -> journal entry of every wanted object, as the run has updated it.
        trusted: wanted objects that need not be observed.
    """

    desired: DesiredState
    wanted: Mapping[str, Desired]
    entries: dict[str, JournalEntry]
    trusted: frozenset[str] = frozenset()

    def only(self, names: list[str]) -> "_Scope":
        """Return the scope of the next round: the objects that changed. Deletions have had their turn."""
        desired = replace(self.desired, left_behind=(), problems={})
        return replace(
            self, desired=desired, wanted={name: desired.wanted[name] for name in names}, trusted=frozenset()
        )


@dataclass(frozen=True, kw_only=True)
class _ReadAhead:
    """What was read for a claim before its run: the sync, and its source if that could be read."""

    state: SyncState
    source: Source | None


class Reconciler:
    """Brings a destination in step with the store, one sync at a time. Safe to share between threads."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._ahead: dict[Claim, _ReadAhead] = {}
        """What was read for claims whose runs have not begun."""

    def read_ahead(self, claims: Sequence[Claim]) -> None:
        """
        Read what the runs of several claims need, with as many statements as for one. They begin soon.

        Whatever cannot be read now is read by its run, which reports why.
        """
        with suppress(StoreUnavailableError):
            states = self._context.store.sync_states.load_all(claims)
            sources = read_sources(self._context.store.secrets, [state.sync for state in states.values()])
            for claim, state in states.items():
                self._ahead[claim] = _ReadAhead(state=state, source=sources.get(state.sync.id))

    def forget(self, claim: Claim) -> None:
        """Drop what was read ahead for a claim: its run does not begin."""
        self._ahead.pop(claim, None)

    def work(self, claim: Claim, keeper: ClaimKeeper) -> None:
        """
        Reconcile a claimed sync in a thread of a dispatcher. The keeper renews the claim meanwhile.

        Raises:
            StoreUnavailableError: the result could not be recorded.
        """
        checkpoint = keeper.hold(claim)
        try:
            self.reconcile(claim, checkpoint)
        finally:
            keeper.drop(claim)

    def reconcile(self, claim: Claim, checkpoint: Checkpoint) -> Run | None:
        """
        Reconcile a claimed sync, record the run and release the claim.

        Args:
            claim: the right to reconcile the sync.
            checkpoint: called before every AWS write.

        Returns:
            The run as recorded. None if the sync is gone, or if the claim passed to another process: then there is
            nothing to record.

        Raises:
            StoreUnavailableError: the run could not be recorded. The claim expires by itself.
        """
        with self._context.tracer.span("run", trigger=claim.trigger) as span:
            return self._reconcile(claim, checkpoint, span)

    def _reconcile(self, claim: Claim, checkpoint: Checkpoint, span: Span) -> Run | None:
        started_at = self._context.clock.now()
        ahead = self._ahead.pop(claim, None)
        try:
            with self._context.tracer.span("claim", fence=claim.fence, read_ahead=ahead is not None):
                state = self._load(claim, started_at) if ahead is None else ahead.state
            if state is None:
                return None
            span.note(sync=state.sync.name, region=state.sync.region)
            run = RunBuilder()
            try:
                source = None if ahead is None else ahead.source
                self._bring_in_step(state, claim, checkpoint, run, source)
            except PhasesyncError as error:
                run.errors.append(error)
            except Exception as error:  # noqa: BLE001  A defect in one sync must not stop the others or be lost.
                run.errors.append(error_of(error))
            span.note(account=run.account)
            return self._record(state, claim, run, started_at, span)
        except ClaimLostError:
            self._context.events.emit(ClaimLost(sync_id=claim.sync_id))
            return None

    def _bring_in_step(
        self, state: SyncState, claim: Claim, checkpoint: Checkpoint, run: RunBuilder, source: Source | None
    ) -> None:
        """Read, observe, plan, guard and apply, until no object has changed meanwhile."""
        require_compared(self._context, state)
        manual = claim.trigger is Trigger.MANUAL
        desired = load_desired(self._context, state, run, manual=manual, source=source)
        run.journal = journal = JournalWriter(self._context, claim, reads=run.reads, sync_version=state.sync.version)
        applier = Applier(
            self._context, desired.destination, journal, checkpoint, recovery_days=state.sync.config.recovery_days
        )
        for name, error in desired.problems.items():
            run.fail_object(name, error)
        gate = WindowGate(self._context, state.sync)
        scope = self._scope(desired, claim)
        run.unobserved = len(scope.trusted)
        for entry in graces_that_ended(state, desired.left_behind, desired.account):
            journal.note(entry)
        for _ in range(MAX_ROUNDS):
            with self._context.tracer.span("observe", objects=len(scope.wanted) - len(scope.trusted)):
                observation = self._observe(scope)
            with self._context.tracer.span("plan") as span:
                plan = self._plan(scope, observation, run)
                guarded = self._guard(scope, plan, observation.at)
                span.note(changes=len(guarded.go), held=len(guarded.held), delayed=len(guarded.delayed))
            _record_evidence(observation, scope.entries, journal, run)
            with self._context.tracer.span("apply"):
                changed = _PlanApplier(scope, observation, plan, guarded, applier, journal, run, gate).apply()
            if not changed:
                return
            scope = scope.only(changed)
        for name in scope.wanted:
            run.fail_object(name, RemoteChangedError("the remote object kept changing while it was written"))

    def prepare(self, state: SyncState) -> PlannedRun:
        """
        Make the plan of a sync without a claim. Writes nothing.

        Args:
            state: the sync as it was read. If a run writes meanwhile, the plan is made from the newer state.

        Raises:
            EnvironmentStoreError, DestinationError, PlanError: as in a run.
            StalePlanError: a run wrote during every attempt to observe.
        """
        prepared = observe_consistently(
            state,
            lambda: self._context.store.sync_states.state_of(state.sync.name),
            self._prepare_once,
            doubtful=lambda outcome: isinstance(outcome, StaleDatabaseError),
            moved=lambda before, after: before.journal != after.journal,
        )
        if isinstance(prepared, StaleDatabaseError):
            raise prepared
        return prepared

    def prepare_rehearsed(self, state: SyncState, source: Source | None) -> PlannedRun:
        """
        Make the plan of a sync as a change would leave it, from what a rehearsal of the change read. Writes nothing.

        Raises:
            EnvironmentStoreError, DestinationError, PlanError: as in a run.
        """
        prepared = self._prepare_once(state, source)
        if isinstance(prepared, StaleDatabaseError):
            raise prepared
        return prepared

    def _prepare_once(self, state: SyncState, source: Source | None = None) -> PlannedRun | StaleDatabaseError:
        run = RunBuilder()
        desired = load_desired(self._context, state, run, manual=False, source=source)
        scope = _Scope(
            desired=desired, wanted=desired.wanted, entries=entries_of(state, desired.wanted, desired.account)
        )
        try:
            observation = self._observe(scope)
        except StaleDatabaseError as error:
            return error
        plan = self._plan(scope, observation, run)
        guarded = self._guard(scope, plan, observation.at)
        return PlannedRun(desired=desired, observation=observation, plan=plan, guarded=guarded)

    # --- the steps, in their order

    def _load(self, claim: Claim, started_at: datetime) -> SyncState | None:
        """Return the claimed sync. None if it is gone, or if it cannot be read, which is recorded. ClaimLostError."""
        try:
            return self._context.store.sync_states.load(claim)
        except NotFoundError:
            return None
        except (CiphertextError, KeyUnavailableError) as error:
            # The sync's own row or journal cannot be trusted: nothing of it is read or written.
            run = unreadable(claim, error, started_at=started_at, now=self._context.clock.now())
            self._context.store.runs.halt(claim, run, retry_in=SLOW_PAUSE)
            self._context.events.emit(
                SyncUnreadable(sync_id=claim.sync_id, run_id=run.id, trigger=claim.trigger, error=type(error).__name__)
            )
            return None

    def _scope(self, desired: DesiredState, claim: Claim) -> _Scope:
        """Return what the first round of a run is about: everything that is not trusted."""
        sync, now = desired.state.sync, self._context.clock.now()
        entries = entries_of(desired.state, desired.wanted, desired.account)
        settled = sync.settled_status in (SyncStatus.IN_SYNC, SyncStatus.PENDING)
        # If edits follow each other without a pause, only their runs can do a check that is due.
        due = sync.next_due_at is not None and sync.next_due_at <= now
        every = sync.config.layout is not Layout.PER_KEY or claim.trigger is not Trigger.CHANGE or not settled or due
        trusted = frozenset() if every else may_be_trusted(desired.wanted, entries, now=now)
        return _Scope(desired=desired, wanted=desired.wanted, entries=entries, trusted=trusted)

    def _observe(self, scope: _Scope) -> Observation:
        """Ask AWS how the objects are, and settle what that proves."""
        desired = scope.desired
        return observe_all(
            desired.destination,
            wanted=scope.wanted,
            entries={name: scope.entries[name] for name in scope.wanted},
            unwanted=deletable(desired.state, desired.left_behind, desired.account),
            trusted=scope.trusted,
            digests=self._context.digests,
            instance_id=self._context.instance_id,
            now=self._context.clock.now(),
            restored=desired.state.restored,
        )

    def _plan(self, scope: _Scope, observation: Observation, run: RunBuilder) -> Plan:
        """Compare the desired with the observed state."""
        desired, observed, entries = scope.desired, observation.observed, scope.entries
        sync, account = desired.state.sync, desired.account
        plan = make_plan(
            [wanted for name, wanted in scope.wanted.items() if name in observed],
            observed,
            observation.entries,
            observation.leaving(desired.left_behind, account=account, region=sync.region),
            plan_context_of(sync, instance_id=self._context.instance_id, account=account, now=observation.at),
            unobserved=[entries[name] for name in desired.wanted if name not in observed],
            undescribed=[
                entry
                for entry in desired.left_behind
                if (entry.account, entry.region) == (account, sync.region) and entry.remote_name in observation.failed
            ],
        )
        run.drifted = run.drifted or plan.drifted
        return plan

    def _guard(self, scope: _Scope, plan: Plan, now: datetime) -> GuardedPlan:
        """Hold what needs an approval."""
        state, manual = scope.desired.state, scope.desired.manual
        sync = state.sync
        return apply_guard(plan, sync.config, sync.approved_digest, now=now, manual=manual, restored=state.restored)

    def _record(self, state: SyncState, claim: Claim, run: RunBuilder, started_at: datetime, span: Span) -> Run:
        """Store the run and the sync's next state; note the result on the span of the run. ClaimLostError."""
        result = run.conclude(
            state.sync,
            claim,
            started_at=started_at,
            now=self._context.clock.now(),
            coalesce=self._context.coalesce(),
            spread=self._context.random(),
        )
        event = result.event
        span.note(
            run=event.run_id,
            outcome=event.outcome,
            status=event.status,
            revision=event.revision,
            aws_calls=event.aws_calls,
            versions_written=event.versions_written,
            error=event.error,
            code=event.code,
            **{f"changes.{action}": count for action, count in event.counts.items()},
        )
        with self._context.tracer.span("record"):
            lag = self._context.store.runs.finish(
                claim, result.run, result.after, () if run.journal is None else run.journal.noted()
            )
        lag_ms = None if lag is None else round(lag.total_seconds() * 1000)
        self._context.events.emit(replace(event, lag_ms=lag_ms))
        return result.run


def _record_evidence(
    observation: Observation, entries: dict[str, JournalEntry], journal: JournalWriter, run: RunBuilder
) -> None:
    """Store what the observation proved, and note what could not be observed."""
    for name, error in observation.failed.items():
        run.fail_object(name, error)
    for name in sorted(observation.changed):
        intent = entries[name].intent if name in entries else None
        settled = observation.entries[name]
        if intent is not None and settled.intent is None and intent.action in VALUE_WRITES:
            run.results.append(landed(name, intent))
        entries[name] = journal.note(settled)


class _PlanApplier:
    """Applies what the guard let through in one round of a run."""

    def __init__(
        self,
        scope: _Scope,
        observation: Observation,
        plan: Plan,
        guarded: GuardedPlan,
        applier: Applier,
        journal: JournalWriter,
        run: RunBuilder,
        gate: WindowGate,
    ) -> None:
        self._gate = gate
        self._manual = scope.desired.manual
        self._wanted = scope.desired.wanted
        self._entries = scope.entries
        self._observed = observation.entries
        self._plan = plan
        self._guarded = guarded
        self._applier = applier
        self._journal = journal
        self._run = run
        # Objects that were approved to be deleted together go together: the approval must still match once the copies
        # are gone.
        self._copies_first = guarded.approved and any(_removes_copies(change) for change in guarded.go)
        self._again: set[str] = set()
        self._failed: set[str] = set()
        self._unknown = 0

    def apply(self) -> list[str]:
        """Apply the changes. Return the wanted objects that have to be observed again."""
        for name in {change.remote_name for change in self._plan.changes}:
            self._run.forget(name)
        for change in self._guarded.go:
            if change.remote_name in self._again or change.remote_name in self._failed:
                continue
            if not self._apply(change):
                return []
        self._note_waiting()
        # An approval is valid once: it outlives a call that failed, and nothing else.
        waits = self._failed or self._again or self._run.windowed
        self._run.approval_over = not waits and not self._copies_first
        return sorted(self._again - self._failed)

    def _apply(self, change: Change) -> bool:
        """Apply one change. Return False if no further call may be made."""
        if change.action in (Action.CONFLICT, Action.REFUSE):
            self._run.refuse(change)
            return True
        if self._copies_first and change.action is Action.DELETE:
            later = replace(change, action=Action.NOOP, reason="deleted when the copies of the others are gone")
            self._run.results.append(result_of(later, Outcome.UNCHANGED))
            return True
        if change.action is not Action.NOOP and (closure := self._gate.closure()) is not None:
            if not self._manual:
                self._run.wait_for_window(change, closure)
                return True
            change = self._run.cross_window(change, closure)
        try:
            applied = self._applier.apply(change, self._entries.get(change.remote_name) or change.entry)
        except RemoteChangedError as error:
            self._note_changed(change, error)
            return True
        except DestinationError as error:
            return self._note_failed(change, error)
        self._note_applied(change, applied)
        return True

    def _note_applied(self, change: Change, applied: Applied) -> None:
        self._run.results.append(applied.result)
        if change.failed_replicas:
            self._run.errors.append(_copies_failed(change))
        if applied.entry is not None:
            self._entries[change.remote_name] = applied.entry
        if applied.again:
            self._again.add(change.remote_name)
        if _removes_copies(change):
            self._run.wake_at.append(self._journal.now() + NEXT_STEP)

    def _note_changed(self, change: Change, error: RemoteChangedError) -> None:
        """Note that an object changed since it was observed: the next round observes it again."""
        name = change.remote_name
        if name not in self._wanted:
            self._run.fail(change, error)
            return
        self._entries[name] = self._journal.latest(name, self._entries[name])
        self._again.add(name)

    def _note_failed(self, change: Change, error: DestinationError) -> bool:
        """Note a change that failed. Return False if no further call may be made."""
        name = change.remote_name
        entry = self._entries[name] = self._journal.latest(name, self._entries.get(name) or self._observed[name])
        if isinstance(error, QuotaExceededError) and change.action in (Action.PUT, Action.REKEY):
            error.retry_after = _until_a_version_is_a_day_old(entry, self._journal.now())
        self._run.fail(change, error)
        if change.action not in _APART or change.adopts:
            self._failed.add(name)
        self._unknown += isinstance(error, OutcomeUnknownError)
        return not isinstance(error, STOPS_OBSERVING) and self._unknown < _LOST_ANSWERS

    def _note_waiting(self) -> None:
        """Note what waits for a time, an approval or the version budget."""
        self._run.wake_at += [change.due_at for change in self._plan.changes if change.due_at is not None]
        self._run.wait(
            [held for held in self._guarded.held if held.change.remote_name not in self._again],
            [late for late in self._guarded.delayed if late.change.remote_name not in self._again],
        )


_APART = frozenset({Action.RETAG, Action.SET_DESCRIPTION, Action.SET_POLICY, Action.REPLICATE})
"""If one of these fails, the value of the same object is written all the same."""


def _copies_failed(change: Change) -> PermissionDeniedError:
    """Return the error for copies that failed and were requested again: mostly a key that a person has to check."""
    return PermissionDeniedError(
        f"{change.remote_name}: the copy in {', '.join(change.failed_replicas)} failed; it was asked for again",
        hint=Hint(
            "aws secretsmanager describe-secret --secret-id {remote_name} says why (ReplicationStatus); the role needs "
            "kms:Decrypt here and kms:GenerateDataKey and kms:Encrypt there: phasesync aws policy {policy_for}",
            remote_name=change.remote_name,
        ),
    )


def _removes_copies(change: Change) -> bool:
    """Return whether a change prepares a deletion."""
    return change.deletes and change.action is Action.REPLICATE


def _until_a_version_is_a_day_old(entry: JournalEntry, now: datetime) -> timedelta:
    """Return how long AWS will refuse another version: it prunes versions that are older than a day."""
    oldest = min(within_a_day(entry.versions_at, now), default=now)
    return max(oldest + DAY - now, timedelta(minutes=1))
