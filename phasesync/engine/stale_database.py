"""
Detects a database that is older than AWS: a restored backup, or one of two copies at work.

Tokens of writes can be computed in advance. So a version at AWS that carries one of our next tokens was written by a
later state of this database, or by a copy of it. To go on would overwrite it with older values, so nothing is written
until an operator has decided. A deletion has a token, too: it is a tag of the object that is scheduled for deletion.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from phasesync.core.fingerprint import Digests, tokens_among
from phasesync.core.planning.ownership import owner_tags
from phasesync.core.remote import TAG_DELETION, JournalEntry, Observed
from phasesync.engine.context import Context
from phasesync.errors import IllegalTransitionError, StaleDatabaseError

LOOK_BACK: Final = 10
"""How many of our own earlier writes are recognised, which saves the search ahead."""

LOOK_AHEAD: Final = 1_000
"""How many writes ahead are recognised at an object without our tags, which no run writes to without a consent."""

FAR_AHEAD: Final = 100_000
"""
How many writes ahead are recognised at an object with our tags: at AWS's limit for versions, three years of them.

It is 200 times as many as `SKIP`: a copy recognises the writes of a database that was accepted often, and long ago.
"""

SKIP: Final = 500
"""
How many generations an operator skips who accepts an older database.

Then it no longer recognises the later state, while copies that are still at work recognise its writes and halt: also
those of release 0.1.0, which looks 1,000 ahead. If the later state wrote an object more often, it is recognised once
more, and the operator accepts once more.
"""

_REMEMBERED: Final = 4_096
"""How many objects with a version of others are not searched again while nothing changes about them: 0.1 s each."""


def check_not_stale(entry: JournalEntry, observed: Observed | None, digests: Digests, instance_id: str) -> None:
    """
    Refuse to go on if AWS shows a write or a deletion of ours that the journal does not know.

    Args:
        entry: the object's journal entry, its intent settled as far as the observation allows.
        observed: what AWS shows, None if it does not exist.
        digests: make the tokens.
        instance_id: part of every token.

    Raises:
        StaleDatabaseError: this database is older than AWS.
    """
    if observed is None:
        return
    known = {None, entry.version_id, entry.intent.token if entry.intent is not None else None}
    shown = set() if observed.current_version in known else set(observed.versions)
    # The tag of an earlier deletion stays on an object that was restored, and says nothing then.
    if observed.deleted_at is not None and (deletion := observed.tags.get(TAG_DELETION)) is not None:
        shown.add(deletion)
    if not (unknown := frozenset(shown - known)):
        return
    ours = owner_tags(instance_id, entry.sync_id).items() <= observed.tags.items()
    ahead = FAR_AHEAD if ours else LOOK_AHEAD
    if _is_later(unknown, digests, instance_id, entry.sync_id, entry.remote_name, entry.generation, ahead):
        raise newer_at_aws_error()


@lru_cache(maxsize=_REMEMBERED)
def _is_later(
    unknown: frozenset[str],
    digests: Digests,
    instance_id: str,
    sync_id: str,
    remote_name: str,
    generation: int,
    ahead: int,
) -> bool:
    """Return whether one of these texts is the token of a write, or of a deletion, that comes after a generation."""

    def written(texts: frozenset[str], generations: range) -> Iterator[str]:
        return tokens_among(texts, digests, instance_id, sync_id, remote_name, generations)

    # Nearly always they are our own earlier writes, or after an acceptance those that it skipped.
    for back in (LOOK_BACK, LOOK_BACK + SKIP):
        unknown -= set(written(unknown, range(max(1, generation - back), generation + 1)))
        if not unknown:
            return False
    later = written(unknown, range(generation + 1, generation + 1 + ahead))
    return next(later, None) is not None


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
        "AWS already has a write or a deletion that this database has not made: the database is an older backup, or a "
        "copy of it is at work"
    )
