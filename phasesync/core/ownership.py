"""Whose a remote object is, told from its tags and from what the journal knows. Tags alone can be forged."""

from enum import StrEnum

from phasesync.core.remote import TAG_INSTANCE, TAG_SYNC, JournalEntry, Observed


class Ownership(StrEnum):
    """Whose a remote object is; whatever is not proven ours counts as foreign."""

    OURS = "ours"
    UNPROVEN = "unproven"
    """It carries our tags, but the journal knows nothing of it."""
    OTHER_SYNC = "other-sync"
    """It carries the tags of another sync of this instance."""
    UNMARKED = "unmarked"
    """The journal knows it, but our tags are gone."""
    FOREIGN = "foreign"


def ownership_of(observed: Observed, entry: JournalEntry, instance_id: str) -> Ownership:
    """Return whose the observed object is, for the sync that the journal entry belongs to."""
    known = _known(observed, entry)
    if observed.tags.get(TAG_INSTANCE) != instance_id:
        return Ownership.UNMARKED if known else Ownership.FOREIGN
    if observed.tags.get(TAG_SYNC) != entry.sync_id:
        return Ownership.OTHER_SYNC
    return Ownership.OURS if known else Ownership.UNPROVEN


def owner_tags(instance_id: str, sync_id: str) -> dict[str, str]:
    """Return the tags that mark a remote object as ours."""
    return {TAG_INSTANCE: instance_id, TAG_SYNC: sync_id}


def _known(observed: Observed, entry: JournalEntry) -> bool:
    """Whether the journal knows this very object: its ARN, or a labelled version that carries one of our tokens."""
    if entry.arn is not None and entry.arn == observed.arn:
        return True
    tokens = {entry.version_id, entry.intent.token if entry.intent else None} - {None}
    return not tokens.isdisjoint(observed.versions)
