"""A log that nobody takes holds nobody up, and what it cost is counted."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from phasesync.adapters.telemetry.logging import configure_logging, flush_log, get_logger, lines_lost
from phasesync.adapters.telemetry.queued_writer import QueuedWriter
from tests.support.waiting import HANG_GUARD_S, wait_until


class Pipe:
    """A pipe of the smallest size, with a reader that reads when the test asks for it."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        fcntl.fcntl(self.write_end, fcntl.F_SETPIPE_SZ, 4096)
        self.told: list[int] = []
        self.writer = QueuedWriter(self.write_end, on_lost=self.told.append, max_bytes=10_000)
        self.taken = b""

    def fill(self) -> None:
        """Leave no room in it, as where no one has read for long."""
        os.write(self.write_end, b"#" * 4096)

    def read(self) -> None:
        """Take everything from now on."""

        def take() -> None:
            while data := os.read(self.read_end, 4096):
                self.taken += data

        threading.Thread(target=take, daemon=True).start()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.read()
    pipe.writer.flush(HANG_GUARD_S)
    os.close(pipe.write_end)


def test_lines_are_written_whole_and_in_order(pipe) -> None:
    pipe.read()
    for number in range(1000):
        pipe.writer.put(f"{number}\n")
        if number % 50 == 0:
            assert pipe.writer.flush(HANG_GUARD_S)

    assert pipe.writer.flush(HANG_GUARD_S)
    wait_until(lambda: pipe.taken.count(b"\n") == 1000)
    assert pipe.taken.split() == [str(number).encode() for number in range(1000)]
    assert (pipe.writer.lost, pipe.told) == (0, [])


def test_a_full_pipe_holds_nobody_up_and_what_was_lost_is_told_once_it_moves(pipe) -> None:
    pipe.fill()
    began = time.monotonic()
    for number in range(10_100):
        pipe.writer.put(f"{number:099}\n")
    assert time.monotonic() - began < 5
    assert (pipe.writer.lost, pipe.told) == (10_000, []), "a hundred lines are all that may wait"
    assert not pipe.writer.flush(0.01), "the deadline holds"

    pipe.read()

    wait_until(lambda: pipe.told)
    assert pipe.writer.flush(HANG_GUARD_S)
    wait_until(lambda: pipe.taken.count(b"\n") == 100)
    assert [int(line) for line in pipe.taken.lstrip(b"#").split()] == list(range(100))
    assert (pipe.told, pipe.writer.lost) == ([10_000], 10_000)
    pipe.writer.put("again\n")
    wait_until(lambda: pipe.taken.endswith(b"again\n"))


def test_lines_that_a_closed_pipe_refuses_are_lost_and_nothing_fails() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    told: list[int] = []
    writer = QueuedWriter(write_end, on_lost=told.append)
    for _ in range(3):
        writer.put("gone\n")

    assert writer.flush(HANG_GUARD_S)
    assert (writer.lost, told) == (3, [])
    os.close(write_end)


def test_what_is_logged_is_formatted_at_once_and_keeps_no_value(tmp_path) -> None:
    """Nothing of an event but its finished line waits in the queue."""
    with (tmp_path / "log").open("w") as stream:
        configure_logging(level="info", format="json", stream=stream, queued=True)
        context = {"sync": "before"}
        get_logger().info("hello", context=context)
        context["sync"] = "after"
        try:
            raise ValueError("canary-7f1a")
        except ValueError:
            get_logger().exception("it failed")
        flush_log()

        first, second = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]

    assert first["context"] == {"sync": "before"}
    assert second["exception"][0]["class"] == "ValueError"
    assert "canary" not in (tmp_path / "log").read_text()
    assert lines_lost() == 0


@pytest.mark.parametrize("full", [False, True])
def test_a_process_ends_whether_or_not_its_log_is_taken(full) -> None:
    program = (
        "import sys\n"
        "from phasesync.adapters.telemetry.logging import configure_logging, get_logger\n"
        "configure_logging(level='info', format='json', queued=True)\n"
        "for n in range(int(sys.argv[1])):\n"
        "    get_logger().info('line', n=n)\n"
        "print('done', flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, "5000" if full else "20"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"done\n"
        assert process.wait(HANG_GUARD_S) == 0
        lines = process.stderr.read().splitlines()

    if not full:
        assert [json.loads(line)["n"] for line in lines] == list(range(20))
