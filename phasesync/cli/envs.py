"""`phasesync envs`: environments of an app."""

from typing import TYPE_CHECKING

import click

from phasesync.cli.approvals import approve, reject, requests
from phasesync.cli.documents import environment_document
from phasesync.cli.dry_run import dry_run_option
from phasesync.cli.input import confirm, confirmation_options
from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, output_option
from phasesync.cli.paging import Paging, paging_options, show_list
from phasesync.cli.params import Name, environment_argument
from phasesync.core.counted import counted
from phasesync.errors import InvalidInputError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application

MOST_APPROVERS = 10
"""More would be a mistake that nobody could undo."""


@click.group()
def envs() -> None:
    """Environments of an app, written APP/ENV."""


@envs.command("list")
@click.option("--app", type=Name("app"), metavar="NAME", help="Those of this app only. Default: of all apps.")
@paging_options("environments")
@output_option
@with_application
def list_(application: "Application", app: str | None, paging: Paging, out: Output) -> None:
    """
    List environments.

    \b
    Example:
      phasesync envs list --app shop
    """
    show_list(
        out,
        paging,
        lambda after, limit: application.store.apps.page_environments(app, after=after, limit=limit),
        environment_document,
        ["env", "revision", "keys", "approvers", "created_at"],
        empty="there are no environments yet: phasesync envs add APP/ENV",
    )


@envs.command()
@environment_argument
@output_option
@with_application
@dry_run_option
def add(application: "Application", environment: tuple[str, str], out: Output) -> None:
    """
    Add an environment to an app.

    \b
    Example:
      phasesync envs add shop/production
    """
    added = application.store.apps.add_environment(*environment)
    out.done(
        f"added the environment {added.label}; next: phasesync secrets set {added.label} KEY",
        environment_document(added),
    )


@envs.command()
@environment_argument
@click.option(
    "--name",
    "new_name",
    type=Name("environment"),
    metavar="NEW",
    help="New name, without the app. References that name the environment break. Default: the one it has.",
)
@click.option(
    "--protect/--no-protect",
    default=None,
    help="Hold changes of it, of its syncs and of its dynamic secrets until somebody else has approved them. Default: "
    "as it is.",
)
@click.option(
    "--approvers",
    type=click.IntRange(1, MOST_APPROVERS),
    metavar="N",
    help="With --protect: the number of others who have to approve a change. Default: 1.",
)
@confirmation_options
@output_option
@with_application
@dry_run_option
def update(
    application: "Application",
    environment: tuple[str, str],
    new_name: str | None,
    protect: bool | None,
    approvers: int | None,
    yes: bool,
    no_input: bool,
    out: Output,
) -> None:
    """
    Rename or protect an environment. In a protected one every change of it, of its syncs and of its dynamic secrets
    waits for somebody else; so does a change of its protection.

    Asks if a name template of a sync gives objects at AWS other names, and shows them.

    \b
    Examples:
      phasesync envs update shop/prod --name production
      phasesync envs update shop/production --protect --approvers 2
    """
    if new_name is None and protect is None:
        raise InvalidInputError("there is nothing to change", hint="--name, --protect or --no-protect")
    if approvers is not None and not protect:
        raise InvalidInputError("--approvers needs --protect", hint=f"add --protect: --protect --approvers {approvers}")
    if new_name is not None and protect is not None:
        raise InvalidInputError("--name and --protect are two changes", hint="give one after the other")
    if new_name is not None:
        from phasesync.cli.renaming import confirm_rename, renamed_document
        from phasesync.engine.renaming import plan_renamed_environment

        label = "/".join(environment)
        plan = plan_renamed_environment(application.context, *environment, new_name)
        confirm_rename(plan, f"rename {label} to {environment[0]}/{new_name}", out, yes=yes, no_input=no_input)
        updated = application.store.apps.update_environment(*environment, new_name=new_name)
        out.done(
            f"renamed {label} to {updated.label}", environment_document(updated) | {"renamed": renamed_document(plan)}
        )
        return
    wanted = (approvers or 1) if protect else None
    updated = application.store.apps.protect_environment(*environment, approvers=wanted)
    state = "not protected"
    if updated.approvers is not None:
        single = updated.approvers == 1
        people = "1 other person approves" if single else f"{updated.approvers} other people approve"
        state = f"protected: {people} each change"
    out.done(f"{updated.label} is {state}", environment_document(updated))


@envs.command()
@environment_argument
@click.option("--revoke", is_flag=True, help="Revoke the live leases of its dynamic secrets first.")
@confirmation_options
@output_option
@with_application
@dry_run_option
def remove(
    application: "Application", environment: tuple[str, str], revoke: bool, yes: bool, no_input: bool, out: Output
) -> None:
    """
    Remove an environment with all its secrets and their history, and its dynamic secrets. Refused while syncs use it.

    \b
    Examples:
      phasesync envs remove shop/preview --yes
      phasesync envs remove shop/preview --revoke
    """
    from phasesync.cli.lease_revocation import revocation_clause, revoke_before_removal
    from phasesync.engine.approvals import allowed

    current = application.store.apps.get_environment(*environment)
    live = application.context.leases.list_leases(environment=environment) if revoke else []
    whose = "its" if current.keys == 1 else "their"
    question = f"remove {current.label} with {counted(current.keys, 'secret')} and {whose} history"
    if dynamics := [
        dynamic.name for dynamic in application.store.dynamics.list_all() if dynamic.environment_id == current.id
    ]:
        question += f", and its dynamic secrets ({', '.join(dynamics)})"
    confirm(f"{question}{revocation_clause(application, live)}", yes=yes, no_input=no_input)
    store = application.store.apps
    with allowed(application.context, lambda: store.check_removal(*environment), actor=invocation().actor):
        revoke_before_removal(application, live, out)
        store.remove_environment(*environment)
    document = {"removed": current.label, "revoked": [lease.id for lease in live]}
    out.done(f"removed the environment {current.label}", document)


@envs.command()
@environment_argument
@click.argument("target", type=Name("environment"), metavar="NEW")
@output_option
@with_application
@dry_run_option
def clone(application: "Application", environment: tuple[str, str], target: str, out: Output) -> None:
    """
    Copy the secrets as they are now into a new environment. It belongs to the same app.

    \b
    Example:
      phasesync envs clone shop/production staging
    """
    cloned = application.store.secrets.clone_environment(*environment, target, actor=invocation().actor)
    out.done(f"cloned {'/'.join(environment)} to {cloned.label}", environment_document(cloned))
    if application.store.apps.get_environment(*environment).approvers is not None:
        out.note(f"{cloned.label} is not protected: phasesync envs update {cloned.label} --protect")


for command in (requests, approve, reject):
    envs.add_command(command)
