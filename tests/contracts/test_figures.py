"""The figures of metrics: they agree with what lists show, and say since when something waits."""

from collections import Counter
from datetime import timedelta

import pytest
import sqlalchemy as sa

from phasesync.core.chores import DaemonRole
from phasesync.core.lease import LeaseStatus
from phasesync.core.planning.version_budget import BURST, REFILL
from phasesync.core.run import RunError
from phasesync.core.sync import Paused, SyncStatus, Trigger
from phasesync.core.sync_status import status_of
from phasesync.errors import StaleDatabaseError
from phasesync.store import Store
from phasesync.store.db_time import from_microseconds, now
from phasesync.store.figures import MOST_SYNCS, Figures
from phasesync.store.tables import leases, syncs
from tests.support.stores import (
    TTL,
    add_dynamic,
    add_sync,
    after,
    alter,
    claim_due,
    claim_one,
    issue_lease,
    move_lease,
    put,
    run_of,
    settle,
    write,
)
from tests.support.values import HOUR
from tests.support.whole_account import Size, fill

MINUTE = timedelta(minutes=1)
REVOCABLE = ("aws-iam-user",)


def figures(store: Store, *, each: bool = False) -> Figures:
    return store.figures.read(revocable=REVOCABLE, each=each)


def back(store: Store, *columns: str, by: timedelta = HOUR) -> None:
    """Move instants of all syncs into the past."""
    with store.database.write() as connection:
        microseconds = by // timedelta(microseconds=1)
        moved = {name: sa.type_coerce(syncs.c[name], sa.BigInteger()) - microseconds for name in columns}
        connection.execute(syncs.update().values(moved))


def apply_all(store: Store, *, versions: int = 1) -> timedelta | None:
    """Let one due sync be applied; return the lag."""
    claim = claim_one(store)
    state = store.sync_states.load(claim)
    revision = store.apps.get_environment("shop", "production").revision
    reads = {state.sync.environment_id: revision}
    done = after(reads=reads, former_reads=state.sync.reads, applied_revision=revision)
    return store.runs.finish(claim, run_of(claim, versions_written=versions), done)


# --- syncs by status


def test_counts_and_the_longest_agree_with_the_syncs_one_by_one(store: Store) -> None:
    fill(store, Size(syncs=300, environments=3, credentials=2, entries_per_sync=0))
    with store.database.write() as connection:
        # Each has its status since another time.
        age = sa.cast(sa.func.substr(syncs.c.name, len("sync-") + 1), sa.BigInteger()) * 1_000_000
        connection.execute(syncs.update().values(status_since=now() - age, claimed_at=now() - age))

    seen = figures(store, each=True)

    credentials = store.credentials.statuses()
    expected = {sync.name: status_of(sync, credentials[sync.credential_id]) for sync in store.syncs.list_syncs()}
    assert {sync.name: sync.status for sync in seen.each} == expected
    assert seen.syncs == {status: Counter(expected.values())[status] for status in SyncStatus}
    assert len(set(expected.values())) >= 6
    oldest: dict[SyncStatus, timedelta] = {}
    for sync in seen.each:
        assert sync.since is not None
        oldest[sync.status] = max(seen.age(sync.since), oldest.get(sync.status, timedelta(0)))
    assert {status: seen.age(since) for status, since in seen.longest.items()} == oldest


def test_a_paused_sync_is_paused_since_its_pause(store: Store) -> None:
    sync = add_sync(store)
    apply_all(store)
    back(store, "status_since", by=2 * HOUR)
    store.sync_requests.pause(sync.name, paused(store))

    seen = figures(store)

    assert seen.syncs[SyncStatus.PAUSED] == 1
    assert seen.age(seen.longest[SyncStatus.PAUSED]) < MINUTE
    assert SyncStatus.IN_SYNC not in seen.longest


def paused(store: Store) -> Paused:
    with store.database.read() as connection:
        at = from_microseconds(connection.scalar(sa.select(now())) or 0)
    return Paused(by="ada", at=at, reason="a test", until=None)


