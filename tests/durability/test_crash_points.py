"""
The process dies at every step of every kind of write; the next start has to end with the right value and one version.

The steps are found by running each scenario once: before and after each AWS call, each write of the journal and the
end of the run. Whatever is added to the engine later is killed too.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest

from phasesync.core.run import Outcome
from phasesync.core.sync import Adopt
from phasesync.store import Store
from tests.durability.moments import Moment, go_back, keep
from tests.support.stores import ACTOR, open_test_store
from tests.support.world import KEY_ARN, NAME, Killed, World

WANTED = {"URL": "postgres://new", "USER": "shop"}


@dataclass(frozen=True)
class Scenario:
    """
    One kind of write.

    Attributes:
        arrange: what was there before.
        act: what the run has to bring to AWS.
        new_versions: how many versions it takes.
    """

    name: str
    arrange: Callable[[World], None]
    act: Callable[[World], None]
    new_versions: int = 1


def nothing(world: World) -> None:
    """Nothing happens."""


def created(world: World) -> None:
    """The object exists and is in step."""
    world.run()


def edited(world: World) -> None:
    """The value changes."""
    world.edit(URL=WANTED["URL"])


def rekeyed(world: World) -> None:
    """The key changes, the value does not."""
    world.configure(kms_key=KEY_ARN)


def rekeyed_and_edited(world: World) -> None:
    """Key and value change."""
    rekeyed(world)
    edited(world)


def scheduled(world: World) -> None:
    """Someone schedules the object for deletion."""
    world.remote.outside_delete(NAME)


def scheduled_and_edited(world: World) -> None:
    """Someone schedules it for deletion, and the value changes."""
    scheduled(world)
    edited(world)


def deleted(world: World) -> None:
    """Someone deletes the object for good."""
    world.remote.outside_delete(NAME, recovery_days=None)


def changed_outside(world: World) -> None:
    """Someone writes another value."""
    world.remote.outside_put(NAME, "theirs")


def foreign(world: World) -> None:
    """Someone else's object stands at the name."""
    world.remote.outside_create(NAME, "theirs", tags={"team": "other"})


def adopted(world: World) -> None:
    """The operator consents to take it over."""
    world.store.sync_requests.consent_to_adopt("web", Adopt.OVERWRITE, actor=ACTOR)


SCENARIOS = [
    Scenario("create", nothing, nothing),
    Scenario("change", created, edited),
    Scenario("re-key", created, rekeyed),
    Scenario("re-key and change", created, rekeyed_and_edited),
    Scenario("restore", created, scheduled, new_versions=0),
    Scenario("restore and change", created, scheduled_and_edited),
    Scenario("missing", created, deleted),
    Scenario("changed outside", created, changed_outside),
    Scenario("adopt", foreign, adopted),
]
EVERYDAY = ("create", "change", "re-key", "restore")
"""What is tried on PostgreSQL as well: what a step stores is the same for all, and so is what a death leaves."""
by_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)


@pytest.fixture
def store(migrated_database_url: str) -> Iterator[Store]:
    """A store of its own, on each database."""
    opened = open_test_store(migrated_database_url)
    yield opened
    opened.close()


def prepared(store: Store, scenario: Scenario) -> tuple[World, Moment, list[str], int]:
    """
    Return a world with the scenario ahead of it, and that moment to go back to.

    Also what an undisturbed run makes of it: its steps, and how many versions there are then.
    """
    world = World(store)
    scenario.arrange(world)
    scenario.act(world)
    moment = keep(world)
    steps: list[str] = []
    with world.steps(lambda when, what: steps.append(f"{when} {what}")):
        assert world.run().outcome is Outcome.APPLIED
    return world, moment, steps, world.versions


def kill_at(step: int) -> Callable[[str, str], None]:
    """Return a hook that kills the process at the n-th step."""
    seen = 0

    def hook(_when: str, _what: str) -> None:
        nonlocal seen
        seen += 1
        if seen == step + 1:
            raise Killed

    return hook


def killed_once(store: Store, scenario: Scenario) -> Iterator[tuple[World, str, int]]:
    """Yield a world with a killed run, for each step; with the step and the versions of an undisturbed run."""
    world, moment, steps, versions = prepared(store, scenario)
    assert len(steps) >= 6
    for step, label in enumerate(steps):
        go_back(world, moment)
        with world.steps(kill_at(step)), pytest.raises(Killed):
            world.run()
        yield world, label, versions


def in_step(world: World) -> None:
    """What holds when the dust has settled."""
    wanted = {"URL": "postgres://db", "USER": "shop"} | {
        one.key: one.value.reveal_text()
        for one in world.store.secrets.list_secrets("shop", "production")
        if one.value is not None
    }
    assert json.loads(world.text) == wanted
    assert world.object.deleted_at is None
    assert world.entry.intent is None
    assert world.entry.version_id == world.object.current.id if world.object.current else False
    before = world.versions
    assert world.run().outcome is Outcome.UNCHANGED
    assert world.versions == before


