"""`phasesync credentials`: how we authenticate to AWS. A secret access key is never shown again."""

import json
import sys
from typing import TYPE_CHECKING

import click

from phasesync.cli.dry_run import dry_run_option, is_dry_run
from phasesync.cli.input import MAX_BYTES, confirm, confirmation_options, is_terminal, never_asks, read_stdin
from phasesync.cli.invocation import with_application
from phasesync.cli.output import Output, output_option
from phasesync.cli.paging import Paging, paging_options, show_list
from phasesync.cli.params import REGION, Name
from phasesync.cli.secret_prompt import ask_secret
from phasesync.core.credential import (
    CredentialStatus,
    CredentialType,
    check_access_key_id,
    check_secret_access_key,
)
from phasesync.core.model import SecretValue
from phasesync.core.project.ownership import ObjectKind
from phasesync.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from phasesync.bootstrap import Application
    from phasesync.core.credential import Credential
    from phasesync.engine.iam_policies import RoleSetup

CREDENTIAL = Name("credential")
name_argument = click.argument("name", type=CREDENTIAL)
_USERS_IN_TABLE = 10


@click.group()
def credentials() -> None:
    """Credentials: how we authenticate to AWS."""


@credentials.command("list")
@paging_options("credentials")
@output_option
@with_application
def list_(application: "Application", paging: Paging, out: Output) -> None:
    """
    List credentials, each with the first names of what uses it and their number.

    \b
    Example:
      phasesync credentials list
    """
    from phasesync.cli.documents import credential_document

    columns = ["name", "type", "region", "account", "role_arn", "access_key_id", "status", "used_by"]
    show_list(
        out,
        paging,
        lambda after, limit: application.store.credentials.page(after=after, limit=limit),
        lambda listed: credential_document(listed) | ({} if out.as_json else {"used_by": _users(listed)}),
        columns,
        empty="there are no credentials yet: phasesync credentials add --help",
    )


def _users(credential: "Credential") -> str:
    """Return what uses a credential, for a table."""
    more = credential.used_by_count - _USERS_IN_TABLE
    return ", ".join(credential.used_by[:_USERS_IN_TABLE]) + (f" and {more:,} more" if more > 0 else "")


@credentials.command()
@name_argument
@output_option
@with_application
def show(application: "Application", name: str, out: Output) -> None:
    """
    Show one credential. Its External ID is shown, a secret access key never.

    \b
    Example:
      phasesync credentials show aws
    """
    from phasesync.cli.documents import credential_document, owner_document

    credential = application.store.credentials.get(name)
    owner = application.store.projects.owner_of(ObjectKind.CREDENTIAL, credential.id)
    out.item(credential_document(credential) | owner_document(owner))


@credentials.command()
@name_argument
@click.option(
    "--type",
    "type_",
    type=click.Choice([str(type_) for type_ in CredentialType]),
    required=True,
    help="How it authenticates: by assuming a role, with an access key, or with the SDK's own settings.",
)
@click.option("--region", type=REGION, required=True, help="AWS Region of STS, and of syncs that name none.")
@click.option("--role-arn", metavar="ARN", help="Role to assume. Default: none yet; credentials update adds it.")
@click.option("--external-id", metavar="ID", help="External ID of assume-role. Default: a new random one.")
@click.option("--no-external-id", is_flag=True, help="Assume the role without an External ID.")
@click.option("--source", type=CREDENTIAL, help="Credential that assumes the role. Default: AWS's default chain.")
@click.option(
    "--access-key-id",
    metavar="ID",
    help="Access key id, needed for access-key; the secret key is asked for. No default.",
)
@output_option
@with_application
@dry_run_option
def add(
    application: "Application",
    name: str,
    type_: str,
    region: str,
    role_arn: str | None,
    external_id: str | None,
    no_external_id: bool,
    source: str | None,
    access_key_id: str | None,
    out: Output,
) -> None:
    """
    Add a credential. The secret access key comes from a prompt, or from stdin when that is no terminal.

    For assume-role it prints how to make the role, on stderr; with -o json that is the member "setup" of the document.

    \b
    Examples:
      phasesync credentials add aws --type assume-role --region eu-central-1
      phasesync credentials add keys --type access-key --access-key-id AKIA... --region eu-central-1
      phasesync credentials add host --type ambient --region eu-central-1
    """
    from phasesync.cli.documents import credential_document, role_setup_document
    from phasesync.core.credential import CredentialDraft
    from phasesync.engine.iam_policies import role_setup

    if external_id is not None and no_external_id:
        raise InvalidInputError("--external-id and --no-external-id exclude each other")
    draft = CredentialDraft(
        type=CredentialType(type_),
        region=region,
        role_arn=role_arn,
        external_id=external_id,
        source_name=source,
        access_key_id=access_key_id,
        secret_access_key=_ask_secret_key(access_key_id) if access_key_id is not None else None,
    )
    added = application.credential_operations.add(name, draft, generate_external_id=not no_external_id)
    document = credential_document(added)
    if is_dry_run():
        # The one that counts is made when the credential is added, and the trust policy needs it.
        document["external_id"] = external_id
        if added.external_id != external_id:
            out.say("its External ID would be a new random one")
    elif added.type is CredentialType.ASSUME_ROLE:
        setup = role_setup(application.context.tester, added)
        document = document | {"setup": role_setup_document(setup)}
        if not out.as_json:
            _show_setup(setup)
    next_step = f"phasesync credentials test {name}"
    if added.status is CredentialStatus.INCOMPLETE:
        next_step = f"phasesync credentials update {name} --role-arn ARN"
    out.done(f"added the credential {name}; next: {next_step}", document)


