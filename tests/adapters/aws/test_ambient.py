"""The default chain of the AWS SDK: what it fails with, and that it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from botocore.config import Config

from phasesync.adapters.aws.ambient import find_keys, stamp_of_files
from phasesync.adapters.aws.credential_process import kill_all
from phasesync.demo.canary import CANARY_VALUE
from phasesync.emulator import Answer
from phasesync.errors import CredentialRejectedError, PhasesyncError
from tests.support.aws import REGION, Aws
from tests.support.raw_http import RawServer
from tests.support.waiting import wait_until


class Home:
    """AWS's files of a host without any identity."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.config = folder / "config"
        self.credentials = folder / "credentials"
        self.environ = monkeypatch
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(self.config))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(self.credentials))

    def script(self, text: str) -> Path:
        """Write a program."""
        path = self.folder / "helper"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o700)
        return path

    def sleeper(self) -> Path:
        """Return `sleep` under a name by which its processes are found."""
        path = self.folder / "sleeper"
        if not path.exists():
            path.symlink_to(shutil.which("sleep") or "/bin/sleep")
        return path

    def process(self, command: object) -> None:
        """Have the default profile ask a process."""
        self.config.write_text(f"[default]\ncredential_process = {command}\n")

    def failure(self, *, within_s: float = 30.0) -> CredentialRejectedError:
        """Return what the chain fails with."""
        with pytest.raises(PhasesyncError) as caught:
            find_keys(REGION, Config(), within_s=within_s)
        assert type(caught.value) is CredentialRejectedError
        assert CANARY_VALUE not in str(vars(caught.value))
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
        return caught.value


