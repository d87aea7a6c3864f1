"""
Changes of protected environments: filing a request, approving it, carrying it out.

The store refuses every change of a protected environment that has no permit (`store/protection.py`), so no caller can
forget to ask. The refusal carries the change; `file_request` files it. With the last approval that it needs, a change
of the database is carried out in the transaction of that approval. A removal, any other change that calls AWS, and an
apply of a project are commands of their own: once it is approved, the same command goes through, whoever types it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from phasesync.core.actors import is_same_person
from phasesync.core.change_request import (
    AddDynamic,
    AddSync,
    AdoptObjects,
    Arguments,
    ChangeRequest,
    DeleteObject,
    EditSecrets,
    Proposal,
    ProtectEnvironment,
    ReleaseSync,
    RenameDynamic,
    RenameEnvironment,
    RenameSync,
    RequestStatus,
    Seen,
    UpdateApp,
    UpdateCredential,
    UpdateDynamic,
    UpdateSync,
)
from phasesync.core.credential import Credential
from phasesync.core.dynamic import DynamicSecret
from phasesync.core.model import Environment
from phasesync.core.run import Run
from phasesync.core.sync import Sync
from phasesync.engine.context import Context
from phasesync.errors import ApprovalNeededError, IllegalTransitionError, NotFoundError, ProposalMovedError
from phasesync.store.database import retry_on_conflict
from phasesync.store.protection import Permit, collecting, digest_of, permitted


def file_request(context: Context, needed: ApprovalNeededError, *, actor: str) -> ChangeRequest:
    """File a change that the store has refused; return the request there is, if the same change waits already."""
    return context.store.change_requests.file(needed.proposal, list(needed.environments), actor=actor)


def approve(
    context: Context, environment: tuple[str, str], digest: str, *, actor: str, by: str, reason: str = ""
) -> ChangeRequest:
    """
    Approve a request. With the last approval that it needs it is carried out, unless a command does that.

    Args:
        context: has the store.
        environment: app and environment, one of those that the request concerns.
        digest: of the request.
        actor: who approves.
        by: `BY_ACTOR` or `BY_OS_USER`: how people are told apart.
        reason: for the history.

    Raises:
        NotFoundError: no such request waits.
        IllegalTransitionError: this actor asked for it, or has approved it; or what it starts from has changed, and it
            is closed.
        PhasesyncError: carrying it out failed; neither the approval nor anything else is stored.
    """
    environment_id = context.store.apps.get_environment(*environment).id
    try:
        return _approve(context, environment_id, digest, actor, by, reason)
    except ProposalMovedError as moved:
        stored = context.store.change_requests.find(environment_id, digest)
        if stored is not None:
            context.store.change_requests.close(stored.request.id, RequestStatus.LAPSED, actor=None, note=moved.message)
        raise IllegalTransitionError(f"{digest} was not approved: {moved.message}", hint=moved.hint) from None


@retry_on_conflict
def _approve(context: Context, environment_id: str, digest: str, actor: str, by: str, reason: str) -> ChangeRequest:
    requests = context.store.change_requests
    with context.store.database.transaction():
        stored = requests.lock(environment_id, digest)
        _refuse_same_person(stored.request, actor, by)
        request = requests.add_approval(stored.request.id, actor=actor, reason=reason)
        if request.status is not RequestStatus.APPROVED or request.command is not None:
            return request
        permit = Permit(
            environments=frozenset(request.environments),
            digest=request.digest,
            seen=stored.seen,
            approvals=len(request.approvals),
            approved_by=request.approved_by,
        )
        with permitted(permit):
            _carry_out(context, stored.arguments, request.asked_by)
        return requests.close(request.id, RequestStatus.APPLIED, actor=actor) or request


def reject(
    context: Context, environment: tuple[str, str], digest: str, *, actor: str, reason: str = ""
) -> ChangeRequest:
    """End a request without carrying it out: its author withdraws it, anybody else rejects it. NotFoundError."""
    return _reject(context, context.store.apps.get_environment(*environment).id, digest, actor, reason)


@retry_on_conflict
def _reject(context: Context, environment_id: str, digest: str, actor: str, reason: str) -> ChangeRequest:
    with context.store.database.transaction():
        request = context.store.change_requests.lock(environment_id, digest).request
        own = is_same_person(request.asked_by, actor)
        status = RequestStatus.WITHDRAWN if own else RequestStatus.REJECTED
        return context.store.change_requests.close(request.id, status, actor=actor, note=reason) or request


def _refuse_same_person(request: ChangeRequest, actor: str, by: str) -> None:
    if request.status is RequestStatus.APPROVED:
        raise IllegalTransitionError(
            f"{request.digest} has all its approvals already", hint=f"to carry it out: {request.command}"
        )
    if is_same_person(actor, request.asked_by, by):
        raise IllegalTransitionError(
            f"{request.asked_by} asked for {request.digest}, and {actor} counts as the same person",
            hint=f"somebody else approves it: {request.approve_command}",
        )
    if any(is_same_person(actor, approval.by, by) for approval in request.approvals):
        raise IllegalTransitionError(
            f"{actor} has approved {request.digest} already",
            hint=f"somebody else approves it: {request.approve_command}",
        )


# --- carrying out what changes the database only


def _carry_out(context: Context, change: Arguments, author: str) -> None:
    """
    Carry out what was asked for, under its permit.

    Raises:
        ProposalMovedError: what it starts from or refers to is gone, or is another by now.
    """
    try:
        _CARRY_OUT[type(change)](context, change, author)
    except NotFoundError as gone:
        raise ProposalMovedError(f"since the change was asked for, something was removed or renamed: {gone}") from None


def _edit_secrets(context: Context, change: EditSecrets, author: str) -> None:
    environment = _environment(context, change.environment_id)
    context.store.secrets.edit(
        environment.app,
        environment.name,
        actor=author,
        origin=change.origin,
        writes=change.writes(),
        unsets=change.unsets(),
    )


def _rename_environment(context: Context, change: RenameEnvironment, _author: str) -> None:
    environment = _environment(context, change.environment_id)
    context.store.apps.update_environment(environment.app, environment.name, new_name=change.new_name)


def _protect_environment(context: Context, change: ProtectEnvironment, _author: str) -> None:
    environment = _environment(context, change.environment_id)
    context.store.apps.protect_environment(environment.app, environment.name, approvers=change.approvers)


def _update_app(context: Context, change: UpdateApp, _author: str) -> None:
    app = context.store.apps.find_app_by_id(change.app_id)
    if app is None:
        raise NotFoundError("the app was removed since the change was asked for")
    context.store.apps.update_app(
        app.name, new_name=change.new_name, description=change.description, windows=change.windows
    )


def _rename_sync(context: Context, change: RenameSync, _author: str) -> None:
    context.store.syncs.rename(_sync(context, change.sync_id).name, change.new_name)


def _rename_dynamic(context: Context, change: RenameDynamic, _author: str) -> None:
    context.store.dynamics.rename(_dynamic(context, change.dynamic_id).name, change.new_name)


def _add_sync(context: Context, change: AddSync, _author: str) -> None:
    context.store.syncs.add_sync(change.draft)


def _update_sync(context: Context, change: UpdateSync, _author: str) -> None:
    context.store.syncs.update_sync(
        _sync(context, change.sync_id).name,
        config=change.config,
        path=change.path,
        credential=change.credential,
        region=change.region,
        adopt=change.adopt,
    )


def _adopt_objects(context: Context, change: AdoptObjects, author: str) -> None:
    context.store.sync_requests.consent_to_adopt(
        _sync(context, change.sync_id).name, change.adopt, actor=author, versions=change.versions
    )


def _add_dynamic(context: Context, change: AddDynamic, _author: str) -> None:
    context.store.dynamics.add(change.draft)


def _update_dynamic(context: Context, change: UpdateDynamic, _author: str) -> None:
    context.store.dynamics.update(
        _dynamic(context, change.dynamic_id).name, credential=change.credential, config=change.config
    )


def _update_credential(context: Context, change: UpdateCredential, _author: str) -> None:
    credential = context.store.credentials.get_by_id(change.credential_id)
    context.store.credentials.update(credential.name, change.draft(), account=change.account)


_CARRY_OUT: Final[Mapping[type, Callable[[Context, Any, str], None]]] = {
    EditSecrets: _edit_secrets,
    RenameEnvironment: _rename_environment,
    ProtectEnvironment: _protect_environment,
    UpdateApp: _update_app,
    RenameSync: _rename_sync,
    RenameDynamic: _rename_dynamic,
    AddSync: _add_sync,
    UpdateSync: _update_sync,
    AdoptObjects: _adopt_objects,
    AddDynamic: _add_dynamic,
    UpdateDynamic: _update_dynamic,
    UpdateCredential: _update_credential,
}
"""
Arguments -> what carries them out as they are. Each calls the method of the store that refused the change.

