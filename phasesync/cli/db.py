"""`phasesync db`: the database's schema and backups."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from phasesync.cli.dry_run import dry_run_flag, dry_run_option, show_dry_run
from phasesync.cli.input import confirm, confirmation_options, never_asks
from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, output_option

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.settings import Settings


@click.group()
def db() -> None:
    """The database: schema and backups."""


@db.command()
@output_option
@dry_run_flag
def migrate(dry_run: bool, out: Output) -> None:
    """
    Bring the database to the schema of this release. Any number of processes may do it at once.

    Daemons of the former release stand still afterwards. A migration may need the root key, or refuse to work beside
    them: it says so, and changes nothing.

    \b
    Example:
      phasesync db migrate
    """
    settings = invocation().settings().settings
    from phasesync.bootstrap import migrate_database, preview_migration, schema_status
    from phasesync.cli.documents import schema_document

    if dry_run:
        schema, revisions = preview_migration(settings)
        message = f"the database is at schema {schema.current} already"
        if revisions:
            message = f"would bring the database from schema {schema.current or 'none'} to {schema.expected}"
        if schema.queue_fix is not None:
            message += ", and would give it the queue of this release"
        show_dry_run(out, message, schema_document(schema) | {"revisions": list(revisions)})
        return
    before = schema_status(settings)
    migrate_database(settings)
    after = schema_status(settings)
    moved = "is at" if before.current == after.current else "was brought to"
    with_queue = ", and has the queue of this release now" if before.queue_fix and not after.queue_fix else ""
    out.done(f"the database {moved} schema {after.current}{with_queue}", schema_document(after))


@db.command()
@output_option
def status(out: Output) -> int:
    """
    Show which schema the database has and which this release needs. Exit 6 if they differ.

    \b
    Example:
      phasesync db status
    """
    from phasesync.bootstrap import schema_status
    from phasesync.cli.documents import schema_document

    schema = schema_status(invocation().settings().settings)
    out.item(schema_document(schema))
    if not schema.is_current:
        missing = "there is no queue of this release" if schema.current == schema.expected else None
        out.warn(f"{missing or 'the schema is not the one of this release'}; next: {schema.fix}")
    return 0 if schema.is_current else 6


@db.command()
@click.argument("file", type=click.Path(path_type=Path))
@output_option
@dry_run_flag
def backup(file: Path, dry_run: bool, out: Output) -> None:
    """
    Copy a SQLite database while it is in use. The new file has mode 0600. The root key is not in it.

    \b
    Example:
      phasesync db backup /var/backups/phasesync-monday.db
    """
    from phasesync.store.backup import backup as copy
    from phasesync.store.backup import preview_backup

    url = invocation().settings().settings.database_url
    if dry_run:
        size = preview_backup(url, file)
        show_dry_run(out, f"would copy about {size:,} bytes to {file}", {"file": str(file), "bytes": size})
        return
    copy(url, file)
    out.done(f"copied the database to {file}", {"file": str(file), "bytes": file.stat().st_size})


@db.command()
@click.argument("file", type=click.Path(path_type=Path))
@never_asks
@output_option
@dry_run_flag
def restore(file: Path, dry_run: bool, out: Output) -> None:
    """
    Replace a SQLite database with a backup. The former database is kept beside it.

    No daemon may be at work. Until `db accept-restore` no sync writes anything at AWS. A sync is halted if it finds a
    write that this database has not made.

    \b
    Example:
      phasesync db restore /var/backups/phasesync-monday.db
    """
    from phasesync.bootstrap import restore_database

    settings = invocation().settings().settings
    if dry_run:
        _show_restore(settings, file, out)
        return
    kept = restore_database(settings, file)
    if kept is not None:
        out.say(f"the former database is kept as {kept}")
    out.done(
        f"restored {file}; see what would be written: phasesync syncs plan NAME; then go on with it: "
        "phasesync db accept-restore",
        {"restored": str(file), "kept": None if kept is None else str(kept)},
    )


def _show_restore(settings: "Settings", file: Path, out: Output) -> None:
    from phasesync.bootstrap import preview_restoration
    from phasesync.cli.documents import restore_preview_document

    preview = preview_restoration(settings, file)
    document = restore_preview_document(preview, file)
    if not out.as_json:
        rows = [{"what": noun, **counts} for noun, counts in document["contents"].items()]
        out.items(rows, ["what", "now", "then"])
        for title in ("lost", "added"):
            if names := document["syncs"][title]:
                out.say(f"syncs that would be {title}: {', '.join(names)}")
    migrated = "" if preview.schema == preview.backup.schema else f", brought to schema {preview.backup.schema}"
    message = f"would replace the database with {file} (schema {preview.schema}{migrated})"
    if preview.kept is not None:
        message += f", and keep the present one as {preview.kept}"
    show_dry_run(out, message, document)


@db.command("accept-restore", short_help="Go on with a database that is older than AWS.")
@confirmation_options
@output_option
@with_application
@dry_run_option
def accept_restore(application: "Application", yes: bool, no_input: bool, out: Output) -> None:
    """
    Go on with a database that is older than AWS: its values are written over newer ones.

    Use it for a restored backup, or if a copy of this database was at work. Stop the copy first.

    \b
    Example:
      phasesync db accept-restore --yes
    """
    from phasesync.engine.stale_database import LOOK_AHEAD

    confirm("write what this database holds over what is at AWS, newer or not", yes=yes, no_input=no_input)
    accepted = application.store.restore_mark.accept(ahead=LOOK_AHEAD)
    for name in accepted.unread:
        out.warn(f"the journal of {name} does not authenticate: phasesync syncs remove {name}, and add it again")
    out.done(
        f"accepted: {accepted.syncs} syncs with {accepted.objects} remote objects are checked again",
        {"syncs": accepted.syncs, "objects": accepted.objects, "unread": list(accepted.unread)},
    )
