"""
Changes of protected environments: what is asked for, who asked, who approved.

A proposal is a change that the store did not make. Its arguments have one dataclass for each action, all plain, so that
they can be stored and carried out later exactly as they were asked for. No summary of a change shows a value.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, TypeVar

from phasesync.core.arns import account_of
from phasesync.core.credential import Credential, CredentialDraft, CredentialType
from phasesync.core.dynamic import DynamicConfig, DynamicDraft
from phasesync.core.model import SecretValue, SecretWrite, ValueType
from phasesync.core.sync import Adopt, SyncConfig, SyncDraft
from phasesync.core.times import duration_text

LIFE: Final = timedelta(hours=24)
"""Time after which a request lapses."""

T = TypeVar("T")


class RequestStatus(StrEnum):
    """How a request stands."""

    OPEN = "open"
    """Waits for approvals."""
    APPROVED = "approved"
    """Has all approvals; the command that was held goes through now."""
    APPLIED = "applied"
    """Carried out."""
    WITHDRAWN = "withdrawn"
    """Its author took it back."""
    REJECTED = "rejected"
    LAPSED = "lapsed"
    """Nobody decided in time, or what it would change was changed otherwise."""


WAITING: Final = frozenset({RequestStatus.OPEN, RequestStatus.APPROVED})
"""Statuses of requests that may still be carried out."""


@dataclass(frozen=True, kw_only=True)
class Approval:
    """One approval of a request."""

    by: str
    at: datetime
    reason: str


@dataclass(frozen=True, kw_only=True)
class ChangeRequest:
    """
    A change of one or more protected environments, as it was asked for.

    Attributes:
        digest: keyed digest of the action, its arguments and what was seen.
        environments: id -> `app/environment` at the time of the request.
        changes: what would change, one line each; never a value.
        needed: how many approvals it needs.
        command: what carries it out once it is approved; None if the last approval does.
        closed_at: when it was carried out, withdrawn, rejected or found to have lapsed.
        closed_by: who did that; None if nobody did.
        note: why it was rejected, or what moved.
        revisions: environment id -> revision that carrying it out left.
        error: why the row cannot be trusted; None if it can.
    """

    id: str
    digest: str
    status: RequestStatus
    action: str
    environments: Mapping[str, str]
    changes: tuple[str, ...]
    asked_by: str
    requested_at: datetime
    expires_at: datetime
    needed: int
    approvals: tuple[Approval, ...] = ()
    command: str | None = None
    closed_at: datetime | None = None
    closed_by: str | None = None
    note: str = ""
    revisions: Mapping[str, int] = field(default_factory=dict)
    error: str | None = None

    @property
    def label(self) -> str:
        """The environment that commands name: the first one."""
        return next(iter(self.environments.values()), "?")

    @property
    def missing(self) -> int:
        """How many approvals are still needed."""
        return max(0, self.needed - len(self.approvals))

    @property
    def approved_by(self) -> str:
        """Who approved it, as one text."""
        return ", ".join(approval.by for approval in self.approvals)

    @property
    def waits(self) -> bool:
        """Whether it may still be carried out."""
        return self.status in WAITING

    @property
    def approve_command(self) -> str:
        """The command for whoever approves it."""
        return f"phasesync envs approve {self.label} --plan {self.digest}"

    @property
    def next_command(self) -> str | None:
        """The command that it waits for; None if it waits for nothing."""
        if not self.waits or self.error is not None:
            return None
        return self.approve_command if self.missing else self.command


# --- what is asked for


@dataclass(frozen=True, kw_only=True)
class KeyEdit:
    """The edit of one key. `value` is base64; None unsets the key."""

    path: str
    key: str
    type: ValueType | None
    value: str | None = field(repr=False)
    comment: str = field(repr=False)


def key_edit(path: str, key: str, value: SecretValue | None, comment: str) -> KeyEdit:
    """Return the edit of a key to a value; None unsets it."""
    if value is None:
        return KeyEdit(path=path, key=key, type=None, value=None, comment="")
    encoded = base64.b64encode(value.reveal()).decode("ascii")
    return KeyEdit(path=path, key=key, type=value.type, value=encoded, comment=comment)


@dataclass(frozen=True, kw_only=True)
class EditSecrets:
    """Set and unset keys of an environment."""

    environment_id: str
    origin: str
    edits: tuple[KeyEdit, ...]

    def writes(self) -> list[SecretWrite]:
        """Return the keys to set."""
        return [
            SecretWrite(
                path=edit.path,
                key=edit.key,
                value=SecretValue(base64.b64decode(edit.value), edit.type or ValueType.TEXT),
                comment=edit.comment,
            )
            for edit in self.edits
            if edit.value is not None
        ]

    def unsets(self) -> list[tuple[str, str]]:
        """Return path and key of the keys to unset."""
        return [(edit.path, edit.key) for edit in self.edits if edit.value is None]


@dataclass(frozen=True, kw_only=True)
class RenameEnvironment:
    """Rename an environment."""

    environment_id: str
    new_name: str


@dataclass(frozen=True, kw_only=True)
class ProtectEnvironment:
    """Change how many have to approve; None ends the protection."""

    environment_id: str
    approvers: int | None


@dataclass(frozen=True, kw_only=True)
class RemoveEnvironment:
    """Remove an environment."""

    environment_id: str


@dataclass(frozen=True, kw_only=True)
class UpdateApp:
    """Rename an app, and so all its environments, or change its maintenance windows. None leaves a member as it is."""

    app_id: str
    new_name: str | None
    description: str | None
    windows: tuple[str, ...] | None


@dataclass(frozen=True, kw_only=True)
class AddSync:
    """Add a sync."""

    draft: SyncDraft


@dataclass(frozen=True, kw_only=True)
class UpdateSync:
    """Replace the configuration of a sync."""

    sync_id: str
    config: SyncConfig
    path: str
    credential: str
    region: str
    adopt: Adopt | None


@dataclass(frozen=True, kw_only=True)
class RenameSync:
    """Rename a sync."""

    sync_id: str
    new_name: str


@dataclass(frozen=True, kw_only=True)
class AdoptObjects:
    """Consent to take over remote objects of a sync."""

    sync_id: str
    adopt: Adopt
    versions: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class RemoveSync:
    """Remove a sync. `remote`: what happens to its remote objects, keep or delete."""

    sync_id: str
    remote: str


@dataclass(frozen=True, kw_only=True)
class ReleaseSync:
    """Give the remote objects of a sync back."""

    sync_id: str


@dataclass(frozen=True, kw_only=True)
class DeleteObject:
    """Delete one remote object of a sync at once and for good."""

    sync_id: str
    remote_name: str


@dataclass(frozen=True, kw_only=True)
class AddDynamic:
    """Add a dynamic secret."""

    draft: DynamicDraft


@dataclass(frozen=True, kw_only=True)
class UpdateDynamic:
    """Replace credential and configuration of a dynamic secret."""

    dynamic_id: str
    credential: str
    config: DynamicConfig


@dataclass(frozen=True, kw_only=True)
class RenameDynamic:
    """Rename a dynamic secret."""

    dynamic_id: str
    new_name: str


@dataclass(frozen=True, kw_only=True)
class RemoveDynamic:
    """Remove a dynamic secret."""

    dynamic_id: str


@dataclass(frozen=True, kw_only=True)
class UpdateCredential:
    """Replace a credential that syncs or dynamic secrets of a protected environment use."""

    credential_id: str
    account: str | None
    type: CredentialType
    region: str
    role_arn: str | None
    external_id: str | None = field(repr=False)
    source_name: str | None
    access_key_id: str | None = field(repr=False)
    secret_access_key: str | None = field(repr=False)

    @classmethod
    def of(cls, credential_id: str, draft: CredentialDraft, account: str | None) -> "UpdateCredential":
        """Return the update of a credential to a draft."""
        secret = draft.secret_access_key
        members = {member.name: getattr(draft, member.name) for member in fields(draft)}
        members["secret_access_key"] = None if secret is None else secret.reveal_text()
        return cls(credential_id=credential_id, account=account, **members)

    def draft(self) -> CredentialDraft:
        """Return the draft."""
        members = {member.name: getattr(self, member.name) for member in fields(CredentialDraft)}
        members["secret_access_key"] = None if self.secret_access_key is None else SecretValue(self.secret_access_key)
        return CredentialDraft(**members)


@dataclass(frozen=True, kw_only=True)
class ApplyProject:
    """Apply project documents: the plan of this digest. `remote`: what happens to objects of removed syncs."""

    plan: str
    remote: str


Arguments = (
    EditSecrets
    | RenameEnvironment
    | ProtectEnvironment
    | RemoveEnvironment
    | UpdateApp
    | AddSync
    | UpdateSync
    | RenameSync
    | AdoptObjects
    | RemoveSync
    | ReleaseSync
    | DeleteObject
    | AddDynamic
    | UpdateDynamic
    | RenameDynamic
    | RemoveDynamic
    | UpdateCredential
    | ApplyProject
)

ACTIONS: Final[Mapping[str, type[Arguments]]] = {
    "secrets.edit": EditSecrets,
    "environment.rename": RenameEnvironment,
    "environment.protect": ProtectEnvironment,
    "environment.remove": RemoveEnvironment,
    "app.update": UpdateApp,
    "sync.add": AddSync,
    "sync.update": UpdateSync,
    "sync.rename": RenameSync,
    "sync.adopt": AdoptObjects,
    "sync.remove": RemoveSync,
    "sync.release": ReleaseSync,
    "sync.delete-object": DeleteObject,
    "dynamic.add": AddDynamic,
    "dynamic.update": UpdateDynamic,
    "dynamic.rename": RenameDynamic,
    "dynamic.remove": RemoveDynamic,
    "credential.update": UpdateCredential,
    "project.apply": ApplyProject,
}
"""Word for an action -> its arguments."""

_WORDS: Final = {arguments: word for word, arguments in ACTIONS.items()}


@dataclass(frozen=True, kw_only=True)
class Seen:
    """
    What a change starts from, or refers to: one object as it was when the change was asked for.

    Attributes:
        id: of the object. Names lead elsewhere after a rename, or after a removal and an addition.
        version: of the object; 0 where only matters which object it is.
    """

    id: str
    version: int = 0


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """
    A change that needs an approval.

    Attributes:
        arguments: what is to be done.
        changes: what would change, one line each; never a value.
        seen: what the change starts from and refers to: `the sync web` -> which one, in which version. If one differs
            later, the request is void.
        command: what carries it out once it is approved; None if the last approval does, which is so wherever nothing
            but the database changes.
        digest: of the plan that the operator was shown; None: a digest of all of the above.
    """

    arguments: Arguments = field(repr=False)
    changes: tuple[str, ...]
    seen: Mapping[str, Seen] = field(default_factory=dict)
    command: str | None = None
    digest: str | None = None

    @property
    def action(self) -> str:
        """The word for what is to be done."""
        return _WORDS[type(self.arguments)]


def moved(before: Mapping[str, Seen], after: Mapping[str, Seen]) -> str:
    """Return what differs from what a request started from, as one line."""
    changed = [
        f"{name} ({_how(before.get(name), after.get(name))})"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
    return ", ".join(changed) or "what it would change"


def _how(before: Seen | None, after: Seen | None) -> str:
    if before is None or after is None:
        return "no longer so" if after is None else "not so then"
    if before.id != after.id and before.id and after.id:
        return "it is another one now"
    return f"version {before.version} then, {after.version} now"


def seen_credentials(chain: Sequence[Credential]) -> dict[str, Seen]:
    """Return what a change refers to that uses a credential. `chain`: the credential, its source, and so on."""
    return {f"the credential {one.name}": Seen(id=one.id, version=one.version) for one in chain}


def reach_of(chain: Sequence[Credential]) -> list[str]:
    """Return where a credential leads, one line for it and for each of its sources; nothing secret is in them."""
    return [f"the credential {one.name}: {', '.join(_identity_of(one))}" for one in chain]


def _identity_of(credential: Credential) -> Iterator[str]:
    yield str(credential.type)
    account = credential.account
    match credential.type:
        case CredentialType.ASSUME_ROLE:
            account = account or account_of(credential.role_arn or "")
            yield f"role {credential.role_arn or 'not known yet'}"
            yield "no External ID" if credential.external_id is None else "with an External ID"
            yield f"assumed by {credential.source_name or 'the identity of the host'}"
        case CredentialType.ACCESS_KEY:
            yield f"the key that ends in {(credential.access_key_id or '-')[-4:]}"
        case CredentialType.AMBIENT:
            yield "the identity of the host"
    yield f"account {account or 'not known yet'}"


def described_edits(edits: "tuple[KeyEdit, ...]", existing: frozenset[tuple[str, str]]) -> tuple[str, ...]:
    """Return edits of keys as lines: the key, its folder and what happens to it. `existing`: keys that are set."""
    lines = []
    for edit in edits:
        verb = "change" if (edit.path, edit.key) in existing else "add"
        kind = "" if edit.type is None else f" ({edit.type})"
        folder = "" if edit.path == "/" else f" in {edit.path}"
        lines.append(f"{'unset' if edit.value is None else verb} {edit.key}{folder}{kind}")
    return tuple(lines)


def differences(before: object, after: object, prefix: str = "") -> Iterator[str]:
    """Yield the settings in which two values of one dataclass differ, as `name: before -> after`."""
    for member in fields(before):  # type: ignore[arg-type]
        old, new = getattr(before, member.name), getattr(after, member.name)
        if old != new:
            yield f"{prefix}{member.name}: {_shown(old)} -> {_shown(new)}"


def settings_of(value: object) -> Iterator[str]:
    """Yield the settings of a new object that are set, as `name: value`."""
    for member in fields(value):  # type: ignore[arg-type]
        setting = getattr(value, member.name)
        if setting is not None and setting not in ((), {}, ""):
            yield f"{member.name}: {_shown(setting)}"


def _shown(value: object) -> str:
    match value:
        case None:
            return "-"
        case timedelta():
            return duration_text(value)
        case Mapping():
            return ", ".join(f"{key}={item}" for key, item in value.items()) or "none"
        case tuple():
            return ", ".join(map(str, value)) or "none"
    return str(value)
