"""What each migration states of itself is what it does, and `db migrate --check` says it."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from phasesync.errors import KeyUnavailableError
from phasesync.store import migrate, open_database
from phasesync.store.migration_check import check_migration
from tests.support.databases import fresh_postgres_database
from tests.support.postgres import PostgresServer
from tests.support.stores import OTHER_ROOT_KEY, add_sync, open_test_store, opens_with
from tests.upgrade.origins import ROOT

WRITERS_WAIT_FOR = {"AccessExclusiveLock", "ExclusiveLock", "ShareRowExclusiveLock", "ShareLock"}
"""Modes that conflict with what an INSERT or UPDATE locks: PostgreSQL's documentation, 13.3.1."""
GOES_THROUGH = {"ShareLock", "RowExclusiveLock"}
"""An index is made of a table, or its rows are updated."""


@dataclass(frozen=True)
class Done:
    """What a migration did to the tables that were there before."""

    locked: set[str]
    gone_through: set[str]


@pytest.fixture(scope="module")
def done(request: pytest.FixtureRequest, postgres_server: PostgresServer) -> dict[str, Done]:
    """Revision -> what the migration did, one after the other on PostgreSQL."""
    found: dict[str, Done] = {}
    for url in fresh_postgres_database(request, template=None):
        for revision in migrate.REVISIONS:
            found[revision] = observed(url, revision)
    return found


def observed(url: str, revision: str) -> Done:
    from alembic import command

    seen: list[Done] = []

    def work(config: Config) -> None:
        connection: sa.Connection = config.attributes["connection"]
        before = tables(connection)
        command.upgrade(config, revision)
        after = tables(connection)
        modes = {(before[row.relation].name, row.mode) for row in locks(connection) if row.relation in before}
        rewritten = {row.name for oid, row in before.items() if oid in after and after[oid].file != row.file}
        seen.append(
            Done(
                locked={name for name, mode in modes if mode in WRITERS_WAIT_FOR},
                gone_through={name for name, mode in modes if mode in GOES_THROUGH} | rewritten,
            )
        )

    migrate._migrate(open_database(url), work)
    return seen[0]


def tables(connection: sa.Connection) -> dict[int, Any]:
    """Our tables, but not the one in which Alembic says which schema there is."""
    statement = (
        "SELECT oid, relname AS name, relfilenode AS file FROM pg_class WHERE relkind = 'r' "
        "AND relnamespace = current_schema()::regnamespace AND relname <> 'alembic_version'"
    )
    return {row.oid: row for row in connection.execute(sa.text(statement))}


def locks(connection: sa.Connection) -> list[Any]:
    statement = "SELECT relation, mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation IS NOT NULL"
    return list(connection.execute(sa.text(statement)))


def stated(revision: str) -> Any:
    config = Config()
    config.set_main_option("script_location", str(migrate.migrations_folder()))
    return ScriptDirectory.from_config(config).get_revision(revision).module


@pytest.mark.parametrize("revision", migrate.REVISIONS)
def test_a_migration_states_the_tables_that_others_wait_for(revision: str, done: dict[str, Done]) -> None:
    assert set(stated(revision).LOCKS) == done[revision].locked


@pytest.mark.parametrize("revision", migrate.REVISIONS)
def test_a_migration_states_the_tables_whose_rows_it_goes_through(revision: str, done: dict[str, Done]) -> None:
    # The MACs of 0003 are made by code, after the last migration.
    if revision == "0003":
        assert {"environments", "syncs", "leases"} <= set(stated(revision).GROWS_WITH)
    else:
        assert set(stated(revision).GROWS_WITH) == done[revision].gone_through


@pytest.mark.parametrize("revision", migrate.REVISIONS)
def test_a_migration_states_with_which_older_release_its_schema_works(revision: str) -> None:
    assert "0001" <= stated(revision).WORKS_WITH <= revision


def test_the_database_says_what_the_newest_migration_states(migrated_database_url: str) -> None:
    with closing(open_database(migrated_database_url)) as database, database.read() as connection:
        (stored,) = connection.scalars(sa.text("SELECT works_with FROM schema_compatibility")).all()

    assert stored == stated(migrate.EXPECTED).WORKS_WITH


def test_the_document_says_what_each_migration_works_with() -> None:
    text = (ROOT / "docs" / "upgrade.md").read_text()
    rows = dict(re.findall(r"^\| (\d{4}) \|[^|]*\| (\d{4})[^|]*\|", text, flags=re.MULTILINE))

    assert rows == {revision: stated(revision).WORKS_WITH for revision in migrate.REVISIONS[1:]}


# --- the check


@pytest.fixture
def former_url(migrated_database_url: str) -> str:
    """A database with a sync, at the schema of the first release."""
    add_sync(store := open_test_store(migrated_database_url))
    store.close()
    migrate.downgrade(migrated_database_url, "0006")
    return migrated_database_url


def test_a_check_says_what_a_migration_would_do_and_does_nothing(former_url: str, database_backend: str) -> None:
    found = check_migration(former_url)

    assert [(each.revision, each.works_with, each.rows) for each in found.pending] == [("0007", "0006", 0)]
    assert (found.needed, found.former_goes_on) == (True, True)
    assert found.on_sqlite is (database_backend == "sqlite")
    assert found.locks == ("daemons", "data_keys", "instance")
    assert 0 < found.estimate.total_seconds() <= 1
    assert migrate.status(former_url).current == "0006"


def test_a_check_counts_the_rows_that_a_migration_goes_through(former_url: str) -> None:
    migrate.downgrade(former_url, "0005")

    found = check_migration(former_url)

    assert [(each.revision, each.rows) for each in found.pending] == [("0006", 1), ("0007", 0)]
    assert not found.former_goes_on, "the release of 0005 refuses every other schema"
    assert "syncs" in found.locks


def test_a_check_looks_whether_the_root_key_that_a_migration_needs_fits(former_url: str) -> None:
    migrate.downgrade(former_url, "0002")

    with pytest.raises(KeyUnavailableError, match="root key"):
        check_migration(former_url, opens_with(OTHER_ROOT_KEY))
    assert check_migration(former_url, opens_with()).needed


# --- a newer schema


def test_a_newer_schema_that_works_with_this_release_is_left_alone_by_a_migration(migrated_database_url: str) -> None:
    """A pod of this release that starts while a newer one is rolled out, or after it was rolled back."""
    add_sync(store := open_test_store(migrated_database_url))
    store.close()
    make_newer(migrated_database_url, works_with=migrate.EXPECTED)

    migrate.upgrade(migrated_database_url)

    assert check_migration(migrated_database_url).needed is False
    assert migrate.status(migrated_database_url).current == "9999"
    store = open_test_store(migrated_database_url)
    assert [sync.name for sync in store.syncs.list_syncs()] == ["web"]
    store.close()


def make_newer(url: str, *, works_with: str) -> None:
    with closing(open_database(url)) as database, database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        connection.execute(
            sa.text("UPDATE schema_compatibility SET works_with = :works_with"), {"works_with": works_with}
        )
