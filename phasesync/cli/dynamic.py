"""`phasesync dynamic`: dynamic secrets, recipes for short-lived credentials."""

from typing import TYPE_CHECKING

import click

from phasesync.cli.dynamic_options import DynamicOptions, dynamic_options
from phasesync.cli.input import confirm, confirmation_options
from phasesync.cli.invocation import with_application
from phasesync.cli.output import Output, output_option
from phasesync.cli.params import ENVIRONMENT, Name, path_option
from phasesync.errors import InvalidInputError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application

DYNAMIC = Name("dynamic secret")
CREDENTIAL = Name("credential")
name_argument = click.argument("name", type=DYNAMIC)

AWS_IAM_USER = "aws-iam-user"
"""The issuer where `--issuer` is not given; `phasesync.adapters.issuers` lists them all."""


@click.group()
def dynamic() -> None:
    """Dynamic secrets: recipes for short-lived AWS credentials."""


@dynamic.command("list")
@output_option
@with_application
def list_(application: "Application", out: Output) -> None:
    """
    List all dynamic secrets.

    \b
    Example:
      phasesync dynamic list
    """
    from phasesync.cli.lease_views import dynamic_document

    columns = ["name", "env", "path", "issuer", "credential", "default_ttl_s", "max_ttl_s", "live_leases"]
    found = application.dynamics.list_all()
    for one in found:
        if one.error is not None:
            out.warn(one.error)
    out.items(
        map(dynamic_document, found),
        columns,
        empty="there are no dynamic secrets yet: phasesync dynamic add --help",
    )


@dynamic.command()
@name_argument
@output_option
@with_application
def show(application: "Application", name: str, out: Output) -> None:
    """
    Show what is set on a dynamic secret.

    \b
    Example:
      phasesync dynamic show ci
    """
    from phasesync.cli.lease_views import dynamic_document

    out.item(dynamic_document(application.dynamics.get(name)))


@dynamic.command()
@name_argument
@click.option(
    "--env", "environment", type=ENVIRONMENT, required=True, metavar="APP/ENV", help="Environment that it belongs to."
)
@path_option
@click.option("--credential", type=CREDENTIAL, required=True, help="Who makes the users, or assumes the role.")
@click.option(
    "--issuer",
    metavar="aws-iam-user|aws-assume-role",
    default=AWS_IAM_USER,
    show_default=True,
    help="A user for each lease, or a session of a role.",
)
@dynamic_options(required=True)
@output_option
@with_application
def add(
    application: "Application",
    name: str,
    environment: tuple[str, str],
    path: str,
    credential: str,
    issuer: str,
    options: DynamicOptions,
    out: Output,
) -> None:
    """
    Add a dynamic secret. AWS is asked nothing yet: the first lease shows whether the credential may do it.

    \b
    Examples:
      phasesync dynamic add ci --env shop/production --credential aws --default-ttl 1h --max-ttl 8h
        --policy-arn arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess
        --permission-boundary arn:aws:iam::111122223333:policy/phasesync-boundary
      phasesync dynamic add ops --env shop/production --path /ops --credential aws --issuer aws-assume-role
        --role-arn arn:aws:iam::111122223333:role/ops --default-ttl 15m --max-ttl 1h
    """
    from phasesync.cli.lease_views import dynamic_document
    from phasesync.core.dynamic import DynamicConfig
    from phasesync.core.user_names import DEFAULT_TEMPLATE
    from phasesync.ports import DynamicDraft

    if options.default_ttl is None or options.max_ttl is None:
        raise InvalidInputError("--default-ttl and --max-ttl say how long leases live")
    bare = DynamicConfig(user_template=DEFAULT_TEMPLATE, default_ttl=options.default_ttl, max_ttl=options.max_ttl)
    app, env = environment
    draft = DynamicDraft(
        name=name,
        app=app,
        environment=env,
        path=path,
        credential=credential,
        issuer=issuer,
        config=options.apply(bare),
    )
    added = application.dynamic_configuration.add(draft)
    for warning in added.warnings:
        out.warn(warning)
    out.done(
        f"added the dynamic secret {name}; what its credential has to be allowed: phasesync aws policy --dynamic "
        f"{name}; next: phasesync leases issue {name}",
        dynamic_document(added.dynamic),
    )


@dynamic.command()
@name_argument
@click.option("--credential", type=CREDENTIAL, help="Who makes the users, or assumes the role.")
@dynamic_options(required=False)
@output_option
@with_application
def update(application: "Application", name: str, credential: str | None, options: DynamicOptions, out: Output) -> None:
    """
    Change a dynamic secret. What is not given stays as it is, and so do leases that were issued. Environment, folder
    and issuer cannot change.

    \b
    Example:
      phasesync dynamic update ci --max-ttl 12h --group deployers
    """
    from phasesync.cli.lease_views import dynamic_document

    if options.empty and credential is None:
        raise InvalidInputError("there is nothing to change", hint="phasesync dynamic update --help")
    updated = application.dynamic_configuration.update(name, options.apply, credential=credential)
    for warning in updated.warnings:
        out.warn(warning)
    out.done(f"updated the dynamic secret {name}", dynamic_document(updated.dynamic))


@dynamic.command()
@name_argument
@click.option("--revoke", is_flag=True, help="Revoke its live leases first.")
@confirmation_options
@output_option
@with_application
def remove(application: "Application", name: str, revoke: bool, yes: bool, no_input: bool, out: Output) -> None:
    """
    Remove a dynamic secret with the log of its leases. Refused while a lease is live, unless --revoke says otherwise.

    \b
    Example:
      phasesync dynamic remove ci --revoke
    """
    from phasesync.cli.lease_removal import leases_of, revoke_leases, sessions_told, with_leases

    live = leases_of(application, dynamic=name) if revoke else []
    confirm(f"remove the dynamic secret {name}{with_leases(application, live)}", yes=yes, no_input=no_input)
    revoke_leases(application, live, out)
    with sessions_told(application, name):
        application.dynamics.remove(name)
    out.done(f"removed the dynamic secret {name}", {"removed": name, "revoked": [lease.id for lease in live]})
