"""
Sessions of roles: the calls of STS and IAM that open one, say who we are, and find the ARN of a role.

Knows no cache and no clock, and makes no clients.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from phasesync.adapters.aws.login import Keys, are_sendable
from phasesync.adapters.aws.rate_limiter import Slot
from phasesync.adapters.aws.sdk import invoke
from phasesync.core.credential import Credential, CredentialType
from phasesync.core.remote import CallerIdentity
from phasesync.errors import CredentialRejectedError, DestinationUnavailableError

if TYPE_CHECKING:
    from mypy_boto3_iam.client import IAMClient
    from mypy_boto3_sts.client import STSClient
    from mypy_boto3_sts.type_defs import AssumeRoleRequestTypeDef

SESSION_LIFETIME: Final = timedelta(hours=1)
"""A session that another role's session opens lives one hour at most (STS, AssumeRole: role chaining), and every role
allows one hour by default."""
ASSUME_ROLE: Final = "sts:AssumeRole"
GET_CALLER_IDENTITY: Final = "sts:GetCallerIdentity"
GET_ROLE: Final = "iam:GetRole"
MAX_CHAIN: Final = 8
"""Roles that are assumed one after the other; a longer chain is a mistake."""

_NOT_IN_SESSION_NAME: Final = re.compile(r"[^A-Za-z0-9_+=,.@-]")
"""RoleSessionName: 2 to 64 of these characters (STS, AssumeRole)."""


@dataclass(frozen=True, kw_only=True)
class AssumedRole(Keys):
    """The keys of a session of a role, with its identity."""

    session_token: str = field(repr=False)
    expires_at: datetime
    identity: CallerIdentity


def access_keys(credential: Credential) -> Keys:
    """Return the keys of a credential of type access-key. CredentialRejectedError."""
    if credential.access_key_id is None or credential.secret_access_key is None:
        raise incomplete(credential)
    secret = credential.secret_access_key.reveal().decode("utf-8", "replace")
    if not are_sendable(credential.access_key_id, secret):
        raise CredentialRejectedError(f"the access key of {credential.name} has characters that AWS never uses")
    return Keys(
        access_key_id=credential.access_key_id,
        secret_access_key=secret,
        session_token=None,
        expires_at=None,
    )


def assume_role(
    client: "STSClient", credential: Credential, slot: Slot, *, instance_id: str, with_external_id: bool = True
) -> AssumedRole:
    """
    Open a session of a credential's role at STS.

    Args:
        client: STS, as who assumes the role.
        credential: of type assume-role.
        slot: the right to make this call.
        instance_id: our instance; AWS's logs show its first 8 characters as part of the session's name.
        with_external_id: False omits the External ID, to find out whether the role requires it.

    Raises:
        CredentialRejectedError: AWS refuses, or the credential has no role yet.
    """
    role_arn = credential.role_arn
    if role_arn is None:
        raise incomplete(credential)
    request: AssumeRoleRequestTypeDef = {
        "RoleArn": role_arn,
        "RoleSessionName": session_name(instance_id, credential.name),
        "DurationSeconds": int(SESSION_LIFETIME.total_seconds()),
    }
    if with_external_id and credential.external_id:
        request["ExternalId"] = credential.external_id
    response = invoke(lambda: client.assume_role(**request), action=ASSUME_ROLE, write=False, throttled=slot.throttled)
    return assumed_role(response)


def refuse_cycle(credential: Credential, source_of: Callable[[str], Credential]) -> None:
    """
    Refuse a chain of source credentials that leads back to itself or is too long.

    Raises:
        CredentialRejectedError: it names the chain.
    """
    visited, names = [credential.id], [credential.name]
    source_id = credential.source_id
    while source_id is not None:
        source = source_of(source_id)
        names.append(source.name)
        if source.id in visited or len(visited) > MAX_CHAIN:
            raise CredentialRejectedError(
                f"the source credentials do not come to an end: {' -> '.join(names)}",
                hint=f"phasesync credentials update {credential.name} --source ANOTHER",
            )
        visited.append(source.id)
        source_id = source.source_id


def caller_identity(client: "STSClient", slot: Slot) -> CallerIdentity:
    """Return the identity of a client, fetched from STS; needs no permission. CredentialRejectedError."""
    response = invoke(client.get_caller_identity, action=GET_CALLER_IDENTITY, write=False, throttled=slot.throttled)
    return CallerIdentity(account=_required(response, "Account"), arn=_required(response, "Arn"))


def role_arn(client: "IAMClient", role: str, slot: Slot) -> str:
    """Return the ARN of a role of the caller's account, path included; fetched from IAM. DestinationError."""
    response = invoke(lambda: client.get_role(RoleName=role), action=GET_ROLE, write=False, throttled=slot.throttled)
    return _required(response.get("Role", {}), "Arn")


def incomplete(credential: Credential) -> CredentialRejectedError:
    """Return the error for a credential that lacks its role or its keys."""
    if credential.type is CredentialType.ASSUME_ROLE:
        missing, option = "no role yet", "--role-arn ARN"
    else:
        missing, option = "no access key", "--access-key-id ID"
    return CredentialRejectedError(
        f"the credential {credential.name} is incomplete: it has {missing}",
        hint=f"phasesync credentials update {credential.name} {option}",
    )


def session_name(instance_id: str, credential_name: str) -> str:
    """Return a RoleSessionName of at most 64 characters; with it AWS's logs lead to our instance and credential."""
    return _NOT_IN_SESSION_NAME.sub("-", f"phasesync-{instance_id[:8]}-{credential_name}")[:64]


def assumed_role(response: Any) -> AssumedRole:
    """Read a response of AssumeRole; the ARN of the assumed role has the account."""
    keys = response.get("Credentials", {})
    arn = _required(response.get("AssumedRoleUser", {}), "Arn")
    expires_at = keys.get("Expiration")
    if not isinstance(expires_at, datetime):
        raise DestinationUnavailableError("sts:AssumeRole: a garbled answer")
    return AssumedRole(
        access_key_id=_required(keys, "AccessKeyId"),
        secret_access_key=_required(keys, "SecretAccessKey"),
        session_token=_required(keys, "SessionToken"),
        expires_at=expires_at.astimezone(UTC),
        identity=CallerIdentity(account=arn.split(":")[4] if arn.count(":") >= 5 else "", arn=arn),
    )


def _required(response: Any, name: str) -> str:
    """Return a text that every response has. DestinationUnavailableError if it is missing."""
    value = response.get(name)
    if not isinstance(value, str) or not value:
        raise DestinationUnavailableError(f"STS gave an answer without {name}")
    return value
