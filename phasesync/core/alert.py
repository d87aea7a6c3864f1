"""An alert: what is wrong with a sync or a lease, or was. Frozen values."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from phasesync.core.notification_message import Condition


class SubjectKind(StrEnum):
    """What an alert is about."""

    SYNC = "sync"
    LEASE = "lease"


class Ended(StrEnum):
    """Why an alert ended."""

    IN_SYNC = "in-sync"
    REPAIRED = "repaired"
    """It was over when it was found: drift that the same run repaired."""
    PAUSED = "paused"
    REMOVED = "removed"
    OVER = "over"
    """A lease ended."""


@dataclass(frozen=True, kw_only=True)
class Alert:
    """
    What is wrong with a sync or a lease, or was.

    Attributes:
        subject: its name when the alert opened.
        ended_at: None while it is open.
    """

    id: str
    condition: Condition
    subject_kind: SubjectKind
    subject_id: str
    subject: str
    since: datetime
    ended_at: datetime | None = None
    ended_by: Ended | None = None
