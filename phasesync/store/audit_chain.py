"""
The chain of the audit log: rows are added at the end of the transaction of what they are about.

    row n     digest  = keyed digest of number, time, kind, actor, source, action, object, outcome and the plain details
              mac     = keyed digest of the MAC of row n - 1 and this digest
    head      number and MAC of the newest row, what the first row that is left follows, and a MAC over these

Who adds rows locks the head. That is the last lock that a transaction takes and is held until its commit, which follows
at once: so two writers never wait for each other in a circle, and the order of the numbers is the order of the commits.

The digest covers the plain details, so the chain stays valid if they are encrypted anew under another key. A row that
retention has emptied keeps digest and MAC; `details` then holds a keyed digest that proves who emptied it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.audit import AuditEntry, Caller
from phasesync.errors import CiphertextError, KeyUnavailableError
from phasesync.store.database import insert_or_update, row_lock
from phasesync.store.db_time import from_microseconds, now
from phasesync.store.key_ring import UNVERSIONED, KeyRing, insert_key, same_mac
from phasesync.store.serialization import from_json, to_json
from phasesync.store.tables import audit, audit_head

AUDIT_KEY: Final = "audit"
"""Purpose of the data key of details."""

START: Final = b"\0" * 32
"""What the first row of all follows."""

BROKEN: Final = "audit.broken"
"""The action of a row that was added where the head did not authenticate: it was altered or removed."""


@dataclass(frozen=True, kw_only=True)
class AuditDetails:
    """The content of the column `details`."""

    details: Mapping[str, Any] = field(default_factory=dict)
    before: str | None = None
    after: str | None = None


def configuration_digest(keys: KeyRing, configuration: object) -> str | None:
    """Return a keyed digest of a configuration, plain data or bytes, as 32 hex digits; None for None."""
    if configuration is None:
        return None
    plain = configuration if isinstance(configuration, bytes) else to_json(configuration).encode("utf-8", "replace")
    return keys.digests.digest("audit-configuration", plain).hex()[:32]


def append_rows(
    keys: KeyRing, caller: Caller, connection: sa.Connection, entries: Sequence[AuditEntry], key_id: str | None
) -> None:
    """
    Add rows at the end of the chain; the transaction must lock nothing more afterwards, and commit.

    `key_id`: of `known_data_key`, which the transaction holds already.

    Raises:
        CiphertextError: something in the database keeps the log from growing.
    """
    locked = _lock_head(keys, connection)
    if locked.broken:
        entries = (AuditEntry(action=BROKEN, object="audit"), *entries)
    key_id = key_id or _make_data_key(keys, connection)
    number, chained, at = locked.ends.number, locked.ends.chained, locked.clock
    rows = []
    for entry in entries:
        number = locked.next_free(number)
        actor = entry.actor or caller.actor
        plain = (number, at, entry.kind.value, actor, caller.source, entry.action, entry.object, entry.outcome.value)
        content = to_json(AuditDetails(details=entry.details, before=entry.before, after=entry.after))
        details = content.encode("utf-8", "replace")
        digest = row_digest(keys, plain, details)
        chained = chain(keys, chained, digest)
        columns = dict(zip(PLAIN, plain, strict=True)) | {"at": from_microseconds(at)}
        sealed = keys.encrypt(key_id, details_context(number), details)
        rows.append({**columns, "details": sealed, "digest": digest, "mac": chained})
    keys.forget_used(key_id)
    connection.execute(audit.insert(), rows)
    store_head(keys, connection, replace(locked.ends, number=number, chained=chained))


PLAIN: Final = ("number", "at", "kind", "actor", "source", "action", "object", "outcome")
"""Columns of a row that are not encrypted, in the order in which its digest covers them."""


def row_digest(keys: KeyRing, plain: Sequence[object], details: bytes) -> bytes:
    """Return the digest of a row: of its columns in the order of `PLAIN`, with the time in microseconds."""
    return keys.digests.digest("audit-row", *(str(value).encode("utf-8", "replace") for value in plain), details)


def chain(keys: KeyRing, before: bytes, digest: bytes) -> bytes:
    """Return the MAC of a row that follows the row with the MAC `before`."""
    return keys.digests.digest("audit-chain", before, digest)


def emptied_mark(keys: KeyRing, number: int, at: int, kind: str, digest: bytes) -> bytes:
    """Return what `details` of a row holds that retention has emptied: nobody without the key can empty one."""
    return keys.digests.digest("audit-emptied", str(number).encode(), str(at).encode(), kind.encode(), digest)


@cache
def select_rows(dialect: str, *, with_all: bool = False) -> sa.Select[Any]:
    """
    Return the select behind `open_row`; `micros` is the time as it is stored.

    SQLite stores a value of any type in any column, and any bytes as text, which its driver refuses to return. There, a
    value of another type becomes NULL, and a text that is none gets replacement characters: neither authenticates. What
    is no number cannot be shown as one, so such a row is left out, unless it is asked `with_all`.
    """
    if dialect != "sqlite":
        return sa.select(audit, sa.type_coerce(audit.c.at, sa.BigInteger()).label("micros"))
    columns: list[sa.ColumnElement[Any]] = []
    for column in audit.c:
        if isinstance(column.type, sa.LargeBinary):
            columns.append(_if_stored_as("blob", column, column).label(column.name))
        elif isinstance(column.type, sa.String):
            columns.append(_if_stored_as("text", column, sa.cast(column, _Decoded())).label(column.name))
        else:
            columns.append(_if_stored_as("integer", column, column).label(column.name))
    micros = sa.type_coerce(_if_stored_as("integer", audit.c.at, audit.c.at), sa.BigInteger()).label("micros")
    statement = sa.select(*columns, micros)
    return statement if with_all else statement.where(sa.func.typeof(audit.c.number) == "integer")


def _if_stored_as(kind: str, column: sa.Column[Any], value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.case((sa.func.typeof(column) == kind, value))


class _Decoded(sa.types.TypeDecorator[str]):
    """Bytes of a text, read as text."""

    impl = sa.LargeBinary
    cache_ok = True

    def process_result_value(self, value: bytes | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else value.decode("utf-8", "replace")


@dataclass(frozen=True, kw_only=True)
class OpenedRow:
    """
    What is in a row of `select_rows`.

    Attributes:
        details: None if retention has emptied the row.
    """

    details: AuditDetails | None


def open_row(keys: KeyRing, row: sa.Row[Any], *, number: int | None = None) -> OpenedRow | None:
    """
    Return what is in a row; None if it does not authenticate by itself. Its place in the chain is another matter.

    `number`: the number under which it may have been written, if not its own.
    """
    if row.number is None or row.digest is None or row.details is None:
        return None
    own = int(row.number) if number is None else number
    if row.actor is None:
        mark = emptied_mark(keys, own, row.micros, str(row.kind), row.digest)
        empty = all(getattr(row, name) is None for name in ("source", "action", "object", "outcome"))
        return OpenedRow(details=None) if empty and same_mac(row.details, mark) else None
    try:
        details = keys.decrypt(details_context(own), row.details)
    except CiphertextError:
        return None
    plain = (own, row.micros, *(getattr(row, name) for name in PLAIN[2:]))
    if not same_mac(row.digest, row_digest(keys, plain, details)):
        return None
    return OpenedRow(details=from_json(AuditDetails, details))


def details_context(number: int) -> tuple[str, ...]:
    """Return the place of the details of a row, which is bound to their ciphertext."""
    return ("audit", str(number), "details", UNVERSIONED)


@dataclass(frozen=True, kw_only=True)
class ChainEnds:
    """
    The row of `audit_head`.

    Attributes:
        number: of the newest row; 0 = there was none yet.
        chained: its MAC.
        first_number: of the first row that retention has left.
        first_chained: the MAC that the first row follows.
    """

    number: int = 0
    chained: bytes = START
    first_number: int = 1
    first_chained: bytes = START


def read_head(keys: KeyRing, connection: sa.Connection) -> ChainEnds | None:
    """Return the row of the head; None if there is none, or it does not authenticate."""
    return authentic_head(keys, connection.execute(sa.select(audit_head).where(audit_head.c.id == 1)).first())


def store_head(keys: KeyRing, connection: sa.Connection, head: ChainEnds) -> None:
    """Store the head; its row has to be locked. CiphertextError if the database does not take it."""
    values = {**vars(head), "mac": _head_mac(keys, head)}
    if connection.execute(audit_head.update().where(audit_head.c.id == 1).values(values)).rowcount != 1:
        raise _kept_from_growing()


def _kept_from_growing() -> CiphertextError:
    return CiphertextError(
        "the database does not take rows of the audit log: a trigger or a rule was added outside phasesync; nothing "
        "was stored",
        hint="phasesync audit verify names it; remove it",
    )


def lock_head(connection: sa.Connection) -> sa.Row[Any] | None:
    """Lock the row of the head and return it, with `clock` and `newest` (a number); None if there is none."""
    return connection.execute(_select_head(connection.dialect.name)).first()


@cache
def _select_head(dialect: str) -> sa.Select[Any]:
    # Not max(), for which SQLite would read every row once it leaves out what is no number.
    number = select_rows(dialect).with_only_columns(audit.c.number).order_by(audit.c.number.desc()).limit(1)
    newest = number.scalar_subquery().label("newest")
    return row_lock(sa.select(audit_head, now().label("clock"), newest).where(audit_head.c.id == 1), audit_head)


@dataclass(frozen=True, kw_only=True)
class _LockedHead:
    """
    The head, for the next row.

    Attributes:
        broken: it was altered, removed or put back.
        taken: numbers after the head that rows have which phasesync did not write.
    """

    ends: ChainEnds
    clock: int
    broken: bool = False
    taken: frozenset[int] = frozenset()

    def next_free(self, number: int) -> int:
        """Return the number of the row that follows a number."""
        number += 1
        while number in self.taken:
            number += 1
        return number


def _lock_head(keys: KeyRing, connection: sa.Connection) -> _LockedHead:
    """Lock the head; make it if there is none. CiphertextError if the database does not take it."""
    row = lock_head(connection)
    was_removed = False
    if row is None:
        first = ChainEnds()
        made = insert_or_update(connection.dialect.name, audit_head).values(
            id=1, **vars(first), mac=_head_mac(keys, first)
        )
        # Another transaction may make it in the same moment.
        is_new = connection.execute(made.on_conflict_do_nothing().returning(audit_head.c.id)).first() is not None
        was_removed = is_new and known_data_key(keys) is not None
        if (row := lock_head(connection)) is None:
            raise _kept_from_growing()
    ends = None if was_removed else authentic_head(keys, row)
    if ends is not None and (row.newest or 0) <= ends.number:
        return _LockedHead(ends=ends, clock=row.clock)
    # Work goes on with what is there: whoever can alter the head must not be able to stop it. `verify` names the rows.
    newest = authentic_row(keys, connection, after=None if ends is None else ends.number, last=True)
    broken = ends is None or newest is not None
    if ends is None:
        oldest = authentic_row(keys, connection)
        ends = ChainEnds() if oldest is None else ChainEnds(first_number=oldest.number)
    if newest is not None:
        ends = replace(ends, number=newest.number, chained=newest.mac or START)
    beyond = select_rows(connection.dialect.name).where(audit.c.number > ends.number)
    taken = connection.scalars(beyond.with_only_columns(audit.c.number))
    return _LockedHead(ends=ends, clock=row.clock, broken=broken, taken=frozenset(taken))


def authentic_row(
    keys: KeyRing, connection: sa.Connection, *, after: int | None = None, last: bool = False
) -> sa.Row[Any] | None:
    """Return the first or last row, of those after a number, that authenticates by itself; None if there is none."""
    statement = select_rows(connection.dialect.name).execution_options(yield_per=_BATCH)
    if after is not None:
        statement = statement.where(audit.c.number > after)
    with connection.execute(statement.order_by(audit.c.number.desc() if last else audit.c.number)) as rows:
        return next((row for row in rows if open_row(keys, row) is not None), None)


_BATCH: Final = 200


def authentic_head(keys: KeyRing, row: sa.Row[Any] | None) -> ChainEnds | None:
    """Return the head of its row; None if there is none, or it does not authenticate."""
    if row is None or not isinstance(row.number, int) or not isinstance(row.first_number, int):
        return None
    if not isinstance(row.chained, bytes) or not isinstance(row.first_chained, bytes):
        return None
    head = ChainEnds(
        number=row.number, chained=row.chained, first_number=row.first_number, first_chained=row.first_chained
    )
    return head if same_mac(row.mac, _head_mac(keys, head)) else None


def _head_mac(keys: KeyRing, head: ChainEnds) -> bytes:
    numbers = (str(head.number).encode(), str(head.first_number).encode())
    return keys.digests.digest("audit-head", *numbers, head.chained, head.first_chained)


def known_data_key(keys: KeyRing) -> str | None:
    """Return the id of the data key of details; None if there is none yet."""
    try:
        return keys.data_key(AUDIT_KEY)
    except KeyUnavailableError:
        return None


def _make_data_key(keys: KeyRing, connection: sa.Connection) -> str:
    """Return the id of the data key of details; make it with the first row. The head is locked."""
    if (known := known_data_key(keys)) is not None:
        return known
    insert_key(connection, key := keys.new_data_key(AUDIT_KEY))
    return key.id
