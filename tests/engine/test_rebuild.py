"""An installation that is made anew from what is at AWS: on each database, and in one transaction."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from phasesync.core.planning.ownership import owner_tags
from phasesync.core.remote import TAG_INSTANCE, TAG_SYNC
from phasesync.core.run import Outcome
from phasesync.core.sync import Trigger
from phasesync.engine.context import Context
from phasesync.engine.rebuild import Rebuild, carry_out, prepare_rebuild
from phasesync.engine.reconcile import Reconciler
from phasesync.errors import IllegalTransitionError, InvalidInputError, NotFoundError
from phasesync.store import Store, initialise, migrate, open_database, open_store, read_wrapped_keys
from phasesync.store.base import new_id
from phasesync.store.key_ring import KeyRing
from tests.fakes.destination import FakeDestinations
from tests.fakes.remote import REGION
from tests.support.context import context_of
from tests.support.databases import fresh_postgres_database, on_each_database
from tests.support.stores import ACTOR, EXPIRED, OTHER_ROOT_KEY, access_key
from tests.support.world import NAME, Killed, World

pytestmark = [on_each_database, pytest.mark.reads_values("rebuild")]
KIND = "aws-secrets-manager"


@pytest.fixture
def new_url(request: pytest.FixtureRequest, database_backend: str, tmp_path: Path) -> Iterator[str]:
    """An empty database, for the new root key."""
    if database_backend == "sqlite":
        yield f"sqlite:///{tmp_path / 'new.db'}"
    else:
        yield from fresh_postgres_database(request, template=None)


def open_new(url: str) -> Store:
    """Open the new installation."""
    database = open_database(url, synchronous="OFF")
    keys = KeyRing([OTHER_ROOT_KEY], lambda: read_wrapped_keys(database))
    initialise(database, keys)
    return open_store(database, keys)


@pytest.fixture
def new(new_url: str) -> Iterator[Store]:
    """A new installation under another root key, with a credential."""
    migrate.upgrade(new_url)
    store = open_new(new_url)
    store.credentials.add("admin", access_key(region=REGION))
    yield store
    store.close()


def context(store: Store, world: World) -> Context:
    """The new installation at the same AWS."""
    return context_of(store, destinations=FakeDestinations(world.remote, instance_id=store.instance_id))


def rebuild(store: Store, world: World) -> None:
    """All of it, as the command does it."""
    given = context(store, world)
    prepared = prepare_rebuild(given, "admin", kind=KIND, regions=[REGION], instance_id=None, said={})
    carry_out(given, prepared, actor=ACTOR)


def test_the_objects_are_ours_and_in_step(world: World, new: Store, new_url: str) -> None:
    """Under another root key, with another digest key: every token is another, and no version is added."""
    world.run()
    versions, calls = world.versions, len(world.writes())

    rebuild(new, world)

    with closing(open_new(new_url)) as store:
        assert store.instance_id == world.store.instance_id
        (sync,) = store.syncs.list_syncs()
        assert sync.id == world.object.tags[TAG_SYNC]
        claim = store.claims.claim(sync.id, "daemon", trigger=Trigger.MANUAL, actor=ACTOR, ttl=EXPIRED)
        run = Reconciler(context(store, world)).reconcile(claim, lambda: None)
        assert run is not None
        assert (run.outcome, run.error) == (Outcome.UNCHANGED, None)
        assert {secret.key for secret in store.secrets.list_secrets("shop", "web")} == {"URL", "USER"}
    assert (world.versions, len(world.writes())) == (versions, calls)


def test_a_process_that_dies_leaves_nothing_half_made(
    world: World, new: Store, new_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the id of the installation; repeated, it does all."""
    world.run()
    before = new.instance_id

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("phasesync.store.rebuild.store_entries", die)
        with pytest.raises(Killed):
            rebuild(new, world)

    with closing(open_new(new_url)) as store:
        assert store.instance_id == before
        assert (store.apps.list_apps(), store.syncs.list_syncs()) == ([], [])
    rebuild(new, world)
    with closing(open_new(new_url)) as store:
        assert [sync.config.names for sync in store.syncs.list_syncs()] == [NAME]


def test_a_daemon_at_work_would_go_on_under_the_former_id(world: World, new: Store) -> None:
    """So it has to be stopped."""
    world.run()
    new.daemons.beat("daemon", host="here", pid=7, ttl=-EXPIRED)

    with pytest.raises(IllegalTransitionError, match="a daemon is at work"):
        rebuild(new, world)


