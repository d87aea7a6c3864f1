"""
The commands that do what the tour did against a real account, in their order.

The tour from its first line to its last, and its end: whatever happens, nothing runs on and no file stays.

Must not decide what a step shows.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from phasesync.bootstrap import initialise_installation, open_application
from phasesync.demo.account import HOST_ACCOUNT, OTHER_ACCOUNT, Account
from phasesync.demo.daemon_process import DaemonProcess, stop_all
from phasesync.demo.failures import ClaimFailedError, OutOfTimeError
from phasesync.demo.interruptions import Interruptions
from phasesync.demo.isolation import environment_of_its_own, folder_of_its_own
from phasesync.demo.screen import Screen
from phasesync.demo.setup import add_credentials, add_syncs, fill_the_store
from phasesync.demo.stage import PRODUCTION, STAGING, Stage
from phasesync.demo.steps import (
    edit_one,
    edit_quickly,
    hold_an_emptied_environment,
    lend_a_key,
    pause_one,
    read_the_log,
    repair_an_outside_edit,
    resume_one,
    stop,
    survive_a_kill,
)
from phasesync.emulator import AwsEmulator
from phasesync.errors import PhasesyncError
from phasesync.settings import load_settings

COMMANDS: Final = (
    ("phasesync init", "data directory, root key, database"),
    ("phasesync apps add shop", ""),
    ("phasesync envs add shop/production", ""),
    ("phasesync secrets set shop/production DB_PASSWORD", "asks for the value; or import a file:"),
    ("phasesync secrets import shop/production .env", ""),
    ("phasesync credentials add aws --type assume-role --region eu-central-1", "prints the next three, filled in"),
    ("aws iam create-policy --policy-name phasesync-aws --policy-document ...", "in the account of the secrets"),
    ("aws iam create-role --role-name phasesync-aws --assume-role-policy-document ...", ""),
    ("aws iam attach-role-policy --role-name phasesync-aws --policy-arn ...", ""),
    ("phasesync credentials update aws --role-arn arn:aws:iam::ACCOUNT:role/phasesync-aws", ""),
    ("phasesync credentials test aws", ""),
    ("phasesync syncs add shop-production --env shop/production --credential aws --secret-name shop/production", ""),
    ("phasesync daemon", ""),
)
"""A command and a note on it."""


TIME_LIMIT_S: Final = 27.0
"""The whole tour; stopping what it started comes on top of it."""

STEPS: Final[tuple[Callable[[Stage], None], ...]] = (
    fill_the_store,
    add_credentials,
    add_syncs,
    edit_one,
    edit_quickly,
    pause_one,
    repair_an_outside_edit,
    resume_one,
    hold_an_emptied_environment,
    survive_a_kill,
    lend_a_key,
    read_the_log,
    stop,
)


def run_tour(screen: Screen) -> int:
    """
    Run the tour; call it from the main thread.

    Returns:
        0 when every claim held, else 1.

    Raises:
        KeyboardInterrupt: it was told to end; it has left nothing behind.
    """
    failure: str | None = None
    log: list[str] = []
    with ExitStack() as stack:
        interruptions = stack.enter_context(Interruptions(TIME_LIMIT_S))
        folder = stack.enter_context(folder_of_its_own())
        daemons = [DaemonProcess(folder, name, interruptions.held_back) for name in ("daemon-1", "daemon-2")]
        try:
            _walk(screen, folder, daemons, stack, interruptions)
        except ClaimFailedError as error:
            failure = str(error)
        except OutOfTimeError:
            failure = f"the tour is over within {TIME_LIMIT_S:.0f} s"
        except PhasesyncError as error:
            failure = f"this works ({type(error).__name__}: {error.message})"
        finally:
            interruptions.ignore()
        log.extend(line for daemon in daemons for line in daemon.last_lines())
    # Told after the end, which must not wait for whoever reads the output.
    if failure is not None:
        screen.failed(failure, log)
        return 1
    if folder.exists() or any(daemon.pid is not None for daemon in daemons):
        screen.failed(f"nothing is left behind: look at {folder}", [])
        return 1
    screen.end(f"All {screen.held} checks held; nothing is left running and no file stays.")
    return 0


def _walk(
    screen: Screen, folder: Path, daemons: Sequence[DaemonProcess], stack: ExitStack, interruptions: Interruptions
) -> None:
    emulator = AwsEmulator()
    stack.callback(emulator.stop)
    screen.title(
        "phasesync, a tour",
        f"AWS is played by an emulator at {emulator.url}, about as strict as AWS.",
        "Nothing leaves this machine. All values are made up; they are shown on purpose.",
    )
    config = stack.enter_context(environment_of_its_own(folder, endpoint=emulator.url))
    settings = load_settings(config).settings
    initialise_installation(settings)
    stack.callback(stop_all, daemons)
    daemons[0].start()  # The steps before the first sync give it time to come up.
    application = stack.enter_context(open_application(settings))
    accounts = {PRODUCTION: Account(emulator, OTHER_ACCOUNT), STAGING: Account(emulator, HOST_ACCOUNT)}
    for account in accounts.values():
        stack.callback(account.close)
    stage = Stage(
        application=application,
        emulator=emulator,
        accounts=accounts,
        daemons=daemons,
        screen=screen,
        folder=folder,
        look=interruptions.check,
    )
    for step in STEPS:
        interruptions.check()
        step(stage)
    interruptions.check()
    screen.heading("The same against a real account")
    for command, note in COMMANDS:
        screen.command(command, note)
