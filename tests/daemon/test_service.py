"""The daemon waits, works, reloads and ends, and says which of these it does."""

from __future__ import annotations

import socket
import time
from datetime import timedelta

import pytest

from phasesync.core.chores import Chore, DaemonRole, Load
from phasesync.core.events import ChoreFailed, SchemaWaiting
from phasesync.daemon import health, shutdown
from phasesync.daemon.signals import Command
from phasesync.errors import (
    AnotherDatabaseError,
    KeyUnavailableError,
    SchemaMismatchError,
    SettingsError,
    StoreUnavailableError,
)
from tests.daemon.conftest import settings_with
from tests.daemon.fakes import FakeSchema, a_claim
from tests.support.waiting import HANG_GUARD_S, wait_until

DOWN = f"the database cannot be reached: {StoreUnavailableError().message}"

# --- the start


def test_it_polls_and_is_ready(run, world) -> None:
    running = run()

    assert running.wait_for("/readyz", 200) == {"ok": True, "role": "active"}
    wait_until(lambda: world.polls > 3 and world.reaped > 0, what="polls")
    status, body = running.get("/healthz")
    assert (status, body["state"]) == (200, "active")


def test_a_standby_is_ready_and_says_so(run, world) -> None:
    world.role_to_give = DaemonRole.STANDBY

    assert run().wait_for("/readyz", 200) == {"ok": True, "role": "standby"}


def test_a_standby_takes_over_sooner_than_its_next_heartbeat(run, world) -> None:
    world.role_to_give = DaemonRole.STANDBY
    running = run(settings_with(daemon={"claim_ttl_s": 60}))
    running.wait_for("/readyz", 200)
    world.role_to_give = DaemonRole.ACTIVE

    wait_until(lambda: running.get("/readyz")[1]["role"] == "active", what="taking over")


def test_it_waits_for_the_database(run, world) -> None:
    world.down = True
    running = run()

    wait_until(lambda: world.checks > 3, what="looking again")
    assert running.get("/readyz") == (503, {"ok": False, "reason": DOWN})
    assert running.get("/healthz")[0] == 200
    assert [(event.chore, event.error) for event in world.events] == [("start", "StoreUnavailableError")], "told once"
    world.down = False
    running.wait_for("/readyz", 200)


@pytest.mark.parametrize(
    ("found", "command"),
    [(None, "phasesync init"), ("0001", "phasesync db migrate"), ("0003", "upgrade phasesync")],
)
def test_it_waits_for_the_schema_and_names_what_mends_it(found, command, run, world) -> None:
    world.schema = FakeSchema(current=found)
    running = run()

    wait_until(lambda: world.checks > 3, what="looking again")
    assert world.events == [SchemaWaiting(found=found, expected="0002", command=command)], "told once"
    assert running.get("/readyz") == (
        503,
        {
            "ok": False,
            "reason": f"waiting for the database schema: {command}",
            "found": found,
            "expected": "0002",
            "command": command,
        },
    )
    assert world.polls == 0
    world.schema = FakeSchema()
    running.wait_for("/readyz", 200)


@pytest.mark.parametrize("error", [StoreUnavailableError(), SchemaMismatchError()])
def test_a_database_that_goes_away_while_parts_are_built_is_waited_for(error, run, world) -> None:
    world.build_errors = [error]

    run().wait_for("/readyz", 200)

    assert [event.error for event in world.events] == [type(error).__name__]


def test_what_waiting_does_not_mend_ends_the_start(run, world) -> None:
    world.build_errors = [KeyUnavailableError()]
    running = run()
    running.thread.join(HANG_GUARD_S)

    (error,) = running.ended
    assert isinstance(error, KeyUnavailableError) and error.exit_code == 6
    assert world.members == set()


def test_a_stop_while_waiting_ends_it(run, world) -> None:
    world.down = True
    running = run()
    wait_until(lambda: world.checks > 0, what="looking")

    assert running.stop() == 0


