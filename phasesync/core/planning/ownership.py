"""
Whose a remote object is, told from its tags and from what the journal knows, and what nobody but AWS may write.

Tags alone can be forged.
"""

from enum import StrEnum
from typing import Final

from phasesync.core.arns import account_of
from phasesync.core.remote import (
    CURRENT,
    PENDING,
    PREVIOUS,
    TAG_INSTANCE,
    TAG_SYNC,
    CrossAccountLink,
    CrossAccountStatus,
    JournalEntry,
    Observed,
)

UNNAMED: Final = "one that AWS does not name"
_ANOTHER_NAME: Final = "choose another name: phasesync syncs update NAME, with --secret-name or --name-template"


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
            f"phasesync syncs update NAME --region {seen.primary_region}",
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


# --- copies in other accounts


def copies_in_other_accounts(seen: Observed) -> str:
    """Return a clause that names the copies of an object in other accounts."""
    named = [one.arn or "one that AWS does not name" for one in seen.cross_account_copies]
    return f"it has {'a copy' if len(named) == 1 else 'copies'} in another account: {', '.join(named)}"


def how_to_end_copies(seen: Observed, region: str) -> str:
    """Return the commands that end the replication of an object to other accounts; the copies stay as they are."""
    return "; ".join(
        f"aws secretsmanager disassociate-cross-account-replica --secret-id {seen.name} "
        f"--cross-account-replica-arn {one.arn or 'ARN'} --region {region}"
        for one in seen.cross_account_copies
    )


def told(copy: CrossAccountLink) -> str:
    """Say how a copy in another account stands, and whose rights AWS replicates with."""
    rights = "with the rights of whoever writes" if copy.role_arn is None else f"by {copy.role_arn}"
    return f"copy in {_where(copy)}: {copy.status}, replicated {rights}"


def why_behind(seen: Observed, sync: str) -> str | None:
    """Say which copy in another account AWS could not bring up to date, and what is likely to help; None = none."""
    for copy in seen.cross_account_copies:
        if copy.status is not CrossAccountStatus.FAILED:
            continue
        behind = f"AWS could not bring the copy in {_where(copy)} up to date"
        if copy.role_arn is not None:
            return f"{behind}: {copy.role_arn} needs kms:Decrypt on the key here and kms:Encrypt on the key there"
        return (
            f"{behind}: whoever writes needs kms:Encrypt on the key there, which phasesync aws policy {sync} "
            "--copy-key ARN adds to the policy"
        )
    return None


def _where(copy: CrossAccountLink) -> str:
    return (copy.arn and account_of(copy.arn)) or "another account"
