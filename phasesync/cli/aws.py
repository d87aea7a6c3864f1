"""`phasesync aws`: IAM documents to paste, what is in an account, and deleting one secret for good."""

from typing import TYPE_CHECKING

import click

from phasesync.cli.dry_run import dry_run_option, is_dry_run, would_call
from phasesync.cli.input import confirm_by_name, confirmation_options
from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, output_option, print_document
from phasesync.cli.params import REGION, Name, comma_list
from phasesync.cli.policies import (
    print_for_backups,
    print_for_root_key,
    print_starter_for_leases,
    print_starter_for_syncs,
)
from phasesync.core.counted import counted
from phasesync.core.credential import CredentialType
from phasesync.errors import InvalidInputError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.core.iam.document import Document

CREDENTIAL = Name("credential")


@click.group()
def aws() -> None:
    """IAM policies for AWS, and the secrets that exist there."""


@aws.command()
@click.argument("sync", type=Name("sync"), required=False)
@click.option(
    "--dynamic", type=Name("dynamic secret"), help="Policy for one dynamic secret, in place of a sync. Default: none."
)
@click.option(
    "--all", "every", is_flag=True, help="For all syncs and dynamic secrets of one credential, in one policy."
)
@click.option(
    "--credential",
    type=CREDENTIAL,
    help="With --all: the credential to print the policy of; with --starter: the credential that gives the Region. "
    "Default: the one in use, if there is only one.",
)
@click.option(
    "--starter",
    type=click.Choice(["sync", "dynamic"]),
    help="Policy to begin with, for any name. Default: the policy of what is named.",
)
@click.option(
    "--root-key", is_flag=True, help="For the KMS keys that encrypt the root key: those of the settings, or --kms-key."
)
@click.option(
    "--backups", metavar="PLACE", help="For backups in s3://BUCKET/PREFIX, as db backup --to takes it. Default: none."
)
@click.option(
    "--region",
    type=REGION,
    help="With --starter: AWS Region. Default: the credential's, the key's, AWS_REGION, else every Region. With "
    "--backups: that of the bucket, which gives the partition. Default: aws.",
)
@click.option(
    "--kms-key",
    metavar="ARN",
    help="Customer-managed key that encrypts secrets and that no sync names; with --root-key, the root key; with "
    "--backups, the bucket. Default: none.",
)
@click.option(
    "--copy-key",
    "copy_keys",
    metavar="ARN",
    multiple=True,
    callback=comma_list,
    help="Key of another account that encrypts a copy there, if no role replicates to it. Repeat it, or separate "
    "several with commas. Default: none.",
)
@click.option(
    "--permission-boundary",
    metavar="ARN",
    help="With --starter dynamic: policy that has to bound every user. Default: none.",
)
@click.option("--with-import", is_flag=True, help="Add the right to read values: imports and syncs verify need it.")
@click.option("--no-sweep", is_flag=True, help="Leave out the right to list secrets; each is then checked by itself.")
@click.option(
    "--part",
    type=click.IntRange(1),
    metavar="N",
    help="Number of one part, if the policy needs several managed policies. Default: the whole policy.",
)
@output_option
def policy(
    sync: str | None,
    dynamic: str | None,
    every: bool,
    credential: str | None,
    starter: str | None,
    root_key: bool,
    backups: str | None,
    region: str | None,
    kms_key: str | None,
    copy_keys: tuple[str, ...],
    permission_boundary: str | None,
    with_import: bool,
    no_sweep: bool,
    part: int | None,
    out: Output,
) -> None:
    """
    Print a least-privilege IAM policy. The bare document, whatever -o says.

    For a sync, a dynamic secret, or --all: exactly what the configuration needs, on its names, with changes only to
    what has our tag. IAM accepts managed policies of 6,144 characters; --part N prints one part of a larger policy.

    \b
    Examples:
      phasesync aws policy shop-production
      phasesync aws policy --dynamic ci
      phasesync aws policy --all --credential aws
      phasesync aws policy --starter sync --credential aws
      phasesync aws policy --root-key
      phasesync aws policy --backups s3://acme-backups/phasesync
    """
    if sum(one not in (None, False) for one in (sync, dynamic, every, starter, root_key, backups)) != 1:
        raise InvalidInputError(
            "say what the policy is for, with exactly one of: a sync, --dynamic NAME, --all, --starter sync|dynamic, "
            "--root-key, --backups s3://BUCKET/PREFIX",
            hint="phasesync syncs list; phasesync dynamic list",
        )
    if permission_boundary is not None and starter != "dynamic":
        raise InvalidInputError("--permission-boundary is for --starter dynamic: a dynamic secret has its own")
    if starter is not None and (part or copy_keys):
        raise InvalidInputError("--copy-key and --part are not for the starter policy, which is one part")
    if root_key:
        if part or copy_keys or with_import or no_sweep or region is not None or credential is not None:
            raise InvalidInputError("of the other options only --kms-key is for --root-key: secrets are not in it")
        print_for_root_key(kms_key, out)
        return
    if backups is not None:
        if part or copy_keys or with_import or no_sweep or credential is not None:
            raise InvalidInputError("of the other options only --kms-key and --region are for --backups")
        print_for_backups(backups, region, kms_key, out)
        return
    if starter == "dynamic":
        if with_import or no_sweep or kms_key is not None:
            raise InvalidInputError(
                "--with-import, --no-sweep and --kms-key are for --starter sync: leases read no secrets"
            )
        print_starter_for_leases(region, credential, permission_boundary, out)
        return
    if starter == "sync":
        print_starter_for_syncs(
            region, credential, kms_key=kms_key, with_import=with_import, sweep=not no_sweep, out=out
        )
        return
    if region is not None:
        raise InvalidInputError("--region is for the starter policy: a sync has its own Region")
    if credential is not None and not every:
        raise InvalidInputError("--credential goes with --all: a sync or dynamic secret has its own credential")
    _print_policy(
        sync,
        dynamic,
        credential,
        kms_key=kms_key,
        copy_keys=copy_keys,
        with_import=with_import,
        sweep=not no_sweep,
        part=part,
        out=out,
    )


@with_application
def _print_policy(
    application: "Application",
    sync: str | None,
    dynamic: str | None,
    credential: str | None,
    *,
    kms_key: str | None,
    copy_keys: tuple[str, ...],
    with_import: bool,
    sweep: bool,
    part: int | None,
    out: Output,
) -> None:
    from phasesync.adapters.destinations import spec_of
    from phasesync.engine.iam_policies import check_keys, policy_of_scope, policy_scope

    scope = policy_scope(
        application.context,
        sync=sync,
        dynamic=dynamic,
        credential=credential,
    )
    for other in scope.other_credentials:
        out.warn(
            f"live leases of {dynamic} were made with the credential {other}. Its policy still has to allow "
            f"revoking them: phasesync aws policy --all --credential {other}"
        )
    check_keys(scope, kms_key=kms_key, copy_keys=copy_keys)
    whole = policy_of_scope(
        scope,
        instance_id=application.context.instance_id,
        actions=lambda kind: spec_of(kind).actions,
        kms_key=kms_key,
        copy_keys=copy_keys,
        with_import=with_import,
        sweep=sweep,
    )
    _print_in_parts(whole, part, out)


def _print_in_parts(whole: "Document", part: int | None, out: Output) -> None:
    """Print a policy or one part of it; warn if IAM does not take the whole policy as one."""
    from phasesync.core.iam.document import MANAGED_POLICIES, MANAGED_POLICY_CHARACTERS, parts_of, size_of

    parts = parts_of(whole)
    if part is not None and part > len(parts):
        raise InvalidInputError(f"the policy has {counted(len(parts), 'part')}, there is no {part}")
    print_document(whole if part is None else parts[part - 1])
    if len(parts) == 1 or part is not None:
        return
    out.warn(
        f"the policy has {size_of(whole):,} characters, and a managed policy takes {MANAGED_POLICY_CHARACTERS:,} (IAM "
        f"quotas): as managed policies print and attach its {len(parts)} parts, --part 1 to --part {len(parts)}"
    )
    if len(parts) > MANAGED_POLICIES:
        out.warn(
            f"a role takes {MANAGED_POLICIES} managed policies unless its quota was raised: "
            "split the syncs between credentials"
        )


