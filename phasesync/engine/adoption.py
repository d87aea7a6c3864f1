"""
Adoption: shows what exists at a sync's remote names, and notes the operator's consent to take it over.

The next run takes it over. Values are read here only if the operator wants them imported first, and then only the
versions that were read may be overwritten.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from phasesync.core.planning.ownership import ForeignObject, Ownership, foreign_object, ownership_of
from phasesync.core.remote import TAG_INSTANCE, JournalEntry
from phasesync.core.remote_names import key_of_name, name_of_key
from phasesync.core.sync import Adopt, Layout, Sync, SyncDraft
from phasesync.core.sync_windows import levels_for
from phasesync.engine.context import Context
from phasesync.engine.error_hints import hint_with_name, hints_for
from phasesync.engine.import_values import ImportResult, import_values
from phasesync.engine.observe import observe_consistently, verify_account
from phasesync.errors import IllegalTransitionError, PermissionDeniedError
from phasesync.ports.destination import Destination


@dataclass(frozen=True, kw_only=True)
class ExistingObjects:
    """
    What exists at the remote names of a sync.

    Attributes:
        foreign: objects that are not ours, by remote name.
        absent: names without an object.
        ours: names of objects that are ours already.
        not_listed: the IAM action that was refused, so that there was no search for objects of keys that the store
            does not have; None if the search was made, or is not needed.
    """

    foreign: tuple[ForeignObject, ...]
    absent: tuple[str, ...] = ()
    ours: tuple[str, ...] = ()
    not_listed: str | None = None

    @property
    def adoptable(self) -> tuple[ForeignObject, ...]:
        """The objects that can be taken over."""
        return tuple(remote_object for remote_object in self.foreign if remote_object.refusal is None)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What stays as it is, and what was not searched for, as lines for the operator."""
        lines = [
            f"{remote_object.remote_name} is not taken over: {remote_object.refusal}"
            for remote_object in self.foreign
            if remote_object.refusal is not None
        ]
        if self.not_listed is not None:
            lines.append(
                f"the credential is not allowed to call {self.not_listed}: it was not checked "
                "whether secrets exist under other names of the template"
            )
        return tuple(lines)


@dataclass(frozen=True, kw_only=True)
class AdoptionPreview:
    """
    What an operator may take over.

    Attributes:
        draft: the sync, with the consent that the operator considers.
        existing: what exists at its remote names.
    """

    sync: Sync
    draft: SyncDraft
    account: str
    existing: ExistingObjects
    destination: Destination


def preview_adoption(context: Context, name: str, adopt: Adopt) -> AdoptionPreview:
    """
    Describe what exists at the remote names of a sync. Reads no value and writes nothing.

    Args:
        context: has the sync, and opens its destination.
        name: of the sync.
        adopt: how the operator would take it over.

    Raises:
        NotFoundError: the sync.
        AccountMismatchError: the credential leads to another account than the pinned one.
        DestinationError: AWS does not say what exists.
    """
    state = context.store.sync_states.state_of(name)
    draft = replace(draft_of(state.sync), adopt=adopt)
    with hints_for(state.sync):
        destination = context.destinations.open(draft.destination_kind, state.credential, draft.region)
        account = verify_account(state, destination)

        def find(journal: tuple[JournalEntry, ...]) -> ExistingObjects:
            here = [entry for entry in journal if (entry.account, entry.region) == (account, draft.region)]
            return find_existing(
                destination,
                context,
                draft,
                entries={entry.remote_name: entry for entry in here},
                sync_id=state.sync.id,
                account=account,
                instance_id=context.instance_id,
                with_others=draft.adopt is not Adopt.OVERWRITE,
            )

        # What a run creates meanwhile is ours, and is not in the journal that was read before.
        existing = observe_consistently(
            state.journal,
            lambda: context.store.sync_states.state_of(name).journal,
            find,
            doubtful=lambda existing: bool(existing.foreign),
            moved=lambda before, after: before != after,
        )
    return AdoptionPreview(sync=state.sync, draft=draft, account=account, existing=existing, destination=destination)