@credentials.command()
@name_argument
@output_option
@with_application
@dry_run_option
def test(application: "Application", name: str, out: Output) -> None:
    """
    Ask AWS who a credential is, and what its trust policy lacks. Uses the identity of this shell.

    Tests no right on secrets, keys or users: syncs plan does, and aws policy prints the rights that are needed. If AWS
    accepts the credential, its failed syncs and its leases with a failed revocation are tried again at once.

    \b
    Example:
      phasesync credentials test aws
    """
    from phasesync.cli.documents import credential_document

    report = application.credential_operations.test(name)
    if report.base is not None:
        out.say(f"assumed by: account {report.base.account}, {report.base.arn}")
    note = application.endpoint_note(application.store.credentials.get(name).region)
    out.say(f"identity: account {report.identity.account}, {report.identity.arn}{note}")
    for finding in report.findings:
        out.warn(finding)
    document = credential_document(application.store.credentials.get(name)) | {
        "identity": {"account": report.identity.account, "arn": report.identity.arn},
        "findings": list(report.findings),
        "open_without_external_id": report.open_without_external_id,
        "tried": list(report.tried),
        "not_tried": NOT_TRIED,
    }
    out.done(_tested(application, name, report.tried), document)


NOT_TRIED = "rights on secrets, KMS keys and IAM users"


def _tested(application: "Application", name: str, tried: "Sequence[str]") -> str:
    """Return what a test has shown and what it has not, with the command that shows the rest."""
    from phasesync.core.sync import SyncFilter

    using = application.store.syncs.page_syncs(SyncFilter(credential=name), limit=1).items
    rest = "phasesync aws policy --starter sync prints the rights that a sync needs"
    if using:
        first = using[0].name
        rest = f"phasesync syncs plan {first} reads with it, phasesync aws policy {first} prints what it needs"
    return f"AWS accepts the credential {name} (tried: {', '.join(tried)}). Not tried: {NOT_TRIED}: {rest}"


@credentials.command()
@name_argument
@click.option("--region", type=REGION, help="AWS Region of STS, and of syncs that name none.")
@click.option("--role-arn", metavar="ARN", help="ARN of the role to assume.")
@click.option("--external-id", metavar="ID", help="External ID that the role's trust policy asks for.")
@click.option("--no-external-id", is_flag=True, help="Assume the role without an External ID.")
@click.option("--source", type=CREDENTIAL, help="Credential that assumes the role.")
@click.option("--access-key-id", metavar="ID", help="Access key id; the secret key is asked for.")
@click.option(
    "--account", metavar="ID", help="Account to pin from now on, 12 digits: allows the move to another account."
)
@output_option
@with_application
@dry_run_option
def update(
    application: "Application",
    name: str,
    region: str | None,
    role_arn: str | None,
    external_id: str | None,
    no_external_id: bool,
    source: str | None,
    access_key_id: str | None,
    account: str | None,
    out: Output,
) -> None:
    """
    Change a credential; its syncs are reconciled at once. What is not given stays as it is.

    \b
    Example:
      phasesync credentials update aws --role-arn arn:aws:iam::111122223333:role/phasesync
    """
    from phasesync.cli.documents import credential_document
    from phasesync.core.credential import CredentialDraft

    if external_id is not None and no_external_id:
        raise InvalidInputError("--external-id and --no-external-id exclude each other")
    changes = (region, role_arn, external_id, source, access_key_id, account)
    if not no_external_id and all(value is None for value in changes):
        raise InvalidInputError("there is nothing to change", hint="phasesync credentials update --help")
    old = application.store.credentials.get(name)
    draft = CredentialDraft(
        type=old.type,
        region=old.region if region is None else region,
        role_arn=old.role_arn if role_arn is None else role_arn,
        external_id=None if no_external_id else old.external_id if external_id is None else external_id,
        source_name=old.source_name if source is None else source,
        access_key_id=old.access_key_id if access_key_id is None else access_key_id,
        secret_access_key=_ask_secret_key(access_key_id) if access_key_id is not None else old.secret_access_key,
    )
    updated = application.credential_operations.update(name, draft, account=account)
    out.done(f"updated the credential {name}; next: phasesync credentials test {name}", credential_document(updated))