def test_syncs_that_are_not_in_step_are_named_first_if_there_are_too_many(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MOST_SYNCS == 2_000
    monkeypatch.setattr("phasesync.store.figures.MOST_SYNCS", 10)
    fill(store, Size(syncs=100, environments=1, credentials=1, entries_per_sync=0))

    seen = figures(store, each=True)

    assert (len(seen.each), seen.left_out) == (10, 90)
    assert {sync.status for sync in seen.each} >= {SyncStatus.HELD, SyncStatus.HALTED, SyncStatus.FAILING}
    assert (figures(store).each, figures(store).left_out) == ((), 0)


# --- behind, and the lag


def test_a_new_sync_is_behind_until_it_is_applied(store: Store) -> None:
    add_sync(store)
    assert figures(store).behind == 1

    assert apply_all(store) is not None

    assert (figures(store).behind, figures(store).behind_since) == (0, None)


def test_the_lag_counts_from_the_oldest_edit_that_was_not_applied(store: Store) -> None:
    add_sync(store)
    apply_all(store)
    put(store, write("URL", "1"))
    back(store, "behind_since", by=10 * MINUTE)
    put(store, write("URL", "2"))

    assert 10 * MINUTE <= figures(store).age(figures(store).behind_since) < 11 * MINUTE
    lag = apply_all(store)

    assert lag is not None and 10 * MINUTE <= lag < 11 * MINUTE
    assert figures(store).behind == 0


@pytest.mark.parametrize("status", [SyncStatus.FAILING, SyncStatus.HELD, SyncStatus.PENDING])
def test_a_run_that_did_not_apply_the_edit_leaves_its_time(store: Store, status: SyncStatus) -> None:
    sync = add_sync(store)
    apply_all(store)
    put(store, write("URL", "1"))
    back(store, "behind_since")
    revision = store.apps.get_environment("shop", "production").revision

    claim = claim_one(store)
    left = after(status=status, reads={sync.environment_id: revision} if status is SyncStatus.HELD else None)
    assert store.runs.finish(claim, run_of(claim), left) is None

    seen = figures(store)
    assert (seen.behind, seen.age(seen.behind_since) >= HOUR) == (1, True)


def test_a_deferred_sync_is_not_behind_until_it_goes_on(store: Store) -> None:
    sync = add_sync(store)
    back(store, "behind_since")
    store.sync_requests.pause(sync.name, paused(store))
    assert (figures(store).behind, figures(store).behind_since) == (0, None)

    store.sync_requests.resume(sync.name, actor="ada")
    assert (figures(store).behind, figures(store).age(figures(store).behind_since) >= HOUR) == (1, True)

    claim = claim_one(store)
    store.runs.finish(claim, run_of(claim), after(status=SyncStatus.PENDING, waits_for_window=True))
    assert figures(store).behind == 0


def test_a_run_that_wrote_nothing_has_no_lag_and_ends_being_behind(store: Store) -> None:
    add_sync(store)

    assert apply_all(store, versions=0) is None

    assert figures(store).behind == 0


def test_an_edit_during_a_run_counts_from_the_beginning_of_its_claim(store: Store) -> None:
    sync = add_sync(store)
    claim = claim_one(store)
    state = store.sync_states.load(claim)
    before = store.apps.get_environment("shop", "production").revision
    put(store, write("URL", "1"))
    back(store, "behind_since", "claimed_at")
    done = after(reads={sync.environment_id: before}, former_reads=state.sync.reads, applied_revision=before)
    store.runs.finish(claim, run_of(claim, versions_written=1), done)

    seen = figures(store)

    assert (seen.behind, HOUR <= seen.age(seen.behind_since) < HOUR + MINUTE) == (1, True)


def test_what_a_former_release_left_of_a_sync_in_step_does_not_count(store: Store) -> None:
    add_sync(store)
    apply_all(store)
    with store.database.write() as connection:
        connection.execute(syncs.update().values(behind_since=now() - 10**12))

    put(store, write("URL", "1"))

    assert figures(store).age(figures(store).behind_since) < MINUTE


# --- the version budget


def test_the_budget_is_that_of_the_object_that_was_written_most(store: Store) -> None:
    add_sync(store)
    assert figures(store).versions_left == BURST
    claim = claim_one(store)
    full_at = figures(store).at + 7 * REFILL - MINUTE
    store.runs.finish(claim, run_of(claim), after(budget_full_at=full_at))
    assert figures(store).versions_left == BURST - 7

    # A later run wrote other objects of it less often.
    store.sync_requests.request("web", Trigger.MANUAL, actor="ada")
    settle(store, claim_one(store), budget_full_at=full_at - 3 * REFILL)
    assert figures(store).versions_left == BURST - 7

    with store.database.write() as connection:
        connection.execute(syncs.update().values(budget_full_at=now() - 1))
    assert figures(store).versions_left == BURST


def test_syncs_that_wait_for_the_budget_are_counted(store: Store) -> None:
    add_sync(store)
    settle(store, claim_one(store), status=SyncStatus.PENDING, waits_for_budget=True, due_in=HOUR)
    assert figures(store).waiting_for_budget == 1

    store.sync_requests.request("web", Trigger.MANUAL, actor="ada")
    settle(store, claim_one(store))
    assert figures(store).waiting_for_budget == 0


# --- leases, claims, daemons


def test_leases_are_counted_by_status_and_overdue_ones_by_their_end(store: Store) -> None:
    dynamic = add_dynamic(store)
    issue_lease(store, dynamic)
    late = issue_lease(store, dynamic)
    assert figures(store).overdue == 0

    move_lease(store, late, -(late.expires_at - late.requested_at) - HOUR, "expires_at")

    seen = figures(store)
    assert seen.leases[LeaseStatus.ACTIVE] == 2 and sum(seen.leases.values()) == 2
    assert (seen.overdue, HOUR <= seen.age(seen.overdue_since) < HOUR + MINUTE) == (1, True)
    assert store.figures.read(revocable=()).overdue == 0, "leases that end by themselves are not overdue"


def test_an_altered_status_of_a_lease_is_shown_as_such(store: Store) -> None:
    lease = issue_lease(store, add_dynamic(store))
    alter(store, leases, lease.id, status="nonsense")

    assert figures(store).leases["unreadable"] == 1


def test_claims_and_daemons_that_live_are_counted(store: Store) -> None:
    add_sync(store)
    store.daemons.beat("daemon-1", host="a", pid=1, ttl=TTL)
    claim_due(store, "daemon-1")

    seen = figures(store)

    assert (seen.claims, seen.daemons[DaemonRole.ACTIVE], seen.daemons[DaemonRole.STANDBY]) == (1, 1, 0)
    assert abs(seen.host_ahead) < timedelta(seconds=5)


def test_a_database_that_counts_as_older_than_aws_says_so(store: Store) -> None:
    add_sync(store)
    assert not figures(store).restored

    claim = claim_one(store)
    error = RunError(cls=StaleDatabaseError.__name__, code=None, message="older", request_id=None, hint=None)
    store.runs.finish(claim, run_of(claim, error=error), after(status=SyncStatus.HALTED))

    assert figures(store).restored
