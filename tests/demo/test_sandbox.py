"""The sandbox, used as people and scripts use it."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from phasesync.cli.main import cli
from phasesync.demo.sandbox import TRY
from tests.demo.leftovers import Demo, start_demo
from tests.support.commands import wrong_with
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc"),
]

Start = Callable[..., Demo]

PROMPT = "(phasesync sandbox) $ "


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Demo] = []

    def begin(*command: str, terminal: bool = False, fresh: bool = False) -> Demo:
        words = ("sandbox", "--", *command) if command else ("sandbox",)
        started.append(start_demo(tmp_path, command=words, terminal=terminal, fresh=fresh))
        return started[-1]

    yield begin
    for sandbox in started:
        sandbox.end()


def test_a_command_finds_a_sync_that_works_and_its_exit_code_is_passed_on(start: Start) -> None:
    sandbox = start(
        "sh",
        "-c",
        "phasesync syncs list -o json && printf two | phasesync secrets set shop/staging API_URL - --wait "
        "&& phasesync runs list -o json && exit 7",
        fresh=True,
    )
    output = sandbox.finish()

    assert sandbox.process.returncode == 7, output
    assert re.search(r'"status": ?"in-sync"', output)
    assert re.search(r'"outcome": ?"applied"', output)
    assert "Starting" not in output, "with a command nothing but its output is printed"
    sandbox.assert_nothing_is_left()


def test_nothing_of_the_user_is_used_and_no_secret_is_in_an_argument_list(start: Start) -> None:
    # The separator is computed: the script itself is among the arguments.
    script = """
cat ${PHASESYNC_CONFIG%/*}/keys/root.key; echo "part $((1 + 1))"
cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; echo "part $((1 + 2))"
env
ls -A ~ ~/.aws
"""
    sandbox = start("sh", "-c", script)
    output = sandbox.finish()

    assert sandbox.process.returncode == 0, output
    key, arguments, rest = re.split("part [23]\n", output)
    key = key.strip()
    assert len(key) >= 40
    assert "phasesync daemon" in arguments
    assert key not in arguments and key not in rest
    assert ".invalid" not in rest and "nobody@" not in rest and "AWS_PROFILE" not in rest
    assert re.search(r"^AWS_ENDPOINT_URL=http://127\.0\.0\.1:\d+$", rest, flags=re.MULTILINE)
    assert rest.split()[-1] == "config", "nothing was made in the home directory or in ~/.aws"
    sandbox.assert_nothing_is_left()


def test_a_command_that_is_not_there_starts_nothing(start: Start) -> None:
    sandbox = start("no-such-command")
    output = sandbox.finish()

    assert sandbox.process.returncode == 127
    assert output == "error: no-such-command: No such file or directory\n"
    sandbox.assert_nothing_is_left()


def test_an_executable_that_the_system_refuses_leaves_nothing(start: Start, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x00\x01\x02")
    broken.chmod(0o700)
    sandbox = start(str(broken))
    output = sandbox.finish()

    assert sandbox.process.returncode == 126
    assert output == f"error: {broken}: Exec format error\n"
    sandbox.assert_nothing_is_left()


def test_a_signal_is_passed_on_and_ends_everything(start: Start) -> None:
    sandbox = start("sh", "-c", "echo at work; while :; do sleep 0.1; done")
    sandbox.output_until("at work")

    sandbox.process.terminate()
    output = sandbox.finish()

    assert sandbox.process.returncode == 128 + signal.SIGTERM, output
    assert "Traceback" not in output
    sandbox.assert_nothing_is_left()


def test_ctrl_c_is_left_to_the_command(start: Start) -> None:
    sandbox = start("sh", "-c", "trap 'echo caught; exit 5' INT; echo at work; while :; do sleep 0.1; done")
    sandbox.output_until("at work")

    os.killpg(sandbox.process.pid, signal.SIGINT)
    output = sandbox.finish()

    assert "caught" in output
    assert sandbox.process.returncode == 5, output
    sandbox.assert_nothing_is_left()


def test_a_signal_during_the_start_leaves_nothing(start: Start) -> None:
    sandbox = start("sh", "-c", "echo at work")
    wait_until(lambda: list(sandbox.temporary.iterdir()), what="its folder is there")

    sandbox.process.terminate()
    output = sandbox.finish()

    assert sandbox.process.returncode == 130, output
    assert "at work" not in output
    sandbox.assert_nothing_is_left()


def test_kill_9_leaves_nothing_for_long(start: Start) -> None:
    sandbox = start("sh", "-c", "echo at work; while :; do sleep 0.1; done")
    sandbox.output_until("at work")
    assert len(sandbox.daemons()) >= 3, "watchdog, daemon, command"

    sandbox.process.kill()
    sandbox.process.wait()

    wait_until(lambda: not sandbox.daemons() and not list(sandbox.temporary.iterdir()), what="all of it is gone")


def test_what_a_command_leaves_in_the_background_ends_with_it(start: Start) -> None:
    sandbox = start("sh", "-c", "phasesync daemon >/dev/null 2>&1 & sleep 1000 & echo left")
    output = sandbox.finish()

    assert sandbox.process.returncode == 0, output
    sandbox.assert_nothing_is_left()


def test_a_shell_takes_commands_and_a_typed_value_and_ends_by_exit(start: Start) -> None:
    sandbox = start(terminal=True)
    sandbox.output_until(PROMPT)
    sandbox.type("phasesync secrets set shop/staging API_URL\n")
    sandbox.output_until("API_URL: ")
    sandbox.type("https://typed.example\n")
    wait_until(lambda: sandbox.output.count(PROMPT) == 2, what="the value is taken")
    sandbox.type("phasesync secrets get shop/staging API_URL --reveal | tr a-z A-Z; phasesync syncs list; jobs\n")
    sandbox.output_until("HTTPS://TYPED.EXAMPLE")
    sandbox.output_until("shop-staging  shop/staging")
    assert "https://typed.example" not in sandbox.output, "the value is not echoed"

    sandbox.type("exit 3\n")
    output = sandbox.finish()

    assert sandbox.process.returncode == 3, output
    assert "no job control" not in output
    sandbox.assert_nothing_is_left()


@pytest.mark.parametrize("ending", ["Ctrl-D", "a closed terminal"])
def test_a_shell_ends_without_a_command_too(start: Start, ending: str) -> None:
    sandbox = start(terminal=True)
    sandbox.output_until(PROMPT)

    if ending == "Ctrl-D":
        sandbox.type("\x04")
    else:
        sandbox.process.send_signal(signal.SIGHUP)
    output = sandbox.finish()

    assert sandbox.process.returncode == (0 if ending == "Ctrl-D" else 128 + signal.SIGHUP), output
    sandbox.assert_nothing_is_left()


def test_what_it_suggests_to_type_exists() -> None:
    assert [line for line, _ in TRY if wrong_with(line.removeprefix("phasesync ")) is not None] == []
    assert len(TRY) >= 4


@pytest.mark.parametrize("module", ["moto", "flask", "flask_cors"])
def test_without_the_emulator_it_names_the_extra(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)

    done = CliRunner().invoke(cli, ["sandbox"], prog_name="phasesync")

    assert done.exit_code == 6
    assert done.stdout == ""
    assert f"error: the sandbox needs an AWS emulator, which is not installed: {module} is missing" in done.stderr
    assert "hint: pip install 'phasesync[demo]'" in done.stderr
