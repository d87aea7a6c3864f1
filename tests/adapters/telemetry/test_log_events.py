"""One line for each event, without names of keys and remote objects."""

from __future__ import annotations

import typing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from phasesync.adapters.telemetry.log_events import LogEvents
from phasesync.core.chores import Chore, DaemonRole
from phasesync.core.events import (
    AuditEmptied,
    AuditHeadNoted,
    BackupFailed,
    BackupMade,
    ChoreFailed,
    ClaimExpired,
    ClaimLost,
    ClockJumped,
    DatabaseCompared,
    DriftMissedByIncrementalSweep,
    Event,
    IncrementalSweepUnavailable,
    LeaseEndMoved,
    LeaseRevoked,
    LeaseUnreadable,
    MessageFailed,
    MessageSent,
    NotificationUnreadable,
    OldBackupsNotRemoved,
    OrphanUsersRemoved,
    QueueCleared,
    RetentionHeld,
    RoleChanged,
    RunFinished,
    RunsPruned,
    SchemaWaiting,
    SweepDenied,
    SweepFinished,
    SyncUnreadable,
)
from phasesync.core.lease import Cause, LeaseStatus
from phasesync.core.notification_message import Condition, Step
from phasesync.core.run import Outcome
from phasesync.core.sync import SyncStatus, Trigger
from phasesync.demo.canary import CANARY_KEY

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
RETRY_AT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
TAKEN_BACK = LeaseRevoked(
    dynamic="ci",
    lease_id="1ea5e1ea5e1ea5e0",
    status=LeaseStatus.EXPIRED,
    cause=Cause.EXPIRY,
    error=None,
    code=None,
    failures=0,
    aws_calls=5,
    late_ms=412,
    retry_at=None,
)
NOT_TAKEN_BACK = replace(
    TAKEN_BACK,
    status=LeaseStatus.REVOKE_FAILED,
    error="PermissionDeniedError",
    code="AccessDenied",
    failures=3,
    aws_calls=1,
    late_ms=None,
    retry_at=RETRY_AT,
)
MESSAGE_SENT = MessageSent(
    notification="ops",
    channel="mail",
    message_id="message-1",
    step=Step.FIRST,
    condition=Condition.FAILING,
    subjects=3,
    attempts=1,
    age_ms=12,
)
MESSAGE_FAILED = MessageFailed(
    notification="ops",
    channel="mail",
    message_id="message-1",
    step=Step.FIRST,
    condition=Condition.FAILING,
    attempts=2,
    error="ChannelUnavailableError",
    code="451",
    retry_in_s=4.0,
)
EVENTS: list[Event] = [
    RUN,
    ClaimExpired(sync="billing"),
    ClaimLost(sync_id="sync-1"),
    SyncUnreadable(sync_id="sync-1", run_id="run-1", trigger=Trigger.CHANGE, error="CiphertextError"),
    RoleChanged(role=DaemonRole.STANDBY),
    ClockJumped(back_s=1800.0, leases=2),
    DatabaseCompared(places=1, objects=900, unanswered=0, older=True),
    SchemaWaiting(found="0001", expected="0002", command="phasesync db migrate"),
    RunsPruned(count=3),
    RetentionHeld(gap_s=126_230_400.0),
    AuditHeadNoted(head="4711:0f3a5c0d9b1e4f7a8c2d6e5b4a3f2e1d"),
    AuditEmptied(emptied=3, dropped=2),
    QueueCleared(count=2),
    SweepFinished(
        account="111122223333", region="eu-west-1", full=True, objects=900, suspects=0, syncs=9, calls=9, duration_ms=80
    ),
    SweepDenied(account="111122223333", region="eu-west-1", credential="aws", hint="allow it"),
    IncrementalSweepUnavailable(account="111122223333", region="eu-west-1", reason="refused"),
    DriftMissedByIncrementalSweep(account="111122223333", region="eu-west-1", listed=1, unlisted=2),
    TAKEN_BACK,
    LeaseEndMoved(dynamic="ci", lease_id="lease-1", expires_at=RETRY_AT),
    LeaseUnreadable(lease_id="1ea5e1ea5e1ea5e0"),
    OrphanUsersRemoved(account="111122223333", orphans=0, removed=0),
    MESSAGE_SENT,
    MESSAGE_FAILED,
    NotificationUnreadable(reason="ops: does not authenticate"),
    BackupMade(place="/var/backups", size=8192, rows=9, removed=1, duration_ms=80),
    OldBackupsNotRemoved(place="s3://backups", error="PermissionDeniedError", code="AccessDenied", message="no"),
    BackupFailed(place="s3://backups", error="PermissionDeniedError", code="AccessDenied", message="not allowed"),
    ChoreFailed(chore=Chore.POLL, error="StoreUnavailableError", message="the database is locked"),
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


def test_a_run_says_what_it_had_to_do_with_a_closed_window(lines) -> None:
    LogEvents().emit(replace(RUN, window="crossed the closed maintenance window of all syncs (deny: 2026-01-01 UTC)"))

    assert lines()[0]["window"] == "crossed the closed maintenance window of all syncs (deny: 2026-01-01 UTC)"


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


def only_line(lines) -> dict[str, Any]:
    """The one line, without when and by whom it was written."""
    (line,) = lines()
    return {name: value for name, value in line.items() if name not in ("timestamp", "logger")}


def test_a_lease_that_was_taken_back_says_how_late_and_with_how_many_calls(lines) -> None:
    LogEvents().emit(TAKEN_BACK)

    assert only_line(lines) == {
        "level": "info",
        "event": "lease taken back",
        "dynamic": "ci",
        "lease": "1ea5e1ea5e1ea5e0",
        "status": "expired",
        "cause": "expiry",
        "aws_calls": 5,
        "late_ms": 412,
    }


def test_a_lease_that_was_over_in_time_and_without_calls_says_so(lines) -> None:
    """Zeros are shown; unknown values are not."""
    LogEvents().emit(replace(TAKEN_BACK, aws_calls=0, late_ms=0))
    LogEvents().emit(replace(TAKEN_BACK, status=LeaseStatus.REVOKED, cause=Cause.REQUEST, late_ms=None, failures=2))

    in_time, by_hand = lines()
    assert (in_time["aws_calls"], in_time["late_ms"]) == (0, 0)
    assert (by_hand["status"], by_hand["cause"], by_hand["failures"]) == ("revoked", "request", 2)
    assert "late_ms" not in by_hand


def test_a_lease_that_could_not_be_taken_back_is_an_error_that_says_why_and_what_follows(lines) -> None:
    LogEvents().emit(NOT_TAKEN_BACK)

    assert only_line(lines) == {
        "level": "error",
        "event": "lease not taken back",
        "dynamic": "ci",
        "lease": "1ea5e1ea5e1ea5e0",
        "status": "revoke-failed",
        "cause": "expiry",
        "error": "PermissionDeniedError",
        "code": "AccessDenied",
        "failures": 3,
        "aws_calls": 1,
        "retry_at": "2026-01-02T03:04:05+00:00",
    }


def test_a_lease_that_is_looked_at_again_is_not_called_taken_back(lines) -> None:
    """Nothing of it was found, and a request that was sent for it may still arrive: it is not over."""
    LogEvents().emit(replace(TAKEN_BACK, status=LeaseStatus.REVOKING, late_ms=None, retry_at=RETRY_AT))

    line = only_line(lines)
    assert (line["level"], line["status"], line["retry_at"]) == ("info", "revoking", "2026-01-02T03:04:05+00:00")
    assert line["event"] != "lease taken back"


def test_a_lease_that_cannot_be_read_needs_a_person(lines) -> None:
    LogEvents().emit(LeaseUnreadable(lease_id="1ea5e1ea5e1ea5e0"))

    assert only_line(lines) == {
        "level": "error",
        "event": "lease not taken back: it cannot be read",
        "lease": "1ea5e1ea5e1ea5e0",
    }


@pytest.mark.parametrize(("strays", "removed", "level"), [(0, 0, "info"), (2, 2, "warning"), (2, 0, "warning")])
def test_users_that_nobody_would_have_taken_back_are_a_warning(strays, removed, level, lines) -> None:
    LogEvents().emit(OrphanUsersRemoved(account="111122223333", orphans=strays, removed=removed))

    assert only_line(lines) == {
        "level": level,
        "event": "users reaped",
        "account": "111122223333",
        "strays": strays,
        "removed": removed,
    }


def test_a_message_that_is_given_up_is_an_error(lines) -> None:
    LogEvents().emit(replace(MESSAGE_FAILED, retry_in_s=None))

    line = only_line(lines)
    assert (line["level"], line["event"]) == ("error", "message given up: it could not be sent")
    assert (line["notification"], line["error"], line["code"]) == ("ops", "ChannelUnavailableError", "451")


def test_old_leases_that_were_deleted_are_counted(lines) -> None:
    LogEvents().emit(RunsPruned(count=3, leases=2))

    assert only_line(lines) == {"level": "info", "event": "old runs deleted", "count": 3, "leases": 2}


@pytest.mark.parametrize("chore", ["leases", "reap-users"])
def test_chores_about_leases_show_what_the_database_said(chore, lines) -> None:
    LogEvents().emit(ChoreFailed(chore=Chore(chore), error="StoreUnavailableError", message="the database is locked"))

    assert lines()[0]["message"] == "the database is locked"


def test_the_message_of_a_chore_at_the_database_is_shown(lines) -> None:
    LogEvents().emit(ChoreFailed(chore=Chore.POLL, error="StoreUnavailableError", message="the database is locked"))

    assert lines()[0]["message"] == "the database is locked"


@pytest.mark.parametrize(
    ("chore", "error"),
    [("reconcile", "StoreUnavailableError"), ("reconcile", "KeyError"), ("poll", "UnresolvedReferenceError")],
)
def test_a_message_that_may_name_a_key_is_not_shown(chore, error, lines, stream) -> None:
    LogEvents().emit(ChoreFailed(chore=Chore(chore), error=error, message=f"{CANARY_KEY} is missing"))

    assert lines()[0]["error"] == error
    assert CANARY_KEY not in stream.getvalue()
