"""
The table of rate limits: which calls of AWS share a quota of calls per second, and how many it allows.

Data only. The figures are AWS's own, except those of IAM. `core/token_bucket.py` decides how much of a quota we use.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class RateGroup:
    """
    Calls that share one quota.

    Attributes:
        name: unique.
        per_second: calls per second that AWS allows an account.
        actions: IAM actions of the calls.
        region: where a service without Regions (IAM) counts them; None if they are counted in each Region separately.
    """

    name: str
    per_second: int
    actions: tuple[str, ...]
    region: str | None = None


def _secrets_manager(name: str, per_second: int, *operations: str) -> RateGroup:
    return RateGroup(
        name=f"secretsmanager:{name}",
        per_second=per_second,
        actions=tuple(f"secretsmanager:{operation}" for operation in operations),
    )


SECRETS_MANAGER: Final = (
    _secrets_manager(
        "write",
        50,
        "PutSecretValue",
        "UpdateSecret",
        "UpdateSecretVersionStage",
        "ReplicateSecretToRegions",
        "RemoveRegionsFromReplication",
        "StopReplicationToReplica",
    ),
    _secrets_manager("create", 50, "CreateSecret"),
    _secrets_manager("delete", 50, "DeleteSecret"),
    _secrets_manager("restore", 50, "RestoreSecret"),
    _secrets_manager("tag", 50, "TagResource", "UntagResource"),
    _secrets_manager(
        "policy", 50, "GetResourcePolicy", "PutResourcePolicy", "DeleteResourcePolicy", "ValidateResourcePolicy"
    ),
    _secrets_manager("rotate", 50, "RotateSecret", "CancelRotateSecret"),
    _secrets_manager("versions", 50, "ListSecretVersionIds"),
    _secrets_manager("password", 50, "GetRandomPassword"),
    _secrets_manager("list", 100, "ListSecrets"),
    _secrets_manager("read-many", 100, "BatchGetSecretValue"),
    _secrets_manager("read", 10_000, "GetSecretValue"),
    _secrets_manager("describe", 40_000, "DescribeSecret"),
)
"""Secrets Manager: calls per second of an account in a Region, none adjustable, throttled in the caller's account
(User Guide, "AWS Secrets Manager quotas")."""

STS: Final = (
    RateGroup(
        name="sts",
        per_second=600,
        actions=("sts:AssumeRole", "sts:GetCallerIdentity"),
    ),
)
"""STS: requests per second of an account in a Region, shared by these calls (IAM User Guide, IAM and STS quotas)."""

KMS: Final = (RateGroup(name="kms:describe", per_second=2_000, actions=("kms:DescribeKey",)),)
"""KMS: DescribeKey of an account in a Region (KMS Developer Guide, request quotas)."""

_IAM_WRITES: Final = (
    "AddUserToGroup",
    "AttachUserPolicy",
    "CreateAccessKey",
    "CreateUser",
    "DeactivateMFADevice",
    "DeleteAccessKey",
    "DeleteLoginProfile",
    "DeleteServiceSpecificCredential",
    "DeleteSigningCertificate",
    "DeleteSSHPublicKey",
    "DeleteUser",
    "DeleteUserPolicy",
    "DeleteVirtualMFADevice",
    "DetachUserPolicy",
    "PutUserPolicy",
    "RemoveUserFromGroup",
    "TagUser",
)
_IAM_READS: Final = (
    "GetAccessKeyLastUsed",
    "GetGroup",
    "GetPolicy",
    "GetRole",
    "GetUser",
    "ListAccessKeys",
    "ListAttachedUserPolicies",
    "ListGroupsForUser",
    "ListMFADevices",
    "ListServiceSpecificCredentials",
    "ListSigningCertificates",
    "ListSSHPublicKeys",
    "ListUserPolicies",
    "ListUsers",
)

IAM: Final = tuple(
    RateGroup(
        name=f"iam:{name}",
        per_second=20,
        actions=tuple(f"iam:{operation}" for operation in operations),
        region="global",
    )
    for name, operations in (("write", _IAM_WRITES), ("read", _IAM_READS))
)
"""IAM: AWS throttles by buckets and does not publish their figures (AWS Security Blog, "How to monitor and query IAM
resources at scale", part 2). 20 is our own assumption; throttling slows it down. IAM has no Regions."""

SNS: Final = (RateGroup(name="sns:publish", per_second=300, actions=("sns:Publish",)),)
"""SNS: Publish of an account in a Region; this is the least of all Regions (AWS General Reference, SNS quotas)."""

S3: Final = (
    RateGroup(
        name="s3",
        per_second=3_500,
        actions=("s3:PutObject", "s3:GetObject", "s3:DeleteObject", "s3:ListBucket", "s3:AbortMultipartUpload"),
    ),
)
"""S3: writes to one prefix; reads may be more (S3 User Guide, optimizing performance)."""

RATE_GROUPS: Final = (*SECRETS_MANAGER, *STS, *KMS, *IAM, *SNS, *S3)
"""All groups."""
