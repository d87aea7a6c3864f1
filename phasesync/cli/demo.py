"""`phasesync demo`: the tour on an AWS emulator in this process."""

import click

from phasesync.demo import require_emulator


@click.command()
def demo() -> int:
    """
    Show phasesync at work: the real daemon, and an emulator (moto) in the place of AWS.

    Takes about 15 seconds, uses nothing of your own settings or credentials, and leaves nothing behind.

    \b
    Example:
      phasesync demo
    """
    require_emulator("the demo")
    from phasesync.demo.screen import Screen
    from phasesync.demo.tour import run_tour

    return run_tour(Screen())
