"""
Random walks of edits, changes by others, sweeps, takeovers, failures and clocks: no drift is missed.

What AWS dates is found by lists of changes alone, however late lists are and whatever our clocks say. What it does not
date is found by the next list of everything, and counted.
"""

from collections.abc import Callable
from random import Random

import pytest

from phasesync.core.events import DriftMissedByIncrementalSweep
from phasesync.core.sync import Trigger
from phasesync.core.sync_claim import Claim
from phasesync.errors import DestinationUnavailableError
from tests.engine.test_incremental_sweep import LAG, list_everything
from tests.support.fleet import Fleet
from tests.support.stores import TTL
from tests.support.world import MovableClock, World

SYNCS = 10
STEPS = 80
PER_SYNC = 2
"""Changes by others of one object: more repairs of one object than three a day are held."""


class Walk:
    """One walk. AWS and our hosts have clocks of their own."""

    def __init__(self, world: World, random: Random) -> None:
        self.random = random
        self.world = world
        self.aws = MovableClock()
        world.remote.now = self.aws.now
        self.fleet = Fleet(world, size=SYNCS, lag=LAG, description="ours")
        shares = {f"shop/{name}": random.choice([0, 0, random.random(), 1]) for name in self.fleet.names}
        world.remote.lag_share = lambda name: shares.get(name, 1)
        self.pass_time(600)
        self.fleet.sweep()
        self.fleet.run()
        self.expected = {name: f"postgres://{name}" for name in self.fleet.names}
        self.changes = dict.fromkeys(self.fleet.names, 0)
        self.claims: list[Claim] = []
        self.paused: set[str] = set()
        self.undated: set[str] = set()

    def pass_time(self, seconds: float) -> None:
        self.aws.pass_(seconds=seconds)
        self.world.clock.pass_(seconds=seconds)

    def some_sync(self) -> str:
        return self.random.choice(self.fleet.names)

    # --- steps

    def wait(self) -> None:
        for _ in range(self.random.choice([1, 1, 5, 10])):
            self.pass_time(self.random.choice([1, 10, 29]))
            self.fleet.sweep()

    def other_writes(self) -> None:
        if name := self.changeable():
            self.fleet.remote.outside_put(f"shop/{name}", "theirs")

    def other_describes(self) -> None:
        if name := self.changeable():
            self.fleet.remote.outside_describe(f"shop/{name}", description="theirs")

    def other_deletes(self) -> None:
        name = self.some_sync()
        if self.changes[name] == 0 and self.fleet.object(name).deleted_at is None:
            self.changes[name] = PER_SYNC
            self.fleet.remote.outside_delete(f"shop/{name}")

    def changeable(self) -> str | None:
        name = self.some_sync()
        if self.changes[name] >= PER_SYNC:
            return None
        self.changes[name] += 1
        return name

    def edit(self) -> None:
        name = self.some_sync()
        self.expected[name] = f"postgres://{name}-{self.random.random()}"
        self.fleet.edit(name, self.expected[name])

    def run(self) -> None:
        self.fleet.run()

    def sweep(self) -> None:
        self.fleet.sweep()

    def take_over(self) -> None:
        self.fleet.sweeper = self.fleet.another_sweeper(owner=f"daemon-{self.random.random()}")

    def sweep_in_vain(self) -> None:
        faults = self.world.destinations
        faults.fail("sweep_newest", when=self.random.choice(["before", "after"]), error=DestinationUnavailableError())
        self.fleet.sweep()

    def stop_in_between(self) -> None:
        asked = iter([False] * self.random.randrange(3))
        self.fleet.sweep(lambda: next(asked, True))

    def run_long(self) -> None:
        if len(self.claims) < 2:
            sync_id = self.fleet.sync(self.some_sync()).id
            if sync_id not in [claim.sync_id for claim in self.claims]:
                self.claims.append(
                    self.world.store.claims.claim(sync_id, "long", trigger=Trigger.CHANGE, actor="long", ttl=TTL)
                )

    def end_long_run(self) -> None:
        """The run found nothing to do: it had observed the object before anything happened."""
        if self.claims:
            self.world.store.claims.release(self.claims.pop())

    def set_clock(self) -> None:
        """Ours, not AWS's."""
        self.world.clock.pass_(seconds=self.random.choice([-200, -20, 20, 200]))

    def steps(self) -> list[Callable[[], None]]:
        usual = [self.wait, self.sweep, self.run] * 3
        rare = [self.take_over, self.sweep_in_vain, self.stop_in_between, self.run_long, self.end_long_run]
        return [*usual, self.other_writes, self.other_describes, self.other_deletes, self.edit, self.set_clock, *rare]

    # --- the end

    def come_to_rest(self) -> None:
        """Let lists catch up, and sweep as a daemon does; never a list of everything."""
        while self.claims:
            self.end_long_run()
        for _ in range(28):
            self.pass_time(29)
            assert "sweep" not in self.fleet.sweep()
            self.fleet.run()

    def wrong(self) -> set[str]:
        """Return the syncs with objects that are not as they should be."""
        return {
            name
            for name in self.fleet.names
            if (found := self.fleet.object(name)).text() != f'{{"URL":"{self.expected[name]}"}}'
            or found.description != "ours"
            or found.deleted_at is not None
        }


def on_each(sqlite: int, postgresql: int) -> pytest.MarkDecorator:
    """So many walks on each database: PostgreSQL has its own locks and statements, and walks as SQLite does."""
    walks = [("sqlite", seed) for seed in range(sqlite)] + [("postgresql", seed) for seed in range(postgresql)]
    return pytest.mark.parametrize(("database_backend", "seed"), walks, indirect=["database_backend"])


@pytest.mark.slow
@on_each(sqlite=4, postgresql=1)
def test_every_dated_change_is_found_by_lists_of_changes(world: World, seed: int) -> None:
    walk = Walk(world, Random(seed))
    steps = walk.steps()
    for _ in range(STEPS):
        walk.random.choice(steps)()

    walk.come_to_rest()

    assert walk.wrong() == set()
    list_everything(walk.fleet)
    assert [event for event in world.events if isinstance(event, DriftMissedByIncrementalSweep)] == []


@pytest.mark.slow
@on_each(sqlite=2, postgresql=1)
def test_every_other_change_is_found_by_the_next_list_of_everything(world: World, seed: int) -> None:
    walk = Walk(world, Random(seed))
    steps = walk.steps()
    for number in range(STEPS):
        if number == STEPS // 2:
            walk.pass_time(900)
            walk.fleet.remote.undated = True
        walk.random.choice(steps)()
    walk.come_to_rest()
    hidden = walk.wrong()

    list_everything(walk.fleet)
    walk.fleet.run()

    assert walk.wrong() == set()
    missed = [event for event in world.events if isinstance(event, DriftMissedByIncrementalSweep)]
    assert sum(event.listed for event in missed) == len(hidden)
