"""The demo, run as people run it."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import click
import pytest

from phasesync.cli.main import cli
from phasesync.demo.steps import STEPS
from tests.demo.leftovers import Demo, start_demo
from tests.docs.test_readme import picture
from tests.support.waiting import HANG_GUARD_S, wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc"),
]

Start = Callable[..., Demo]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Demo] = []

    def begin(*, program: str | None = None, fresh: bool = False) -> Demo:
        started.append(start_demo(tmp_path, program=program, fresh=fresh))
        return started[-1]

    yield begin
    for demo in started:
        demo.end()


def test_the_tour_holds_what_it_says_in_time_and_leaves_nothing(start: Start) -> None:
    began = time.monotonic()
    demo = start(fresh=True)
    output = demo.finish()
    took = time.monotonic() - began

    assert demo.process.returncode == 0, output
    assert took < 30
    demo.assert_nothing_is_left()
    assert "does not hold" not in output
    assert "\x1b" not in output, "without a terminal it is plain text"
    titles = re.findall(r"^(\d+)\. \S.*$", output, flags=re.MULTILINE)
    assert titles == [str(number) for number in range(1, len(STEPS) + 1)]
    assert output.count("checked: ") == int(re.findall(r"All (\d+) checks held", output)[0])
    # At least one for each step, and each value with the id of its version.
    assert output.count("checked: ") >= len(STEPS)
    values = re.findall(r"value read back from AWS: shop/\w+, version ([0-9a-f-]{36})\n +(\{.*\})", output)
    assert len(values) == output.count("value read back from AWS") and len({version for version, _ in values}) >= 8
    assert_commands_exist(output)
    assert_is_what_the_picture_shows(output)


def test_ctrl_c_in_the_middle_leaves_nothing(start: Start) -> None:
    demo = start()
    demo.output_until("value read back from AWS")
    assert demo.daemons(), "the daemon is at work"

    os.killpg(demo.process.pid, signal.SIGINT)
    output = demo.finish()

    assert demo.process.returncode == 130
    assert "interrupted" in output and "Traceback" not in output
    assert "checks held" not in output
    demo.assert_nothing_is_left()


def test_kill_9_leaves_nothing_for_long(start: Start) -> None:
    demo = start()
    demo.output_until("value read back from AWS")

    demo.process.kill()
    demo.process.wait()

    wait_until(lambda: not demo.daemons() and not list(demo.temporary.iterdir()), what="all of it is gone")


def test_a_second_ctrl_c_does_not_keep_it_from_cleaning_up(start: Start) -> None:
    demo = start()
    demo.output_until("1. One encrypted store")

    deadline = time.monotonic() + HANG_GUARD_S
    while demo.process.poll() is None and time.monotonic() < deadline:
        with suppress(ProcessLookupError):
            os.killpg(demo.process.pid, signal.SIGINT)
        time.sleep(0.01)

    # Those that come after the end of the tour find a Python that is ending, which ends by the signal.
    assert demo.process.returncode in (130, -signal.SIGINT)
    demo.assert_nothing_is_left()


def test_sigterm_ends_it_as_ctrl_c_does(start: Start) -> None:
    demo = start()
    demo.output_until("2. Two ways into AWS")

    demo.process.terminate()
    output = demo.finish()

    assert demo.process.returncode == 130, output
    demo.assert_nothing_is_left()


def test_a_signal_where_python_drops_exceptions_ends_it_as_well(start: Start) -> None:
    program = """
import os, signal
from phasesync.cli.main import cli
from phasesync.demo import tour
class Dropped:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
tour.STEPS = (tour.STEPS[0], lambda stage: Dropped() and None, *tour.STEPS[1:])
cli.main(["demo"])
"""
    demo = start(program=program)
    output = demo.finish()

    assert demo.process.returncode == 130, output
    assert "1. " in output and "2. " not in output, "it ends before the next step"
    assert "ignored" not in output and "Traceback" not in output
    demo.assert_nothing_is_left()


def test_a_claim_that_does_not_hold_is_told_and_fails_it(start: Start) -> None:
    program = """
from functools import partial
from phasesync.cli.main import cli
from phasesync.demo import processes, tour
processes.DaemonProcess.start = lambda self: None
tour.Stage = partial(tour.Stage, patience_s=0.2)
cli.main(["demo"])
"""
    demo = start(program=program)
    output = demo.finish()

    assert demo.process.returncode == 1
    assert "does not hold: the daemon works" in output
    assert "checks held" not in output
    demo.assert_nothing_is_left()


def test_it_ends_by_itself_when_its_time_is_over(start: Start) -> None:
    program = """
from phasesync.cli.main import cli
from phasesync.demo import processes, tour
processes.DaemonProcess.start = lambda self: None
tour.TIME_LIMIT_S = 4.0
cli.main(["demo"])
"""
    demo = start(program=program)
    output = demo.finish()

    assert demo.process.returncode == 1
    assert "does not hold: the tour is over within 4 s" in output
    demo.assert_nothing_is_left()


def assert_commands_exist(output: str) -> None:
    """What the tour prints as a command of phasesync is one: click takes its options and arguments."""
    commands = re.findall(r"^ +\$ (phasesync .*?)(?:  # .*)?$", output, flags=re.MULTILINE)
    assert len(commands) > 30
    for command in commands:
        words = shlex.split(command)[1:]
        context = click.Context(cli)
        found: click.Command = cli
        while isinstance(found, click.Group):
            name, found, words = resolved(found, context, words)
            context = click.Context(found, parent=context, info_name=name)
        found.make_context(found.name, list(words), parent=context.parent)


def assert_is_what_the_picture_shows(output: str) -> None:
    """The picture in the README has the lines of this tour; ids and times differ."""
    shown = picture.lines_of(picture.PICTURE.read_text(encoding="utf-8"))
    assert picture.without_variables(shown) == picture.without_variables(picture.excerpt(output)), "make picture"


def resolved(group: click.Group, context: click.Context, words: list[str]) -> tuple[str, click.Command, list[str]]:
    name, found, rest = group.resolve_command(context, words)
    assert name is not None and found is not None
    return name, found, rest
