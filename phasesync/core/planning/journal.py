"""
The states of one write in the journal: intent -> call -> settled. Pure; the engine stores the entries returned here.

An intent that is still open keeps its generation and token: a successor uses the same token with its own payload. AWS
then refuses a late old request, whoever sends it. The presence of a token that may have carried two payloads proves
nothing; only a put that AWS accepts does.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from phasesync.core.change import VALUE_WRITES
from phasesync.core.fingerprint import same
from phasesync.core.planning.losses import steps_after
from phasesync.core.planning.metadata import differing, wanted_metadata
from phasesync.core.planning.ownership import Ownership, ownership_of
from phasesync.core.planning.version_budget import within_a_day
from phasesync.core.remote import Action, Desired, Intent, JournalEntry, Observed, Payload
from phasesync.core.times import clamp, clamp_all


def next_generation(entry: JournalEntry) -> int:
    """Return the generation of the next write: that of the open write, or a new one."""
    if entry.intent is not None and entry.intent.action in VALUE_WRITES:
        return entry.intent.generation
    return entry.generation + 1


def intend_write(
    entry: JournalEntry, action: Action, payload: Payload, token: str, now: datetime, *, approved: bool = False
) -> JournalEntry:
    """
    Return the entry with the intent to write this payload under this token.

    The version that it may make is counted now, since a crash may come before anything else is recorded. To use an open
    token again makes no second version.

    Args:
        entry: its journal entry.
        action: create, put or rekey.
        payload: what is written.
        token: of its generation.
        now: the time.
        approved: a person approved it.
    """
    former = entry.intent if entry.intent is not None and entry.intent.action in VALUE_WRITES else None
    payloads = 1
    if former is None:
        entry = replace(entry, versions_at=(*within_a_day(entry.versions_at, now), now))
    else:
        same_payload = former.fingerprint is not None and same(former.fingerprint, payload.fingerprint)
        payloads = former.payloads if same_payload else former.payloads + 1
    intent = Intent(
        action=action,
        generation=next_generation(entry),
        token=token,
        fingerprint=payload.fingerprint,
        payloads=payloads,
        made_at=now,
        keys=payload.keys,
        binary=payload.binary if former is None or former.binary is payload.binary else None,
        empty=tuple(sorted(payload.empty)),
        approved=approved,
    )
    return replace(entry, intent=intent, touched_at=now)


def intend_restore(entry: JournalEntry, token: str, now: datetime) -> JournalEntry:
    """Return the entry with the intent to restore; an open write stays, since a restore is harmless to repeat."""
    if entry.intent is not None:
        return entry
    intent = Intent(
        action=Action.RESTORE,
        generation=entry.generation,
        token=token,
        fingerprint=None,
        payloads=0,
        made_at=now,
    )
    return replace(entry, intent=intent, touched_at=now)


def settle_restore(entry: JournalEntry) -> JournalEntry:
    """Return the entry after a restore; an open write stays open."""
    if entry.deletion_at is not None or entry.unwanted_since is not None:
        entry = replace(entry, deletion_at=None, deletion_approved=False, unwanted_since=None)
    if entry.intent is None or entry.intent.action is not Action.RESTORE:
        return entry
    return replace(entry, intent=None)


def intend_deletion(entry: JournalEntry, now: datetime) -> JournalEntry:
    """
    Return the entry with a generation more: that of the deletion.

    An older copy of the database does not have it, so its token, as a tag of the object, shows that copy that there was
    a deletion since. A write that is still open keeps its own generation.
    """
    return replace(entry, generation=_newest_generation(entry) + 1, touched_at=now)


def settle_write(
    entry: JournalEntry, payload: Payload, *, arn: str, version_id: str, tags_written: Mapping[str, str] | None = None
) -> JournalEntry:
    """Return the entry after AWS accepted this payload under the intent's token."""
    return replace(
        entry,
        arn=arn,
        version_id=version_id,
        generation=max(entry.generation, next_generation(entry)),
        fingerprint=payload.fingerprint,
        keys=payload.keys,
        binary=payload.binary,
        empty=tuple(sorted(payload.empty)),
        steps=entry.steps if entry.intent is None else steps_after(entry, payload.keys, payload.empty, entry.intent),
        created_at=_created_at(entry, entry.intent),
        tags_written=entry.tags_written if tags_written is None else tags_written,
        unwanted_since=None,
        deletion_at=None,
        deletion_approved=False,
        intent=None,
    )


def settle_used_token(entry: JournalEntry, before: Intent, *, arn: str) -> JournalEntry:
    """
    Return the entry after AWS answered that the token was used with another payload: an earlier write had landed.

    Args:
        entry: with the intent of the refused call.
        before: the intent as it was before that call; if it has a single payload, that is what landed.
        arn: the object's ARN.
    """
    return replace(
        entry,
        arn=arn,
        version_id=before.token,
        generation=max(entry.generation, before.generation),
        fingerprint=before.fingerprint if before.payloads == 1 else None,
        keys=before.keys,
        binary=before.binary,
        empty=before.empty,
        steps=steps_after(entry, before.keys, before.empty or (), before),
        created_at=_created_at(entry, before),
        intent=None,
    )


def _created_at(entry: JournalEntry, intent: Intent | None) -> datetime | None:
    return intent.made_at if intent is not None and intent.action is Action.CREATE else entry.created_at


