"""
The status of a sync, why it has that status, and what blocks another one. Pure; it reports and decides nothing.

Every line consists of names, numbers and instants. No secret key and no value is in it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from phasesync.core.credential import CredentialStatus
from phasesync.core.run import Run
from phasesync.core.sync import Sync, SyncStatus, Trigger

if TYPE_CHECKING:
    from phasesync.core.windows import Closure

OVERTAKEN = (SyncStatus.IN_SYNC, SyncStatus.HELD, SyncStatus.HALTED)
"""An edit, a change of the sync or a requested run makes these pending until a run has dealt with it."""

NEEDS_A_PERSON = frozenset({SyncStatus.HELD, SyncStatus.HALTED, SyncStatus.PAUSED, SyncStatus.INCOMPLETE})
"""
Statuses that a sync does not leave by itself: `status_of` returns these only if no edit, request or run that may change
them is under way. Only a pause may have an end.
"""


def status_of(sync: Sync, credential: CredentialStatus) -> SyncStatus:
    """Return the status of a sync, from its settings, the work under way and the result of its newest run."""
    if sync.paused is not None:
        return SyncStatus.PAUSED
    if credential is CredentialStatus.INCOMPLETE:
        return SyncStatus.INCOMPLETE
    if sync.running:
        return SyncStatus.RUNNING
    if (sync.pending or sync.requested is not None) and sync.settled_status in OVERTAKEN:
        return SyncStatus.PENDING
    return sync.settled_status


def explain_sync(
    sync: Sync,
    credential: CredentialStatus,
    *,
    account: str | None,
    last_run: Run | None,
    now: datetime,
    window: str | None = None,
) -> tuple[str, ...]:
    """
    Return the status of a sync and its reasons, as lines for an operator.

    Args:
        sync: the sync.
        credential: status of its credential.
        account: the account that its credential is pinned to; None if it is not pinned.
        last_run: its newest run, None if it has none.
        now: the time.
        window: when its closed maintenance window opens, and whose it is; None if none is closed.
    """
    status = status_of(sync, credential)
    lines = [f"status {status}" + (f": {sync.status_reason}" if sync.status_reason else "")]
    if sync.paused is not None:
        until = f", until {_at(sync.paused.until)}" if sync.paused.until else ""
        why = f": {sync.paused.reason}" if sync.paused.reason else ""
        lines.append(f"paused by {sync.paused.by} at {_at(sync.paused.at)}{until}{why}")
    if credential is not CredentialStatus.VERIFIED:
        lines.append(f"the credential {sync.credential} is {credential}")
    lines.append(_pinned(sync, account))
    if window is not None and window not in lines[0]:
        lines.append(f"its maintenance window is closed, so that nothing is written unattended: {window}")
    lines += _waiting_for(sync)
    if last_run is not None and last_run.error is not None:
        code = f" ({last_run.error.code})" if last_run.error.code else ""
        lines.append(f"the last run ended {last_run.outcome}: {last_run.error.cls}: {last_run.error.message}{code}")
    if sync.failures:
        lines.append(f"{sync.failures} failed {'run' if sync.failures == 1 else 'runs'} in a row")
    if sync.retry_at is not None and sync.retry_at > now and (window is None or sync.failures):
        lines.append(f"backing off: no run by itself before {_at(sync.retry_at)}")
    if status in (SyncStatus.FAILING, SyncStatus.HALTED):
        lines.append(retry_hint(sync))
    if sync.next_due_at is not None:
        lines.append(f"next check at {_at(sync.next_due_at)}" if sync.next_due_at > now else "a check is due")
    return tuple(lines)


def _pinned(sync: Sync, account: str | None) -> str:
    pinned = sync.account or account
    return f"pinned to account {pinned}" if pinned else "not pinned to an account yet"


def _waiting_for(sync: Sync) -> list[str]:
    lines = []
    applied = "none" if sync.applied_revision is None else str(sync.applied_revision)
    if sync.pending:
        lines.append(f"revision {sync.source_revision} of {sync.environment_label} is pending (applied: {applied})")
        if sync.applied_revision == sync.source_revision:
            lines[-1] = "an environment that it references has a newer revision"
    if sync.requested is not None:
        lines.append(f"a run was asked for ({sync.requested})")
    if sync.running:
        lines.append("a run is under way")
    if sync.adopt is not None:
        lines.append(f"a consent to take over is waiting for the next run ({sync.adopt})")
    if sync.approved_digest is not None:
        lines.append(f"the held changes {sync.approved_digest} are approved, for the next run")
    return lines


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


_LEFT_BY_A_RUN = frozenset({SyncStatus.PENDING, SyncStatus.FAILING})
"""A sync leaves these statuses with its next run."""

_NOT_BY_A_DAEMON = frozenset({SyncStatus.PENDING, SyncStatus.PAUSED, SyncStatus.INCOMPLETE})
"""An edit or an operator sets these: no daemon is needed for them."""


@dataclass(frozen=True, kw_only=True)
class Blocker:
    """
    Why it is no use to wait for a status.

    Attributes:
        why: the end of a sentence that begins with the name of the sync.
        hint: the command that helps.
        unserved: no daemon is running; nothing is wrong with the sync.
    """

    why: str
    hint: str
    unserved: bool = False


def blocker_of(
    sync: Sync,
    status: SyncStatus,
    wanted: SyncStatus,
    *,
    answered: bool,
    served: bool,
    within: timedelta,
    now: datetime,
    error_hint: str | None,
    closure: "Closure | None" = None,
) -> Blocker | None:
    """
    Return what prevents a status, None if the sync may still reach it in time.

    Args:
        sync: the sync as it is now.
        status: its status, not the wanted one.
        wanted: the status that is waited for.
        answered: the newest run is the one that counts; False = a requested run is still ahead.
        served: a daemon is alive, or may be about to start.
        within: how long the caller waits for it.
        now: the time.
        error_hint: the hint of the error that the newest run ended with; None if it has none.
        closure: the maintenance window that is closed now; None if none is.
    """
    if status is SyncStatus.PAUSED and sync.paused is not None and sync.paused.until is not None:
        stuck = sync.paused.until - now > within
    else:
        stuck = status in NEEDS_A_PERSON and (answered or status in (SyncStatus.PAUSED, SyncStatus.INCOMPLETE))
    if stuck:
        return Blocker(
            why=f"is {status} and will not be {wanted} by itself{reason_clause(sync, status)}",
            hint=_exit_hint(sync, status, error_hint),
        )
    if sync.running:
        return None
    waits = (status, wanted) == (SyncStatus.PENDING, SyncStatus.IN_SYNC) and sync.requested is not Trigger.MANUAL
    if waits and closure is not None and (closure.opens_at is None or closure.opens_at - now > within):
        return Blocker(
            why=f"is {status}, and its maintenance window is closed: {closure.text}",
            hint=f"to write all the same: phasesync syncs {'trigger' if served else 'run'} {sync.name}",
        )
    at = _next_run_at(sync, now) if status in _LEFT_BY_A_RUN and wanted not in _NOT_BY_A_DAEMON else None
    if at is not None and at - now > max(within, timedelta()):  # A run that is due now is no obstacle.
        return Blocker(
            why=f"is {status}, and its next run is at {at:%Y-%m-%d %H:%M:%S} UTC{reason_clause(sync, status)}",
            hint=f"phasesync syncs why {sync.name}; {retry_hint(sync, served=served)}",
        )
    if not served and wanted not in _NOT_BY_A_DAEMON:
        return Blocker(
            why=f"is {status}, and no daemon is running that would make it {wanted}{reason_clause(sync, status)}",
            hint=f"start one: phasesync daemon; or run the sync here: phasesync syncs run {sync.name}",
            unserved=True,
        )
    return None


def retry_hint(sync: Sync, *, served: bool = True) -> str:
    """Return how to run a sync before its time."""
    command = "trigger" if served else "run"
    return f"once the cause is fixed, to try at once: phasesync syncs {command} {sync.name}"


def reason_clause(sync: Sync, status: SyncStatus) -> str:
    """Return why a sync has a status, as the end of a sentence; empty if no reason is known."""
    reason = sync.status_reason
    if status is SyncStatus.PAUSED and sync.paused is not None:
        until = "" if sync.paused.until is None else f" until {sync.paused.until:%Y-%m-%d %H:%M:%S} UTC"
        reason = f"paused by {sync.paused.by}{until}" + (f", {sync.paused.reason}" if sync.paused.reason else "")
    elif status is SyncStatus.INCOMPLETE:
        reason = f"its credential {sync.credential} has no role yet"
    return f": {reason}" if reason else ""


def _next_run_at(sync: Sync, now: datetime) -> datetime | None:
    """Return when a daemon runs a sync next, None if that is not known."""
    if sync.requested is not None:
        return now
    times = [] if sync.next_due_at is None else [sync.next_due_at]
    if sync.pending:
        times.append(sync.retry_at or now)
    return max(min(times), now) if times else None


def _exit_hint(sync: Sync, status: SyncStatus, error_hint: str | None) -> str:
    """Return the command that ends a status which a sync does not leave by itself."""
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
