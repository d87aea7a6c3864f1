"""A sync as a run reads it, the claim that a run holds, and what a run leaves behind."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from phasesync.core.credential import Credential
from phasesync.core.remote import JournalEntry
from phasesync.core.sync import Sync, SyncStatus, Trigger


@dataclass(frozen=True, kw_only=True)
class Claim:
    """
    The right to reconcile one sync until `until`, renewed by its holder.

    Attributes:
        fence: grows with every claim of this sync; every write of state carries it.
        trigger: what woke it.
        objects: how many remote objects the newest run was about.
        data_key_id: of the data key that encrypts what the run stores.
    """

    sync_id: str
    owner: str
    fence: int
    trigger: Trigger
    actor: str
    data_key_id: str
    objects: int = 1


@dataclass(frozen=True, kw_only=True)
class DueSync:
    """
    A sync that a daemon may claim now.

    Attributes:
        urgency: 0 = a run was requested, 1 = edited, 2 = due by time.
        large: whether it is a large one (`core.schedule.LARGE_ABOVE`).
    """

    sync_id: str
    urgency: int
    large: bool = False


@dataclass(frozen=True, kw_only=True)
class WriteConditions:
    """
    What forbids a write to AWS, apart from the claim.

    Attributes:
        paused: the sync is paused, or was removed.
        restored: the database is older than AWS, and no operator has accepted that.
        compared: whether the database is older was found out where it is now.
    """

    paused: bool
    restored: bool
    compared: bool = True


@dataclass(frozen=True, kw_only=True)
class SyncState:
    """
    A sync with its credential and its journal, read together.

    Attributes:
        restored: the database replaced a later state, and no operator has accepted that yet: nothing is deleted.
        generation_floor: generations of objects that the journal does not know begin above it; an accepted older
            database may have lost the journal of objects that were made since.
        compared: the database was compared with AWS where it is now; else it may be an older copy.
    """

    sync: Sync
    credential: Credential
    journal: tuple[JournalEntry, ...]
    restored: bool = False
    generation_floor: int = 0
    compared: bool = True


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """
    The result of accepting a restored database.

    Attributes:
        syncs: how many syncs will be looked at again.
        objects: how many journal entries were moved on.
        unread: names of syncs whose journal does not authenticate; they stay as they are.
    """

    syncs: int
    objects: int
    unread: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class AfterRun:
    """
    What a run leaves behind on its sync.

    Attributes:
        status: the settled status.
        reason: for the operator; may name keys, so it is stored encrypted.
        reads: environment id -> revision read; None keeps what is stored (nothing was read).
        former_reads: what was stored when the run began.
        applied_revision: None keeps the former one.
        failures: failed runs in a row, this one included.
        retry_in: earliest next run for edits and checks, from now; None means at once.
        due_in: next run by time, from now; None if there is no such run.
        account: to be pinned; None means that the pin stays as it is.
        adopt_done: the consent to adopt was carried out.
        approval_used: the approval was carried out, or what it was for is not held any more.
        objects: how many remote objects the run was about.
        waits_for_window: nothing is wrong, and changes wait until a maintenance window opens.
        drifted: somebody else had changed a remote object.
        contested: a change is held because somebody keeps changing the object back.
        waits_for_budget: nothing is wrong, and changes wait for the version budget of their object.
        budget_full_at: when the budget of the most written object of this run is full again; None = it is full.
    """

    status: SyncStatus
    reason: str | None
    reads: Mapping[str, int] | None
    applied_revision: int | None
    failures: int
    retry_in: timedelta | None
    due_in: timedelta | None
    former_reads: Mapping[str, int] = field(default_factory=dict)
    account: str | None = None
    adopt_done: bool = False
    approval_used: bool = False
    objects: int = 1
    waits_for_window: bool = False
    drifted: bool = False
    contested: bool = False
    waits_for_budget: bool = False
    budget_full_at: datetime | None = None
