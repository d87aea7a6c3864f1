"""
IAM documents and the `aws iam` lines that put them in place, as plain values.

Pure: asks AWS nothing, knows no store. Must not grant what the job at hand does not need.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

from phasesync.core.arns import region_of_key
from phasesync.core.regions import dns_suffix_of, partition_of

Document = dict[str, Any]
"""An IAM policy document, or a statement of one."""

VERSION: Final = "2012-10-17"
"""Of the policy language (IAM User Guide, policy elements)."""

SYNC_ACTIONS: Final = (
    "secretsmanager:CreateSecret",
    "secretsmanager:DescribeSecret",
    "secretsmanager:PutSecretValue",
    "secretsmanager:RestoreSecret",
    "secretsmanager:TagResource",
    "secretsmanager:UntagResource",
    "secretsmanager:UpdateSecret",
)
"""What a sync calls. No right to read a value is among them, and none to delete."""

IMPORT_ACTIONS: Final = ("secretsmanager:GetSecretValue",)
"""What reading values for an import needs in addition."""

LIST_ACTIONS: Final = ("secretsmanager:ListSecrets",)
"""Takes no resource: IAM allows it on `*` only (User Guide, permissions for ListSecrets)."""

DELETE_ACTIONS: Final = ("secretsmanager:DeleteSecret", "secretsmanager:RemoveRegionsFromReplication")
"""A secret with copies cannot be deleted: the copies go first (User Guide, delete a secret)."""

REPLICATE_ACTIONS: Final = (
    "secretsmanager:RemoveRegionsFromReplication",
    "secretsmanager:ReplicateSecretToRegions",
)
"""Making and removing copies in other Regions; both are calls on the primary, in its Region."""

RESOURCE_POLICY_ACTIONS: Final = (
    "secretsmanager:GetResourcePolicy",
    "secretsmanager:PutResourcePolicy",
    "secretsmanager:ValidateResourcePolicy",
)
"""Comparing, checking and replacing a resource policy."""

KEY_ACTIONS: Final = ("kms:DescribeKey",)
"""What we ask KMS ourselves, to find the ARN of a key that is named by id or alias."""

KMS_ACTIONS: Final = ("kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey")
"""
Rights on a customer-managed key that Secrets Manager uses in our name (User Guide, encryption in Secrets Manager): it
checks access with GenerateDataKey and Decrypt when a key is set, and encrypts under a new key with Encrypt. So a role
that only writes needs Decrypt as well.
"""

COPY_ACTIONS: Final = ("kms:Encrypt",)
"""
Right on the key of a copy in another account, which AWS uses in the name of whoever writes the primary, unless a role
replicates (User Guide, how Secrets Manager authorizes cross-account replication). The primary is opened with its own
key, for which `KMS_ACTIONS` has kms:Decrypt.
"""

_ROLE_SESSION: Final = re.compile(
    r"arn:(?P<partition>[a-z0-9-]+):sts::(?P<account>\d{12}):assumed-role/(?P<role>[^/]+)/.+"
)
_SSO_ROLE: Final = "AWSReservedSSO_"


def sync_policy(
    *,
    region: str | None,
    kms_key_arn: str | None = None,
    with_import: bool = False,
    sweep: bool = True,
    names: Sequence[str] = (),
) -> Document:
    """
    Return the policy of a role that syncs write with.

    Args:
        region: the Region that the secrets are in; tells the partition too. None = every one of the partition `aws`.
        kms_key_arn: the customer-managed key that encrypts them, None = the AWS-managed key, which needs no right.
        with_import: adds reading and listing, for an import.
        sweep: adds listing, in a statement of its own: without it drift is found all the same, with more calls.
        names: names of the secrets that it may touch; empty = every secret of the account in that Region.
    """
    anything = f"arn:{partition_of(region or '')}:secretsmanager:{region or '*'}:*:secret:*"
    secrets = [secret_arn(name, region=region or "*", account=None) for name in names] or [anything]
    statements = [allow("WriteSecrets", SYNC_ACTIONS, secrets)]
    if with_import:
        statements.append(allow("ReadSecretsForImport", IMPORT_ACTIONS, secrets))
    if kms_key_arn is not None:
        through = {"StringEquals": {"kms:ViaService": service_of(region or region_of_key(kms_key_arn))}}
        statements.append(allow("EncryptSecrets", KMS_ACTIONS, [kms_key_arn], through))
        statements.append(allow("FindKey", KEY_ACTIONS, [kms_key_arn]))
    if sweep or with_import:
        here = None if region is None else {"StringEquals": {"aws:RequestedRegion": region}}
        statements.append(allow("ListSecrets", LIST_ACTIONS, ["*"], here))
    return {"Version": VERSION, "Statement": statements}


def trust_policy(*, principal_arn: str, external_id: str | None) -> Document:
    """
    Return the trust policy of a role that phasesync assumes.

    Args:
        principal_arn: who assumes it, as `principal_of` returns it.
        external_id: the condition that keeps others from having us assume it; None = no condition.
    """
    principal = {"AWS": principal_arn}
    assume: Document = {
        "Sid": "PhasesyncAssumesThisRole",
        "Effect": "Allow",
        "Principal": principal,
        "Action": "sts:AssumeRole",
    }
    if external_id is not None:
        assume["Condition"] = {"StringEquals": {"sts:ExternalId": external_id}}
    # A session of EKS Pod Identity has tags that go on to the sessions that it opens: then AssumeRole is refused
    # without sts:TagSession (EKS User Guide, EKS Pod Identity; IAM User Guide, session tags and role chaining). Nothing
    # in an ARN tells such a session, and whoever may not assume the role gains nothing by it, so it is always there.
    tag = {"Sid": "ItsSessionsMayHaveTags", "Effect": "Allow", "Principal": principal, "Action": "sts:TagSession"}
    return {"Version": VERSION, "Statement": [assume, tag]}


def principal_of(identity_arn: str) -> str:
    """
    Return the ARN that a trust policy should name for an identity: for a session of a role, the role.

    The ARN of a session does not carry the path of its role, so a role with a path comes out without it: see
    `role_of_session`. The roles of IAM Identity Center always have one; for them this returns their account, which AWS
    accepts for everybody in it.
    """
    session = _ROLE_SESSION.fullmatch(identity_arn)
    if session is None:
        return identity_arn
    prefix = f"arn:{session['partition']}:iam::{session['account']}"
    return f"{prefix}:root" if session["role"].startswith(_SSO_ROLE) else f"{prefix}:role/{session['role']}"


def role_of_session(identity_arn: str) -> str | None:
    """
    Return the name of the role that a session is of, None where it is no session, or its principal needs no path.

    Such a role may have a path, which only IAM tells (IAM User Guide, IAM identifiers; API reference, GetRole).
    """
    session = _ROLE_SESSION.fullmatch(identity_arn)
    return None if session is None or session["role"].startswith(_SSO_ROLE) else session["role"]


def path_note(role: str) -> str:
    """Return what is to be said of the principal of a role whose path nobody could be asked for."""
    return (
        f"the ARN of a session does not show the path of its role: if {role} has one, put the ARN that "
        f"aws iam get-role --role-name {shlex.quote(role)} --query Role.Arn --output text prints in its place"
    )


def unknown_principal(region: str) -> str:
    """Return what stands in a trust policy where nobody could say who assumes the role."""
    return f"arn:{partition_of(region)}:iam::111122223333:role/WHO-ASSUMES-IT"


def setup_commands(
    *, name: str, region: str, policy: Mapping[str, Any], trust: Mapping[str, Any], account: str | None = None
) -> list[str]:
    """
    Return the lines that make the policy and the role in the account the secrets are in, ready to be pasted.

    Args:
        name: name of both the policy and the role.
        region: tells the partition.
        policy: what the role may do.
        trust: who may assume it.
        account: the 12-digit account; None has the AWS command line tell it.
    """
    # The account is looked up by the shell, so that part stands in double quotes.
    number = account or "$(aws sts get-caller-identity --query Account --output text)"
    policy_arn = f'"arn:{partition_of(region)}:iam::{number}:policy/{name}"'
    quoted = shlex.quote(name)
    return [
        f"aws iam create-policy --policy-name {quoted} --policy-document {_argument(policy)}",
        f"aws iam create-role --role-name {quoted} --assume-role-policy-document {_argument(trust)}",
        f"aws iam attach-role-policy --role-name {quoted} --policy-arn {policy_arn}",
    ]


def leases_command(*, role: str, region: str) -> str:
    """Return the line that gives a role what dynamic secrets need; inline, where 10,240 characters fit (IAM quotas)."""
    return (
        f"aws iam put-role-policy --role-name {shlex.quote(role)} --policy-name phasesync-leases --policy-document "
        f'"$(phasesync aws policy --starter dynamic --region {region})"'
    )


def update_trust_command(*, role_arn: str, trust: Mapping[str, Any]) -> str:
    """Return the line that replaces the whole trust policy of a role."""
    return (
        f"aws iam update-assume-role-policy --role-name {shlex.quote(role_name(role_arn))} "
        f"--policy-document {_argument(trust)}"
    )


def role_name(role_arn: str) -> str:
    """Return the name of a role, without its path."""
    return role_arn.rpartition("/")[2]


def allow(
    sid: str, actions: Sequence[str], resources: Sequence[str], condition: Mapping[str, Any] | None = None
) -> Document:
    """Return a statement. `condition` None = none."""
    statement: Document = {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": list(resources)}
    return statement if condition is None else statement | {"Condition": dict(condition)}


def service_of(region: str) -> str:
    """Return what `kms:ViaService` says of a call that Secrets Manager makes in a Region in our name."""
    return f"secretsmanager.{region}.{dns_suffix_of(region)}"


def secret_arn(pattern: str, *, region: str, account: str | None) -> str:
    """
    Return the ARN that matches the secrets of a name.

    Args:
        pattern: the name, with a star for what is not known.
        region: tells the partition too.
        account: 12 digits; None = any.
    """
    # An ARN ends in six random characters; six question marks match exactly those, a star would match longer names.
    return f"arn:{partition_of(region)}:secretsmanager:{region}:{account or '*'}:secret:{pattern}-??????"


def _argument(document: Mapping[str, Any]) -> str:
    """Return a document as one argument of a shell."""
    return shlex.quote(json.dumps(document, separators=(",", ":")))
