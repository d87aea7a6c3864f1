"""`phasesync demo`: the tour on an AWS emulator in this process."""

from importlib.util import find_spec

import click

from phasesync.errors import SettingsError

_NEEDED = ("moto", "flask", "flask_cors")
"""What the extra `demo` brings."""


@click.command()
def demo() -> int:
    """
    Show phasesync at work: the real daemon, and an emulator (moto) in the place of AWS.

    Takes about 15 seconds, uses nothing of your own settings or credentials, and leaves nothing behind.

    \b
    Example:
      phasesync demo
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise SettingsError(
            f"the demo needs the AWS emulator, which is not installed ({', '.join(missing)} is missing)",
            hint="pip install 'phasesync[demo]'",
        )
    from phasesync.demo.screen import Screen
    from phasesync.demo.tour import run_tour

    return run_tour(Screen())
