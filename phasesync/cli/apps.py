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
        ["name", "description", "created_at"],
        empty="there are no apps yet: phasesync apps add NAME",
    )


@apps.command()
@click.argument("name", type=APP)
@click.option("--description", default="", metavar="TEXT", help="What the app is. Default: nothing.")
@output_option
@with_application
@dry_run_option
def add(application: "Application", name: str, description: str, out: Output) -> None:
    """
    Add an app; it has no environments yet.

    \b
    Example:
      phasesync apps add shop --description "The shop"
    """
    app = application.store.apps.add_app(name, description=description)
    out.done(f"added the app {app.name}; next: phasesync envs add {app.name}/production", app_document(app))


@apps.command()
@click.argument("name", type=APP)
@click.option("--name", "new_name", type=APP, metavar="NEW", help="New name. References that name the app break.")
@click.option("--description", metavar="TEXT", help="New description of the app; '' removes it.")
@output_option
@with_application
@dry_run_option
def update(application: "Application", name: str, new_name: str | None, description: str | None, out: Output) -> None:
    """
    Rename or describe an app. What is not given stays as it is.

    \b
    Example:
      phasesync apps update shop --name store
    """
    if new_name is None and description is None:
        raise InvalidInputError("there is nothing to change", hint="phasesync apps update --help")
    app = application.store.apps.update_app(name, new_name=new_name, description=description)
    out.done(f"updated the app {app.name}", app_document(app))


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
