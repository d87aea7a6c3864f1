"""What stands in the way of a sync that somebody waits for. Pure; says also which command helps."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from phasesync.core.standing import NEEDS_A_PERSON
from phasesync.core.status import SyncStatus
from phasesync.core.sync import Sync

_LEFT_BY_A_RUN = frozenset({SyncStatus.PENDING, SyncStatus.FAILING, SyncStatus.DRIFTED})
"""A sync leaves these with its next run."""

_MADE_BY_OTHERS = frozenset({SyncStatus.PENDING, SyncStatus.PAUSED, SyncStatus.INCOMPLETE})
"""These come from an edit or from an operator: no daemon is needed for them."""


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """
    Why waiting is in vain.

    Attributes:
        why: the end of a sentence that begins with the name of the sync.
        hint: the command that helps.
        unserved: no daemon is there to do it; nothing is wrong with the sync.
    """

    why: str
    hint: str
    unserved: bool = False


def obstacle(
    sync: Sync,
    status: SyncStatus,
    wanted: SyncStatus,
    *,
    answered: bool,
    served: bool,
    within: timedelta,
    now: datetime,
    error_hint: str | None,
) -> Obstacle | None:
    """
    Return what stands in the way of a status, None where it may still come by itself in time.

    Args:
        sync: the sync as it is now.
        status: its status, another one than the wanted.
        wanted: the status that is waited for.
        answered: the newest run is one that counts; False = a run that was asked for is still ahead.
        served: a daemon is alive, or may be about to start.
        within: how long somebody waits for it.
        now: the time.
        error_hint: the hint of the error that the newest run ended with, None = none.
    """
    if status is SyncStatus.PAUSED and sync.paused is not None and sync.paused.until is not None:
        stuck = sync.paused.until - now > within
    else:
        stuck = status in NEEDS_A_PERSON and (answered or status in (SyncStatus.PAUSED, SyncStatus.INCOMPLETE))
    if stuck:
        return Obstacle(
            why=f"is {status} and will not be {wanted} by itself{because(sync, status)}",
            hint=_help_with(sync, status, error_hint),
        )
    if sync.running:
        return None
    at = _next_run_at(sync, now) if status in _LEFT_BY_A_RUN and wanted not in _MADE_BY_OTHERS else None
    if at is not None and at - now > max(within, timedelta()):  # One that is due now is not in the way.
        return Obstacle(
            why=f"is {status}, and its next run is at {at:%Y-%m-%d %H:%M:%S} UTC{because(sync, status)}",
            hint=f"phasesync syncs why {sync.name}; {try_at_once(sync, served=served)}",
        )
    if not served and wanted not in _MADE_BY_OTHERS:
        return Obstacle(
            why=f"is {status}, and no daemon is running that would make it {wanted}{because(sync, status)}",
            hint=f"start one: phasesync daemon; or run the sync here: phasesync syncs run {sync.name}",
            unserved=True,
        )
    return None


def try_at_once(sync: Sync, *, served: bool = True) -> str:
    """Return the command that has a sync tried before its time."""
    command = "trigger" if served else "run"
    return f"once the cause is fixed, to try at once: phasesync syncs {command} {sync.name}"


def because(sync: Sync, status: SyncStatus) -> str:
    """Return why a sync has a status, as the end of a sentence; empty where nothing is to be said."""
    reason = sync.status_reason
    if status is SyncStatus.PAUSED and sync.paused is not None:
        until = "" if sync.paused.until is None else f" until {sync.paused.until:%Y-%m-%d %H:%M:%S} UTC"
        reason = f"paused by {sync.paused.by}{until}" + (f", {sync.paused.reason}" if sync.paused.reason else "")
    elif status is SyncStatus.INCOMPLETE:
        reason = f"its credential {sync.credential} has no role yet"
    return f": {reason}" if reason else ""


def _next_run_at(sync: Sync, now: datetime) -> datetime | None:
    """Return when a daemon runs a sync next if nobody asks for it; None = that is not known."""
    if sync.requested is not None:
        return now
    times = [] if sync.next_due_at is None else [sync.next_due_at]
    if sync.pending:
        times.append(sync.retry_at or now)
    return max(min(times), now) if times else None


def _help_with(sync: Sync, status: SyncStatus, error_hint: str | None) -> str:
    """Return the command that helps a sync out of a status that it does not leave by itself."""
    match status:
        case SyncStatus.PAUSED:
            return f"phasesync syncs resume {sync.name}"
        case SyncStatus.INCOMPLETE:
            return f"phasesync credentials update {sync.credential} --role-arn ARN"
        case SyncStatus.HELD:
            return f"phasesync syncs plan {sync.name} shows what is held, and how to approve it"
        case _:
            why = f"phasesync syncs why {sync.name}"
            return f"{error_hint}; more: {why}" if error_hint else why
