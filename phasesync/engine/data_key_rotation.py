"""
Replaces data keys, and has everything encrypted anew under the new ones, while others work with the database.

    replace every key -> encrypt what names a former key, pass by pass -> remove the former keys

Each step is a short transaction of its own. Interrupted anywhere, the next call goes on: a key that has taken the place
of one which is still there is not replaced a second time.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from phasesync.engine.context import Context
from phasesync.errors import CiphertextError

if TYPE_CHECKING:
    from phasesync.store.data_keys import RemovedKeys

BATCH: Final = 250
"""Rows in one transaction: on SQLite about 20 ms. A value has up to 64 KiB."""
_SHORTEST_PAUSE: Final = timedelta(milliseconds=5)
"""Between two transactions, in which others write: SQLite allows one write at a time."""
_ATTEMPTS: Final = 40
"""To remove the former keys: a write in progress may still name one."""
_BETWEEN_ATTEMPTS: Final = timedelta(milliseconds=250)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """
    How far it is.

    Attributes:
        replaced: keys that were replaced.
        rows: rows that were encrypted anew.
    """

    replaced: int = 0
    rows: int = 0


@dataclass(frozen=True, kw_only=True)
class Rotated:
    """
    What was done.

    Attributes:
        replaced: labels of environments, and purposes of shared keys, that have a new key.
        went_on: it went on with a call that was interrupted.
        rows: rows that were encrypted anew.
        removed: former keys that are gone.
        kept: former keys that are still there.
        held_by: hosts of daemons of a former release, which keep the former keys.
        unread: tables with rows that do not authenticate; they are as they were.
        errors: environments that were altered and have their former key, and why.
    """

    replaced: tuple[str, ...]
    went_on: bool
    rows: int
    removed: int
    kept: int
    held_by: tuple[str, ...]
    unread: tuple[str, ...]
    errors: tuple[str, ...]


def rotate_data_keys(
    context: Context,
    *,
    environment: tuple[str, str] | None,
    report: Callable[[Progress], object],
    pause: Callable[[timedelta], object],
    batch: int = BATCH,
) -> Rotated:
    """
    Replace the data key of an environment, or every data key but the one of digests.

    Args:
        context: its store has the keys.
        environment: app and name; None means everything.
        report: called after each step.
        pause: waits between two steps.
        batch: rows in one transaction.

    Raises:
        NotFoundError: there is no such environment.
    """
    store = context.store.data_keys
    wanted = store.in_use(environment)
    replaced: list[str] = []
    errors: list[str] = []

    def tell() -> None:
        report(Progress(replaced=len(replaced), rows=rows.count))

    rows = _Rows(context, pause=pause, batch=batch, report=tell)
    if store.former():
        rows.encrypt()
    # A key that only unreadable rows name is from long ago; it does not mean that a call was interrupted.
    begun = {key.retired_at for key in store.former() if key.retired_at is not None and key.id not in rows.unread}
    for key in wanted:
        began = context.clock.monotonic()
        try:
            if store.replace(key, made_at=begun):
                replaced.append(key.label)
                tell()
                pause(_pause_after(context.clock.monotonic() - began))
        except CiphertextError as error:
            errors.append(error.message)
    rows.encrypt()
    removed = _remove(context, rows, pause)
    return Rotated(
        replaced=tuple(replaced),
        went_on=bool(begun),
        rows=rows.count,
        removed=removed.removed,
        kept=len(removed.kept),
        held_by=removed.held_by,
        unread=tuple(sorted(set(rows.unread.values()))),
        errors=tuple(errors),
    )


def _pause_after(seconds: float) -> timedelta:
    """Return how long others may write after a transaction of this length."""
    return max(_SHORTEST_PAUSE, timedelta(seconds=seconds))


class _Rows:
    """The rows that name a former key: encrypts them anew, and counts."""

    def __init__(
        self,
        context: Context,
        *,
        pause: Callable[[timedelta], object],
        batch: int,
        report: Callable[[], object],
    ) -> None:
        self._store = context.store.data_keys
        self._clock = context.clock
        self._pause, self._batch, self._report = pause, batch, report
        self.count = 0
        self.unread: dict[str, str] = {}
        """Id of a former key -> a table with a row under it that does not authenticate."""

    def encrypt(self) -> None:
        """Go through all tables until nothing is found: while it does, others may still write under a former key."""
        while self._one_pass():
            pass

    def _one_pass(self) -> int:
        from phasesync.store.data_keys import encrypted_tables

        before = self.count
        for table in encrypted_tables():
            after: tuple[object, ...] | None = None
            while True:
                began = self._clock.monotonic()
                done = self._store.encrypt_anew(table, after=after, limit=self._batch)
                self.unread |= {key_id: name for name, key_id in done.unread}
                if done.rows:
                    self.count += done.rows
                    self._report()
                    self._pause(_pause_after(self._clock.monotonic() - began))
                if done.next is None:
                    break
                after = done.next
        return self.count - before


def _remove(context: Context, rows: _Rows, pause: Callable[[timedelta], object]) -> "RemovedKeys":
    """Remove the former keys, as soon as no row names them; return what became of them."""
    outcome = context.store.data_keys.remove_former()
    removed = outcome.removed
    for _ in range(_ATTEMPTS):
        if outcome.held_by or outcome.kept <= rows.unread.keys():
            break
        pause(_BETWEEN_ATTEMPTS)
        rows.encrypt()
        outcome = context.store.data_keys.remove_former()
        removed += outcome.removed
    return replace(outcome, removed=removed)
