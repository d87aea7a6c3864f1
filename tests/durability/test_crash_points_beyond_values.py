"""
The process dies at every step of what is more than one value: copies, policies, marks, many objects, deletions.

However it died, the runs that follow end where an undisturbed run ends, and with as many versions. As in
`test_crash_points.py` the steps are found by running each scenario once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from phasesync.core.run import Outcome
from phasesync.core.sync import AWS_MANAGED_KEY, Layout, OnDrift, OnRemove, TagMode
from phasesync.store import Store
from tests.durability.moments import Moment, go_back, keep, picture
from tests.durability.test_crash_points import kill_at
from tests.support.stores import ACTOR, open_test_store
from tests.support.world import NAME, Killed, World

US = "us-east-1"
POLICY = (
    '{"Statement":[{"Action":"secretsmanager:GetSecretValue","Effect":"Allow",'
    '"Principal":{"AWS":"arn:aws:iam::111122223333:role/web"},"Resource":"*"}],"Version":"2012-10-17"}'
)
PER_KEY = {
    "layout": Layout.PER_KEY,
    "remote_name": None,
    "name_template": "{app}/{env}/{key}",
    "on_remove": OnRemove.DELETE,
}


@dataclass(frozen=True)
class Scenario:
    """One kind of change: what was there before, and what the run is to bring to AWS."""

    name: str
    arrange: Callable[[World], None]
    config: dict[str, Any] = field(default_factory=dict)


def approve(world: World) -> None:
    """Approve what `syncs plan` shows as held."""
    digest = world.reconciler.prepare(world.store.sync_states.state_of("web")).guarded.digest
    if digest is not None:
        world.store.sync_requests.approve("web", digest, actor=ACTOR)


def configured(**config: Any) -> Callable[[World], None]:
    """The object exists; then its sync changes."""

    def arrange(world: World) -> None:
        world.run()
        world.remote.settle_replication()
        world.configure(**config)

    return arrange


def fresh(world: World) -> None:
    """Nothing is there yet."""


def removed(*keys: str) -> Callable[[World], None]:
    """Keys are gone, and so is their grace."""

    def arrange(world: World) -> None:
        world.edit(A="a", B="b", C="c", D="d")
        world.run()
        world.remote.settle_replication()
        world.edit(**dict.fromkeys(keys))
        world.run()
        world.clock.pass_(hours=2)

    return arrange


def removed_and_approved(world: World) -> None:
    """More keys are gone than may be deleted unattended; someone approved it."""
    removed("A", "B", "C", "D")(world)
    world.run()
    approve(world)


def wanted_again(world: World) -> None:
    """A key was removed and its object deleted; now it is back, with another value."""
    removed("A")(world)
    world.run()
    world.run()
    world.edit(A="again")


def changed_outside_and_approved(world: World) -> None:
    """Someone wrote and described it; the sync holds on drift; someone approved the repair."""
    world.run()
    world.remote.outside_put(NAME, "theirs")
    world.remote.outside_describe(NAME, description="theirs")
    world.run()
    approve(world)


TAGGED = {"tags": {"team": "shop"}, "tag_mode": TagMode.REPLACE_OWN}
SCENARIOS = [
    Scenario("create with copies", fresh, {"replicas": {US: AWS_MANAGED_KEY}}),
    Scenario("copies are made", configured(replicas={US: AWS_MANAGED_KEY})),
    Scenario("copies are taken back", configured(replicas={}), {"replicas": {US: AWS_MANAGED_KEY}}),
    Scenario("create with a policy", fresh, {"resource_policy": POLICY}),
    Scenario("a policy is put", configured(resource_policy=POLICY)),
    Scenario("description and tags", configured(description="ours", tags={"stage": "live"}), TAGGED),
    Scenario("all at once", configured(description="ours", tags={"stage": "live"}, resource_policy=POLICY), TAGGED),
    Scenario("several objects are made", fresh, PER_KEY),
    Scenario("objects are deleted", removed("A", "B"), PER_KEY),
    Scenario("an object with copies is deleted", removed("A"), {**PER_KEY, "replicas": {US: AWS_MANAGED_KEY}}),
    Scenario("many deletions, approved", removed_and_approved, PER_KEY),
    Scenario("wanted again after its deletion", wanted_again, PER_KEY),
    Scenario("held and approved", changed_outside_and_approved, {"on_drift": OnDrift.HOLD, "description": "ours"}),
]
by_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)


@pytest.fixture
def store(migrated_database_url: str) -> Iterator[Store]:
    opened = open_test_store(migrated_database_url)
    yield opened
    opened.close()


def come_to_rest(world: World) -> None:
    """
    Runs follow until one has nothing to do and nothing is to come; what is held anew is approved anew.

    A deletion that was noted and not asked for looks like one that someone undid: its grace begins anew.
    """
    for _ in range(8):
        run = world.run()
        if run.outcome is Outcome.HELD:
            approve(world)
        world.remote.settle_replication()
        if run.outcome is Outcome.UNCHANGED and not any("deleted after" in change.reason for change in run.changes):
            return
        world.clock.pass_(hours=2)
    raise AssertionError("it does not come to rest")


def undisturbed(world: World) -> tuple[Moment, list[str], dict[str, tuple[object, ...]]]:
    """Return the moment before the run, the steps of the run, and how AWS looks in the end."""
    before = keep(world)
    steps: list[str] = []
    with world.steps(lambda when, what: steps.append(f"{when} {what}")):
        assert world.run().outcome is Outcome.APPLIED
    come_to_rest(world)
    return before, steps, picture(world)


def killed_at_each(world: World, *, every: int) -> None:
    """Kill the run at each step (or each n-th), and compare how AWS looks in the end."""
    before, steps, wanted = undisturbed(world)
    assert len(steps) >= 6
    for step in range(0, len(steps), every):
        go_back(world, before)
        with world.steps(kill_at(step)), pytest.raises(Killed):
            world.run()

        come_to_rest(world)

        assert picture(world) == wanted, steps[step]
        entries = world.store.sync_states.state_of("web").journal
        assert [entry.remote_name for entry in entries if entry.intent is not None] == [], steps[step]


@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
@by_scenario
def test_a_kill_at_any_step_ends_as_if_nothing_had_happened(store: Store, scenario: Scenario) -> None:
    world = World(store, **scenario.config)
    scenario.arrange(world)

    killed_at_each(world, every=1)


@pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("scenario", [SCENARIOS[6], SCENARIOS[8], SCENARIOS[11]], ids=lambda scenario: scenario.name)
def test_on_postgresql_as_well(store: Store, scenario: Scenario) -> None:
    world = World(store, **scenario.config)
    scenario.arrange(world)

    killed_at_each(world, every=3)


@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("scenario", [SCENARIOS[0], *SCENARIOS[6:]], ids=lambda scenario: scenario.name)
def test_two_kills_in_a_row_end_as_if_nothing_had_happened(store: Store, scenario: Scenario) -> None:
    """The second one in the recovery, which has other steps."""
    world = World(store, **scenario.config)
    scenario.arrange(world)
    before, steps, wanted = undisturbed(world)
    for first in range(1, len(steps), 5):
        for second in range(first % 6, len(steps), 6):
            go_back(world, before)
            for step in (first, second):
                try:
                    with world.steps(kill_at(step)):
                        world.run()
                except Killed:
                    world.clock.pass_(seconds=1)

            come_to_rest(world)

            assert picture(world) == wanted, (steps[first], second)
