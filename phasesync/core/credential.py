"""
A credential for AWS, as a frozen value, and AWS's rules for its parts: External ID, access key, account. Pure.

No secret is in a repr. A message never repeats refused input, because it may be a secret key in the wrong place.
"""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from phasesync.core.model import SecretValue
from phasesync.core.remote import CallerIdentity
from phasesync.errors import AccountMismatchError, InvalidInputError


class CredentialType(StrEnum):
    """How a credential authenticates to AWS."""

    ASSUME_ROLE = "assume-role"
    ACCESS_KEY = "access-key"
    AMBIENT = "ambient"
    """The default chain of the AWS SDK: instance role, web identity, environment, profile."""


class CredentialStatus(StrEnum):
    """State of a credential."""

    INCOMPLETE = "incomplete"
    """assume-role without a role ARN: the External ID exists, the role does not yet."""
    UNVERIFIED = "unverified"
    VERIFIED = "verified"
    REJECTED = "rejected"


USERS_SHOWN: Final = 100
"""Names of users that a credential is read with: a whole account may use one."""


@dataclass(frozen=True, kw_only=True)
class Credential:
    """
    How phasesync authenticates to AWS.

    Attributes:
        version: grows with every change; part of the key under which clients and sessions are cached.
        account: the pinned 12-digit AWS account, None until it is pinned.
        source_id: id of the credential that assumes the role; None if the default chain does.
        external_id: None for a role without one, and for other types.
        used_by: names of the first syncs and dynamic secrets that use it, up to `USERS_SHOWN`.
        used_by_count: how many syncs and dynamic secrets use it.
    """

    id: str
    name: str
    type: CredentialType
    region: str
    version: int
    status: CredentialStatus
    account: str | None
    role_arn: str | None
    external_id: str | None = field(repr=False)
    source_id: str | None
    source_name: str | None = None
    access_key_id: str | None = field(repr=False)
    secret_access_key: SecretValue | None = field(repr=False)
    created_at: datetime
    verified_at: datetime | None
    used_by: tuple[str, ...] = ()
    used_by_count: int = 0


def daemon_identity(region: str) -> Credential:
    """Return the default chain of the AWS SDK as a credential that no store has: the identity of the process."""
    return Credential(
        id="",
        name="the identity of the daemon",
        type=CredentialType.AMBIENT,
        region=region,
        version=0,
        status=CredentialStatus.UNVERIFIED,
        account=None,
        role_arn=None,
        external_id=None,
        source_id=None,
        access_key_id=None,
        secret_access_key=None,
        created_at=datetime.fromtimestamp(0, UTC),
        verified_at=None,
    )


_EXTERNAL_ID: Final = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)
"""API reference of STS, AssumeRole, ExternalId."""
_KEY_ID: Final = re.compile(r"\w{16,128}", re.ASCII)
"""API reference of IAM, AccessKey: 16 to 128 characters of \\w."""
_SECRET_KEY: Final = re.compile(rb"[!#-&(-_a-~]+")
"""Keys from AWS have letters, digits, / and +. Quotes are refused: they come from a copied file."""
_NAMED: Final = re.compile(rb"(?i)[a-z_ ]*secret[a-z_ ]*[=:]")
"""A key with its name, as in files and consoles: `aws_secret_access_key=`."""
_OTHER_IDS: Final = {
    "ABIA": "a bearer token",
    "ACCA": "a context",
    "AGPA": "a group",
    "AIDA": "a user",
    "AIPA": "an instance profile",
    "ANPA": "a managed policy",
    "ANVA": "a version of a policy",
    "APKA": "a public key",
    "AROA": "a role",
    "ASCA": "a certificate",
}
"""Prefix -> kind of the object with such an id (IAM User Guide, IAM identifiers, unique ID prefixes)."""
_TEMPORARY: Final = "ASIA"
_ACCOUNT: Final = re.compile(r"[0-9]{12}")


