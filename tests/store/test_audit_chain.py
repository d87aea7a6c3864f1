"""Rows of the audit log: chained once at the end of a transaction, with all that it changes or not at all."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest
import sqlalchemy as sa

from phasesync.core.audit import AuditKind
from phasesync.core.sync import Trigger
from phasesync.errors import NotFoundError
from phasesync.store import Store
from phasesync.store.audit_chain import read_head
from phasesync.store.tables import audit
from tests.support.stores import ACTOR, add_sync, at_once, open_test_store, put, write


def actions(store: Store) -> list[tuple[int, str, str]]:
    with store.database.read() as connection:
        rows = connection.execute(sa.select(audit.c.number, audit.c.action, audit.c.object).order_by(audit.c.number))
        return [tuple(row) for row in rows]


def add_and_fail(store: Store) -> None:
    with store.database.transaction():
        store.apps.add_app("shop")
        store.apps.add_environment("stop", "production")


def test_a_row_is_written_with_the_change(store: Store) -> None:
    store.apps.add_app("shop")
    store.audit.add("secret.reveal", "shop/production", kind=AuditKind.REVEAL, details={"keys": ["URL"]})
    assert actions(store) == [(1, "app.add", "shop"), (2, "secret.reveal", "shop/production")]
    with store.database.read() as connection:
        head = read_head(store.keys, connection)
    assert head is not None
    assert head.number == 2


def test_what_is_rolled_back_leaves_no_row(store: Store) -> None:
    with store.database.rehearsal():
        store.apps.add_app("shop")
    with pytest.raises(NotFoundError):
        add_and_fail(store)
    with store.database.transaction():
        store.apps.add_app("other")
        with store.database.rehearsal():
            store.apps.add_app("shop")
    assert actions(store) == [(1, "app.add", "other")]


def test_a_transaction_has_its_rows_together(store: Store) -> None:
    with store.database.transaction():
        put(store, write())
    assert [action for _, action, _ in actions(store)] == ["app.add", "environment.add", "secret.set"]


@pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
def test_three_daemons_and_twenty_commands_at_once_make_one_chain(store: Store, migrated_database_url: str) -> None:
    """Nobody waits for another in a circle, no number is given twice, and each has written what it did."""
    add_sync(store)
    for number in range(20):
        store.apps.add_environment("shop", f"env{number}")
    before = store.audit.head()
    others = [open_test_store(migrated_database_url) for _ in range(23)]

    def command(number: int) -> None:
        for turn in range(3):
            put_into(others[number], f"env{number}", str(turn))

    def daemon(number: int) -> None:
        for _ in range(3):
            others[20 + number].sync_requests.request("web", Trigger.MANUAL, actor=ACTOR)

    works = [partial(command, number) for number in range(20)] + [partial(daemon, number) for number in range(3)]
    assert at_once(*works) == [None] * 23
    for other in others:
        other.close()
    assert before is not None
    verified = store.audit.verify([before])
    assert (verified.findings, verified.rows) == ((), before.number + 23 * 3)
    written = Counter((action, object_) for number, action, object_ in actions(store) if number > before.number)
    assert set(written.values()) == {3, 9}


def put_into(store: Store, environment: str, value: str) -> None:
    store.secrets.edit("shop", environment, actor=ACTOR, origin="set", writes=[write("URL", value)])