def test_an_address_that_can_never_be_had_ends_the_start_before_anything_else(run, world) -> None:
    running = run(settings_with(http={"listen": "x" * 64 + ".example:8787"}))
    running.thread.join(HANG_GUARD_S)

    (error,) = running.ended
    assert isinstance(error, SettingsError)
    assert "http.listen" in error.message
    assert world.checks == 0


# --- at work


def test_nothing_is_claimed_while_the_schema_does_not_match(run, world) -> None:
    running = run()
    running.wait_for("/readyz", 200)
    world.schema = FakeSchema(current="0003")

    body = running.wait_for("/readyz", 503)

    assert body["command"] == "upgrade phasesync"
    assert running.get("/healthz")[0] == 200
    checks = world.checks
    wait_until(lambda: world.checks > checks + 1, what="a further look")
    polls = world.polls
    wait_until(lambda: world.checks > checks + 5, what="further looks")
    assert world.polls == polls
    world.schema = FakeSchema()
    running.wait_for("/readyz", 200)
    wait_until(lambda: world.polls > polls, what="polls again")


def test_a_database_that_is_down_makes_it_unready_but_leaves_it_healthy(run, world) -> None:
    running = run()
    running.wait_for("/readyz", 200)
    world.down = True

    assert running.wait_for("/readyz", 503)["reason"] == DOWN
    assert running.get("/healthz")[0] == 200
    assert [event for event in world.events if isinstance(event, ChoreFailed)] == [
        ChoreFailed(chore=Chore.SCHEMA, error="StoreUnavailableError", message=StoreUnavailableError().message)
    ]
    world.down = False
    running.wait_for("/readyz", 200)


@pytest.mark.parametrize("error", [AnotherDatabaseError(), KeyUnavailableError()])
def test_another_installations_database_in_the_place_of_ours_ends_it(error, run, world) -> None:
    running = run()
    running.wait_for("/readyz", 200)
    world.check_error = error

    running.thread.join(HANG_GUARD_S)

    assert running.ended == [error]
    assert error.exit_code == 6
    assert world.closed
    assert [event.message for event in world.events] == [error.message]


def test_a_database_that_is_gone_is_named_by_readiness_and_waited_for(run, world) -> None:
    running = run()
    running.wait_for("/readyz", 200)
    world.check_error = StoreUnavailableError("the database /data/phasesync.db is gone")

    assert "/data/phasesync.db is gone" in running.wait_for("/readyz", 503)["reason"]
    assert running.get("/healthz")[0] == 200

    world.check_error = None
    running.wait_for("/readyz", 200)


@pytest.mark.parametrize("how", ["hang", "defect"])
def test_polls_that_stall_make_it_unhealthy(how, run, world, monkeypatch, logs) -> None:
    monkeypatch.setattr(health, "STALLED_AFTER", timedelta(seconds=0.3))
    running = run()
    running.wait_for("/healthz", 200)
    if how == "hang":
        world.hang_in_poll = True
    else:
        world.poll_error = ValueError("hush")

    assert running.wait_for("/healthz", 503)["reason"] == "polls have stalled"
    wait_until(lambda: any(line["event"] == "health changed" for line in logs), what="the line")
    failures = [line for line in logs if line["event"] == "a round failed"]
    assert len(failures) == (how == "defect"), "a defect is told once, not at every poll"
    world.hang_in_poll, world.poll_error = False, None
    world.let_go()
    running.wait_for("/healthz", 200)


