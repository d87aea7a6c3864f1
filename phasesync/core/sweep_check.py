"""What a sweep reads of syncs that are in step, and what it finds out about them."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from phasesync.core.credential import Credential
from phasesync.core.remote import JournalEntry
from phasesync.core.sync import SyncConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """What one list shows: an account and Region of a destination kind."""

    destination_kind: str
    account: str
    region: str


@dataclass(frozen=True, kw_only=True)
class SweptPlace:
    """
    A place that syncs write to, and how far its lists were read.

    Attributes:
        credentials: what syncs of this place use, by name; unusable ones are left out.
        changed_since: LastChangedDate (by AWS's clock) from which on changes are not all compared yet; None if no
            sweep has begun.
        full_ago: how long ago the newest complete list of everything began, by the database's clock; negative if that
            clock was set back since; None if there was no such list.
    """

    place: Place
    credentials: tuple[Credential, ...]
    changed_since: datetime | None = None
    full_ago: timedelta | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SweptSync:
    """
    A sync that its newest run found in step, as it was read.

    Attributes:
        fence: of the newest claim; another one means that a run came in between.
        version: of the configuration.
        settled: no edit, request, run, pause or missing role makes its next check uncertain.
        overdue: its next check is due already.
    """

    id: str
    fence: int
    version: int
    config: SyncConfig
    settled: bool
    overdue: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class SweptObject:
    """
    One journalled object of such a sync, in the account and Region of its sync.

    Attributes:
        id: of the row of the journal.
        entry: None if the sync or the entry does not authenticate: then nothing can be said of the sync.
        wanted: the sync wants it now; else it wrote it once.
    """

    id: str
    sync: SweptSync
    entry: JournalEntry | None
    wanted: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncEntries:
    """A sync that its newest run found in step, with the ids of its journalled objects in its account and Region."""

    sync: SweptSync
    entries: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """When the next check of a sync is due, from now."""

    sync: SweptSync
    due_in: timedelta