def test_what_cannot_be_read_is_left_out_and_named(world: World, new: Store) -> None:
    """An object that is scheduled for deletion has no value to read; it stays as it is."""
    world.run()
    world.remote.outside_delete(NAME)

    prepared = prepare_rebuild(context(new, world), "admin", kind=KIND, regions=[REGION], instance_id=None, said={})

    (left_out,) = prepared.left_out
    assert (left_out.remote_name, left_out.region, left_out.reason) == (NAME, REGION, "it is scheduled for deletion")
    assert prepared.plan.syncs == ()


def test_nothing_of_ours_is_an_error_that_names_the_region(world: World, new: Store) -> None:
    """Mostly the wrong Region or account."""
    with pytest.raises(NotFoundError, match="nothing here has the tags of phasesync") as refused:
        rebuild(new, world)

    assert "--region" in str(refused.value.hint)


def prepare(store: Store, world: World, **given: Any) -> Rebuild:
    """A plan of the whole."""
    options: dict[str, Any] = {"kind": KIND, "regions": [REGION], "instance_id": None, "said": {}, **given}
    return prepare_rebuild(context(store, world), "admin", **options)


def add_object(world: World, name: str, value: str = "{}", *, sync: str | None = None) -> str:
    """Another object of the installation, as somebody may tag one; return the id of its sync."""
    sync_id = new_id() if sync is None else sync
    world.remote.outside_create(name, value, tags=owner_tags(world.store.instance_id, sync_id))
    return sync_id


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (("by/hand",), ("e" * 256,)),
        (("by/hand",), ("",)),
        (("Good/prod", "good/prod"), (None, None)),
        (("Good/prod", "good/jobs"), (None, None)),
        (("good/Prod", "good/prod/x/KEY"), (None, None)),
        (("by/a", "by/a/KEY", "by/b/KEY"), (None, None, None)),
        (("good/.x/KEY",), (None,)),
        (("good/" + "p" * 300 + "/KEY",), (None,)),
        ((f"good/{'/'.join(['f' * 60] * 5)}/KEY",), (None,)),
        (("good/prod", "good/prod/EMPTY"), (None, None)),
    ],
)
def test_what_the_plan_shows_as_fine_is_rebuilt(
    world: World, new: Store, names: tuple[str, ...], ids: tuple[str | None, ...]
) -> None:
    """The store refuses nothing of a plan without problems; with one, nothing is made."""
    world.run()
    for name, sync in zip(names, ids, strict=True):
        add_object(world, name, '{"EMPTY":"","LIST":[1]}' if name.count("/") == 1 else "text", sync=sync)

    plan = prepare(new, world).plan
    bad = {problem.sync_id for problem in plan.problems}
    again = prepare(new, world, mapped=bad, skipped=bad)

    assert again.plan.problems == ()
    assert len(plan.syncs) + len(plan.problems) == len(names) + 1
    carry_out(context(new, world), again, actor=ACTOR)
    assert {sync.id for sync in new.syncs.list_syncs()} == {sync.id for sync in plan.syncs}


def test_a_list_that_lags_is_no_reason_to_fail(world: World, new: Store) -> None:
    """An object that is gone, or that is another installation's by now, is left out and named; none is read."""
    world.run()
    gone, taken = add_object(world, "shop/gone"), add_object(world, "shop/taken")
    destinations = FakeDestinations(world.remote, instance_id=new.instance_id)

    def change(when: str, call: str) -> None:
        if (when, call) == ("after", "sweep"):
            world.remote.outside_delete("shop/gone", recovery_days=None)
            world.remote.outside_tag("shop/taken", {TAG_INSTANCE: "f" * 32})

    destinations.on_call = change
    given = context_of(new, destinations=destinations)
    prepared = prepare_rebuild(given, "admin", kind=KIND, regions=[REGION], instance_id=None, said={})

    assert {gone, taken} & {sync.id for sync in prepared.plan.syncs} == set()
    assert [(one.remote_name, one.region, one.reason) for one in prepared.left_out] == [
        ("shop/gone", REGION, "it was deleted"),
        ("shop/taken", REGION, "it has no longer the tag of this installation"),
    ]
    assert destinations.log.count("read_value") == 1


def test_an_instance_that_no_installation_has_is_refused(world: World, new: Store) -> None:
    """Its id would be stored."""
    world.run()

    with pytest.raises(InvalidInputError, match="the id of an installation has 32 hex digits"):
        prepare(new, world, instance_id="x" * 41)
