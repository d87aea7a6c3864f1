"""What the database says about the whole installation, as numbers: for metrics. No name is in it but those of syncs."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from phasesync.core.chores import DaemonRole
from phasesync.core.sync import SyncStatus


@dataclass(frozen=True, kw_only=True)
class SyncFigures:
    """
    One sync.

    Attributes:
        since: since when it has its status; None if that is not known.
        behind_since: when the oldest edit was committed that is not applied; None if there is none.
    """

    name: str
    status: SyncStatus
    since: datetime | None
    behind_since: datetime | None


@dataclass(frozen=True, kw_only=True)
class Figures:
    """
    What the database says, all of one moment.

    Attributes:
        at: the database's time.
        host_ahead: how far this host's clock is ahead of the database's; below 0: behind it.
        syncs: status -> number of syncs, 0 included.
        longest: status -> since when the sync has it that has had it for the longest time; only where known.
        behind: how many syncs have an edit that is not applied.
        behind_since: when the oldest of those edits was committed; None if there is none.
        versions_left: of the version budget of the object that has the least.
        waiting_for_budget: how many syncs have changes that wait for the version budget.
        leases: status -> number of live leases.
        overdue: how many leases are past their end, and their keys still work.
        overdue_since: the earliest of those ends; None if there is none.
        claims: how many syncs are claimed.
        daemons: role -> number of live daemons.
        restored: this database counts as older than AWS.
        each: syncs one by one, if asked for.
        left_out: how many syncs are not in `each` because they are too many.
    """

    at: datetime
    host_ahead: timedelta
    syncs: Mapping[SyncStatus, int]
    longest: Mapping[SyncStatus, datetime]
    behind: int
    behind_since: datetime | None
    versions_left: int
    waiting_for_budget: int
    leases: Mapping[str, int]
    overdue: int
    overdue_since: datetime | None
    claims: int
    daemons: Mapping[DaemonRole, int]
    restored: bool
    each: tuple[SyncFigures, ...] = ()
    left_out: int = 0

    def age(self, since: datetime | None) -> timedelta:
        """Return the time since an instant; 0 if there is none."""
        return timedelta(0) if since is None else max(self.at - since, timedelta(0))
