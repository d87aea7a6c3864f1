"""Status and outcome words, and which one follows from what."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from phasesync.errors import (
    AccountMismatchError,
    ClaimHeldError,
    ClaimLostError,
    CredentialRejectedError,
    Disposition,
    InterruptedRunError,
    OutcomeUnknownError,
    OwnershipConflictError,
    PermissionDeniedError,
    PhasesyncError,
    PlanHeldError,
    QuotaExceededError,
    StaleDatabaseError,
)


class Trigger(StrEnum):
    """What woke a run."""

    CHANGE = "change"
    """An environment that it reads has grown, or its configuration changed."""
    DRIFT = "drift"
    """A check found that somebody else changed a remote object."""
    SCHEDULE = "schedule"
    """Its interval is over."""
    MANUAL = "manual"
    RETRY = "retry"
    RESUME = "resume"


class Outcome(StrEnum):
    """How a run or a change ended."""

    UNCHANGED = "unchanged"
    APPLIED = "applied"
    HELD = "held"
    """Waits for an approval."""
    REFUSED = "refused"
    """Not ours to write."""
    FAILED = "failed"
    UNKNOWN = "unknown"
    """A write may have landed."""
    INTERRUPTED = "interrupted"


class SyncStatus(StrEnum):
    """How a sync stands."""

    PENDING = "pending"
    """A newer revision is not applied yet."""
    RUNNING = "running"
    IN_SYNC = "in-sync"
    DRIFTED = "drifted"
    """Somebody else changed a remote object; not repaired yet."""
    HELD = "held"
    """Waits for an approval."""
    HALTED = "halted"
    """Waits for a repair by a person."""
    FAILING = "failing"
    """Tried again by itself."""
    PAUSED = "paused"
    INCOMPLETE = "incomplete"
    """Its credential has no role yet."""


SEVERITY = (
    Outcome.UNCHANGED,
    Outcome.APPLIED,
    Outcome.HELD,
    Outcome.REFUSED,
    Outcome.FAILED,
    Outcome.UNKNOWN,
    Outcome.INTERRUPTED,
)
"""Outcomes from the mildest to the worst."""


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the worst outcome; UNCHANGED for none."""
    return max(outcomes, key=SEVERITY.index, default=Outcome.UNCHANGED)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What an error means for a run and for its sync."""

    outcome: Outcome
    status: SyncStatus


_REFUSALS = (OwnershipConflictError, StaleDatabaseError, AccountMismatchError)
_SLOWLY_RETRIED = (CredentialRejectedError, PermissionDeniedError)
_INTERRUPTIONS = (InterruptedRunError, ClaimLostError, ClaimHeldError)


def verdict_of(error: PhasesyncError) -> Verdict:
    """Return the outcome of a run that ended with this error and the status it leaves behind."""
    match error:
        case PlanHeldError():
            return Verdict(outcome=Outcome.HELD, status=SyncStatus.HELD)
        case OutcomeUnknownError():
            return Verdict(outcome=Outcome.UNKNOWN, status=SyncStatus.PENDING)
        case _ if isinstance(error, _INTERRUPTIONS):
            return Verdict(outcome=Outcome.INTERRUPTED, status=SyncStatus.PENDING)
        case _ if isinstance(error, _REFUSALS):
            return Verdict(outcome=Outcome.REFUSED, status=SyncStatus.HALTED)
        case QuotaExceededError() if error.retry_after is not None:
            return Verdict(outcome=Outcome.FAILED, status=SyncStatus.FAILING)
        case _ if isinstance(error, _SLOWLY_RETRIED) or error.disposition is not Disposition.HALT:
            return Verdict(outcome=Outcome.FAILED, status=SyncStatus.FAILING)
        case _:
            return Verdict(outcome=Outcome.FAILED, status=SyncStatus.HALTED)


_EXIT_CODES = {
    Outcome.UNCHANGED: 0,
    Outcome.APPLIED: 0,
    Outcome.HELD: 4,
    Outcome.REFUSED: 4,
    Outcome.FAILED: 1,
    Outcome.UNKNOWN: 1,
    Outcome.INTERRUPTED: 130,
}


def exit_code_of(outcome: Outcome) -> int:
    """Return the exit code of a run without an error class of its own."""
    return _EXIT_CODES[outcome]
