"""`phasesync secrets history` and `rollback`: what a key was."""

from typing import TYPE_CHECKING

import click

from phasesync.cli.editing import write_secret
from phasesync.cli.invocation import with_application
from phasesync.cli.items import secret_item
from phasesync.cli.output import Output, output_option
from phasesync.cli.params import environment_argument, key_argument, path_option
from phasesync.errors import NotFoundError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application


@click.command()
@environment_argument
@key_argument
@path_option
@output_option
@with_application
def history(application: "Application", environment: tuple[str, str], key: str, path: str, out: Output) -> None:
    """
    List every version of a key, newest first. Values stay hidden.

    \b
    Example:
      phasesync secrets history shop/production DB_PASSWORD
    """
    versions = application.environments.history(*environment, path, key)
    out.items(map(secret_item, versions), ["version", "type", "changed_at", "changed_by", "origin", "comment"])


@click.command()
@environment_argument
@key_argument
@path_option
@click.option(
    "--to",
    "version",
    type=click.IntRange(min=1),
    required=True,
    metavar="N",
    help="Number of the version, as secrets history shows it.",
)
@output_option
@with_application
def rollback(
    application: "Application", environment: tuple[str, str], key: str, path: str, version: int, out: Output
) -> None:
    """
    Set a key to what an earlier version was. This makes a new version.

    \b
    Example:
      phasesync secrets rollback shop/production DB_PASSWORD --to 3
    """
    versions = {one.version: one for one in application.environments.history(*environment, path, key)}
    wanted = versions.get(version)
    if wanted is None or wanted.value is None:
        usable = ", ".join(str(number) for number, one in sorted(versions.items()) if one.value is not None)
        raise NotFoundError(
            f"{key} has no value in version {version}; versions with one: {usable}",
            hint=f"phasesync secrets history {'/'.join(environment)} {key} shows them",
        )
    write_secret(
        application,
        environment,
        path,
        key,
        wanted.value,
        comment=wanted.comment,
        origin="rollback",
        done=f"rolled back to version {version}",
        out=out,
    )
