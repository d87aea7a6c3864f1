"""Claims of syncs: who gets one, when, and what a stale holder may not do."""

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from phasesync.core.remote import Action, Intent, JournalEntry
from phasesync.core.run import Outcome, RunError
from phasesync.core.sync import SyncConfig, SyncStatus, Trigger
from phasesync.errors import ClaimHeldError, ClaimLostError, NotFoundError, UnresolvedReferenceError
from tests.support.stores import (
    EXPIRED,
    LONG,
    TTL,
    add_sync,
    after,
    claim_due,
    claim_one,
    finish,
    put,
    run_of,
    settle,
    write,
)
from tests.support.values import NOW, TOKEN, entry

PAST = timedelta(seconds=-1)


def failed(claim, cls: str):
    error = RunError(cls=cls, code=None, message="no", request_id=None, hint=None)
    return run_of(claim, error=error, outcome=Outcome.FAILED)


def test_a_sync_is_claimed_once(store):
    add_sync(store)
    claim = claim_one(store, "first")
    assert (claim.owner, claim.fence) == ("first", 1)
    assert claim_due(store, "second") == []
    with pytest.raises(ClaimHeldError, match="first"):
        store.claims.claim(claim.sync_id, "second", trigger=Trigger.MANUAL, actor="bob", ttl=TTL)


def test_no_more_are_claimed_than_asked_for(store):
    for number in range(5):
        add_sync(store, f"s{number}")
    first = claim_due(store, limit=2)
    second = claim_due(store, limit=10)
    assert (len(first), len(second)) == (2, 3)
    assert len({claim.sync_id for claim in (*first, *second)}) == 5


def test_what_was_asked_for_comes_first_then_edits_then_checks(store):
    for name in ("check", "edit", "ask"):
        add_sync(store, name)
    for claim in claim_due(store):
        settle(store, claim, due_in=PAST)
    put(store, write())
    check = store.syncs.get_sync("check")
    claim = store.claims.claim(check.id, "me", trigger=Trigger.MANUAL, actor="bob", ttl=TTL)
    settle(store, claim, due_in=PAST)
    store.sync_requests.request("ask", Trigger.MANUAL, actor="bob")
    claimed = [claim_one_of(store) for _ in range(3)]
    names = {sync.id: sync.name for sync in store.syncs.list_syncs()}
    assert [(names[claim.sync_id], claim.trigger) for claim in claimed] == [
        ("ask", Trigger.MANUAL),
        ("edit", Trigger.CHANGE),
        ("check", Trigger.SCHEDULE),
    ]


def claim_one_of(store):
    (claim,) = claim_due(store, limit=1)
    return claim


def test_a_settled_sync_waits_for_its_check(store):
    add_sync(store)
    settle(store, claim_one(store), due_in=LONG)
    assert claim_due(store) == []
    claim = store.claims.claim(store.syncs.get_sync("web").id, "me", trigger=Trigger.MANUAL, actor="bob", ttl=TTL)
    settle(store, claim, due_in=PAST)
    assert claim_one(store).trigger is Trigger.SCHEDULE


def test_an_edit_wakes_a_sync_that_read_it(store):
    add_sync(store)
    settle(store, claim_one(store), due_in=None)
    assert claim_due(store) == []
    put(store, write())
    assert store.syncs.get_sync("web").pending
    claim = claim_one(store)
    assert (claim.trigger, claim.actor) == (Trigger.CHANGE, "phasesync")
    assert not settle(store, claim).pending


def test_an_edit_of_a_referenced_environment_wakes_it_too(store):
    add_sync(store)
    put(store, environment="shared")
    shared = store.apps.get_environment("shop", "shared")
    own = store.apps.get_environment("shop", "production")
    settled = settle(store, claim_one(store), reads={own.id: own.revision, shared.id: shared.revision}, due_in=None)
    assert settled.reads == {own.id: 0, shared.id: 0}
    put(store, write(), environment="shared")
    claim = claim_one(store)
    settle(store, claim, reads={own.id: own.revision})
    put(store, write("B"), environment="shared")
    assert claim_due(store) == []


