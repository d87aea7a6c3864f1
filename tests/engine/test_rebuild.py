"""An installation that is made anew from what is at AWS: on each database, and in one transaction."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from phasesync.core.remote import TAG_SYNC
from phasesync.core.run import Outcome
from phasesync.core.sync import Trigger
from phasesync.engine.context import Context
from phasesync.engine.rebuild import carry_out, prepare_rebuild
from phasesync.engine.reconcile import Reconciler
from phasesync.errors import IllegalTransitionError, NotFoundError
from phasesync.store import Store, initialise, migrate, open_database, open_store, read_wrapped_keys
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
    carry_out(given, prepared, "admin", kind=KIND, actor=ACTOR)


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

    assert (prepared.left_out, prepared.plan.syncs) == ({NAME: "it is scheduled for deletion"}, ())


def test_nothing_of_ours_is_an_error_that_names_the_region(world: World, new: Store) -> None:
    """Mostly the wrong Region or account."""
    with pytest.raises(NotFoundError, match="nothing here has the tags of phasesync") as refused:
        rebuild(new, world)

    assert "--region" in str(refused.value.hint)
