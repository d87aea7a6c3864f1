"""
The tables of Procrastinate, in our own schema of PostgreSQL: the queue that distributes due syncs among the daemons.

Procrastinate brings its schema as SQL: the whole one for a new database, and a file for each later change
(https://procrastinate.readthedocs.io/en/stable/howto/production/migrations.html). It does not note in a database which
of the files were carried out, so the table `queue_migrations` does. Each file has a transaction of its own, with its
row: an interrupted upgrade goes on where it stopped. They are not in Alembic's transaction, because PostgreSQL allows
no use of a new value of an enumeration before the commit.

Must not import Procrastinate, which takes long: it only reads the files.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from phasesync.errors import SchemaMismatchError, SettingsError
from phasesync.store.database import Database, lock_migrations, retry_on_conflict
from phasesync.store.database_url import is_postgresql

_own = sa.MetaData()
_done = sa.Table("queue_migrations", _own, sa.Column("name", sa.Text, primary_key=True))

entries: Final = sa.table(
    "procrastinate_jobs",
    sa.column("id", sa.BigInteger),
    sa.column("queue_name", sa.Text),
    sa.column("queueing_lock", sa.Text),
    sa.column("worker_id", sa.BigInteger),
    sa.column("priority", sa.Integer),
    # An enumeration: compared with literals only.
    sa.column("status"),
)
"""The queue. `queueing_lock` is the id of a sync."""
entry_events: Final = sa.table(
    "procrastinate_events",
    sa.column("job_id", sa.BigInteger),
    sa.column("type"),
    sa.column("at", sa.DateTime(timezone=True)),
)

HIGHEST_PRIORITY: Final = 2
"""Of an entry for a sync that a person asked for; one less for an edit, two less for a check: less `syncs.urgency`."""

SMALL: Final = "phasesync"
LARGE: Final = "phasesync-large"
"""
Names of queues: of small and of large syncs. Not of accounts and Regions: a daemon has to name the queues that it
reads, and a queue that no daemon reads would block its syncs. Rates of accounts are shared by the rate limiter.
"""


_INSTALL: Final = "pip install 'phasesync[distributed]'"
_UPGRADE: Final = "pip install -U 'phasesync[distributed]'"


@dataclass(frozen=True, kw_only=True)
class _Migrations:
    """
    Which of Procrastinate's migrations a database has.

    Attributes:
        missing: those that the installed release of Procrastinate has and the database has not; None if the database
            has no tables of a queue.
        unknown: those that the database has and the installed release does not know.
    """

    missing: tuple[str, ...] | None
    unknown: tuple[str, ...] = ()


def require_queue(database_url: str) -> None:
    """Raise SettingsError, with the fix, where `daemon.dispatch = "procrastinate"` cannot work."""
    if not is_postgresql(database_url.strip()):
        raise SettingsError(
            'daemon.dispatch = "procrastinate" needs PostgreSQL, and the database is SQLite',
            hint='daemon.dispatch = "threads", or several hosts: PHASESYNC_DATABASE_URL=postgresql://user@host/database',
        )
    if find_spec("procrastinate") is None:
        raise SettingsError(
            'daemon.dispatch = "procrastinate" needs the package procrastinate, which is not installed',
            hint=_INSTALL,
        )


def upgrade_queue(database: Database) -> None:
    """
    Make the tables of the queue, or bring them to the installed release. Safe to repeat, also by several processes.

    Raises:
        SchemaMismatchError: they belong to a newer release, or to another program. Nothing was changed.
    """
    while not _upgrade_once(database):
        pass


def queue_fix(connection: sa.Connection) -> str | None:
    """Return the command after which the queue can be used; None if it can be used now."""
    migrations = _migrations_of(connection)
    if migrations.unknown:
        return _UPGRADE
    return None if migrations.missing == () else "phasesync db migrate"


@retry_on_conflict
def _upgrade_once(database: Database) -> bool:
    """Do one step of an upgrade; return whether it was the last one."""
    with database.write() as connection:
        lock_migrations(connection)
        migrations = _migrations_of(connection)
        if migrations.unknown:
            raise SchemaMismatchError(
                "the tables of the queue are newer than the installed release of procrastinate", hint=_UPGRADE
            )
        if migrations.missing is None:
            if sa.inspect(connection).has_table(entries.name):
                raise SchemaMismatchError(
                    "the schema has tables of procrastinate that belong to another program",
                    hint="give phasesync a schema of its own: options=-csearch_path%3DNAME in the database URL",
                )
            if connection.scalar(sa.select(sa.func.to_regtype("procrastinate_job_status"))) is not None:
                raise SchemaMismatchError(
                    "the schema has types of procrastinate and not its tables: they were removed outside phasesync",
                    hint="drop all types and functions of this schema that begin with procrastinate_, and repeat it; "
                    'daemon.dispatch = "threads" works meanwhile',
                )
            _own.create_all(connection)
            _run(connection, _sql_folder() / "schema.sql")
            done = _known()
        else:
            done = migrations.missing[:1]
            for name in done:
                _run(connection, _migrations_folder() / f"{name}.sql")
        if done:
            connection.execute(_done.insert(), [{"name": name} for name in done])
        return migrations.missing is None or len(migrations.missing) <= 1


def _migrations_of(connection: sa.Connection) -> _Migrations:
    if not sa.inspect(connection).has_table(_done.name):
        return _Migrations(missing=None)
    done, known = set(connection.scalars(sa.select(_done.c.name))), _known()
    return _Migrations(
        missing=tuple(name for name in known if name not in done), unknown=tuple(sorted(done - set(known)))
    )


def _known() -> tuple[str, ...]:
    """Return the names of Procrastinate's migrations, oldest first: they begin with the release's number."""
    return tuple(sorted(file.stem for file in _migrations_folder().glob("*.sql")))


def _migrations_folder() -> Path:
    return _sql_folder() / "migrations"


def _sql_folder() -> Path:
    spec = find_spec("procrastinate")
    if spec is None or spec.origin is None:
        raise SettingsError("the package procrastinate is not installed", hint=_INSTALL)
    return Path(spec.origin).parent / "sql"


def _run(connection: sa.Connection, file: Path) -> None:
    # Without parameters the driver sends the text as it is: many statements, and % means nothing.
    connection.exec_driver_sql(file.read_text(encoding="utf-8"), execution_options={"no_parameters": True})