def test_an_edit_while_a_run_is_under_way_leads_to_one_more(store):
    add_sync(store)
    claim = claim_one(store)
    read = store.sync_states.load(claim).sync
    put(store, write())
    left = finish(
        store, claim, run_of(claim), after(reads={read.environment_id: read.source_revision}, applied_revision=0)
    )
    assert (left.pending, left.applied_revision, left.source_revision) == (True, 0, 1)
    assert claim_one(store).trigger is Trigger.CHANGE


def test_edits_gather_for_a_moment_after_a_write(store):
    add_sync(store)
    settle(store, claim_one(store), retry_in=LONG)
    put(store, write())
    assert claim_due(store) == []
    assert store.syncs.get_sync("web").pending


def test_an_edit_does_not_override_back_off(store):
    add_sync(store)
    settle(store, claim_one(store), status=SyncStatus.FAILING, failures=1, retry_in=LONG, due_in=LONG)
    put(store, write())
    assert claim_due(store) == []


def test_a_failing_sync_is_tried_again_when_its_pause_is_over(store):
    add_sync(store)
    store.runs.finish(
        claim := claim_one(store),
        run_of(claim),
        after(status=SyncStatus.FAILING, failures=1, retry_in=PAST, due_in=PAST),
    )
    assert claim_one(store).trigger is Trigger.RETRY


def test_an_edit_wakes_a_halted_sync_as_a_change(store):
    add_sync(store)
    settle(store, claim_one(store), status=SyncStatus.HALTED, failures=4, due_in=None)
    assert claim_due(store) == []
    put(store, write())
    assert claim_one(store).trigger is Trigger.CHANGE


def test_what_is_pending_after_an_interrupted_run_is_due_at_once(store):
    add_sync(store)
    settle(store, claim_one(store), status=SyncStatus.PENDING, due_in=None)
    assert claim_one(store).owner == "daemon-1"


@pytest.mark.parametrize(
    "happening",
    [
        lambda store: store.apps.add_environment("shop", "shared"),
        lambda store: store.secrets.clone_environment("shop", "other", "shared", actor="ada"),
        lambda store: store.apps.update_environment("shop", "other", new_name="shared"),
        lambda store: store.apps.update_app("blog", new_name="press"),
    ],
    ids=["added", "cloned", "renamed", "app renamed"],
)
@pytest.mark.parametrize("under_way", [False, True], ids=["before", "during the run"])
def test_a_new_name_wakes_what_failed_on_a_reference(store, happening, under_way):
    add_sync(store)
    put(store, environment="other")
    store.apps.add_app("blog")
    claim = claim_one(store)
    read = store.sync_states.load(claim).sync
    if under_way:
        happening(store)
    store.runs.finish(
        claim,
        failed(claim, UnresolvedReferenceError.__name__),
        after(status=SyncStatus.HALTED, due_in=None, reads={read.environment_id: read.source_revision}),
    )
    if not under_way:
        assert claim_due(store) == []
        happening(store)
    assert claim_one(store).trigger is Trigger.CHANGE


def test_a_rename_wakes_what_reads_the_renamed_environment(store):
    add_sync(store)
    put(store, environment="shared")
    own, shared = (store.apps.get_environment("shop", name) for name in ("production", "shared"))
    settle(store, claim_one(store), reads={own.id: 0, shared.id: 0}, due_in=None)
    store.apps.update_environment("shop", "shared", new_name="common")
    settle(store, claim_one(store), reads={own.id: 0, shared.id: 1}, due_in=None)
    store.apps.update_app("shop", new_name="store")
    assert claim_one(store).trigger is Trigger.CHANGE


def test_removing_an_environment_wakes_what_read_it(store):
    add_sync(store)
    put(store, environment="shared")
    own, shared = (store.apps.get_environment("shop", name) for name in ("production", "shared"))
    settle(store, claim_one(store), reads={own.id: 0, shared.id: 0}, due_in=None)
    store.apps.remove_environment("shop", "shared")
    claim = claim_one(store)
    assert settle(store, claim, reads={own.id: 0, shared.id: 0}).reads == {own.id: 0}


def test_a_claim_is_renewed_by_its_holder_alone(store):
    add_sync(store, "a")
    add_sync(store, "b")
    first, second = claim_due(store, ttl=EXPIRED)
    (taken,) = claim_due(store, "successor", limit=1)
    lost, kept = (first, second) if taken.sync_id == first.sync_id else (second, first)
    assert store.claims.renew([first, second], ttl=TTL) == {kept.sync_id}
    assert store.claims.renew([], ttl=TTL) == set()
    assert taken.fence == lost.fence + 1
    assert claim_due(store, "third") == []


