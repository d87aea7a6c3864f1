"""Explains the status of a sync, and what a run would decide on each remote object. Writes nothing."""

from dataclasses import dataclass
from datetime import datetime

from phasesync.core.change import Change
from phasesync.core.change_request import ChangeRequest
from phasesync.core.credential import CredentialStatus
from phasesync.core.planning.explain import ObjectExplanation, explain_object, explain_undecided
from phasesync.core.run import Run
from phasesync.core.sync import Sync, SyncStatus
from phasesync.core.sync_status import explain_sync, status_of
from phasesync.core.sync_windows import WindowState, window_state
from phasesync.engine.context import Context
from phasesync.engine.error_hints import hint_of
from phasesync.engine.observe import entries_of
from phasesync.engine.reconcile import PlannedRun, Reconciler
from phasesync.errors import NotFoundError, PhasesyncError


@dataclass(frozen=True, kw_only=True)
class Problem:
    """An error that ends a run before anything is decided."""

    cls: str
    message: str
    hint: str | None


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """
    Why a sync has its status.

    Attributes:
        reasons: lines on the sync as a whole.
        problem: what would end a run at once; None if a plan can be made.
        objects: by remote name.
        requests: changes of its environment that wait for an approval.
        window: how its maintenance windows stand; None if it has none.
    """

    sync: Sync
    status: SyncStatus
    credential: CredentialStatus
    reasons: tuple[str, ...]
    last_run: Run | None
    problem: Problem | None
    objects: tuple[ObjectExplanation, ...]
    requests: tuple[ChangeRequest, ...] = ()
    window: WindowState | None = None


def explain(context: Context, name: str) -> Explanation:
    """
    Explain a sync. If something cannot be read or reached, that is part of the explanation, not an error.

    Raises:
        NotFoundError: the sync.
        CiphertextError: its own row or journal was altered.
    """
    state = context.store.sync_states.state_of(name)
    now = context.clock.now()
    problem = None
    try:
        prepared = Reconciler(context).prepare(state)
        state = prepared.desired.state
        objects = _objects(context, prepared, now)
    except PhasesyncError as error:
        problem = Problem(cls=type(error).__name__, message=error.message, hint=hint_of(error, state.sync))
        objects = [
            explain_undecided(entry, f"not looked at: {error.message}", now=now)
            for entry in state.journal
            if entry.written_before or entry.intent is not None
        ]
    last_run = _last_run(context, state.sync)
    window = window_state(state.sync, context.windows(), now)
    return Explanation(
        sync=state.sync,
        status=status_of(state.sync, state.credential.status),
        credential=state.credential.status,
        reasons=explain_sync(
            state.sync,
            state.credential.status,
            account=state.credential.account,
            last_run=last_run,
            now=now,
            window=window.text if window is not None else None,
        ),
        last_run=last_run,
        problem=problem,
        window=window,
        objects=tuple(sorted(objects, key=lambda explained: explained.remote_name)),
        requests=tuple(context.store.change_requests.list_requests(state.sync.environment_id)),
    )


def _objects(context: Context, prepared: PlannedRun, now: datetime) -> list[ObjectExplanation]:
    desired, observation, guarded = prepared.desired, prepared.observation, prepared.guarded
    sync = desired.state.sync
    by_name: dict[str, list[Change]] = {}
    for change in prepared.plan.changes:
        by_name.setdefault(change.remote_name, []).append(change)
    left_behind = {entry.remote_name: entry for entry in desired.left_behind}
    explained = []
    for name, changes in by_name.items():
        entry = observation.entries.get(name) or left_behind.get(name) or changes[0].entry
        if entry is None:
            continue
        if name not in observation.observed:  # Retained, or elsewhere: AWS was not asked.
            explained.append(explain_undecided(entry, changes[0].reason, now=now))
            continue
        explained.append(
            explain_object(
                entry,
                wanted=desired.wanted.get(name),
                observed=observation.observed[name],
                changes=changes,
                held=guarded.held,
                delayed=guarded.delayed,
                sync=sync.name,
                instance_id=context.instance_id,
                now=now,
            )
        )
    problems: dict[str, PhasesyncError] = {**desired.problems, **observation.failed}
    entries = entries_of(desired.state, problems, desired.account)
    return explained + [explain_undecided(entries[name], error.message, now=now) for name, error in problems.items()]


def _last_run(context: Context, sync: Sync) -> Run | None:
    if sync.last_run_id is None:
        return None
    try:
        return context.store.runs.get_run(sync.last_run_id)
    except NotFoundError:
        return None
