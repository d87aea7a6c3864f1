"""`phasesync dynamic`: dynamic secrets, recipes for short-lived credentials, and the options for what is set on one."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial, update_wrapper
from typing import TYPE_CHECKING, Any, Final

import click

from phasesync.cli.dry_run import dry_run_option
from phasesync.cli.input import confirm, confirmation_options, never_asks, text_of
from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, output_option
from phasesync.cli.paging import Paging, paging_options, show_list
from phasesync.cli.params import (
    COUNT,
    DURATION,
    ENVIRONMENT,
    Name,
    Pair,
    comma_list_or_empty,
    merged,
    pairs,
    path_option,
)
from phasesync.core.dynamic import DynamicConfig
from phasesync.core.project.ownership import ObjectKind
from phasesync.errors import InvalidInputError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.core.dynamic import DynamicSecret
    from phasesync.core.pages import Page


@dataclass(frozen=True, kw_only=True)
class DynamicOptions:
    """
    The options of a command. None leaves the configuration as it is.

    An empty text removes a setting.
    """

    user_template: str | None
    iam_path: str | None
    policy_arns: tuple[str, ...]
    groups: tuple[str, ...]
    permission_boundary: str | None
    inline_policy: str | None
    tags: tuple[tuple[str, str], ...]
    role_arn: str | None
    session_policy: str | None
    default_ttl: timedelta | None
    max_ttl: timedelta | None
    max_leases: int | None
    key_map: tuple[tuple[str, str], ...]

    @property
    def empty(self) -> bool:
        """Whether no option was used."""
        return all(value is None or value == () for value in vars(self).values())

    def apply(self, config: DynamicConfig) -> DynamicConfig:
        """Return the configuration with these options. InvalidInputError if a file cannot be read."""
        changes: dict[str, Any] = {}
        for name in ("default_ttl", "max_ttl", "max_leases"):
            if (value := getattr(self, name)) is not None:
                changes[name] = value
        if self.user_template is not None:
            changes["user_template"] = self.user_template
        for name in ("iam_path", "permission_boundary", "role_arn"):
            if (text := getattr(self, name)) is not None:
                changes[name] = text or None
        for name in ("inline_policy", "session_policy"):
            if (file := getattr(self, name)) is not None:
                changes[name] = text_of(file) if file else None
        for name in ("policy_arns", "groups"):
            if names := getattr(self, name):
                changes[name] = tuple(entry for entry in names if entry)
        if self.tags:
            changes["tags"] = merged(config.tags, self.tags)
        if self.key_map:
            changes["keys"] = merged(config.keys, self.key_map)
        return replace(config, **changes)


def dynamic_options(*, required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options to a command; it gets them as `options`. `required`: the lives have to be given."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            names = DynamicOptions.__dataclass_fields__
            options = DynamicOptions(**{name: kwargs.pop(name) for name in names})
            return command(*args, options=options, **kwargs)

        decorated: Callable[..., Any] = update_wrapper(wrapper, command)
        for option in reversed((*_lives(required=required), *_OPTIONS)):
            decorated = option(decorated)
        return decorated

    return decorate


def _lives(*, required: bool) -> tuple[Callable[..., Any], ...]:
    return (
        click.option(
            "--default-ttl",
            type=DURATION,
            required=required,
            help="Life of a lease that is issued without --ttl, such as 1h.",
        ),
        click.option(
            "--max-ttl",
            type=DURATION,
            required=required,
            help="Longest life of a lease, however often it is renewed, such as 8h.",
        ),
    )


_OPTIONS: Final = (
    click.option(
        "--user-template",
        metavar="TEMPLATE",
        help="Names of the users, or of the sessions; with {{random}}, and {{app}}, {{env}}, {{name}}. "
        "Default: '{{name}}-{{random}}'.",
    ),
    click.option(
        "--iam-path",
        metavar="PATH",
        help="IAM path of the users, without users of others. Default, which '' restores: /phasesync/APP/ENV/.",
    ),
    click.option(
        "--policy-arn",
        "policy_arns",
        multiple=True,
        callback=comma_list_or_empty,
        metavar="ARN",
        help="Managed policy of the users, or of the sessions. Repeat it, or separate several with commas. '' "
        "drops those "
        "set before. Default: none.",
    ),
    click.option(
        "--group",
        "groups",
        multiple=True,
        callback=comma_list_or_empty,
        metavar="NAME|ARN",
        help="Group of the users. Repeat it, or separate several with commas. '' drops those set before. Default: "
        "none.",
    ),
    click.option(
        "--permission-boundary",
        metavar="ARN",
        help="Policy that bounds what the users may do. Default, which '' restores: none.",
    ),
    click.option(
        "--inline-policy",
        type=click.Path(),
        metavar="FILE",
        help="JSON file with a policy that every user gets inline. Default, which '' restores: none.",
    ),
    click.option(
        "--tag",
        "tags",
        multiple=True,
        callback=pairs,
        metavar="K=V",
        help="Tag of the users, such as team=web. Repeat it, or separate several with commas. '' drops those set "
        "before. "
        "Default: none.",
    ),
    click.option(
        "--role-arn",
        metavar="ARN",
        help="Role to issue sessions of; required for aws-assume-role. No default.",
    ),
    click.option(
        "--session-policy",
        type=click.Path(),
        metavar="FILE",
        help="JSON file with a policy that narrows the sessions down. Default, which '' restores: none.",
    ),
    click.option("--max-leases", type=COUNT, help="How many leases may be live at once. Default: 50."),
    click.option(
        "--key-map",
        multiple=True,
        callback=partial(pairs, form=Pair("OUTPUT=NAME, such as username=CI_USER")),
        metavar="OUTPUT=NAME",
        help="Key under which an output is issued; outputs: username, access_key_id, secret_access_key, session_token. "
        "Repeat it, or separate several with commas. Default: AWS_IAM_USERNAME, AWS_ACCESS_KEY_ID and so on.",
    ),
)


DYNAMIC = Name("dynamic secret")
CREDENTIAL = Name("credential")
name_argument = click.argument("name", type=DYNAMIC)

AWS_IAM_USER = "aws-iam-user"
"""The issuer where `--issuer` is not given; `phasesync.adapters.issuers` lists them all."""


@click.group()
def dynamic() -> None:
    """Dynamic secrets: recipes for short-lived AWS credentials."""


@dynamic.command("list")
@paging_options("dynamic secrets")
@output_option
@with_application
def list_(application: "Application", paging: Paging, out: Output) -> None:
    """
    List dynamic secrets.

    \b
    Example:
      phasesync dynamic list
    """
    from phasesync.cli.lease_documents import dynamic_document

    columns = ["name", "env", "path", "issuer", "credential", "default_ttl_s", "max_ttl_s", "live_leases"]

    def fetch(after: str | None, limit: int) -> "Page[DynamicSecret]":
        page = application.store.dynamics.page(after=after, limit=limit)
        for secret in page.items:
            if secret.error is not None:
                out.warn(secret.error)
        return page

    show_list(
        out,
        paging,
        fetch,
        dynamic_document,
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
    from phasesync.cli.documents import owner_document
    from phasesync.cli.lease_documents import dynamic_document

    shown = application.store.dynamics.get(name)
    owner = application.store.projects.owner_of(ObjectKind.DYNAMIC, shown.id)
    out.item(dynamic_document(shown) | owner_document(owner))


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
@dry_run_option
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
    Add a dynamic secret. AWS is not called yet: the first lease shows whether the credential has the rights.

    \b
    Examples:
      phasesync dynamic add ci --env shop/production --credential aws --default-ttl 1h --max-ttl 8h
        --policy-arn arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess
        --permission-boundary arn:aws:iam::111122223333:policy/phasesync-boundary
      phasesync dynamic add ops --env shop/production --path /ops --credential aws --issuer aws-assume-role
        --role-arn arn:aws:iam::111122223333:role/ops --default-ttl 15m --max-ttl 1h
    """
    from phasesync.cli.lease_documents import dynamic_document
    from phasesync.core.dynamic import DynamicConfig, DynamicDraft
    from phasesync.core.lease_users import DEFAULT_TEMPLATE

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
        f"added the dynamic secret {name}; the rights that its credential needs: phasesync aws policy --dynamic "
        f"{name}; next: phasesync leases issue {name}",
        dynamic_document(added.dynamic),
    )