def test_a_released_claim_leaves_the_sync_as_due_as_it_was(store):
    add_sync(store)
    store.sync_requests.request("web", Trigger.MANUAL, actor="bob")
    claim = claim_one(store)
    store.claims.release(claim)
    assert not store.syncs.get_sync("web").running
    again = claim_one(store, "second")
    assert (again.trigger, again.actor, again.fence) == (Trigger.MANUAL, "bob", 2)
    store.claims.release(claim)
    assert store.syncs.get_sync("web").running


def test_an_expired_claim_is_taken_over_and_its_run_logged(store):
    add_sync(store)
    former = claim_one(store, "dead", ttl=EXPIRED)
    successor = claim_one(store, "alive")
    assert (successor.fence, successor.trigger) == (former.fence + 1, Trigger.CHANGE)
    (run,) = store.runs.list_runs()
    assert (run.outcome, run.trigger, run.sync) == (Outcome.INTERRUPTED, Trigger.CHANGE, "web")
    assert run.error is not None
    assert run.error.cls == "InterruptedRunError"
    assert store.claims.release_expired() == []


def test_an_expired_claim_taken_by_hand_is_logged_too(store):
    sync = add_sync(store)
    claim_one(store, "dead", ttl=EXPIRED)
    store.claims.claim(sync.id, "me", trigger=Trigger.MANUAL, actor="bob", ttl=TTL)
    assert [run.outcome for run in store.runs.list_runs()] == [Outcome.INTERRUPTED]


def test_reaping_frees_what_expired_and_says_so_once(store):
    add_sync(store, "dead")
    add_sync(store, "alive")
    by_name = {sync.name: sync.id for sync in store.syncs.list_syncs()}
    store.claims.claim(by_name["dead"], "gone", trigger=Trigger.MANUAL, actor="bob", ttl=EXPIRED)
    claim = store.claims.claim(by_name["alive"], "here", trigger=Trigger.MANUAL, actor="bob", ttl=TTL)
    assert store.claims.release_expired() == ["dead"]
    assert store.claims.release_expired() == []
    (run,) = store.runs.list_runs()
    assert (run.sync, run.outcome, run.actor, run.trigger) == ("dead", Outcome.INTERRUPTED, "bob", Trigger.MANUAL)
    dead = store.syncs.get_sync("dead")
    assert (dead.settled_status, dead.running, dead.last_run_id) == (SyncStatus.PENDING, False, run.id)
    assert store.sync_states.load(claim).sync.running
    assert [claim.sync_id for claim in claim_due(store)] == [by_name["dead"]]


def test_a_run_by_hand_that_died_is_done_again_even_if_nothing_else_is_due(store):
    add_sync(store)
    settle(store, claim_one(store), due_in=None)
    store.claims.claim(store.syncs.get_sync("web").id, "me", trigger=Trigger.MANUAL, actor="bob", ttl=EXPIRED)
    store.claims.release_expired()
    assert claim_one(store).owner == "daemon-1"


YEAR = timedelta(days=365)


def test_a_clock_that_was_a_year_ahead_puts_nothing_off(store):
    """What ran then is due at once, and once; an edit is seen after it as ever."""
    add_sync(store)
    settle(store, claim_one(store), due_in=LONG, retry_in=LONG)
    set_back_the_clock(store)
    assert claim_due(store) == []

    store.claims.release_expired()
    settle(store, claim_one(store), due_in=LONG)

    store.claims.release_expired()
    assert claim_due(store) == []
    put(store, write())
    assert claim_one(store).trigger is Trigger.CHANGE


def test_a_holder_that_died_when_the_clock_was_a_year_ahead_is_replaced(store):
    add_sync(store)
    claim_one(store, "dead")
    set_back_the_clock(store)

    assert store.claims.release_expired() == ["web"]
    assert claim_one(store, "successor").owner == "successor"