def test_a_database_that_cannot_be_written_makes_it_unready_but_leaves_it_healthy(run, world, logs) -> None:
    running = run(settings_with(daemon={"claim_ttl_s": 6}))
    running.wait_for("/readyz", 200)
    world.may_be_written = False

    assert running.wait_for("/readyz", 503)["reason"] == "the database cannot be written (SQLITE_FULL)"
    assert running.get("/healthz")[0] == 200
    world.may_be_written = True
    running.wait_for("/readyz", 200)
    wait_until(lambda: len([line for line in logs if line["event"] == "readiness changed"]) == 2, what="both lines")
    lost, back = [line for line in logs if line["event"] == "readiness changed"]
    assert (lost["log_level"], lost["ok"], lost["reason"]) == (
        "warning",
        False,
        "the database cannot be written (SQLITE_FULL)",
    )
    assert (back["log_level"], back["ok"]) == ("info", True)


def test_a_heartbeat_that_failed_is_repeated_before_the_next_is_due(run, world) -> None:
    running = run(settings_with(daemon={"claim_ttl_s": 600}))
    running.wait_for("/readyz", 200)
    world.heartbeat_failure = StoreUnavailableError()

    wait_until(lambda: world.heartbeat_failure is None, what="another heartbeat")
    running.wait_for("/readyz", 200)


def test_a_role_that_has_expired_is_taken_anew_without_waiting_for_the_next_heartbeat(run, world) -> None:
    running = run(settings_with(daemon={"claim_ttl_s": 600}))
    running.wait_for("/readyz", 200)
    world.role = None

    wait_until(lambda: world.role is DaemonRole.ACTIVE, what="the role")
    running.wait_for("/readyz", 200)


def test_polls_that_do_not_succeed_make_it_unready(run, world, monkeypatch) -> None:
    monkeypatch.setattr(health, "STALLED_AFTER", timedelta(seconds=0.3))
    running = run()
    running.wait_for("/readyz", 200)
    world.polls_succeed = False

    def not_ready_because_of_polls() -> bool:
        return str(running.get("/readyz")[1].get("reason")).startswith("polls have not succeeded for ")

    wait_until(not_ready_because_of_polls, what="readiness")
    assert running.get("/healthz")[1].get("reason") is None


def test_a_worker_that_is_stuck_makes_it_unhealthy_until_it_goes_on(run, world, logs) -> None:
    running = run()
    running.wait_for("/healthz", 200)
    world.load = Load(threads=8, quiet=(timedelta(minutes=3), timedelta(0)))

    body = running.wait_for("/healthz", 503)
    assert (body["workers_busy"], body["workers_stuck"]) == (2, 1)
    assert running.get("/readyz") == (503, {"ok": False, "reason": body["reason"]})
    wait_until(lambda: any(line["event"] == "health changed" for line in logs), what="the line")
    world.load = Load(threads=8)
    running.wait_for("/readyz", 200)


# --- the end


def test_a_stop_leaves_nothing_behind(run, world) -> None:
    world.claims = [a_claim()]
    running = run()
    running.wait_for("/readyz", 200)
    host, _, port = running.service.http.address.rpartition(":")

    assert running.stop() == 0
    assert running.exits == []
    assert (world.members, world.claims, world.may_write, world.closed) == (set(), [], False, True)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)


def test_work_that_hangs_is_given_back_and_the_process_ends(run, world, monkeypatch) -> None:
    monkeypatch.setattr(shutdown, "STOP_BEYOND_DRAIN", timedelta(seconds=0.6))
    world.claims, world.hang_in_work = [a_claim()], True
    running = run(settings_with(daemon={"drain_s": 1}))
    running.wait_for("/readyz", 200)

    began = time.monotonic()
    running.stop()

    assert 1 <= time.monotonic() - began < 4
    assert running.exits == [0]
    assert (world.claims, world.members) == ([], set())


@pytest.mark.parametrize("switch", ["hang_in_poll", "hang_in_sign_off"])
def test_a_database_that_hangs_does_not_hold_up_the_end(switch, run, world, monkeypatch) -> None:
    monkeypatch.setattr(shutdown, "STOP_BEYOND_DRAIN", timedelta(seconds=0.6))
    running = run(settings_with(daemon={"drain_s": 0}))
    running.wait_for("/readyz", 200)
    setattr(world, switch, True)

    began = time.monotonic()
    running.stop()

    assert time.monotonic() - began < 4
    assert running.exits == ([0] if switch == "hang_in_sign_off" else [])
    assert world.may_write is False


