"""Syncs for a sweep: which checks lists can make, of which objects, and that newer state is never overwritten."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from phasesync.core.remote import JournalEntry
from phasesync.core.sweep_check import Check, SweepGroup, SweptObject
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

REGION = "eu-central-1"
SOON = timedelta(seconds=5)
WITHIN = timedelta(seconds=20)


def in_step(store: Store, *names: str, due_in: timedelta | None = SOON, **config: Any) -> None:
    """Add syncs with an object each that are in step."""
    for name in names:
        add_sync(store, name, config=SyncConfig(**{"remote_name": f"shop/{name}", **config}))
    settle_all(store, due_in=due_in)


def settle_all(store: Store, *, objects: int = 1, due_in: timedelta | None = SOON, **changes: Any) -> None:
    """Finish the runs of everything that is due, with a journal entry for each object of layout json."""
    for claim in claim_due(store, limit=1000):
        state = store.syncs.load(claim)
        if state.sync.config.remote_name and not state.journal:
            store.journal.save_entry(claim, journalled(state.sync.id, state.sync.config.remote_name))
        settle(store, claim, **{"account": ACCOUNT, "due_in": due_in, "objects": objects, **changes})


def journalled(sync_id: str, name: str, **changes: object) -> JournalEntry:
    return entry(id=None, sync_id=sync_id, remote_name=name, account=ACCOUNT, region=REGION, **changes)


def group_of(store: Store) -> SweepGroup:
    (group,) = store.sweeps.due_groups(within=WITHIN)
    return group


def swept(store: Store) -> dict[str, list[SweptObject]]:
    """Return sync name -> its objects, in the only place there is."""
    group = SweepGroup(
        destination_kind="aws-secrets-manager", account=ACCOUNT, region=REGION, due=1, objects=1, credentials=()
    )
    names = {sync.id: sync.name for sync in store.syncs.list_syncs()}
    by_sync: dict[str, list[SweptObject]] = {}
    for swept_object in store.sweeps.objects_of(group):
        by_sync.setdefault(names[swept_object.sync.id], []).append(swept_object)
    return by_sync


def check(store: Store, due_in: timedelta) -> int:
    """Set the next check of everything that is swept."""
    return store.sweeps.schedule_checks(
        [Check(sync=objects[0].sync, due_in=due_in) for objects in swept(store).values()]
    )


def test_checks_that_are_due_soon_are_told_by_place(store: Store) -> None:
    in_step(store, "a", "b")
    in_step(store, "c", due_in=LONG)

    group = group_of(store)

    assert (group.destination_kind, group.account, group.region) == ("aws-secrets-manager", ACCOUNT, REGION)
    assert (group.due, group.objects) == (2, 3)
    assert [credential.name for credential in group.credentials] == ["aws"]
    assert group.credentials == (replace(store.credentials.get("aws"), used_by=()),)


def test_an_object_is_told_with_what_is_journalled_and_set(store: Store) -> None:
    in_step(store, "web", description="of the web shop")

    ((swept_object,),) = swept(store).values()

    (journal_entry,) = store.syncs.state_of("web").journal
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

    groups = store.sweeps.due_groups(within=WITHIN)

    assert [(group.region, group.due) for group in groups] == [("eu-central-1", 1), ("eu-west-1", 1)]
    assert [swept_object.sync.id for group in groups for swept_object in store.sweeps.objects_of(group)] == [
        store.syncs.get_sync("here").id
    ]


def pause(store: Store) -> None:
    store.syncs.pause("web", Paused(by="ada", at=datetime(2026, 1, 2, tzinfo=UTC), reason="", until=None))


def run_into(store: Store, **changes: Any) -> None:
    store.claims.claim(store.syncs.get_sync("web").id, "x", trigger=Trigger.MANUAL, actor=ACTOR, ttl=EXPIRED)
    store.claims.release_expired()
    settle_all(store, **changes)


NOT_TO_BE_SWEPT: dict[str, Callable[[Store], object]] = {
    "asked for": lambda store: store.syncs.request("web", Trigger.MANUAL, actor=ACTOR),
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

    assert store.sweeps.due_groups(within=WITHIN) == []
    assert swept(store) == {}


def test_what_lists_do_not_show_makes_no_sweep_worth_while(store: Store) -> None:
    in_step(store, "replicated", replicas={"eu-west-1": "default"})
    in_step(store, "ruled", resource_policy='{"Statement":[]}')

    assert store.sweeps.due_groups(within=WITHIN) == []
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

    assert group_of(store).due == 3
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
    assert store.sweeps.due_groups(within=WITHIN) == []


def test_a_suspect_is_due_at_once_as_a_check(store: Store) -> None:
    in_step(store, "web", due_in=LONG)
    assert claim_due(store) == []

    assert check(store, timedelta(0)) == 1

    (claim,) = claim_due(store)
    assert claim.trigger is Trigger.SCHEDULE


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

    assert store.sweeps.schedule_checks(checks) == 1

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

        assert store.sweeps.schedule_checks(checks) == 1


@pytest.mark.parametrize("size", [1, 20])
def test_a_sweep_takes_the_same_statements_for_any_number_of_syncs(store: Store, size: int) -> None:
    for number in range(2):
        name = f"aws{number}" if number else "aws"
        put(store)
        store.credentials.add(name, access_key())
    in_step(store, *(f"s{number}" for number in range(size)))

    with counted(store.database.engine) as statements:
        group = group_of(store)
        assert len(statements) == 4
        objects = list(store.sweeps.objects_of(group))
        assert len(statements) == 6
        assert (
            store.sweeps.schedule_checks([Check(sync=swept_object.sync, due_in=LONG) for swept_object in objects])
            == size
        )
        assert len(statements) == 7
        assert store.sweeps.due_groups(within=WITHIN) == []
        assert len(statements) == 8
