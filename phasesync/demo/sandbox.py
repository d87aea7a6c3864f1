"""
A sandbox: the emulator, a store with something in it, a daemon at work, and a shell or a command that uses them.

However it ends, no process and no file stays. Uses no settings and no credentials of the user.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final

from phasesync.bootstrap import Application, initialise_installation, open_application
from phasesync.core.credential import CredentialDraft, CredentialType
from phasesync.core.model import SecretValue, SecretWrite
from phasesync.core.sync import SyncConfig, SyncDraft, SyncStatus
from phasesync.core.sync_status import status_of
from phasesync.demo.interruptions import Interruptions, OutOfTimeError
from phasesync.demo.isolation import REGION, private_environment, private_folder
from phasesync.demo.processes import STOP_WITHIN_S, DaemonProcess, Watchdog, adopt_orphans, end_children, stop_all
from phasesync.emulator import AwsEmulator
from phasesync.errors import PhasesyncError
from phasesync.settings import load_settings

ACTOR: Final = "sandbox"
APP: Final = "shop"
ENVIRONMENT: Final = "staging"
CREDENTIAL: Final = "emulator"
SYNC: Final = "shop-staging"
SECRET_NAME: Final = f"{APP}/{ENVIRONMENT}"
SECRETS: Final = {"API_URL": "https://api.shop.example/v1", "DB_PASSWORD": "staging-Rz8w", "LOG_LEVEL": "info"}
"""Made up, like everything in the sandbox."""

START_WITHIN_S: Final = 60.0
"""How long the start may take on a busy machine; about 3 s is usual."""
POLL_S: Final = 0.05
NOT_EXECUTABLE: Final = 126
"""Exit code of shells for a command that cannot be run (POSIX, Shell Command)."""

_PLAIN_SHELLS: Final = {
    "bash": ("--noprofile", "--norc"),
    "zsh": ("-f",),
    "fish": ("--no-config", "--private"),
}
"""Shell -> options that keep it from reading the user's files, which may set AWS_PROFILE, PATH or the prompt."""

TRY: Final = (
    ("phasesync status", ""),
    ("phasesync secrets list shop/staging", ""),
    ("phasesync secrets set shop/staging API_URL", "asks for the value; the daemon writes it to AWS at once"),
    ("phasesync syncs list", ""),
    ("phasesync runs list", "what the daemon did"),
    (f"phasesync syncs verify {SYNC}", "reads the value at AWS and compares it with the store"),
)
"""Commands for a start, with notes."""


def run_sandbox(command: Sequence[str], *, say: Callable[[str], None]) -> int:
    """
    Run a shell or one command in a sandbox; call it from the main thread.

    Args:
        command: program and arguments; empty = an interactive shell, with a few lines on what to try.
        say: shows a line to the user.

    Returns:
        The exit code of the command, 128 + N if signal N ended it, or 1 if the sandbox did not start.

    Raises:
        KeyboardInterrupt: a signal ended the start; nothing is left behind.
    """
    log: list[str] = []
    failure: str | None = None
    with ExitStack() as stack:
        interruptions = stack.enter_context(Interruptions(START_WITHIN_S))
        watchdog = Watchdog()
        stack.callback(watchdog.dismiss)
        folder = stack.enter_context(private_folder("phasesync-sandbox-"))
        watchdog.remove(folder)
        adopt_orphans()
        stack.callback(end_children, except_pid=watchdog.pid)
        daemon = DaemonProcess(folder, "daemon", interruptions.held_back, watchdog)
        try:
            if not command:
                say("Starting an AWS emulator, a store and a daemon ...")
            url = _start(folder, daemon, stack, interruptions.check)
            if not command:
                _welcome(url, say)
            with _relayed_signals(interactive=not command) as relay:
                interruptions.check()
                return _run(command or _shell(), relay, watchdog, say)
        except OutOfTimeError:
            failure = f"the sandbox did not start within {START_WITHIN_S:.0f} s"
        except PhasesyncError as error:
            failure = f"the sandbox did not start: {type(error).__name__}: {error.message}"
        finally:
            interruptions.ignore()
            log += daemon.last_lines()
    say(f"error: {failure}")
    for line in log:
        say(f"daemon: {line}")
    return 1


def _start(folder: Path, daemon: DaemonProcess, stack: ExitStack, check: Callable[[], None]) -> str:
    """Start everything and wait until the first value is at AWS; return the URL of the emulator."""
    emulator = AwsEmulator()
    stack.callback(emulator.stop)
    config = stack.enter_context(private_environment(folder, endpoint=emulator.url))
    settings = load_settings(config).settings
    initialise_installation(settings)
    stack.callback(stop_all, [daemon])
    daemon.start()
    _install_command(folder / "bin")
    with open_application(settings) as application:
        _fill(application)
        while _status(application) is not SyncStatus.IN_SYNC:
            check()
            time.sleep(POLL_S)
    return emulator.url


