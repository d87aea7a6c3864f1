"""`phasesync apps`: named sets of environments."""

from typing import TYPE_CHECKING

import click

from phasesync.cli.documents import app_document
from phasesync.cli.dry_run import dry_run_option
from phasesync.cli.input import confirm, confirmation_options
from phasesync.cli.invocation import with_application
from phasesync.cli.output import Output, output_option
from phasesync.cli.paging import Paging, paging_options, show_list
from phasesync.cli.params import Name
from phasesync.cli.window_option import window_option, windows_of
from phasesync.errors import InvalidInputError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application

APP = Name("app")


@click.group()
def apps() -> None:
    """Apps: named sets of environments."""


@apps.command("list")
@paging_options("apps")
@output_option
@with_application
def list_(application: "Application", paging: Paging, out: Output) -> None:
    """
    List apps.

    \b
    Example:
      phasesync apps list -o json
    """
    show_list(
        out,
        paging,
        lambda after, limit: application.store.apps.page_apps(after=after, limit=limit),
        app_document,
        ["name", "description", "windows", "created_at"],
        empty="there are no apps yet: phasesync apps add NAME",
    )


@apps.command()
@click.argument("name", type=APP)
@click.option("--description", default="", metavar="TEXT", help="What the app is. Default: nothing.")
@window_option
@output_option
@with_application
@dry_run_option
def add(application: "Application", name: str, description: str, windows: tuple[str, ...], out: Output) -> None:
    """
    Add an app; it has no environments yet.

    \b
    Example:
      phasesync apps add shop --description "The shop"
    """
    app = application.store.apps.add_app(
        name, description=description, windows=_windows(application, name, windows) or ()
    )
    out.done(f"added the app {app.name}; next: phasesync envs add {app.name}/production", app_document(app))


@apps.command()
@click.argument("name", type=APP)
@click.option("--name", "new_name", type=APP, metavar="NEW", help="New name. References that name the app break.")
@click.option("--description", metavar="TEXT", help="New description of the app; '' removes it.")
@window_option
@confirmation_options
@output_option
@with_application
@dry_run_option
def update(
    application: "Application",
    name: str,
    new_name: str | None,
    description: str | None,
    windows: tuple[str, ...],
    yes: bool,
    no_input: bool,
    out: Output,
) -> None:
    """
    Change an app. What is not given stays as it is.

    Asks if a name template of a sync gives objects at AWS other names, and shows them.

    \b
    Examples:
      phasesync apps update shop --name store
      phasesync apps update shop --window 'deny: 08:00-18:00 Mon-Fri Europe/Berlin'
    """
    if new_name is None and description is None and not windows:
        raise InvalidInputError("there is nothing to change", hint="phasesync apps update --help")
    from phasesync.cli.renaming import confirm_rename, renamed_document
    from phasesync.engine.renaming import plan_renamed_app

    plan = None if new_name is None else plan_renamed_app(application.context, name, new_name)
    if plan is not None:
        confirm_rename(plan, f"rename the app {name} to {new_name}", out, yes=yes, no_input=no_input)
    app = application.store.apps.update_app(
        name, new_name=new_name, description=description, windows=_windows(application, name, windows)
    )
    out.done(f"updated the app {app.name}", app_document(app) | {"renamed": renamed_document(plan)})


def _windows(application: "Application", app: str, texts: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return checked windows; None if the option was not used."""
    if not texts:
        return None
    from phasesync.engine.windows import checked_windows

    return checked_windows(application.context, windows_of(texts), owner=f"the app {app}")


@apps.command()
@click.argument("name", type=APP)
@confirmation_options
@output_option
@with_application
@dry_run_option
def remove(application: "Application", name: str, yes: bool, no_input: bool, out: Output) -> None:
    """
    Remove an app that has no environments any more.

    \b
    Example:
      phasesync apps remove shop --yes
    """
    confirm(f"remove the app {name}", yes=yes, no_input=no_input)
    application.store.apps.remove_app(name)
    out.done(f"removed the app {name}", {"removed": name})
