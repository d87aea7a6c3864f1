"""Reads remote values at an operator's request and imports them into the store. The daemon never does this."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from phasesync.core.arns import region_of_secret
from phasesync.core.json_values import as_literal, split_json
from phasesync.core.model import SecretValue, SecretWrite
from phasesync.core.names import check_key
from phasesync.core.planning.ownership import ForeignObject, refusal_of
from phasesync.core.regions import check_same_partition
from phasesync.core.sync import Adopt
from phasesync.core.sync_state import SyncDraft
from phasesync.engine.context import Context
from phasesync.errors import IllegalTransitionError, InvalidInputError, NotFoundError
from phasesync.ports.destination import Destination


@dataclass(frozen=True, kw_only=True)
class RemoteValue:
    """A remote value. `warning`: why the stored copy will become stale; None if no reason is known."""

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
    Return the current value of a remote object. Objects that no sync may write can be read too.

    Args:
        context: has the credential and opens the destination.
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
    stored = context.store.credentials.get(credential)
    where = region_of_secret(remote_name, region, otherwise=stored.region)
    check_same_partition(where, stored.region, of=f"the credential {credential}")
    destination = context.destinations.open(kind, stored, where)
    observed = destination.observe(remote_name)
    if observed is None:
        raise NotFoundError(
            f"there is no secret {remote_name} in {where}",
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
    refusal = refusal_of(observed.name, observed, region or stored.region)
    warning = None
    if refusal is not None:
        warning = (
            f"{observed.name}: {refusal[0]}; no sync may write it, and the imported value gets old when it changes"
        )
    return RemoteValue(value=value, warning=warning)


@dataclass(frozen=True, kw_only=True)
class ImportResult:
    """
    The result of an import.

    Attributes:
        added: keys that the store did not have.
        changed: keys whose value in the store was replaced.
        kept: keys that exist on both sides and kept the value that the store has.
        revision: of the environment afterwards.
        versions: remote name -> version that was read; no other version may be overwritten.
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
        context: has the store.
        destination: reads the values.
        draft: the sync: its layout, its folder, and which side wins if both have a key.
        candidates: the objects that may be taken over.
        actor: who asked.
        instead: what to type in order to take them over without an import.

    Raises:
        InvalidInputError: a value is not a JSON object of keys (layout json), or a name in it is not a valid key.
        DestinationError: PermissionDeniedError names the action that reading needs. Nothing was imported.
    """
    place = (draft.app, draft.environment)
    before = {secret.key: secret.value for secret in context.store.secrets.list_secrets(*place, path=draft.path)}
    values: dict[str, SecretValue] = {}
    for candidate in candidates:
        try:
            values |= _read(destination, candidate, unless=before if draft.adopt is Adopt.PREFER_STORE else ())
        except InvalidInputError as error:
            whole = (
                f"phasesync secrets import {draft.app}/{draft.environment} --from-aws {candidate.remote_name} --key KEY"
            )
            hint = f"import it under a name: {whole} --credential {draft.credential}; or write over it: {instead}"
            raise InvalidInputError(f"{candidate.remote_name}: {error.message}", hint=hint) from None
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
        versions={found.remote_name: found.version for found in candidates if found.version is not None},
    )


def _read(destination: Destination, found: ForeignObject, *, unless: Container[str]) -> dict[str, SecretValue]:
    """Return the values of a remote object by key; nothing if it holds one key and that key is in `unless`."""
    if found.version is None or found.key in unless:
        return {}
    value = destination.read_value(found.observed.arn)
    if value is None:
        return {}
    if found.key is not None:
        return {found.key: as_literal(value)}
    return {check_key(key): member for key, member in split_json(value).items()}
