"""What small steps take from an object, or from a sync, over several runs; every run is a process of its own."""

import json
from datetime import timedelta

import pytest
import sqlalchemy as sa

from phasesync.core.model import SecretValue, SecretWrite
from phasesync.core.remote import KeyContent
from phasesync.core.run import Outcome, Run
from phasesync.core.sync import Layout, OnRemove
from phasesync.engine.explanation import explain
from phasesync.store.journal import entry_context, to_entry
from phasesync.store.tables import environments, journal
from tests.support.operator import operations
from tests.support.stores import ACTOR
from tests.support.world import NAME, World

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"])


def approve(world: World) -> None:
    """Approve what is held, and have it written."""
    digest = operations(world).plan("web").guarded.digest
    operations(world).approve("web", digest or "", actor=ACTOR)
    assert world.run().outcome is Outcome.APPLIED


def put(world: World, environment: str, **values: str) -> None:
    """Set keys of an environment; an empty text is a value as well."""
    writes = [SecretWrite(path="/", key=key, value=SecretValue(text)) for key, text in values.items()]
    world.store.secrets.edit("shop", environment, actor=ACTOR, origin="set", writes=writes)


def unset(world: World, *keys: str) -> Run:
    """Unset keys and reconcile."""
    world.edit(**dict.fromkeys(keys))
    return world.run()


@pytest.fixture
def five(world: World) -> World:
    """An object of five keys."""
    world.edit(A="a", B="b", C="c")
    world.run()
    return world


def test_keys_that_go_one_after_the_other_are_held_like_all_at_once(five: World) -> None:
    assert unset(five, "A").outcome is Outcome.APPLIED
    assert unset(five, "B").outcome is Outcome.APPLIED
    held = unset(five, "C")

    assert held.outcome is Outcome.HELD
    assert held.error is not None
    assert (
        "would drop 3 of 5 keys within 24 h since the last approval, 1 of them with this change" in held.error.message
    )
    assert set(json.loads(five.text)) == {"C", "URL", "USER"}
    (why,) = explain(five.context, "web").objects
    assert why.held == "shrinking"
    assert "3 of 5 keys within 24 h" in (why.held_reason or "")


def test_an_approval_begins_a_new_window_and_names_what_is_held(five: World) -> None:
    unset(five, "A", "B")
    unset(five, "C")
    before = operations(five).plan("web").guarded.digest
    five.edit(USER="another")
    assert operations(five).plan("web").guarded.digest != before

    approve(five)

    assert five.entry.steps == ()
    assert unset(five, "URL").outcome is Outcome.APPLIED  # 1 of 2


def test_calls_that_fail_and_answers_that_are_lost_count_once(five: World) -> None:
    """Two of five go, whatever happens on the way; a third would be one too many, and it is the third."""
    five.edit(A=None)
    five.destinations.fail("put_value")
    five.run()
    five.destinations.fail("put_value", when="after")
    five.run()
    five.run()
    assert [dict(step.former) for step in five.entry.steps] == [{"A": KeyContent.FULL}]
    assert unset(five, "B").outcome is Outcome.APPLIED

    five.remote.outside_put(NAME, "theirs")
    assert five.run().outcome is Outcome.APPLIED

    assert len(five.entry.steps) == 2
    assert unset(five, "C").outcome is Outcome.HELD


def test_the_next_day_more_may_go(five: World) -> None:
    unset(five, "A", "B")
    five.clock.pass_(hours=24)
    assert unset(five, "C").outcome is Outcome.APPLIED


def test_values_that_a_source_takes_with_it_wait(world: World) -> None:
    """Ten references to one source: it becomes empty in one edit of another environment."""
    world.store.apps.add_environment("shop", "src")
    put(world, "src", X="secret")
    world.edit(**{f"K{number}": "${src.X}" for number in range(10)})
    world.run()
    put(world, "src", X="")

    held = world.run()

    assert held.outcome is Outcome.HELD
    assert json.loads(world.text)["K0"] == "secret"
    assert held.error is not None
    assert "10 of 12 keys, all by becoming empty" in held.error.message
    approve(world)
    assert json.loads(world.text)["K0"] == ""