@credentials.command()
@name_argument
@click.argument("new_name", metavar="NEW", type=CREDENTIAL)
@never_asks
@output_option
@with_application
@dry_run_option
def rename(application: "Application", name: str, new_name: str, out: Output) -> None:
    """
    Give a credential another name. What uses it goes on with it. AWS's logs show the new name in names of sessions.

    \b
    Example:
      phasesync credentials rename aws aws-production
    """
    from phasesync.cli.documents import credential_document

    renamed = application.store.credentials.rename(name, new_name)
    out.done(f"renamed the credential {name} to {renamed.name}", credential_document(renamed))


@credentials.command()
@name_argument
@click.option("--revoke", is_flag=True, help="Revoke the leases made with it, and remove the dynamic secrets on it.")
@confirmation_options
@output_option
@with_application
@dry_run_option
def remove(application: "Application", name: str, revoke: bool, yes: bool, no_input: bool, out: Output) -> None:
    """
    Remove a credential that nothing uses any more; with --revoke also the dynamic secrets that use it.

    \b
    Examples:
      phasesync credentials remove keys --yes
      phasesync credentials remove keys --revoke
    """
    from phasesync.cli.lease_revocation import revocation_clause, revoke_before_removal
    from phasesync.engine.leases.revocation import leases_on_credential

    credential_id = application.store.credentials.get(name).id
    dynamics, live = [], []
    if revoke:
        recipes = application.store.dynamics.list_all()
        dynamics = [recipe.name for recipe in recipes if recipe.credential_id == credential_id]
        live = leases_on_credential(application.context.leases, name, dynamics)
    question = f"remove the credential {name}"
    if dynamics:
        question += f" and the dynamic secrets on it ({', '.join(dynamics)})"
    confirm(f"{question}{revocation_clause(application, live)}", yes=yes, no_input=no_input)
    application.store.projects.check_by_hand(ObjectKind.CREDENTIAL, credential_id)
    for dynamic in dynamics:  # Before anything is revoked: one in a protected environment stays.
        application.store.dynamics.check_removal(dynamic)
    revoke_before_removal(application, live, out)
    for dynamic in dynamics:
        application.store.dynamics.remove(dynamic)
    application.store.credentials.remove(name)
    out.done(f"removed the credential {name}", {"removed": name, "revoked": [lease.id for lease in live]})


def _ask_secret_key(access_key_id: str) -> SecretValue:
    """Check an access key id and read its secret: without echo at a terminal, otherwise from stdin."""
    check_access_key_id(access_key_id)
    if is_terminal():
        data = ask_secret("Secret access key", max_bytes=MAX_BYTES, otherwise="pipe it to stdin")
        source = "nothing was typed"
    elif sys.stdin.isatty():
        raise InvalidInputError("there is no terminal to ask for the secret access key", hint="pipe it to stdin")
    else:
        data, source = read_stdin(), "nothing arrived on stdin"
    if not data.strip():
        raise InvalidInputError(
            f"{source}: there is no secret access key", hint="pipe it to stdin, or type it at a terminal"
        )
    return check_secret_access_key(SecretValue(data))


def _show_setup(setup: "RoleSetup") -> None:
    """Print on stderr how to create the role of a credential."""
    name = setup.credential.name
    lines = [
        f"External ID: {setup.credential.external_id or 'none'}",
        f"Trust policy of the role (phasesync aws trust-policy {name} prints it alone):",
        json.dumps(setup.trust, indent=2),
    ]
    if setup.policy is None:
        lines.append("Unless the role has it already (this replaces the role's whole trust policy):")
    else:
        lines += [
            f"Policy of the role (phasesync aws policy --starter sync --credential {name} prints it alone):",
            json.dumps(setup.policy, indent=2),
            "In the account that the secrets are in:",
        ]
    for line in (*lines, *setup.commands, *setup.notes):
        click.echo(line, err=True)
