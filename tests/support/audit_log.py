"""An audit log of nine rows, and what somebody may do to it who can write to the database and has no key."""

from __future__ import annotations

import pytest

from phasesync.core.audit import AuditHead
from phasesync.store import Store

ROWS = 9

COPY = "INSERT INTO audit SELECT {}, at, kind, actor, source, action, object, outcome, details, digest, mac FROM audit"


@pytest.fixture
def log(store: Store) -> Store:
    """Nine rows: apps a1 to a9."""
    for number in range(1, ROWS + 1):
        store.apps.add_app(f"a{number}")
    return store


def run(store: Store, *statements: str) -> None:
    """Do what somebody does who can write to the database and has no key."""
    with store.database.engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def findings(store: Store, *known: AuditHead) -> list[tuple[str, int, int]]:
    found = store.audit.verify(known).findings
    return [(finding.tampering.value, finding.first, finding.last) for finding in found]


def head(store: Store) -> AuditHead:
    newest = store.audit.head()
    assert newest is not None
    return newest
