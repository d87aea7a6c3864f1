"""Daemons, commands and signals: leases end in time, whatever dies, and a command's leases end with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from phasesync.core.lease import Lease
from phasesync.emulator import DROP, Answer, Operation, When
from tests.support.aws import Aws
from tests.support.daemon import PHASESYNC
from tests.support.installation import Installation
from tests.support.waiting import HANG_GUARD_S, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

LATE_MS = 5_000
"""What docs/operations.md says of the end of a lease."""
on_sqlite = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)


@pytest.fixture
def ready(installation: Installation) -> Installation:
    """An installation with the dynamic secret `ci`; commands are carried out in this process."""
    installation.in_process = True
    installation.add_dynamic()
    return installation


def users(aws: Aws) -> set[str]:
    """The names of the users that IAM has."""
    return {user["UserName"] for user in aws.boto("iam").list_users(PathPrefix="/phasesync/")["Users"]}


def issue(installation: Installation, count: int = 1) -> list[Lease]:
    """Issue leases in this process."""
    with installation.application() as application:
        operations = application.lease_operations
        return [operations.issue("ci", actor="test", probe_for=None).lease for _ in range(count)]


def name_of(lease: dict[str, Any]) -> str:
    return str(lease["principal"]).rpartition("/")[2]


def test_a_daemon_ends_leases_within_five_seconds_of_their_time(ready: Installation, aws: Aws) -> None:
    daemon = ready.start_daemon()
    *leases, kept = issue(ready, 5)
    for lease in leases:
        ready.ends_in(lease.id, seconds=1)

    daemon.wait_for_line("lease taken back", count=4)

    ended = daemon.find("lease taken back", status="expired", cause="expiry")
    assert {line["lease"] for line in ended} == {lease.id for lease in leases}
    assert all(0 <= line["late_ms"] <= LATE_MS for line in ended), ended
    assert users(aws) == {kept.spec.name}


def test_after_an_outage_all_that_is_overdue_goes_the_longest_overdue_first(ready: Installation, aws: Aws) -> None:
    leases = issue(ready, 12)
    for hours, lease in enumerate(leases, start=1):
        ready.ends_in(lease.id, seconds=-3600 * hours)
    before = len(aws.server.operations)
    # Each of the first eight is still at its first call when the last of them begins.
    aws.server.slow("GetUser", 2, times=8)

    daemon = ready.start_daemon()
    daemon.wait_for_line("lease taken back", count=len(leases))

    assert users(aws) == set()
    asked = [one.form["UserName"] for one in aws.server.operations[before:] if one.name == "GetUser"]
    assert set(asked[:8]) == {lease.spec.name for lease in leases[4:]}, "eight at a time, the longest overdue first"


@pytest.mark.parametrize(
    ("database_backend", "operation"),
    [("sqlite", "DeleteAccessKey"), ("postgresql", "DeleteUser")],
    indirect=["database_backend"],
)
def test_a_daemon_that_is_killed_at_a_removal_is_followed_by_one_that_finishes_it(
    ready: Installation, aws: Aws, operation: str
) -> None:
    (lease,) = issue(ready)
    ready.ends_in(lease.id, seconds=-1)
    moments: tuple[When, When] = ("before", "after")
    for when in moments:

        def kill(_operation: Operation, when: When = when) -> Answer | None:
            ready.daemons[-1].kill()
            return DROP if when == "before" else None

        aws.server.do(operation, kill, when=when)
        daemon = ready.start_daemon(ready=False)
        assert daemon.ends(within_s=HANG_GUARD_S) == -signal.SIGKILL
        ready.let_time_pass_for(daemon)

    survivor = ready.start_daemon()
    survivor.wait_for_line("lease taken back", lease=lease.id)

    assert (users(aws), ready.leases()[lease.id]["status"]) == (set(), "expired")


@pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
def test_two_daemons_take_each_lease_back_once(ready: Installation, aws: Aws) -> None:
    leases = issue(ready, 8)
    daemons = [ready.start_daemon(), ready.start_daemon()]
    for lease in leases:
        ready.ends_in(lease.id, seconds=0.5)

    wait_until(
        lambda: sum(len(daemon.find("lease taken back")) for daemon in daemons) >= len(leases), what="all taken back"
    )

    ended = [line["lease"] for daemon in daemons for line in daemon.find("lease taken back")]
    assert sorted(ended) == sorted(lease.id for lease in leases)
    assert users(aws) == set()
    assert aws.server.count("DeleteUser") == len(leases)


@on_sqlite
def test_a_daemon_that_is_told_to_stop_gives_its_leases_to_the_next(ready: Installation, aws: Aws) -> None:
    (lease,) = issue(ready)
    ready.ends_in(lease.id, seconds=-1)
    first = ready.start_daemon()
    aws.server.slow("DeleteAccessKey", 1.5)
    wait_until(lambda: aws.server.count("DeleteAccessKey") == 1, what="the first call")

    assert first.stop() == 0
    assert users(aws) == {lease.spec.name}, "the call in hand ended, no other was begun"
    second = ready.start_daemon()
    second.wait_for_line("lease taken back", lease=lease.id, within_s=5)

    assert users(aws) == set()


@on_sqlite
def test_what_cannot_be_taken_back_is_in_the_log_and_in_status(ready: Installation, aws: Aws) -> None:
    (lease,) = issue(ready)
    denial = aws.server.deny("iam:DeleteUser")
    ready.ends_in(lease.id, seconds=0)
    daemon = ready.start_daemon()
    line = daemon.wait_for_line("lease not taken back", lease=lease.id, error="PermissionDeniedError")

    status = ready.json("status")
    assert line["code"] == "AccessDenied"
    assert status["leases"] == {"revoke-failed": 1}
    assert [one["lease"] for one in status["leases_not_revoked"]] == [lease.id]
    assert "iam:DeleteUser" in status["leases_not_revoked"][0]["reason"]

    aws.server.access.allow(denial)
    daemon.wait_for_line("lease taken back", lease=lease.id)
    assert users(aws) == set()
    assert ready.json("status")["leases_not_revoked"] == []


# --- phasesync run


SHOW = "import json, os; print(json.dumps(dict(os.environ)))"


@pytest.fixture
def alone(ready: Installation) -> Installation:
    """The same, with commands as processes: they start others and take signals."""
    ready.done("secrets", "set", "shop/production", "URL", "-", stdin="postgres://db")
    ready.done("secrets", "set", "shop/production", "DSN", "-", stdin="${URL}?ssl=on")
    ready.in_process = False
    return ready


@on_sqlite
def test_a_command_gets_its_secrets_and_stands_in_our_place(alone: Installation) -> None:
    shown = alone.run("run", "--env", "shop/production", "--", sys.executable, "-c", SHOW, AWS_SESSION_TOKEN="theirs")
    failed = alone.run("run", "--env", "shop/production", "--", sys.executable, "-c", "raise SystemExit(7)")
    missing = alone.run("run", "--env", "shop/production", "--", "no-such-command")

    environ = json.loads(shown.stdout)
    assert (environ["URL"], environ["DSN"]) == ("postgres://db", "postgres://db?ssl=on")
    assert environ["AWS_SESSION_TOKEN"] == "theirs", "nothing else of the environment is touched"
    assert "PHASESYNC_ROOT_KEY" not in environ
    assert (failed.exit_code, missing.exit_code) == (7, 127)
    assert "no-such-command" in missing.stderr


@on_sqlite
def test_a_command_gets_a_lease_that_is_gone_when_it_ends(alone: Installation, aws: Aws) -> None:
    code = f"{SHOW}; raise SystemExit(7)"
    done = alone.run(
        *("run", "--env", "shop/production", "--dynamic", "ci", "--", sys.executable, "-c", code),
        AWS_SESSION_TOKEN="of-the-shell",
    )

    environ = json.loads(done.stdout)
    assert (done.exit_code, environ["URL"]) == (7, "postgres://db")
    assert environ["AWS_ACCESS_KEY_ID"] != aws.environ["AWS_ACCESS_KEY_ID"]
    assert "AWS_SESSION_TOKEN" not in environ, "beside a user's key it would make every call fail"
    (lease,) = alone.leases().values()
    assert (lease["status"], users(aws)) == ("revoked", set())
    assert environ["AWS_IAM_USERNAME"] == name_of(lease)


def add_second(alone: Installation) -> None:
    """Add a dynamic secret `second` with other keys than `ci`."""
    keys = "username=B_USER,access_key_id=B_ID,secret_access_key=B_SECRET"
    policy = str(alone.folder / "inline.json")
    lives = ("--default-ttl", "1h", "--max-ttl", "8h", "--key-map", keys, "--inline-policy", policy)
    alone.done("dynamic", "add", "second", "--env", "shop/production", "--credential", "aws", *lives)


def waits(alone: Installation, aws: Aws, code: str) -> Any:
    """Start a command with a lease; return its process as soon as the command runs."""
    flag = alone.folder / "runs"
    started = f"import pathlib, signal, time; pathlib.Path({str(flag)!r}).touch(); {code}"
    process = alone.popen("run", "--env", "shop/production", "--dynamic", "ci", "--", sys.executable, "-c", started)
    wait_until(flag.exists, what="the command runs")
    assert len(users(aws)) == 1
    return process


@on_sqlite
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_reaches_the_command_and_the_lease_goes(alone: Installation, aws: Aws, number: signal.Signals) -> None:
    process = waits(alone, aws, "signal.signal(signal.SIGINT, signal.SIG_DFL); time.sleep(60)")

    process.send_signal(number)

    assert process.wait(HANG_GUARD_S) == 128 + number
    assert users(aws) == set()


@on_sqlite
def test_a_command_may_take_its_time_after_a_signal(alone: Installation, aws: Aws) -> None:
    code = "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), exit(3))); time.sleep(60)"
    process = waits(alone, aws, code)

    process.send_signal(signal.SIGTERM)

    assert process.wait(HANG_GUARD_S) == 3
    assert users(aws) == set()


@on_sqlite
def test_a_signal_before_the_command_runs_leaves_nothing(alone: Installation, aws: Aws) -> None:
    aws.server.slow("PutUserPolicy", 1.0)
    process = alone.popen("run", "--env", "shop/production", "--dynamic", "ci", "--", sys.executable, "-c", "0")
    wait_until(lambda: aws.server.count("PutUserPolicy") == 1, what="issuing is under way")

    process.send_signal(signal.SIGTERM)

    assert process.wait(HANG_GUARD_S) == 128 + signal.SIGTERM
    (lease,) = alone.leases().values()
    assert (users(aws), lease["status"]) == (set(), "revoked")


@on_sqlite
def test_killed_outright_its_lease_goes_at_its_end(alone: Installation, aws: Aws) -> None:
    process = waits(alone, aws, "time.sleep(60)")
    process.kill()
    process.wait(HANG_GUARD_S)
    (lease,) = alone.leases().values()
    assert (lease["status"], users(aws)) == ("active", {name_of(lease)})
    daemon = alone.start_daemon()

    alone.ends_in(lease["id"], seconds=0)
    daemon.wait_for_line("lease taken back", lease=lease["id"])

    assert users(aws) == set()


@on_sqlite
def test_the_second_lease_that_cannot_be_issued_takes_the_first_with_it(alone: Installation, aws: Aws) -> None:
    add_second(alone)
    aws.server.deny("iam:CreateUser", resource="*second-*")

    done = alone.run(
        "run", "--env", "shop/production", "--dynamic", "ci,second", "--", sys.executable, "-c", "print('ran')"
    )

    assert (done.exit_code, done.stdout, users(aws)) == (7, "", set())
    assert {lease["status"] for lease in alone.leases().values()} == {"revoked"}


@on_sqlite
def test_keys_that_meet_are_refused_before_anything_is_issued(alone: Installation, aws: Aws) -> None:
    alone.done("secrets", "set", "shop/production", "B_ID", "-", "--path", "/b", stdin="x")
    keys = "username=B_USER,access_key_id=B_ID,secret_access_key=B_SECRET"
    lives = ("--default-ttl", "1h", "--max-ttl", "8h", "--key-map", keys)
    alone.done("dynamic", "add", "second", "--env", "shop/production", "--credential", "aws", *lives)

    done = alone.run("run", "--env", "shop/production", "--path", "/b", "--dynamic", "second", "--", "true")

    assert done.exit_code == 4
    assert "B_ID is a key of shop/production /b and of second" in done.stderr
    assert alone.leases() == {}


@on_sqlite
def test_nobody_to_tell_changes_neither_the_exit_code_nor_what_becomes_of_leases(alone: Installation, aws: Aws) -> None:
    add_second(alone)
    reader, writer = os.pipe()
    os.close(reader)
    command = (sys.executable, "-c", "raise SystemExit(7)")

    with open(writer, "wb") as stderr:
        done = subprocess.run(
            [str(PHASESYNC), "run", "--env", "shop/production", "--dynamic", "ci,second", "--", *command],
            env=alone.environ,
            stderr=stderr,
            check=False,
        )

    assert (done.returncode, users(aws)) == (7, set())
    assert [lease["status"] for lease in alone.leases().values()] == ["revoked", "revoked"]


@on_sqlite
def test_a_second_signal_leaves_all_leases_to_the_daemon(alone: Installation, aws: Aws) -> None:
    add_second(alone)
    command = (sys.executable, "-c", "raise SystemExit(7)")
    process: list[Any] = []

    def signal_twice(_operation: Operation) -> Answer | None:
        process[0].send_signal(signal.SIGTERM)
        assert process[0].stderr is not None
        while b"a second signal leaves that to the daemon" not in process[0].stderr.readline():
            pass
        process[0].send_signal(signal.SIGTERM)
        process[0].wait(HANG_GUARD_S)
        return DROP

    aws.server.do("DeleteAccessKey", signal_twice)
    process.append(alone.popen("run", "--env", "shop/production", "--dynamic", "ci,second", "--", *command))

    assert process[0].wait(HANG_GUARD_S) == 7
    assert [lease["status"] for lease in alone.leases().values()] == ["revoking", "revoking"]
    daemon = alone.start_daemon()
    daemon.wait_for_line("lease taken back", count=2)
    assert users(aws) == set()
