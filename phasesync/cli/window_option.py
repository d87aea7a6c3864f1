"""The option `--window` of syncs and apps."""

import click

from phasesync.errors import InvalidInputError


def windows_of(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the windows of `--window`; '' alone means none."""
    if texts == ("",):
        return ()
    if "" in texts:
        raise InvalidInputError("--window '' stands alone: it drops all windows", hint="leave it out, or the others")
    return texts


window_option = click.option(
    "--window",
    "windows",
    multiple=True,
    metavar="TEXT",
    help="Maintenance window, such as 'deny: 08:00-18:00 Mon-Fri Europe/Berlin' or 'allow: 22:00-04:00 Sat,Sun UTC': "
    "when unattended runs write nothing, or only then. Repeat it for several; it replaces those set before, and '' "
    "drops them. Default: none, so that changes are written at any time.",
)
