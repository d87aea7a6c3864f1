"""Syncs for a sweep: which checks lists can make, of which objects, and that newer state is never overwritten."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from phasesync.core.remote import JournalEntry
from phasesync.core.sweep_check import Check, Place, SweptObject, SweptPlace
from phasesync.core.sync import Layout, Paused, SyncConfig, SyncStatus, Trigger
from phasesync.store import Store
from tests.support.sql import counted
from tests.support.stores import (
    ACTOR,
    EXPIRED,
    LONG,
    TTL,
    access_key,
    add_sync,
    claim_due,
    incomplete_role,
    put,
    settle,
    write,
)
from tests.support.values import ACCOUNT, entry
from tests.support.waiting import wait_until

REGION = "eu-central-1"
SOON = timedelta(seconds=5)
WITHIN = timedelta(seconds=20)
PLACE = Place(destination_kind="aws-secrets-manager", account=ACCOUNT, region=REGION)


def in_step(store: Store, *names: str, due_in: timedelta | None = SOON, **config: Any) -> None:
    """Add syncs with an object each that are in step."""
    for name in names:
        add_sync(store, name, config=SyncConfig(**{"remote_name": f"shop/{name}", **config}))
    settle_all(store, due_in=due_in)


def settle_all(store: Store, *, objects: int = 1, due_in: timedelta | None = SOON, **changes: Any) -> None:
    """Finish the runs of everything that is due, with a journal entry for each object of layout json."""
    for claim in claim_due(store, limit=1000):
        state = store.sync_states.load(claim)
        if state.sync.config.remote_name and not state.journal:
            store.journal.save_entry(claim, journalled(state.sync.id, state.sync.config.remote_name))
        settle(store, claim, **{"account": ACCOUNT, "due_in": due_in, "objects": objects, **changes})


def journalled(sync_id: str, name: str, **changes: object) -> JournalEntry:
    return entry(id=None, sync_id=sync_id, remote_name=name, account=ACCOUNT, region=REGION, **changes)


def the_place(store: Store) -> SweptPlace:
    (place,) = store.sweeps.places()
    return place


def due(store: Store) -> int:
    """Return how many objects have checks that are due soon."""
    return store.sweeps.due_count(PLACE, within=WITHIN)[0]


def all_objects(store: Store, *, part: int = 200) -> list[SweptObject]:
    """Return the objects of all syncs that are in step, read as a full sweep reads them."""
    objects, position = [], None
    while True:
        entries = store.sweeps.entries(PLACE, after_=position, limit=part)
        objects += store.sweeps.objects(PLACE, [entry for item in entries.syncs for entry in item.entries])
        if (position := entries.position) is None:
            return objects


def swept(store: Store) -> dict[str, list[SweptObject]]:
    """Return sync name -> its objects, of syncs that are settled."""
    names = {sync.id: sync.name for sync in store.syncs.list_syncs()}
    by_sync: dict[str, list[SweptObject]] = {}
    for swept_object in all_objects(store):
        if swept_object.sync.settled:
            by_sync.setdefault(names[swept_object.sync.id], []).append(swept_object)
    return by_sync


def due_soon(store: Store, **how: Any) -> list[str]:
    """Return the ids of the syncs with checks that are due soon, part by part."""
    ids, position = [], None
    while True:
        part = store.sweeps.due_soon(PLACE, within=WITHIN, after_=position, **how)
        assert {swept_object.sync.id for swept_object in part.objects} <= {sync.id for sync in part.syncs}
        ids += [sync.id for sync in part.syncs]
        if (position := part.position) is None:
            return ids


def check(store: Store, due_in: timedelta) -> int:
    """Set the next check of everything that is swept."""
    return store.sweeps.defer([Check(sync=objects[0].sync, due_in=due_in) for objects in swept(store).values()])


def test_a_place_is_told_with_its_credentials(store: Store) -> None:
    in_step(store, "a", "b")
    in_step(store, "c", due_in=LONG)

    place = the_place(store)

    without_users = replace(store.credentials.get("aws"), used_by=(), used_by_count=0)
    assert place == SweptPlace(place=PLACE, credentials=(without_users,), changed_since=None, full_ago=None)
    assert store.sweeps.due_count(PLACE, within=WITHIN) == (2, 3)
    assert sorted(due_soon(store)) == sorted(store.syncs.get_sync(name).id for name in ("a", "b"))


def test_every_credential_of_a_place_is_told(store: Store) -> None:
    in_step(store, "a", "b", "c")
    for number, name in enumerate(("b", "c")):
        store.credentials.add(f"aws-{number}", access_key())
        config = store.syncs.get_sync(name).config
        store.syncs.update_sync(name, config=config, path="/", credential=f"aws-{number}", region=REGION, adopt=None)
    settle_all(store)

    assert [credential.name for credential in the_place(store).credentials] == ["aws", "aws-0", "aws-1"]


def test_syncs_are_read_in_parts_and_each_once(store: Store) -> None:
    in_step(store, *(f"s{number}" for number in range(7)))

    whole = all_objects(store)
    ids = {swept_object.id for swept_object in whole}
    names = {swept_object.entry.remote_name for swept_object in whole if swept_object.entry}

    for part in (1, 2, 7, 8):
        assert sorted(swept_object.id for swept_object in all_objects(store, part=part)) == sorted(ids)
        assert len(due_soon(store, limit=part)) == 7
    assert len(ids) == 7
    assert {swept_object.id for swept_object in store.sweeps.journalled(PLACE, names)} == ids
    assert store.sweeps.journalled(PLACE, ["unknown"]) == store.sweeps.journalled(PLACE, []) == []
    assert store.sweeps.objects(PLACE, []) == []


def test_how_far_lists_were_read_is_kept(store: Store) -> None:
    in_step(store, "web")
    since = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)

    store.sweeps.save(PLACE, changed_since=since)
    assert (the_place(store).changed_since, the_place(store).full_ago) == (since, None)
    store.sweeps.save_full(PLACE, began_ago=timedelta(minutes=3))
    store.sweeps.save(PLACE, changed_since=since + LONG)

    place = the_place(store)
    assert place.changed_since == since + LONG
    assert place.full_ago is not None
    assert timedelta(minutes=3) <= place.full_ago < timedelta(minutes=4)


def test_where_lists_show_nothing_any_more_deferred_checks_come_back(store: Store) -> None:
    in_step(store, "near", due_in=SOON)
    in_step(store, "far", due_in=2 * LONG)
    store.sweeps.save_full(PLACE, began_ago=timedelta(0))
    near = store.syncs.get_sync("near").next_due_at

    store.sweeps.forget(PLACE, within=timedelta(minutes=5), spread=lambda: 0.5)

    far = store.syncs.get_sync("far").next_due_at
    assert far is not None
    assert timedelta(minutes=1) < far - datetime.now(UTC) < timedelta(minutes=4)
    assert store.syncs.get_sync("near").next_due_at == near
    assert the_place(store).full_ago is None


def test_an_object_is_told_with_what_is_journalled_and_set(store: Store) -> None:
    in_step(store, "web", description="of the web shop")

    ((swept_object,),) = swept(store).values()

    (journal_entry,) = store.sync_states.state_of("web").journal
    sync = store.syncs.get_sync("web")
    assert (swept_object.entry, swept_object.wanted) == (journal_entry, True)
    assert (swept_object.sync.id, swept_object.sync.version, swept_object.sync.config) == (
        sync.id,
        sync.version,
        sync.config,
    )


def test_accounts_and_regions_are_places_of_their_own(store: Store) -> None:
    in_step(store, "here")
    add_sync(store, "there", region="eu-west-1")
    settle_all(store)

    places = [swept_place.place for swept_place in store.sweeps.places()]

    assert places == [PLACE, replace(PLACE, region="eu-west-1")]
    assert [store.sweeps.due_count(place, within=WITHIN) for place in places] == [(1, 1), (1, 1)]
    assert [swept_object.sync.id for swept_object in all_objects(store)] == [store.syncs.get_sync("here").id]


def pause(store: Store) -> None:
    store.sync_requests.pause("web", Paused(by="ada", at=datetime(2026, 1, 2, tzinfo=UTC), reason="", until=None))


def run_into(store: Store, **changes: Any) -> None:
    store.claims.claim(store.syncs.get_sync("web").id, "x", trigger=Trigger.MANUAL, actor=ACTOR, ttl=EXPIRED)
    store.claims.release_expired()
    settle_all(store, **changes)


NOT_TO_BE_SWEPT: dict[str, Callable[[Store], object]] = {
    "asked for": lambda store: store.sync_requests.request("web", Trigger.MANUAL, actor=ACTOR),
    "claimed": lambda store: store.claims.claim(
        store.syncs.get_sync("web").id, "x", trigger=Trigger.MANUAL, actor=ACTOR, ttl=TTL
    ),
    "claimed by a dead one": lambda store: store.claims.claim(
        store.syncs.get_sync("web").id, "x", trigger=Trigger.MANUAL, actor=ACTOR, ttl=EXPIRED
    ),
    "pending": lambda store: put(store, write(value="new")),
    "paused": pause,
    "held": lambda store: run_into(store, status=SyncStatus.HELD),
    "halted": lambda store: run_into(store, status=SyncStatus.HALTED),
    "failing": lambda store: run_into(store, status=SyncStatus.FAILING, failures=1),
    "waiting for its version budget": lambda store: run_into(store, status=SyncStatus.PENDING),
    "without checks": lambda store: run_into(store, due_in=None),
    "without a role": lambda store: store.credentials.update("aws", incomplete_role(), account=ACCOUNT),
}


@pytest.mark.parametrize("happening", NOT_TO_BE_SWEPT.values(), ids=NOT_TO_BE_SWEPT.keys())
def test_a_sync_that_is_not_settled_and_in_step_is_none_of_a_sweep(
    store: Store, happening: Callable[[Store], object]
) -> None:
    in_step(store, "web")
    assert len(swept(store)) == 1

    happening(store)

    assert (due(store), due_soon(store), swept(store)) == (0, [], {})


def test_what_lists_do_not_show_makes_no_sweep_worth_while(store: Store) -> None:
    in_step(store, "replicated", replicas={"eu-west-1": "default"})
    in_step(store, "ruled", resource_policy='{"Statement":[]}')

    assert due(store) == 0
    assert len(swept(store)) == 2, "what a sweep does with them is the engine's to say"


def test_keys_that_are_gone_are_not_wanted_any_more(store: Store) -> None:
    """Found without decrypting the environment."""
    put(store, write("A"), write("B"), write("GONE"))
    config = SyncConfig(layout=Layout.PER_KEY, name_template="shop/{env}/{key}")
    sync = add_sync(store, config=config)
    (claim,) = claim_due(store)
    for name, key in {"A": "A", "B": "B", "GONE": "GONE", "former-template/A": "A"}.items():
        remote_name = name if "/" in name else f"shop/production/{name}"
        store.journal.save_entry(claim, journalled(sync.id, remote_name, keys={key: "digest"}))
    settle(store, claim, account=ACCOUNT, objects=3, due_in=SOON)
    store.secrets.edit("shop", "production", actor=ACTOR, origin="unset", unsets=[("/", "GONE")])
    settle_all(store, objects=3)

    assert due(store) == 3
    assert {
        swept_object.entry.remote_name: swept_object.wanted
        for swept_object in swept(store)["web"]
        if swept_object.entry
    } == {
        "shop/production/A": True,
        "shop/production/B": True,
        "shop/production/GONE": False,
        "former-template/A": False,
    }


def test_a_former_name_is_not_wanted_any_more(store: Store) -> None:
    in_step(store, "web")
    (claim,) = [store.claims.claim(store.syncs.get_sync("web").id, "x", trigger=Trigger.MANUAL, actor=ACTOR, ttl=TTL)]
    store.journal.save_entry(claim, journalled(claim.sync_id, "shop/former"))
    store.journal.save_entry(claim, replace(journalled(claim.sync_id, "shop/web"), region="us-east-1"))
    settle(store, claim, due_in=SOON)

    assert {
        swept_object.entry.remote_name: swept_object.wanted
        for swept_object in swept(store)["web"]
        if swept_object.entry
    } == {
        "shop/web": True,
        "shop/former": False,
    }


@pytest.mark.parametrize(
    "forgery",
    ["UPDATE syncs SET path = '/other' WHERE name = 'web'", "UPDATE journal SET version_id = 'theirs'"],
    ids=["sync", "journal"],
)
def test_what_does_not_authenticate_is_told_as_such(store: Store, forgery: str) -> None:
    in_step(store, "web")
    with store.database.write() as connection:
        connection.execute(sa.text(forgery))

    ((swept_object,),) = swept(store).values()

    assert (swept_object.entry, swept_object.wanted) == (None, False)


def test_a_check_puts_the_next_one_off_and_logs_nothing(store: Store) -> None:
    in_step(store, "a", "b")
    runs = len(store.runs.list_runs())
    before = store.syncs.get_sync("a")

    assert check(store, LONG) == 2

    after = store.syncs.get_sync("a")
    assert replace(after, next_due_at=None) == replace(before, next_due_at=None)
    assert before.next_due_at is not None
    assert after.next_due_at is not None
    assert timedelta(minutes=59) < after.next_due_at - before.next_due_at < timedelta(minutes=61)
    assert len(store.runs.list_runs()) == runs
    assert due(store) == 0


def suspect(store: Store, *names: str) -> int:
    return store.sweeps.suspect([store.syncs.get_sync(name).id for name in names])


def test_a_suspect_is_due_at_once_as_a_check(store: Store) -> None:
    in_step(store, "web", "other", due_in=LONG)
    assert claim_due(store) == []

    assert suspect(store, "web") == 1
    assert suspect(store, "web") == 0, "its check is due already"

    (claim,) = claim_due(store)
    assert claim.trigger is Trigger.SCHEDULE


def test_a_suspect_that_is_running_is_checked_once_more(store: Store) -> None:
    """Its run may have observed the object before it changed."""
    in_step(store, "web", due_in=LONG)
    sync_id = store.syncs.get_sync("web").id
    claim = store.claims.claim(sync_id, "x", trigger=Trigger.CHANGE, actor=ACTOR, ttl=TTL)

    for _ in range(3):
        suspect(store, "web")
    settle(store, claim, due_in=LONG)

    (again,) = claim_due(store)
    assert again.trigger is Trigger.DRIFT
    settle(store, again, due_in=LONG)
    assert claim_due(store) == []


def test_a_suspect_that_is_paused_is_checked_when_its_pause_ends(store: Store) -> None:
    in_step(store, "web", due_in=LONG)
    until = datetime.now(UTC) + timedelta(milliseconds=300)
    store.sync_requests.pause("web", Paused(by="ada", at=datetime(2026, 1, 2, tzinfo=UTC), reason="", until=until))

    suspect(store, "web")

    assert claim_due(store) == []
    wait_until(lambda: len(claim_due(store)) == 1)


@pytest.mark.parametrize("state", ["held", "halted", "failing", "waiting for its version budget", "without checks"])
def test_a_suspect_that_is_not_in_step_keeps_its_own_time(store: Store, state: str) -> None:
    in_step(store, "web")
    NOT_TO_BE_SWEPT[state](store)
    before = store.syncs.get_sync("web")

    assert suspect(store, "web") == 0

    assert store.syncs.get_sync("web") == before


@pytest.mark.parametrize(
    "happening",
    [
        NOT_TO_BE_SWEPT["asked for"],
        NOT_TO_BE_SWEPT["claimed"],
        NOT_TO_BE_SWEPT["held"],
        run_into,
        lambda store: store.syncs.update_sync(
            "web",
            config=SyncConfig(remote_name="shop/web", description="new"),
            path="/",
            credential="aws",
            region=REGION,
            adopt=None,
        ),
        lambda store: store.syncs.remove_sync("web"),
    ],
    ids=["asked for", "claimed", "held", "a whole run", "changed", "removed"],
)
def test_what_happened_since_wins_over_a_check(store: Store, happening: Callable[[Store], object]) -> None:
    in_step(store, "web", "other")
    checks = [Check(sync=objects[0].sync, due_in=LONG) for objects in swept(store).values()]
    happening(store)
    before = [sync.next_due_at for sync in store.syncs.list_syncs() if sync.name == "web"]

    assert store.sweeps.defer(checks) == 1

    assert [sync.next_due_at for sync in store.syncs.list_syncs() if sync.name == "web"] == before


def test_an_edit_after_a_check_still_wakes_the_sync(store: Store) -> None:
    in_step(store, "web")
    check(store, LONG)

    put(store, write(value="new"))

    (claim,) = claim_due(store)
    assert claim.trigger is Trigger.CHANGE


@pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
def test_a_check_does_not_wait_for_who_holds_a_sync(store: Store) -> None:
    in_step(store, "web", "other")
    checks = [Check(sync=objects[0].sync, due_in=LONG) for objects in swept(store).values()]
    with store.database.write() as connection:
        connection.execute(sa.text("SELECT id FROM syncs WHERE name = 'web' FOR UPDATE"))

        assert store.sweeps.defer(checks) == 1


@pytest.mark.parametrize("size", [1, 20])
def test_a_sweep_takes_the_same_statements_for_any_number_of_syncs(store: Store, size: int) -> None:
    for number in range(2):
        name = f"aws{number}" if number else "aws"
        put(store)
        store.credentials.add(name, access_key())
    in_step(store, *(f"s{number}" for number in range(size)))
    names = [f"shop/s{number}" for number in range(size)]

    with counted(store.database.engine) as statements:

        def taken() -> int:
            count = len(statements)
            statements.clear()
            return count

        the_place(store)
        assert taken() == 5
        assert len(store.sweeps.journalled(PLACE, names)) == size
        assert taken() == 1
        part = store.sweeps.entries(PLACE)
        assert taken() == 2
        ids = [entry for item in part.syncs for entry in item.entries]
        assert len(store.sweeps.objects(PLACE, ids)) == size
        assert taken() == 1
        assert len(store.sweeps.due_soon(PLACE, within=WITHIN).syncs) == size
        assert taken() == 2
        assert store.sweeps.defer([Check(sync=item.sync, due_in=LONG) for item in part.syncs]) == size
        assert taken() == 1
        assert store.sweeps.suspect([item.sync.id for item in part.syncs]) == size
        assert taken() == (3 if store.database.engine.dialect.name == "postgresql" else 2)
