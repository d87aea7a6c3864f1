"""
Who owns a remote object, and which objects only AWS may write. Pure.

The owner is determined from the tags and from the journal; tags alone can be forged.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from phasesync.core.arns import account_of
from phasesync.core.remote import (
    CURRENT,
    PENDING,
    PREVIOUS,
    TAG_DELETION,
    TAG_INSTANCE,
    TAG_SYNC,
    CrossAccountLink,
    CrossAccountStatus,
    JournalEntry,
    Observed,
)
from phasesync.errors import Hint

_UNNAMED: Final = "one that AWS does not name"
_ANOTHER_NAME: Final = Hint("choose another name: phasesync syncs update {name}, with --secret-name or --name-template")


class Ownership(StrEnum):
    """Who owns a remote object. An object that is not proven ours counts as foreign."""

    OURS = "ours"
    UNPROVEN = "unproven"
    """It carries our tags, but the journal knows nothing of it."""
    OTHER_SYNC = "other-sync"
    """It carries the tags of another sync of this instance."""
    OTHER_INSTANCE = "other-instance"
    """It carries the tags of another installation, whatever the journal knows of it."""
    UNMARKED = "unmarked"
    """The journal knows it, but at least one of our tags is gone."""
    FOREIGN = "foreign"


NOT_OURS = {
    Ownership.FOREIGN: "exists and was not made by phasesync",
    Ownership.OTHER_SYNC: "belongs to another sync",
    Ownership.UNPROVEN: "carries our tags, but this database never wrote it",
    Ownership.OTHER_INSTANCE: "carries the tags of another phasesync",
    Ownership.UNMARKED: "our owner tags are gone, or one of them",
}
"""Why we may not write an object."""


def ownership_of(observed: Observed, entry: JournalEntry, instance_id: str) -> Ownership:
    """Return who owns the observed object, from the view of the sync that the journal entry belongs to."""
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


def _known(observed: Observed, entry: JournalEntry) -> bool:
    """Return whether the journal knows this very object: by its ARN, or by one of our tokens on a labelled version."""
    if entry.arn is not None and entry.arn == observed.arn:
        return True
    tokens = {entry.version_id, entry.intent.token if entry.intent else None} - {None}
    return not tokens.isdisjoint(observed.versions)


def owner_tags(instance_id: str, sync_id: str) -> dict[str, str]:
    """Return the tags that mark a remote object as ours."""
    return {TAG_INSTANCE: instance_id, TAG_SYNC: sync_id}


def marks_on(observed: Observed, instance_id: str, sync_id: str) -> dict[str, str]:
    """Return the tags of ours that an object of ours has no more when it is ours no more."""
    marks = owner_tags(instance_id, sync_id)
    if (deletion := observed.tags.get(TAG_DELETION)) is not None:
        marks[TAG_DELETION] = deletion
    return marks


def refusal_of(name: str, observed: Observed | None, region: str) -> tuple[str, str] | None:
    """Return reason and hint if only AWS may write the object, whoever owns it; else None."""
    if observed is None:
        return ("the name belongs to an AWS service", "choose a name without '!'") if "!" in name else None
    if "!" in observed.name or observed.owning_service:
        return f"managed by {observed.owning_service or 'an AWS service'}", _ANOTHER_NAME
    if observed.external_type is not None:
        return (
            f"a managed external secret ({observed.external_type}): AWS rotates it together with that partner",
            _ANOTHER_NAME,
        )
    if observed.primary_region is not None and observed.primary_region != region:
        return (
            f"a replica; its primary is in {observed.primary_region}",
            Hint("phasesync syncs update {name} --region {region}", region=observed.primary_region),
        )
    if observed.cross_account_primary is not None:
        return (
            f"a copy of another account's secret; its primary is {observed.cross_account_primary.arn or _UNNAMED}",
            f"write to the primary, or make the copy a secret of its own: aws secretsmanager "
            f"stop-replication-to-replica --secret-id {observed.name} --region {region}",
        )
    rotating = any(PENDING in labels and not labels & {CURRENT, PREVIOUS} for labels in observed.versions.values())
    if observed.rotation_enabled or rotating:
        return "AWS rotates it", "turn rotation off (aws secretsmanager cancel-rotate-secret) or choose another name"
    return None


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


# --- Copies in other accounts.
#
# AWS refuses to delete a primary while a copy in another account is associated with it, even if the other account has
# detached the copy (User Guide, stop cross-account replication). phasesync never ends an association that it did not
# make.


def describe_copies(observed: Observed) -> str:
    """Return a clause that names the copies of an object in other accounts."""
    names = [copy.arn or _UNNAMED for copy in observed.cross_account_copies]
    return f"it has {'a copy' if len(names) == 1 else 'copies'} in another account: {', '.join(names)}"


def commands_to_end_copies(observed: Observed, region: str) -> str:
    """Return the commands that end the replication of an object to other accounts; the copies stay as they are."""
    return "; ".join(
        f"aws secretsmanager disassociate-cross-account-replica --secret-id {observed.name} "
        f"--cross-account-replica-arn {copy.arn or 'ARN'} --region {region}"
        for copy in observed.cross_account_copies
    )


def describe_copy(copy: CrossAccountLink) -> str:
    """Return the state of a copy in another account, and the identity that AWS replicates with."""
    rights = "with the rights of the writer" if copy.role_arn is None else f"by {copy.role_arn}"
    return f"copy in {_account_of(copy)}: {copy.status}, replicated {rights}"


def copy_warning(observed: Observed, sync: str) -> str | None:
    """Return which copy in another account AWS could not update, and what is likely to help; None if there is none."""
    for copy in observed.cross_account_copies:
        if copy.status is not CrossAccountStatus.FAILED:
            continue
        behind = f"AWS could not bring the copy in {_account_of(copy)} up to date"
        if copy.role_arn is not None:
            return f"{behind}: {copy.role_arn} needs kms:Decrypt on the key here and kms:Encrypt on the key there"
        return (
            f"{behind}: whoever writes needs kms:Encrypt on the key there, which phasesync aws policy {sync} "
            "--copy-key ARN adds to the policy"
        )
    return None


def _account_of(copy: CrossAccountLink) -> str:
    return (copy.arn and account_of(copy.arn)) or "another account"
