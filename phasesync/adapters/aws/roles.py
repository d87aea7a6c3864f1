"""
What STS is asked: a session of a role, and who we are; and IAM, where a role is. Knows no cache, no clock, and not how
a client is made.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from phasesync.adapters.aws.keys import Keys, are_sendable
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
"""A role assumed with the session of another role lives one hour at most (STS, AssumeRole: role chaining), and one hour
is what every role allows by default."""
ASSUME_ROLE: Final = "sts:AssumeRole"
GET_CALLER_IDENTITY: Final = "sts:GetCallerIdentity"
GET_ROLE: Final = "iam:GetRole"
MAX_CHAIN: Final = 8
"""Roles assumed one after the other; more is a mistake."""

_NOT_IN_SESSION_NAME: Final = re.compile(r"[^A-Za-z0-9_+=,.@-]")
"""RoleSessionName: 2 to 64 of these characters (STS, AssumeRole)."""


@dataclass(frozen=True, kw_only=True)
class AssumedRole(Keys):
    """A session of a role, as AssumeRole answered."""

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
    Ask STS for a session of a credential's role.

    Args:
        client: STS, as who assumes the role.
        credential: of type assume-role.
        slot: the leave to make this call.
        instance_id: our instance; its first 8 characters stand in AWS's logs as part of the session's name.
        with_external_id: False leaves the External ID out, to see whether the role asks for it.

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
    answer = invoke(lambda: client.assume_role(**request), action=ASSUME_ROLE, write=False, throttled=slot.throttled)
    return assumed_role(answer)


def refuse_cycle(credential: Credential, source_of: Callable[[str], Credential]) -> None:
    """
    Refuse a chain of source credentials that leads back to itself or has no end in sight.

    Raises:
        CredentialRejectedError: it names the chain.
    """
    seen, names = [credential.id], [credential.name]
    source_id = credential.source_id
    while source_id is not None:
        source = source_of(source_id)
        names.append(source.name)
        if source.id in seen or len(seen) > MAX_CHAIN:
            raise CredentialRejectedError(
                f"the source credentials do not come to an end: {' -> '.join(names)}",
                hint=f"phasesync credentials update {credential.name} --source ANOTHER",
            )
        seen.append(source.id)
        source_id = source.source_id


def caller_identity(client: "STSClient", slot: Slot) -> CallerIdentity:
    """Ask STS who a client is; needs no permission. CredentialRejectedError."""
    answer = invoke(client.get_caller_identity, action=GET_CALLER_IDENTITY, write=False, throttled=slot.throttled)
    return CallerIdentity(account=_told(answer, "Account"), arn=_told(answer, "Arn"))


def role_arn(client: "IAMClient", role: str, slot: Slot) -> str:
    """Ask IAM for the ARN of a role of the caller's account, path included. DestinationError."""
    answer = invoke(lambda: client.get_role(RoleName=role), action=GET_ROLE, write=False, throttled=slot.throttled)
    return _told(answer.get("Role", {}), "Arn")


def incomplete(credential: Credential) -> CredentialRejectedError:
    """Return the error for a credential that lacks its role or its keys."""
    if credential.type is CredentialType.ASSUME_ROLE:
        lacks, option = "no role yet", "--role-arn ARN"
    else:
        lacks, option = "no access key", "--access-key-id ID"
    return CredentialRejectedError(
        f"the credential {credential.name} is incomplete: it has {lacks}",
        hint=f"phasesync credentials update {credential.name} {option}",
    )


def session_name(instance_id: str, credential_name: str) -> str:
    """Return a RoleSessionName that leads from AWS's logs to our instance and credential: 64 characters at most."""
    return _NOT_IN_SESSION_NAME.sub("-", f"phasesync-{instance_id[:8]}-{credential_name}")[:64]


def assumed_role(answer: Any) -> AssumedRole:
    """Read the answer of AssumeRole; the account stands in the ARN of the assumed role."""
    keys = answer.get("Credentials", {})
    arn = _told(answer.get("AssumedRoleUser", {}), "Arn")
    expires_at = keys.get("Expiration")
    if not isinstance(expires_at, datetime):
        raise DestinationUnavailableError("sts:AssumeRole: a garbled answer")
    return AssumedRole(
        access_key_id=_told(keys, "AccessKeyId"),
        secret_access_key=_told(keys, "SecretAccessKey"),
        session_token=_told(keys, "SessionToken"),
        expires_at=expires_at.astimezone(UTC),
        identity=CallerIdentity(account=arn.split(":")[4] if arn.count(":") >= 5 else "", arn=arn),
    )


def _told(answer: Any, name: str) -> str:
    """Return a text that every answer of STS carries."""
    value = answer.get(name)
    if not isinstance(value, str) or not value:
        raise DestinationUnavailableError(f"STS gave an answer without {name}")
    return value
