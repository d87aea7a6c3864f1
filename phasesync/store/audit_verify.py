"""
Verifies the chain of the audit log: names each row that was removed, altered, moved or inserted, and a cut tail.

A row authenticates by itself (its digest covers its number and all that is in it), and by its place (its MAC covers the
digest and the MAC of the row before). Rows are read once, in order. Those that do not authenticate in their place are
explained at the end: one that authenticates under another number was moved.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.audit import AuditHead, Finding, Tampering, Verification
from phasesync.store.audit_chain import (
    BROKEN,
    ChainEnds,
    authentic_head,
    authentic_row,
    chain,
    known_data_key,
    open_row,
    select_rows,
)
from phasesync.store.key_ring import KeyRing
from phasesync.store.tables import audit, audit_head

_BATCH: Final = 1000
_MOST_SUSPECTS: Final = 2000
"""Rows that are explained one by one; a finding says how many more there are."""
_MOST_TRIES: Final = 200
"""Numbers under which a row may have been written that are tried, the nearest first."""


class _Reader:
    """Reads the rows in order; notes what is wrong, and what has to be explained at the end."""

    def __init__(self, keys: KeyRing, ends: ChainEnds, *, newest: int | None, wanted: set[int]) -> None:
        """
        Args:
            keys: authenticate the rows.
            ends: of the chain.
            newest: the number of the newest row; None if the head does not say.
            wanted: numbers whose MACs are kept in `marks`.
        """
        self._keys = keys
        self._first, self._newest, self._wanted = ends.first_number, newest, wanted
        self._before: tuple[bytes, ...] = (ends.first_chained,)
        """MACs that the next row may follow; empty: unknown."""
        self._certain = True
        """Whether the row before authenticates."""
        self._since: tuple[tuple[bytes, ...], int, int] = (self._before, 0, 0)
        """Since the last row that authenticates: MACs that a row may follow which goes on there, and how many gaps and
        suspects were known then."""
        self.foreign: set[int] = set()
        """Numbers that phasesync passed over, since somebody else had put a row there."""
        self.expected = ends.first_number
        self.rows = self.emptied = self.more = 0
        self.missing: list[tuple[int, int]] = []
        self.suspects: list[sa.Row[Any]] = []
        self.findings: list[Finding] = []
        self.marks: dict[int, AuditHead] = {}

    def forget_before(self) -> None:
        """Take whatever the first row follows: the head does not say."""
        self._before = ()
        self._since = ((), 0, 0)

    def read(self, row: sa.Row[Any]) -> None:
        """Check a row."""
        number = row.number
        self.rows += 1
        if number is None:
            self.findings.append(_finding(Tampering.INSERTED, self.expected, self.expected, "no row has such a number"))
            return
        if number < self._first or (self._newest is not None and number > self._newest):
            self._suspect(row)
            return
        content = open_row(self._keys, row)
        if content is not None and (number > self.expected or not self._certain):
            self._pass_over(row)
        if number > self.expected:
            self.missing.append((self.expected, number - 1))
            self._before = ()
        self.expected = number + 1
        computed = self._macs(row, self._before)
        linked = not self._before or row.mac in computed
        if content is None:
            self._suspect(row)
        elif not linked and self._certain:
            what = (
                f"does not follow row {number - 1}: its MAC was altered, or one is from another copy of this database"
            )
            self.findings.append(_finding(Tampering.ALTERED, number, number, what))
        elif content.details is None:
            self.emptied += 1
        elif row.action == BROKEN:
            what = f"when it was written, the head had been altered: newer rows than {number - 1} may have been removed"
            self.findings.append(_finding(Tampering.HEAD, number, number, what))
        self._certain = content is not None
        # If its MAC is wrong, the next row shows what stood there when that was written.
        self._before = tuple(mac for mac in {row.mac, *computed} if mac is not None)
        if content is not None:
            self._since = self._before, len(self.missing), len(self.suspects)
        if number in self._wanted and row.mac is not None:
            self.marks[number] = AuditHead.of(number, row.mac)

    def _macs(self, row: sa.Row[Any], followed: Iterable[bytes]) -> tuple[bytes, ...]:
        """Return the MACs that a row can have, by what it may follow."""
        return () if row.digest is None else tuple(chain(self._keys, before, row.digest) for before in followed)

    def _pass_over(self, row: sa.Row[Any]) -> None:
        """Take what stands before an authentic row for that of others, if it follows the authentic row before them."""
        followed, gaps, suspects = self._since
        if row.mac not in self._macs(row, followed):
            return
        del self.missing[gaps:]
        self.foreign.update(suspect.number for suspect in self.suspects[suspects:] if suspect.number >= self._first)
        self._before, self.expected = followed, row.number

    def _suspect(self, row: sa.Row[Any]) -> None:
        if len(self.suspects) < _MOST_SUSPECTS:
            self.suspects.append(row)
        else:
            self.more += 1


def verify_chain(keys: KeyRing, connection: sa.Connection, known: Sequence[AuditHead]) -> Verification:
    """
    Verify the audit log in one snapshot.

    Args:
        keys: authenticate the rows.
        connection: of a read.
        known: heads that were kept elsewhere: the log has to contain these rows as they were then.
    """
    stored = connection.execute(sa.select(audit_head).where(audit_head.c.id == 1)).first()
    head = authentic_head(keys, stored)
    oldest = None if head is not None else authentic_row(keys, connection)
    ends = head or ChainEnds(first_number=1 if oldest is None else oldest.number)
    newest = None if head is None else head.number
    reader = _Reader(keys, ends, newest=newest, wanted={ends.number, *(one.number for one in known)})
    if head is None and ends.first_number > 1:
        reader.forget_before()
    every = select_rows(connection.dialect.name, with_all=True).order_by(audit.c.number)
    with connection.execute(every.execution_options(yield_per=_BATCH)) as rows:
        for row in rows:
            reader.read(row)
    last = reader.expected - 1
    if newest is not None and last < newest:
        reader.missing.append((last + 1, newest))
    findings = [*reader.findings, *_explain(keys, connection, reader, ends.first_number, newest)]
    if head is None and (stored is not None or reader.rows or known_data_key(keys) is not None):
        findings.append(_about_head(last, "missing" if stored is None else "altered"))
    elif head is not None and not findings and head.number and reader.marks[head.number] != _head_of(head):
        findings.append(_about_head(head.number, "not that of the newest row"))
    findings += [
        Finding(tampering=Tampering.TRIGGER, first=last, last=last, message=f"{name}: it can keep rows out of the log")
        for name in connection.scalars(sa.text(_ADDED[connection.dialect.name]))
    ]
    notes: list[str] = []
    for one in known:
        findings += _compare(one, ends, last if newest is None else newest, reader.marks, notes)
    return Verification(
        rows=reader.rows,
        emptied=reader.emptied,
        first=ends.first_number,
        head=None if head is None else _head_of(head),
        findings=tuple(sorted(findings, key=lambda finding: (finding.first, finding.last, finding.tampering.value))),
        notes=tuple(notes),
    )


_ADDED: Final = {
    "sqlite": """
        SELECT 'the trigger ' || name || ' on table ' || tbl_name FROM sqlite_master
        WHERE type = 'trigger' AND lower(tbl_name) IN ('audit', 'audit_head') ORDER BY 1
    """,
    "postgresql": """
        SELECT what || ' ' || name || ' on table ' || relname FROM (
            SELECT 'the trigger', tgname, tgrelid FROM pg_trigger WHERE NOT tgisinternal
            UNION ALL SELECT 'the rule', rulename, ev_class FROM pg_rewrite
            UNION ALL SELECT 'the policy', polname, polrelid FROM pg_policy
        ) AS added (what, name, relation)
        JOIN pg_class ON pg_class.oid = relation
        WHERE pg_table_is_visible(relation) AND relname IN ('audit', 'audit_head') ORDER BY 1
    """,
}
"""What somebody has added to the tables of the log; phasesync adds no such thing."""


def _head_of(ends: ChainEnds) -> AuditHead:
    return AuditHead.of(ends.number, ends.chained)


def _about_head(number: int, what: str) -> Finding:
    message = f"the head of the audit log is {what}: whether rows after {number} were removed cannot be seen here"
    return Finding(tampering=Tampering.HEAD, first=number, last=number, message=message)


def _compare(
    known: AuditHead, ends: ChainEnds, newest: int, marks: dict[int, AuditHead], notes: list[str]
) -> Iterator[Finding]:
    """Compare the log with a head that was kept elsewhere."""
    if known.number > newest:
        message = (
            f"row {known.number} was there when its head was kept, and the log ends with row {newest}: the tail was "
            "cut off, or an older copy of the database was put back"
        )
        yield Finding(tampering=Tampering.CUT, first=newest + 1, last=known.number, message=message)
        return
    if known.number < ends.first_number - 1:
        notes.append(f"{known} cannot be compared: retention has removed the rows before {ends.first_number}")
        return
    if known.number == ends.first_number - 1:
        there: AuditHead | None = AuditHead.of(known.number, ends.first_chained)
    else:
        there = marks.get(known.number)  # If it is missing, that is a finding already.
    if there is not None and there != known:
        message = (
            f"row {known.number} is not the one whose head was kept: the tail was cut off before it, and other rows "
            "were written since"
        )
        yield Finding(tampering=Tampering.CUT, first=known.number, last=known.number, message=message)


def _explain(
    keys: KeyRing, connection: sa.Connection, reader: _Reader, first: int, newest: int | None
) -> Iterator[Finding]:
    """Say what happened to the rows that do not authenticate in their place, and to the numbers without a row."""
    upto = reader.expected - 1 if newest is None else newest
    places = {row.number for row in reader.suspects}
    # Numbers that phasesync wrote and that no row has in its place.
    lost = {number for number in places if first <= number <= upto} - reader.foreign
    long_gaps = [gap for gap in reader.missing if gap[1] - gap[0] >= _MOST_SUSPECTS]
    for begin, end in reader.missing:
        if (begin, end) not in long_gaps:
            lost.update(range(begin, end + 1))
    moved: dict[int, int] = {}
    unknown: list[sa.Row[Any]] = []
    nearest = 0
    for row in reader.suspects:
        original = _original(keys, row, lost, nearest)
        if original is None:
            unknown.append(row)
        else:
            moved[row.number], nearest = original, original - row.number
            lost.discard(original)
    for place, original in sorted(moved.items()):
        yield _finding(Tampering.REORDERED, place, place, f"reordered: this was row {original}")
    altered = {row.number for row in unknown} & lost
    for begin, end in _as_ranges(altered):
        yield _finding(Tampering.ALTERED, begin, end, "altered outside phasesync")
    lost -= altered
    yield from _inserted(keys, connection, [row for row in unknown if row.number not in altered])
    for begin, end in sorted([*_as_ranges(lost), *long_gaps]):
        if end == newest:
            yield _finding(Tampering.CUT, begin, end, "missing: the tail was cut off")
        else:
            yield _finding(Tampering.REMOVED, begin, end, "missing: removed outside phasesync")
    if reader.more:
        yield _finding(Tampering.ALTERED, upto, upto, f"{reader.more} more rows up to here do not authenticate")


def _original(keys: KeyRing, row: Any, lost: set[int], nearest: int) -> int | None:
    """
    Return the number under which a row was written; None if there is none.

    `nearest`: how far the row before was moved, which is tried first.
    """
    likely: int = row.number + nearest
    if likely in lost and open_row(keys, row, number=likely) is not None:
        return likely
    others = heapq.nsmallest(_MOST_TRIES, lost, key=lambda number: abs(number - row.number))
    return next((number for number in others if open_row(keys, row, number=number) is not None), None)


def _inserted(keys: KeyRing, connection: sa.Connection, rows: Sequence[sa.Row[Any]]) -> Iterator[Finding]:
    """Say what rows are that have no place in the chain."""
    put_back = {row.number for row in rows if open_row(keys, row) is not None}
    for begin, end in _as_ranges(put_back):
        what = "authentic, and beyond what the head names: an older head or an old row was put back"
        yield _finding(Tampering.HEAD, begin, end, what)
    strange = {row.number: row.digest for row in rows if row.number not in put_back}
    same = sa.select(audit.c.number, audit.c.digest).where(audit.c.digest.in_(list(strange.values())))
    originals = {row.digest: row.number for row in connection.execute(same) if row.number not in strange}
    for number in [number for number, digest in strange.items() if digest in originals]:
        what = f"inserted: a copy of row {originals[strange.pop(number)]}"
        yield _finding(Tampering.INSERTED, number, number, what)
    for begin, end in _as_ranges(strange):
        yield _finding(Tampering.INSERTED, begin, end, "inserted: phasesync did not write that")


def _finding(tampering: Tampering, first: int, last: int, what: str) -> Finding:
    rows = f"row {first}" if first == last else f"rows {first} to {last}"
    return Finding(tampering=tampering, first=first, last=last, message=f"{rows}: {what}")


def _as_ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return the ranges of consecutive numbers."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges
