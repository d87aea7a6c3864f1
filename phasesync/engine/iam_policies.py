"""
Decides which IAM policies a credential needs: for exactly its syncs and leases, and for a new role.

The documents themselves are written by `phasesync.core.iam`. Nothing here prints.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from phasesync.core.arns import (
    account_of,
    check_key_arn,
    check_partition,
    check_principal_arn,
    check_role_arn,
)
from phasesync.core.credential import Credential
from phasesync.core.dynamic import DynamicSecret
from phasesync.core.iam.document import Document
from phasesync.core.iam.lease_policy import LeaseUse, LiveLease, lease_statements
from phasesync.core.iam.role_setup import (
    leases_command,
    path_note,
    setup_commands,
    trust_policy,
    unknown_principal,
    update_trust_command,
)
from phasesync.core.iam.sync_policy import Actions, grant_of, policy_of_grants, starter_sync_policy
from phasesync.core.lease import Lease
from phasesync.core.remote import JournalEntry
from phasesync.core.sync import Sync, SyncFilter
from phasesync.engine.context import Context
from phasesync.errors import CiphertextError, DestinationError, InvalidInputError, NotFoundError
from phasesync.ports.runtime import CredentialTester
from phasesync.store.credentials import CredentialStore

# --- the policy for exactly some syncs and dynamic secrets


@dataclass(frozen=True, kw_only=True)
class CoveredSync:
    """
    A sync that a policy covers.

    Attributes:
        account: the 12-digit account it writes to; None if it is not known yet.
        journal: what it has written.
    """

    sync: Sync
    account: str | None
    journal: tuple[JournalEntry, ...]


@dataclass(frozen=True, kw_only=True)
class PolicyScope:
    """
    What one policy covers: syncs, dynamic secrets and live leases of one credential.

    Attributes:
        leases: those that this credential issued, also of dynamic secrets that have another credential by now.
        other_credentials: names of the credentials that issued the other live leases of these dynamic secrets.
    """

    syncs: tuple[CoveredSync, ...] = ()
    dynamics: tuple[LeaseUse, ...] = ()
    leases: tuple[LiveLease, ...] = ()
    other_credentials: tuple[str, ...] = ()


def policy_scope(
    context: Context,
    *,
    sync: str | None = None,
    dynamic: str | None = None,
    credential: str | None = None,
) -> PolicyScope:
    """
    Return what one policy covers: a sync, a dynamic secret, or all of both that use one credential.

    Args:
        context: stores of syncs, dynamic secrets, leases and credentials.
        sync: name of one sync.
        dynamic: name of one dynamic secret. If neither is given, the policy covers all.
        credential: with neither: only those that use it; None if there is only one credential in use.

    Raises:
        NotFoundError: there is no such sync, dynamic secret or credential, or nothing uses the credential.
        InvalidInputError: several credentials are in use; each needs a policy of its own.
        CiphertextError: a dynamic secret was altered outside phasesync.
    """
    if sync is not None:
        return PolicyScope(syncs=(_covered_sync(context, _find_sync(context, sync)),))
    if dynamic is not None:
        credentials = context.store.credentials
        recipe = context.store.dynamics.get(dynamic)
        live = context.leases.list_leases(dynamic=dynamic)
        issuers = _credential_names(credentials, live)
        return PolicyScope(
            dynamics=(_lease_use(credentials, recipe),),
            leases=_live_leases(credentials, [lease for lease in live if lease.credential_id == recipe.credential_id]),
            other_credentials=tuple(sorted(issuers - {recipe.credential})),
        )
    return _scope_of_all(context, credential)


def policy_of_scope(
    scope: PolicyScope,
    *,
    instance_id: str,
    actions: Callable[[str], Actions],
    kms_key: str | None = None,
    copy_keys: Sequence[str] = (),
    with_import: bool = False,
    sweep: bool = True,
) -> Document:
    """
    Return the policy for exactly what a scope covers.

    Args:
        scope: what the policy covers.
        instance_id: our instance, as in our tags.
        actions: returns the IAM actions of a destination kind, by purpose.
        kms_key: a key that is used although no sync names it.
        copy_keys: keys of other accounts that encrypt copies of the syncs' secrets there.
        with_import: adds reading values.
        sweep: adds listing secrets.
    """
    grants = [
        grant_of(
            covered.sync,
            actions(covered.sync.destination_kind),
            account=covered.account,
            journal=covered.journal,
            kms_key=kms_key,
            copy_keys=copy_keys,
            with_import=with_import,
            sweep=sweep,
        )
        for covered in scope.syncs
    ]
    for_leases = lease_statements(scope.dynamics, instance_id=instance_id, live=scope.leases)
    return policy_of_grants(grants, instance_id=instance_id, more=for_leases)


def check_keys(scope: PolicyScope, *, kms_key: str | None, copy_keys: Iterable[str]) -> None:
    """
    Check the keys that an operator adds to the policy of a scope.

    Args:
        scope: what the policy covers.
        kms_key: has to be in the Region of each sync.
        copy_keys: each has to be a key of another account, in the Region of a sync.

    Raises:
        InvalidInputError: a key is not as it has to be.
    """
    if kms_key is not None:
        for covered in scope.syncs:
            check_key_arn(kms_key, covered.sync.region)
    for key in copy_keys:
        region = (key.split(":") + [""] * 4)[3]
        check_key_arn(key, region)
        in_region = [covered for covered in scope.syncs if covered.sync.region == region]
        if not in_region:
            raise InvalidInputError(
                f"--copy-key {key} is in {region}, and no sync of this policy writes there",
                hint="a copy in another account is in the same Region as its primary, and so is its key",
            )
        for covered in in_region:
            if account_of(key) == covered.account:
                raise InvalidInputError(
                    f"--copy-key {key} is a key of the account that {covered.sync.name} writes to",
                    hint=f"for a key of that account: phasesync aws policy {covered.sync.name} --kms-key {key}",
                )


def _scope_of_all(context: Context, credential: str | None) -> PolicyScope:
    store, credentials = context.store, context.store.credentials
    recipes, live = store.dynamics.list_all(), context.leases.list_leases()
    if credential is None:
        # Of each credential one sync is enough: several credentials are refused below.
        pages = [store.syncs.page_syncs(SyncFilter(credential=other.name), limit=1) for other in credentials.list_all()]
        syncs = [sync for page in pages for sync in page.items]
    else:
        credential_id = credentials.get(credential).id
        syncs = store.syncs.list_syncs(SyncFilter(credential=credential))
        recipes = [recipe for recipe in recipes if recipe.credential_id == credential_id]
        live = [lease for lease in live if lease.credential_id == credential_id]
    if not syncs and not recipes and not live:
        raise NotFoundError(
            "there are no syncs and no dynamic secrets yet"
            if credential is None
            else f"no sync and no dynamic secret uses the credential {credential}",
            hint="phasesync aws policy --starter sync prints the policy to begin with",
        )
    for recipe in recipes:
        if recipe.error is not None:
            raise CiphertextError(recipe.error)
    used = {sync.credential for sync in syncs} | {recipe.credential for recipe in recipes}
    in_use = sorted(used | _credential_names(credentials, live))
    if len(in_use) > 1:
        raise InvalidInputError(
            f"{len(in_use)} credentials are in use, and each needs a policy of its own: {', '.join(in_use)}",
            hint=f"phasesync aws policy --all --credential {in_use[0]}",
        )
    if credential is None:
        syncs = store.syncs.list_syncs()
    return PolicyScope(
        syncs=tuple(_covered_sync(context, sync) for sync in syncs),
        dynamics=tuple(_lease_use(credentials, recipe) for recipe in recipes),
        leases=_live_leases(credentials, live),
    )


def _find_sync(context: Context, name: str) -> Sync:
    try:
        return context.store.syncs.get_sync(name)
    except NotFoundError as error:
        if name.lower() in {recipe.name.lower() for recipe in context.store.dynamics.list_all()}:
            error.hint = f"there is a dynamic secret of that name: phasesync aws policy --dynamic {name}"
        raise


def _covered_sync(context: Context, sync: Sync) -> CoveredSync:
    loaded = context.store.sync_states.state_of(sync.name)
    account = sync.account or _account_of(loaded.credential)
    return CoveredSync(sync=sync, account=account, journal=tuple(loaded.journal))


def _lease_use(credentials: CredentialStore, recipe: DynamicSecret) -> LeaseUse:
    credential = credentials.get_by_id(recipe.credential_id)
    return LeaseUse(
        config=recipe.config,
        id=recipe.id,
        name=recipe.name,
        region=credential.region,
        account=_account_of(credential),
    )


def _live_leases(credentials: CredentialStore, leases: Iterable[Lease]) -> tuple[LiveLease, ...]:
    """Return leases for a policy. What an altered one has at AWS is not known; its user is found as an orphan."""
    live = []
    for lease in leases:
        credential = credentials.get_by_id(lease.credential_id)
        if lease.is_readable:
            account = lease.account or _account_of(credential)
            live.append(LiveLease(spec=lease.spec, region=credential.region, account=account))
    return tuple(live)


def _credential_names(credentials: CredentialStore, leases: Iterable[Lease]) -> set[str]:
    """Return the names of the credentials that issued some leases."""
    return {credentials.get_by_id(credential_id).name for credential_id in {lease.credential_id for lease in leases}}


def _account_of(credential: Credential) -> str | None:
    """Return the account of a credential; None if it is not known before the credential is first used."""
    return credential.account or (check_role_arn(credential.role_arn) if credential.role_arn else None)


# --- the role of a credential


@dataclass(frozen=True, kw_only=True)
class TrustPolicy:
    """
    Who may assume the role of a credential.

    Attributes:
        document: the trust policy.
        note: what is not certain about its principal; None if it is certain.
    """

    document: Document
    note: str | None


def trust_policy_of(tester: CredentialTester, credential: Credential, principal: str | None = None) -> TrustPolicy:
    """
    Return the trust policy of a credential's role.

    Args:
        tester: asks AWS who would assume the role.
        credential: of type assume-role.
        principal: ARN of who assumes the role; None: AWS is asked.

    Raises:
        InvalidInputError: the principal is not an ARN of one, or is of another partition than the role.
    """
    note = None
    if principal is not None:
        check_partition(check_principal_arn(principal), credential.region)
    else:
        try:
            caller = tester.principal(credential)
        except DestinationError:
            principal = unknown_principal(credential.region)
            note = (
                f"AWS could not be asked who assumes the role: put the ARN of the daemon's identity (aws sts "
                f"get-caller-identity) in the place of {principal}, or give it as phasesync aws trust-policy "
                f"{credential.name} --principal ARN"
            )
        else:
            principal = caller.arn
            note = None if caller.role is None else path_note(caller.role)
    return TrustPolicy(document=trust_policy(principal_arn=principal, external_id=credential.external_id), note=note)


@dataclass(frozen=True, kw_only=True)
class RoleSetup:
    """
    What an operator needs to create the role of a new credential.

    Attributes:
        trust: its trust policy.
        policy: its policy; None if the role exists already.
        commands: lines of the AWS command line, in the order to run them.
        notes: what else there is to know, as sentences.
    """

    credential: Credential
    trust: Document
    policy: Document | None
    commands: tuple[str, ...]
    notes: tuple[str, ...]


def role_setup(tester: CredentialTester, credential: Credential) -> RoleSetup:
    """Return what an operator needs to create the role of a new credential, or to correct that of an existing one."""
    trust = trust_policy_of(tester, credential)
    notes, policy = [], None
    if credential.role_arn is None:
        policy = starter_sync_policy(region=credential.region)
        name = f"phasesync-{credential.name}"
        commands = setup_commands(name=name, region=credential.region, policy=policy, trust=trust.document)
        notes += [
            "Once there are syncs, this prints the narrower policy for exactly them: "
            f"phasesync aws policy --all --credential {credential.name}",
            # On a line that begins otherwise: who pastes the commands for syncs gives the role no rights on IAM.
            "For dynamic secrets the role needs other rights as well: "
            + leases_command(role=name, region=credential.region),
        ]
    else:
        commands = [update_trust_command(role_arn=credential.role_arn, trust=trust.document)]
    if trust.note is not None:
        notes.append(trust.note[:1].upper() + trust.note[1:])
    is_placeholder = trust.document["Statement"][0]["Principal"]["AWS"] == unknown_principal(credential.region)
    if credential.source_name is None and not is_placeholder:
        notes.append(
            "This trusts the identity of this shell. For a daemon that has another one: "
            f"phasesync aws trust-policy {credential.name} --principal ARN"
        )
    return RoleSetup(
        credential=credential, trust=trust.document, policy=policy, commands=tuple(commands), notes=tuple(notes)
    )