def set_back_the_clock(store) -> None:
    """Have everything noted up to now lie a year ahead, as it does when a clock that was a year ahead is corrected."""
    columns = ("claimed_at", "claim_until", "retry_at", "next_due_at")
    year = YEAR // timedelta(microseconds=1)
    moved = ", ".join(f"{column} = {column} + {year}" for column in columns)
    with store.database.write() as connection:
        connection.execute(sa.text(f"UPDATE syncs SET {moved}"))


def test_a_stale_holder_can_write_nothing(store):
    add_sync(store)
    stale = claim_one(store, "frozen", ttl=EXPIRED)
    successor = claim_one(store, "awake")
    before = store.syncs.get_sync("web")
    with pytest.raises(ClaimLostError):
        store.sync_states.load(stale)
    with pytest.raises(ClaimLostError):
        store.journal.save_entry(stale, entry(id=None, sync_id=stale.sync_id))
    with pytest.raises(ClaimLostError):
        store.runs.finish(stale, run_of(stale), after(reads={}, account="999999999999", adopt_done=True))
    store.claims.release(stale)
    assert store.syncs.get_sync("web") == before
    assert store.sync_states.load(successor).journal == ()
    assert [run.outcome for run in store.runs.list_runs()] == [Outcome.INTERRUPTED]


def test_a_stale_thread_of_the_same_process_can_write_nothing_either(store):
    add_sync(store)
    stale = claim_one(store, "one-daemon", ttl=EXPIRED)
    successor = claim_one(store, "one-daemon")
    with pytest.raises(ClaimLostError):
        store.sync_states.load(stale)
    with pytest.raises(ClaimLostError):
        store.journal.save_entry(stale, entry(id=None, sync_id=stale.sync_id))
    with pytest.raises(ClaimLostError):
        store.runs.finish(stale, run_of(stale), after())
    assert store.claims.renew([stale], ttl=TTL) == set()
    store.claims.release(stale)
    assert store.sync_states.load(successor).sync.running


def test_a_reaped_holder_can_write_nothing_even_without_a_successor(store):
    add_sync(store)
    stale = claim_one(store, ttl=EXPIRED)
    store.claims.release_expired()
    with pytest.raises(ClaimLostError):
        store.journal.save_entry(stale, entry(id=None, sync_id=stale.sync_id))
    assert store.claims.renew([stale], ttl=TTL) == set()


def test_a_late_holder_whom_nobody_replaced_may_still_finish(store):
    add_sync(store)
    late = claim_one(store, ttl=EXPIRED)
    settle(store, late)
    assert store.claims.release_expired() == []
    assert [run.outcome for run in store.runs.list_runs()] == [Outcome.UNCHANGED]


def test_what_was_removed_cannot_be_claimed(store):
    with pytest.raises(NotFoundError):
        store.claims.claim("0" * 32, "me", trigger=Trigger.MANUAL, actor="bob", ttl=TTL)


def test_a_journal_entry_comes_back_as_it_was_saved(store):
    sync = add_sync(store)
    claim = claim_one(store)
    intent = Intent(
        action=Action.PUT,
        generation=2,
        token=TOKEN,
        fingerprint="v1:k:ab",
        payloads=2,
        made_at=NOW,
        keys={"URL": "cd"},
    )
    full = entry(id=None, sync_id=sync.id, tags_written={"team": "web"}, former_tags={"team": "ops"}, intent=intent)
    first = store.journal.save_entry(claim, full)
    assert first == replace(full, id=first.id)
    assert store.sync_states.load(claim).journal == (first,)
    settled = store.journal.save_entry(claim, replace(first, generation=2, version_id=TOKEN, intent=None))
    other = store.journal.save_entry(
        claim, JournalEntry(id=None, sync_id=sync.id, remote_name="x", account="", region="r")
    )
    assert store.sync_states.load(claim).journal == (settled, other)
    settle(store, claim)
    assert store.syncs.remove_sync("web") == (settled, other)


def test_a_new_configuration_leaves_the_journal(store):
    sync = add_sync(store)
    claim = claim_one(store)
    saved = store.journal.save_entry(claim, entry(id=None, sync_id=sync.id))
    settle(store, claim)
    store.syncs.update_sync(
        "web",
        config=SyncConfig(remote_name="moved"),
        path="/",
        credential="aws",
        region="eu-west-1",
        adopt=None,
    )
    assert store.sync_states.state_of("web").journal == (saved,)
