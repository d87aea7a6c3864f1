"""
Detects a database that is older than AWS: a restored backup, or one of two copies at work.

Tokens of writes can be computed in advance. So a version at AWS that carries one of our next tokens was written by a
later state of this database, or by a copy of it. To go on would overwrite it with older values, so nothing is written
until an operator has decided.
"""

from collections.abc import Iterator
from typing import Final

from phasesync.core.fingerprint import Digests, write_token
from phasesync.core.remote import JournalEntry, Observed
from phasesync.engine.context import Context
from phasesync.errors import IllegalTransitionError, StaleDatabaseError

LOOK_BACK: Final = 10
"""How many of our own earlier writes are recognised, which saves the search ahead."""

LOOK_AHEAD: Final = 1_000
"""
How many writes ahead are recognised: at AWS's limit for versions of a secret, eleven days of them (1.3 ms).

If an operator accepts an older database, it skips as many generations: then it no longer recognises the later state,
while a copy that is still at work recognises its writes and halts.
"""


def check_not_stale(entry: JournalEntry, observed: Observed | None, digests: Digests, instance_id: str) -> None:
    """
    Refuse to go on if AWS shows a write of ours that the journal does not know.

    Args:
        entry: the object's journal entry, its intent settled as far as the observation allows.
        observed: what AWS shows, None if it does not exist.
        digests: make the tokens.
        instance_id: part of every token.

    Raises:
        StaleDatabaseError: this database is older than AWS.
    """
    open_token = entry.intent.token if entry.intent is not None else None
    if observed is None or observed.current_version in (None, entry.version_id, open_token):
        return
    unknown = set(observed.versions) - {entry.version_id, open_token}

    def tokens(generations: range) -> Iterator[str]:
        return (write_token(digests, instance_id, entry.sync_id, entry.remote_name, number) for number in generations)

    # The other versions are nearly always our own earlier writes.
    unknown.difference_update(tokens(range(max(1, entry.generation - LOOK_BACK), entry.generation + 1)))
    if not unknown:
        return
    later = range(entry.generation + 1, entry.generation + 1 + LOOK_AHEAD)
    if any(token in unknown for token in tokens(later)):
        raise newer_at_aws_error()


def token_may_be_spent(entry: JournalEntry, observed: Observed | None) -> bool:
    """
    Return whether the token of an open write may be spent, in a database that is known to be older than AWS.

    Either the write landed before the backup was made, or the later state used the token for another payload.

    Args:
        entry: the object's journal entry, as it was stored.
        observed: what AWS shows, None if it does not exist.
    """
    intent = entry.intent
    return observed is not None and intent is not None and intent.token in observed.versions


def check_may_release(context: Context) -> None:
    """Refuse to restore former tags while this database counts as older than AWS. IllegalTransitionError."""
    if context.store.restore_mark.is_set():
        raise IllegalTransitionError(
            "this database is an older backup that was not accepted, so nothing is written at AWS",
            hint="phasesync db accept-restore, and repeat it",
        )


def check_may_delete(context: Context) -> None:
    """Refuse to delete anything while this database counts as older than AWS. IllegalTransitionError."""
    if context.store.restore_mark.is_set():
        raise IllegalTransitionError(
            "this database is an older backup that no operator has accepted, so nothing is deleted at AWS",
            hint="phasesync db accept-restore, and repeat it",
        )


def not_accepted_error() -> StaleDatabaseError:
    """Return the error of a run that had something to write while this database counts as older than AWS."""
    return StaleDatabaseError(
        "this database is an older backup, or a copy of it is at work: nothing is written until that is accepted"
    )


def newer_at_aws_error() -> StaleDatabaseError:
    """Return the error for a database that is older than AWS."""
    return StaleDatabaseError(
        "AWS already has a write that this database has not made: the database is an older backup, or a copy of it is "
        "at work"
    )
