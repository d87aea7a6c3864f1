"""`phasesync db`: the database's schema and backups."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from phasesync.cli.invocation import invocation
from phasesync.cli.output import Output, output_option

if TYPE_CHECKING:
    from phasesync.adapters.store.migrate import SchemaStatus


@click.group()
def db() -> None:
    """The database: schema and backups."""


@db.command()
@output_option
def migrate(out: Output) -> None:
    """
    Bring the database to the schema of this release. Any number of processes may do it at once.

    \b
    Example:
      phasesync db migrate
    """
    url = invocation().settings().settings.database_url
    from phasesync.adapters.store.migrate import status as schema_status
    from phasesync.adapters.store.migrate import upgrade

    before = schema_status(url)
    upgrade(url)
    after = schema_status(url)
    moved = "is at" if before.current == after.current else "was brought to"
    out.done(f"the database {moved} schema {after.current}", _document(after))


@db.command()
@output_option
def status(out: Output) -> int:
    """
    Say which schema the database has and which this release needs. Exit 6 where they differ.

    \b
    Example:
      phasesync db status
    """
    from phasesync.adapters.store.migrate import status as schema_status

    found = schema_status(invocation().settings().settings.database_url)
    out.item(_document(found))
    if not found.is_current:
        out.warn(f"the schema is not the one of this release; next: {found.mend}")
    return 0 if found.is_current else 6


@db.command()
@click.argument("file", type=click.Path(path_type=Path))
@output_option
def backup(file: Path, out: Output) -> None:
    """
    Copy a SQLite database while it is in use. The new file has mode 0600. The root key is not in it.

    \b
    Example:
      phasesync db backup /var/backups/phasesync-monday.db
    """
    from phasesync.adapters.store.backup import backup as copy

    copy(invocation().settings().settings.database_url, file)
    out.done(f"copied the database to {file}", {"file": str(file), "bytes": file.stat().st_size})


def _document(found: "SchemaStatus") -> dict[str, object]:
    return {"current": found.current, "expected": found.expected, "is_current": found.is_current}
