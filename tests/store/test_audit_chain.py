"""Rows of the audit log: chained once at the end of a transaction, with all that it changes or not at all."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from phasesync.core.audit import AuditKind
from phasesync.errors import NotFoundError
from phasesync.store import Store
from phasesync.store.audit_chain import read_head
from phasesync.store.tables import audit
from tests.support.stores import put, write


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
