"""What a sweep needs of the store: which checks are due soon, what is expected there, and when the next check is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from phasesync.core.credential import Credential
from phasesync.core.remote import JournalEntry
from phasesync.core.sync import SyncConfig


@dataclass(frozen=True, kw_only=True)
class SweepGroup:
    """
    Syncs that one list can tell about, with checks that are due soon.

    Attributes:
        due: how many remote objects the checks that are due soon are about; syncs that lists do not show do not count.
        objects: how many remote objects all syncs of this place are about.
        credentials: what syncs of this place use, by name; those that nobody can authenticate with are left out.
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
    A sync that is in step and that nobody works on, as it was read.

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
        entry: None where the sync or the entry does not authenticate: then nothing can be said of the sync.
        wanted: the sync wants it now; else it wrote it once.
    """

    sync: SweptSync
    entry: JournalEntry | None
    wanted: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """What a sweep found out about a sync: when its next check is due, from now; zero = a run shall look at once."""

    sync: SweptSync
    due_in: timedelta


class SweepStore(Protocol):
    """The part of the state store that sweeps work with; it says nothing of syncs that are not settled and in step."""

    def sweepable(self, *, within: timedelta) -> list[SweepGroup]:
        """Return the groups with checks that are due within this time, in a fixed number of statements."""
        ...

    def swept(self, group: SweepGroup) -> Iterator[SweptObject]:
        """
        Yield the objects of all syncs of a group, due or not, sync by sync, in a fixed number of statements.

        Not of syncs that are pending, held, halted, failing, paused, asked for or claimed. Holds a snapshot of the
        database until it is exhausted or closed, and keeps no more than a few hundred objects in memory.
        """
        ...

    def checked(self, checks: Sequence[Check]) -> int:
        """
        Set when syncs are checked next, of those that nobody has claimed, changed or asked for since they were read.

        Waits for no run and no edit, and keeps none waiting for longer than a short transaction.

        Returns:
            How many were set.
        """
        ...
