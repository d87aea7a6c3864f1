"""
A whole phasesync without processes: a real store, the real engine, an AWS in memory. A test edits, runs, crashes it.

    world.edit(URL="postgres://new")
    world.run()                               one reconcile, as a daemon would do it
    world.destinations.on_call = ...          act at any step of a run
    world.remote.object(world.name).text()    what readers at AWS get
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from phasesync.adapters.clock import SystemClock
from phasesync.core.events import Event
from phasesync.core.model import SecretValue, SecretWrite
from phasesync.core.remote import JournalEntry
from phasesync.core.run import Run
from phasesync.core.sync import Sync, SyncConfig, Trigger
from phasesync.core.sync_claim import Claim
from phasesync.engine.reconcile import Reconciler
from phasesync.engine.sync_admin import SyncAdmin
from phasesync.store import Store
from tests.fakes.destination import FakeDestinations
from tests.fakes.remote import REGION, FakeObject, FakeRemote
from tests.support.context import context_of, watched
from tests.support.databases import copy_of_filled
from tests.support.stores import ACTOR, EXPIRED, access_key, open_test_store, sync_draft

NAME = "shop/web"
KEY_ARN = f"arn:aws:kms:{REGION}:111122223333:key/12345678-1234-1234-1234-123456789012"


class MovableClock(SystemClock):
    """The time, and whatever a test lets pass. The database's own clock does not follow."""

    def __init__(self) -> None:
        self.passed = timedelta(0)

    def now(self) -> datetime:
        """Return the time."""
        return super().now() + self.passed

    def pass_(self, **time: float) -> None:
        """Let time pass: hours=2."""
        self.passed += timedelta(**time)


class Killed(BaseException):
    """The process died here: nothing after this line happens, and no one cleans up."""


class World:
    """
    One sync of shop/production to `NAME`, pending; its environment has two keys.

    `begun`: these are in the store already, from another world, without `config`.
    """

    def __init__(self, store: Store, *, begun: bool = False, **config: Any) -> None:
        self.store = store
        self.clock = MovableClock()
        self.remote = FakeRemote(now=self.clock.now)
        self.destinations = FakeDestinations(self.remote, instance_id=store.instance_id)
        self.events: list[Event] = []
        self.on_step: Callable[[str, str], None] | None = None
        self.destinations.on_call = self._reach
        self._owners = (f"daemon-{number}" for number in itertools.count(1))
        self.name = NAME
        if not begun:
            self._begin(replace(SyncConfig(remote_name=NAME), **config))
        self.sync_id = self.sync.id
        self.context = context_of(
            watched(store, self._reach), destinations=self.destinations, clock=self.clock, events=self
        )
        self.reconciler = self.another_reconciler()

    def _begin(self, config: SyncConfig) -> None:
        self.store.apps.add_app("shop")
        self.store.apps.add_environment("shop", "production")
        self.edit(URL="postgres://db", USER="shop")
        self.store.credentials.add("aws", access_key(region=REGION))
        self.store.syncs.add_sync(sync_draft("web", region=REGION, config=config))

    def another_reconciler(self) -> Reconciler:
        """Another process's engine on the same store and the same AWS."""
        return Reconciler(self.context)

    def emit(self, event: Event) -> None:
        """Port `EventSink`."""
        self.events.append(event)

    # --- what people do

    def edit(self, **values: str | None) -> int:
        """Set keys (None unsets one) as one revision; return it."""
        writes = [SecretWrite(path="/", key=key, value=SecretValue(text)) for key, text in values.items() if text]
        unsets = [("/", key) for key, text in values.items() if text is None]
        edited = self.store.secrets.edit("shop", "production", actor=ACTOR, origin="set", writes=writes, unsets=unsets)
        return edited.revision

    def configure(self, **changes: Any) -> None:
        """Change what is set on the sync."""
        sync = self.sync
        self.store.syncs.update_sync(
            sync.name,
            config=replace(sync.config, **changes),
            path=sync.path,
            credential=sync.credential,
            region=sync.region,
            adopt=sync.adopt,
        )

    def configuration(self) -> SyncAdmin:
        """What `syncs update` and `syncs remove` use; AWS is asked for no identity."""
        return SyncAdmin(self.context)

    # --- what daemons do

    def claim(self, trigger: Trigger = Trigger.MANUAL) -> Claim:
        """Claim the sync as a new process. The claim has ended already, so that a successor never waits."""
        return self.store.claims.claim(self.sync_id, next(self._owners), trigger=trigger, actor=ACTOR, ttl=EXPIRED)

    def run(self, trigger: Trigger = Trigger.MANUAL) -> Run:
        """Reconcile once, as a new process; AssertionError when nothing was recorded."""
        done = self.another_reconciler().reconcile(self.claim(trigger), lambda: None)
        if done is None:
            raise AssertionError("the run was not recorded")
        return done

    def due(self) -> bool:
        """Whether a daemon would reconcile the sync now, by itself."""
        self.store.claims.release_expired()
        claims = self.store.claims.claim_due("observer", limit=1, ttl=EXPIRED)
        for claim in claims:
            self.store.claims.release(claim)
        return bool(claims)

    @contextmanager
    def steps(self, hook: Callable[[str, str], None]) -> Iterator[None]:
        """Call a hook at every step of the runs within: (before or after, what)."""
        self.on_step = hook
        try:
            yield
        finally:
            self.on_step = None

    # --- what there is to see

    @property
    def sync(self) -> Sync:
        """The sync now."""
        return self.store.syncs.get_sync("web")

    @property
    def entry(self) -> JournalEntry:
        """Its journal entry; there is one."""
        (entry,) = self.store.sync_states.state_of("web").journal
        return entry

    @property
    def object(self) -> FakeObject:
        """The object at AWS."""
        return self.remote.object(NAME)

    @property
    def text(self) -> str:
        """What readers at AWS get."""
        return self.object.text()

    @property
    def versions(self) -> int:
        """How many versions were ever written."""
        return len(self.object.versions)

    def writes(self) -> list[str]:
        """Names of the calls that wrote something, in order."""
        reads = ("observe", "list_names", "sweep", "sweep_newest", "resource_policy", "resolve_key", "read_value")
        return [call for call in self.destinations.log if call not in reads]

    def _reach(self, when: str, call: str) -> None:
        if self.on_step is not None:
            self.on_step(when, call)


@pytest.fixture
def world(request: pytest.FixtureRequest, database_backend: str, tmp_path: Path) -> Iterator[World]:
    """A world of its own, on each database: a copy of one that is made once, unless the test wants the database too."""
    if begun := "migrated_database_url" not in request.fixturenames:
        urls = copy_of_filled(request, database_backend, tmp_path, "world", _begin_world)
    else:
        urls = iter([request.getfixturevalue("migrated_database_url")])
    for url in urls:
        store = open_test_store(url)
        yield World(store, begun=begun)
        store.close()


def _begin_world(url: str) -> None:
    store = open_test_store(url)
    World(store)
    store.close()