def test_one_reference_of_many_values_is_enough(world: World) -> None:
    """It is no deliberate act on this environment."""
    world.store.apps.add_environment("shop", "src")
    put(world, "src", X="secret")
    world.edit(A="${src.X}", B="b", C="c", D="d")
    world.run()
    put(world, "src", X="")

    held = operations(world).plan("web").guarded.held

    assert [str(one.rule) for one in held] == ["empty-reference"]
    assert held[0].change.keys.emptied == ("A",)


# --- objects


@pytest.fixture
def objects(world: World) -> World:
    """Ten objects; those that lose their key are deleted at once."""
    world.configure(
        layout=Layout.PER_KEY,
        remote_name=None,
        name_template="shop/{key}",
        on_remove=OnRemove.DELETE,
        grace=timedelta(0),
    )
    world.edit(URL=None, USER=None, **{f"K{number}": "x" for number in range(10)})
    world.run()
    return world


def test_objects_that_go_one_after_the_other_are_held_like_all_at_once(objects: World) -> None:
    assert unset(objects, "K0").outcome is Outcome.APPLIED
    assert unset(objects, "K1").outcome is Outcome.APPLIED
    held = unset(objects, "K2")

    assert held.outcome is Outcome.HELD
    assert held.error is not None
    assert "would delete 3 of 10 objects within 24 h since the last approval, 1 of them now" in held.error.message
    assert objects.remote.object("shop/K2").deleted_at is None


def test_a_deletion_that_was_undone_does_not_count(objects: World) -> None:
    unset(objects, "K0")
    unset(objects, "K1")
    objects.edit(K0="x", K1="x")
    objects.run()

    assert unset(objects, "K2").outcome is Outcome.APPLIED


def test_an_approved_deletion_begins_a_new_window(objects: World) -> None:
    unset(objects, "K0", "K1")
    unset(objects, "K2")
    approve(objects)

    assert unset(objects, "K3").outcome is Outcome.APPLIED
    assert unset(objects, "K4").outcome is Outcome.APPLIED
    assert unset(objects, "K5").outcome is Outcome.HELD  # 3 of 7


def test_the_last_of_several_objects_is_held_whichever_run_deletes_it(objects: World) -> None:
    objects.configure(delete_limit_percent=100, delete_limit_objects=9)
    for number in range(9):
        assert unset(objects, f"K{number}").outcome is Outcome.APPLIED
    assert unset(objects, "K9").outcome is Outcome.HELD


# --- journals of an earlier release


def test_a_row_of_an_earlier_release_is_read(five: World) -> None:
    """Its details lack what was added since; the values that were empty then do not count as lost."""
    put(five, "production", A="")
    five.run()
    ring = five.store.keys
    added = {"empty", "steps", "created_at", "deletion_approved"}
    with five.store.database.write() as connection:
        row = connection.execute(sa.select(journal)).one()
        key_id = connection.scalar(sa.select(environments.c.data_key_id))
        details = json.loads(ring.decrypt(entry_context(to_entry(row, ring)), row.details))
        older = {name: value for name, value in details.items() if name not in added}
        assert len(details) == len(older) + len(added)
        sealed = ring.encrypt_json(str(key_id), entry_context(to_entry(row, ring)), older)
        connection.execute(journal.update().values(details=sealed))

    read = five.entry
    assert (read.empty, read.steps, read.created_at) == (None, (), None)
    assert five.run().outcome is Outcome.UNCHANGED
    assert unset(five, "B").outcome is Outcome.APPLIED
    assert [dict(step.former) for step in five.entry.steps] == [{"B": KeyContent.FULL}]
