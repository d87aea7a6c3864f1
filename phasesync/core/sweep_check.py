"""What a sweep reads of syncs that are in step, and what it finds out about them."""

from dataclasses import dataclass
from datetime import timedelta

from phasesync.core.credential import Credential
from phasesync.core.remote import JournalEntry
from phasesync.core.sync import SyncConfig


@dataclass(frozen=True, kw_only=True)
class SweepGroup:
    """
    Syncs that one list can check, with checks that are due soon.

    Attributes:
        due: how many remote objects the checks that are due soon are about; syncs that lists do not show do not count.
        objects: how many remote objects all syncs of this place are about.
        credentials: what syncs of this place use, by name; unusable ones are left out.
    """

    destination_kind: str
    account: str
    region: str
    due: int
    objects: int
    credentials: tuple[Credential, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SweptSync:
    """
    A sync that is in step and that no process works on, as it was read.

    Attributes:
        fence: of the newest claim; another one means that a run came in between.
        version: of the configuration.
    """

    id: str
    fence: int
    version: int
    config: SyncConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class SweptObject:
    """
    One journalled object of such a sync, in the account and Region of the group.

    Attributes:
        entry: None if the sync or the entry does not authenticate: then nothing can be said of the sync.
        wanted: the sync wants it now; else it wrote it once.
    """

    sync: SweptSync
    entry: JournalEntry | None
    wanted: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """What a sweep found out about a sync: when its next check is due, from now; zero: a run has to check at once."""

    sync: SweptSync
    due_in: timedelta
