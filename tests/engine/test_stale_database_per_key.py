"""A database that is older than AWS, with one object a key: the proof on one of them stops the run for all."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from phasesync.core.run import Outcome
from phasesync.core.sync import Layout, OnRemove, SyncStatus
from phasesync.engine.stale_database import SKIP
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

    world.store.restore_mark.accept(ahead=SKIP)
    run = world.run()

    assert run.outcome is Outcome.APPLIED
    assert [world.remote.object(name).text() for name in (FIRST, SECOND, THIRD)] == ["older", "b2", "c2"]


# --- a copy that wrote nothing since, and whose journal is whole


def journal_rows(world: World) -> list[dict[str, Any]]:
    """The journal of all objects."""
    with world.store.database.read() as connection:
        return [row._asdict() for row in connection.execute(sa.select(journal))]


def put_back(world: World, rows: list[dict[str, Any]]) -> None:
    """Go on as a copy of the database from then."""
    with world.store.database.write() as connection:
        for row in rows:
            connection.execute(journal.update().where(journal.c.id == row["id"]).values(**row))


@pytest.mark.parametrize("accepts", [1, 3])
def test_an_older_copy_writes_no_object_after_another_was_accepted(world: World, accepts: int) -> None:
    """Each object, whichever a run looks at first."""
    world.store.restore_mark.accept(ahead=SKIP)
    world.edit(A="a", B="b", C="c")
    world.run()
    rows = journal_rows(world)
    for number in range(accepts):
        world.store.restore_mark.accept(ahead=SKIP)
        world.edit(C=f"accepted {number}")
        assert world.run().outcome is Outcome.APPLIED
    put_back(world, rows)
    world.edit(A="older", B="older", C="older")

    run = world.run()

    assert run.error is not None
    assert (run.outcome, run.error.cls) == (Outcome.REFUSED, "StaleDatabaseError")
    assert [world.remote.object(name).text() for name in (FIRST, SECOND, THIRD)] == [
        "a",
        "b",
        f"accepted {accepts - 1}",
    ]


def test_an_older_copy_undoes_no_deletion_of_a_key(world: World) -> None:
    """The object was deleted because its key was removed; the copy still has the key."""
    world.store.restore_mark.accept(ahead=SKIP)
    world.configure(on_remove=OnRemove.DELETE, grace=timedelta(0))
    world.edit(A="a")
    world.run()
    rows = journal_rows(world)
    world.edit(C=None)
    assert world.run().counts["delete"] == 1
    put_back(world, rows)
    world.edit(C="c")

    run = world.run()

    assert run.error is not None
    assert (run.outcome, run.error.cls) == (Outcome.REFUSED, "StaleDatabaseError")
    assert world.remote.object(THIRD).deleted_at is not None


def test_an_accepted_copy_brings_back_what_was_deleted_since(world: World) -> None:
    """That is what its operator decided."""
    test_an_older_copy_undoes_no_deletion_of_a_key(world)

    world.store.restore_mark.accept(ahead=SKIP)

    assert world.run().counts["restore"] == 1
    assert (world.remote.object(THIRD).deleted_at, world.remote.object(THIRD).text()) == (None, "c")
