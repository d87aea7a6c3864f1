"""Databases of a release without MACs get them: in one step, with the root key, and once."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from phasesync.core.model import SecretValue
from phasesync.core.sync import Trigger
from phasesync.errors import CiphertextError, IllegalTransitionError, KeyUnavailableError
from phasesync.store import Store, migrate, open_database, tables
from phasesync.store import migration_0003 as authenticate
from phasesync.store.backup import backup
from phasesync.store.db_time import after, now
from phasesync.store.restore import restore
from phasesync.store.serialization import to_json
from tests.support.stores import (
    ACTOR,
    OTHER_ROOT_KEY,
    TTL,
    add_dynamic,
    add_sync,
    alter,
    claim_one,
    end_lease,
    issue_lease,
    open_test_store,
    opens_with,
    put,
    settle,
    values_of,
    write,
)
from tests.support.values import NOW, entry

KILLED = """
import os, sys
from phasesync.store import migrate, migration_0003
from tests.support.stores import opens_with
migration_0003._instance = lambda *_: os.kill(os.getpid(), 9)
migrate.upgrade(sys.argv[1], opens_with())
"""


def make(store: Store) -> None:
    """Something in every table, unset keys and ended leases too."""
    put(store, write("URL", "old"), write("GONE", "x"))
    put(store, write("URL", "new", comment="why"), write("PASSWORD", "y", path="/db"))
    store.secrets.edit("shop", "production", actor=ACTOR, origin="unset", unsets=[("/", "GONE")])
    store.secrets.clone_environment("shop", "production", "staging", actor=ACTOR)
    sync = add_sync(store)
    claim = claim_one(store)
    store.journal.save_entry(claim, entry(id=None, sync_id=sync.id))
    settle(store, claim, account="111122223333")
    dynamic = add_dynamic(store)
    end_lease(store, issue_lease(store, dynamic))
    issue_lease(store, dynamic, keep={"secret_access_key": SecretValue("kept")})


def everything_in(store: Store) -> tuple[Any, ...]:
    return (
        [store.secrets.list_secrets("shop", name) for name in ("production", "staging")],
        store.secrets.history("shop", "production", "/", "GONE"),
        store.apps.list_environments(),
        store.credentials.list_all(),
        store.syncs.list_syncs(),
        store.sync_states.state_of("web"),
        store.dynamics.list_all(),
        store.leases(ttl=TTL).list_leases(ended=True),
    )


def turn_back(database_url: str) -> None:
    """Bring a database to the schema before, with the MACs of syncs that it had."""
    migrate.downgrade(database_url, "0002")
    database = open_database(database_url)
    keys = opens_with()(database)
    with database.write() as connection:
        columns = [tables.syncs.c[name] for name in authenticate._FORMERLY_COVERED]
        for row in connection.execute(sa.select(*columns)).all():
            covered = {name: getattr(row, name) for name in authenticate._FORMERLY_COVERED}
            mac = keys.digests.digest("sync-configuration", to_json(covered).encode())
            connection.execute(tables.syncs.update().where(tables.syncs.c.id == row.id).values(mac=mac))
    database.close()


@pytest.fixture
def former(migrated_database_url: str) -> tuple[str, tuple[Any, ...]]:
    """A database of the release before, with everything in it, and what that is."""
    store = open_test_store(migrated_database_url)
    make(store)
    content = everything_in(store)
    store.close()
    turn_back(migrated_database_url)
    return migrated_database_url, content


def assert_whole(database_url: str, content: tuple[Any, ...]) -> None:
    """Everything is there, can be changed, and is authenticated."""
    migrate.open_migrated(database_url).close()
    store = open_test_store(database_url)
    assert everything_in(store) == content
    put(store, write("URL", "newer"))
    assert values_of(store)["URL"] == "newer"
    issue_lease(store, store.dynamics.get("ci"))
    alter(store, tables.secrets, version=1)
    with pytest.raises(CiphertextError):
        values_of(store)
    store.close()


def test_all_rows_get_their_macs(former: tuple[str, tuple[Any, ...]]) -> None:
    url, content = former
    migrate.upgrade(url, opens_with())
    assert_whole(url, content)


@pytest.mark.parametrize("keys", [None, opens_with(OTHER_ROOT_KEY)], ids=["no key", "another key"])
def test_without_the_root_key_nothing_is_changed(former: tuple[str, tuple[Any, ...]], keys: Any) -> None:
    url, content = former
    with pytest.raises(KeyUnavailableError):
        migrate.upgrade(url, keys)
    assert migrate.status(url).current == "0002"
    migrate.upgrade(url, opens_with())
    assert_whole(url, content)


def _daemon(store: Store) -> Callable[[], None]:
    store.daemons.beat("former-1", host="host-1", pid=4711, ttl=TTL)
    return lambda: store.daemons.deregister("former-1")


def _run(store: Store) -> Callable[[], None]:
    store.sync_requests.request("web", Trigger.MANUAL, actor=ACTOR)
    claim = claim_one(store)
    return lambda: store.claims.release(claim)


def _lease(store: Store) -> Callable[[], None]:
    leases = store.leases(ttl=TTL)
    claim = leases.claim(leases.list_leases()[0].id, "former-1").claim
    return lambda: leases.release(claim)


@pytest.mark.parametrize("at_work", [_daemon, _run, _lease])
def test_macs_are_not_made_beside_a_process_of_the_former_release(
    former: tuple[str, tuple[Any, ...]], at_work: Callable[[Store], Callable[[], None]]
) -> None:
    """What it writes afterwards would look as if someone had altered it."""
    url, _ = former
    migrate.upgrade(url, opens_with())
    store = open_test_store(url)
    content, leave = everything_in(store), at_work(store)
    turn_back(url)

    with pytest.raises(IllegalTransitionError, match="of the former release is at work"):
        migrate.upgrade(url, opens_with())
    assert migrate.status(url).current == "0002"

    leave()
    store.close()
    migrate.upgrade(url, opens_with())
    store = open_test_store(url)
    assert len(everything_in(store)) == len(content)
    store.close()


@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_a_backup_that_was_made_beside_a_daemon_can_be_restored(
    former: tuple[str, tuple[Any, ...]], tmp_path: Path
) -> None:
    """The daemon that it remembers is at work on another file."""
    url, _ = former
    database = open_database(url)
    with database.write() as connection:
        connection.execute(
            tables.daemons.insert().values(
                owner="former-1", host="h", pid=1, role="active", started_at=now(), beat_at=now(), until=after(TTL)
            )
        )
    database.close()
    copy = tmp_path / "backup.db"
    backup(url, copy, open_keys=opens_with())

    restore(f"sqlite:///{tmp_path}/restored.db", copy, open_keys=opens_with(), at=NOW)

    migrate.open_migrated(f"sqlite:///{tmp_path}/restored.db").close()


def test_a_migration_that_is_killed_is_repeated(former: tuple[str, tuple[Any, ...]]) -> None:
    """All of it is one transaction, schema and MACs."""
    url, content = former
    done = subprocess.run([sys.executable, "-c", KILLED, url], capture_output=True, timeout=60, check=False)
    assert done.returncode == -9, done.stderr
    assert migrate.status(url).current == "0002"
    migrate.upgrade(url, opens_with())
    assert_whole(url, content)


def test_upgrading_again_vouches_for_nothing(former: tuple[str, tuple[Any, ...]]) -> None:
    url, _ = former
    migrate.upgrade(url, opens_with())
    store = open_test_store(url)
    alter(store, tables.environments, mac=None)
    migrate.upgrade(url, opens_with())
    with pytest.raises(CiphertextError):
        values_of(store)
    store.close()


def test_a_sync_that_was_altered_before_is_refused_afterwards(former: tuple[str, tuple[Any, ...]]) -> None:
    url, _ = former
    database = open_database(url)
    with database.write() as connection:
        connection.execute(tables.syncs.update().values(path="/elsewhere"))
    database.close()
    migrate.upgrade(url, opens_with())
    store = open_test_store(url)
    with pytest.raises(CiphertextError, match="sync web in table syncs"):
        store.syncs.get_sync("web")
    store.close()


def test_a_database_that_had_macs_is_not_vouched_for_again(migrated_database_url: str) -> None:
    """Someone drops the columns and sets the schema's number back, and waits for the next `db migrate`."""
    store = open_test_store(migrated_database_url)
    sync = add_sync(store)
    claim = claim_one(store)
    store.journal.save_entry(claim, entry(id=None, sync_id=sync.id, sync_version=1))
    store.claims.release(claim)
    store.close()
    turn_back(migrated_database_url)
    with pytest.raises(CiphertextError, match="set back"):
        migrate.upgrade(migrated_database_url, opens_with())
    assert migrate.status(migrated_database_url).current == "0002"


