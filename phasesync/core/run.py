"""One run and what became of its changes, as frozen values. They hold names and numbers, never values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from phasesync.core.change import KeyDiff
from phasesync.core.run import Outcome
from phasesync.core.sync import Trigger


@dataclass(frozen=True, kw_only=True)
class RunError:
    """Why a run did not do all it should. `cls` is the name of a class in `errors.py`."""

    cls: str
    code: str | None
    message: str
    request_id: str | None
    hint: str | None


@dataclass(frozen=True, kw_only=True)
class ChangeResult:
    """
    What became of one change of a plan.

    Attributes:
        version_id: set where a version was written.
        keys: names of the keys that the change is about; none for what changes no value.
    """

    action: str
    remote_name: str
    outcome: Outcome
    reason: str
    version_id: str | None = None
    keys: KeyDiff = field(default_factory=KeyDiff)


@dataclass(frozen=True, kw_only=True)
class Run:
    """
    One attempt to reconcile a sync.

    Attributes:
        attempt: 1 for the first, one more for each that follows a failure.
        revisions: `app/environment` -> revision that was read.
        counts: action -> number of changes.
        next_attempt_at: when a failed run is tried again, None = not by itself.
        ended_at: None while it is under way (never stored so).
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
