"""The schema: migrations make what tables.py says, up and down, and any number of processes may start at once."""

import subprocess
import sys

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from phasesync.core.sync import Trigger
from phasesync.errors import SchemaMismatchError, SettingsError
from phasesync.store import migrate, open_database
from phasesync.store import migration_0003 as authenticate
from phasesync.store.serialization import to_json
from phasesync.store.tables import metadata, syncs
from tests.support.stores import (
    TTL,
    add_dynamic,
    add_sync,
    claim_one,
    issue_lease,
    open_test_store,
    opens_with,
    put,
    settle,
    write,
)
from tests.support.values import entry

UPGRADE = "import sys; from phasesync.store import migrate; migrate.upgrade(sys.argv[1])"


def tables_of(database_url: str) -> set[str]:
    database = open_database(database_url)
    with database.read() as connection:
        names = set(sa.inspect(connection).get_table_names())
    database.close()
    return names


def set_version(database_url: str, version: str) -> None:
    database = open_database(database_url)
    with database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :version"), {"version": version})
    database.close()


def test_the_migrations_make_the_tables_that_the_code_uses(migrated_database_url):
    database = open_database(migrated_database_url)
    with database.write() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "target_metadata": metadata})
        assert compare_metadata(context, metadata) == []
    database.close()


def test_a_difference_between_migrations_and_tables_would_be_seen(migrated_database_url):
    database = open_database(migrated_database_url)
    with database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE apps ADD COLUMN surplus INTEGER")
        context = MigrationContext.configure(connection, opts={"compare_type": True, "target_metadata": metadata})
        assert [difference[0] for difference in compare_metadata(context, metadata)] == ["remove_column"]
    database.close()


def test_down_leaves_nothing_and_up_again_works(migrated_database_url):
    add_sync(store := open_test_store(migrated_database_url))
    store.close()
    migrate.downgrade(migrated_database_url, "base")
    assert tables_of(migrated_database_url) == {"alembic_version"}
    migrate.upgrade(migrated_database_url)
    migrate.open_migrated(migrated_database_url).close()
    add_sync(store := open_test_store(migrated_database_url))
    store.close()


def test_upgrading_again_changes_nothing(migrated_database_url):
    add_sync(store := open_test_store(migrated_database_url))
    migrate.upgrade(migrated_database_url)
    assert [sync.name for sync in store.syncs.list_syncs()] == ["web"]
    store.close()


def test_what_was_stored_before_there_were_dynamic_secrets_is_kept(migrated_database_url):
    """A database of the first release, with secrets, a sync, its journal and its runs."""
    store = open_test_store(migrated_database_url)
    put(store, write("URL", "old"), write("URL", "new", comment="why"), write("PASSWORD", "x", path="/db"))
    sync = add_sync(store)
    settle(store, claim_one(store), account="111122223333")
    store.journal.save_entry(claim := manual_claim(store), entry(id=None, sync_id=sync.id))
    settle(store, claim)
    before = everything_in(store)
    store.close()
    migrate.downgrade(migrated_database_url, "0001")
    assert migrate.status(migrated_database_url).current == "0001"
    assert not tables_of(migrated_database_url) & NEW_IN_0002
    forget_new_macs(migrated_database_url)

    migrate.upgrade(migrated_database_url, opens_with())

    assert migrate.status(migrated_database_url).is_current
    store = open_test_store(migrated_database_url)
    assert everything_in(store) == before
    assert issue_lease(store, add_dynamic(store)).live
    store.close()


def forget_new_macs(database_url):
    """Give syncs the MACs that a release before 0003 made; a downgrade has no key to make them with."""
    database = open_database(database_url)
    keys = opens_with()(database)
    with database.write() as connection:
        columns = [syncs.c[name] for name in authenticate._FORMERLY_COVERED]
        for row in connection.execute(sa.select(*columns)).all():
            covered = {name: getattr(row, name) for name in authenticate._FORMERLY_COVERED}
            mac = keys.digests.digest("sync-configuration", to_json(covered).encode())
            connection.execute(syncs.update().where(syncs.c.id == row.id).values(mac=mac))
    database.close()


NEW_IN_0002 = {"dynamic_secrets", "leases", "lease_events"}
NEW_IN_0005 = {"change_requests", "projects", "owned_objects"}
NEW_IN_0006 = {"notifications", "alerts", "notices", "messages"}
NEW_IN_0007 = {"schema_compatibility", "root_keys", "audit", "audit_head", "backup_schedules"}


def manual_claim(store):
    sync = store.syncs.get_sync("web")
    return store.claims.claim(sync.id, "me", trigger=Trigger.MANUAL, actor="ada", ttl=TTL)


def everything_in(store):
    """Everything that the first release knew."""
    return (
        store.secrets.list_secrets("shop", "production"),
        store.secrets.history("shop", "production", "/", "URL"),
        store.apps.list_environments(),
        store.credentials.list_all(),
        store.syncs.list_syncs(),
        store.sync_states.state_of("web"),
        store.runs.list_runs(),
        store.instance_id,
    )


def test_the_first_migration_alone_has_no_tables_of_dynamic_secrets(database_url):
    """What a downgrade leaves is what the first release made."""
    from alembic import command

    migrate._migrate(open_database(database_url, create=True), lambda config: command.upgrade(config, "0001"))
    first = tables_of(database_url)
    assert migrate.status(database_url).current == "0001"
    migrate.upgrade(database_url)
    later = NEW_IN_0002 | {"sweeps"} | NEW_IN_0005 | NEW_IN_0006 | NEW_IN_0007
    assert tables_of(database_url) == first | later
    migrate.downgrade(database_url, "0001")
    assert tables_of(database_url) == first


