"""A database that is older than AWS, with one object a key: the proof on one of them stops the run for all."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from phasesync.core.run import Outcome
from phasesync.core.sync import Layout, SyncStatus
from phasesync.store.tables import journal
from tests.support.databases import on_each_database
from tests.support.stores import open_test_store
from tests.support.world import World

pytestmark = on_each_database

FIRST, SECOND, THIRD = (f"shop/production/{key}" for key in ("A", "B", "C"))


@pytest.fixture
def world(migrated_database_url: str) -> Iterator[World]:
    """Three objects; the journal of the first one is older than AWS."""
    store = open_test_store(migrated_database_url)
    world = World(store, layout=Layout.PER_KEY, remote_name=None, name_template="{app}/{env}/{key}")
    world.edit(URL=None, USER=None, A="a", B="b", C="c")
    world.run()
    with store.database.read() as connection:
        before = connection.execute(sa.select(journal).where(journal.c.remote_name == FIRST)).one()._asdict()
    world.edit(A="newer")
    world.run()
    with store.database.write() as connection:
        connection.execute(journal.update().where(journal.c.id == before["id"]).values(**before))
    yield world
    store.close()


def hide_the_proof(world: World) -> None:
    """Someone else writes twice, so that no label is on our later write any more."""
    for text in ("theirs", "theirs again"):
        world.remote.outside_put(FIRST, text)


def test_what_looking_proves_of_one_object_keeps_all_from_being_written(world: World) -> None:
    world.edit(A="older", B="b2", C="c2")

    run = world.run()

    assert run.error is not None
    assert (run.outcome, run.error.cls) == (Outcome.REFUSED, "StaleDatabaseError")
    assert [world.remote.object(name).text() for name in (FIRST, SECOND, THIRD)] == ["newer", "b", "c"]


def test_what_only_a_write_proves_ends_the_run(world: World) -> None:
    """The objects that come after it are not written any more, and the sync waits for a person."""
    hide_the_proof(world)
    world.edit(A="older", B="b2", C="c2")

    run = world.run()

    assert run.error is not None
    assert (run.outcome, run.error.cls) == (Outcome.REFUSED, "StaleDatabaseError")
    assert [world.remote.object(name).text() for name in (FIRST, SECOND, THIRD)] == ["theirs again", "b", "c"]
    assert (world.sync.settled_status, world.sync.next_due_at) == (SyncStatus.HALTED, None)


def test_a_worse_failure_beside_it_does_not_hide_it(world: World) -> None:
    """The operator has to hear of the older database first, and `db accept-restore` has to find it."""
    world.edit(A="older", B="b" * 70_000)

    run = world.run()

    assert run.error is not None
    assert run.error.cls == "StaleDatabaseError"
    assert world.store.restore_mark.is_set()


def test_an_accepted_database_goes_on_with_all(world: World) -> None:
    hide_the_proof(world)
    world.edit(A="older", B="b2", C="c2")
    world.run()

    world.store.restore_mark.accept(ahead=1_000)
    run = world.run()

    assert run.outcome is Outcome.APPLIED
    assert [world.remote.object(name).text() for name in (FIRST, SECOND, THIRD)] == ["older", "b2", "c2"]
