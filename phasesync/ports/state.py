"""What is remembered of syncs: configuration, claims, journal, runs. Never a plaintext value, never a payload."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from phasesync.core.credential import Credential
from phasesync.core.remote import JournalEntry
from phasesync.core.run import Outcome, Run
from phasesync.core.sync import Adopt, Paused, Sync, SyncConfig, SyncStatus, Trigger


@dataclass(frozen=True, kw_only=True)
class SyncDraft:
    """What an operator says of a new sync."""

    name: str
    app: str
    environment: str
    path: str
    credential: str
    destination_kind: str
    region: str
    config: SyncConfig
    account: str | None
    adopt: Adopt | None
    adopt_versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """
    The right to reconcile one sync until `until`, renewed by its holder.

    Attributes:
        fence: grows with every claim of this sync; every write of state carries it.
        trigger: what woke it.
        objects: how many remote objects the newest run was about.
    """

    sync_id: str
    owner: str
    fence: int
    trigger: Trigger
    actor: str
    objects: int = 1


@dataclass(frozen=True, kw_only=True)
class SyncState:
    """
    A sync with its credential and its journal, read together.

    Attributes:
        restored: the database was put in place of a later state and nobody has accepted that yet: nothing is deleted.
        generation_floor: generations of objects that the journal does not know begin above it; an accepted older
            database may have lost the journal of objects that were made since.
    """

    sync: Sync
    credential: Credential
    journal: tuple[JournalEntry, ...]
    restored: bool = False
    generation_floor: int = 0


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """
    What came of accepting a restored database.

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
        applied_revision: None keeps the former one.
        failures: failed runs in a row, this one included.
        retry_in: earliest next run for edits and checks, from now; None = at once.
        due_in: next run by time, from now; None = none.
        account: to be pinned; None = leave.
        adopt_done: the consent to adopt was carried out.
        approval_used: the approval was carried out, or what it was for is not held any more.
        objects: how many remote objects the run was about.
    """

    status: SyncStatus
    reason: str | None
    reads: Mapping[str, int] | None
    applied_revision: int | None
    failures: int
    retry_in: timedelta | None
    due_in: timedelta | None
    account: str | None = None
    adopt_done: bool = False
    approval_used: bool = False
    objects: int = 1


class StateStore(Protocol):
    """Syncs, remote objects with their journal, runs and claims. Never a plaintext value, never a payload."""

    # syncs

    def add_sync(self, draft: SyncDraft) -> Sync:
        """
        Add a sync; it is pending at once.

        Raises:
            NotFoundError: app, environment or credential.
            AlreadyExistsError: the name is taken, or another sync writes to the same remote name of the same account
                and Region (names that differ in case only count as the same).
        """
        ...

    def list_syncs(self) -> list[Sync]:
        """Return all syncs by name, in a fixed number of statements."""
        ...

    def get_sync(self, name: str) -> Sync:
        """Return one sync. NotFoundError."""
        ...

    def update_sync(
        self, name: str, *, config: SyncConfig, path: str, credential: str, region: str, adopt: Adopt | None
    ) -> Sync:
        """Replace the configuration; the sync becomes pending. NotFoundError, AlreadyExistsError."""
        ...

    def remove_sync(self, name: str) -> tuple[JournalEntry, ...]:
        """Remove a sync with its journal and runs; return the journal as it was. NotFoundError; ClaimHeldError."""
        ...

    def pause(self, name: str, paused: Paused) -> None:
        """Pause a sync; pausing again replaces who, why and until. NotFoundError."""
        ...

    def resume(self, name: str, *, actor: str) -> None:
        """Resume a sync and have it reconciled at once; nothing happens to one that is not paused."""
        ...

    def request(self, name: str, trigger: Trigger, *, actor: str) -> None:
        """Have a daemon reconcile a sync at once, whatever back-off says. IllegalTransitionError while paused."""
        ...

    def wake_refused(self) -> None:
        """Have the syncs reconciled at once that AWS refused, or that did not reach it, in their newest run."""
        ...

    def approve(self, name: str, digest: str, *, actor: str) -> None:
        """Note an approval and have the sync reconciled at once."""
        ...

    def consent_to_adopt(
        self, name: str, adopt: Adopt, *, actor: str, versions: Mapping[str, str] | None = None
    ) -> None:
        """
        Note the consent and have the sync reconciled at once.

        Args:
            name: of the sync.
            adopt: what was consented to.
            actor: who did.
            versions: remote name -> version that was imported, or that was seen where it may be overwritten; None =
                whatever stands anywhere may be written over.
        """
        ...

    # restored databases

    def is_restored(self) -> bool:
        """Return whether this database counts as older than AWS: it was put in place, or a run has met the proof."""
        ...

    def accept_restore(self, *, ahead: int) -> Acceptance:
        """
        Go on with a database that is older than AWS: move every journal entry on and have every sync reconciled.

        Args:
            ahead: how many generations are skipped.

        Raises:
            ClaimHeldError: a sync is being reconciled.
        """
        ...

    # claims

    def claim_due(self, owner: str, *, limit: int, ttl: timedelta, large: int | None = None) -> list[Claim]:
        """
        Claim up to `limit` syncs that are pending or due and free, in one statement.

        At most `large` of them are large (`core.schedule.LARGE_ABOVE`); None = any number.

        A claim that expired is free too, and its run is logged `interrupted`; call `reap_expired` first where somebody
        is to be told.
        """
        ...

    def claim(self, sync_id: str, owner: str, *, trigger: Trigger, actor: str, ttl: timedelta) -> Claim:
        """Claim one sync whatever is due. ClaimHeldError; NotFoundError when it is gone."""
        ...

    def renew(self, claims: Sequence[Claim], *, ttl: timedelta) -> set[str]:
        """Prolong claims; return the ids of the syncs whose claim is still ours."""
        ...

    def release(self, claim: Claim) -> None:
        """Give a claim back without a result; the sync stays as due as it was."""
        ...

    def load(self, claim: Claim) -> SyncState:
        """Read a claimed sync again. NotFoundError when it was removed, ClaimLostError when it is no longer ours."""
        ...

    def state_of(self, name: str) -> SyncState:
        """Read a sync without a claim, to plan only. NotFoundError."""
        ...

    def paused(self, sync_id: str) -> bool:
        """Return whether it is paused or gone now; one indexed read, asked before every AWS write."""
        ...

    # journal

    def save_entry(self, claim: Claim, entry: JournalEntry) -> JournalEntry:
        """
        Store a journal entry, intent included, in a transaction of its own.

        Returns:
            The entry with its id.

        Raises:
            ClaimLostError: a successor has the claim; nothing is stored.
        """
        ...

    def finish(self, claim: Claim, run: Run, after: AfterRun) -> Sync:
        """
        Store a run, its changes and what it leaves behind, and release the claim, in one transaction.

        Raises:
            ClaimLostError: a successor has the claim; nothing is stored.
        """
        ...

    def halt(self, claim: Claim, run: Run, *, retry_in: timedelta) -> None:
        """
        Log a failed run of a sync whose configuration or journal does not authenticate, and halt it. Reads neither.

        Args:
            claim: of the sync.
            run: what is logged.
            retry_in: when it is looked at again.

        Raises:
            ClaimLostError: a successor has the claim; nothing is stored.
        """
        ...

    # runs

    def list_runs(
        self,
        *,
        sync: str | None = None,
        outcomes: Sequence[Outcome] = (),
        since: datetime | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> list[Run]:
        """
        Return runs, newest first; with `after` (a run id) those that came later, oldest first. Changes included.
        """
        ...

    def get_run(self, run_id: str) -> Run:
        """Return one run. NotFoundError."""
        ...

    def reap_expired(self) -> list[str]:
        """
        Log a run `interrupted` for every claim that expired without a result, and free it.

        Returns:
            Names of the syncs.
        """
        ...

    def prune_runs(self, *, older_than: timedelta) -> int:
        """Delete runs older than that, except the newest of each sync; return how many."""
        ...
