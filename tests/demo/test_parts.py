"""Parts of the demo that can be looked at without running it."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner
from rich.console import Console

from phasesync.adapters.aws.endpoint import ENDPOINT_VARIABLES
from phasesync.cli.main import cli
from phasesync.core.iam.sync_policy import starter_sync_policy
from phasesync.core.run import Outcome, Run
from phasesync.core.sync import Trigger
from phasesync.demo import processes
from phasesync.demo.account import OTHER_ACCOUNT, Account, Stored
from phasesync.demo.interruptions import Interruptions, OutOfTimeError
from phasesync.demo.isolation import REGION, private_environment, private_folder
from phasesync.demo.processes import Watchdog
from phasesync.demo.screen import ClaimFailedError, Screen
from phasesync.emulator import AwsEmulator
from phasesync.errors import SettingsError
from phasesync.settings import load_settings
from tests.support.waiting import HANG_GUARD_S


@pytest.fixture(scope="module")
def emulator() -> Iterator[AwsEmulator]:
    with AwsEmulator() as served:
        served.reset()
        yield served


@pytest.mark.parametrize("module", ["moto", "flask", "flask_cors"])
def test_without_the_emulator_it_names_the_extra(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)

    done = CliRunner().invoke(cli, ["demo"], prog_name="phasesync")

    assert done.exit_code == 6
    assert done.stdout == ""
    assert f"error: the demo needs an AWS emulator, which is not installed: {module} is missing" in done.stderr
    assert "hint: pip install 'phasesync[demo]'" in done.stderr


def test_nothing_of_the_users_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = {
        "PHASESYNC_DATA_DIR": "/theirs",
        "AWS_PROFILE": "theirs",
        **dict.fromkeys(ENDPOINT_VARIABLES, "https://theirs.invalid"),
        "https_proxy": "http://theirs.invalid",
        "NOTIFY_SOCKET": "/theirs",
        "EDITOR": "ed",
    }
    for name, value in theirs.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)

    with private_environment(tmp_path, endpoint="http://127.0.0.1:1") as config:
        inside = dict(os.environ)
        settings = load_settings().settings

    assert {name for name in theirs if name in inside} == {"EDITOR", "AWS_ENDPOINT_URL"}
    assert "AWS_ENDPOINT_URL_KMS" in theirs
    assert inside["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
    assert inside["PHASESYNC_CONFIG"] == str(config)
    assert settings.data_dir == tmp_path / "data"
    assert not settings.root_key_file.is_relative_to(settings.data_dir)
    assert dict(os.environ) == before


def test_its_folder_is_private_and_goes_with_what_is_in_it() -> None:
    with private_folder() as folder:
        (folder / "data").mkdir()
        (folder / "data" / "file").write_text("something")
        assert folder.stat().st_mode & 0o777 == 0o700

    assert not folder.exists()


def test_without_a_folder_for_temporary_files_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")

    with pytest.raises(SettingsError) as refused, private_folder():
        pass

    assert refused.value.message == "a folder for temporary files cannot be made: No such file or directory"
    assert refused.value.hint == "set TMPDIR to a folder that can be written"


def test_the_watchdog_removes_the_very_folder_it_was_told(tmp_path: Path) -> None:
    other = tmp_path / "mine"
    other.mkdir()
    folder = tmp_path / "mine\nof \udcff bytes"
    folder.mkdir()
    watchdog = Watchdog()
    watchdog.remove(folder)

    assert watchdog._process.stdin is not None
    watchdog._process.stdin.close()  # What the end of this process would do.
    watchdog._process.wait(HANG_GUARD_S)

    assert not folder.exists()
    assert other.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc")
def test_the_watchdog_ends_a_daemon_that_it_was_not_told_of(tmp_path: Path) -> None:
    """The process that started it may be killed in between."""
    folder = tmp_path / "mine"
    folder.mkdir()
    waits = ["sh", "-c", "read line"]
    with (
        subprocess.Popen([*waits, "daemon"], cwd=folder, stdin=subprocess.PIPE, start_new_session=True) as daemon,
        subprocess.Popen([*waits, "other"], cwd=folder, stdin=subprocess.PIPE) as other,
    ):
        watchdog = Watchdog()
        watchdog.remove(folder)

        assert watchdog._process.stdin is not None
        watchdog._process.stdin.close()  # What the end of this process would do.

        assert daemon.wait(HANG_GUARD_S) == -signal.SIGTERM
        watchdog._process.wait(HANG_GUARD_S)
        assert other.poll() is None, "it is no daemon"
        other.kill()
    assert not folder.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="children are looked for in /proc")
def test_a_child_that_may_not_be_signalled_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOP_WITHIN_S", 0.1)
    monkeypatch.setattr(processes, "_children", lambda: [1, 2])
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr(processes, "_signal", lambda pid, number: signals.append((pid, number)))

    processes.end_children(except_pid=2)

    assert {pid for pid, _ in signals} == {1}
    assert signals[0] == (1, signal.SIGTERM)
    assert signals[-1] == (1, signal.SIGKILL)


def test_a_role_that_waits_for_an_external_id_is_not_assumed_without_it(emulator: AwsEmulator) -> None:
    account = Account(emulator, OTHER_ACCOUNT)
    arn = account.make_role("waiting", trust=trust("right"), policy=starter_sync_policy(region=REGION))
    sts: Any = account._client("sts")

    assumed = sts.assume_role(RoleArn=arn, RoleSessionName="test", ExternalId="right")
    assert ":assumed-role/waiting/" in assumed["AssumedRoleUser"]["Arn"]
    for more in ({}, {"ExternalId": "wrong"}):
        with pytest.raises(ClientError, match="AccessDenied"):
            sts.assume_role(RoleArn=arn, RoleSessionName="test", **more)
    sts.close()
    account.close()


@pytest.mark.reads_values("demo")
def test_something_can_happen_between_a_write_and_its_answer(emulator: AwsEmulator) -> None:
    account = Account(emulator, OTHER_ACCOUNT)
    account._secrets.create_secret(Name="shop", SecretString='{"A":"1"}')
    seen: list[Stored | None] = []
    reader = Account(emulator, OTHER_ACCOUNT)
    emulator.do("PutSecretValue", lambda _: seen.append(reader.read("shop")), when="after")

    version = account.write("shop", '{"A":"2"}')

    assert seen == [Stored(value='{"A":"2"}', version_id=version)]
    assert account.versions("shop") == 2
    assert emulator.calls(except_by=account.access_key_ids)["PutSecretValue"] == 0
    account.close()
    reader.close()


def test_a_claim_that_does_not_hold_ends_the_tour() -> None:
    screen = Screen(Console(file=io.StringIO()))
    screen.claim("this holds", True)

    with pytest.raises(ClaimFailedError, match="this does not"):
        screen.claim("this does not", False)
    assert screen.held == 1


def test_plain_text_has_no_blanks_at_the_end_and_is_indented_where_it_wraps() -> None:
    written = io.StringIO()
    screen = Screen(Console(file=written, width=40, highlight=False))
    screen.step("A step", "A reason that is longer than the forty columns of this screen.")
    screen.command("phasesync syncs add a-command-that-is-longer-than-forty-columns", "copied as it is")

    lines = written.getvalue().splitlines()
    assert all(line == line.rstrip() for line in lines)
    assert lines[1] == "1. A step"
    assert len(lines) == 5 and all(line.startswith("   ") for line in lines[2:])
    assert lines[4].endswith("  # copied as it is")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_waits_while_it_is_held_back(number: signal.Signals) -> None:
    former = signal.getsignal(number)
    done: list[str] = []

    def work(interruptions: Interruptions) -> None:
        with interruptions.held_back():
            signal.raise_signal(number)
            done.append("within")
        done.append("after")

    with Interruptions(60) as interruptions, pytest.raises(KeyboardInterrupt):
        work(interruptions)
    assert done == ["within"]
    assert signal.getsignal(number) is former


def test_a_signal_waits_for_the_next_look() -> None:
    with Interruptions(60) as interruptions:
        interruptions.check()
        signal.raise_signal(signal.SIGTERM)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                interruptions.check()


def test_a_signal_in_a_finalizer_is_not_lost() -> None:
    class Dropped:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    with Interruptions(60) as interruptions:
        Dropped()
        with pytest.raises(KeyboardInterrupt):
            interruptions.check()


def test_what_does_not_look_is_broken_into() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(4096))
    os.set_blocking(writing, True)

    def work() -> None:
        signal.raise_signal(signal.SIGTERM)
        os.write(writing, b"output that nobody reads")

    with pytest.raises(KeyboardInterrupt), Interruptions(60, grace_s=0.01):
        work()
    os.close(reading)
    os.close(writing)


def test_it_is_broken_into_again_where_that_was_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    dropped: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: dropped.append(unraisable.exc_type))

    class Dropped:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)
            threading.Event().wait(60)

    def work() -> None:
        Dropped()
        threading.Event().wait(60)

    with pytest.raises(KeyboardInterrupt), Interruptions(60, grace_s=0.2):
        work()
    assert dropped == [KeyboardInterrupt]


def test_the_start_of_a_process_is_not_broken_into() -> None:
    done: list[str] = []

    def work(interruptions: Interruptions) -> None:
        with interruptions.held_back():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGALRM)
            done.append("within")
        done.append("after")

    with Interruptions(60) as interruptions, pytest.raises(KeyboardInterrupt):
        work(interruptions)
    assert done == ["within"]


def test_nothing_disturbs_the_end() -> None:
    with Interruptions(60) as interruptions:
        signal.raise_signal(signal.SIGTERM)
        interruptions.ignore()
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGALRM)
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_the_time_limit_ends_it() -> None:
    with pytest.raises(OutOfTimeError), Interruptions(0.01, grace_s=0.01):
        threading.Event().wait(60)


def test_the_time_limit_waits_for_the_next_look() -> None:
    with Interruptions(60) as interruptions:
        signal.raise_signal(signal.SIGALRM)
        with pytest.raises(OutOfTimeError):
            interruptions.check()


def trust(external_id: str) -> dict[str, Any]:
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:ExternalId": external_id}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


@pytest.mark.parametrize("width", [80, 100])
def test_at_any_width_the_sync_log_and_values_are_in_one_piece(width: int) -> None:
    """80 columns are what most terminals begin with."""
    shown = io.StringIO()
    screen = Screen(Console(file=shown, width=width, highlight=False))
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    run = Run(
        id="1",
        sync_id="1",
        sync="shop-production",
        trigger=Trigger.SCHEDULE,
        actor="me",
        attempt=1,
        outcome=Outcome.INTERRUPTED,
        started_at=moment,
        ended_at=moment,
        revisions={},
        counts={"noop": 1, "put": 1},
        aws_calls=1,
        versions_written=1,
        error=None,
        next_attempt_at=None,
        changes=(),
    )

    screen.runs([run])
    screen.read_back("shop/production", Stored(value="{" + 120 * "x" + "}", version_id="id"))

    lines = shown.getvalue().splitlines()
    assert lines[1].split()[1:5] == ["shop-production", "schedule", "interrupted", "noop:1"]
    assert "VERSIONS" in lines[0]
    assert max(map(len, lines[:2])) <= width
    assert lines[-1].strip() == "{" + 120 * "x" + "}"
