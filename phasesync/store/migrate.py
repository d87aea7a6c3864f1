"""
Brings the schema to the newest revision, and reports its revision.

Alembic takes most of a second to import, so only `upgrade` and `downgrade` import it, and what fills new columns with
it; the revision is one select.
Any number of processes may upgrade at once: a lock lets one work, and the others find the work done.
"""

import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from phasesync.errors import KeyUnavailableError, SchemaMismatchError
from phasesync.store.database import Database, lock_migrations, open_database, retry_on_conflict
from phasesync.store.database_url import parse_database_url
from phasesync.store.db_errors import no_schema
from phasesync.store.key_ring import KeyRing
from phasesync.store.retirement import Retirement, read_retirement
from phasesync.store.sqlite import missing_database, sqlite_file_exists
from phasesync.store.tables import data_keys

if TYPE_CHECKING:
    from alembic.config import Config

REVISIONS: Final = ("0001", "0002", "0003", "0004", "0005", "0006", "0007")
"""Every revision, oldest first; a test compares it with the migrations."""

EXPECTED: Final = REVISIONS[-1]

_VERSION_TABLE: Final = "alembic_version"
_REVISION: Final = re.compile("[0-9]{4}")
_COMPATIBILITY_TABLE: Final = "schema_compatibility"
_MOST_NAMED: Final = 5


@dataclass(frozen=True, kw_only=True)
class SchemaStatus:
    """
    The revision of a database's schema.

    Attributes:
        current: the revision; None if the database was never migrated, or does not exist yet.
        expected: the revision that this release works with.
        queue_fix: what the operator has to do so that the queue of due syncs can be used; None if nothing, or if the
            settings ask for none.
        retirement: that nobody may work with the database; None if somebody may, or if it was not read.
        works_with: the oldest revision whose release can work with a schema that is newer than this release; None if
            the schema is not newer, or says nothing of it.
    """

    current: str | None
    expected: str
    queue_fix: str | None = None
    retirement: Retirement | None = None
    works_with: str | None = None

    @property
    def is_current(self) -> bool:
        """Whether this release can work with the schema: it is its own, or a newer one that only adds to it."""
        own = self.current == self.expected
        return (own or is_compatible(self.works_with)) and self.queue_fix is None

    @property
    def fix(self) -> str:
        """What the operator has to do so that schema and release fit."""
        if self.current is None:
            return "phasesync init"
        if self.queue_fix is not None and (self.current == self.expected or is_compatible(self.works_with)):
            return self.queue_fix
        if self.current in REVISIONS:
            return "phasesync db migrate"
        return "upgrade phasesync to the release that migrated the database"


def is_compatible(works_with: str | None) -> bool:
    """Return whether this release can work with a newer schema; `works_with`: see `SchemaStatus`."""
    return works_with is not None and works_with <= EXPECTED


def upgrade(
    database_url: str,
    open_keys: Callable[[Database], KeyRing] | None = None,
    *,
    in_use: bool = True,
    to: str = "head",
) -> None:
    """
    Bring a database to the newest revision; a missing SQLite file is created.

    All in one transaction: an interrupted upgrade leaves the database as it was, and can be repeated. A newer schema
    that this release can work with stays as it is: a host that comes later with the former release may repeat this.

    Args:
        database_url: the database.
        open_keys: returns the key ring of the database, or raises if the root key does not fit; called only if a
            migration needs keys. A fresh database needs none.
        in_use: other processes may work on the database. False for a private copy.
        to: the revision; the newest one, unless the tables are for rows of an older one.

    Raises:
        SchemaMismatchError: the schema is newer, and this release cannot work with it.
        IllegalTransitionError: a process of the former release is at work, and would write rows without a MAC.
        KeyUnavailableError, CiphertextError: from `open_keys`, or MACs were removed. Nothing was changed.
        SettingsError, StoreUnavailableError: it cannot be opened or is locked.
    """
    from alembic import command

    _migrate(
        open_database(database_url, create=True),
        lambda config: command.upgrade(config, to),
        open_keys,
        in_use=in_use,
        newer_will_do=True,
    )


def preview_upgrade(database_url: str, open_keys: Callable[[Database], KeyRing] | None = None) -> tuple[str, ...]:
    """
    Return the revisions that `upgrade` would apply, oldest first; creates and changes nothing.

    Args and Raises: as `upgrade`.
    """
    from phasesync.store.migration_0003 import refuse_beside_others

    if not _exists(database_url):
        return REVISIONS
    with closing(open_database(database_url)) as database, database.read() as connection:
        current = _current(connection)
        if current is None:
            return REVISIONS
        if current not in REVISIONS:
            if is_compatible(_works_with(connection, current)):
                return ()
            raise _mismatch(current)
        if _keys_for(connection, current, database, open_keys) is not None:
            refuse_beside_others(connection)
        return REVISIONS[REVISIONS.index(current) + 1 :]


def _exists(database_url: str) -> bool:
    """Return whether there is a database; PostgreSQL says so itself when it is opened."""
    url = parse_database_url(database_url)
    return url.get_backend_name() != "sqlite" or sqlite_file_exists(url)


def downgrade(database_url: str, revision: str) -> None:
    """Bring a database back to an older revision ("base" = empty). Data without a place there is lost."""
    from alembic import command

    _migrate(open_database(database_url), lambda config: command.downgrade(config, revision))


def status(database_url: str, *, queued: bool = False) -> SchemaStatus:
    """
    Return the revision of a database's schema; creates nothing. SettingsError, StoreUnavailableError.

    `queued`: look at the tables of the queue, too; on PostgreSQL only.
    """
    if not _exists(database_url):
        return SchemaStatus(current=None, expected=EXPECTED)
    database = open_database(database_url)
    try:
        return status_of(database, queued=queued, retirement=True)
    finally:
        database.close()


