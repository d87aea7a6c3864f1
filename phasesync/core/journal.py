"""
The life of one write in the journal: intent -> call -> settled. Pure; the engine stores what these return.

An intent that is still open keeps its generation and token: a successor spends the same token with its own payload.
Then a late old request is refused by AWS, whoever sends it. A token that may have carried two payloads proves nothing
by being there; only a put that AWS accepts does.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from phasesync.core.fingerprint import same
from phasesync.core.plan import VALUE_WRITES
from phasesync.core.remote import Action, Intent, JournalEntry, Observed, Payload


def next_generation(entry: JournalEntry) -> int:
    """Return the generation of the next write: that of the open write, or a new one."""
    if entry.intent is not None and entry.intent.action in VALUE_WRITES:
        return entry.intent.generation
    return entry.generation + 1


def intend_write(entry: JournalEntry, action: Action, payload: Payload, token: str, now: datetime) -> JournalEntry:
    """Return the entry with the intent to write this payload under this token."""
    former = entry.intent if entry.intent is not None and entry.intent.action in VALUE_WRITES else None
    payloads = 1
    if former is not None:
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
    )
    return replace(entry, intent=intent)


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
    return replace(entry, intent=intent)


def settle_restore(entry: JournalEntry) -> JournalEntry:
    """Return the entry after a restore; an open write stays open."""
    if entry.intent is None or entry.intent.action is not Action.RESTORE:
        return entry
    return replace(entry, intent=None)


def settle_write(
    entry: JournalEntry, payload: Payload, *, arn: str, version_id: str, tags_written: Mapping[str, str] | None = None
) -> JournalEntry:
    """Return the entry after AWS accepted this payload under the intent's token."""
    return replace(
        entry,
        arn=arn,
        version_id=version_id,
        generation=next_generation(entry),
        fingerprint=payload.fingerprint,
        keys=payload.keys,
        tags_written=entry.tags_written if tags_written is None else tags_written,
        intent=None,
    )


def settle_spent(entry: JournalEntry, before: Intent, *, arn: str) -> JournalEntry:
    """
    Return the entry after AWS answered that the token is spent on another payload: an earlier write had landed.

    Args:
        entry: with the intent whose call was refused.
        before: the intent as it was before that call; with a single payload it tells what landed.
        arn: the object's ARN.
    """
    return replace(
        entry,
        arn=arn,
        version_id=before.token,
        generation=before.generation,
        fingerprint=before.fingerprint if before.payloads == 1 else None,
        keys=before.keys,
        intent=None,
    )


def settle_by_evidence(entry: JournalEntry, observed: Observed | None) -> JournalEntry:
    """
    Return the entry with its intent settled as far as looking alone can prove it; unchanged where it cannot.

    A labelled version that carries the token proves the write when the token was only ever sent with one payload.
    """
    intent = entry.intent
    if intent is None or observed is None:
        return entry
    if intent.action is Action.RESTORE:
        return entry if observed.deleted_at is not None else settle_restore(entry)
    if intent.payloads != 1 or intent.token not in observed.versions:
        return entry
    return settle_spent(entry, intent, arn=observed.arn)
