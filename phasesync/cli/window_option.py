"""The option `--window` of syncs and apps."""

import click

from phasesync.errors import InvalidInputError


def _windows(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the texts of all uses of the option; ('',) drops what was set before."""
    del context, parameter
    windows = tuple(part.strip() for text in texts for part in text.split(";"))
    if len(windows) > 1 and "" in windows:
        raise InvalidInputError("--window '' stands alone: it drops all windows", hint="leave it out, or the others")
    return windows


def windows_of(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the windows that the option sets."""
    return () if texts == ("",) else texts


window_option = click.option(
    "--window",
    "windows",
    multiple=True,
    callback=_windows,
    metavar="TEXT",
    help="Maintenance window, such as 'deny: 08:00-18:00 Mon-Fri Europe/Berlin' or 'allow: 22:00-04:00 Sat,Sun UTC': "
    "when unattended runs write nothing, or only then. Repeat it, or separate several with semicolons (commas belong "
    "to the days); it replaces those set before, and '' drops them. Default: none, so that changes go out at any time.",
)
