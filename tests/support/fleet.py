"""
Several syncs of one account with a sweeper, on a world's store and its AWS in memory.

    fleet = Fleet(world, size=5)        in step, and checked soon
    fleet.remote.outside_put("shop/s3", "theirs")
    fleet.sweep()
    fleet.run()                         what a daemon would run now
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal, cast

from phasesync.core.events import SweepFinished
from phasesync.core.model import SecretValue, SecretWrite
from phasesync.core.run import Run
from phasesync.core.sync import Sync, SyncConfig
from phasesync.engine.sweep import Sweeper
from phasesync.store import Store
from phasesync.store.daemons import DaemonRegistry
from tests.fakes.remote import REGION, FakeObject, FakeRemote
from tests.support.context import context_of
from tests.support.stores import ACTOR, EXPIRED, sync_draft
from tests.support.world import World

SWEEP_EVERY = timedelta(seconds=10)
SOON = timedelta(seconds=19)
"""An interval with checks that are always due soon, and not yet: no test has to wait."""


class _Anybody:
    """A registry in which every daemon may do a chore at any time."""

    def claim_chore(self, name: str, owner: str, *, every: timedelta) -> bool:
        return True


class Fleet:
    """Syncs s0, s1, … of environments of their own names to objects shop/s0, shop/s1, … beside the world's own."""

    def __init__(
        self,
        world: World,
        *,
        size: int = 3,
        lag: timedelta = timedelta(0),
        sorting: Literal["done", "refused", "ignored"] = "done",
        **config: Any,
    ) -> None:
        self.world = world
        self.full_every = timedelta(hours=1)
        world.remote.sorting = sorting
        self.remote: FakeRemote = world.remote
        self.remote.lag = lag
        self.names = [f"s{number}" for number in range(size)]
        for name in self.names:
            self.add(name, SyncConfig(**{"remote_name": f"shop/{name}", "interval": SOON, **config}))
        world.configure(interval=SOON)
        self.run()
        self.let_writes_grow_old()
        self.sweeper = self.another_sweeper()

    def another_sweeper(self, registry: DaemonRegistry | None = None, owner: str = "daemon-1") -> Sweeper:
        """The sweeper of another daemon; by default one that may sweep at any time."""
        store = self.world.store
        chores = Store(store.database, store.keys, instance_id=store.instance_id)
        chores.daemons = registry or cast(DaemonRegistry, _Anybody())
        context = context_of(
            chores, destinations=self.world.destinations, clock=self.world.clock, events=self.world, owner=owner
        )
        return Sweeper(context, every=lambda: SWEEP_EVERY, full_every=lambda: self.full_every)

    def let_writes_grow_old(self) -> None:
        """Let so much time pass that a sweep does not skip what was written just now."""
        self.world.clock.pass_(minutes=10)

    def edit(self, name: str, text: str) -> None:
        """Set a key of a sync's environment."""
        write = SecretWrite(path="/", key="URL", value=SecretValue(text))
        self.world.store.secrets.edit("shop", name, actor=ACTOR, origin="set", writes=[write])

    def sweep(self, stopping: Callable[[], bool] = lambda: False) -> list[str]:
        """Sweep once; return the calls that it made, without those that are refused because of their order."""
        before = len(self.world.destinations.log)
        self.sweeper.sweep(stopping)
        calls = self.world.destinations.log[before:]
        return [call for call in calls if (self.remote.sorting, call) != ("refused", "sweep_newest")]

    def run(self) -> list[Run]:
        """Reconcile what a daemon would reconcile now; return the runs."""
        claims = self.world.store.claims.claim_due("daemon-1", limit=1000, ttl=EXPIRED)
        runs = [self.world.another_reconciler().reconcile(claim, lambda: None) for claim in claims]
        return [run for run in runs if run is not None]

    def sync(self, name: str) -> Sync:
        """Return a sync as it stands."""
        return self.world.store.syncs.get_sync(name)

    def object(self, name: str) -> FakeObject:
        """Return a sync's object at AWS."""
        return self.remote.object(f"shop/{name}")

    @property
    def swept(self) -> list[SweepFinished]:
        """What was reported of sweeps."""
        return [event for event in self.world.events if isinstance(event, SweepFinished)]

    def add(self, name: str, config: SyncConfig) -> None:
        """Add a sync with an environment of its name, pending."""
        self.world.store.apps.add_environment("shop", name)
        self.edit(name, f"postgres://{name}")
        self.world.store.syncs.add_sync(sync_draft(name, environment=name, region=REGION, config=config))
