"""A run and the results of its changes, and the outcome and status that follow from an error. No value is in them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from phasesync.core.change import KeyDiff
from phasesync.core.remote import Action
from phasesync.core.sync import SyncStatus, Trigger
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


WAITS_FOR_WINDOW = "waits for the maintenance window"
"""Begins what the reason of a change says, at its end, about the window that it waits for."""


@dataclass(frozen=True, kw_only=True)
class RunError:
    """
    The error that a run ended with.

    Attributes:
        cls: name of a class in `errors.py`.
        held: what the guard holds, if it does: fixed words and numbers alone, for those who are to see no name.
    """

    cls: str
    code: str | None
    message: str
    request_id: str | None
    hint: str | None
    held: str | None = None


@dataclass(frozen=True, kw_only=True)
class ChangeResult:
    """
    Result of one change of a plan.

    Attributes:
        version_id: set if a version was written.
        keys: names of the keys that the change affects; empty if it changes no value.
    """

    action: str
    remote_name: str
    outcome: Outcome
    reason: str
    version_id: str | None = None
    keys: KeyDiff = field(default_factory=KeyDiff)

    @property
    def waits(self) -> bool:
        """Whether it was left for later: for the version budget or a maintenance window."""
        return self.outcome is Outcome.UNCHANGED and self.action != Action.NOOP


@dataclass(frozen=True, kw_only=True)
class Run:
    """
    One attempt to reconcile a sync.

    Attributes:
        attempt: 1 for the first, one more for each that follows a failure.
        revisions: `app/environment` -> revision that was read.
        counts: action -> number of changes.
        next_attempt_at: when a failed run is tried again; None if it is not tried automatically.
    """

    id: str
    sync_id: str
    sync: str
    trigger: Trigger
    actor: str
    attempt: int
    outcome: Outcome
    started_at: datetime
    ended_at: datetime
    revisions: Mapping[str, int]
    counts: Mapping[str, int]
    aws_calls: int
    versions_written: int
    error: RunError | None
    next_attempt_at: datetime | None
    changes: tuple[ChangeResult, ...]

    @property
    def waits(self) -> bool:
        """Whether it left changes for later: for the version budget or a maintenance window."""
        return any(change.waits for change in self.changes)

    @property
    def waits_for(self) -> str | None:
        """What it left changes for: `maintenance-window` or `version-budget`; None if it left none."""
        if not self.waits:
            return None
        windowed = any(change.waits and WAITS_FOR_WINDOW in change.reason for change in self.changes)
        return "maintenance-window" if windowed else "version-budget"


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
    """Return the worst outcome; UNCHANGED if there are none."""
    return max(outcomes, key=SEVERITY.index, default=Outcome.UNCHANGED)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of a run and the status of its sync, as they follow from an error."""

    outcome: Outcome
    status: SyncStatus


_REFUSALS = (OwnershipConflictError, StaleDatabaseError, AccountMismatchError)
_SLOWLY_RETRIED = (CredentialRejectedError, PermissionDeniedError)
_INTERRUPTIONS = (InterruptedRunError, ClaimLostError, ClaimHeldError)


def verdict_of(error: PhasesyncError) -> Verdict:
    """Return the outcome of a run that ended with this error, and the status of its sync afterwards."""
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
    """Return the exit code of a run that has no error with an exit code of its own."""
    return _EXIT_CODES[outcome]