@dynamic.command()
@name_argument
@click.option("--credential", type=CREDENTIAL, help="Who makes the users, or assumes the role.")
@dynamic_options(required=False)
@output_option
@with_application
@dry_run_option
def update(application: "Application", name: str, credential: str | None, options: DynamicOptions, out: Output) -> None:
    """
    Change a dynamic secret. What is not given stays as it is, and so do leases that were issued. Environment, folder
    and issuer cannot change.

    \b
    Example:
      phasesync dynamic update ci --max-ttl 12h --group deployers
    """
    from phasesync.cli.lease_documents import dynamic_document

    if options.empty and credential is None:
        raise InvalidInputError("there is nothing to change", hint="phasesync dynamic update --help")
    updated = application.dynamic_configuration.update(name, options.apply, credential=credential)
    for warning in updated.warnings:
        out.warn(warning)
    out.done(f"updated the dynamic secret {name}", dynamic_document(updated.dynamic))


@dynamic.command()
@name_argument
@click.argument("new_name", metavar="NEW", type=DYNAMIC)
@never_asks
@output_option
@with_application
@dry_run_option
def rename(application: "Application", name: str, new_name: str, out: Output) -> None:
    """
    Give a dynamic secret another name. Its leases stay as they are; later ones may get users with other names.

    \b
    Example:
      phasesync dynamic rename ci deploy
    """
    from phasesync.cli.lease_documents import dynamic_document

    renamed = application.dynamic_configuration.rename(name, new_name)
    for warning in renamed.warnings:
        out.note(warning)
    out.done(f"renamed the dynamic secret {name} to {renamed.dynamic.name}", dynamic_document(renamed.dynamic))


@dynamic.command()
@name_argument
@click.option("--revoke", is_flag=True, help="Revoke its live leases first.")
@confirmation_options
@output_option
@with_application
@dry_run_option
def remove(application: "Application", name: str, revoke: bool, yes: bool, no_input: bool, out: Output) -> None:
    """
    Remove a dynamic secret with the log of its leases. Refused while a lease is live, unless --revoke says otherwise.

    \b
    Example:
      phasesync dynamic remove ci --revoke
    """
    from phasesync.cli.lease_revocation import revocation_clause, revoke_before_removal, session_hint
    from phasesync.engine.approvals import allowed

    live = application.context.leases.list_leases(dynamic=name) if revoke else []
    confirm(f"remove the dynamic secret {name}{revocation_clause(application, live)}", yes=yes, no_input=no_input)
    store = application.store.dynamics
    with allowed(application.context, lambda: store.check_removal(name), actor=invocation().actor):
        revoke_before_removal(application, live, out)
        with session_hint(application, name):
            store.remove(name)
    out.done(f"removed the dynamic secret {name}", {"removed": name, "revoked": [lease.id for lease in live]})
