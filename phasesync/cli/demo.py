"""`phasesync demo`: the tour on an AWS emulator in this process."""

from importlib import import_module

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
    for name in _NEEDED:
        try:
            import_module(name)
        except ImportError:
            raise SettingsError(
                f"the demo needs an AWS emulator, which is not installed: {name} is missing",
                hint="pip install 'phasesync[demo]'",
            ) from None
    from phasesync.demo.screen import Screen
    from phasesync.demo.tour import run_tour

    return run_tour(Screen())