def status_of(database: Database, *, queued: bool = False, retirement: bool = False) -> SchemaStatus:
    """
    Return the revision of an open database's schema; see `status`. StoreUnavailableError.

    `retirement`: read whether the database is retired, which is one more statement.
    """
    with database.read() as connection:
        fix = None
        if queued:
            # Imported here, so that a command that needs no queue does not pay for it.
            from phasesync.store.queue_schema import queue_fix

            fix = queue_fix(connection)
        current = _current(connection)
        works_with = None if current is None or current in REVISIONS else _works_with(connection, current)
        usable = current == EXPECTED or is_compatible(works_with)
        retired = read_retirement(connection) if retirement and usable else None
        return SchemaStatus(
            current=current, expected=EXPECTED, queue_fix=fix, retirement=retired, works_with=works_with
        )


def open_migrated(database_url: str, *, exactly: bool = False) -> Database:
    """
    Open a database with whose schema this release can work.

    `exactly`: only with the schema of this release, for what reads or writes whole tables.

    Raises:
        SchemaMismatchError: it was never migrated, or not to this release's schema; the hint names the command.
        SettingsError, StoreUnavailableError: it cannot be opened or is locked.
    """
    if not _exists(database_url):
        message, hint = missing_database(Path(parse_database_url(database_url).database or ""))
        raise SchemaMismatchError(message, hint=hint)
    database = open_database(database_url)
    try:
        schema = status_of(database)
        if not schema.is_current or (exactly and schema.current != EXPECTED):
            raise _mismatch(schema.current)
    except BaseException:
        database.close()
        raise
    return database


def migrations_folder() -> Path:
    """Return Alembic's folder: inside the installed package, or at the top of the repository."""
    package = Path(str(files("phasesync")))
    installed = package / "_migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


@retry_on_conflict
def _migrate(
    database: Database,
    work: Callable[["Config"], None],
    open_keys: Callable[[Database], KeyRing] | None = None,
    *,
    in_use: bool = True,
    newer_will_do: bool = False,
) -> None:
    from alembic.config import Config

    from phasesync.store.migration_0003 import authenticate, refuse_beside_others

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    try:
        if database.is_sqlite:
            # Rebuilding a table must not delete rows that refer to it; the switch works outside transactions only.
            sa.event.listen(database.engine, "connect", _without_foreign_keys)
        with database.write() as connection:
            if not database.is_sqlite:
                lock_migrations(connection)
            current = _current(connection)
            if current is not None and current not in REVISIONS:
                if newer_will_do and is_compatible(_works_with(connection, current)):
                    return
                raise _mismatch(current)
            config.attributes["connection"] = connection
            keys = _keys_for(connection, current, database, open_keys)
            work(config)
            if keys is not None and _current(connection) == EXPECTED:
                if in_use:
                    refuse_beside_others(connection)
                authenticate(connection, keys)
            if database.is_sqlite and connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
                raise SchemaMismatchError("the migration would have left rows that refer to nothing; it was undone")
    finally:
        database.close()


def _keys_for(
    connection: sa.Connection,
    current: str | None,
    database: Database,
    open_keys: Callable[[Database], KeyRing] | None,
) -> KeyRing | None:
    """Return the key ring if there are rows that get MACs now; it is opened before anything is changed."""
    from phasesync.store.migration_0003 import SINCE

    if current is None or current >= SINCE or connection.scalar(sa.select(data_keys.c.id).limit(1)) is None:
        return None
    if open_keys is None:
        raise KeyUnavailableError("this migration needs the root key", hint="phasesync db migrate, where the key is")
    return open_keys(database)


def _current(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(_VERSION_TABLE):
        _require_schema(connection)
        return None
    table = sa.table(_VERSION_TABLE, sa.column("version_num", sa.String))
    versions = connection.scalars(sa.select(table.c.version_num).distinct().limit(_MOST_NAMED)).all()
    rows = connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
    if rows > 1:
        raise SchemaMismatchError(
            f"the database says in {rows} rows of {_VERSION_TABLE} which schema it has, and one is right: "
            f"{', '.join(map(str, versions))}",
            hint="it was altered outside: restore the newest backup that phasesync db backup made",
        )
    # SQLite stores a value of any type in any column.
    return str(versions[0]) if versions and versions[0] is not None else None


def _works_with(connection: sa.Connection, current: str) -> str | None:
    """Return the oldest revision whose release can work with a newer schema; None if it does not say, or is none."""
    if _REVISION.fullmatch(current) is None or current <= EXPECTED:
        return None
    if not sa.inspect(connection).has_table(_COMPATIBILITY_TABLE):
        return None
    table = sa.table(_COMPATIBILITY_TABLE, sa.column("works_with", sa.String))
    oldest = connection.scalar(sa.select(sa.func.max(table.c.works_with)))
    return oldest if isinstance(oldest, str) else None  # SQLite stores a value of any type in any column.


def _require_schema(connection: sa.Connection) -> None:
    """Raise SettingsError if PostgreSQL's search_path leads to no schema."""
    if connection.dialect.name == "postgresql" and connection.scalar(sa.select(sa.func.current_schema())) is None:
        raise no_schema(connection.engine.url)


def _mismatch(current: str | None) -> SchemaMismatchError:
    if current is None:
        return SchemaMismatchError("the database has no tables of phasesync yet", hint="phasesync init")
    if current in REVISIONS:
        return SchemaMismatchError(f"the database's schema is {current}, this release needs {EXPECTED}")
    return SchemaMismatchError(
        f"the database's schema {current} is newer than this release of phasesync, which knows {EXPECTED}",
        hint="upgrade phasesync to the release that migrated the database",
    )


def _without_foreign_keys(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA foreign_keys = OFF")
