"""What a daemon does for the audit log: it logs the head each hour, and empties old rows once a day."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import cast

import pytest
import sqlalchemy as sa

from phasesync.core.audit import AuditKind
from phasesync.core.chores import AUDIT_RETENTION, Chore
from phasesync.core.events import AuditEmptied, AuditHeadNoted, Event, RetentionHeld
from phasesync.engine.claims import ClaimKeeper
from phasesync.engine.reconcile import Reconciler
from phasesync.engine.scheduler import Scheduler
from phasesync.ports.runtime import SyncDispatcher
from phasesync.store import Store
from phasesync.store.tables import audit, audit_head, chores
from tests.support.context import context_of
from tests.support.stores import alter, have_done_housekeeping

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
FOREVER = timedelta(days=36_500)


class Daemon:
    """A daemon on the store; it is active."""

    def __init__(self, store: Store, kept: Mapping[AuditKind, timedelta]) -> None:
        self.events: list[Event] = []
        context = context_of(store, events=self, owner="daemon-1")
        self.scheduler = Scheduler(
            context,
            host="localhost",
            pid=1,
            keeper=ClaimKeeper(context),
            dispatcher=cast(SyncDispatcher, None),
            reconciler=Reconciler(context),
            runs_kept=lambda: FOREVER,
            share_among=lambda _: None,
            audit_kept=lambda: kept,
        )
        assert self.scheduler.beat()
        self.events.clear()

    def emit(self, event: Event) -> None:
        self.events.append(event)


def hours_pass(store: Store, chore: str, hours: int = 24) -> None:
    """Have the daemons done their chores so many hours earlier, by the clock."""
    earlier = sa.type_coerce(chores.c.claimed_at, sa.BigInteger()) - hours * 3_600_000_000
    with store.database.write() as connection:
        assert connection.scalar(sa.select(chores.c.name).where(chores.c.name == chore)) is not None
        connection.execute(chores.update().values(claimed_at=earlier))


def test_the_head_is_logged_once_an_hour(store: Store) -> None:
    store.apps.add_app("shop")
    daemon = Daemon(store, {})
    for _ in range(2):
        assert daemon.scheduler.note_audit_head()
    assert daemon.events == [AuditHeadNoted(head=str(store.audit.head()))]
    hours_pass(store, Chore.AUDIT.value)
    store.apps.add_app("blog")
    assert daemon.scheduler.note_audit_head()
    assert daemon.events[1:] == [AuditHeadNoted(head=str(store.audit.head()))]


def test_an_altered_head_is_reported(store: Store) -> None:
    store.apps.add_app("shop")
    alter(store, audit_head, None, number=7)
    daemon = Daemon(store, {})
    assert daemon.scheduler.note_audit_head()
    assert daemon.events == [AuditHeadNoted(head=None)]


def test_old_rows_are_emptied_once_a_day_each_kind_after_its_time(store: Store) -> None:
    store.apps.add_app("shop")
    store.audit.add("secret.reveal", "shop/production", kind=AuditKind.REVEAL)
    store.apps.add_app("blog")
    have_done_housekeeping(store)
    daemon = Daemon(store, {AuditKind.CHANGE: timedelta(0), AuditKind.REVEAL: FOREVER})
    for _ in range(2):
        assert daemon.scheduler.prune()
    assert daemon.events == [AuditEmptied(emptied=2, dropped=1)]
    rows = store.audit.page(oldest_first=True).items
    assert [(row.number, row.entry and row.entry.action) for row in rows] == [
        (2, "secret.reveal"),
        (3, None),
        (4, "audit.empty"),
    ]
    assert store.audit.verify().findings == ()
    hours_pass(store, AUDIT_RETENTION)


def test_nothing_is_emptied_for_a_day_after_the_clock_went_forward(store: Store) -> None:
    """Or after a day without a daemon, which looks the same."""
    kept = {kind: timedelta(days=30) for kind in AuditKind}
    store.apps.add_app("shop")
    have_done_housekeeping(store)
    daemon = Daemon(store, kept)
    assert daemon.scheduler.prune()
    with store.database.write() as connection:
        earlier = sa.type_coerce(audit.c.at, sa.BigInteger()) - 40 * 86_400_000_000
        connection.execute(audit.update().values(at=earlier))
    rows = store.audit.page().items

    hours_pass(store, Chore.HOUSEKEEPING.value, 24 * 400)
    for hour in range(3):
        assert daemon.scheduler.prune()
        hours_pass(store, Chore.HOUSEKEEPING.value, 8)
        assert store.audit.page().items == rows, hour
    (held,) = daemon.events
    assert isinstance(held, RetentionHeld)
    assert held.gap_s == pytest.approx(400 * 86_400, abs=60)

    assert daemon.scheduler.prune()
    looked_through = store.daemons.since_chore(AUDIT_RETENTION)
    assert looked_through is not None
    assert looked_through < timedelta(minutes=1)


def test_the_first_housekeeping_deletes_nothing(store: Store) -> None:
    """The database is new, or was restored on a machine whose clock nobody has looked at yet."""
    store.apps.add_app("shop")
    daemon = Daemon(store, {kind: timedelta(0) for kind in AuditKind})
    assert daemon.scheduler.prune()
    assert daemon.events == [RetentionHeld(gap_s=None)]
    assert store.audit.verify().emptied == 0
