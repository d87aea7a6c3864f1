"""What comes back in place of AWS's answers: garbage, a byte now and then, 100 MB, and nothing at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.hostile.conftest import arrives, assert_versions, counts, measures
from tests.support.aws import Aws
from tests.support.installation import Installation
from tests.support.raw_http import page
from tests.support.relay import Relay
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True),
]

MEGABYTE = 1 << 20


def noise() -> Iterator[bytes]:
    """Bytes that are no HTTP, and the end of the connection."""
    yield bytes(range(256)) * 16 + b"\r\n\r\n"


def drip() -> Iterator[bytes]:
    """An answer of which each byte comes before the client gives up, for longer than any call may take."""
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: 100\r\n\r\n"
    for _ in range(100):
        time.sleep(0.2)
        yield b" "


def flood() -> Iterator[bytes]:
    """An answer of 100 MB."""
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: 104857600\r\n\r\n"
    for _ in range(100):
        yield b" " * MEGABYTE


MODES: dict[str, tuple[Callable[[Relay], None], str]] = {
    "a page of somebody else": (lambda relay: relay.answer(page(200)), "an answer that is not AWS's"),
    "noise": (lambda relay: relay.answer(noise), "closed"),
    "one byte after the other": (lambda relay: relay.answer(drip), "no answer within the time limit"),
    "100 MB": (lambda relay: relay.answer(flood), "an answer larger than any of AWS's"),
    "nothing": (lambda relay: relay.hold(), "no answer within the time limit"),
}


def test_no_answer_of_others_is_taken_for_one_of_aws(installation: Installation, aws: Aws) -> None:
    """Each of them fails the run and nothing else, holds up nobody, and no value is lost or written twice."""
    installation.configure(aws__max_attempts=1, aws__connect_timeout_s=1, aws__read_timeout_s=1)
    installation.add_syncs("web")
    installation.in_process = True
    with Relay(aws.server.url) as relay:
        daemon = installation.start_daemon(AWS_ENDPOINT_URL=relay.url)
        installation.wait_for("web")
        memory = peak_memory(daemon.pid)
        with installation.application() as application:
            tried: set[str] = set()

            def failed_with(reason: str) -> bool:
                """Return whether the newest run did; ask for one more after each that did not."""
                run = application.store.runs.list_runs(sync="web")[0]
                if run.error is not None and reason in run.error.message:
                    return True
                if run.id not in tried:
                    tried.add(run.id)
                    installation.done("syncs", "trigger", "web")
                return False

            relay.cut()
            installation.edit("web", URL="postgres://during")
            installation.wait_for("web", status="failing")
            for mode, (begin, reason) in MODES.items():
                begin(relay)
                wait_until(partial(failed_with, reason), what=f"a run that met {mode}")
                assert relay.requests > 0
                assert [daemon.get(path)[0] for path in ("/healthz", "/readyz")] == [200, 200]
        installation.wait_for("web", status="failing")
        measures(daemon, "phasesync_syncs", 1, status="failing")
        counts(daemon, "phasesync_aws_calls_total", result="unknown")
        assert peak_memory(daemon.pid) - memory < 32 * MEGABYTE, "an answer of 100 MB is not read"
        relay.pass_on()

        installation.done("syncs", "trigger", "web")  # By itself it would pause for minutes, after so many failures.
        arrives(aws, "shop/web", "postgres://during")
        installation.wait_for("web")
        assert_versions(aws, "shop/web", 2)
        assert daemon.stop() == 0


def peak_memory(pid: int) -> int:
    """Return the most memory that a process ever had, in bytes."""
    line = next(one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
