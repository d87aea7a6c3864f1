"""IAM documents for one credential, and the lines that put them in place."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from phasesync.adapters.aws.dynamic_policies import Issuing, Live, dynamic_statements
from phasesync.adapters.aws.least_privilege import grant_of, policy_of
from phasesync.adapters.aws.policies import (
    Document,
    leases_command,
    path_note,
    setup_commands,
    sync_policy,
    trust_policy,
    unknown_principal,
    update_trust_command,
)
from phasesync.adapters.destinations import spec_of
from phasesync.core.arns import account_of, check_key_arn, check_partition, check_principal_arn, check_role_arn
from phasesync.core.credential import Credential
from phasesync.core.dynamic import DynamicSecret
from phasesync.core.lease import Lease
from phasesync.core.sync import Sync
from phasesync.errors import CiphertextError, DestinationError, InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application


@dataclass(frozen=True, kw_only=True)
class Covered:
    """
    What one policy is for: syncs and dynamic secrets of one credential.

    Attributes:
        leases: live ones that this credential made; of dynamic secrets that have another one by now too.
        elsewhere: names of the credentials that made the other live leases of these dynamic secrets.
    """

    syncs: tuple[Sync, ...] = ()
    dynamics: tuple[DynamicSecret, ...] = ()
    leases: tuple[Lease, ...] = ()
    elsewhere: tuple[str, ...] = ()


def covered_by(application: "Application", *, sync: str | None, dynamic: str | None, credential: str | None) -> Covered:
    """
    Return what one policy is for.

    Args:
        application: has the syncs and dynamic secrets.
        sync: name of one sync.
        dynamic: name of one dynamic secret; where neither is given, it is for all.
        credential: those that use it; None = there is one credential only.

    Raises:
        NotFoundError: there is none.
        InvalidInputError: they use several credentials, each of which needs a policy of its own.
    """
    if sync is not None:
        return Covered(syncs=(application.store.syncs.get_sync(sync),))
    if dynamic is not None:
        one = application.store.dynamics.get(dynamic)
        live = application.context.leases.list_leases(dynamic=dynamic)
        return Covered(
            dynamics=(one,),
            leases=tuple(lease for lease in live if lease.credential_id == one.credential_id),
            elsewhere=_credentials_of(application, live, but=one.credential),
        )
    syncs, dynamics = application.store.syncs.list_syncs(), application.store.dynamics.list_all()
    leases = application.context.leases.list_leases()
    if credential is not None:
        wanted = application.store.credentials.get(credential).id
        syncs = [one for one in syncs if one.credential_id == wanted]
        dynamics = [one for one in dynamics if one.credential_id == wanted]
        leases = [one for one in leases if one.credential_id == wanted]
    if not syncs and not dynamics and not leases:
        raise NotFoundError(
            "there are no syncs and no dynamic secrets yet"
            if credential is None
            else f"no sync and no dynamic secret uses the credential {credential}",
            hint="phasesync aws policy --starter sync prints the policy to begin with",
        )
    for one in dynamics:
        if one.error is not None:
            raise CiphertextError(one.error)
    made_by = _credentials_of(application, leases)
    used = sorted({*(one.credential for one in syncs), *(one.credential for one in dynamics), *made_by})
    if len(used) > 1:
        raise InvalidInputError(
            f"{len(used)} credentials are in use, and each needs a policy of its own: {', '.join(used)}",
            hint=f"phasesync aws policy --all --credential {used[0]}",
        )
    return Covered(syncs=tuple(syncs), dynamics=tuple(dynamics), leases=tuple(leases))


def _credentials_of(application: "Application", leases: Iterable[Lease], *, but: str | None = None) -> tuple[str, ...]:
    """Return the names of the credentials that made leases, without one of them."""
    made_by = {lease.credential_id for lease in leases}
    return tuple(sorted({application.store.credentials.get_by_id(one).name for one in made_by} - {but}))


def policy_for(
    application: "Application",
    covered: Covered,
    *,
    kms_key: str | None,
    copy_keys: Sequence[str] = (),
    with_import: bool,
    sweep: bool,
) -> Document:
    """
    Return the policy for exactly what some syncs and dynamic secrets do.

    Args:
        application: has what they wrote, and our instance.
        covered: all use one credential.
        kms_key: a key that is used although no sync names it.
        copy_keys: keys of other accounts that encrypt copies of the syncs' secrets there.
        with_import: adds reading values.
        sweep: adds listing secrets.
    """
    grants = []
    for sync in covered.syncs:
        state = application.store.syncs.state_of(sync.name)
        grant = grant_of(
            sync,
            spec_of(sync.destination_kind).actions,
            account=sync.account or _account_of(state.credential),
            journal=state.journal,
            kms_key=kms_key,
            copy_keys=copy_keys,
            with_import=with_import,
            sweep=sweep,
        )
        grants.append(grant)
    issuing, live = [], []
    for dynamic in covered.dynamics:
        credential = application.store.credentials.get_by_id(dynamic.credential_id)
        issuing.append(
            Issuing(
                config=dynamic.config,
                id=dynamic.id,
                name=dynamic.name,
                region=credential.region,
                account=_account_of(credential),
            )
        )
    for lease in covered.leases:
        credential = application.store.credentials.get_by_id(lease.credential_id)
        if lease.is_readable:  # Of one that was altered nobody knows what it is; the reaper finds its user.
            live.append(
                Live(spec=lease.spec, region=credential.region, account=lease.account or _account_of(credential))
            )
    more = dynamic_statements(issuing, instance_id=application.context.instance_id, live=live)
    return policy_of(grants, instance_id=application.context.instance_id, more=more)


def check_copy_keys(application: "Application", covered: Covered, keys: Iterable[str]) -> None:
    """Make sure that keys of copies are keys of other accounts, in the Region of a sync. InvalidInputError."""
    for key in keys:
        region = (key.split(":") + [""] * 4)[3]
        check_key_arn(key, region)
        here = [one for one in covered.syncs if one.region == region]
        if not here:
            raise InvalidInputError(
                f"--copy-key {key} is in {region}, and no sync of this policy writes there",
                hint="a copy in another account is in the same Region as its primary, and so is its key",
            )
        for sync in here:
            if account_of(key) == (sync.account or _account_of(application.store.syncs.state_of(sync.name).credential)):
                raise InvalidInputError(
                    f"--copy-key {key} is a key of the account that {sync.name} writes to",
                    hint=f"for a key of that account: phasesync aws policy {sync.name} --kms-key {key}",
                )


def _account_of(credential: Credential) -> str | None:
    """Return the account that a credential leads to, as far as it is known before it is first used."""
    return credential.account or (check_role_arn(credential.role_arn) if credential.role_arn else None)


def trust_of(
    application: "Application", credential: Credential, principal: str | None
) -> tuple[dict[str, Any], str | None]:
    """
    Return the trust policy of a credential's role, and what is not known of its principal, None where all is.

    Args:
        application: asks AWS who would assume the role.
        credential: of type assume-role.
        principal: ARN; None asks AWS.

    Raises:
        InvalidInputError: the principal is not the ARN of one, or of another partition than the role's.
    """
    note = None
    if principal is not None:
        check_partition(check_principal_arn(principal), credential.region)
    else:
        try:
            found = application.context.tester.principal(credential)
        except DestinationError:
            principal = unknown_principal(credential.region)
            note = (
                f"AWS could not be asked who assumes the role: put the ARN of the daemon's identity (aws sts "
                f"get-caller-identity) in the place of {principal}, or give it as phasesync aws trust-policy "
                f"{credential.name} --principal ARN"
            )
        else:
            principal = found.arn
            note = None if found.role is None else path_note(found.role)
    return trust_policy(principal_arn=principal, external_id=credential.external_id), note


@dataclass(frozen=True, kw_only=True)
class Setup:
    """
    What makes the role of a new credential.

    Attributes:
        trust: its trust policy.
        policy: its policy; None where the role is there already.
        commands: lines of the AWS command line, in the order of doing them.
        notes: what else there is to know, as sentences.
    """

    credential: Credential
    trust: Document
    policy: Document | None
    commands: tuple[str, ...]
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Return it as JSON shows it: what `jq` takes out is ready for `aws iam`."""
        return {
            "trust_policy": self.trust,
            "policy": self.policy,
            "commands": list(self.commands),
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """Return it as lines for a person."""
        lines = [
            f"External ID: {self.credential.external_id or 'none'}",
            f"Trust policy of the role (phasesync aws trust-policy {self.credential.name} prints it alone):",
            json.dumps(self.trust, indent=2),
        ]
        if self.policy is None:
            lines.append("Unless the role has it already (this replaces the role's whole trust policy):")
        else:
            printing = f"phasesync aws policy --starter sync --credential {self.credential.name}"
            lines += [f"Policy of the role ({printing} prints it alone):", json.dumps(self.policy, indent=2)]
            lines.append("In the account that the secrets are in:")
        return [*lines, *self.commands, *self.notes]


def setup_of(application: "Application", credential: Credential) -> Setup:
    """Return what an operator needs to make the role of a new credential."""
    trust, unsure = trust_of(application, credential, None)
    notes, policy = [], None
    if credential.role_arn is None:
        policy = sync_policy(region=credential.region)
        name = f"phasesync-{credential.name}"
        commands = setup_commands(name=name, region=credential.region, policy=policy, trust=trust)
        notes += [
            "Once there are syncs, this prints the narrower policy for exactly them: "
            f"phasesync aws policy --all --credential {credential.name}",
            # On a line that begins otherwise: who pastes the commands for syncs gives the role no rights on IAM.
            "For dynamic secrets the role needs other rights as well: "
            + leases_command(role=name, region=credential.region),
        ]
    else:
        commands = [update_trust_command(role_arn=credential.role_arn, trust=trust)]
    if unsure is not None:
        notes.append(unsure[:1].upper() + unsure[1:])
    nobody = trust["Statement"][0]["Principal"]["AWS"] == unknown_principal(credential.region)
    if credential.source_name is None and not nobody:
        notes.append(
            "This trusts the identity of this shell. For a daemon that has another one: "
            f"phasesync aws trust-policy {credential.name} --principal ARN"
        )
    return Setup(credential=credential, trust=trust, policy=policy, commands=tuple(commands), notes=tuple(notes))