def accept_adoption(context: Context, preview: AdoptionPreview, *, actor: str) -> ImportResult | None:
    """
    Import what is to be imported, as one edit, and note the consent. The next run takes the objects over, if the
    maintenance windows of the sync are open.

    Args:
        context: has the store.
        preview: what the operator was shown.
        actor: who consented.

    Returns:
        What was imported; None if nothing was to be imported.

    Raises:
        IllegalTransitionError: there is nothing that can be taken over.
        InvalidInputError, DestinationError: nothing was imported, and no consent was noted.
    """
    sync, existing = preview.sync, preview.existing
    if not existing.adoptable:
        refused = "; ".join(f"{foreign.remote_name}: {foreign.refusal}" for foreign in existing.foreign)
        hints = dict.fromkeys(hint_with_name(foreign.hint, sync.name) for foreign in existing.foreign if foreign.hint)
        raise IllegalTransitionError(
            f"there is nothing to take over for {sync.name}" + (f" ({refused})" if refused else ""),
            hint="; ".join(hints) or None,
        )
    adopt = preview.draft.adopt or Adopt.OVERWRITE
    heeds_windows = bool(levels_for(sync, context.windows()))
    if adopt is Adopt.OVERWRITE:
        shown = {remote_object.remote_name: remote_object.version or "" for remote_object in existing.adoptable}
        context.store.sync_requests.consent_to_adopt(
            sync.name, adopt, actor=actor, versions=shown, unattended=heeds_windows
        )
        return None
    with hints_for(sync):
        imported = import_values(
            context,
            preview.destination,
            preview.draft,
            existing.adoptable,
            actor=actor,
            instead=f"phasesync syncs adopt {sync.name}, without --import",
        )
    context.store.sync_requests.consent_to_adopt(
        sync.name, adopt, actor=actor, versions=imported.versions, unattended=heeds_windows
    )
    return imported


def find_existing(
    destination: Destination,
    context: Context,
    draft: SyncDraft,
    *,
    entries: Mapping[str, JournalEntry],
    sync_id: str,
    account: str,
    instance_id: str,
    with_others: bool,
) -> ExistingObjects:
    """
    Describe what exists at the remote names of a sync.

    Args:
        destination: of the sync.
        context: its store says which keys there are.
        draft: the sync.
        entries: remote name -> journal entry, if there is one.
        sync_id: of the sync; empty for one that is not stored yet.
        account: that the destination leads to.
        instance_id: ours.
        with_others: in layout per-key, search also for objects under names of the template with keys that the store
            does not have. This lists the objects of the account.

    Raises:
        DestinationError: AWS does not describe one of them.
    """
    wanted = _wanted(context, draft)
    others, not_listed = _others(destination, draft, set(wanted)) if with_others else ({}, None)
    foreign, absent, ours = [], [], []
    for name, key in sorted({**wanted, **others}.items()):
        observed = destination.observe(name)
        if observed is None:
            absent.append(name)
            continue
        entry = entries.get(name) or JournalEntry(
            id=None, sync_id=sync_id, remote_name=name, account=account, region=draft.region
        )
        ownership = ownership_of(observed, entry, instance_id)
        remote_object = foreign_object(name, key, observed, ownership, draft.region)
        if ownership is Ownership.OURS:
            ours.append(name)
        elif name in wanted or (remote_object.refusal is None and TAG_INSTANCE not in observed.tags):
            foreign.append(remote_object)
    return ExistingObjects(foreign=tuple(foreign), absent=tuple(absent), ours=tuple(ours), not_listed=not_listed)


def _wanted(context: Context, draft: SyncDraft) -> dict[str, str | None]:
    """Return the remote names that the sync writes to -> the key that each holds."""
    if draft.config.layout is Layout.JSON:
        return {draft.config.names: None}
    place = {"app": draft.app, "environment": draft.environment, "path": draft.path}
    listed = context.store.secrets.list_secrets(draft.app, draft.environment, path=draft.path)
    return {name_of_key(draft.config, **place, key=secret.key): secret.key for secret in listed}


def _others(destination: Destination, draft: SyncDraft, wanted: set[str]) -> tuple[dict[str, str | None], str | None]:
    """Return the other remote names that fit the template -> key, and the IAM action that was refused, if any."""
    if draft.config.layout is Layout.JSON:
        return {}, None
    try:
        listed = destination.list_names()
    except PermissionDeniedError as error:
        return {}, error.action or "secretsmanager:ListSecrets"
    others: dict[str, str | None] = {}
    for listing in listed:
        key = key_of_name(
            draft.config.names, listing.name, app=draft.app, environment=draft.environment, path=draft.path
        )
        if key is not None and listing.name not in wanted and listing.deleted_at is None:
            others[listing.name] = key
    return others, None


def draft_of(sync: Sync) -> SyncDraft:
    """Return the draft that describes a sync as it is."""
    return SyncDraft(
        name=sync.name,
        app=sync.app,
        environment=sync.environment,
        path=sync.path,
        credential=sync.credential,
        destination_kind=sync.destination_kind,
        region=sync.region,
        config=sync.config,
        account=sync.account,
        adopt=sync.adopt,
        adopt_versions=sync.adopt_versions,
    )
