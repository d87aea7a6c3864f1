"""
Imports values into a folder of secrets, as one edit: from a file, from an AWS secret, or from what a sync adopts.

Values at AWS are read only when an operator asks; the daemon never does. No message repeats a value.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

from phasesync.core.arns import region_of_secret
from phasesync.core.model import Environment, SecretValue, SecretVersion, SecretWrite
from phasesync.core.names import check_key
from phasesync.core.planning.ownership import ForeignObject, refusal_of
from phasesync.core.regions import check_same_partition
from phasesync.core.secret_json import FileEntry, as_literal, split_json
from phasesync.core.sync import Adopt, SyncDraft
from phasesync.engine.context import Context
from phasesync.errors import IllegalTransitionError, InvalidInputError, NotFoundError
from phasesync.ports.destination import Destination
from phasesync.store.secrets import SecretStore


@dataclass(frozen=True, kw_only=True)
class ImportPlan:
    """
    What an import changes in a folder.

    Attributes:
        entries: key -> value and comment, as they are imported.
        added: keys that the folder does not have.
        changed: keys that get another value or comment.
        kept: keys that differ and stay as the folder has them.
        removed: keys of the folder that are removed.
    """

    entries: Mapping[str, FileEntry] = field(repr=False)
    added: tuple[str, ...]
    changed: tuple[str, ...]
    kept: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def changes_anything(self) -> bool:
        """Whether the folder is another one afterwards."""
        return bool(self.added or self.changed or self.removed)

    @property
    def unchanged(self) -> int:
        """Number of imported keys that the folder has already, as they are or as it keeps them."""
        return len(self.entries) - len(self.added) - len(self.changed)

    @property
    def emptied(self) -> tuple[str, ...]:
        """Keys that get an empty value."""
        return tuple(key for key in (*self.added, *self.changed) if not len(self.entries[key].value))


def plan_import(
    entries: Mapping[str, FileEntry],
    folder: Mapping[str, SecretVersion],
    *,
    prune: bool = False,
    keep_differing: bool = False,
) -> ImportPlan:
    """
    Return what an import changes.

    Args:
        entries: key -> what is imported. An entry without a comment keeps the one of the folder.
        folder: key -> secret, as they are now.
        prune: remove keys of the folder that are not imported.
        keep_differing: where both have a key, the value of the folder stays.

    Raises:
        InvalidInputError: a new key breaks the rule for names of keys.
    """
    added = sorted(entries.keys() - folder.keys())
    for key in added:
        check_key(key)
    differing = tuple(sorted(key for key in entries.keys() & folder.keys() if _differs(entries[key], folder[key])))
    return ImportPlan(
        entries=entries,
        added=tuple(added),
        changed=() if keep_differing else differing,
        kept=differing if keep_differing else (),
        removed=tuple(sorted(folder.keys() - entries.keys())) if prune else (),
    )


def check_not_emptied(plan: ImportPlan, *, source: str, folder: str) -> None:
    """
    Refuse an import that removes every key of a folder because its source has none.

    Args:
        plan: what the import changes.
        source: what is imported, for the message.
        folder: where it is imported, for the message.

    Raises:
        InvalidInputError: it does.
    """
    if plan.removed and not plan.entries:
        raise InvalidInputError(
            f"{source} has no keys, and --prune would remove every key of {folder} ({len(plan.removed)})",
            hint="if they are to be removed, add --allow-empty",
        )


def apply_import(
    secrets: SecretStore, environment: tuple[str, str], path: str, plan: ImportPlan, *, actor: str
) -> Environment:
    """
    Commit an import as one edit; without changes there is no new revision.

    Args:
        secrets: the store.
        environment: app and name of the environment.
        path: the folder.
        plan: what changes.
        actor: who asked for it.

    Raises:
        NotFoundError: the environment, or a key to remove, is gone.
        AlreadyExistsError: a dynamic secret issues a key.
    """
    return secrets.edit(
        *environment,
        actor=actor,
        origin="import",
        writes=[
            SecretWrite(path=path, key=key, value=plan.entries[key].value, comment=plan.entries[key].comment)
            for key in (*plan.added, *plan.changed)
        ],
        unsets=[(path, key) for key in plan.removed],
    )


def _differs(entry: FileEntry, secret: SecretVersion) -> bool:
    return secret.value != entry.value or entry.comment not in {None, secret.comment}


@dataclass(frozen=True, kw_only=True)
class RemoteValue:
    """A value that was read. `warning`: why it gets out of date in the store; None if nothing is known of that."""

    value: SecretValue
    warning: str | None


def read_remote(
    context: Context,
    *,
    kind: str,
    credential: str,
    region: str | None,
    remote_name: str,
) -> RemoteValue:
    """
    Return the current value of a remote object; one that no sync may write can be read all the same.

    Args:
        context: has the credential, and opens the destination.
        kind: destination kind.
        credential: name of the credential; its policy needs the right to read values.
        region: None means the Region of the credential.
        remote_name: name or ARN.

    Raises:
        InvalidInputError: a part of an ARN, or a Region of another one.
        NotFoundError: the credential, or the object.
        IllegalTransitionError: the object is scheduled for deletion, or has no value.
        PermissionDeniedError: names the action that reading needs.
    """
    loaded = context.store.credentials.get(credential)
    target_region = region_of_secret(remote_name, region, otherwise=loaded.region)
    check_same_partition(target_region, loaded.region, of=f"the credential {credential}")
    destination = context.destinations.open(kind, loaded, target_region)
    observed = destination.observe(remote_name)
    if observed is None:
        raise NotFoundError(
            f"there is no secret {remote_name} in {target_region}",
            hint=f"phasesync aws list-secrets --credential {credential}",
        )
    if observed.deleted_at is not None:
        raise IllegalTransitionError(
            f"{remote_name} is scheduled for deletion",
            hint=f"aws secretsmanager restore-secret --secret-id {remote_name}",
        )
    value = destination.read_value(observed.arn)
    if value is None:
        raise IllegalTransitionError(f"{remote_name} has no current value")
    refusal = refusal_of(observed.name, observed, region or loaded.region)
    warning = None
    if refusal is not None:
        warning = (
            f"{observed.name}: {refusal[0]}; no sync may write it, and the imported value gets old when it changes"
        )
    return RemoteValue(value=value, warning=warning)


@dataclass(frozen=True, kw_only=True)
class ImportResult:
    """
    What an import brought into the store.

    Attributes:
        added: keys that the store did not have.
        changed: keys that got another value in the store.
        kept: keys that both had, and that kept their value in the store.
        revision: of the environment afterwards.
        versions: remote name -> version that stood there; no other one may be written over.
    """

    added: tuple[str, ...]
    changed: tuple[str, ...]
    kept: tuple[str, ...]
    revision: int
    versions: Mapping[str, str]


def import_values(
    context: Context,
    destination: Destination,
    draft: SyncDraft,
    candidates: Sequence[ForeignObject],
    *,
    actor: str,
    instead: str,
) -> ImportResult:
    """
    Merge remote values into a sync's folder, as one edit; the other keys stay.

    Args:
        context: its store takes them.
        destination: reads them.
        draft: the sync: layout and folder, and which side wins where both have a key.
        candidates: what stands there and may be taken over.
        actor: who asked for it.
        instead: what the operator may type to take them over without importing them.

    Raises:
        InvalidInputError: a value is no JSON object of keys (layout json), or a name in it is no key.
        DestinationError: PermissionDeniedError names the action that reading needs. Nothing was imported.
    """
    environment = (draft.app, draft.environment)
    folder = {secret.key: secret for secret in context.store.secrets.list_secrets(*environment, path=draft.path)}
    values: dict[str, SecretValue] = {}
    for candidate in candidates:
        name = candidate.remote_name
        try:
            values |= _read(destination, candidate, unless=folder if draft.adopt is Adopt.PREFER_STORE else ())
        except InvalidInputError as error:
            whole = f"phasesync secrets import {draft.app}/{draft.environment} --from-aws {name} --key KEY"
            hint = f"import it under a name: {whole} --credential {draft.credential}; or write over it: {instead}"
            raise InvalidInputError(f"{name}: {error.message}", hint=hint) from None
    entries = {key: FileEntry(value=value) for key, value in values.items()}
    plan = plan_import(entries, folder, keep_differing=draft.adopt is not Adopt.PREFER_AWS)
    edited = apply_import(context.store.secrets, environment, draft.path, plan, actor=actor)
    return ImportResult(
        added=plan.added,
        changed=plan.changed,
        kept=plan.kept,
        revision=edited.revision,
        versions={
            candidate.remote_name: candidate.version for candidate in candidates if candidate.version is not None
        },
    )


def _read(destination: Destination, candidate: ForeignObject, *, unless: Container[str]) -> dict[str, SecretValue]:
    """Return what a remote object holds, by key; nothing if it holds a single key that is in `unless`."""
    if candidate.version is None or candidate.key in unless:
        return {}
    value = destination.read_value(candidate.observed.arn)
    if value is None:
        return {}
    if candidate.key is not None:
        return {candidate.key: as_literal(value)}
    return {check_key(key): member for key, member in split_json(value).items()}
