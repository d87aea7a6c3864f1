"""
The audit log: writing what changes nothing here, listing, verifying, and emptying old rows.

What a write does is written by the write itself, in its own transaction: see `BaseStore._audit`. Each row is chained to
the one before: see `audit_chain.py`.

Retention empties a row: who, what and the details go, number, time, kind, digest and MAC stay, so that the chain can
still be verified. Once all rows at the beginning are empty, they are deleted, and the head says what the first row that
is left follows. Rows that do not authenticate are neither emptied nor deleted: they are evidence.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.audit import AuditEntry, AuditHead, AuditKind, AuditOutcome, AuditRow, Verification
from phasesync.core.pages import PAGE_SIZE, Page, bad_cursor, page_of
from phasesync.store.audit_chain import (
    PLAIN,
    ChainEnds,
    authentic_head,
    chain,
    emptied_mark,
    known_data_key,
    lock_head,
    open_row,
    read_head,
    select_rows,
    store_head,
)
from phasesync.store.base import BaseStore
from phasesync.store.db_time import before, from_microseconds
from phasesync.store.key_ring import same_mac
from phasesync.store.tables import audit

_CONTENT: Final = PLAIN[3:]
"""Columns that retention empties, beside `details`."""

_UNREADABLE: Final = "?"
_NO_TIME: Final = from_microseconds(0)


@dataclass(frozen=True, kw_only=True)
class AuditFilter:
    """Which rows of the audit log; None, or nothing: all."""

    since: datetime | None = None
    until: datetime | None = None
    actor: str | None = None
    object: str | None = None
    actions: Sequence[str] = ()
    kinds: Sequence[AuditKind] = ()


EVERYTHING: Final = AuditFilter()


class AuditStore(BaseStore):
    """The audit log."""

    def add(
        self,
        action: str,
        object: str,
        *,
        kind: AuditKind,
        outcome: AuditOutcome = AuditOutcome.DONE,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Write what somebody did that changes nothing here: a reveal, an export, an attempt that was refused.

        A reveal is written before the plaintext is shown. For the arguments see `BaseStore._audit`.
        """
        with self._database.write() as connection:
            self._audit(connection, action, object, kind=kind, outcome=outcome, details=details)

    def page(
        self,
        which: AuditFilter = EVERYTHING,
        *,
        after: str | None = None,
        limit: int = PAGE_SIZE,
        oldest_first: bool = False,
    ) -> Page[AuditRow]:
        """
        Return rows, newest first or oldest first. Rows that retention has emptied have no entry.

        InvalidInputError for the cursor, which is the number of a row.
        """
        number = audit.c.number
        conditions = _conditions(which)
        if after is not None:
            place = _from_cursor(after)
            conditions.append(number > place if oldest_first else number < place)
        with self._database.read() as connection:
            statement = select_rows(connection.dialect.name).where(*conditions).limit(limit + 1)
            statement = statement.order_by(number if oldest_first else number.desc())
            rows = connection.execute(statement).all()
        return page_of(rows, limit, self._to_row, lambda row: str(row.number))

    def head(self) -> AuditHead | None:
        """Return the newest row of the chain, number 0 if there is none yet; None if the head was altered."""
        with self._database.read() as connection:
            ends = read_head(self._keys, connection)
            there_was_one = connection.scalar(sa.select(audit.c.number).limit(1)) is not None
            if ends is None and not there_was_one and known_data_key(self._keys) is None:
                ends = ChainEnds()
        return None if ends is None else AuditHead.of(ends.number, ends.chained)

    def head_of(self, number: int) -> AuditHead | None:
        """Return the head as it was when a row was the newest one; None if there is no such row (any more)."""
        with self._database.read() as connection:
            ends = read_head(self._keys, connection)
            if ends is not None and number == ends.first_number - 1:
                return AuditHead.of(number, ends.first_chained)
            mac = connection.scalar(sa.select(audit.c.mac).where(audit.c.number == number))
        return AuditHead.of(number, mac) if isinstance(mac, bytes) else None

    def verify(self, known: Sequence[AuditHead] = ()) -> Verification:
        """Verify the whole chain; `known`: heads that were kept elsewhere. See `audit_verify.py`."""
        from phasesync.store.audit_verify import verify_chain  # Nothing else needs it.

        with self._database.read() as connection:
            return verify_chain(self._keys, connection, known)

    def empty(
        self, kind: AuditKind, *, older_than: timedelta, after: int = 0, limit: int = 500
    ) -> tuple[int, int | None]:
        """
        Empty rows of a kind that are older than this, in one short transaction.

        Args:
            kind: of the rows.
            older_than: age of the rows.
            after: number of the row where the former call ended; 0 begins with the oldest.
            limit: how many rows to look at.

        Returns:
            How many were emptied, and where to go on; None: there are no more.
        """
        old = (audit.c.kind == kind.value) & (audit.c.at < before(older_than)) & audit.c.actor.is_not(None)
        with self._database.read() as connection:
            statement = select_rows(connection.dialect.name).where(old, audit.c.number > after)
            rows = connection.execute(statement.order_by(audit.c.number).limit(limit)).all()
        emptied = [
            {"of_row": row.number, "mark": emptied_mark(self._keys, row.number, row.micros, row.kind, row.digest)}
            for row in rows
            if open_row(self._keys, row) is not None
        ]
        if emptied:
            cleared = dict.fromkeys(_CONTENT, None)
            with self._database.write() as connection:
                connection.execute(
                    audit.update()
                    .where(audit.c.number == sa.bindparam("of_row"))
                    .values(**cleared, details=sa.bindparam("mark")),
                    emptied,
                )
        return len(emptied), rows[-1].number if len(rows) == limit else None

    def drop_empty(self, *, limit: int = 500) -> int:
        """
        Delete up to `limit` empty rows at the beginning of the chain, and move its beginning; return how many.

        Rows behind the first one that is not empty, or does not authenticate in its place, stay.
        """
        with self._database.write() as connection:
            statement = select_rows(connection.dialect.name).order_by(audit.c.number).limit(limit)
            head = authentic_head(self._keys, lock_head(connection))
            if head is None:
                return 0
            first, chained, dropped = head.first_number, head.first_chained, 0
            for row in connection.execute(statement).all():
                opened = open_row(self._keys, row)
                if opened is None or opened.details is not None or row.number < first or row.number == head.number:
                    break
                if not same_mac(row.mac, chain(self._keys, chained, row.digest)):
                    break
                first, chained, dropped = row.number + 1, row.mac, dropped + 1
            if dropped:
                connection.execute(audit.delete().where(audit.c.number < first))
                store_head(self._keys, connection, replace(head, first_number=first, first_chained=chained))
            return dropped

    def _to_row(self, row: sa.Row[Any]) -> AuditRow:
        opened = open_row(self._keys, row)
        entry = None
        if row.actor is not None or opened is None:
            content = None if opened is None else opened.details
            entry = AuditEntry(
                action=str(row.action or _UNREADABLE),
                object=str(row.object or _UNREADABLE),
                kind=AuditKind.CHANGE if opened is None else AuditKind(row.kind),
                outcome=AuditOutcome.DONE if opened is None else AuditOutcome(row.outcome),
                details={} if content is None else content.details,
                before=None if content is None else content.before,
                after=None if content is None else content.after,
                actor=str(row.actor or _UNREADABLE),
            )
        return AuditRow(
            number=row.number,
            at=row.at or _NO_TIME,
            kind=str(row.kind),
            source=str(row.source or ""),
            entry=entry,
            altered=opened is None,
            head=AuditHead.of(row.number, row.mac if isinstance(row.mac, bytes) else b""),
        )


def _conditions(which: AuditFilter) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if which.since is not None:
        conditions.append(audit.c.at >= which.since)
    if which.until is not None:
        conditions.append(audit.c.at < which.until)
    if which.actor is not None:
        claimed = audit.c.actor.endswith(f" as {which.actor}", autoescape=True)
        conditions.append(sa.or_(_is_or_begins(audit.c.actor, which.actor, " as "), claimed))
    if which.object is not None:
        conditions.append(
            _is_or_begins(audit.c.object, which.object, "/")
        )  # environments of an app, leases of a recipe
    if which.actions:
        conditions.append(audit.c.action.in_(which.actions))
    if which.kinds:
        conditions.append(audit.c.kind.in_([kind.value for kind in which.kinds]))
    return conditions


def _is_or_begins(column: sa.Column[Any], text: str, follows: str) -> sa.ColumnElement[bool]:
    return (column == text) | column.startswith(text + follows, autoescape=True)


def _from_cursor(cursor: str) -> int:
    if _NUMBER.fullmatch(cursor) is None or not -(2**63) <= int(cursor) < 2**63:
        raise bad_cursor()
    return int(cursor)


_NUMBER: Final = re.compile("-?[0-9]{1,19}")
"""Of any row, also of one that phasesync did not write."""
