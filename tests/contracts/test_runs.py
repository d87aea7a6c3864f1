"""Runs: the sync log."""

from datetime import UTC, datetime, timedelta

import pytest

from phasesync.core.run import ChangeResult, Outcome, RunError
from phasesync.core.sync import SyncStatus, Trigger
from phasesync.errors import NotFoundError
from tests.support.stores import TTL, add_sync, after, claim_one, finish, run_of

DAY = timedelta(days=1)


def change(remote_name: str = "shop/web", version_id: str | None = "v1") -> ChangeResult:
    return ChangeResult(
        action="put", remote_name=remote_name, outcome=Outcome.APPLIED, reason="value differs", version_id=version_id
    )


def log(store, name: str = "web", **changes: object):
    """Log a run of a sync, by hand."""
    sync = store.syncs.get_sync(name)
    claim = store.claims.claim(sync.id, "me", trigger=Trigger.MANUAL, actor="ada", ttl=TTL)
    run = run_of(claim, sync=name, **changes)
    store.runs.finish(claim, run, after())
    return run


def ago(pause: timedelta) -> datetime:
    return datetime.now(UTC) - pause


def test_a_run_comes_back_as_it_was_logged(store):
    add_sync(store)
    run = log(
        store,
        outcome=Outcome.FAILED,
        attempt=3,
        started_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        revisions={"shop/production": 7},
        counts={"put": 1, "noop": 2},
        aws_calls=4,
        versions_written=1,
        error=RunError(cls="ThrottledError", code="Throttling", message="slow down", request_id="r-1", hint="wait"),
        next_attempt_at=datetime(2026, 1, 2, 4, tzinfo=UTC),
        changes=(change(), change("other", None)),
    )
    assert store.runs.get_run(run.id) == run
    assert store.runs.list_runs() == [run]
    assert store.syncs.get_sync("web").last_run_id == run.id


def test_what_a_run_leaves_behind_is_on_the_sync(store):
    sync = add_sync(store)
    claim = claim_one(store)
    left = finish(
        store,
        claim,
        run_of(claim),
        after(
            status=SyncStatus.HELD,
            reason="emptying: URL, USER",
            reads={sync.environment_id: 0},
            applied_revision=0,
            failures=2,
            retry_in=timedelta(minutes=1),
            due_in=timedelta(minutes=2),
        ),
    )
    assert left == store.syncs.get_sync("web")
    assert (left.settled_status, left.status_reason, left.failures) == (SyncStatus.HELD, "emptying: URL, USER", 2)
    assert (left.reads, left.applied_revision, left.running) == ({sync.environment_id: 0}, 0, False)
    assert left.retry_at is not None
    assert left.next_due_at is not None
    assert timedelta(seconds=59) < left.next_due_at - left.retry_at < timedelta(seconds=61)


def test_what_a_run_does_not_say_stays(store):
    sync = add_sync(store)
    claim = claim_one(store)
    store.runs.finish(claim, run_of(claim), after(reads={sync.environment_id: 0}, applied_revision=0))
    log(store)
    left = store.syncs.get_sync("web")
    assert (left.reads, left.applied_revision) == ({sync.environment_id: 0}, 0)


def test_runs_are_listed_newest_first_and_filtered(store):
    add_sync(store, "web")
    add_sync(store, "two")
    first = log(store, "web", ended_at=ago(3 * DAY))
    second = log(store, "two", outcome=Outcome.APPLIED)
    third = log(store, "web", outcome=Outcome.FAILED)
    assert store.runs.list_runs() == [third, second, first]
    assert store.runs.list_runs(limit=1) == [third]
    assert store.runs.list_runs(sync="WEB") == [third, first]
    assert store.runs.list_runs(outcomes=[Outcome.APPLIED, Outcome.FAILED]) == [third, second]
    assert store.runs.list_runs(since=ago(DAY)) == [third, second]
    with pytest.raises(NotFoundError):
        store.runs.list_runs(sync="nope")


def test_runs_are_followed_oldest_first(store):
    add_sync(store)
    first, second, third = (log(store) for _ in range(3))
    assert store.runs.list_runs(after=first.id) == [second, third]
    assert store.runs.list_runs(after=first.id, limit=1) == [second]
    assert store.runs.list_runs(after=third.id) == []
    with pytest.raises(NotFoundError):
        store.runs.list_runs(after="nope")


def test_an_unknown_run_is_not_found(store):
    with pytest.raises(NotFoundError, match="nope"):
        store.runs.get_run("nope")


def test_old_runs_are_pruned_but_the_newest_of_each_sync_stays(store):
    add_sync(store, "web")
    add_sync(store, "two")
    log(store, "web", ended_at=ago(100 * DAY))
    kept_web = log(store, "web", ended_at=ago(95 * DAY))
    log(store, "two", ended_at=ago(100 * DAY))
    young = log(store, "two", ended_at=ago(DAY))
    assert store.runs.prune_runs(older_than=90 * DAY).count == 2
    assert store.runs.list_runs() == [young, kept_web]
    assert store.runs.prune_runs(older_than=90 * DAY).count == 0


def test_the_end_of_the_log_has_runs_that_ended_together_whatever_their_ids(store):
    """Ids begin with the time; the rest is random. Syncs that are claimed together end together."""
    add_sync(store)
    ended = [log(store, id=f"{0x19F:012x}{tail}") for tail in ("ffffffffffff", "888888888888", "000000000000")]

    tail = store.runs.tail(sync=None, outcomes=(), since=None, limit=10)
    assert list(tail.runs) == ended
    assert tail.last_id == ended[-1].id
    assert [run.id for run in store.runs.tail(sync="web", outcomes=(), since=None, limit=2).runs] == [
        run.id for run in ended[1:]
    ]
    later = log(store, outcome=Outcome.FAILED)
    assert store.runs.list_runs(after=tail.last_id) == [later]
    # What is not shown is not followed again either.
    assert store.runs.tail(sync=None, outcomes=(Outcome.HELD,), since=None, limit=10).last_id == later.id


def test_a_log_without_runs_has_no_end(store):
    tail = store.runs.tail(sync=None, outcomes=(), since=None, limit=10)
    assert (tail.runs, tail.last_id) == ((), None)
