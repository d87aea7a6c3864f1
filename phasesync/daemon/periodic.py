"""
Repeats the daemon's chores, each in its rhythm, and knows when each last ended and last succeeded, by APScheduler.

A round that could not do its work, such as without a file descriptor left, has ended without success. One that raised
a defect has not ended.

APScheduler 3 follows the wall clock, which jumps: after a jump forwards it would make up every missed round, after one
backwards it would wait until the clock is there again. Here a missed round is made up once, and `correct_clock_jumps`
brings back rounds that are too far ahead.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from phasesync.adapters.dispatch.threads import start_threads
from phasesync.adapters.telemetry.logging import get_logger
from phasesync.host_files import shortage

_SLACK = timedelta(seconds=1)

Work = Callable[[], bool | None]
"""One round of a chore. It returns False if it ended without success."""


@dataclass(kw_only=True)
class _PeriodicChore:
    every: timedelta
    work: Work
    ended_at: float
    succeeded_at: float
    reported: str | None = None
    """The defect of the newest round, if it had one, or what the host lacked."""


class PeriodicChores:
    """The periodic chores of a daemon. A chore never runs twice at once, and goes on after a failure."""

    def __init__(
        self, *, threads: int = 14, ended: Callable[[str, bool], object] = lambda _chore, _succeeded: None
    ) -> None:
        """
        Args:
            threads: one for each chore that may take long; otherwise they wait for each other.
            ended: called at the end of each round, with its chore and whether it succeeded.
        """
        self._log = get_logger("phasesync.daemon")
        self._ended = ended
        self._chores: dict[str, _PeriodicChore] = {}
        executor = ThreadPoolExecutor(threads)
        start_threads(executor._pool, threads)
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": executor},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )

    def add(self, name: str, work: Work, *, every: timedelta, first_in: timedelta = timedelta(0)) -> None:
        """Add a chore. `first_in` counts from now."""
        now = time.monotonic()
        self._chores[name] = _PeriodicChore(every=every, work=work, ended_at=now, succeeded_at=now)
        self._scheduler.add_job(
            self._run, _Every(every), args=(name,), id=name, next_run_time=datetime.now(UTC) + first_in
        )

    def start(self) -> None:
        """Begin."""
        self._scheduler.start()

    def stop(self) -> None:
        """Begin no further round. Rounds under way end by themselves."""
        self._scheduler.shutdown(wait=False)

    def set_every(self, name: str, every: timedelta) -> None:
        """Change the rhythm of a chore. Its next round is at once."""
        self._chores[name].every = every
        self._scheduler.reschedule_job(name, trigger=_Every(every))

    def every(self, name: str) -> timedelta:
        """Return the rhythm of a chore."""
        return self._chores[name].every

    def age(self, name: str) -> float:
        """Return the seconds since a round of a chore last ended; before the first, since the chore was added."""
        return time.monotonic() - self._chores[name].ended_at

    def success_age(self, name: str) -> float:
        """Return the seconds since a round of a chore last succeeded; before the first, since the chore was added."""
        return time.monotonic() - self._chores[name].succeeded_at

    def correct_clock_jumps(self) -> None:
        """Bring back rounds that a jump of the wall clock moved too far ahead. To be called now and then."""
        now = datetime.now(UTC)
        for job in self._scheduler.get_jobs():
            if job.next_run_time > now + self._chores[job.id].every + _SLACK:
                job.modify(next_run_time=now)

    def _run(self, name: str) -> None:
        """Do a round. A defect is logged once until it changes: rounds come many times a second."""
        chore = self._chores[name]
        try:
            succeeded = chore.work() is not False
        except Exception as error:  # noqa: BLE001 -- the next round must come, and the log says what it was
            self._ended(name, False)
            if (lacking := shortage(error)) is not None:
                # No defect: a restart would not help.
                chore.ended_at = time.monotonic()
                if chore.reported != lacking:
                    self._log.warning("a round could not be done", round=str(name), reason=lacking)
                chore.reported = lacking
                return
            defect = type(error).__name__
            if defect != chore.reported:
                self._log.error("a round failed", round=str(name), exc_info=error)
            chore.reported = defect
        else:
            chore.reported = None
            chore.ended_at = time.monotonic()
            if succeeded:
                chore.succeeded_at = chore.ended_at
            self._ended(name, succeeded)


class _Every(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """A fixed rhythm that makes up for missed rounds once."""

    def __init__(self, every: timedelta) -> None:
        self._every = every

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        """Return when the next round is, from the last planned one."""
        if previous is None:
            return now
        following = previous + self._every
        return following if following > now else now + self._every
