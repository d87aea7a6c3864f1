"""
Two syncs of one environment, a real store, the real engine, an AWS that keeps its history, and a model of what was
committed.

What people, others and the world do is a method each. Whatever workers do is watched by the judge.
"""

import itertools
import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.model import SecretValue, SecretWrite, ValueType
from phasesync.core.remote import TAG_INSTANCE, JournalEntry
from phasesync.core.sync import Adopt, Layout, OnRemove, Paused, Sync, SyncConfig, SyncStatus, Trigger
from phasesync.core.sync_claim import SyncState
from phasesync.engine.reconcile import Reconciler
from phasesync.engine.stale_database import SKIP
from phasesync.errors import PhasesyncError
from phasesync.store import Store
from phasesync.store.tables import GENERATED, metadata
from tests.durability.machine.judge import Judge
from tests.durability.machine.ledger import Ledger, Write
from tests.durability.machine.workers import TTL, Late, Mishap, Worker
from tests.fakes.destination import FakeDestinations
from tests.fakes.remote import REGION
from tests.support.context import context_of
from tests.support.stores import ACTOR, EXPIRED, access_key, sync_draft
from tests.support.vouching import set_restore_mark

APP, ENV = "shop", "production"
WHOLE, KEYED = "whole", "keyed"
"""The sync with one object, and the sync with one object a key."""
KEYS: Final = ("A", "B", "C", "D", "E")
WHOLE_NAME: Final = "whole/app"
TEMPLATES: Final = ("keyed/{key}", "moved/{key}")

Rows = Mapping[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Commit:
    """One committed content. `number` grows for ever, also where a restored database counts revisions anew."""

    number: int
    content: Mapping[str, SecretValue]


@dataclass(frozen=True)
class Backup:
    """The database at one moment, and what the model knew then."""

    rows: Rows
    timeline: Mapping[int, Commit]
    revision: int
    absent_since: Mapping[str, datetime] = field(default_factory=dict)


class HandClock:
    """A clock that moves on request. The database has its own."""

    def __init__(self) -> None:
        self._now = datetime(2031, 5, 1, tzinfo=UTC)
        self._monotonic = 0.0

    def now(self) -> datetime:
        """Port `Clock`."""
        return self._now

    def monotonic(self) -> float:
        """Port `Clock`."""
        return self._monotonic

    def pass_(self, time: timedelta) -> None:
        """Let time pass."""
        self._now += time
        self._monotonic += time.total_seconds()

    def jump(self, time: timedelta) -> None:
        """Someone sets the clock, forwards or backwards."""
        self._now += time


def prepare(store: Store) -> Rows:
    """Make app, environment, credential and both syncs; return the database as it is then."""
    store.apps.add_app(APP)
    store.apps.add_environment(APP, ENV)
    store.credentials.add("aws", access_key(region=REGION))
    place: dict[str, Any] = {"app": APP, "environment": ENV, "region": REGION}
    store.syncs.add_sync(sync_draft(WHOLE, **place, config=SyncConfig(remote_name=WHOLE_NAME)))
    keyed = SyncConfig(layout=Layout.PER_KEY, name_template=TEMPLATES[0], on_remove=OnRemove.DELETE)
    store.syncs.add_sync(sync_draft(KEYED, **place, config=keyed))
    return read_rows(store)


def read_rows(store: Store) -> Rows:
    """Return all that is in a database."""
    with store.database.read() as connection:
        return {
            table.name: [dict(row) for row in connection.execute(sa.select(table)).mappings()]
            for table in metadata.sorted_tables
        }


def write_rows(store: Store, rows: Rows) -> None:
    """Put a database back to what it was."""
    with store.database.write() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())
        for table in metadata.sorted_tables:
            if rows[table.name]:
                connection.execute(table.insert(), [without_generated(row) for row in rows[table.name]])


def without_generated(row: Mapping[str, object]) -> dict[str, object]:
    """Return a row without what the database computes."""
    return {name: value for name, value in row.items() if name not in GENERATED}


