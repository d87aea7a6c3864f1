"""Reads remote values, on an operator's word, to bring them into the store. The daemon never does."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from phasesync.core.arns import check_neighbours, region_of_secret
from phasesync.core.imported_values import as_literal, split_json
from phasesync.core.model import SecretValue, SecretWrite
from phasesync.core.names import check_key
from phasesync.core.planning.ownership import refusal_of
from phasesync.core.sync import Adopt
from phasesync.core.sync_state import SyncDraft
from phasesync.engine.adoption_preview import Candidate
from phasesync.engine.context import Context
from phasesync.errors import IllegalTransitionError, InvalidInputError, NotFoundError
from phasesync.ports.destination import Destination


@dataclass(frozen=True, kw_only=True)
class RemoteValue:
    """A value that was read. `warning`: why it gets old in the store, None where nothing is known of that."""

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
        region: None = the credential's.
        remote_name: name or ARN.

    Raises:
        InvalidInputError: a part of an ARN, or a Region of another one.
        NotFoundError: the credential, or the object.
        IllegalTransitionError: the object is scheduled for deletion, or has no value.
        PermissionDeniedError: names the action that reading needs.
    """
    found = context.store.credentials.get(credential)
    where = region_of_secret(remote_name, region, otherwise=found.region)
    check_neighbours(where, found.region, of=f"the credential {credential}")
    destination = context.destinations.open(kind, found, where)
    seen = destination.observe(remote_name)
    if seen is None:
        raise NotFoundError(
            f"there is no secret {remote_name} in {where}",
            hint=f"phasesync aws list-secrets --credential {credential}",
        )
    if seen.deleted_at is not None:
        raise IllegalTransitionError(
            f"{remote_name} is scheduled for deletion",
            hint=f"aws secretsmanager restore-secret --secret-id {remote_name}",
        )
    value = destination.read_value(seen.arn)
    if value is None:
        raise IllegalTransitionError(f"{remote_name} has no current value")
    refusal = refusal_of(seen.name, seen, region or found.region)
    warning = None
    if refusal is not None:
        warning = f"{seen.name}: {refusal[0]}; no sync may write it, and the imported value gets old when it changes"
    return RemoteValue(value=value, warning=warning)


@dataclass(frozen=True, kw_only=True)
class ImportResult:
    """
    What an import brought into the store.

    Attributes:
        added: keys that the store did not have.
        changed: keys whose value in the store was replaced.
        kept: keys that both had, and whose value in the store stayed.
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
    candidates: Sequence[Candidate],
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
    place = (draft.app, draft.environment)
    before = {secret.key: secret.value for secret in context.store.secrets.list_secrets(*place, path=draft.path)}
    values: dict[str, SecretValue] = {}
    for one in candidates:
        try:
            values |= _read(destination, one, unless=before if draft.adopt is Adopt.PREFER_STORE else ())
        except InvalidInputError as error:
            whole = f"phasesync secrets import {draft.app}/{draft.environment} --from-aws {one.remote_name} --key KEY"
            hint = f"import it under a name: {whole} --credential {draft.credential}; or write over it: {instead}"
            raise InvalidInputError(f"{one.remote_name}: {error.message}", hint=hint) from None
    added = sorted(values.keys() - before.keys())
    differing = sorted(key for key in values.keys() & before.keys() if before[key] != values[key])
    changed = differing if draft.adopt is Adopt.PREFER_AWS else []
    writes = [SecretWrite(path=draft.path, key=key, value=values[key]) for key in [*added, *changed]]
    if writes:
        edited = context.store.secrets.edit(*place, actor=actor, origin="import", writes=writes)
    else:
        edited = context.store.apps.get_environment(*place)
    return ImportResult(
        added=tuple(added),
        changed=tuple(changed),
        kept=tuple(key for key in differing if key not in changed),
        revision=edited.revision,
        versions={one.remote_name: one.version for one in candidates if one.version is not None},
    )


def _read(destination: Destination, one: Candidate, *, unless: Container[str]) -> dict[str, SecretValue]:
    """Return what a remote object holds, by key; nothing where it holds one key alone and that is in `unless`."""
    if one.version is None or one.key in unless:
        return {}
    value = destination.read_value(one.observed.arn)
    if value is None:
        return {}
    if one.key is not None:
        return {one.key: as_literal(value)}
    return {check_key(key): member for key, member in split_json(value).items()}