def test_while_it_stops_it_is_not_ready(run, world) -> None:
    world.claims, world.hang_in_work = [a_claim()], True
    running = run()
    running.wait_for("/readyz", 200)
    running.commands.put(Command.STOP)

    assert running.wait_for("/readyz", 503) == {"ok": False, "reason": "stopping"}
    assert running.get("/healthz")[0] == 200
    assert world.members == {"daemon-1"}, "heartbeats go on while calls in hand end"


# --- settings again


def test_a_reload_takes_over_what_it_can_and_names_the_rest(run, world, logs) -> None:
    running = run(settings_with(daemon={"poll_interval_ms": 60_000}))
    running.wait_for("/readyz", 200)
    polls = world.polls

    running.reload(
        settings_with(daemon={"poll_interval_ms": 10, "workers": 3}, log={"level": "debug"}, retention={"runs_days": 7})
    )

    wait_until(lambda: world.polls > polls + 3, what="polls in the new rhythm")
    line = next(line for line in logs if line["event"] == "settings reloaded")
    assert line["applied"] == ["log.level", "daemon.poll_interval_ms", "retention.runs_days"]
    assert line["needs_restart"] == ["daemon.workers"]
    assert world.current().retention.runs_days == 7
    assert world.current().daemon.workers == 8


def test_settings_that_are_wrong_change_nothing(run, world, logs) -> None:
    running = run()
    running.wait_for("/readyz", 200)
    before = running.service.settings

    running.reload(SettingsError("log.level: must be one of debug, info"))

    wait_until(lambda: any(line["log_level"] == "error" for line in logs), what="the line")
    (line,) = [line for line in logs if line["log_level"] == "error"]
    assert line["reason"] == "log.level: must be one of debug, info"
    assert running.service.settings == before
    assert running.get("/readyz")[0] == 200


def test_a_reload_while_waiting_is_heard(run, world, logs) -> None:
    world.down = True
    running = run()
    wait_until(lambda: world.checks > 0, what="looking")

    running.reload(settings_with(log={"level": "warning"}))

    wait_until(lambda: running.service.settings.log.level == "warning", what="the new level")


# --- systemd


def test_systemd_hears_of_every_stage(run, world, manager, monkeypatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    world.schema = FakeSchema(current="0001")
    running = run()
    wait_until(lambda: manager(), what="the first word")
    assert manager() == ["STATUS=waiting for the database schema: phasesync db migrate"], "not ready, no watchdog yet"
    world.schema = FakeSchema()
    wait_until(lambda: "READY=1\nSTATUS=active" in manager(), what="READY")
    wait_until(lambda: manager().count("WATCHDOG=1") > 2, what="signs of life")
    running.reload(settings_with())
    wait_until(lambda: manager().count("READY=1\nSTATUS=active") == 2, what="the end of the reload")
    running.stop()

    words = [message.partition("=")[0] for message in manager() if message != "WATCHDOG=1"]
    assert words == ["STATUS", "READY", "RELOADING", "READY", "STOPPING"]


def test_the_watchdog_is_not_fed_when_polls_stall(run, world, manager, monkeypatch) -> None:
    monkeypatch.setattr(health, "STALLED_AFTER", timedelta(seconds=0.2))
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    running = run()
    wait_until(lambda: "WATCHDOG=1" in manager(), what="signs of life")
    world.hang_in_poll = True
    running.wait_for("/healthz", 503)

    fed = manager().count("WATCHDOG=1")
    checks = world.checks
    wait_until(lambda: world.checks > checks + 10, what="time passing")
    assert manager().count("WATCHDOG=1") <= fed + 1