def test_the_expected_revision_is_the_newest_migration():
    config = Config()
    config.set_main_option("script_location", str(migrate.migrations_folder()))
    revisions = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(revisions)) == migrate.REVISIONS
    assert revisions[0] == migrate.EXPECTED


def test_a_fresh_database_is_told_apart_and_not_made(database_url, database_backend, tmp_path):
    status = migrate.status(database_url)
    assert (status.current, status.expected, status.is_current) == (None, migrate.EXPECTED, False)
    with pytest.raises(SchemaMismatchError) as caught:
        migrate.open_migrated(database_url).close()
    assert str(caught.value.hint).startswith("phasesync init")
    if database_backend == "sqlite":
        assert list(tmp_path.iterdir()) == []


def test_a_current_schema_is_fine(migrated_database_url):
    assert migrate.status(migrated_database_url).is_current
    migrate.open_migrated(migrated_database_url).close()


def test_an_older_schema_asks_to_be_migrated(migrated_database_url, monkeypatch):
    current = migrate.EXPECTED
    monkeypatch.setattr(migrate, "REVISIONS", (*migrate.REVISIONS, "9000"))
    monkeypatch.setattr(migrate, "EXPECTED", "9000")
    with pytest.raises(SchemaMismatchError, match=rf"{current}.*9000") as caught:
        migrate.open_migrated(migrated_database_url).close()
    assert caught.value.hint == "phasesync db migrate"


def test_a_newer_schema_asks_for_a_newer_phasesync_and_is_left_alone(migrated_database_url):
    set_version(migrated_database_url, "9999")
    say_what_works_with(migrated_database_url, "9999")
    for attempt in (migrate.open_migrated, migrate.upgrade):
        with pytest.raises(SchemaMismatchError, match="9999") as caught:
            attempt(migrated_database_url)
        assert "upgrade phasesync" in str(caught.value.hint)
    assert migrate.status(migrated_database_url).current == "9999"


def say_what_works_with(database_url: str, revision: str) -> None:
    database = open_database(database_url)
    with database.write() as connection:
        if not sa.inspect(connection).has_table("schema_compatibility"):
            connection.exec_driver_sql("CREATE TABLE schema_compatibility (id INTEGER PRIMARY KEY, works_with TEXT)")
        connection.execute(sa.text("DELETE FROM schema_compatibility"))
        insert = sa.text("INSERT INTO schema_compatibility (id, works_with) VALUES (1, :revision)")
        connection.execute(insert, {"revision": revision})
    database.close()


def test_a_newer_schema_that_only_adds_to_this_one_can_be_worked_with(migrated_database_url):
    store = open_test_store(migrated_database_url)
    sync = add_sync(store)
    store.close()
    set_version(migrated_database_url, "9999")
    say_what_works_with(migrated_database_url, migrate.EXPECTED)
    schema = migrate.status(migrated_database_url)
    assert (schema.current, schema.is_current) == ("9999", True)
    store = open_test_store(migrated_database_url)
    assert [found.id for found in store.syncs.list_syncs()] == [sync.id]
    store.close()


def test_a_newer_schema_that_needs_a_newer_release_is_refused(migrated_database_url):
    set_version(migrated_database_url, "9999")
    say_what_works_with(migrated_database_url, "9998")
    with pytest.raises(SchemaMismatchError, match="newer than this release"):
        migrate.open_migrated(migrated_database_url)


def test_what_copies_whole_tables_needs_the_schema_of_its_release(migrated_database_url):
    set_version(migrated_database_url, "9999")
    say_what_works_with(migrated_database_url, migrate.EXPECTED)
    with pytest.raises(SchemaMismatchError, match="newer than this release"):
        migrate.open_migrated(migrated_database_url, exactly=True)


def test_a_migration_that_fails_leaves_nothing_behind(database_url):
    database = open_database(database_url, create=True)
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE syncs (theirs INTEGER)")
    database.close()
    with pytest.raises(SchemaMismatchError, match="does not say which schema"):
        migrate.upgrade(database_url)
    assert tables_of(database_url) == {"syncs"}


@pytest.mark.slow
def test_three_processes_upgrade_one_database_at_once(database_url):
    processes = [
        subprocess.Popen([sys.executable, "-c", UPGRADE, database_url], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    migrate.open_migrated(database_url).close()


def test_neither_alembic_nor_the_orm_is_imported_to_use_the_store(migrated_database_url):
    code = (
        "import sys; from tests.support.stores import *; from phasesync.store import migrate\n"
        "migrate.open_migrated(sys.argv[1]).close(); store = open_test_store(sys.argv[1]); add_sync(store)\n"
        "print(sorted({'alembic', 'sqlalchemy.orm'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, migrated_database_url], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


@pytest.mark.parametrize("command", [migrate.upgrade, migrate.status, migrate.open_migrated])
def test_two_versions_at_once_are_named_and_nothing_is_migrated(command, migrated_database_url):
    database = open_database(migrated_database_url)
    with database.write() as connection:
        connection.execute(sa.text("INSERT INTO alembic_version VALUES ('0001')"))
    database.close()
    with pytest.raises(SchemaMismatchError, match=r"in 2 rows of alembic_version .*0001"):
        command(migrated_database_url)


@pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("command", [migrate.upgrade, migrate.status, migrate.open_migrated])
def test_a_search_path_without_a_schema_is_named(command, database_url):
    joint = "&" if "?" in database_url else "?"
    with pytest.raises(SettingsError, match="no schema of search_path is there in"):
        command(f"{database_url}{joint}options=-csearch_path%3Dnot_there")
