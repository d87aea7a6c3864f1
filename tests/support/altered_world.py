"""
An installation to be altered by somebody who can write to its database and has no key, and what happens then.

One is made for a whole module and copied for every test: a SQLite file, and an AWS in memory.
"""

import copy
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from phasesync.adapters.clock import SystemClock
from phasesync.core.backup_schedule import Folder
from phasesync.core.lease_claim import Entry, LeaseEvent
from phasesync.core.model import SecretValue, SecretWrite
from phasesync.core.project.ownership import Manage, ObjectKind
from phasesync.core.sweep_check import Place
from phasesync.core.sync import Layout, OnRemove, Paused, SyncConfig, Trigger
from phasesync.engine.reconcile import Reconciler
from phasesync.engine.source import read_folder
from phasesync.errors import ApprovalNeededError, PhasesyncError
from phasesync.store import Store, migrate
from phasesync.store.projects import Ownership
from phasesync.store.root_keys import NewRootKey
from phasesync.store.server_run import run_of_file
from tests.fakes.destination import FakeDestinations
from tests.fakes.remote import ACCOUNT, REGION, FakeRemote
from tests.support.alerts import draft, leave_a_message, notify
from tests.support.context import context_of
from tests.support.stores import (
    ACTOR,
    EXPIRED,
    LONG,
    OTHER_ROOT_KEY,
    TTL,
    access_key,
    add_dynamic,
    end_lease,
    issue_lease,
    open_test_store,
    put,
    sync_draft,
    write,
)
from tests.support.values import HOUR, NOW


@dataclass
class Outcome:
    """
    What happened after an alteration.

    Attributes:
        refused: what was refused, in words.
        objects: remote name -> what readers at AWS get.
    """

    refused: list[str] = field(default_factory=list)
    objects: dict[str, str] = field(default_factory=dict)


