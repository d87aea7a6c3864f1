"""The tables of the queue: made beside ours, upgraded with the installed procrastinate, and never those of others."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from phasesync.errors import PhasesyncError, SchemaMismatchError, SettingsError
from phasesync.store import migrate, open_database, queue_schema
from phasesync.store.database import Database
from phasesync.store.queue_schema import require_queue, upgrade_queue
from phasesync.store.tables import metadata

pytestmark = pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)

UPGRADE = """
import sys
from phasesync.store import open_database
from phasesync.store.queue_schema import upgrade_queue
upgrade_queue(open_database(sys.argv[1]))
"""


@pytest.fixture
def database(migrated_database_url: str):
    opened = open_database(migrated_database_url)
    yield opened
    opened.close()


def tables_of(database: Database, schema: str | None = None) -> set[str]:
    with database.read() as connection:
        return set(sa.inspect(connection).get_table_names(schema))


def fix_of(database: Database) -> str | None:
    with database.read() as connection:
        return queue_schema.queue_fix(connection)


def functions_of(database: Database) -> list[str]:
    with database.read() as connection:
        statement = "SELECT proname FROM pg_proc WHERE pronamespace = current_schema()::regnamespace ORDER BY 1"
        return list(connection.scalars(sa.text(statement)))


def newer_release(monkeypatch: pytest.MonkeyPatch, folder: Path, **migrations: str) -> None:
    """Have a release of procrastinate with further migrations."""
    shutil.copytree(queue_schema._sql_folder(), folder / "sql")
    for name, text in migrations.items():
        (folder / "sql" / "migrations" / f"{name}.sql").write_text(text)
    monkeypatch.setattr(queue_schema, "_sql_folder", lambda: folder / "sql")


def test_it_is_made_once_and_can_be_used(database: Database) -> None:
    assert fix_of(database) == "phasesync db migrate"
    upgrade_queue(database)
    before = tables_of(database), functions_of(database)

    upgrade_queue(database)

    assert fix_of(database) is None
    assert (tables_of(database), functions_of(database)) == before
    assert {"procrastinate_jobs", "procrastinate_workers", "queue_migrations"} <= before[0]


def test_our_own_migrations_do_not_mind_it(database: Database, migrated_database_url: str) -> None:
    upgrade_queue(database)

    migrate.upgrade(migrated_database_url)
    assert migrate.status(migrated_database_url).is_current

    with database.write() as connection:
        context = MigrationContext.configure(connection, opts={"target_metadata": metadata})
        differences = compare_metadata(context, metadata)
    # Alembic is not asked to compare; whoever asks it sees more tables, and no table of ours changed.
    assert {difference[0] for difference in differences} <= {"remove_table", "remove_index"}


def test_it_goes_where_our_own_tables_are(database: Database, migrated_database_url: str) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("CREATE SCHEMA theirs")
    before = tables_of(database, "public")
    elsewhere = open_database(f"{migrated_database_url}&options=-csearch_path%3Dtheirs")

    upgrade_queue(elsewhere)

    assert fix_of(elsewhere) is None
    elsewhere.close()
    assert tables_of(database, "public") == before
    assert "procrastinate_jobs" in tables_of(database, "theirs")


def test_an_upgrade_carries_out_what_a_newer_release_brings(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A new value of an enumeration and its first use, which one transaction cannot do."""
    upgrade_queue(database)
    newer_release(
        monkeypatch,
        tmp_path,
        **{
            "99.00.00_01_pre_add_value": "ALTER TYPE procrastinate_job_status ADD VALUE 'asleep';",
            "99.00.00_50_post_use_it": "UPDATE procrastinate_jobs SET status = 'asleep'; SELECT 100 % 7;",
        },
    )
    assert fix_of(database) == "phasesync db migrate"

    upgrade_queue(database)

    assert fix_of(database) is None


def test_an_upgrade_that_was_interrupted_goes_on_where_it_stopped(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    upgrade_queue(database)
    steps = {
        "99.00.00_01_pre_once": "CREATE TABLE made_once (x INTEGER);",
        "99.00.00_02_pre_fails": "CREATE TABLE rolled_back (x INTEGER); SELECT 1 / 0;",
    }
    newer_release(monkeypatch, tmp_path, **steps)
    with pytest.raises(PhasesyncError):
        upgrade_queue(database)
    assert {"made_once", "rolled_back"} & tables_of(database) == {"made_once"}

    (tmp_path / "sql/migrations/99.00.00_02_pre_fails.sql").write_text("CREATE TABLE rolled_back (x INTEGER);")
    upgrade_queue(database)

    assert fix_of(database) is None
    assert {"made_once", "rolled_back"} <= tables_of(database)


def test_a_newer_one_is_left_alone(database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as newer:
        newer_release(newer, tmp_path, **{"99.00.00_01_pre_x": "CREATE TABLE newer (x INTEGER);"})
        upgrade_queue(database)
        assert fix_of(database) is None

    with pytest.raises(SchemaMismatchError, match="newer than the installed release") as caught:
        upgrade_queue(database)
    assert caught.value.hint == fix_of(database) == "pip install -U 'phasesync[distributed]'"


def test_the_queue_of_another_program_is_left_alone(database: Database) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE procrastinate_jobs (theirs INTEGER)")

    with pytest.raises(SchemaMismatchError, match="belong to another program") as caught:
        upgrade_queue(database)

    assert "search_path" in str(caught.value.hint)
    assert "queue_migrations" not in tables_of(database)


def test_types_that_are_left_of_a_queue_are_reported_with_the_fix(database: Database) -> None:
    upgrade_queue(database)
    with database.write() as connection:
        connection.exec_driver_sql(
            "DROP TABLE procrastinate_jobs, procrastinate_periodic_defers, procrastinate_events, "
            "procrastinate_workers, queue_migrations CASCADE"
        )

    with pytest.raises(SchemaMismatchError, match="removed outside phasesync") as caught:
        upgrade_queue(database)

    assert "begin with procrastinate_" in str(caught.value.hint)


@pytest.mark.slow
def test_three_processes_make_it_at_once(database: Database, migrated_database_url: str) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", UPGRADE, migrated_database_url]) for _ in range(3)]

    assert [process.wait(60) for process in processes] == [0, 0, 0]

    assert fix_of(database) is None


def test_where_there_can_be_no_queue_the_error_names_the_fix(
    migrated_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_queue(migrated_database_url)
    with pytest.raises(SettingsError, match="needs PostgreSQL") as caught:
        require_queue("sqlite:////var/lib/phasesync/phasesync.db")
    assert 'daemon.dispatch = "threads"' in str(caught.value.hint)

    monkeypatch.setattr(queue_schema, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="procrastinate, which is not installed") as caught:
        require_queue(migrated_database_url)
    assert caught.value.hint == "pip install 'phasesync[distributed]'"
