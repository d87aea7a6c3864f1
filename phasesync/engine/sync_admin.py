"""Adds and updates syncs, with checks that find problems before the first run does. Does not reconcile."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from phasesync.core.credential import Credential, CredentialStatus
from phasesync.core.planning.ownership import refusal_of
from phasesync.core.remote import CallerIdentity
from phasesync.core.sync import Adopt, Layout, OnRemove, Sync, SyncConfig, SyncDraft
from phasesync.engine.adoption import find_existing
from phasesync.engine.context import Context
from phasesync.engine.error_hints import hint_with_name
from phasesync.engine.import_values import ImportResult, import_values
from phasesync.engine.sync_validation import SyncValidator
from phasesync.engine.windows import checked_windows
from phasesync.errors import AccountMismatchError, AlreadyExistsError

UNKNOWN_ACTOR = "unknown"


@dataclass(frozen=True, kw_only=True)
class ConfiguredSync:
    """
    The result of adding or changing a sync.

    Attributes:
        identity: the AWS identity of the credential; None if AWS was not asked.
        warnings: problems that the first run will meet, as lines for the operator.
        imported: what was imported for the sync; None if nothing was to be imported.
        to_adopt: a secret with a remote name of the sync exists and has to be adopted first.
    """

    sync: Sync
    identity: CallerIdentity | None
    warnings: tuple[str, ...]
    imported: ImportResult | None = None
    to_adopt: bool = False


class SyncAdmin:
    """Adds and changes syncs."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._validator = SyncValidator(context)

    def add(
        self, draft: SyncDraft, *, verify: bool, actor: str = UNKNOWN_ACTOR, may_be_empty: bool = False
    ) -> ConfiguredSync:
        """
        Add a sync. If the draft asks for it, the values at its remote names are imported first.

        AWS is asked before the first write, so that it can be rehearsed.

        Args:
            draft: what the operator asked for.
            verify: ask AWS first for the identity of the credential and for what exists at the remote names.
            actor: who asked, for the history of imported values.
            may_be_empty: do not warn of an environment without keys.

        Raises:
            InvalidInputError, NotFoundError, AlreadyExistsError: the draft.
            DestinationError: identity or permission; nothing is added.
        """
        if self._context.store.syncs.has_sync(draft.name):
            raise AlreadyExistsError(
                f"the sync {draft.name} exists already", hint=f"to change it: phasesync syncs update {draft.name}"
            )
        environment = self._context.store.apps.get_environment(draft.app, draft.environment)
        draft = replace(draft, app=environment.app, environment=environment.name)
        credential = self._context.store.credentials.get(draft.credential)
        draft = self._validator.normalise(draft, credential, former=None, ask=verify)
        draft = self._with_windows(draft, former=())
        importing = draft.adopt not in (None, Adopt.OVERWRITE)
        warnings = [] if importing or may_be_empty else self._source_warnings(draft)
        if draft.adopt is Adopt.OVERWRITE:
            # For the present names only: a key that is added later may meet an object without a consent.
            named = dict.fromkeys(self._validator.remote_names(draft, limit=None), "")
            draft = replace(draft, adopt=draft.adopt if named else None, adopt_versions=named)
        identity, to_adopt = None, False
        if verify:
            identity, findings, to_adopt = self._verify(draft, credential)
            warnings += findings
            draft = replace(draft, account=identity.account)
        warnings += self._validator.check_names(draft, account=draft.account)
        imported = None
        if importing:
            imported, notes = self._import(draft, credential, actor)
            draft = replace(draft, adopt_versions=imported.versions)
            warnings += notes
        if identity is not None:
            self._context.store.credentials.mark(credential.id, CredentialStatus.VERIFIED, account=identity.account)
        sync = self._context.store.syncs.add_sync(draft)
        return ConfiguredSync(
            sync=sync, identity=identity, warnings=tuple(warnings), imported=imported, to_adopt=to_adopt
        )

    def _import(self, draft: SyncDraft, credential: Credential, actor: str) -> tuple[ImportResult, tuple[str, ...]]:
        """Import what exists at the remote names before the sync exists and a run could begin."""
        destination = self._context.destinations.open(draft.destination_kind, credential, draft.region)
        existing = find_existing(
            destination,
            self._context,
            draft,
            entries={},
            sync_id="",
            account=destination.account_id(),
            instance_id="",
            with_others=True,
        )
        instead = f"--adopt {Adopt.OVERWRITE} in place of --adopt {draft.adopt}"
        imported = import_values(self._context, destination, draft, existing.adoptable, actor=actor, instead=instead)
        return imported, existing.warnings

    def update(
        self,
        name: str,
        *,
        change: Callable[[SyncConfig], SyncConfig],
        path: str | None = None,
        credential: str | None = None,
        region: str | None = None,
        ask: bool = True,
        compare: bool = True,
    ) -> ConfiguredSync:
        """
        Change a sync; it is reconciled at once. A consent to adopt ends if the sync now writes to other objects.

        Args:
            name: of the sync.
            change: makes the new configuration from the present one.
            path: None keeps it. The next two likewise.
            credential: name of a credential.
            region: an AWS Region.
            ask: AWS may be asked.
            compare: compare names with those of all other syncs, even if the sync stays where it is.

        Raises:
            InvalidInputError, NotFoundError, AlreadyExistsError: what was asked for.
            DestinationError: KMS refused to say what a new key is.
        """
        sync = self._context.store.syncs.get_sync(name)
        used = self._context.store.credentials.get(credential or sync.credential)
        draft = SyncDraft(
            name=sync.name,
            app=sync.app,
            environment=sync.environment,
            path=path or sync.path,
            credential=used.name,
            destination_kind=sync.destination_kind,
            region=region or sync.region,
            config=change(sync.config),
            account=used.account if used.id != sync.credential_id else sync.account,
            adopt=sync.adopt,
        )
        draft = self._validator.normalise(draft, used, former=sync.config, ask=ask)
        draft = self._with_windows(draft, former=sync.config.windows)
        before = (sync.config.names, sync.path, sync.region, sync.credential_id)
        stays = before == (draft.config.names, draft.path, draft.region, used.id)
        warnings: list[str] = []
        if compare or not stays:
            warnings += self._validator.check_names(draft, account=draft.account, except_for=sync.name)
        warnings += _kept_keys(sync.config, draft.config)
        warnings += _leaving_warnings(sync, draft)
        updated = self._context.store.syncs.update_sync(
            name,
            config=draft.config,
            path=draft.path,
            credential=used.name,
            region=draft.region,
            adopt=sync.adopt if stays else None,
        )
        return ConfiguredSync(sync=updated, identity=None, warnings=tuple(warnings))

    def _verify(self, draft: SyncDraft, credential: Credential) -> tuple[CallerIdentity, list[str], bool]:
        report = self._context.tester.test(credential)
        account = report.identity.account
        for pinned in (credential.account, draft.account):
            if pinned is not None and pinned != account:
                raise AccountMismatchError(
                    f"the credential {credential.name} leads to account {account}, pinned is {pinned}"
                )
        warnings = list(report.findings)
        destination = self._context.destinations.open(draft.destination_kind, credential, draft.region)
        existing, refused = [], []
        for name in self._validator.remote_names(draft):
            observed = destination.observe(name)
            if observed is not None and (refusal := refusal_of(name, observed, draft.region)) is not None:
                hint = hint_with_name(refusal[1], draft.name)
                refused.append(f"{name} can be neither written nor taken over: {refusal[0]}; {hint}")
            elif observed is not None:
                existing.append(name)
        to_adopt = bool(existing) and draft.adopt is None
        if to_adopt:
            warnings.append(
                f"{', '.join(existing)} exists already and is not ours: nothing is written there until "
                f"phasesync syncs adopt {draft.name}"
            )
        if draft.adopt in (None, Adopt.OVERWRITE):  # An import reports them itself.
            warnings += refused
        return report.identity, warnings, to_adopt

    def _with_windows(self, draft: SyncDraft, *, former: tuple[str, ...]) -> SyncDraft:
        """Return a draft with new windows as canonical texts. InvalidInputError if they never open."""
        windows = draft.config.windows
        if not windows or windows == former:
            return draft
        of_app = self._context.store.apps.get_app(draft.app).windows
        checked = checked_windows(
            self._context, windows, owner=f"the sync {draft.name}", others=[(f"the app {draft.app}", of_app)]
        )
        return replace(draft, config=replace(draft.config, windows=checked))

    def _source_warnings(self, draft: SyncDraft) -> list[str]:
        if self._context.store.secrets.list_secrets(draft.app, draft.environment, path=draft.path):
            return []
        follows = "the first run will wait for an approval"
        if draft.config.layout is Layout.PER_KEY:
            follows = "nothing will be written"
        return [f"{draft.app}/{draft.environment} has no keys in {draft.path}: {follows}"]


def _kept_keys(former: SyncConfig, config: SyncConfig) -> list[str]:
    """Return warnings on existing copies that keep another key than the wanted one: AWS does not change it."""
    before, after = former.replicas or {}, config.replicas or {}
    return [
        f"the copy in {region} keeps its key: AWS sets it when a copy is made. Leave {region} out of --replica until "
        "the copy is gone, then name it again"
        for region in sorted(before.keys() & after.keys())
        if before[region] != after[region]
    ]


def _leaving_warnings(sync: Sync, draft: SyncDraft) -> list[str]:
    """Return a warning if the path changes and the names do not contain it: keys of the old folder count as removed."""
    config = draft.config
    deletes = config.layout is Layout.PER_KEY and config.on_remove is OnRemove.DELETE
    if not deletes or draft.path == sync.path or "{path}" in config.names:
        return []
    return [
        f"AWS secrets of keys that {draft.path} does not have are deleted after the grace, although {sync.path} still "
        f"has the keys: phasesync syncs update {sync.name} --on-remove retain keeps them"
    ]
