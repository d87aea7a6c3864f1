"""The number of statements of the hot paths is constant, whatever the size of an environment, a run or a fleet."""

from datetime import timedelta

import pytest

from phasesync.core.remote import JournalEntry
from phasesync.core.run import ChangeResult, Outcome
from tests.support.sql import counted
from tests.support.stores import ACTOR, TTL, add_sync, after, claim_due, claim_one, put, run_of, write
from tests.support.values import entry

SIZES = (1, 40)


def count(store, call) -> int:
    with counted(store.database.engine) as statements:
        call()
    return len(statements)


@pytest.fixture(params=SIZES)
def size(request):
    return request.param


def secrets(size: int, value: str = "x"):
    return [write(f"KEY_{number}", value, comment="c") for number in range(size)]


def test_a_claim_is_a_look_and_one_statement(store, size):
    for number in range(min(size, 10)):
        add_sync(store, f"s{number}")
    claimed = []
    assert count(store, lambda: claimed.extend(claim_due(store, limit=100))) == 2
    assert len(claimed) == min(size, 10)
    assert count(store, lambda: claim_due(store)) == 1
    assert count(store, lambda: store.claims.renew(claimed, ttl=TTL)) == 1
    assert count(store, lambda: store.claims.write_conditions(claimed[0].sync_id).paused) == 1
    assert count(store, store.claims.release_expired) == 1, "a look finds nothing that expired"


def test_a_snapshot_loads_any_number_of_environments_in_two(store, size):
    names = [("shop", f"env{number}") for number in range(min(size, 5))]
    for _, name in names:
        put(store, *secrets(size), environment=name)
    with store.secrets.snapshot() as reader:
        loaded = {}
        assert count(store, lambda: loaded.update(reader.load(names))) == 2
    assert {len(snapshot.secrets) for snapshot in loaded.values()} == {size}


def test_an_edit_does_not_depend_on_the_number_of_keys(store, size):
    put(store, *secrets(1))

    def edit():
        put_directly(store, secrets(size, "y"))

    # One asks whether dynamic secrets hand anything out under new keys, one whether a file has the values, one is for
    # all that the MAC covers, one marks the syncs that read it; on PostgreSQL one locks and one notifies daemons.
    # One holds the data key until the commit.
    # Three add to the audit log: one locks its head, one adds the row, one stores the new head.
    assert count(store, edit) <= 16
    assert store.apps.get_environment("shop", "production").keys == size


def put_directly(store, writes):
    store.secrets.edit("shop", "production", actor=ACTOR, origin="set", writes=writes)


def test_a_load_is_four_statements(store, size):
    sync = add_sync(store)
    claim = claim_one(store)
    for number in range(size):
        store.journal.save_entry(
            claim, JournalEntry(id=None, sync_id=sync.id, remote_name=str(number), account="", region="")
        )
    states = []
    assert count(store, lambda: states.append(store.sync_states.load(claim))) == 4
    assert len(states[0].journal) == size


def test_a_journal_entry_is_one_statement(store):
    sync = add_sync(store)
    claim = claim_one(store)
    saved = []
    assert count(store, lambda: saved.append(store.journal.save_entry(claim, entry(id=None, sync_id=sync.id)))) == 1
    assert count(store, lambda: store.journal.save_entry(claim, saved[0])) == 1


def test_a_finish_does_not_depend_on_what_the_run_did(store, size):
    sync = add_sync(store)
    claim = claim_one(store)
    change = ChangeResult(action="put", remote_name="x", outcome=Outcome.APPLIED, reason="r", version_id="v")
    run = run_of(claim, changes=(change,) * size, versions_written=size)
    settled = after(reads={sync.environment_id: 0}, account="111122223333", retry_in=timedelta(seconds=1))
    # The seventh asks who else has the destination, when a run is the first to learn its account.
    # Three more add to the audit log that it changed something at AWS.
    assert count(store, lambda: store.runs.finish(claim, run, settled)) <= 10
    store.sync_requests.request("web", claim.trigger, actor=ACTOR)
    put(store, write())
    again = claim_one(store)
    settled = after(reads={sync.environment_id: 1}, applied_revision=1)
    assert count(store, lambda: store.runs.finish(again, run_of(again), settled)) <= 6


def test_lists_do_not_depend_on_their_length(store, size):
    for number in range(min(size, 10)):
        add_sync(store, f"s{number}")
    for claim in claim_due(store, limit=100):
        store.runs.finish(claim, run_of(claim), after())
    assert count(store, store.syncs.list_syncs) == 2  # which syncs the page has, and what it shows of them
    assert count(store, store.runs.list_runs) == 1
    assert count(store, store.credentials.list_all) == 5  # Two count the syncs and the dynamic secrets that use them.
    assert count(store, store.apps.list_environments) == 1
    assert count(store, lambda: store.secrets.list_secrets("shop", "production")) == 2
