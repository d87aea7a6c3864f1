"""
What every step of the tour works with: phasesync's public operations, the two AWS accounts, the daemon, the screen.

Names and values are made up; the values are shown on purpose.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from phasesync.bootstrap import Application
from phasesync.core.chores import DaemonRole
from phasesync.core.model import SecretValue, SecretWrite
from phasesync.core.sync import SyncStatus
from phasesync.core.sync_status import status_of
from phasesync.demo.account import Account, Stored
from phasesync.demo.processes import DaemonProcess
from phasesync.demo.screen import ClaimFailedError, Screen
from phasesync.emulator import AwsEmulator

ACTOR: Final = "demo"
APP: Final = "shop"
PRODUCTION: Final = "shop-production"
STAGING: Final = "shop-staging"
"""The two syncs."""
SECRET_NAMES: Final = {PRODUCTION: "shop/production", STAGING: "shop/staging"}

LONGEST_WORD: Final = len("warning")

POLL_S: Final = 0.05
PATIENCE_S: Final = 10.0


@dataclass(frozen=True, kw_only=True)
class Stage:
    """
    Everything a step needs.

    Attributes:
        application: phasesync, as every command of the command line gets it.
        emulator: AWS.
        accounts: sync -> the account that it writes to.
        daemons: started or not; one works, the other stands by.
        screen: what the operator sees.
        folder: everything that phasesync writes.
        check: raises if the tour has to end early; called wherever a step waits.
        values: the secret values that were set, without those that are ordinary words.
        patience_s: how long a step waits for what it claims.
    """

    application: Application
    emulator: AwsEmulator
    accounts: Mapping[str, Account]
    daemons: Sequence[DaemonProcess]
    screen: Screen
    folder: Path
    check: Callable[[], None]
    values: set[str] = field(default_factory=set)
    patience_s: float = PATIENCE_S

    def set(self, environment: str, **secrets: str) -> None:
        """Set secrets of one environment in one edit, and print the commands that do it one by one."""
        writes = [SecretWrite(path="/", key=key, value=SecretValue(value)) for key, value in secrets.items()]
        self.application.store.secrets.edit(APP, environment, actor=ACTOR, origin="set", writes=writes)
        self.values.update(value for value in secrets.values() if len(value) > LONGEST_WORD)
        for key, value in secrets.items():
            self.screen.command(f"phasesync secrets set {APP}/{environment} {key}", f"typed at the prompt: {value}")

    def at_aws(self, sync: str) -> Stored:
        """Read what a sync wrote, as a program does. ClaimFailedError if there is nothing."""
        stored = self.accounts[sync].read(SECRET_NAMES[sync])
        if stored is None:
            raise ClaimFailedError(f"{SECRET_NAMES[sync]} exists at AWS")
        return stored

    def versions(self, sync: str) -> int:
        """Return how many versions AWS has of what a sync wrote."""
        return self.accounts[sync].versions(SECRET_NAMES[sync])

    def show(self, sync: str) -> Stored:
        """Read what a sync wrote, and print it."""
        stored = self.at_aws(sync)
        self.screen.read_back(SECRET_NAMES[sync], stored)
        return stored

    def daemon(self, role: DaemonRole) -> DaemonProcess | None:
        """Return the daemon that works or the one that stands by, None if there is none."""
        pids = {member["pid"] for member in self.application.store.daemons.alive() if member["role"] == role}
        return next((daemon for daemon in self.daemons if daemon.pid in pids), None)

    def until(self, subject: str, condition: Callable[[], object]) -> float:
        """
        Wait for something.

        Returns:
            The seconds it took.

        Raises:
            ClaimFailedError: it did not come; `subject` says what.
        """
        began = time.monotonic()
        while not condition():
            self.check()
            if time.monotonic() - began > self.patience_s:
                raise ClaimFailedError(f"{subject}, within {self.patience_s:.0f} s")
            time.sleep(POLL_S)
        return time.monotonic() - began

    def until_at_aws(self, sync: str, **keys: str) -> float:
        """Wait until a secret at AWS has these values; return the seconds it took."""

        def is_there() -> bool:
            stored = self.accounts[sync].read(SECRET_NAMES[sync])
            return stored is not None and keys.items() <= stored.keys.items()

        return self.until(f"{SECRET_NAMES[sync]} carries the new value", is_there)

    def until_in_sync(self, *syncs: str) -> None:
        """Wait until syncs are in sync, so that nothing is on its way any more."""
        for sync in syncs:
            self.until_status(sync, SyncStatus.IN_SYNC)

    def until_status(self, sync: str, wanted: SyncStatus) -> None:
        """Wait until a sync stands like this."""
        self.until(f"{sync} is {wanted}", lambda: self.status_of(sync) is wanted)

    def status_of(self, sync: str) -> SyncStatus:
        """Return how a sync stands."""
        state = self.application.store.syncs.get_sync(sync)
        return status_of(state, self.application.store.credentials.get_by_id(state.credential_id).status)
