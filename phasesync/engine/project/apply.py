"""
Applies documents: carries out exactly the plan that was shown, in one transaction.

What only AWS can do stands outside it: objects of removed syncs are deleted before, and lose our tags after it.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Final

from phasesync.core.change_request import ApplyProject, Proposal, Seen, reach_of, seen_credentials
from phasesync.core.credential import Credential
from phasesync.core.project.compare import ChangeAction, ObjectChange, ProjectDiff, Spec, digest_of
from phasesync.core.project.desired import Desired, DesiredCredential, DesiredEnvironment, DesiredSync
from phasesync.core.project.ownership import ObjectKind
from phasesync.core.remote import JournalEntry
from phasesync.core.sync import Adopt, Sync
from phasesync.engine import approvals
from phasesync.engine.adoption import accept_adoption, preview_adoption
from phasesync.engine.approvals import approved_plan
from phasesync.engine.context import Context
from phasesync.engine.older_copy import is_restored
from phasesync.engine.project.objects import STORE_KINDS, Work, describe_all, protect_environment
from phasesync.engine.project.plan import ORDER, PROJECT_KIND, Documents, ProjectPlan, plan_projects, source_depths
from phasesync.engine.project.values import environments_of, write_values
from phasesync.engine.removal import delete_objects, remove_owner_tags
from phasesync.errors import (
    AlreadyExistsError,
    ClaimHeldError,
    DocumentError,
    IllegalTransitionError,
    PhasesyncError,
    PlanHeldError,
)
from phasesync.store.database import retry_on_conflict
from phasesync.store.projects import Ownership, applying
from phasesync.store.serialization import to_json

_PATIENCE: Final = timedelta(seconds=30)
"""How long a sync that is removed may still be reconciled by another process."""
_POLL_S: Final = 0.2


@dataclass(frozen=True, kw_only=True)
class AppliedPlan:
    """
    What was applied.

    Attributes:
        plan: what was carried out.
        warnings: lines for the operator.
        scheduled: names of the remote objects with a deletion that is now scheduled.
    """

    plan: ProjectPlan
    warnings: tuple[str, ...]
    scheduled: tuple[str, ...] = ()


@dataclass
class _Removed:
    """Removed syncs, with what gives their remote objects back."""

    syncs: list[tuple[Sync, Credential, tuple[JournalEntry, ...]]] = field(default_factory=list)


def check_approved(plan: ProjectPlan, digest: str | None) -> None:
    """
    Refuse a plan that is not the approved one, or that needs an approval and has none.

    Args:
        plan: what would be carried out now.
        digest: what the operator approved; None if there was no approval.

    Raises:
        IllegalTransitionError: the plan has another digest.
        PlanHeldError: it is held.
    """
    if digest is not None and digest != plan.digest:
        raise IllegalTransitionError(
            f"the changes have the digest {plan.digest} now, not {digest}: documents or store changed since",
            hint=f"look at them again: phasesync diff {plan.options}",
        )
    if digest is None and plan.held:
        raise PlanHeldError(
            "; ".join(plan.held),
            digest=plan.digest,
            hint=f"if that is meant: phasesync apply {plan.options} --plan {plan.digest}",
        )


def apply_projects(context: Context, documents: Documents, plan: ProjectPlan, *, actor: str) -> AppliedPlan:
    """
    Carry out a plan that was shown, in one transaction: all of it or nothing.

    Args:
        context: has the store.
        documents: what the plan was made of.
        plan: what was shown and approved.
        actor: who asks.

    The remote objects of removed syncs stay, and lose our tags if that is allowed. If the documents say so, their
    deletion is scheduled, with the recovery window of the sync.

    Raises:
        IllegalTransitionError: the store changed since the plan was made; nothing was applied.
        DocumentError, and what adding, changing and removing objects raises: nothing was applied.
    """
    scheduled: list[str] = []
    warnings: list[str] = []
    removed = _Removed()
    proposal = proposal_of(context, plan, delete=documents.delete)
    apply = partial(retry_on_conflict(_apply_once), context, documents, plan, actor, removed)
    if documents.delete and _removed_syncs(plan):
        # Nothing at AWS is touched for a plan that cannot be applied, or that somebody else has to approve first.
        _when_free(partial(_rehearsed, context, apply))
        with approved_plan(context, proposal), applying():
            for change in _removed_syncs(plan):
                scheduled += _delete_objects_of(context, change.name, actor)
    work = _when_free(apply)
    warnings += work.warnings
    if not documents.delete and not is_restored(context):
        for sync, credential, entries in removed.syncs:
            warnings += remove_owner_tags(context, sync, credential, entries)
    warnings += _adopt_after(context, documents, plan, actor)
    return AppliedPlan(plan=plan, warnings=tuple(warnings), scheduled=tuple(scheduled))


def _adopt_after(context: Context, documents: Documents, plan: ProjectPlan, actor: str) -> list[str]:
    """
    Take over what exists at AWS for new syncs that merge it into their environment first.

    Until then their runs meet objects that are not ours, and write nothing.

    Returns:
        Lines on syncs for which that failed.
    """
    new = {
        change.name.lower()
        for diff in plan.diffs
        for change in diff.changes
        if change.kind == DesiredSync.kind and change.action is ChangeAction.ADD
    }
    failed = []
    for sync in (each for project in documents.projects for each in project):
        if not isinstance(sync, DesiredSync) or sync.key not in new or sync.adopt in (None, Adopt.OVERWRITE):
            continue
        try:
            preview = preview_adoption(context, sync.name, Adopt(str(sync.adopt)))
            if preview.existing.adoptable:
                accept_adoption(context, preview, actor=actor)
        except PhasesyncError as error:
            failed.append(
                f"the sync {sync.name} took nothing over: {error.message}; to repeat it: phasesync syncs adopt "
                f"{sync.name} --import {sync.adopt}"
            )
    return failed


def rehearse_projects(context: Context, documents: Documents, plan: ProjectPlan, *, actor: str) -> Work:
    """Carry out a plan inside a rehearsal. Raises as `apply_projects` does."""
    return _apply_once(context, documents, plan, actor, _Removed())


def _allowed(context: Context, documents: Documents, plan: ProjectPlan, actor: str) -> AbstractContextManager[None]:
    """Let the changes of a plan through if it is approved; called in their transaction, before the first of them."""
    return approvals.applying(context, proposal_of(context, plan, delete=documents.delete), actor=actor)


def proposal_of(context: Context, plan: ProjectPlan, *, delete: bool) -> Proposal:
    """
    Return a plan as a change that waits for an approval, where it concerns a protected environment.

    The digest of a plan covers names. What they lead to now is noted beside it.
    """
    changes = [change for diff in plan.diffs for change in diff.changes]
    reach = _credentials_of(context, changes)
    return Proposal(
        arguments=ApplyProject(plan=plan.digest, remote="delete" if delete else "keep"),
        changes=(*map(_described, changes), *reach_of(reach)),
        seen={
            **seen_credentials(reach),
            **{f"the {change.kind} {change.name}": Seen(id=change.id) for change in changes if change.id is not None},
        },
        command=f"phasesync apply {plan.options} --plan {plan.digest}",
        digest=plan.digest,
    )


def _credentials_of(context: Context, changes: Sequence[ObjectChange]) -> list[Credential]:
    """Return the credentials in the store that changes newly refer to, with their sources."""
    names = {(change.after or {}).get(member) for change in changes for member in ("credential", "source")}
    wanted = {name.lower() for name in names if isinstance(name, str)}
    if not wanted:
        return []
    stored = {each.id: each for each in context.store.credentials.list_all()}
    found: dict[str, Credential] = {}
    for each in stored.values():
        following: Credential | None = each if each.name.lower() in wanted else None
        while following is not None and following.id not in found:
            found[following.id] = following
            following = stored.get(following.source_id or "")
    return list(found.values())


def _described(change: ObjectChange) -> str:
    """Return a change as one line: of an update also the members that change, as they are and as they will be."""
    line = f"{change.action} {change.kind} {change.name}"
    if change.before is None or not change.after:
        return line
    before, after = change.before, change.after
    return f"{line}: " + "; ".join(f"{name}: {_shown(before.get(name))} -> {_shown(after[name])}" for name in after)


def _shown(member: object) -> str:
    return "-" if member is None else to_json(member)


def _removed_syncs(plan: ProjectPlan) -> list[ObjectChange]:
    return [change for diff in plan.diffs for change in diff.removals if change.kind == DesiredSync.kind]


def _delete_objects_of(context: Context, name: str, actor: str) -> tuple[str, ...]:
    result = delete_objects(context, name, actor=actor)
    if result.blocked:
        reasons = "; ".join(f"{remote}: {reason}" for remote, reason in result.blocked.items())
        raise IllegalTransitionError(
            f"AWS secrets of the sync {name} could not be deleted, so nothing was applied, and {name} is paused: "
            f"{reasons}",
            hint="repeat the command when that is corrected, or leave them: --remote keep",
        )
    return result.scheduled


def _when_free(apply: Callable[[], Work]) -> Work:
    """Apply; if a sync that is removed is being reconciled, wait for its run and try again. ClaimHeldError."""
    deadline = time.monotonic() + _PATIENCE.total_seconds()
    while True:
        try:
            return apply()
        except ClaimHeldError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)


def _rehearsed(context: Context, apply: Callable[[], Work]) -> Work:
    with context.store.database.rehearsal():
        return apply()


def _apply_once(context: Context, documents: Documents, shown: ProjectPlan, actor: str, removed: _Removed) -> Work:
    removed.syncs.clear()
    with context.store.database.transaction(), applying(), _allowed(context, documents, shown, actor):
        plan, work = plan_projects(context, documents, actor=actor)
        # What was to be deleted at AWS is deleted by now.
        if (digest := digest_of(plan.diffs, shown.deletions)) != shown.digest:
            raise IllegalTransitionError(
                f"the store changed while the plan was shown: its digest is {digest} now, not {shown.digest}; nothing "
                "was applied",
                hint=f"look at the changes again: phasesync diff {shown.options}",
            )
        by_key = {(each.kind, each.key): each for project in documents.projects for each in project}
        changes = [change for diff in plan.diffs for change in diff.changes]
        # Of all documents together: one may refer to what another adds.
        stored = {each.name.lower(): each.source_name for each in context.store.credentials.list_all()}
        depths = source_depths(documents, stored)
        for change in sorted(changes, key=partial(_turn, depths)):
            _carry_out(work, documents, change, by_key, removed)
        # Last: what a document puts into an environment that it protects needs no approval yet.
        for change in changes:
            environment = by_key.get((change.kind, change.name.lower()))
            if not isinstance(environment, DesiredEnvironment) or "approvers" not in (change.after or {}):
                continue
            if change.id is not None or environment.approvers:
                protect_environment(work, environment)
        _save_ownership(work, documents, plan)
    return work


def _turn(depths: Mapping[str, int], change: ObjectChange) -> tuple[int, int, int]:
    """Return when a change has its turn. `depths`: of credentials, whose sources come before them."""
    rank = _RANK.get(change.kind, -1)
    depth = depths.get(change.name.lower(), 0) if change.kind == DesiredCredential.kind else 0
    return (1, -rank, -depth) if change.action is ChangeAction.REMOVE else (0, rank, depth)


_RANK: Final = {kind: n for n, kind in enumerate(ORDER)}

_ByKey = Mapping[tuple[str, str], Desired]


def _carry_out(work: Work, documents: Documents, change: ObjectChange, wanted: _ByKey, removed: _Removed) -> None:
    """Carry out one change. An error names the place in the document."""
    try:
        if change.kind == PROJECT_KIND:
            return  # It is remembered with what the document owns.
        if change.action is ChangeAction.REMOVE:
            _remove(work, change, removed)
        elif change.kind == ObjectKind.VALUES:
            environment = wanted[DesiredEnvironment.kind, change.name.lower()]
            if not isinstance(environment, DesiredEnvironment):
                raise AssertionError("values belong to an environment")
            write_values(work, environment, documents.files.values_of(environment) or {})
        elif change.action is ChangeAction.ADD:
            STORE_KINDS[change.kind].add(work, wanted[change.kind, change.name.lower()])
        elif change.after:
            STORE_KINDS[change.kind].update(work, wanted[change.kind, change.name.lower()], change)
    except DocumentError:
        raise
    except PhasesyncError as error:
        where = change.place or f"to remove the {change.kind} {change.name}"
        error.message = f"{where}: {error.message}; nothing was applied"
        if isinstance(error, AlreadyExistsError) and change.kind == DesiredSync.kind:
            error.hint = f"if a sync got a new name in the documents: phasesync syncs rename OLD {change.name}"
        raise


def _remove(work: Work, change: ObjectChange, removed: _Removed) -> None:
    if change.kind != DesiredSync.kind:
        STORE_KINDS[change.kind].remove(work, change.name)
        return
    state = work.context.store.sync_states.state_of(change.name)
    entries = work.context.store.syncs.remove_sync(change.name)
    removed.syncs.append((state.sync, state.credential, entries))


def _save_ownership(work: Work, documents: Documents, plan: ProjectPlan) -> None:
    """Remember which document owns what, and as what it was applied."""
    ids = {each.key: each.id for each in describe_all(work, {})}
    there = set(ids.values())
    applied = work.context.store.projects.applied()
    for project, diff in zip(documents.projects, _in_order(documents, plan), strict=True):
        files = {(each.kind, each.key): each.place.file for each in project}
        objects: dict[tuple[str, str], tuple[str, Spec, str]] = {}
        for wanted in plan.wanted[project.name]:
            if wanted.kind != ObjectKind.VALUES:
                objects[wanted.kind, ids[wanted.key]] = (wanted.name, wanted.spec, files[wanted.key])
        for environment in environments_of(project):
            if (file := environment.values_file) is not None:
                kept = {"sops": os.path.normpath(file)}
                values = (ObjectKind.VALUES.value, ids[DesiredEnvironment.kind, environment.key])
                objects[values] = (environment.name, kept, environment.place.file)
        dropped = [(change.kind, change.id) for change in diff.removals if change.id is not None]
        for (kind, object_id), each in applied.items():
            environment_stays = kind == ObjectKind.VALUES and (DesiredEnvironment.kind, object_id) in objects
            if each.project == project.name and (object_id not in there or environment_stays):
                dropped.append((kind, object_id))
        work.context.store.projects.save(
            Ownership(
                name=project.name,
                manage=project.manage,
                source=documents.source,
                objects=objects,
                dropped=dropped,
            ),
            actor=work.actor,
        )


def _in_order(documents: Documents, plan: ProjectPlan) -> Sequence[ProjectDiff]:
    by_name = {diff.project: diff for diff in plan.diffs}
    return [by_name[project.name] for project in documents.projects]
