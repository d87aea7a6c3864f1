"""
Whose a remote object is, told from its tags and from what the journal knows, and what nobody but AWS may write.

Tags alone can be forged.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from phasesync.core.remote import CURRENT, PENDING, PREVIOUS, TAG_INSTANCE, TAG_SYNC, JournalEntry, Observed
from phasesync.errors import Hint

UNNAMED: Final = "one that AWS does not name"
_ANOTHER_NAME: Final = Hint("choose another name: phasesync syncs update {name}, with --secret-name or --name-template")


class Ownership(StrEnum):
    """Whose a remote object is; whatever is not proven ours counts as foreign."""

    OURS = "ours"
    UNPROVEN = "unproven"
    """It carries our tags, but the journal knows nothing of it."""
    OTHER_SYNC = "other-sync"
    """It carries the tags of another sync of this instance."""
    OTHER_INSTANCE = "other-instance"
    """It carries the tags of another installation, whatever the journal knows of it."""
    UNMARKED = "unmarked"
    """The journal knows it, but our tags are gone, or one of them."""
    FOREIGN = "foreign"


NOT_OURS = {
    Ownership.FOREIGN: "exists and was not made by phasesync",
    Ownership.OTHER_SYNC: "belongs to another sync",
    Ownership.UNPROVEN: "carries our tags, but this database never wrote it",
    Ownership.OTHER_INSTANCE: "carries the tags of another phasesync",
    Ownership.UNMARKED: "our owner tags are gone, or one of them",
}
"""Why an object is not ours to write."""


def ownership_of(observed: Observed, entry: JournalEntry, instance_id: str) -> Ownership:
    """Return whose the observed object is, for the sync that the journal entry belongs to."""
    known = _known(observed, entry)
    instance, sync = observed.tags.get(TAG_INSTANCE), observed.tags.get(TAG_SYNC)
    if instance is None:
        return Ownership.UNMARKED if known else Ownership.FOREIGN
    if instance != instance_id:
        return Ownership.OTHER_INSTANCE
    if sync is None:
        return Ownership.UNMARKED if known else Ownership.UNPROVEN
    if sync != entry.sync_id:
        return Ownership.OTHER_SYNC
    return Ownership.OURS if known else Ownership.UNPROVEN


def owner_tags(instance_id: str, sync_id: str) -> dict[str, str]:
    """Return the tags that mark a remote object as ours."""
    return {TAG_INSTANCE: instance_id, TAG_SYNC: sync_id}


def refusal_of(name: str, seen: Observed | None, region: str) -> tuple[str, str] | None:
    """Return reason and hint where nobody but AWS may write, whoever owns the object."""
    if seen is None:
        return ("the name belongs to an AWS service", "choose a name without '!'") if "!" in name else None
    if "!" in seen.name or seen.owning_service:
        return f"managed by {seen.owning_service or 'an AWS service'}", _ANOTHER_NAME
    if seen.external_type is not None:
        return (
            f"a managed external secret ({seen.external_type}): AWS rotates it together with that partner",
            _ANOTHER_NAME,
        )
    if seen.primary_region is not None and seen.primary_region != region:
        return (
            f"a replica; its primary is in {seen.primary_region}",
            Hint("phasesync syncs update {name} --region {region}", region=seen.primary_region),
        )
    if seen.cross_account_primary is not None:
        return (
            f"a copy of another account's secret; its primary is {seen.cross_account_primary.arn or UNNAMED}",
            f"write to the primary, or make the copy a secret of its own: aws secretsmanager "
            f"stop-replication-to-replica --secret-id {seen.name} --region {region}",
        )
    rotating = any(PENDING in labels and not labels & {CURRENT, PREVIOUS} for labels in seen.versions.values())
    if seen.rotation_enabled or rotating:
        return "AWS rotates it", "turn rotation off (aws secretsmanager cancel-rotate-secret) or choose another name"
    return None


def _known(observed: Observed, entry: JournalEntry) -> bool:
    """Whether the journal knows this very object: its ARN, or a labelled version that carries one of our tokens."""
    if entry.arn is not None and entry.arn == observed.arn:
        return True
    tokens = {entry.version_id, entry.intent.token if entry.intent else None} - {None}
    return not tokens.isdisjoint(observed.versions)


@dataclass(frozen=True, kw_only=True)
class ForeignObject:
    """
    One remote object that has a name that a sync writes to, or would write to, and that is not ours.

    Attributes:
        key: the one key that it holds; None if it holds all keys (layout json).
        owner: who owns it, as text.
        refusal: why it cannot be taken over; None if it can.
        hint: what to do about a refusal.
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
        """The version that readers get; None if there is none."""
        return self.observed.current_version


def foreign_object(name: str, key: str | None, observed: Observed, ownership: Ownership, region: str) -> ForeignObject:
    """Return what an operator has to know of an object in order to decide whether to take it over."""
    reason, hint = refusal_of(name, observed, region) or (None, None)
    if reason is None and observed.deleted_at is not None:
        reason = "scheduled for deletion"
        hint = f"to have it again: aws secretsmanager restore-secret --secret-id {name} --region {region}"
    return ForeignObject(
        remote_name=name,
        key=key,
        observed=observed,
        ownership=ownership,
        owner=NOT_OURS.get(ownership, "ours"),
        refusal=reason,
        hint=hint,
    )
