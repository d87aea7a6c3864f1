"""How we authenticate to AWS, as a frozen value. It asks AWS nothing and keeps its secrets out of its repr."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from phasesync.core.model import SecretValue


class CredentialType(StrEnum):
    """How a credential authenticates to AWS."""

    ASSUME_ROLE = "assume-role"
    ACCESS_KEY = "access-key"
    AMBIENT = "ambient"
    """The default chain of the AWS SDK: instance role, web identity, environment, profile."""


class CredentialStatus(StrEnum):
    """What is known of a credential."""

    INCOMPLETE = "incomplete"
    """assume-role without a role ARN: the External ID exists, the role does not yet."""
    UNVERIFIED = "unverified"
    VERIFIED = "verified"
    REJECTED = "rejected"


@dataclass(frozen=True, kw_only=True)
class Credential:
    """
    How we authenticate to AWS.

    Attributes:
        version: grows with every change; part of the key under which clients and sessions are cached.
        account: the pinned 12-digit AWS account, None until something has pinned it.
        source_id: id of the credential whose identity assumes the role; None = the default chain.
        external_id: None for a role without one, and for other types.
        used_by: names of the syncs and dynamic secrets that use it.
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