@pytest.fixture
def home(tmp_path: Path, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Home:
    return Home(tmp_path, monkeypatch)


def document(**changes: object) -> str:
    keys = {"Version": 1, "AccessKeyId": "AKIAPROCESSPROCESS00", "SecretAccessKey": "of-a-process", **changes}
    return json.dumps(keys)


# --- what it finds


def test_a_process_gives_keys_with_their_end_and_runs_once(home: Home):
    ends = (datetime.now(UTC) + timedelta(minutes=2)).replace(microsecond=0)
    count = home.folder / "count"
    keys = document(SessionToken="token", Expiration=ends.isoformat())
    home.process(home.script(f"echo once >> {count}\necho '{keys}'"))
    resolved = find_keys(REGION, Config())
    assert (resolved.access_key_id, resolved.session_token, resolved.expires_at) == (
        "AKIAPROCESSPROCESS00",
        "token",
        ends,
    )
    assert count.read_text() == "once\n"


def test_a_role_of_a_profile_is_assumed_with_what_its_source_profile_gives(home: Home, aws: Aws):
    home.process(home.script(f"echo '{document()}'"))
    with home.config.open("a") as config:
        config.write(f"[profile deploy]\nrole_arn = {aws.role()}\nsource_profile = default\n")
    home.environ.setenv("AWS_PROFILE", "deploy")
    assert find_keys(REGION, Config()).session_token is not None
    assert aws.server.operations[-1].access_key_id == "AKIAPROCESSPROCESS00"


def test_a_web_identity_is_exchanged_for_a_session(home: Home, aws: Aws):
    token = home.folder / "token"
    token.write_text("a-web-identity-token")
    home.environ.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    home.environ.setenv("AWS_ROLE_ARN", aws.role())
    assert find_keys(REGION, Config()).session_token is not None


# --- what it fails with


def test_a_process_that_does_not_exist_is_named(home: Home):
    home.process("/nonexistent/helper --with arguments")
    message = home.failure().message
    assert "/nonexistent/helper" in message
    assert "does not exist" in message
    assert "--with" not in message


def test_a_process_that_may_not_be_run_is_named(home: Home):
    path = home.script("true")
    path.chmod(0o600)
    home.process(path)
    assert str(path) in home.failure().message


def test_the_status_of_a_process_is_told_and_not_what_it_says(home: Home):
    home.process(home.script(f"echo '{CANARY_VALUE}' >&2\nexit 3"))
    assert "ended with status 3" in home.failure().message


@pytest.mark.parametrize(
    "output",
    [
        "",
        "junk",
        "[]",
        "null",
        '"text"',
        "3",
        '{"Version": 1}',
        '{"Version": 2}',
        "{",
        "\\0377\\0376",
        '{"Version": 1, "AccessKeyId": 7, "SecretAccessKey": null}',
        '{"Version": 1, "AccessKeyId": "", "SecretAccessKey": ""}',
        '{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "s", "SessionToken": "t", "Expiration": "junk"}',
        '{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "s", "SessionToken": "t", "Expiration": "2001-01-01"}',
    ],
)
def test_what_a_process_prints_that_is_no_key_is_a_credential_error(output: str, home: Home):
    home.process(home.script(f"printf '%b' '{output}'"))
    assert "helper" in home.failure().message or "incomplete" in home.failure().message


@pytest.mark.parametrize("part", ["AccessKeyId", "SecretAccessKey", "SessionToken"])
@pytest.mark.parametrize("odd", ["A\nB", "A\r", "A B", "A\x7f", "\u00e9"])
def test_keys_that_cannot_stand_in_a_header_are_a_credential_error(part: str, odd: str, home: Home):
    (home.folder / "document").write_text(document(**{part: odd}))
    home.process(home.script(f"cat {home.folder}/document"))
    assert "characters that AWS never uses" in home.failure().message


@pytest.mark.parametrize("content", [None, "", "x"])
def test_a_token_file_that_is_missing_empty_or_too_short_is_named(content: str | None, home: Home, aws: Aws):
    token = home.folder / "token"
    if content is not None:
        token.write_text(content)
    home.environ.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    home.environ.setenv("AWS_ROLE_ARN", aws.role())
    assert str(token) in home.failure().message


@pytest.mark.parametrize(
    ("config", "credentials"),
    [
        (f"{CANARY_VALUE}\n", ""),
        ("", f"{CANARY_VALUE}\n"),
        ("", "[default]\naws_access_key_id = A\n"),
        ("[default]\naws_access_key_id = A\n", ""),
        ("[default]\nrole_arn = arn:aws:iam::123456789012:role/r\n", ""),
        ("[default]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = nobody\n", ""),
        ("[default]\nrole_arn = arn:aws:iam::123456789012:role/r\ncredential_source = Moon\n", ""),
        ("[default]\nsso_session = s\nsso_account_id = 123456789012\nsso_role_name = r\n", ""),
        (
            "[default]\nsso_start_url = https://sso.example\nsso_region = eu-west-1\nsso_account_id = 123456789012\n"
            "sso_role_name = r\n",
            "",
        ),
        ("", ""),
    ],
)
def test_files_that_give_no_keys_are_named(config: str, credentials: str, home: Home):
    home.config.write_text(config)
    home.credentials.write_text(credentials)
    message = home.failure().message
    assert "default" in message or str(home.folder) in message


def test_the_role_that_aws_refuses_is_refused_with_its_code(home: Home, aws: Aws):
    home.process(home.script(f"echo '{document()}'"))
    with home.config.open("a") as config:
        config.write(f"[profile deploy]\nrole_arn = {aws.role()}\nsource_profile = default\n")
    home.environ.setenv("AWS_PROFILE", "deploy")
    aws.server.fail("AssumeRole", Answer("AccessDenied", status=403))
    assert home.failure().code == "AccessDenied"


# --- that it ends


def processes_of(group_of: Path) -> list[str]:
    shown = subprocess.run(
        ["ps", "-ww", "-eo", "pid,ppid,stat,args"], capture_output=True, text=True, check=True
    ).stdout
    return [line for line in shown.splitlines() if str(group_of) in line or f" {os.getpid()} Z" in line]


def test_a_process_that_hangs_is_killed_with_all_it_has_started(home: Home):
    home.process(home.script(f"{home.sleeper()} 600 &\n{home.sleeper()} 600"))
    began = time.monotonic()
    error = home.failure(within_s=0.5)
    assert time.monotonic() - began < 5
    assert "did not end" in error.message
    assert str(home.folder / "helper") in error.message
    wait_until(lambda: processes_of(home.folder) == [], what="the end of every process")


def test_a_process_that_leaves_another_one_with_its_output_does_not_hold_us(home: Home):
    home.process(home.script(f"{home.sleeper()} 600 &\necho '{document()}'"))
    assert "did not end" in home.failure(within_s=0.5).message
    wait_until(lambda: processes_of(home.folder) == [], what="the end of every process")


@pytest.mark.skipif(shutil.which("setsid") is None, reason="needs setsid")
def test_a_process_that_left_the_group_with_our_pipes_costs_no_thread_and_no_descriptor(home: Home):
    home.process(home.script(f"setsid {home.sleeper()} 20 &\necho $! >> {home.folder}/pids\necho '{document()}'"))
    before = threading.active_count(), len(os.listdir("/dev/fd"))
    try:
        for _ in range(3):
            assert "did not end" in home.failure(within_s=0.3).message
        assert (threading.active_count(), len(os.listdir("/dev/fd"))) == before
    finally:
        for pid in (home.folder / "pids").read_text().split():
            os.kill(int(pid), signal.SIGKILL)


def test_a_process_that_prints_without_end_takes_no_memory(home: Home):
    home.process(f"{sys.executable} -c \"while True: print('x' * 65536)\"")
    assert "killed" in home.failure().message


def test_the_end_of_phasesync_ends_a_process(home: Home):
    home.process(home.script(f"exec {home.sleeper()} 600"))
    failed: list[CredentialRejectedError] = []
    thread = threading.Thread(target=lambda: failed.append(home.failure()))
    thread.start()
    wait_until(lambda: processes_of(home.folder) != [], what="its start")
    kill_all()
    thread.join(10)
    assert len(failed) == 1
    assert processes_of(home.folder) == []


@pytest.mark.parametrize("place", ["imds", pytest.param("container", marks=pytest.mark.slow)])
def test_metadata_that_drips_ends_with_the_deadline(place: str, home: Home):
    def drip() -> object:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"
        while True:
            time.sleep(0.05)
            yield b"x"

    with RawServer(drip) as server:  # type: ignore[arg-type]
        if place == "imds":
            home.environ.setenv("AWS_EC2_METADATA_DISABLED", "false")
            home.environ.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.url)
        else:
            home.environ.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{server.url}/keys")
        began = time.monotonic()
        home.failure(within_s=0.5)
        assert time.monotonic() - began < 5


def test_a_changed_file_changes_the_stamp(home: Home):
    before = stamp_of_files()
    home.credentials.write_text("[default]\n")
    after = stamp_of_files()
    assert before != after
    assert stamp_of_files() == after
    os.replace(home.credentials, home.folder / "elsewhere")
    assert stamp_of_files() == before
