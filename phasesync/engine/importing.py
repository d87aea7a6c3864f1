"""Reads one remote value, on an operator's word, to bring it into the store. The daemon never does."""

from phasesync.core.model import SecretValue
from phasesync.errors import IllegalTransitionError, NotFoundError
from phasesync.ports import CredentialStore, Destinations


def read_remote(
    destinations: Destinations,
    credentials: CredentialStore,
    *,
    kind: str,
    credential: str,
    region: str | None,
    remote_name: str,
) -> SecretValue:
    """
    Return the current value of a remote object.

    Args:
        destinations: opens the destination.
        credentials: has the credential.
        kind: destination kind.
        credential: name of the credential; its policy needs the right to read values.
        region: None = the credential's.
        remote_name: name or ARN.

    Raises:
        NotFoundError: the credential, or the object.
        IllegalTransitionError: the object is scheduled for deletion, or has no value.
        PermissionDeniedError: names the action that reading needs.
    """
    found = credentials.get(credential)
    destination = destinations.open(kind, found, region or found.region)
    seen = destination.observe(remote_name)
    if seen is None:
        raise NotFoundError(
            f"there is no secret {remote_name} in {region or found.region}",
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
    return value
