"""
Every port: what the engine needs from the world, and nothing about how it is done.

Adapters implement these; `bootstrap.py` wires them. They raise only classes of `errors.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from phasesync.core.events import Event
from phasesync.core.fingerprint import Digests as Digests
from phasesync.core.model import (
    Adopt,
    App,
    Credential,
    CredentialStatus,
    CredentialType,
    Environment,
    EnvironmentSnapshot,
    Paused,
    Run,
    SecretValue,
    SecretVersion,
    Sync,
    SyncConfig,
)
from phasesync.core.remote import (
    CallerIdentity,
    JournalEntry,
    Observed,
    Occupied,
    Payload,
    RemoteListing,
    Written,
)
from phasesync.core.status import Outcome, SyncStatus, Trigger

# --- the encrypted store


@dataclass(frozen=True, kw_only=True)
class SecretWrite:
    """One key to set in an edit."""

    path: str
    key: str
    value: SecretValue
    comment: str | None = None
    """None keeps the comment it has."""


class EnvironmentReader(Protocol):
    """Reads environments in one database snapshot."""

    def load(self, names: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], EnvironmentSnapshot]:
        """
        Decrypt whole environments.

        Args:
            names: (app, environment); compared without regard to case.

        Returns:
            The ones that exist, under (app, environment) in lower case. The number of SQL statements does not depend
            on the number of environments or secrets.

        Raises:
            CiphertextError: a row does not authenticate.
            StoreUnavailableError: the database is locked or down.
        """
        ...


class EnvironmentStore(Protocol):
    """Apps, environments, secrets and their versions: the only source of desired state."""

    def snapshot(self) -> AbstractContextManager[EnvironmentReader]:
        """Open a reader whose every answer is of one moment."""
        ...

    def add_app(self, name: str, *, description: str = "") -> App:
        """Add an app. AlreadyExistsError also where a name differs in case only."""
        ...

    def list_apps(self) -> list[App]:
        """Return all apps by name."""
        ...

    def update_app(self, name: str, *, new_name: str | None = None, description: str | None = None) -> App:
        """Change an app; None leaves alone. NotFoundError, AlreadyExistsError."""
        ...

    def remove_app(self, name: str) -> None:
        """Remove an app. NotFoundError; IllegalTransitionError while it has environments."""
        ...

    def add_environment(self, app: str, name: str) -> Environment:
        """Add an environment. NotFoundError for the app; AlreadyExistsError also for another case."""
        ...

    def list_environments(self, app: str | None = None) -> list[Environment]:
        """Return environments by app and name, of one app or of all. NotFoundError for an unknown app."""
        ...

    def get_environment(self, app: str, name: str) -> Environment:
        """Return one environment. NotFoundError names what exists instead."""
        ...

    def update_environment(self, app: str, name: str, *, new_name: str) -> Environment:
        """Rename an environment; syncs whose references name it become pending. NotFoundError, AlreadyExistsError."""
        ...

    def remove_environment(self, app: str, name: str) -> None:
        """Remove an environment with its secrets. NotFoundError; IllegalTransitionError while syncs use it."""
        ...

    def clone_environment(self, app: str, name: str, target: str, *, actor: str) -> Environment:
        """Copy the current secrets into a new environment of the same app."""
        ...

    def edit(
        self,
        app: str,
        environment: str,
        *,
        actor: str,
        origin: str,
        writes: Sequence[SecretWrite] = (),
        unsets: Sequence[tuple[str, str]] = (),
    ) -> Environment:
        """
        Commit edits as one revision.

        Keys whose value, type and comment are already so are left alone; an edit that changes nothing makes no
        revision. Folders are made as needed.

        Args:
            app: name of the app.
            environment: name of the environment.
            actor: who, for the history.
            origin: set, unset, import, rollback or generate.
            writes: keys to set.
            unsets: (path, key) to remove; NotFoundError when one is not there.

        Returns:
            The environment after the edit.
        """
        ...

    def list_secrets(self, app: str, environment: str, *, path: str | None = None) -> list[SecretVersion]:
        """Return the current version of every key, by path and key; of one folder or of all."""
        ...

    def get_secret(self, app: str, environment: str, path: str, key: str) -> SecretVersion:
        """Return the current version of a key. NotFoundError when it is not set."""
        ...

    def history(self, app: str, environment: str, path: str, key: str) -> list[SecretVersion]:
        """Return every version of a key, newest first. NotFoundError when it was never set."""
        ...


# --- credentials


@dataclass(frozen=True, kw_only=True)
class CredentialDraft:
    """What an operator says of a credential; fields that its type does not have stay None."""

    type: CredentialType
    region: str
    role_arn: str | None = None
    external_id: str | None = None
    source_name: str | None = None
    access_key_id: str | None = None
    secret_access_key: SecretValue | None = None


class CredentialStore(Protocol):
    """Credentials, encrypted at rest."""

    def add(self, name: str, draft: CredentialDraft) -> Credential:
        """Add a credential. AlreadyExistsError; NotFoundError for the source."""
        ...

    def list_all(self) -> list[Credential]:
        """Return all credentials by name."""
        ...

    def get(self, name: str) -> Credential:
        """Return a credential by name. NotFoundError."""
        ...

    def get_by_id(self, credential_id: str) -> Credential:
        """Return a credential by id. NotFoundError."""
        ...

    def update(self, name: str, draft: CredentialDraft, *, account: str | None) -> Credential:
        """
        Replace what is known of a credential; its version grows, its status becomes unverified (or incomplete) and the
        syncs that use it are due at once. `account` is the pinned account from now on.
        """
        ...

    def mark(self, credential_id: str, status: CredentialStatus, *, account: str | None = None) -> None:
        """Note the result of a test; a given account is pinned if none is yet. The version stays."""
        ...

    def remove(self, name: str) -> None:
        """Remove a credential. NotFoundError; IllegalTransitionError while syncs or credentials use it."""
        ...


# --- state: syncs, journal, runs, claims


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


@dataclass(frozen=True, kw_only=True)
class Claim:
    """
    The right to reconcile one sync until `until`, renewed by its holder.

    Attributes:
        fence: grows with every claim of this sync; every write of state carries it.
        trigger: what woke it.
    """

    sync_id: str
    owner: str
    fence: int
    trigger: Trigger
    actor: str


@dataclass(frozen=True, kw_only=True)
class SyncState:
    """A sync with its credential and its journal, read together."""

    sync: Sync
    credential: Credential
    journal: tuple[JournalEntry, ...]


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

    def approve(self, name: str, digest: str, *, actor: str) -> None:
        """Note an approval and have the sync reconciled at once."""
        ...

    def consent_to_adopt(self, name: str, adopt: Adopt, *, actor: str) -> None:
        """Note the consent and have the sync reconciled at once."""
        ...

    # claims

    def claim_due(self, owner: str, *, limit: int, ttl: timedelta) -> list[Claim]:
        """
        Claim up to `limit` syncs that are pending or due and free, in one statement.

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

    def versions_written(self, sync_id: str, *, since: datetime) -> Mapping[str, int]:
        """Return remote name -> versions that runs of this sync wrote since then."""
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


