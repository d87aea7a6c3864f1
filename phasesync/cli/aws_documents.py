"""IAM documents for one credential, and the lines that put them in place."""

import json
from typing import TYPE_CHECKING, Any

from phasesync.adapters.aws.policies import (
    principal_of,
    setup_commands,
    sync_policy,
    trust_policy,
    update_trust_command,
)
from phasesync.core.model import Credential
from phasesync.errors import DestinationError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application

UNKNOWN_PRINCIPAL = "arn:aws:iam::111122223333:role/WHO-ASSUMES-IT"
"""Stands in a trust policy where nobody could say who assumes the role."""


def trust_of(application: "Application", credential: Credential, principal: str | None) -> tuple[dict[str, Any], bool]:
    """
    Return the trust policy of a credential's role, and whether its principal is known.

    Args:
        application: asks AWS who would assume the role.
        credential: of type assume-role.
        principal: ARN; None asks AWS.
    """
    known = True
    if principal is None:
        try:
            principal = principal_of(application.tester.base_identity(credential).arn)
        except DestinationError:
            principal, known = UNKNOWN_PRINCIPAL, False
    return trust_policy(principal_arn=principal, external_id=credential.external_id), known


def setup_lines(application: "Application", credential: Credential) -> list[str]:
    """Return what an operator needs to make the role of a new credential, in the order of doing it."""
    trust, known = trust_of(application, credential, None)
    lines = [
        f"External ID: {credential.external_id or 'none'}",
        "Trust policy of the role:",
        json.dumps(trust, indent=2),
    ]
    if credential.role_arn is None:
        policy = sync_policy(region=credential.region)
        lines += [
            "Policy of the role:",
            json.dumps(policy, indent=2),
            "In the account that the secrets are in:",
            *setup_commands(name=f"phasesync-{credential.name}", region=credential.region, policy=policy, trust=trust),
        ]
    else:
        lines += [
            "Unless the role has it already (this replaces the role's whole trust policy):",
            update_trust_command(role_arn=credential.role_arn, trust=trust),
        ]
    if not known:
        lines.append(
            "Nobody could be asked who assumes the role: put the ARN of this host's identity (aws sts "
            "get-caller-identity) in the place of " + UNKNOWN_PRINCIPAL
        )
    elif credential.source_name is None:
        lines.append(
            "This trusts the identity of this shell. For a daemon that has another one: "
            f"phasesync aws trust-policy {credential.name} --principal ARN"
        )
    return lines