@pytest.mark.parametrize(
    ("database_backend", "scenario"),
    [("sqlite", one) for one in SCENARIOS] + [("postgresql", one) for one in SCENARIOS if one.name in EVERYDAY],
    indirect=["database_backend"],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_a_kill_at_any_step_loses_nothing_and_adds_no_version(store: Store, scenario: Scenario) -> None:
    """Killed once, started again: the right value, exactly the versions of an undisturbed run."""
    for world, label, versions in killed_once(store, scenario):
        # The daemon takes it up by itself, unless the run had ended already.
        assert world.due() or label == "after finish", label

        world.run()

        in_step(world)
        assert world.versions == versions, label


# What follows is the engine's doing alone; one database is enough, and the fast one at that.
on_sqlite = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)


@on_sqlite
@by_scenario
def test_two_kills_in_a_row_lose_nothing_and_add_no_version(store: Store, scenario: Scenario) -> None:
    """Killed at any step, and again at some of the steps of the recovery, others each time."""
    world, moment, steps, versions = prepared(store, scenario)
    for first in range(len(steps)):
        for second in range(first % 12, len(steps), 12):
            go_back(world, moment)
            for step in (first, second):
                try:
                    with world.steps(kill_at(step)):
                        world.run()
                except Killed:
                    continue

            world.run()

            in_step(world)
            assert world.versions == versions, (steps[first], second)


@on_sqlite
@by_scenario
def test_an_edit_between_crash_and_recovery_wins(store: Store, scenario: Scenario) -> None:
    """The recovery finds another value to write: it ends at AWS, whatever of the old write had landed."""
    for world, label, versions in killed_once(store, scenario):
        world.edit(URL="postgres://newest")

        world.run()

        assert json.loads(world.text)["URL"] == "postgres://newest", label
        in_step(world)
        # One version for the old write where it had landed, one for the new value.
        assert world.versions <= versions + 1, label


@on_sqlite
@by_scenario
def test_reverting_an_edit_whose_write_may_have_landed_ends_with_the_old_value(
    store: Store, scenario: Scenario
) -> None:
    """A -> B -> A: the way back is not swallowed, whether B had landed or lands late."""
    for world, label, _ in killed_once(store, scenario):
        world.edit(URL="postgres://db")

        world.run()

        assert json.loads(world.text)["URL"] == "postgres://db", label
        in_step(world)


@on_sqlite
@by_scenario
def test_a_frozen_worker_that_wakes_puts_nothing_older_on_top(store: Store, scenario: Scenario) -> None:
    """It froze before a call; a successor wrote a newer value; then the call goes out after all."""
    world, moment, steps, _ = prepared(store, scenario)
    frozen_at = [step for step, label in enumerate(steps) if label.startswith("before ")]
    for step in frozen_at:
        go_back(world, moment)
        seen = 0

        def freeze(_when: str, _what: str, step: int = step, world: World = world) -> None:
            nonlocal seen
            seen += 1
            if seen == step + 1:
                world.on_step = None
                world.edit(URL="postgres://newest")
                world.run()

        late = world.claim()
        with world.steps(freeze):
            world.reconciler.reconcile(late, lambda: None)

        assert json.loads(world.text)["URL"] == "postgres://newest", steps[step]
        world.run()
        in_step(world)


@on_sqlite
@by_scenario
def test_a_worker_that_wakes_after_its_successor_died_is_undone(store: Store, scenario: Scenario) -> None:
    """
    It froze before a call, its successor died at some step of writing a newer value, then the old call goes out.

    Both sent the same token, so that the version alone does not show which payload is at AWS.
    """
    world, moment, steps, _ = prepared(store, scenario)
    writes = ("create", "put_value", "update_metadata", "restore")
    frozen_at = [step for step, label in enumerate(steps) if label.removeprefix("before ") in writes]
    assert frozen_at
    for step in frozen_at:
        for successor_step in range(step % 3, len(steps), 3):
            go_back(world, moment)
            seen = 0

            def freeze(
                _when: str, _what: str, step: int = step, world: World = world, dies_at: int = successor_step
            ) -> None:
                nonlocal seen
                seen += 1
                if seen == step + 1:
                    world.edit(URL="postgres://newest")
                    world.on_step = kill_at(dies_at)
                    with suppress(Killed):
                        world.run()
                    world.on_step = None

            late = world.claim()
            with world.steps(freeze):
                world.reconciler.reconcile(late, lambda: None)
            world.run()

            assert json.loads(world.text)["URL"] == "postgres://newest", (steps[step], steps[successor_step])
            in_step(world)