class MemberRole(StrEnum):
    """What a daemon does."""

    ACTIVE = "active"
    STANDBY = "standby"


class DaemonRegistry(Protocol):
    """Which daemons are alive, and which one may work where only one may (SQLite)."""

    def beat(self, owner: str, *, host: str, pid: int, ttl: timedelta) -> MemberRole:
        """Say that a daemon is alive; return whether it works or stands by. On PostgreSQL every daemon works."""
        ...

    def leave(self, owner: str) -> None:
        """Sign off; a standby takes over at once."""
        ...

    def alive(self) -> list[Mapping[str, object]]:
        """Return daemons that are alive: owner, host, pid, role, started_at, beat_at."""
        ...

    def claim_chore(self, name: str, owner: str, *, every: timedelta) -> bool:
        """Return True for the one daemon that shall do a chore now; at most once in `every`."""
        ...


# --- the destination


class Destination(Protocol):
    """
    One remote place under one credential, for one run. Reads, writes and reports evidence; never decides.

    Writes raise OutcomeUnknownError when they may have landed.
    """

    @property
    def calls(self) -> int:
        """How many calls of the service were made through this object."""
        ...

    def account_id(self) -> str:
        """Return the 12-digit account that the credential leads to; asked once per session. CredentialRejectedError."""
        ...

    def observe(self, remote_name: str) -> Observed | None:
        """Describe one object, by name or ARN; None = it does not exist. Never reads a value."""
        ...

    def create(
        self,
        remote_name: str,
        payload: Payload,
        *,
        token: str,
        description: str | None,
        kms_key: str | None,
        tags: Mapping[str, str],
    ) -> Written | Occupied:
        """Create an object with its first version. Occupied: the name is taken, by us or by somebody else."""
        ...

    def put_value(self, arn: str, payload: Payload, *, token: str) -> Written | Occupied:
        """Write a version. Occupied: the token is spent on another payload."""
        ...

    def update_metadata(
        self,
        arn: str,
        *,
        description: str | None = None,
        kms_key: str | None = None,
        tags: Mapping[str, str] | None = None,
        untag: Sequence[str] = (),
    ) -> None:
        """Set what is given and leave the rest alone. A kms_key of AWS_MANAGED_KEY asks for the AWS-managed key."""
        ...

    def restore(self, arn: str) -> None:
        """Cancel a scheduled deletion."""
        ...

    def list_names(self, *, limit: int | None = None) -> list[RemoteListing]:
        """List objects of the account and Region; needs an IAM action of its own."""
        ...

    def read_value(self, remote_name: str) -> SecretValue | None:
        """Read a current value, for import only; None = it has none. Needs an IAM action of its own."""
        ...


