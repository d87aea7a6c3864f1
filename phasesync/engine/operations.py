"""
What an operator may ask of a sync: add, update, plan, run, trigger, wait, pause, resume, approve, adopt, remove.

Asks the stores and the reconciler; prints nothing and decides nothing about a single remote object.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from phasesync.core.arns import check_key_arn, check_region
from phasesync.core.guard import Guarded
from phasesync.core.model import AWS_MANAGED_KEY, Adopt, Credential, CredentialStatus, Paused, Run, Sync, SyncConfig
from phasesync.core.ownership import Ownership, owner_tags, ownership_of
from phasesync.core.plan import Plan
from phasesync.core.remote import CallerIdentity, JournalEntry, Observed
from phasesync.core.status import SyncStatus, Trigger
from phasesync.engine.claims import ClaimKeeper
from phasesync.engine.reconcile import Prepared, Reconciler
from phasesync.errors import (
    AccountMismatchError,
    ClaimHeldError,
    ClaimLostError,
    DestinationError,
    IllegalTransitionError,
    InvalidInputError,
    PhasesyncError,
)
from phasesync.ports import (
    Claim,
    Clock,
    CredentialStore,
    CredentialTester,
    Destinations,
    EnvironmentStore,
    StateStore,
    SyncDraft,
)

SHORTEST_INTERVAL = timedelta(seconds=1)
POLL = 0.1
"""Seconds between two looks while a command waits."""


@dataclass(frozen=True, kw_only=True)
class AddedSync:
    """
    What came of adding a sync.

    Attributes:
        sync: None for a dry run.
        identity: who the shell's credential turned out to be, None where it was not asked.
        warnings: what the first run will meet, as lines for the operator.
    """

    sync: Sync | None
    identity: CallerIdentity | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PlanReport:
    """A plan for reading. `versions_24h`: remote name -> versions written within 24 h."""

    sync: Sync
    account: str
    plan: Plan
    guarded: Guarded
    versions_24h: dict[str, int]


class SyncOperations:
    """The operator's side of syncs."""

    def __init__(
        self,
        *,
        environments: EnvironmentStore,
        credentials: CredentialStore,
        state: StateStore,
        destinations: Destinations,
        tester: CredentialTester,
        reconciler: Reconciler,
        clock: Clock,
        instance_id: str,
        owner: str,
        claim_ttl: timedelta,
    ) -> None:
        """
        Args:
            environments: to check what a sync reads.
            credentials: to check what it writes with.
            state: syncs and runs.
            destinations: to look at what is there.
            tester: asks AWS who a credential is.
            reconciler: plans and runs.
            clock: time.
            instance_id: marks what is ours.
            owner: names this process in claims.
            claim_ttl: life of a claim without renewal.
        """
        self._environments = environments
        self._credentials = credentials
        self._state = state
        self._destinations = destinations
        self._tester = tester
        self._reconciler = reconciler
        self._clock = clock
        self._instance_id = instance_id
        self._owner = owner
        self._claim_ttl = claim_ttl

    def add(self, draft: SyncDraft, *, verify: bool, dry_run: bool = False) -> AddedSync:
        """
        Add a sync.

        Args:
            draft: what the operator said.
            verify: ask AWS first who the credential is and what is at the remote name.
            dry_run: check and add nothing.

        Raises:
            InvalidInputError, NotFoundError, AlreadyExistsError: the draft.
            DestinationError: identity or permission; nothing is added.
        """
        self._environments.get_environment(draft.app, draft.environment)
        credential = self._credentials.get(draft.credential)
        self._check_config(draft.destination_kind, draft.config, draft.region)
        warnings = self._source_warnings(draft.app, draft.environment, draft.path)
        identity = None
        if verify:
            identity, found = self._verify(draft, credential)
            warnings += found
            draft = replace(draft, account=identity.account)
        if dry_run:
            return AddedSync(sync=None, identity=identity, warnings=tuple(warnings))
        sync = self._state.add_sync(draft)
        return AddedSync(sync=sync, identity=identity, warnings=tuple(warnings))

    def update(
        self,
        name: str,
        *,
        change: Callable[[SyncConfig], SyncConfig],
        path: str | None = None,
        credential: str | None = None,
        region: str | None = None,
    ) -> Sync:
        """
        Change a sync; it is reconciled at once.

        Args:
            name: of the sync.
            change: makes the new configuration from the present one.
            path: None leaves it, as do the next two.
            credential: name of a credential.
            region: an AWS Region.
        """
        sync = self._state.get_sync(name)
        config = change(sync.config)
        region = region or sync.region
        self._check_config(sync.destination_kind, config, region)
        if credential is not None:
            self._credentials.get(credential)
        return self._state.update_sync(
            name,
            config=config,
            path=path or sync.path,
            credential=credential or sync.credential,
            region=region,
            adopt=sync.adopt,
        )

    def plan(self, name: str) -> PlanReport:
        """Say what a run would do now; writes nothing."""
        state = self._state.state_of(name)
        prepared: Prepared = self._reconciler.prepare(state)
        since = self._clock.now() - timedelta(hours=24)
        return PlanReport(
            sync=state.sync,
            account=next(iter(prepared.entries.values())).account,
            plan=prepared.plan,
            guarded=prepared.guarded,
            versions_24h=dict(self._state.versions_written(state.sync.id, since=since)),
        )

    def run(self, name: str, *, actor: str, patience: timedelta = timedelta(seconds=30)) -> Run:
        """
        Reconcile a sync now, in this process, whatever back-off says.

        Args:
            name: of the sync.
            actor: who asked.
            patience: how long to wait while another process has the claim.

        Raises:
            IllegalTransitionError: it is paused, or its credential has no role yet.
            ClaimHeldError: another process kept the claim for that long.
        """
        sync = self._require_runnable(name)
        claim = self._claim(sync, actor, patience)
        keeper = ClaimKeeper(self._state, self._clock, self._claim_ttl)
        permit = keeper.hold(claim)
        try:
            with keeper.renewing():
                run = self._reconciler.reconcile(claim, permit)
        except BaseException:
            # Ctrl-C among them: an open intent is settled by the next run, the claim need not wait for its end.
            self._give_back(claim)
            raise
        if run is None:
            raise ClaimLostError(f"the sync {name} was taken over or removed while it ran")
        return run

    def trigger(self, name: str, *, actor: str) -> Sync:
        """Have the daemon reconcile a sync at once. IllegalTransitionError while it is paused or incomplete."""
        self._require_runnable(name)
        self._state.request(name, Trigger.MANUAL, actor=actor)
        return self._state.get_sync(name)

    def wait(self, name: str, *, wanted: SyncStatus, timeout: timedelta, since_run: str | None = None) -> Sync:
        """
        Wait until a sync has a status.

        Args:
            name: of the sync.
            wanted: the status.
            timeout: how long.
            since_run: id of a run: only what a later run leaves behind counts. None = any.

        Raises:
            IllegalTransitionError: the time is over; says how it stands.
        """
        deadline = self._clock.monotonic() + timeout.total_seconds()
        while True:
            sync = self._state.get_sync(name)
            fresh = since_run is None or sync.last_run_id != since_run
            if fresh and status_of(sync, self._credential_status(sync)) is wanted:
                return sync
            if self._clock.monotonic() >= deadline:
                status = status_of(sync, self._credential_status(sync))
                raise IllegalTransitionError(
                    f"the sync {name} is {status}, not {wanted}"
                    + (f": {sync.status_reason}" if sync.status_reason else ""),
                    hint=f"phasesync syncs show {name}; is a daemon at work? phasesync status",
                )
            time.sleep(POLL)

    def pause(self, name: str, *, actor: str, reason: str, until: datetime | None) -> Sync:
        """Pause a sync; takes effect before its next AWS write."""
        if until is not None and until <= self._clock.now():
            raise InvalidInputError("the end of the pause is in the past")
        self._state.pause(name, Paused(by=actor, at=self._clock.now(), reason=reason, until=until))
        return self._state.get_sync(name)

    def resume(self, name: str, *, actor: str) -> Sync:
        """Resume a sync and have it reconciled at once."""
        self._state.resume(name, actor=actor)
        return self._state.get_sync(name)

    def approve(self, name: str, digest: str, *, actor: str) -> Sync:
        """
        Approve held changes.

        Raises:
            IllegalTransitionError: nothing is held, or what is held now has another digest.
        """
        report = self.plan(name)
        if report.guarded.digest is None:
            raise IllegalTransitionError(f"nothing of the sync {name} is held")
        if report.guarded.digest != digest:
            raise IllegalTransitionError(
                f"the held changes of {name} have the digest {report.guarded.digest}, not {digest}",
                hint=f"look at them again: phasesync syncs plan {name}",
            )
        self._state.approve(name, digest, actor=actor)
        return self._state.get_sync(name)

    def adopt(self, name: str, *, actor: str) -> Sync:
        """Consent to take over the remote object of a sync and overwrite its value; the next run does it."""
        self._state.consent_to_adopt(name, Adopt.OVERWRITE, actor=actor)
        return self._state.get_sync(name)

    def what_is_there(self, name: str) -> Observed | None:
        """Return what stands at a sync's remote name, for an operator who decides on it."""
        state = self._state.state_of(name)
        destination = self._destinations.open(state.sync.destination_kind, state.credential, state.sync.region)
        return destination.observe(state.sync.config.remote_name)

    def remove(self, name: str, *, actor: str) -> tuple[str, ...]:
        """
        Remove a sync, keep its remote objects and take our owner marks off them where that is allowed.

        Returns:
            Lines on objects that kept our marks.
        """
        sync = self._state.get_sync(name)
        claim = self._claim(sync, actor, timedelta(seconds=30))
        try:
            state = self._state.load(claim)
        finally:
            self._give_back(claim)
        entries = self._state.remove_sync(name)
        return tuple(line for entry in entries if (line := self._unmark(state.credential, sync, entry)) is not None)

    def _unmark(self, credential: Credential, sync: Sync, entry: JournalEntry) -> str | None:
        if entry.arn is None:
            return None
        try:
            destination = self._destinations.open(sync.destination_kind, credential, entry.region)
            seen = destination.observe(entry.remote_name)
            if seen is not None and ownership_of(seen, entry, self._instance_id) is Ownership.OURS:
                marks = tuple(owner_tags(self._instance_id, sync.id))
                destination.update_metadata(seen.arn, untag=marks)
        except DestinationError as error:
            return f"{entry.remote_name} keeps our tags: {error.message}"
        return None

    def _verify(self, draft: SyncDraft, credential: Credential) -> tuple[CallerIdentity, list[str]]:
        report = self._tester.test(credential)
        account = report.identity.account
        for pinned in (credential.account, draft.account):
            if pinned is not None and pinned != account:
                raise AccountMismatchError(
                    f"the credential {credential.name} leads to account {account}, pinned is {pinned}"
                )
        warnings = list(report.findings)
        destination = self._destinations.open(draft.destination_kind, credential, draft.region)
        seen = destination.observe(draft.config.remote_name)
        self._credentials.mark(credential.id, CredentialStatus.VERIFIED, account=account)
        if seen is not None and draft.adopt is None:
            warnings.append(
                f"{draft.config.remote_name} exists already and is not ours: nothing is written until "
                f"phasesync syncs adopt {draft.name}"
            )
        return report.identity, warnings

    def _source_warnings(self, app: str, environment: str, path: str) -> list[str]:
        if self._environments.list_secrets(app, environment, path=path):
            return []
        return [f"{app}/{environment} has no keys in {path}: the first run will wait for an approval"]

    def _check_config(self, kind: str, config: SyncConfig, region: str) -> None:
        check_region(region)
        self._destinations.check_name(kind, config.remote_name)
        if config.kms_key is not None and config.kms_key != AWS_MANAGED_KEY:
            check_key_arn(config.kms_key, region)
        if config.interval < SHORTEST_INTERVAL:
            raise InvalidInputError("the interval is shorter than a second", hint="--interval 5m")
        if not 7 <= config.recovery_days <= 30:
            raise InvalidInputError("AWS takes recovery windows of 7 to 30 days")
        _check_tags(config)

    def _require_runnable(self, name: str) -> Sync:
        sync = self._state.get_sync(name)
        if sync.paused is not None:
            raise IllegalTransitionError(f"the sync {name} is paused", hint=f"phasesync syncs resume {name}")
        if self._credential_status(sync) is CredentialStatus.INCOMPLETE:
            raise IllegalTransitionError(
                f"the credential {sync.credential} has no role yet",
                hint=f"phasesync credentials update {sync.credential} --role-arn ARN",
            )
        return sync

    def _credential_status(self, sync: Sync) -> CredentialStatus:
        return self._credentials.get_by_id(sync.credential_id).status

    def _claim(self, sync: Sync, actor: str, patience: timedelta) -> Claim:
        deadline = self._clock.monotonic() + patience.total_seconds()
        while True:
            try:
                return self._state.claim(sync.id, self._owner, trigger=Trigger.MANUAL, actor=actor, ttl=self._claim_ttl)
            except ClaimHeldError as held:
                if self._clock.monotonic() >= deadline:
                    raise ClaimHeldError(
                        f"another process is reconciling {sync.name} for more than {patience.total_seconds():.0f} s",
                        hint=f"phasesync runs list --sync {sync.name}",
                    ) from held
            time.sleep(POLL)

    def _give_back(self, claim: Claim) -> None:
        try:
            self._state.release(claim)
        except PhasesyncError:
            return  # It ends by itself; the first error is the one to be told.


def status_of(sync: Sync, credential: CredentialStatus) -> SyncStatus:
    """Return how a sync stands now: what the operator set first, then what is under way, then what is left behind."""
    if sync.paused is not None:
        return SyncStatus.PAUSED
    if credential is CredentialStatus.INCOMPLETE:
        return SyncStatus.INCOMPLETE
    if sync.running:
        return SyncStatus.RUNNING
    if sync.pending and sync.settled_status in (SyncStatus.IN_SYNC, SyncStatus.HELD, SyncStatus.HALTED):
        return SyncStatus.PENDING
    return sync.settled_status


def _check_tags(config: SyncConfig) -> None:
    for key, value in config.tags.items():
        if key.startswith(("aws:", "phasesync:")):
            raise InvalidInputError(f"the tag {key} uses a reserved prefix")
        if not 1 <= len(key) <= 128 or len(value) > 256:
            raise InvalidInputError(f"AWS takes tag keys of 1 to 128 and values of up to 256 characters: {key[:40]}")