def settle_by_evidence(entry: JournalEntry, observed: Observed | None) -> JournalEntry:
    """
    Return the entry with its intent settled if the observed object alone proves the write; else unchanged.

    A labelled version that carries the token proves the write if the token was only ever sent with one payload.
    """
    intent = entry.intent
    if intent is None or observed is None:
        return entry
    if intent.action is Action.RESTORE:
        return entry if observed.deleted_at is not None else settle_restore(entry)
    if intent.payloads != 1 or intent.token not in observed.versions:
        return entry
    return settle_used_token(entry, intent, arn=observed.arn)


def clamp_to_clock(entry: JournalEntry, now: datetime) -> JournalEntry:
    """
    Return the entry without instants of the future, which a clock that was set back since has left in it.

    Its losses count in the guard's window from now on: not for less time, and not until the old time is reached.
    """

    def past(at: datetime | None) -> datetime | None:
        return None if at is None else clamp(at, now)

    clamped = replace(
        entry,
        versions_at=clamp_all(entry.versions_at, now),
        enforced_at=clamp_all(entry.enforced_at, now),
        touched_at=past(entry.touched_at),
        unwanted_since=past(entry.unwanted_since),
        created_at=past(entry.created_at),
        deletion_at=past(entry.deletion_at),
        steps=tuple(replace(step, at=clamp(step.at, now)) for step in entry.steps),
    )
    return entry if clamped == entry else clamped


def record_wanted(entry: JournalEntry, wanted: Desired, observed: Observed | None, instance_id: str) -> JournalEntry:
    """
    Return the entry of an object that is wanted, after it was observed: which of its dimensions are in step.

    Args:
        entry: its journal entry.
        wanted: the object as it should be.
        observed: what AWS reports; None if absent.
        instance_id: of our instance; nothing is recorded about an object that is not ours.
    """
    if entry.unwanted_since is not None and (observed is None or observed.deleted_at is None):
        entry = replace(_without_removed_copies(entry, observed), unwanted_since=None)
    if observed is None:
        return forget_object(entry) if entry.deletion_at is not None else entry
    if observed.deleted_at is None and entry.deletion_at is not None:
        entry = replace(entry, deletion_at=None, deletion_approved=False)  # Someone else restored it.
    if ownership_of(observed, entry, instance_id) is not Ownership.OURS:
        return entry
    digests, differs = wanted_metadata(wanted), differing(wanted, observed, entry)
    in_step = {name: digest for name, digest in digests.items() if name not in differs}
    kept = {name: digest for name, digest in entry.metadata.items() if name in digests}
    metadata = kept | in_step
    return entry if metadata == dict(entry.metadata) else replace(entry, metadata=metadata)


def record_unwanted(entry: JournalEntry, observed: Observed | None, *, asked: bool, now: datetime) -> JournalEntry:
    """
    Return the entry of an object that is no longer wanted, after it was observed, with the time since when.

    Args:
        entry: its journal entry.
        observed: what AWS reports; None if absent.
        asked: whether AWS was asked; it is not asked about objects that are retained.
        now: the time.
    """
    if not asked:
        return entry
    if observed is None:
        # A create that got no answer may still land; its token has to be known then.
        return forget_object(entry) if entry.intent is None else entry
    if observed.deleted_at is None and entry.deletion_at is not None:
        # Someone restored it, and so wants to keep it: the grace period begins anew.
        return replace(entry, deletion_at=None, deletion_approved=False, unwanted_since=now)
    entry, since = _without_removed_copies(entry, observed), entry.unwanted_since
    # If the clock was ahead then and has been set back since, the grace period must not get longer by as much.
    return entry if since is not None and since <= now else replace(entry, unwanted_since=now)


def _without_removed_copies(entry: JournalEntry, observed: Observed | None) -> JournalEntry:
    """
    Return the entry without the copies that AWS no longer reports.

    Before an object is deleted its copies are removed. They count as ours until AWS no longer reports them, because a
    removal may take some time.
    """
    if observed is None:
        return entry
    left = tuple(region for region in entry.replicas_written if region in observed.replicas)
    return entry if left == entry.replicas_written else replace(entry, replicas_written=left)


def forget_object(entry: JournalEntry) -> JournalEntry:
    """Return the entry of an object that is gone for good; its generations go on, so that no token is used twice."""
    return JournalEntry(
        id=entry.id,
        sync_id=entry.sync_id,
        remote_name=entry.remote_name,
        account=entry.account,
        region=entry.region,
        generation=_newest_generation(entry),
        revisions=entry.revisions,
        sync_version=entry.sync_version,
    )


def _newest_generation(entry: JournalEntry) -> int:
    return entry.generation if entry.intent is None else max(entry.generation, entry.intent.generation)


def release_object(entry: JournalEntry) -> JournalEntry:
    """
    Return the entry of an object that the sync has released and that still exists.

    Its generations go on, so that no token is used twice if it is adopted again. So does the count of its versions,
    since AWS keeps counting them.
    """
    return replace(forget_object(entry), versions_at=entry.versions_at)


def accept_restore(entry: JournalEntry, ahead: int) -> JournalEntry:
    """
    Return the entry after an operator accepted this database, which is older than AWS.

    Its generations move past every token that the later state may have used. The result of an open intent is not known,
    so the payload counts as unknown and is written anew. The revisions that were written before no longer count.

    Args:
        entry: its journal entry.
        ahead: how many generations are skipped.
    """
    entry = replace(entry, revisions={}, sync_version=None if entry.sync_version is None else 0)
    generation = _newest_generation(entry) + ahead
    if entry.intent is None or entry.intent.action not in VALUE_WRITES:
        return replace(entry, generation=generation, intent=None)
    return replace(entry, generation=generation, fingerprint=None, intent=None)
