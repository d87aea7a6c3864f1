"""
What stands at the remote names of a sync and is not ours: for an operator who decides whether to take it over.

Describes and lists; reads no value and writes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from phasesync.core.planning.ownership import NOT_OURS, Ownership, ownership_of, refusal_of
from phasesync.core.remote import TAG_INSTANCE, JournalEntry, Observed
from phasesync.core.remote_names import key_of_name, name_of_key
from phasesync.core.sync import Layout
from phasesync.core.sync_state import SyncDraft
from phasesync.engine.context import Context
from phasesync.errors import PermissionDeniedError
from phasesync.ports.destination import Destination


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """
    One remote object that a sync writes to, or would write to, and that is not ours.

    Attributes:
        key: the one key that it holds, None where it holds them all (layout json).
        owner: whose it is, as text.
        refusal: why it cannot be taken over, None where it can.
        hint: what helps then.
    """

    remote_name: str
    key: str | None
    observed: Observed
    ownership: Ownership
    owner: str
    refusal: str | None
    hint: str | None = None

    @property
    def version(self) -> str | None:
        """The version that readers get, None where there is none."""
        return self.observed.current_version


@dataclass(frozen=True, kw_only=True)
class Survey:
    """
    What one look told.

    Attributes:
        candidates: by remote name.
        absent: names that nothing has.
        ours: names of objects that are ours already.
        not_listed: the IAM action that was refused, so that objects of keys which the store does not have were not
            looked for; None where they were, or need not be.
    """

    candidates: tuple[Candidate, ...]
    absent: tuple[str, ...] = ()
    ours: tuple[str, ...] = ()
    not_listed: str | None = None

    @property
    def takeable(self) -> tuple[Candidate, ...]:
        """What can be taken over."""
        return tuple(one for one in self.candidates if one.refusal is None)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What stays as it is, and what was not looked for, as lines for the operator."""
        lines = [
            f"{one.remote_name} is not taken over: {one.refusal}" for one in self.candidates if one.refusal is not None
        ]
        if self.not_listed is not None:
            lines.append(
                f"the credential is not allowed to call {self.not_listed}: secrets under names of the template whose "
                "keys the store does not have were not looked for"
            )
        return tuple(lines)


def survey(
    destination: Destination,
    context: Context,
    draft: SyncDraft,
    *,
    entries: Mapping[str, JournalEntry],
    sync_id: str,
    account: str,
    instance_id: str,
    with_others: bool,
) -> Survey:
    """
    Describe what stands at the remote names of a sync.

    Args:
        destination: where.
        context: its store says which keys there are.
        draft: the sync.
        entries: remote name -> journal entry, where there is one.
        sync_id: of the sync; empty for one that is not stored yet.
        account: that the destination leads to.
        instance_id: ours.
        with_others: in layout per-key look also for objects under names of the template whose keys the store does not
            have; that lists the account's objects.

    Raises:
        DestinationError: AWS does not say how one of them stands.
    """
    wanted = _wanted(context, draft)
    others, not_listed = _others(destination, draft, set(wanted)) if with_others else ({}, None)
    candidates, absent, ours = [], [], []
    for name, key in sorted({**wanted, **others}.items()):
        seen = destination.observe(name)
        if seen is None:
            absent.append(name)
            continue
        entry = entries.get(name) or JournalEntry(
            id=None, sync_id=sync_id, remote_name=name, account=account, region=draft.region
        )
        ownership = ownership_of(seen, entry, instance_id)
        candidate = _candidate(name, key, seen, ownership, draft.region)
        if ownership is Ownership.OURS:
            ours.append(name)
        elif name in wanted or (candidate.refusal is None and TAG_INSTANCE not in seen.tags):
            candidates.append(candidate)
    return Survey(candidates=tuple(candidates), absent=tuple(absent), ours=tuple(ours), not_listed=not_listed)


def _wanted(context: Context, draft: SyncDraft) -> dict[str, str | None]:
    """Return the remote names that the sync writes to -> the key that each holds."""
    if draft.config.layout is Layout.JSON:
        return {draft.config.names: None}
    place = {"app": draft.app, "environment": draft.environment, "path": draft.path}
    listed = context.store.secrets.list_secrets(draft.app, draft.environment, path=draft.path)
    return {name_of_key(draft.config, **place, key=one.key): one.key for one in listed}


def _others(destination: Destination, draft: SyncDraft, wanted: set[str]) -> tuple[dict[str, str | None], str | None]:
    if draft.config.layout is Layout.JSON:
        return {}, None
    try:
        listed = destination.list_names()
    except PermissionDeniedError as error:
        return {}, error.action or "secretsmanager:ListSecrets"
    found: dict[str, str | None] = {}
    for one in listed:
        key = key_of_name(draft.config.names, one.name, app=draft.app, environment=draft.environment, path=draft.path)
        if key is not None and one.name not in wanted and one.deleted_at is None:
            found[one.name] = key
    return found, None


def _candidate(name: str, key: str | None, seen: Observed, ownership: Ownership, region: str) -> Candidate:
    reason, hint = refusal_of(name, seen, region) or (None, None)
    if reason is None and seen.deleted_at is not None:
        reason = "scheduled for deletion"
        hint = f"to have it again: aws secretsmanager restore-secret --secret-id {name} --region {region}"
    owner = NOT_OURS.get(ownership, "ours")
    return Candidate(
        remote_name=name, key=key, observed=seen, ownership=ownership, owner=owner, refusal=reason, hint=hint
    )