class AlteredWorld:
    """
    Two apps, a sync of each layout, of which one deletes, two recipes with leases; everything in step.

    `rows` are its rows at an earlier time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "phasesync.db"
        self.remote = FakeRemote(now=SystemClock().now)
        self.rows: dict[str, list[dict[str, Any]]] = {}

    @property
    def url(self) -> str:
        """URL of the database."""
        return f"sqlite:///{self.file}"

    def copy_to(self, folder: Path) -> "AlteredWorld":
        """Return a copy that may be altered."""
        other = AlteredWorld(folder)
        shutil.copyfile(self.file, other.file)
        status = other.file.stat()
        run = run_of_file(other.file, (status.st_dev, status.st_ino))
        with other.connected() as connection:  # It stands for the original, and is no copy that was brought in.
            connection.execute("UPDATE instance SET server = ?", [run])
        # Secret values refuse to be copied, and are never changed.
        values = [version.value for secret in self.remote.objects.values() for version in secret.versions.values()]
        other.remote, other.rows = copy.deepcopy(self.remote, {id(value): value for value in values}), self.rows
        return other

    # --- how it came to be

    def fill(self) -> None:
        """Make everything, go on from there, and remember what was in the middle."""
        migrate.upgrade(self.url)
        with self.opened() as store:
            _make(store)
            notify(store)
            _own(store, "shop.yaml")
            _back_up(store, keep=28)
            self.run_all(store)
        self.rows = self.all_rows()
        with self.opened() as store:
            _go_on(store)
            _own(store, "shop.yaml, more.yaml")
            self.run_all(store)
            store.daemons.beat("daemon-1", host="here", pid=7, ttl=EXPIRED)
            store.daemons.claim_chore("sweep", "daemon-1", every=HOUR)
            place = Place(destination_kind="aws-secrets-manager", account=ACCOUNT, region=REGION)
            store.sweeps.save(place, changed_since=datetime(2026, 1, 2, tzinfo=UTC))
            store.sweeps.save_full(place, began_ago=HOUR)
            store.root_keys.begin(NewRootKey(id=OTHER_ROOT_KEY.id, kind="file"), kind_of_current="file")
            _back_up(store, keep=7)
            store.notifications.add("more", draft(url="mailto:ops@example.com", app="other"))
            leave_a_message(store)
            store.notifications.update("ops", draft(url="https://hooks.example.com/another"))
        with closing(sqlite3.connect(self.file)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextmanager
    def opened(self) -> Iterator[Store]:
        """Open the store."""
        store = open_test_store(self.url)
        try:
            yield store
        finally:
            store.close()

    # --- what someone does who has the file

    @contextmanager
    def connected(self) -> Iterator[sqlite3.Connection]:
        """Open the file, past everything that phasesync or a foreign key would say."""
        with closing(sqlite3.connect(self.file)) as connection:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA foreign_keys = OFF")
            with connection:
                yield connection

    def all_rows(self) -> dict[str, list[dict[str, Any]]]:
        """Return table -> its rows."""
        with self.connected() as connection:
            names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {name: [dict(row) for row in connection.execute(f"SELECT * FROM {name}")] for name in names}

    # --- what happens then

    def outcome(self) -> Outcome:
        """Run every sync and read everything that leads to AWS or shows values."""
        outcome = Outcome()
        try:
            store = open_test_store(self.url)
        except PhasesyncError as error:
            outcome.refused.append(type(error).__name__)
        else:
            outcome.refused += self.run_all(store)
            outcome.refused += self._reads(store)
            store.close()
        outcome.objects = self.objects()
        return outcome

    def objects(self) -> dict[str, str]:
        """Return account, Region and name -> what readers at AWS get, of every object that is not to be deleted."""
        existing = {place: secret for place, secret in self.remote.objects.items() if secret.deleted_at is None}
        return {"/".join(place): secret.text() for place, secret in existing.items()}

    def run_all(self, store: Store) -> list[str]:
        """Reconcile every sync, as a daemon does it; return what was refused."""
        reconciler = _reconciler(store, self.remote)
        store.claims.release_expired()
        for sync_id in _sync_ids(self):
            try:
                claim = store.claims.claim(sync_id, "daemon", trigger=Trigger.MANUAL, actor=ACTOR, ttl=EXPIRED)
                reconciler.reconcile(claim, lambda: None)
            except PhasesyncError as error:
                return [type(error).__name__]
        with self.connected() as connection:
            rows = connection.execute("SELECT name, error_class FROM syncs").fetchall()
        return [f"{row['name']}: {row['error_class']}" for row in rows if row["error_class"]]

    def _reads(self, store: Store) -> list[str]:
        refused: list[str] = []
        for name, read in _READS.items():
            try:
                read(store)
            except PhasesyncError as error:
                refused.append(f"{name}: {error.message}")
        return refused + [f"{name}: {message}" for name, read in _LISTED.items() for message in read(store)]


def _leases(store: Store) -> list[str]:
    leases = store.leases(ttl=TTL)
    return [lease.error for lease in leases.list_leases(ended=True) if lease.error and "authenticate" in lease.error]


def _records(store: Store) -> None:
    leases = store.leases(ttl=TTL)
    for lease in leases.list_leases(ended=True):
        leases.records(lease.id)


def _give_again(store: Store) -> None:
    leases = store.leases(ttl=TTL)
    for dynamic in store.dynamics.list_all():
        if dynamic.error is None:
            leases.reuse(dynamic, actor=ACTOR)


_READS: dict[str, Callable[[Store], object]] = {
    "list": lambda store: store.secrets.list_secrets("shop", "production"),
    "get": lambda store: store.secrets.get_secret("shop", "production", "/", "URL"),
    "history": lambda store: store.secrets.history("shop", "production", "/", "URL"),
    "unset": lambda store: store.secrets.history("shop", "production", "/", "OLD"),
    "export": lambda store: read_folder(store.secrets, "shop", "production", "/"),
    "references": lambda store: read_folder(store.secrets, "shop", "shared", "/"),
    "the other app": lambda store: read_folder(store.secrets, "other", "production", "/"),
    "credentials": lambda store: store.credentials.list_all(),
    "a credential": lambda store: store.credentials.get("aws"),
    "syncs": lambda store: [store.sync_states.state_of(sync.name) for sync in store.syncs.list_syncs()],
    "runs": lambda store: store.runs.list_runs(),
    "records": _records,
    "give again": _give_again,
    "restored": lambda store: store.restore_mark.is_set(),
}
"""What leads to AWS or shows values, beside runs."""

_LISTED: dict[str, Callable[[Store], list[str]]] = {
    "audit": lambda store: [finding.message for finding in store.audit.verify().findings],
    "dynamic": lambda store: [dynamic.error for dynamic in store.dynamics.list_all() if dynamic.error is not None],
    "leases": _leases,
    "notifications": lambda store: [
        *(one.error for one in store.notifications.list_all() if one.error is not None),
        *store.outbox.make().refused,
        *("a message is not sent" for one in store.outbox.claim("daemon", ttl=TTL, limit=9) if one.message is None),
    ],
    "root keys": lambda store: [root.id for root in store.root_keys.list_all() if not root.authentic],
    "backups": lambda store: list(store.backup_schedules.list_all().refused),
    "requests": lambda store: [
        request.error for request in store.change_requests.list_requests(closed=True) if request.error is not None
    ],
}
"""Lists in which what was altered stands with the reason, so that it hides no other."""


def _back_up(store: Store, *, keep: int) -> None:
    store.backup_schedules.set(
        Folder(path="/backups"), every=HOUR, keep=keep, credential_id=None, region=None, actor=ACTOR
    )


def _sync_ids(world: AlteredWorld) -> list[str]:
    with world.connected() as connection:
        return [row[0] for row in connection.execute("SELECT id FROM syncs ORDER BY id")]


def _reconciler(store: Store, remote: FakeRemote) -> Reconciler:
    destinations = FakeDestinations(remote, instance_id=store.instance_id)
    return Reconciler(context_of(store, destinations=destinations))


def fill_store(store: Store) -> None:
    """Make something in every table that is encrypted, of which some has an older state."""
    _make(store)
    notify(store)
    _own(store, "shop.yaml")
    _back_up(store, keep=28)
    _go_on(store)
    leave_a_message(store)


def _make(store: Store) -> None:
    """Two of everything."""
    store.apps.add_app("shop", description="ours", windows=["deny: 2020-01-01 UTC"])
    store.apps.add_app("other")
    store.apps.add_environment("shop", "guarded")
    store.apps.protect_environment("shop", "guarded", approvers=2)
    for value in ("one", "two"):
        _ask(store, value)
    for app, environment in (("shop", "production"), ("shop", "shared"), ("other", "production")):
        store.apps.add_environment(app, environment)
    put(store, write("HOST", "db-1"), environment="shared")
    put(store, write("URL", "first"), write("OLD", "gone soon"), write("REF", "${shared.HOST}"), comment_of("NOTE"))
    writes = [write(key, f"another's {key}") for key in ("URL", "USER", "PASSWORD")]
    store.secrets.edit("other", "production", actor=ACTOR, origin="set", writes=writes)
    for name in ("aws", "second"):
        store.credentials.add(name, access_key(region=REGION))
    store.syncs.add_sync(sync_draft("web", region=REGION, config=SyncConfig(remote_name="shop/web")))
    template = SyncConfig(remote_name=None, layout=Layout.PER_KEY, name_template="{app}/{env}/{key}")
    template = replace(template, on_remove=OnRemove.DELETE, grace=timedelta(0))
    other = sync_draft("api", region=REGION, config=template, app="other")
    store.syncs.add_sync(replace(other, credential="second"))
    for name in ("ci", "cd"):
        dynamic = add_dynamic(store, name)
        for _ in range(2):
            lease = issue_lease(store, dynamic, ttl=LONG, keep={"secret_access_key": SecretValue("kept")})
            entry = Entry(event=LeaseEvent.RENEWED, actor=ACTOR, detail="a detail")
            store.leases(ttl=TTL).change(lease.id, lambda lease, now: lease, entry=entry)


def _own(store: Store, source: str) -> None:
    """Remember that a document owns the sync `web`."""
    web = store.syncs.get_sync("web")
    owned = {(ObjectKind.SYNC.value, web.id): (web.name, {"path": web.path}, source)}
    store.projects.save(Ownership(name="shop", manage=Manage.TRACK, source=source, objects=owned), actor="ada")


def _go_on(store: Store) -> None:
    """Everything has an older state now."""
    put(store, write("HOST", "db-2"), environment="shared")
    put(store, write("URL", "second"))
    store.secrets.edit("shop", "production", actor=ACTOR, origin="unset", unsets=[("/", "OLD")])
    store.secrets.edit("other", "production", actor=ACTOR, origin="set", writes=[write("URL", "another's new")])
    store.credentials.update("aws", access_key(region=REGION), account=store.credentials.get("aws").account)
    sync = store.syncs.get_sync("web")
    config = replace(sync.config, description="of today")
    store.syncs.update_sync(
        "web", config=config, path=sync.path, credential="aws", region=sync.region, adopt=sync.adopt
    )
    store.sync_requests.pause("api", Paused(by=ACTOR, at=NOW, reason="for a while", until=NOW))
    ci = store.dynamics.get("ci")
    store.dynamics.update("ci", credential="aws", config=replace(ci.config, max_leases=7))
    end_lease(store, store.leases(ttl=TTL).list_leases(dynamic="ci")[0])
    for request in store.change_requests.list_requests():
        store.change_requests.add_approval(request.id, actor="grace", reason="seen")


def _ask(store: Store, value: str) -> None:
    """Ask for a change of a protected environment."""
    with pytest.raises(ApprovalNeededError) as refused:
        put(store, write("URL", value), environment="guarded")
    store.change_requests.file(refused.value.proposal, list(refused.value.environments), actor=ACTOR)


def comment_of(key: str) -> SecretWrite:
    """A key with a comment."""
    return write(key, "with a comment", comment="a comment")
