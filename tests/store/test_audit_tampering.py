"""What somebody without a key does to the audit log stops no work, hides nothing, and is named: on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest

from phasesync.core.audit import AuditHead, AuditKind
from phasesync.errors import CiphertextError
from phasesync.store import Store
from tests.support.audit_log import COPY, ROWS, findings, head, log, run

__all__ = ["log"]

ON_SQLITE = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
ON_POSTGRESQL = pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)


def test_a_log_that_was_removed_as_a_whole_is_missed_before_and_after_the_next_write(log: Store) -> None:
    run(log, "DELETE FROM audit", "DELETE FROM audit_head")
    assert findings(log) == [("head", 0, 0)]
    assert log.audit.head() is None
    log.apps.add_app("next")
    assert findings(log) == [("head", 1, 1)]


LAST = 2**63 - 1


@pytest.mark.parametrize("numbers", [[10], [11, 12], [10, 12, LAST], [2**62 - 1, 2**62, LAST], [-5, LAST]])
def test_rows_that_others_inserted_take_no_number_away_and_are_named(log: Store, numbers: list[int]) -> None:
    for number in numbers:
        run(log, COPY.format(number) + " WHERE number = 1")
    for name in ("next", "last"):
        log.apps.add_app(name)
    assert head(log).number < 20
    assert findings(log) == [("inserted", number, number) for number in numbers]
    assert len([row for row in log.audit.page(limit=50).items if not row.altered]) == ROWS + 2
    run(log, *(f"DELETE FROM audit WHERE number = {number}" for number in numbers))
    assert findings(log) == [], "what was inserted is gone, and nothing else is missing"


def test_pages_and_heads_go_beyond_any_number_that_others_inserted(log: Store) -> None:
    for number in (-5, LAST):
        run(log, COPY.format(number) + " WHERE number = 1")
    seen: list[int] = []
    after = None
    while (page := log.audit.page(after=after, limit=3)).next is not None:
        seen += [row.number for row in page.items]
        assert all(AuditHead.parse(str(row.head)) == row.head for row in page.items)
        after = page.next
    assert [*seen, *(row.number for row in page.items)] == [LAST, *range(ROWS, 0, -1), -5]


@ON_SQLITE
def test_only_our_rows_are_taken_over_if_the_head_was_altered(log: Store) -> None:
    run(log, COPY.format(LAST) + " WHERE number = 1", "UPDATE audit_head SET number = 6")
    log.apps.add_app("next")
    assert head(log).number == ROWS + 2
    assert findings(log) == [("head", 10, 10), ("inserted", LAST, LAST)]


@ON_SQLITE
@pytest.mark.parametrize("column", ["number", "at", "kind", "actor", "outcome", "details", "mac"])
def test_a_text_that_is_none_is_one_altered_row(log: Store, column: str) -> None:
    run(log, f"UPDATE audit SET {column} = CAST(x'ff41' AS TEXT) WHERE number = 3")
    expected = [("inserted", 10, 10), ("removed", 3, 3)] if column == "number" else [("altered", 3, 3)]
    assert sorted(findings(log)) == expected
    rows = log.audit.page().items
    assert [row.number for row in rows if row.altered] == ([] if column in ("number", "mac") else [3])
    assert len(rows) == ROWS - (column == "number")
    log.audit.empty(AuditKind.CHANGE, older_than=timedelta(0))
    log.audit.drop_empty()


@ON_SQLITE
def test_nothing_is_stored_while_a_trigger_keeps_rows_out_of_the_log(log: Store) -> None:
    run(
        log,
        "CREATE TRIGGER eve BEFORE INSERT ON audit BEGIN SELECT RAISE(IGNORE); END",
        "CREATE TRIGGER bob BEFORE UPDATE ON audit_head BEGIN SELECT RAISE(IGNORE); END",
    )
    with pytest.raises(CiphertextError, match="does not take rows of the audit log"):
        log.apps.add_app("next")
    assert "next" not in [app.name for app in log.apps.list_apps()]
    messages = [finding.message for finding in log.audit.verify().findings]
    assert messages == [
        "the trigger bob on table audit_head: it can keep rows out of the log",
        "the trigger eve on table audit: it can keep rows out of the log",
    ]


@ON_POSTGRESQL
@pytest.mark.parametrize("how", ["trigger", "rule"])
def test_nothing_is_stored_while_postgresql_is_told_to_keep_rows_out_of_the_log(log: Store, how: str) -> None:
    added = {
        "rule": [
            "CREATE RULE eve AS ON INSERT TO audit DO INSTEAD NOTHING",
            "CREATE RULE bob AS ON UPDATE TO audit_head DO INSTEAD NOTHING",
        ],
        "trigger": [
            "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "CREATE TRIGGER eve BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION nothing()",
            "CREATE TRIGGER bob BEFORE UPDATE ON audit_head FOR EACH ROW EXECUTE FUNCTION nothing()",
        ],
    }
    run(log, *added[how])
    with pytest.raises(CiphertextError, match="does not take rows of the audit log"):
        log.apps.add_app("next")
    assert "next" not in [app.name for app in log.apps.list_apps()]
    assert findings(log) == [("trigger", ROWS, ROWS)] * 2