class Destinations(Protocol):
    """Opens destinations; clients behind them are shared and made once."""

    def open(self, kind: str, credential: Credential, region: str) -> Destination:
        """Return a destination for one run. CredentialRejectedError where the credential is incomplete."""
        ...

    def check_name(self, kind: str, remote_name: str) -> None:
        """Make sure that the destination would take a name. NotFoundError for the kind; InvalidInputError."""
        ...


@dataclass(frozen=True, kw_only=True)
class CredentialReport:
    """
    What a test of a credential found.

    Attributes:
        identity: who AWS says we are with it.
        base: who assumes the role, None for other types.
        findings: what should be mended, as lines for the operator; empty = nothing.
        open_without_external_id: the role can also be assumed without the External ID; None = not applicable.
    """

    identity: CallerIdentity
    base: CallerIdentity | None
    findings: tuple[str, ...]
    open_without_external_id: bool | None


class CredentialTester(Protocol):
    """Finds out what AWS says of a credential."""

    def test(self, credential: Credential) -> CredentialReport:
        """
        Ask AWS who the credential is.

        Raises:
            CredentialRejectedError: with what the trust policy lacks, told from AssumeRole with and without the
                External ID.
        """
        ...

    def base_identity(self, credential: Credential) -> CallerIdentity:
        """Return who would assume the credential's role: its source, or the default chain."""
        ...


# --- keys, time, events


@dataclass(frozen=True, kw_only=True)
class WrappedKey:
    """
    A data key as the store keeps it: encrypted under the root key.

    Attributes:
        id: short name of the data key; stands in every ciphertext made with it.
        purpose: `environment`, `credentials` or `digest`.
        root_key_id: id of the root key that it is wrapped under.
        wrapped: the wrapped key.
    """

    id: str
    purpose: str
    root_key_id: str
    wrapped: bytes = field(repr=False)


class WrappedKeys(Protocol):
    """Where the key ring finds its wrapped keys."""

    def list_all(self) -> list[WrappedKey]:
        """Return every wrapped key, oldest first. StoreUnavailableError, SchemaMismatchError."""
        ...


class KeyRing(Protocol):
    """Encrypts and decrypts columns; wraps data keys under the root key."""

    @property
    def digests(self) -> Digests:
        """The keyed digests. KeyUnavailableError where the database has no keys yet."""
        ...

    def verify(self) -> None:
        """
        Make sure that the root key opens what this database has; nothing happens where it has no keys yet.

        Raises:
            KeyUnavailableError: its keys are wrapped under another root key; names both.
            CiphertextError: a wrapped key was altered.
        """
        ...

    def new_data_key(self, purpose: str) -> WrappedKey:
        """Make a data key; the caller stores it in the transaction that stores what it protects."""
        ...

    def data_key(self, purpose: str) -> str:
        """Return the id of the newest data key for a purpose that has one key. KeyUnavailableError."""
        ...

    def encrypt(self, key_id: str, context: Sequence[str], plaintext: bytes) -> bytes:
        """
        Encrypt one column of one row.

        Args:
            key_id: id of the data key.
            context: table, row, column, version and whatever else belongs to it: bound to the ciphertext as
                associated data.
            plaintext: any bytes.
        """
        ...

    def decrypt(self, context: Sequence[str], ciphertext: bytes) -> bytes:
        """Decrypt one column; the data key's id stands in the ciphertext. CiphertextError, KeyUnavailableError."""
        ...


class Clock(Protocol):
    """Time."""

    def now(self) -> datetime:
        """Return the wall clock's time, aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never jump."""
        ...


class EventSink(Protocol):
    """Takes what happened; turns it into logs and metrics."""

    def emit(self, event: Event) -> None:
        """Take an event. Never raises, never blocks for long."""
        ...


class Dispatcher(Protocol):
    """
    Runs claimed syncs. It distributes; exclusion is the claim's, so that a dead worker never blocks a sync.
    """

    @property
    def free(self) -> int:
        """How many more claims can be started at once."""
        ...

    def submit(self, claim: Claim) -> None:
        """Reconcile a claimed sync soon."""
        ...

    def running(self) -> Sequence[Claim]:
        """Return the claims that are being worked on."""
        ...

    def drain(self, timeout: timedelta) -> bool:
        """Take no more work and wait; return whether all was done in time."""
        ...
