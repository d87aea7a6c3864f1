"""IAM documents for one credential, and the lines that put them in place."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from phasesync.adapters.aws.least_privilege import grant_of, policy_of
from phasesync.adapters.aws.policies import (
    Document,
    principal_of,
    setup_commands,
    sync_policy,
    trust_policy,
    update_trust_command,
)
from phasesync.adapters.destinations import spec_of
from phasesync.core.arns import check_role_arn
from phasesync.core.credential import Credential
from phasesync.core.sync import Sync
from phasesync.errors import DestinationError, InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application

UNKNOWN_PRINCIPAL = "arn:aws:iam::111122223333:role/WHO-ASSUMES-IT"
"""Stands in a trust policy where nobody could say who assumes the role."""


def syncs_for_policy(application: "Application", name: str | None, credential: str | None) -> list[Sync]:
    """
    Return the syncs that one policy is for: they write with the same credential.

    Args:
        application: has the syncs.
        name: of one sync; None = all.
        credential: those that write with it; None = there is one credential only.

    Raises:
        NotFoundError: there is none.
        InvalidInputError: they write with several credentials, each of which needs a policy of its own.
    """
    if name is not None:
        return [application.state.get_sync(name)]
    syncs = application.state.list_syncs()
    if credential is not None:
        wanted = application.credentials.get(credential).id
        syncs = [sync for sync in syncs if sync.credential_id == wanted]
    if not syncs:
        raise NotFoundError(
            "there are no syncs yet" if credential is None else f"no sync writes with the credential {credential}",
            hint="phasesync aws policy --starter sync prints the policy to begin with",
        )
    used = sorted({sync.credential for sync in syncs})
    if len(used) > 1:
        raise InvalidInputError(
            f"the syncs write with {len(used)} credentials, and each needs a policy of its own: {', '.join(used)}",
            hint=f"phasesync aws policy --all --credential {used[0]}",
        )
    return syncs


def policy_for(
    application: "Application", syncs: Sequence[Sync], *, kms_key: str | None, with_import: bool, sweep: bool
) -> Document:
    """
    Return the policy for exactly what some syncs do.

    Args:
        application: has what they wrote, and our instance.
        syncs: all write with one credential.
        kms_key: a key that is used although no sync names it.
        with_import: adds reading values.
        sweep: adds listing secrets.
    """
    grants = []
    for sync in syncs:
        state = application.state.state_of(sync.name)
        grant = grant_of(
            sync,
            spec_of(sync.destination_kind).actions,
            account=_account_of(sync, state.credential),
            journal=state.journal,
            kms_key=kms_key,
            with_import=with_import,
            sweep=sweep,
        )
        grants.append(grant)
    return policy_of(grants, instance_id=application.instance_id)


def _account_of(sync: Sync, credential: Credential) -> str | None:
    """Return the account that a sync writes to, as far as it is known before its first run."""
    if sync.account or credential.account:
        return sync.account or credential.account
    return check_role_arn(credential.role_arn) if credential.role_arn else None


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
            "Once there are syncs, this prints the narrower policy for exactly them: "
            f"phasesync aws policy --all --credential {credential.name}",
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
