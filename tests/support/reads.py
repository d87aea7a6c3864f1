"""
The right to read values at AWS: in all tests nobody has it, unless a test asks for it.

    @pytest.mark.reads_values("syncs verify")       this test runs a command that reads, one of `READERS`
    Config(user_agent=LOOKS_AROUND)                 a client of the tests themselves, which looks at the result

So the tests of engine, leases, durability and the daemon run under a role that denies every read. The fakes and every
emulator refuse as AWS does, whatever the key: whoever is not told apart as the test's own client is refused, and so is
a client that phasesync might make in another way. An attempt also fails its test, whatever became of the refusal.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

from phasesync.emulator import Answer, AwsEmulator, Operation
from phasesync.errors import PermissionDeniedError

READS: Final = frozenset({"GetSecretValue", "BatchGetSecretValue", "AssociateCrossAccountReplica", "RotateSecret"})
"""What reveals a value: two that return it, one that has AWS copy it to another account, one that hands it to code."""
LOOKS_AROUND: Final = "phasesync-tests"
"""User-Agent of the clients by which tests look at what is at AWS."""
READERS: Final = frozenset(
    {"secrets import --from-aws", "syncs adopt --import", "syncs verify", "rebuild", "demo", "port"}
)
"""
The commands that may read; `demo` shows with an identity of its own what is at AWS; `port` = tests of the port's method
itself, of its refusals, and of its right.
"""

_EMULATOR_TESTS: Final = Path(__file__).parents[1] / "emulator"
"""There AWS itself is what is tested."""


class Reads:
    """Whether values may be read now, and what was tried."""

    def __init__(self) -> None:
        self.allowed = True
        self._attempts: list[str] = []
        self._lock = threading.Lock()

    def check(self, operation: str) -> None:
        """Refuse a read as AWS does, and remember it: PermissionDeniedError."""
        if self.allowed:
            return
        with self._lock:
            self._attempts.append(operation)
        raise PermissionDeniedError(action=f"secretsmanager:{operation}")

    def guard(self, operation: Operation) -> Answer | None:
        """Refuse a request to an emulator."""
        if (
            operation.service != "secretsmanager"
            or operation.name not in READS
            or operation.agent.startswith(LOOKS_AROUND)
        ):
            return None
        try:
            self.check(operation.name)
        except PermissionDeniedError as refused:
            text = f"User: somebody is not authorized to perform: {refused.action}"
            return Answer(
                "AccessDeniedException", f"{text} because no identity-based policy allows the {refused.action} action"
            )
        return None

    def take_attempts(self) -> list[str]:
        """Return what was refused since the last call."""
        with self._lock:
            attempts, self._attempts = self._attempts, []
        return attempts


reads: Final = Reads()
"""Of this process: the daemons and commands of its tests ask an emulator that it serves."""


def pytest_configure(config: pytest.Config) -> None:
    AwsEmulator.guard = reads.guard


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for marker in item.iter_markers("reads_values"):
            if marker.args[0] not in READERS or len(marker.args) != 1:
                raise pytest.UsageError(f"{item.nodeid}: {marker.args} may not read values")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    asked = item.get_closest_marker("reads_values") is not None
    reads.allowed = asked or _EMULATOR_TESTS in item.path.parents
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown() -> Generator[None]:
    try:
        return (yield)
    finally:
        reads.allowed = False
        attempts = reads.take_attempts()
        assert not attempts, f"phasesync tried to read values at AWS: {attempts}"