def check_external_id(external_id: str) -> str:
    """Return an External ID as it is. InvalidInputError."""
    if _EXTERNAL_ID.fullmatch(external_id):
        return external_id
    if not external_id:
        raise InvalidInputError(
            "an External ID is not empty", hint="for a role without one: --no-external-id, in place of --external-id"
        )
    rule = "has 2 to 1,224 characters"
    if 2 <= len(external_id) <= 1224:
        rule = "has letters and digits without accents, and _ + = , . @ : / -, and no spaces"
    raise InvalidInputError(
        f"an External ID {rule} (AWS STS, AssumeRole)",
        hint="give the one of the role's trust policy; credentials add makes a new one where --external-id is left out",
    )


def check_access_key_id(access_key_id: str) -> str:
    """
    Return the id of an access key without white space around it. InvalidInputError.

    Temporary keys are refused: they end within hours, and without their session token AWS refuses them now.
    """
    key_id = access_key_id.strip()
    if _KEY_ID.fullmatch(key_id) is None:
        raise InvalidInputError(
            "that is not an access key id: it has 16 to 128 letters and digits",
            hint="an access key id looks like AKIAIOSFODNN7EXAMPLE; aws iam list-access-keys prints a user's",
        )
    if key_id.startswith(_TEMPORARY):
        raise InvalidInputError(
            "that is the id of temporary keys (ASIA...), which need a session token and end within hours",
            hint="give the key of an IAM user (AKIA...); or add --type ambient, which takes temporary keys from the "
            "environment, a profile or a process, and renews them",
        )
    if (other := _OTHER_IDS.get(key_id[:4])) is not None:
        raise InvalidInputError(
            f"that is the id of {other}, not of an access key ({key_id[:4]}...)",
            hint="an access key id begins with AKIA; aws iam list-access-keys prints a user's",
        )
    return key_id


def check_secret_access_key(secret: SecretValue) -> SecretValue:
    """Return a secret access key without white space around it. InvalidInputError, which never repeats the key."""
    key = secret.reveal().strip()
    if _SECRET_KEY.fullmatch(key) is None or _NAMED.match(key):
        raise InvalidInputError(
            "that is not a secret access key: it has a name, quotes, white space, or characters that AWS never uses"
            if key
            else "there is no secret access key",
            hint="give the key alone, 40 characters, without its name and without quotes",
        )
    return SecretValue(key)


def check_account(account: str) -> str:
    """Return the id of an AWS account as it is. InvalidInputError."""
    if _ACCOUNT.fullmatch(account) is None:
        raise InvalidInputError(
            f"{account[:40]!r} is not the id of an AWS account",
            hint="it has 12 digits; aws sts get-caller-identity --query Account --output text prints one",
        )
    return account


@dataclass(frozen=True, kw_only=True)
class CredentialDraft:
    """What an operator says of a credential; fields that its type does not have stay None."""

    type: CredentialType
    region: str
    role_arn: str | None = None
    external_id: str | None = None
    source_name: str | None = None
    access_key_id: str | None = None
    secret_access_key: SecretValue | None = None


@dataclass(frozen=True, kw_only=True)
class CredentialReport:
    """
    What a test of a credential found.

    Attributes:
        identity: who AWS says we are with it.
        base: who assumes the role, None for other types.
        findings: what should be corrected, as lines for the operator; empty = nothing.
        open_without_external_id: the role can also be assumed without the External ID; None if not applicable.
        tried: the calls that AWS answered, as IAM actions, in their order.
    """

    identity: CallerIdentity
    base: CallerIdentity | None
    findings: tuple[str, ...]
    open_without_external_id: bool | None
    tried: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Principal:
    """
    Who a trust policy should name.

    Attributes:
        arn: of a role, a user or an account.
        role: name of a role with an unknown path: `arn` is right only if the role has no path. None if `arn` is right.
    """

    arn: str
    role: str | None


def require_account(credential: Credential, account: str, *pinned: str | None) -> str:
    """
    Return the account that a credential leads to, so that an edited role never writes everything anew elsewhere.

    Args:
        credential: that was used; it may be pinned to an account.
        account: that it leads to.
        pinned: further accounts that it must be.

    Raises:
        AccountMismatchError: the credential or `pinned` names another account.
    """
    for expected in (*pinned, credential.account):
        if expected is not None and expected != account:
            raise AccountMismatchError(
                f"the credential {credential.name} now leads to account {account}, pinned is {expected}",
                hint=f"correct the credential, or accept the account: phasesync credentials update "
                f"{credential.name} --account {account}",
            )
    return account
