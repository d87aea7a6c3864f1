"""The chain of the audit log: each kind of tampering by somebody without the key is found, and named."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from phasesync.core.audit import AuditHead, AuditKind, Tampering
from phasesync.store import Store
from phasesync.store.audit import AuditFilter
from phasesync.store.audit_chain import BROKEN
from phasesync.store.tables import audit, audit_head
from tests.support.audit_log import COPY, ROWS, findings, head, log, run

__all__ = ["log"]

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)


def test_an_untouched_log_verifies(log: Store) -> None:
    verified = log.audit.verify([head(log), AuditHead(number=0, digest="0" * 32)])
    assert (verified.rows, verified.emptied, verified.first, verified.findings) == (ROWS, 0, 1, ())
    assert verified.head == head(log)


def test_a_database_without_a_log_verifies(store: Store) -> None:
    verified = store.audit.verify()
    assert (verified.rows, verified.head, verified.findings) == (0, None, ())


SHIFT_DOWN = [f"UPDATE audit SET number = {number - 1} WHERE number = {number}" for number in range(6, ROWS + 1)]
SHIFT_UP = [f"UPDATE audit SET number = {number + 1} WHERE number = {number}" for number in range(ROWS, 4, -1)]


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        (["DELETE FROM audit WHERE number = 5"], [("removed", 5, 5)]),
        (["DELETE FROM audit WHERE number IN (3, 5, 6)"], [("removed", 3, 3), ("removed", 5, 6)]),
        (["DELETE FROM audit WHERE number = 1"], [("removed", 1, 1)]),
        (["DELETE FROM audit WHERE number > 7"], [("cut", 8, 9)]),
        (["DELETE FROM audit"], [("cut", 1, 9)]),
        (["DELETE FROM audit WHERE number = 5", *SHIFT_DOWN],
         [("removed", 5, 5), *(("reordered", number, number) for number in range(5, ROWS))]),
        (["UPDATE audit SET number = 99 WHERE number = 3", "UPDATE audit SET number = 3 WHERE number = 6",
          "UPDATE audit SET number = 6 WHERE number = 99"], [("reordered", 3, 3), ("reordered", 6, 6)]),
        ([COPY.format(10) + " WHERE number = 9"], [("inserted", 10, 10)]),
        ([*SHIFT_UP, COPY.format(5) + " WHERE number = 6",
          "UPDATE audit SET actor = 'eve' WHERE number = 5"],
         [("inserted", 5, 5), *(("reordered", number, number) for number in range(6, ROWS + 2))]),
        ([COPY.format(0) + " WHERE number = 4"], [("inserted", 0, 0)]),
        (["UPDATE audit_head SET number = 8"], [("head", 9, 9)]),
        (["DELETE FROM audit_head"], [("head", 9, 9)]),
    ],
)  # fmt: skip
def test_tampering_is_named(log: Store, statements: list[str], expected: list[tuple[str, int, int]]) -> None:
    run(log, *statements)
    assert findings(log) == expected


@pytest.mark.parametrize("column", [column.name for column in audit.c if column.name != "number"])
def test_each_column_of_a_row_is_covered(log: Store, column: str) -> None:
    kind = audit.c[column].type
    value = "x'00'" if isinstance(kind, sa.LargeBinary) else "1" if column == "at" else "'eve'"
    run(log, f"UPDATE audit SET {column} = {value} WHERE number = 5")
    assert findings(log) == [("altered", 5, 5)]


@pytest.mark.parametrize("column", [column.name for column in audit_head.c if column.name != "id"])
def test_each_column_of_the_head_is_covered(log: Store, column: str) -> None:
    value = "x'00'" if isinstance(audit_head.c[column].type, sa.LargeBinary) else "3"
    run(log, f"UPDATE audit_head SET {column} = {value}")
    assert [name for name, _, _ in findings(log)] == ["head"]


def test_a_row_without_who_and_what_does_not_pass_for_one_that_retention_emptied(log: Store) -> None:
    nothing = "actor = NULL, source = NULL, action = NULL, object = NULL, outcome = NULL"
    run(log, f"UPDATE audit SET {nothing}, details = x'00' WHERE number = 5")
    assert findings(log) == [("altered", 5, 5)]


def old_state(store: Store) -> list[str]:
    """Return the statements that put back the head as it is now."""
    with store.database.read() as connection:
        row = connection.execute(sa.select(audit_head)).one()
    binary = ("chained", "first_chained", "mac")
    columns = [f"{name} = x'{getattr(row, name).hex()}'" for name in binary]
    return [f"UPDATE audit_head SET number = {row.number}, first_number = {row.first_number}, {', '.join(columns)}"]


def test_a_tail_that_was_cut_with_its_head_is_found_by_a_head_that_was_kept_elsewhere(log: Store) -> None:
    older = old_state(log)
    log.apps.add_app("bad")
    kept = head(log)
    run(log, "DELETE FROM audit WHERE number > 9", *older)
    assert findings(log) == [], "here nothing shows it"
    assert findings(log, kept) == [("cut", 10, 10)]
    log.apps.add_app("innocent")
    assert head(log).number == kept.number
    assert findings(log, kept) == [("cut", 10, 10)], "another row stands there now"
    assert findings(log, head(log)) == []


def test_rows_beyond_an_old_head_are_named(log: Store) -> None:
    older = old_state(log)
    log.apps.add_app("bad")
    run(log, *older)
    assert findings(log) == [("head", 10, 10)]


def test_work_goes_on_after_the_head_was_altered_and_the_log_says_so(log: Store) -> None:
    run(log, "DELETE FROM audit WHERE number > 6", "UPDATE audit_head SET number = 6")
    log.apps.add_app("next")
    rows = log.audit.page(oldest_first=True).items
    assert [row.entry.action for row in rows[6:] if row.entry] == [BROKEN, "app.add"]
    assert findings(log) == [("head", 7, 7)]
    log.apps.add_app("last")
    assert findings(log) == [("head", 7, 7)]


def test_a_log_in_another_order_is_explained_row_by_row(log: Store) -> None:
    run(log, "UPDATE audit SET number = -number", f"UPDATE audit SET number = {ROWS + 1} + number")
    assert findings(log) == [("reordered", number, number) for number in range(1, ROWS + 1) if number != 5]


# --- lists


def test_rows_are_listed_with_what_was_encrypted(log: Store) -> None:
    log.audit.add("secret.reveal", "shop/production", kind=AuditKind.REVEAL, details={"keys": ["/URL"]})
    log.apps.update_app("a1", new_name="b1")
    newest, reveal, *_ = log.audit.page().items
    assert reveal.entry is not None
    assert newest.entry is not None
    assert reveal.entry.details == {"keys": ["/URL"]}
    assert (newest.entry.object, newest.entry.details) == ("a1", {"renamed_to": "b1"})
    assert newest.entry.before != newest.entry.after
    (first,) = log.audit.page(AuditFilter(object="a1", actions=["app.add"])).items
    assert first.entry is not None
    assert first.entry.after == newest.entry.before, "what an object is now is what the next change finds"
    with log.database.read() as connection:
        assert b"URL" not in b"".join(connection.scalars(sa.select(audit.c.details)))


def test_filters_and_pages(log: Store) -> None:
    log.audit.add("secret.reveal", "a1/production", kind=AuditKind.REVEAL)

    def numbers(which: AuditFilter, **options: Any) -> list[int]:
        return [row.number for row in log.audit.page(which, **options).items]

    assert numbers(AuditFilter(object="a1")) == [10, 1]
    assert numbers(AuditFilter(kinds=[AuditKind.REVEAL])) == [10]
    assert numbers(AuditFilter(actor="unknown"), limit=2) == [10, 9]
    assert numbers(AuditFilter(actor="un")) == []
    assert numbers(AuditFilter(), limit=2, after="9") == [8, 7]
    assert numbers(AuditFilter(), limit=2, after="7", oldest_first=True) == [8, 9]


def test_an_altered_row_is_listed_as_altered(log: Store) -> None:
    run(log, "UPDATE audit SET actor = 'eve' WHERE number = 5")
    assert [row.number for row in log.audit.page().items if row.altered] == [5]


# --- retention


def test_retention_empties_a_kind_and_the_chain_stays_provable(log: Store) -> None:
    log.audit.add("secret.reveal", "shop/production", kind=AuditKind.REVEAL)
    log.apps.add_app("newer")
    kept = head(log)
    assert log.audit.empty(AuditKind.CHANGE, older_than=timedelta(0), limit=6) == (6, 6)
    assert log.audit.empty(AuditKind.CHANGE, older_than=timedelta(0), after=6, limit=6) == (4, None)
    assert findings(log, kept) == []
    assert log.audit.verify().emptied == ROWS + 1
    rows = log.audit.page(oldest_first=True).items
    assert [row.number for row in rows if row.entry is not None] == [10]
    run(log, "UPDATE audit SET at = 5 WHERE number = 3")
    assert findings(log) == [("altered", 3, 3)]


def test_empty_rows_at_the_beginning_are_dropped(log: Store) -> None:
    log.audit.add("secret.reveal", "shop/production", kind=AuditKind.REVEAL)
    first = log.audit.head_of(4)
    log.audit.empty(AuditKind.CHANGE, older_than=timedelta(0))
    assert [log.audit.drop_empty(limit=6), log.audit.drop_empty(), log.audit.drop_empty()] == [6, 3, 0]
    verified = log.audit.verify([head(log), AuditHead(number=9, digest=str(log.audit.head_of(9)).partition(":")[2])])
    assert (verified.first, verified.rows, verified.findings, verified.notes) == (10, 1, (), ())
    assert first is not None
    assert "cannot be compared" in log.audit.verify([first]).notes[0]
    log.apps.add_app("next")
    assert findings(log) == []
    run(log, "DELETE FROM audit WHERE number = 10")
    assert findings(log) == [("removed", 10, 10)]


@pytest.mark.parametrize(
    "tamper",
    [
        "UPDATE audit SET action = 'eve' WHERE number = 3",
        "UPDATE audit SET mac = x'00' WHERE number = 3",
        "DELETE FROM audit WHERE number = 3",
    ],
)
def test_retention_deletes_no_evidence(log: Store, tamper: str) -> None:
    run(log, tamper)
    before = findings(log)
    log.audit.empty(AuditKind.CHANGE, older_than=timedelta(0))
    while log.audit.drop_empty():
        pass
    assert findings(log) == before
    assert before[0][0] in {Tampering.ALTERED.value, Tampering.REMOVED.value}


def test_the_newest_row_stays(log: Store) -> None:
    log.audit.empty(AuditKind.CHANGE, older_than=timedelta(0))
    while log.audit.drop_empty():
        pass
    assert log.audit.verify().rows == 1
