"""`phasesync aws`: IAM documents to paste, what is in an account, and deleting one secret for good."""

from typing import TYPE_CHECKING

import click

from phasesync.cli.input import confirm_by_name, confirmation_options
from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, output_option, print_document
from phasesync.cli.params import Name
from phasesync.core.credential import CredentialType
from phasesync.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application

CREDENTIAL = Name("credential")
STARTER_REGION = "eu-central-1"


@click.group()
def aws() -> None:
    """IAM policies for AWS, and a look at what is there."""


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
    help="With --all: credential whose policy it is. Default: the one in use, where there is only one.",
)
@click.option(
    "--starter",
    type=click.Choice(["sync", "dynamic"]),
    help="Policy to begin with, for any name. Default: the policy of what is named.",
)
@click.option("--region", help=f"With --starter: AWS Region; tells the partition. Default: {STARTER_REGION}.")
@click.option(
    "--kms-key", metavar="ARN", help="Customer-managed key that encrypts secrets and that no sync names. Default: none."
)
@click.option(
    "--permission-boundary",
    metavar="ARN",
    help="With --starter dynamic: policy that has to bound every user. Default: none.",
)
@click.option("--with-import", is_flag=True, help="Add the right to read values: imports and syncs verify need it.")
@click.option("--no-sweep", is_flag=True, help="Leave out the right to list secrets; drift is then asked one by one.")
@click.option(
    "--part",
    type=click.IntRange(1),
    metavar="N",
    help="Number of one part, where the policy takes several managed policies. Default: the whole policy.",
)
@output_option
def policy(
    sync: str | None,
    dynamic: str | None,
    every: bool,
    credential: str | None,
    starter: str | None,
    region: str | None,
    kms_key: str | None,
    permission_boundary: str | None,
    with_import: bool,
    no_sweep: bool,
    part: int | None,
    out: Output,
) -> None:
    """
    Print a least-privilege IAM policy. The bare document, whatever -o says.

    For a sync, a dynamic secret, or --all: exactly what its configuration needs, on its names, and changes only where
    our tag is. IAM takes managed policies of 6,144 characters; of a larger one, --part N prints one part at a time.

    \b
    Examples:
      phasesync aws policy shop-production
      phasesync aws policy --dynamic ci
      phasesync aws policy --all --credential aws
      phasesync aws policy --starter sync --region eu-central-1
    """
    if sum((sync is not None, dynamic is not None, every, starter is not None)) != 1:
        raise InvalidInputError(
            "say whose policy, with exactly one of: a sync, --dynamic NAME, --all, --starter sync, --starter dynamic",
            hint="phasesync syncs list; phasesync dynamic list",
        )
    if permission_boundary is not None and starter != "dynamic":
        raise InvalidInputError("--permission-boundary is for --starter dynamic: a dynamic secret has its own")
    if starter is not None:
        if credential or no_sweep or part:
            raise InvalidInputError("--credential, --no-sweep and --part are not for the starter policy")
        if starter == "dynamic":
            if with_import or kms_key is not None:
                raise InvalidInputError("--with-import and --kms-key are for --starter sync: leases read no secrets")
            _print_dynamic_starter(region or STARTER_REGION, permission_boundary, out)
        else:
            _print_starter(region or STARTER_REGION, kms_key=kms_key, with_import=with_import)
        return
    if region is not None:
        raise InvalidInputError("--region is for the starter policy: a sync has its own Region")
    if credential is not None and not every:
        raise InvalidInputError("--credential goes with --all: a sync or dynamic secret has its own credential")
    _print_policy(
        sync, dynamic, credential, kms_key=kms_key, with_import=with_import, sweep=not no_sweep, part=part, out=out
    )


def _print_starter(region: str, *, kms_key: str | None, with_import: bool) -> None:
    from phasesync.adapters.aws.policies import sync_policy
    from phasesync.core.arns import check_key_arn, check_region

    check_region(region)
    if kms_key is not None:
        check_key_arn(kms_key, region)
    print_document(sync_policy(region=region, kms_key_arn=kms_key, with_import=with_import))


def _print_dynamic_starter(region: str, boundary: str | None, out: Output) -> None:
    from phasesync.adapters.aws.dynamic_policies import STARTER_BOUNDARY, starter_policy
    from phasesync.core.arns import check_partition, check_policy_arn, check_region
    from phasesync.core.user_names import OUR_PATH

    check_region(region)
    if boundary is not None:
        check_partition(check_policy_arn(boundary), region)
    instance_id, why_not = _instance_id()
    print_document(starter_policy(region=region, boundary=boundary, instance_id=instance_id))
    if why_not is not None:
        out.warn(
            f"it is not known which installation this is for, since {why_not}: the policy gives whoever holds the role "
            f"keys of every user under {OUR_PATH}, other installations' too; print it again after phasesync init"
        )
    if boundary is None:
        out.say(
            f"every user needs the permission boundary {STARTER_BOUNDARY}: a policy of yours that says what such users "
            "may do at most. Give another one with --permission-boundary ARN"
        )
    out.say("groups are not in it; once there is a dynamic secret: phasesync aws policy --dynamic NAME")


