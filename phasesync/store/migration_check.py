"""
Says what `migrate.upgrade` would do to a database: which migrations, for how long, with which locks, beside whom.

Each migration states it in its file: WORKS_WITH, LOCKS and GROWS_WITH. It changes nothing and takes no lock.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from phasesync.store.database import Database, open_database
from phasesync.store.database_url import is_postgresql
from phasesync.store.key_ring import KeyRing
from phasesync.store.migrate import SchemaStatus, migrations_folder, preview_upgrade, status

if TYPE_CHECKING:
    from alembic.script import Script

_FIXED: Final = timedelta(seconds=1)
_FOR_ROW: Final = timedelta(microseconds=30)
"""Three times what was measured: docs/upgrade.md has the figures."""


@dataclass(frozen=True, kw_only=True)
class PendingMigration:
    """
    A migration that a database lacks.

    Attributes:
        revision: its number.
        title: what it brings, in one line.
        works_with: the oldest schema whose release goes on working afterwards.
        locks: tables that others wait for while it runs. On SQLite every writer waits.
        rows: how many rows it goes through.
    """

    revision: str
    title: str
    works_with: str
    locks: tuple[str, ...]
    rows: int


@dataclass(frozen=True, kw_only=True)
class MigrationCheck:
    """
    What a migration of a database to the schema of this release would do.

    Attributes:
        schema: how the database stands.
        pending: the migrations that it lacks, oldest first. They are carried out in one transaction.
        on_sqlite: whether it is SQLite, where every writer waits until the end.
    """

    schema: SchemaStatus
    pending: tuple[PendingMigration, ...]
    on_sqlite: bool

    @property
    def needed(self) -> bool:
        """Whether `db migrate` has something to do."""
        return bool(self.pending) or self.schema.queue_fix is not None

    @property
    def estimate(self) -> timedelta:
        """How long it takes at most on an ordinary machine; nothing if there is nothing to do."""
        return _FIXED + sum(each.rows for each in self.pending) * _FOR_ROW if self.pending else timedelta(0)

    @property
    def former_goes_on(self) -> bool:
        """Whether daemons of the release that made the present schema go on working, during and after it."""
        current = self.schema.current
        return current is None or all(each.works_with <= current for each in self.pending)

    @property
    def locks(self) -> tuple[str, ...]:
        """The tables that others wait for until the end."""
        return tuple(sorted({table for each in self.pending for table in each.locks}))


def check_migration(
    database_url: str, open_keys: Callable[[Database], KeyRing] | None = None, *, queued: bool = False
) -> MigrationCheck:
    """
    Return what `upgrade` would do; creates and changes nothing.

    Args:
        database_url: the database.
        open_keys: as of `upgrade`.
        queued: look at the tables of the queue, too.

    Raises:
        As `preview_upgrade`: above all if the root key that a migration needs is not there, or if a daemon is in the
        way of one that works with no other release.
    """
    schema = status(database_url, queued=queued)
    revisions = preview_upgrade(database_url, open_keys)
    scripts = [_script(revision) for revision in revisions]
    growing = {table for script in scripts for table in script.module.GROWS_WITH}
    rows = {} if schema.current is None else _count(database_url, growing)
    pending = tuple(
        PendingMigration(
            revision=script.revision,
            title=script.doc,
            works_with=script.module.WORKS_WITH,
            locks=tuple(script.module.LOCKS),
            # A table that is not there yet is made by a migration before it, and empty.
            rows=sum(rows.get(table, 0) for table in script.module.GROWS_WITH),
        )
        for script in scripts
    )
    return MigrationCheck(schema=schema, pending=pending, on_sqlite=not is_postgresql(database_url))


def _count(database_url: str, names: set[str]) -> dict[str, int]:
    """Return table -> number of its rows, of the tables that are there."""
    if not names:
        return {}
    with closing(open_database(database_url)) as database, database.read() as connection:
        present = names & set(sa.inspect(connection).get_table_names())
        count = sa.select(sa.func.count())
        return {name: connection.scalar(count.select_from(sa.table(name))) or 0 for name in sorted(present)}


@cache
def _script(revision: str) -> "Script":
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    return ScriptDirectory.from_config(config).get_revision(revision)
