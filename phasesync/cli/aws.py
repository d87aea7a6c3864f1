"""`phasesync aws`: IAM documents to paste, and what is in an account."""

import json
from typing import TYPE_CHECKING

import click

from phasesync.cli.invocation import with_application
from phasesync.cli.output import Output, output_option
from phasesync.cli.params import Name
from phasesync.core.model import CredentialType
from phasesync.errors import InvalidInputError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application

CREDENTIAL = Name("credential")


@click.group()
def aws() -> None:
    """IAM policies for AWS, and a look at what is there."""


@aws.command()
@click.option("--starter", type=click.Choice(["sync"]), required=True, help="The policy to begin with.")
@click.option("--region", default="eu-central-1", show_default=True, help="Region of the secrets.")
@click.option("--kms-key", metavar="ARN", help="Customer-managed key that encrypts them.")
@click.option("--with-import", is_flag=True, help="Add the rights to read and list, for an import.")
@output_option
def policy(starter: str, region: str, kms_key: str | None, with_import: bool, out: Output) -> None:
    """
    Print a least-privilege IAM policy. The bare document, whatever -o says.

    \b
    Example:
      phasesync aws policy --starter sync --region eu-central-1
    """
    from phasesync.adapters.aws.policies import sync_policy
    from phasesync.core.arns import check_key_arn, check_region

    check_region(region)
    if kms_key is not None:
        check_key_arn(kms_key, region)
    click.echo(json.dumps(sync_policy(region=region, kms_key_arn=kms_key, with_import=with_import), indent=2))


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
    click.echo(json.dumps(document, indent=2))
    if not known:
        out.warn(f"AWS could not be asked who assumes the role; replace {UNKNOWN_PRINCIPAL}, or give --principal ARN")


@aws.command("list-secrets")
@click.option("--credential", type=CREDENTIAL, required=True, help="How to reach AWS.")
@click.option("--region", help="AWS Region. Default: the credential's.")
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