Not here: `ApplyProject`, what calls AWS (`ReleaseSync`, `DeleteObject`), and removals, which may revoke leases or touch
objects at AWS first. Their commands carry them out.
"""


def _environment(context: Context, environment_id: str) -> Environment:
    environment = context.store.apps.find_environment_by_id(environment_id)
    if environment is None:
        raise NotFoundError("the environment was removed since the change was asked for")
    return environment


def _sync(context: Context, sync_id: str) -> Sync:
    sync = context.store.syncs.find_by_id(sync_id)
    if sync is None:
        raise NotFoundError("the sync was removed since the change was asked for")
    return sync


def _dynamic(context: Context, dynamic_id: str) -> DynamicSecret:
    dynamic = context.store.dynamics.find_by_id(dynamic_id)
    if dynamic is None:
        raise NotFoundError("the dynamic secret was removed since the change was asked for")
    return dynamic


# --- changes that a command carries out


@dataclass
class Carrying:
    """A change that is being carried out. `complete`: whether that ends its request, or the command is repeated."""

    complete: bool = True


@contextmanager
def carrying_out(
    context: Context, sync: Sync, proposal: Proposal, *, actor: str, authenticate: bool = True
) -> Iterator[Carrying]:
    """
    Let a command through that changes a sync and its objects at AWS, if its environment is not protected or if the
    change is approved. The request ends with the block, unless an error or `Carrying.complete` says otherwise.

    Args:
        context: has the store.
        sync: the sync.
        proposal: the change.
        actor: who carries it out.
        authenticate: False where an altered environment must not keep the sync from being removed.

    Raises:
        ApprovalNeededError: the environment is protected, and nobody has approved the change.
    """

    def check() -> None:
        context.store.apps.check_change(sync.environment_id, lambda: proposal, authenticate=authenticate)

    with allowed(context, check, actor=actor) as carrying:
        yield carrying


@contextmanager
def allowed(context: Context, check: Callable[[], None], *, actor: str) -> Iterator[Carrying]:
    """
    Let a command through that `check` of the store refuses, if it is approved; the request ends with the block.

    Nothing has happened yet where it is not, so that no lease is revoked and nothing is deleted for it.
    """
    try:
        check()
    except ApprovalNeededError as refusal:
        needed = refusal
    else:
        yield Carrying()
        return
    with approved(context, needed, actor=actor) as carrying:
        yield carrying


@contextmanager
def approved(context: Context, needed: ApprovalNeededError, *, actor: str) -> Iterator[Carrying]:
    """Let a change through that the store has refused, if a request for it is approved. Raises `needed` if not."""
    environments = frozenset(needed.environments)
    stored = context.store.change_requests.find(
        next(iter(needed.environments)), digest_of(context.store.keys, needed.proposal)
    )
    if stored is None or stored.request.status is not RequestStatus.APPROVED:
        raise needed
    carrying = Carrying()
    permit = Permit(
        environments=environments,
        digest=None,
        approvals=len(stored.request.approvals),
        approved_by=stored.request.approved_by,
    )
    with permitted(permit):
        yield carrying
    if carrying.complete:
        context.store.change_requests.close(stored.request.id, RequestStatus.APPLIED, actor=actor)


def release_of(sync: Sync) -> Proposal:
    """Return the release of a sync as a change that waits for an approval."""
    return Proposal(
        arguments=ReleaseSync(sync_id=sync.id),
        changes=(f"give back the AWS secrets of the sync {sync.name}, and pause it",),
        seen={f"the sync {sync.name}": Seen(id=sync.id, version=sync.version)},
        command=f"phasesync syncs release {sync.name}",
    )


def object_deletion_of(sync: Sync, remote_name: str, reach: Credential, command: str) -> Proposal:
    """
    Return the deletion of one object of a sync, at once and for good, as a change that waits for an approval.

    Args:
        sync: that wrote the object.
        remote_name: its ARN, which has account and Region.
        reach: the credential that deletes it.
        command: deletes it once that is approved.
    """
    return Proposal(
        arguments=DeleteObject(sync_id=sync.id, remote_name=remote_name),
        changes=(f"delete {remote_name} of the sync {sync.name} at AWS, at once and for good",),
        seen={
            f"the sync {sync.name}": Seen(id=sync.id, version=sync.version),
            f"the credential {reach.name}": Seen(id=reach.id, version=reach.version),
        },
        command=command,
    )


@contextmanager
def applying(context: Context, plan: Proposal, *, actor: str) -> Iterator[None]:
    """
    Let the changes of a whole plan through, inside `Database.transaction()`, if the plan is approved.

    The changes of the block go on whether they are approved or not, so that one request covers every protected
    environment that the plan concerns. If one is not covered, the block ends with an error, which rolls all of it back.
    Inside a rehearsal they are only noted there.

    Args:
        context: has the store.
        plan: its arguments are an `ApplyProject`, and its digest is that of the plan that was shown, which covers what
            the plan starts from.
        actor: who applies it.

    Raises:
        ApprovalNeededError: at the end of the block; `file_request` files it.
    """
    if collecting() is not None:
        yield
        return
    request = context.store.change_requests.approved_plan(plan)
    met: dict[str, str] = {}
    with permitted(_permit_of(request, met)):
        yield
    if met:
        raise ApprovalNeededError(environments=met, proposal=plan)
    if request is not None:
        context.store.change_requests.close(request.id, RequestStatus.APPLIED, actor=actor)


@contextmanager
def approved_plan(context: Context, plan: Proposal) -> Iterator[None]:
    """Let through what belongs to an approved plan and has to be done before its transaction."""
    with permitted(_permit_of(context.store.change_requests.approved_plan(plan), None)):
        yield


def _permit_of(request: ChangeRequest | None, met: dict[str, str] | None) -> Permit:
    if request is None:
        return Permit(environments=frozenset(), digest=None, approvals=0, met=met)
    return Permit(
        environments=frozenset(request.environments),
        digest=None,
        approvals=len(request.approvals),
        approved_by=request.approved_by,
        met=met,
    )


@contextmanager
def rehearsing() -> Iterator[Mapping[str, str]]:
    """Let every change through, for the caller to roll back; yields id -> label of the protected environments met."""
    met: dict[str, str] = {}
    with permitted(Permit(environments=frozenset(), digest=None, approvals=0, met=met)):
        yield met


# --- what history shows


def approved_in(context: Context, run: Run) -> list[ChangeRequest]:
    """
    Return the approved changes that a run was the first to carry to AWS.

    These are the edits of the revisions between the sync's previous run and this one, and the other changes of the
    environments that it read that were carried out in the database between the two.
    """
    labels = set(run.revisions)
    applied = [
        request
        for request in context.store.change_requests.list_requests(applied=True)
        if labels & set(request.environments.values()) and (request.closed_at or run.ended_at) < run.ended_at
    ]
    if not applied:
        return []
    former = context.store.runs.before(run.id)
    return [request for request in applied if former is None or _is_later(request, former)]


def _is_later(request: ChangeRequest, run: Run) -> bool:
    """Return whether a run did not have a change yet."""
    for environment_id, label in request.environments.items():
        read, made = run.revisions.get(label), request.revisions.get(environment_id)
        if request.action == "secrets.edit" and read is not None and made is not None:
            return made > read
    return request.closed_at is not None and request.closed_at > run.started_at
