"""
Configuring syncs: add, update, remove, with the checks that find trouble before the first run does.

Does not reconcile; the daemon and `operations.py` do.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from phasesync.core.arns import check_key_arn, check_region
from phasesync.core.model import AWS_MANAGED_KEY, Credential, CredentialStatus, Sync, SyncConfig
from phasesync.core.ownership import Ownership, owner_tags, ownership_of
from phasesync.core.remote import CallerIdentity, JournalEntry
from phasesync.engine.claims import ClaimTaker
from phasesync.errors import AccountMismatchError, CiphertextError, DestinationError, InvalidInputError
from phasesync.ports import (
    CredentialStore,
    CredentialTester,
    Destinations,
    EnvironmentStore,
    StateStore,
    SyncDraft,
)

SHORTEST_INTERVAL = timedelta(seconds=1)


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


class SyncConfiguration:
    """Adds, changes and removes syncs."""

    def __init__(
        self,
        *,
        environments: EnvironmentStore,
        credentials: CredentialStore,
        state: StateStore,
        destinations: Destinations,
        tester: Callable[[], CredentialTester],
        claims: ClaimTaker,
        instance_id: str,
    ) -> None:
        """
        Args:
            environments: to check what a sync reads.
            credentials: to check what it writes with.
            state: keeps the syncs.
            destinations: to look at what is there.
            tester: returns who asks AWS about a credential; made only where AWS is asked.
            claims: takes the claim of a sync that is to be removed.
            instance_id: marks what is ours.
        """
        self._environments = environments
        self._credentials = credentials
        self._state = state
        self._destinations = destinations
        self._tester = tester
        self._claims = claims
        self._instance_id = instance_id

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
        Change a sync; it is reconciled at once. A consent to adopt was for one object and ends where another is meant.

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
        place = (sync.config.remote_name, sync.region, sync.credential.lower())
        stays = place == (config.remote_name, region, (credential or sync.credential).lower())
        return self._state.update_sync(
            name,
            config=config,
            path=path or sync.path,
            credential=credential or sync.credential,
            region=region,
            adopt=sync.adopt if stays else None,
        )

    def remove(self, name: str, *, actor: str) -> tuple[str, ...]:
        """
        Remove a sync, keep its remote objects and take our owner marks off them where that is allowed.

        Returns:
            Lines on objects that kept our marks.
        """
        try:
            sync = self._state.get_sync(name)
        except CiphertextError:
            self._state.remove_sync(name)
            return (f"what {name} wrote keeps our tags: its row was altered, so nothing says where that is",)
        claim = self._claims.take(sync, actor=actor, patience=timedelta(seconds=30))
        try:
            state = self._state.load(claim)
        except CiphertextError:
            state = None
        finally:
            self._claims.give_back(claim)
        if state is None:
            self._state.remove_sync(name)
            return (f"what {name} wrote keeps our tags: its journal or credential was altered",)
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
        report = self._tester().test(credential)
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


def _check_tags(config: SyncConfig) -> None:
    for key, value in config.tags.items():
        if key.startswith(("aws:", "phasesync:")):
            raise InvalidInputError(f"the tag {key} uses a reserved prefix")
        if not 1 <= len(key) <= 128 or len(value) > 256:
            raise InvalidInputError(f"AWS takes tag keys of 1 to 128 and values of up to 256 characters: {key[:40]}")