def _fill(application: Application) -> None:
    """Add an app, an environment with secrets, a credential and a sync."""
    application.store.apps.add_app(APP)
    application.store.apps.add_environment(APP, ENVIRONMENT)
    writes = [SecretWrite(path="/", key=key, value=SecretValue(value)) for key, value in SECRETS.items()]
    application.store.secrets.edit(APP, ENVIRONMENT, actor=ACTOR, origin="set", writes=writes)
    draft = CredentialDraft(type=CredentialType.AMBIENT, region=REGION)
    application.credential_operations.add(CREDENTIAL, draft, generate_external_id=False)
    application.credential_operations.test(CREDENTIAL)
    sync = SyncDraft(
        name=SYNC,
        app=APP,
        environment=ENVIRONMENT,
        path="/",
        credential=CREDENTIAL,
        destination_kind="aws-secrets-manager",
        region=REGION,
        config=SyncConfig(remote_name=SECRET_NAME),
        account=None,
        adopt=None,
    )
    application.configuration.add(sync, verify=True)


def _status(application: Application) -> SyncStatus:
    state = application.store.syncs.get_sync(SYNC)
    return status_of(state, application.store.credentials.get_by_id(state.credential_id).status)


def _install_command(folder: Path) -> None:
    """Put a `phasesync` that is this one first on the PATH, wherever this one was started from."""
    folder.mkdir()
    script = folder / "phasesync"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m phasesync "$@"\n')
    script.chmod(0o700)
    os.environ["PATH"] = os.pathsep.join([str(folder), os.environ.get("PATH", os.defpath)])


def _welcome(url: str, say: Callable[[str], None]) -> None:
    say(f"AWS is played by an emulator at {url}. A daemon keeps the AWS secret {SECRET_NAME} in step with the store.")
    say("Try:")
    width = max(len(line) for line, _ in TRY)
    for line, note in TRY:
        say(f"  {line:{width}}  {note}".rstrip())
    say("`exit` or Ctrl-D ends everything and removes every file.")


def _shell() -> list[str]:
    """Return an interactive shell that uses no files of the user, and set its prompt."""
    shell = shutil.which(os.environ.get("SHELL", "")) or "/bin/sh"
    os.environ["PS1"] = "(phasesync sandbox) $ "
    os.environ["HISTFILE"] = ""  # Not saved, in bash and zsh.
    return [shell, *_PLAIN_SHELLS.get(Path(shell).name, ())]


class _Relay:
    """Passes signals to this process on to the shell or command."""

    def __init__(self, *, interactive: bool) -> None:
        """`interactive`: it is an interactive shell, which ends by SIGHUP only."""
        self.interactive = interactive
        self.received: int | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def note(self, number: int, frame: FrameType | None) -> None:
        """Keep a signal, and pass it on."""
        self.received = number
        self.pass_on()

    def pass_on(self) -> None:
        """Send the signal that has come to the process, if there are both."""
        if self.received is not None and self.process is not None:
            self.process.send_signal(signal.SIGHUP if self.interactive else self.received)


@contextmanager
def _relayed_signals(*, interactive: bool) -> Iterator[_Relay]:
    """Pass SIGTERM and SIGHUP on. The terminal sends SIGINT to the shell or command itself."""
    relay = _Relay(interactive=interactive)
    handlers: dict[int, Any] = {
        signal.SIGINT: lambda number, frame: None,  # Not SIG_IGN, which a child would inherit.
        signal.SIGTERM: relay.note,
        signal.SIGHUP: relay.note,
    }
    former = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield relay
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _run(command: Sequence[str], relay: _Relay, watchdog: Watchdog, say: Callable[[str], None]) -> int:
    """Run the shell or command to its end; return its exit code as a shell does."""
    try:
        process = relay.process = subprocess.Popen(command)
    except OSError as error:
        say(f"error: {command[0]}: {error.strerror}")
        return NOT_EXECUTABLE
    watchdog.end(process.pid)
    relay.pass_on()
    received_at: float | None = None
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
            break
        if relay.received is not None:
            received_at = received_at or time.monotonic()
            if time.monotonic() - received_at > STOP_WITHIN_S:
                process.kill()
    if relay.interactive and relay.received is not None:
        return 128 + relay.received
    return process.returncode if process.returncode >= 0 else 128 - process.returncode