@aws.command("trust-policy")
@click.argument("credential", type=CREDENTIAL)
@click.option("--principal", metavar="ARN", help="Who assumes the role. Default: the identity of this shell.")
@output_option
@with_application
def trust_policy(application: "Application", credential: str, principal: str | None, out: Output) -> None:
    """
    Print the trust policy of a credential's role. The bare document, whatever -o says.

    \b
    Example:
      phasesync aws trust-policy aws --principal arn:aws:iam::111122223333:role/host
    """
    from phasesync.engine.iam_policies import trust_policy_of

    loaded = application.store.credentials.get(credential)
    if loaded.type is not CredentialType.ASSUME_ROLE:
        raise InvalidInputError(f"the credential {credential} is {loaded.type} and assumes no role")
    trust = trust_policy_of(application.context.tester, loaded, principal)
    print_document(trust.document)
    if trust.note is not None:
        out.warn(trust.note)


@aws.command("list-secrets")
@click.option("--credential", type=CREDENTIAL, required=True, help="Credential to reach AWS with.")
@click.option("--region", type=REGION, help="AWS Region to look in. Default: the credential's.")
@output_option
@with_application
def list_secrets(application: "Application", credential: str, region: str | None, out: Output) -> None:
    """
    List the secrets of an account and Region. No value is read.

    \b
    Example:
      phasesync aws list-secrets --credential aws
    """
    from phasesync.cli.documents import listed_secret_document
    from phasesync.cli.syncs import AWS_SECRETS_MANAGER
    from phasesync.core.regions import check_same_partition
    from phasesync.engine.error_hints import hints_about

    loaded = application.store.credentials.get(credential)
    where = check_same_partition(region or loaded.region, loaded.region, of=f"the credential {credential}")
    with hints_about(credential):
        listed = application.context.destinations.open(AWS_SECRETS_MANAGER, loaded, where).list_names()
    out.items(
        map(listed_secret_document, listed),
        ["name", "ours", "owning_service", "type", "deleted_at", "description"],
        empty="there are no secrets",
    )


@aws.command("force-delete", short_help="Delete one AWS secret at once, for good.")
@click.argument("name")
@click.option("--credential", type=CREDENTIAL, required=True, help="Credential to reach AWS with.")
@click.option("--region", type=REGION, help="AWS Region to look in. Default: the credential's.")
@confirmation_options
@output_option
@with_application
@dry_run_option
def force_delete(
    application: "Application",
    name: str,
    credential: str,
    region: str | None,
    yes: bool,
    no_input: bool,
    out: Output,
) -> None:
    """
    Delete one AWS secret at once, without a recovery window: only one that a sync of this database wrote.

    \b
    Example:
      phasesync aws force-delete shop/production/OLD --credential aws
    """
    from phasesync.cli.output import show_identity
    from phasesync.cli.syncs import AWS_SECRETS_MANAGER
    from phasesync.core.planned_call import PlannedCall
    from phasesync.engine.error_hints import hints_about, hints_for
    from phasesync.engine.removal import find_for_force_deletion, force_delete

    context, kind = application.context, AWS_SECRETS_MANAGER
    with hints_about(credential):
        sync, observed = find_for_force_deletion(context, credential, region, name, kind=kind)
    show_identity(application, application.store.credentials.get(credential), out)
    out.say(f"{name} is {observed.arn}, written by the sync {sync.name}")
    document = {"deleted": name, "arn": observed.arn, "sync": sync.name}
    if is_dry_run():
        would_call(out, [PlannedCall(action="delete", target=name, details={"arn": observed.arn, "recovery_days": 0})])
        out.done(f"would delete {name} for good", document)
        return
    confirm_by_name(f"delete {name} for good, without a way back", name, yes=yes, no_input=no_input)
    with hints_for(sync):
        force_delete(context, credential, region, name, kind=kind, actor=invocation().actor)
    wanted = "" if sync.paused is not None else f"; the next run of {sync.name} creates it anew if it is still wanted"
    out.done(f"deleted {name} for good{wanted}", document)
