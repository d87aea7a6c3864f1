"""One line for each event, without names of keys and remote objects."""

from __future__ import annotations

import typing
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from phasesync.adapters.telemetry.log_events import LogEvents
from phasesync.core.events import (
    ChoreFailed,
    ClaimExpired,
    ClaimLost,
    Event,
    RoleChanged,
    RunFinished,
    RunsPruned,
    SchemaWaiting,
    SweepDenied,
    SweepFinished,
    SyncUnreadable,
)
from phasesync.core.status import Outcome, SyncStatus, Trigger
from phasesync.ports import MemberRole
from phasesync.testing.canary import CANARY_KEY

RUN = RunFinished(
    sync="billing",
    run_id="run-1",
    trigger=Trigger.CHANGE,
    outcome=Outcome.APPLIED,
    status=SyncStatus.IN_SYNC,
    revision=7,
    duration_ms=12,
    aws_calls=2,
    versions_written=1,
    counts={"put": 1},
    error=None,
    code=None,
    next_attempt_at=None,
)
EVENTS: list[Event] = [
    RUN,
    ClaimExpired(sync="billing"),
    ClaimLost(sync_id="sync-1"),
    SyncUnreadable(sync_id="sync-1", run_id="run-1", error="CiphertextError"),
    RoleChanged(role=MemberRole.STANDBY),
    SchemaWaiting(found="0001", expected="0002", command="phasesync db migrate"),
    RunsPruned(count=3),
    SweepFinished(
        account="111122223333", region="eu-west-1", objects=900, suspects=0, syncs=9, calls=9, duration_ms=80
    ),
    SweepDenied(account="111122223333", region="eu-west-1", credential="aws", hint="allow it"),
    ChoreFailed(chore="poll", error="StoreUnavailableError", message="the database is locked"),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_is_one_line(event, lines) -> None:
    LogEvents().emit(event)

    assert len(lines()) == 1


def test_there_is_no_event_without_a_line() -> None:
    assert {type(event) for event in EVENTS} == set(typing.get_args(Event))


def test_a_run_says_which_sync_and_what_it_did(lines) -> None:
    LogEvents().emit(RUN)

    line = lines()[0]
    del line["timestamp"]
    assert line == {
        "level": "info",
        "logger": "phasesync",
        "event": "run finished",
        "sync": "billing",
        "run": "run-1",
        "trigger": "change",
        "outcome": "applied",
        "status": "in-sync",
        "revision": 7,
        "duration_ms": 12,
        "aws_calls": 2,
        "versions_written": 1,
        "counts": {"put": 1},
    }


@pytest.mark.parametrize(
    ("outcome", "status", "level"),
    [
        (Outcome.UNCHANGED, SyncStatus.IN_SYNC, "info"),
        (Outcome.HELD, SyncStatus.HELD, "warning"),
        (Outcome.UNKNOWN, SyncStatus.PENDING, "warning"),
        (Outcome.FAILED, SyncStatus.FAILING, "warning"),
        (Outcome.FAILED, SyncStatus.HALTED, "error"),
    ],
)
def test_the_level_says_whether_a_person_is_needed(outcome, status, level, lines) -> None:
    LogEvents().emit(replace(RUN, outcome=outcome, status=status))

    assert lines()[0]["level"] == level


def test_a_sweep_is_no_news_unless_something_is_suspected(lines) -> None:
    (sweep,) = (event for event in EVENTS if isinstance(event, SweepFinished))
    LogEvents().emit(sweep)
    LogEvents().emit(replace(sweep, suspects=1))

    assert [(line["level"], line["aws_calls"]) for line in lines()] == [("info", 9), ("warning", 9)]


def test_a_failed_run_names_error_code_and_next_attempt(lines) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    LogEvents().emit(
        replace(RUN, outcome=Outcome.FAILED, error="ThrottledError", code="ThrottlingException", next_attempt_at=at)
    )

    line = lines()[0]
    assert (line["error"], line["code"]) == ("ThrottledError", "ThrottlingException")
    assert line["next_attempt_at"] == "2026-01-02T03:04:05+00:00"


def test_the_message_of_a_chore_at_the_database_is_shown(lines) -> None:
    LogEvents().emit(ChoreFailed(chore="poll", error="StoreUnavailableError", message="the database is locked"))

    assert lines()[0]["message"] == "the database is locked"


@pytest.mark.parametrize(
    ("chore", "error"),
    [("reconcile", "StoreUnavailableError"), ("reconcile", "KeyError"), ("poll", "UnresolvedReferenceError")],
)
def test_a_message_that_may_name_a_key_is_not_shown(chore, error, lines, stream) -> None:
    LogEvents().emit(ChoreFailed(chore=chore, error=error, message=f"{CANARY_KEY} is missing"))

    assert lines()[0]["error"] == error
    assert CANARY_KEY not in stream.getvalue()
