"""
The role that phasesync assumes: its trust policy, and the `aws iam` lines that create it.

Asks AWS nothing: a role's path, which only IAM knows, is an argument or a note.
"""

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any, Final

from phasesync.core.iam.document import VERSION, Document
from phasesync.core.regions import partition_of

_ROLE_SESSION: Final = re.compile(
    r"arn:(?P<partition>[a-z0-9-]+):sts::(?P<account>\d{12}):assumed-role/(?P<role>[^/]+)/.+"
)
_SSO_ROLE: Final = "AWSReservedSSO_"


def trust_policy(*, principal_arn: str, external_id: str | None) -> Document:
    """
    Return the trust policy of a role that phasesync assumes.

    Args:
        principal_arn: who assumes it, as `principal_of` returns it.
        external_id: the condition that keeps others from having us assume it; None: no condition.
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
    # without sts:TagSession (EKS User Guide, EKS Pod Identity; IAM User Guide, session tags and role chaining). An ARN
    # does not show such a session. Who may not assume the role gains nothing by the statement, so it is always there.
    tag = {"Sid": "ItsSessionsMayHaveTags", "Effect": "Allow", "Principal": principal, "Action": "sts:TagSession"}
    return {"Version": VERSION, "Statement": [assume, tag]}


def principal_of(identity_arn: str) -> str:
    """
    Return the ARN that a trust policy should name for an identity: for a session of a role, the role.

    The ARN of a session does not carry the path of its role, so a role with a path comes out without it: see
    `role_of_session`. The roles of IAM Identity Center always have one; for them this returns their account, which AWS
    accepts for everyone in it.
    """
    session = _ROLE_SESSION.fullmatch(identity_arn)
    if session is None:
        return identity_arn
    prefix = f"arn:{session['partition']}:iam::{session['account']}"
    return f"{prefix}:root" if session["role"].startswith(_SSO_ROLE) else f"{prefix}:role/{session['role']}"


def role_of_session(identity_arn: str) -> str | None:
    """
    Return the name of a session's role; None if it is no session, or if its principal needs no path.

    Such a role may have a path, which only IAM reports (IAM User Guide, IAM identifiers; API reference, GetRole).
    """
    session = _ROLE_SESSION.fullmatch(identity_arn)
    return None if session is None or session["role"].startswith(_SSO_ROLE) else session["role"]


def path_note(role: str) -> str:
    """Return the note about a principal if the path of its role is not known."""
    return (
        f"the ARN of a session does not show the path of its role: if {role} has one, put the ARN that "
        f"aws iam get-role --role-name {shlex.quote(role)} --query Role.Arn --output text prints in its place"
    )


def unknown_principal(region: str) -> str:
    """Return the placeholder in a trust policy if it is not known who assumes the role."""
    return f"arn:{partition_of(region)}:iam::111122223333:role/WHO-ASSUMES-IT"


def setup_commands(
    *, name: str, region: str, policy: Mapping[str, Any], trust: Mapping[str, Any], account: str | None = None
) -> list[str]:
    """
    Return the lines that create the policy and the role in the account of the secrets, ready to be pasted.

    Args:
        name: of both the policy and the role.
        region: gives the partition.
        policy: what the role may do.
        trust: who may assume it.
        account: the 12-digit account; None: the AWS command line looks it up.
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


def _argument(document: Mapping[str, Any]) -> str:
    """Return a document as one argument of a shell."""
    return shlex.quote(json.dumps(document, separators=(",", ":")))
