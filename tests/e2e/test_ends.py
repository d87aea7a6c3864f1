"""Told to stop in the middle of a write: a clean end in time, nothing lost, nothing twice."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from phasesync.core.run import Outcome
from phasesync.emulator import DROP, Answer, Operation, When
from tests.e2e.conftest import values_of, versions_of
from tests.support.aws import Aws
from tests.support.installation import Installation
from tests.support.waiting import HANG_GUARD_S

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NAME = "shop/web"


class Gate:
    """Holds requests up until it is opened."""

    def __init__(self, answer: Answer | None = None) -> None:
        """`answer` is what AWS says in the end; None means what it says by itself."""
        self._answer = answer
        self._reached = threading.Event()
        self._opened = threading.Event()

    def __call__(self, _operation: Operation) -> Answer | None:
        self._reached.set()
        assert self._opened.wait(2 * HANG_GUARD_S)
        return self._answer

    def wait(self) -> None:
        """Return when a request is held up."""
        assert self._reached.wait(HANG_GUARD_S)

    def open(self) -> None:
        """Let requests through."""
        self._opened.set()


@pytest.fixture
def in_step(installation: Installation) -> Installation:
    """The sync `web` has been written once, and someone has edited its environment since."""
    installation.configure(daemon__claim_ttl_s=600)
    installation.add_syncs("web")
    installation.reconcile("web")
    installation.edit("web", URL="postgres://new")
    return installation


@pytest.mark.parametrize(
    ("database_backend", "landed", "drain_s"),
    [("sqlite", True, "1"), ("postgresql", False, "1"), ("sqlite", False, "8")],
    indirect=["database_backend"],
    ids=["that lands", "that is lost", "with the default patience"],
)
def test_sigterm_in_a_slow_write_gives_the_sync_back(
    landed: bool, drain_s: str, in_step: Installation, aws: Aws
) -> None:
    """The claim would last ten minutes: a successor that is done in seconds has not waited for it."""
    gate = Gate(None if landed else DROP)
    # The SDK's own repeats are held up as well.
    aws.server.do("PutSecretValue", gate, times=3)
    daemon = in_step.start_daemon(PHASESYNC_DAEMON__DRAIN_S=drain_s)
    gate.wait()

    began = time.monotonic()
    daemon.signal(signal.SIGTERM)
    assert daemon.ends(within_s=10) == 0
    assert time.monotonic() - began < 10
    daemon.assert_nothing_left()
    gate.open()

    assert in_step.claim_owner("web") == ""
    successor = in_step.start_daemon()
    in_step.wait_for("web")
    assert values_of(aws, NAME)["URL"] == "postgres://new"
    assert len(versions_of(aws, NAME)) == 2
    assert successor.stop() == 0
    in_step.in_process = True
    assert in_step.json("status")["daemons"] == []


def test_sigterm_lets_a_write_in_hand_end(in_step: Installation, aws: Aws) -> None:
    """It ends within the time for that, so the run is in the log as applied and no one has to finish it."""
    gate = Gate()
    aws.server.do("PutSecretValue", gate)
    daemon = in_step.start_daemon()
    gate.wait()

    daemon.signal(signal.SIGTERM)
    daemon.wait_for_line("stopping")
    gate.open()

    assert daemon.ends() == 0
    with in_step.application() as application:
        assert application.store.runs.list_runs(sync="web")[0].outcome is Outcome.APPLIED
    assert values_of(aws, NAME)["URL"] == "postgres://new"
    assert len(versions_of(aws, NAME)) == 2


@pytest.mark.parametrize(
    ("database_backend", "when"), [("sqlite", "after"), ("postgresql", "before")], indirect=["database_backend"]
)
def test_ctrl_c_during_a_run_by_hand_loses_nothing(when: When, in_step: Installation, aws: Aws) -> None:
    """Exit 130, and the claim is given back: the next run need not wait for its end."""
    gate = Gate(DROP)
    aws.server.do("PutSecretValue", gate, when=when)
    process = in_step.popen("syncs", "run", "web")
    gate.wait()

    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=HANG_GUARD_S)
    gate.open()

    assert (process.returncode, stdout) == (130, b""), stderr
    assert stderr.decode().strip() == "error: interrupted"
    daemon = in_step.start_daemon()
    in_step.wait_for("web")
    assert values_of(aws, NAME)["URL"] == "postgres://new"
    assert len(versions_of(aws, NAME)) == 2
    assert daemon.stop() == 0