def _instance_id() -> tuple[str | None, str | None]:
    """Return the id of this installation, and why there is none where there is no database to tell it."""
    from phasesync.bootstrap import find_instance_id
    from phasesync.errors import PhasesyncError

    try:
        return find_instance_id(invocation().settings().settings), None
    except PhasesyncError as error:
        return None, error.message


@with_application
def _print_policy(
    application: "Application",
    sync: str | None,
    dynamic: str | None,
    credential: str | None,
    *,
    kms_key: str | None,
    with_import: bool,
    sweep: bool,
    part: int | None,
    out: Output,
) -> None:
    from phasesync.adapters.aws.policy_size import MANAGED_POLICIES, MANAGED_POLICY_CHARACTERS, parts_of, size_of
    from phasesync.cli.aws_documents import covered_by, policy_for
    from phasesync.core.arns import check_key_arn

    try:
        covered = covered_by(application, sync=sync, dynamic=dynamic, credential=credential)
    except NotFoundError as error:
        if sync is not None and sync.lower() in {one.name.lower() for one in application.dynamics.list_all()}:
            error.hint = f"there is a dynamic secret of that name: phasesync aws policy --dynamic {sync}"
        raise
    for other in covered.elsewhere:
        out.warn(
            f"live leases of {dynamic} were made with the credential {other}, whose policy has to take them back: "
            f"phasesync aws policy --all --credential {other}"
        )
    for one in covered.syncs:
        if kms_key is not None:
            check_key_arn(kms_key, one.region)
    whole = policy_for(application, covered, kms_key=kms_key, with_import=with_import, sweep=sweep)
    parts = parts_of(whole)
    if part is not None and part > len(parts):
        raise InvalidInputError(f"the policy has {len(parts)} part{'s' if len(parts) > 1 else ''}, there is no {part}")
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
    from phasesync.cli.aws_documents import UNKNOWN_PRINCIPAL, trust_of

    found = application.credentials.get(credential)
    if found.type is not CredentialType.ASSUME_ROLE:
        raise InvalidInputError(f"the credential {credential} is {found.type} and assumes no role")
    document, known = trust_of(application, found, principal)
    print_document(document)
    if not known:
        out.warn(f"AWS could not be asked who assumes the role; replace {UNKNOWN_PRINCIPAL}, or give --principal ARN")


@aws.command("list-secrets")
@click.option("--credential", type=CREDENTIAL, required=True, help="Credential to reach AWS with.")
@click.option("--region", metavar="REGION", help="AWS Region to look in. Default: the credential's.")
@output_option
@with_application
def list_secrets(application: "Application", credential: str, region: str | None, out: Output) -> None:
    """
    List the secrets of an account and Region. No value is read.

    \b
    Example:
      phasesync aws list-secrets --credential aws
    """
    from phasesync.cli.syncs import AWS_SECRETS_MANAGER

    found = application.credentials.get(credential)
    destination = application.destinations.open(AWS_SECRETS_MANAGER, found, region or found.region)
    items = [
        {
            "name": one.name,
            "ours": one.ours,
            "owning_service": one.owning_service,
            "deleted_at": one.deleted_at,
            "description": one.description,
            "arn": one.arn,
        }
        for one in destination.list_names()
    ]
    out.items(items, ["name", "ours", "owning_service", "deleted_at", "description"], empty="there are no secrets")


@aws.command("force-delete", short_help="Delete one AWS secret at once, for good.")
@click.argument("name")
@click.option("--credential", type=CREDENTIAL, required=True, help="Credential to reach AWS with.")
@click.option("--region", metavar="REGION", help="AWS Region to look in. Default: the credential's.")
@confirmation_options
@output_option
@with_application
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
    from phasesync.cli.identity import tell_identity
    from phasesync.cli.syncs import AWS_SECRETS_MANAGER

    deletion, kind = application.force_deletion, AWS_SECRETS_MANAGER
    sync, seen = deletion.find(credential, region, name, kind=kind)
    tell_identity(application, application.credentials.get(credential), out)
    out.say(f"{name} is {seen.arn}, written by the sync {sync.name}")
    confirm_by_name(f"delete {name} for good, without a way back", name, yes=yes, no_input=no_input)
    deletion.delete(credential, region, name, kind=kind, actor=invocation().actor)
    wanted = "" if sync.paused is not None else f"; the next run of {sync.name} creates it anew if it is still wanted"
    out.done(f"deleted {name} for good{wanted}", {"deleted": name, "arn": seen.arn, "sync": sync.name})