def test_a_database_without_keys_needs_none(database_url: str) -> None:
    from alembic import command

    migrate._migrate(open_database(database_url, create=True), lambda config: command.upgrade(config, "0002"))
    migrate.upgrade(database_url)
    store = open_test_store(database_url)
    put(store, write("URL", "x"))
    assert values_of(store) == {"URL": "x"}
    store.close()


OLD_ROWS: dict[str, Callable[[sa.Connection], Any]] = {
    "environment": lambda connection: connection.execute(tables.environments.update().values(mac=None)),
    "lease": lambda connection: connection.execute(tables.leases.update().values(mac=None)),
    "live leases": lambda connection: connection.execute(tables.dynamic_secrets.update().values(leases_mac=None)),
}


@pytest.mark.parametrize("write_old", OLD_ROWS.values(), ids=OLD_ROWS)
def test_what_a_process_of_the_former_release_writes_afterwards_is_refused(
    store: Store, write_old: Callable[[sa.Connection], Any]
) -> None:
    make(store)
    with store.database.write() as connection:
        write_old(connection)
    refused = [dynamic.error for dynamic in store.dynamics.list_all() if dynamic.error]
    refused += [lease.error for lease in store.leases(ttl=TTL).list_leases() if lease.error]
    try:
        values_of(store)
    except CiphertextError as error:
        refused.append(error.message)
    assert refused != []
