"""
How the daemon is doing, in the words of health, readiness and systemd's status line.

Health: should the process be left alone? Readiness: does it do its work, or stand by for it? Must not ask the database:
answers come at once from what the rounds have found.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from phasesync.daemon.http import Report
from phasesync.daemon.parts import Schema
from phasesync.ports import MemberRole

STALLED_AFTER: Final = timedelta(seconds=30)


@dataclass(frozen=True, kw_only=True)
class Pulse:
    """
    Signs of life of a daemon at work.

    Attributes:
        role: what it does, None until it is known.
        poll_age: since a poll last came to an end.
        leases_age: since what is due of leases was last handed out.
        beat_age: since a heartbeat last came to an end.
        beat_every: its rhythm.
    """

    role: MemberRole | None
    poll_age: timedelta
    leases_age: timedelta
    beat_age: timedelta
    beat_every: timedelta


class Condition:
    """Facts that the service notes, and what follows from them. Written by few threads, read by many."""

    def __init__(self) -> None:
        self.database_reachable: bool | None = None
        """None = not asked yet."""
        self.database_problem = ""
        """Why the database was not reachable when it was last asked."""
        self.schema: Schema | None = None
        """What was last seen."""
        self.pulse: Callable[[], Pulse] | None = None
        """None until the daemon works."""
        self.stopping = False

    def health(self) -> Report:
        """Report whether rounds still come to an end; a daemon that waits for its database is healthy."""
        if self.pulse is None:
            return Report(ok=True, detail={"state": self.words()})
        pulse = self.pulse()
        detail = {"state": self.words(), "last_poll_s": round(pulse.poll_age.total_seconds(), 3)}
        for what, age, limit in (
            ("polls", pulse.poll_age, STALLED_AFTER),
            ("expiries of leases", pulse.leases_age, STALLED_AFTER),
            ("heartbeats", pulse.beat_age, max(STALLED_AFTER, 3 * pulse.beat_every)),
        ):
            if age > limit and not self.stopping:
                return Report(ok=False, detail={**detail, "reason": f"{what} have stalled"})
        return Report(ok=True, detail=detail)

    def ready(self) -> Report:
        """Report whether the daemon works or stands by, and otherwise what it waits for."""
        role = self._role()
        if self.stopping or self.database_reachable is not True or not self.can_work or role is None:
            detail: dict[str, object] = {"reason": self.words()}
            if not self.stopping and self.database_reachable and self.schema is not None and not self.can_work:
                detail |= {
                    "found": self.schema.current,
                    "expected": self.schema.expected,
                    "command": mending(self.schema),
                }
            return Report(ok=False, detail=detail)
        return Report(ok=True, detail={"role": role.value})

    @property
    def can_work(self) -> bool:
        """Whether the schema was right when it was last seen."""
        return self.schema is not None and self.schema.is_current

    def words(self) -> str:
        """Return one line that says what the daemon does or waits for."""
        role = self._role()
        if self.stopping:
            return "stopping"
        if self.database_reachable is None:
            return "starting"
        if not self.database_reachable:
            why = f": {self.database_problem}" if self.database_problem else ""
            return f"the database cannot be reached{why}"
        if self.schema is not None and not self.can_work:
            return f"waiting for the database schema: {mending(self.schema)}"
        return "starting" if role is None else role.value

    def _role(self) -> MemberRole | None:
        return None if self.pulse is None else self.pulse().role


def mending(schema: Schema) -> str:
    """Return what brings schema and release together."""
    if schema.current is None:
        return "phasesync init"
    # Revisions are numbered with leading zeros.
    return "phasesync db migrate" if schema.current < schema.expected else "upgrade phasesync"