class Stage:
    """The whole world of one example."""

    def __init__(self, store: Store, rows: Rows) -> None:
        write_rows(store, rows)
        self.store = store
        self.clock = HandClock()
        self.judge = Judge(self)
        self.remote = Ledger(now=self.clock.now, on_write=self._on_write)
        self.on_the_way: list[Late] = []
        self.workers: list[Worker] = []
        self.backups: list[Backup] = []
        self.backups_put_back = 0
        self._numbers = itertools.count(1)
        self._ids = {name: store.syncs.get_sync(name).id for name in (WHOLE, KEYED)}
        self.revision = store.apps.get_environment(APP, ENV).revision
        self.timeline: dict[int, Commit] = {self.revision: Commit(0, {})}
        self.absent_since: dict[str, datetime] = {}
        self.chronicle: list[str] = []

    def _on_write(self, write: Write) -> None:
        self.tell(write)
        if write.by is not None:
            self.judge.on_write(write)

    def next_number(self) -> int:
        """Return a number that no one else has."""
        return next(self._numbers)

    # --- what there is to know

    def sync_id(self, name: str) -> str:
        """Id of a sync."""
        return self._ids[name]

    def sync(self, name: str) -> Sync:
        """A sync now."""
        return self.store.syncs.get_sync(name)

    def state_of(self, name: str) -> SyncState:
        """A sync with its journal now."""
        return self.store.sync_states.state_of(name)

    def is_paused(self, name: str) -> bool:
        """Whether a sync is paused now."""
        return self.store.claims.write_conditions(self.sync_id(name)).paused

    @property
    def commit(self) -> Commit:
        """What is committed now."""
        return self.timeline[self.revision]

    @property
    def content(self) -> Mapping[str, SecretValue]:
        """Key -> value, as committed now."""
        return self.commit.content

    def wanted(self, sync: Sync, commit: Commit) -> dict[str, SecretValue]:
        """Return remote name -> payload that a sync is to write for a commit: this is the model's own opinion."""
        if sync.config.layout is Layout.JSON:
            return {sync.config.names: _as_object(commit.content)}
        return {sync.config.names.format(key=key): _as_payload(value) for key, value in commit.content.items()}

    def frozen(self) -> list[Worker]:
        """Workers that stand still."""
        return [worker for worker in self.workers if worker.frozen]

    def story(self) -> str:
        """What happened at AWS and in the store, in order; for whoever reads a failure. Its values are no secrets."""
        return "\n".join(self.chronicle)

    def tell(self, write: Write) -> None:
        """Put a change at AWS into the story."""
        worker = write.by
        who = "somebody else" if worker is None else f"worker {worker.number} of {worker.sync}"
        if worker is not None and worker.commit is not None:
            who += f" for commit {worker.commit.number}"
        value = None if write.after is None or write.after.value is None else write.after.value.reveal()
        version = None if write.after is None else write.after.current
        where = f" in {', '.join(write.regions)}" if write.regions else ""
        self.chronicle.append(f"{write.at:%d %H:%M:%S} {who}: {write.what} {write.name}{where} -> {value!r} {version}")

    def something_is_not_ours(self) -> bool:
        """Whether there is an object at AWS that no sync made, or that lost our marks."""
        return any(
            there.arn not in self.judge.owner or there.tags.get(TAG_INSTANCE) != self.store.instance_id
            for there in self.remote.objects.values()
        )

    def something_is_held(self) -> bool:
        """Whether a sync waits for an approval."""
        return any(self.sync(name).settled_status is SyncStatus.HELD for name in (WHOLE, KEYED))

    # --- what people do

    def edit(self, changes: Mapping[str, SecretValue | None]) -> None:
        """Set keys, None unsets one: one commit."""
        writes = [SecretWrite(path="/", key=key, value=value) for key, value in changes.items() if value is not None]
        unsets = [("/", key) for key, value in changes.items() if value is None and key in self.content]
        edited = self.store.secrets.edit(APP, ENV, actor=ACTOR, origin="set", writes=writes, unsets=unsets)
        if edited.revision == self.revision:
            return
        content = {key: value for key, value in {**self.content, **changes}.items() if value is not None}
        for key in self.content.keys() - content.keys():
            self.absent_since[key] = self.clock.now()
        for key in content:
            self.absent_since.pop(key, None)
        self.revision = edited.revision
        self.timeline[self.revision] = Commit(self.next_number(), content)
        shown = {key: value.reveal() for key, value in content.items()}
        self.chronicle.append(f"{self.clock.now():%d %H:%M:%S} commit {self.commit.number}: {shown}")

    def configure(self, name: str, **changes: Any) -> None:
        """Change what is set on a sync."""
        sync = self.sync(name)
        self.store.syncs.update_sync(
            name,
            config=replace(sync.config, **changes),
            path=sync.path,
            credential=sync.credential,
            region=sync.region,
            adopt=sync.adopt,
        )

    def approve(self, name: str) -> bool:
        """Approve what `syncs plan` shows as held; return whether anything is."""
        try:
            digest = self.planner().prepare(self.state_of(name)).guarded.digest
        except PhasesyncError:
            return False
        if digest is None:
            return False
        self.store.sync_requests.approve(name, digest, actor=ACTOR)
        return True

    def adopt(self, name: str) -> None:
        """Consent to take over what stands at the names of a sync."""
        self.store.sync_requests.consent_to_adopt(name, Adopt.OVERWRITE, actor=ACTOR)

    def pause(self, name: str) -> None:
        """Pause a sync until someone resumes it."""
        self.store.sync_requests.pause(name, Paused(by=ACTOR, at=self.clock.now(), reason="a test", until=None))

    def resume(self, name: str) -> None:
        """Resume a sync."""
        self.store.sync_requests.resume(name, actor=ACTOR)

    def planner(self) -> Reconciler:
        """An engine that no one watches, for plans."""
        destinations = FakeDestinations(self.remote, instance_id=self.store.instance_id)
        return Reconciler(context_of(self.store, destinations=destinations, clock=self.clock))

    # --- what daemons do

    def run(self, name: str, trigger: Trigger = Trigger.MANUAL, *mishaps: Mishap) -> Worker:
        """Reconcile by a new process. The claims of frozen workers expire first: no one takes over before."""
        if any(worker.sync == name and not worker.lost for worker in self.frozen()):
            self.expire()
        worker = Worker(self, name, trigger, mishaps)
        self.workers = [*self.frozen(), worker]
        worker.start()
        self.clock.pass_(timedelta(seconds=1))
        return worker

    def expire(self) -> None:
        """So much time passes that the claims of frozen workers expire."""
        self.clock.pass_(2 * TTL)
        for worker in self.frozen():
            worker.lost = True

    def deliver(self, late: Late) -> None:
        """A request arrives that no one waits for any more."""
        self.on_the_way.remove(late)
        with self.remote.asked_by(late.worker, late.told):
            try:
                late.act()
            except PhasesyncError:
                return  # AWS refuses it, and no one notices.

    # --- what happens to the database

    def back_up(self) -> None:
        """Copy the database; no run is under way."""
        self.backups.append(Backup(read_rows(self.store), dict(self.timeline), self.revision, dict(self.absent_since)))

    def put_back(self, backup: Backup, *, noted: bool) -> None:
        """
        Put an older database in place; daemons are stopped for it.

        Args:
            backup: the older state.
            noted: by `phasesync db restore`, which leaves a note; else by the tools of the database.
        """
        self.end_all()
        self.chronicle.append(f"the database of commit {backup.timeline[backup.revision].number} was put back")
        write_rows(self.store, backup.rows)
        if noted:
            set_restore_mark(self.store.database)
        self.timeline, self.revision = dict(backup.timeline), backup.revision
        self.absent_since = dict(backup.absent_since)
        self.backups_put_back += 1
        self.judge.database_put_back()

    def accept(self) -> None:
        """The operator says that this database is the one to go on with; daemons are stopped for it."""
        self.end_all()
        self.store.restore_mark.accept(ahead=SKIP)
        self.judge.accepted()

    def end_all(self) -> None:
        """Every process ends, and what is on its way is gone or has arrived."""
        for worker in self.frozen():
            worker.kill()
        for late in list(self.on_the_way):
            self.deliver(late)

    def use_up_budget(self, entry: JournalEntry, name: str) -> None:
        """Let an object have been written so often that its version budget is nearly used up."""
        claim = self.store.claims.claim(
            self.sync_id(name), f"daemon-{self.next_number()}", trigger=Trigger.MANUAL, actor=ACTOR, ttl=EXPIRED
        )
        spent = self.judge.spend_budget(entry)
        self.store.journal.save_entry(claim, replace(entry, versions_at=tuple(spent)))
        self.store.claims.release(claim)


class _Nobody:
    def emit(self, event: object) -> None:
        """Port `EventSink`."""


def _as_object(content: Mapping[str, SecretValue]) -> SecretValue:
    members = {key: _member(value) for key, value in content.items()}
    return SecretValue(json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False))


def _member(value: SecretValue) -> Any:
    match value.type:
        case ValueType.BINARY:
            return b64encode(value.reveal()).decode()
        case ValueType.JSON:
            return json.loads(value.reveal())
        case _:
            return value.reveal_text()


def _as_payload(value: SecretValue) -> SecretValue:
    if value.type is ValueType.JSON:
        return SecretValue(
            json.dumps(json.loads(value.reveal()), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        )
    return SecretValue(value.reveal(), value.type)
