"""Old runs and leases are deleted in short steps; the newest run of each sync stays, however old it is."""

from datetime import timedelta
from itertools import chain, repeat
from types import SimpleNamespace

import sqlalchemy as sa

from phasesync.core.run import Outcome
from phasesync.core.sync import Trigger
from phasesync.engine import retention
from phasesync.engine.retention import Pruned, prune
from phasesync.store import Store
from phasesync.store.db_time import before
from phasesync.store.tables import runs
from tests.contracts.test_paging import log
from tests.support.sql import counted
from tests.support.stores import ACTOR, TTL, add_dynamic, add_sync, end_lease, issue_lease
from tests.support.vouching import vouch_for_leases

DAY = timedelta(days=1)


def aged(store: Store, count: int, name: str = "web") -> list[str]:
    """Log runs of a sync, all older than a month; return their ids, oldest first."""
    return [log(store, name, ago=60 * DAY - n * DAY / 10).id for n in range(count)]


def ids(store: Store) -> list[str]:
    return [run.id for run in reversed(store.runs.list_runs(limit=100))]


def pruned(store: Store, **changes: object) -> tuple[Pruned, list[timedelta]]:
    """Run the retention of a month; return what was deleted, and the pauses."""
    pauses: list[timedelta] = []
    times = iter(range(100_000))
    context = SimpleNamespace(
        store=store, leases=store.leases(ttl=TTL), clock=SimpleNamespace(monotonic=lambda: next(times) / 1000)
    )
    arguments = {"older_than": 30 * DAY, "with_leases": True, "pause": pauses.append, "stopped": lambda: False}
    return prune(context, **arguments | changes), pauses  # type: ignore[arg-type]


def test_a_step_looks_at_no_more_runs_than_it_may(store: Store) -> None:
    add_sync(store)
    made = aged(store, 10)

    step = store.runs.prune_runs(older_than=30 * DAY, limit=4)

    assert step.count == 4
    assert ids(store) == made[4:]


def test_steps_go_on_after_runs_that_stay(store: Store) -> None:
    """The newest runs of idle syncs are the oldest runs of all: no step may begin with them again and again."""
    for name in ("a", "b", "c", "d"):
        add_sync(store, name)
    stay = [log(store, name, ago=90 * DAY).id for name in ("a", "b", "c")]
    made = aged(store, 5, "d")

    steps, after = [], None
    while True:
        step = store.runs.prune_runs(older_than=30 * DAY, limit=2, after=after)
        steps.append(step.count)
        if (after := step.next) is None:
            break

    assert steps == [0, 1, 2, 1, 0]
    assert ids(store) == [*stay, made[-1]]


def test_the_newest_run_of_a_sync_is_the_last_that_was_stored(store: Store) -> None:
    """Also where the clock was set back, and a later run has an earlier end."""
    add_sync(store)
    log(store, ago=50 * DAY)
    later = log(store, ago=70 * DAY)

    pruned(store)

    assert ids(store) == [later.id]
    assert store.syncs.get_sync("web").last_run_id == later.id


def test_each_step_is_a_transaction_and_a_pause_follows(store: Store, monkeypatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 3)
    add_sync(store)
    aged(store, 10)

    with counted(store.database.engine) as statements:
        done, pauses = pruned(store, with_leases=False)

    deletes = [statement for statement in statements if statement.startswith("DELETE FROM runs")]
    assert done == Pruned(runs=9, leases=0)
    assert len(deletes) == 4 and len(pauses) == 3
    assert min(pauses) > timedelta(0)


def test_a_stop_ends_it_after_the_step_and_the_next_goes_on(store: Store, monkeypatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 3)
    add_sync(store)
    made = aged(store, 10)
    stops = chain([False], repeat(True))

    done, _ = pruned(store, stopped=lambda: next(stops))

    assert (done.runs, ids(store)) == (3, made[3:])
    assert pruned(store)[0].runs == 6


def test_leases_that_ended_long_ago_go_in_steps_too(store: Store, monkeypatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    dynamic = add_dynamic(store)
    for _ in range(5):
        end_lease(store, issue_lease(store, dynamic))
    with store.database.write() as connection:
        connection.execute(sa.text("UPDATE leases SET ended_at = ended_at - 90 * CAST(86400000000 AS BIGINT)"))
    vouch_for_leases(store.database)

    done, pauses = pruned(store)

    assert (done.leases, len(pauses)) == (5, 2)
    assert store.leases(ttl=TTL).list_leases(ended=True) == []


def test_young_runs_and_runs_under_way_stay(store: Store) -> None:
    add_sync(store)
    young = [log(store, ago=n * DAY, outcome=Outcome.FAILED).id for n in (9, 5, 1)]
    store.claims.claim(store.syncs.get_sync("web").id, "me", trigger=Trigger.MANUAL, actor=ACTOR, ttl=TTL)

    assert pruned(store)[0] == Pruned(runs=0, leases=0)
    assert ids(store) == young
    with store.database.read() as connection:
        old = sa.select(sa.func.count()).select_from(runs).where(runs.c.ended_at < before(30 * DAY))
        assert connection.scalar(old) == 0
