"""`phasesync db`: the database's schema, its copy to another database, and what follows a restore."""

from typing import TYPE_CHECKING, Any

import click

from phasesync.cli.audited import note_done, with_refusals
from phasesync.cli.db_backups import backup, drill, restore, verify
from phasesync.cli.dry_run import dry_run_flag, dry_run_option, show_dry_run
from phasesync.cli.input import confirm, confirmation_options, never_asks, read_stdin
from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, output_option
from phasesync.core.counted import counted
from phasesync.errors import InvalidInputError, KeyUnavailableError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.settings import Settings


@click.group()
def db() -> None:
    """The database: schema, backups, and moving it."""


@db.command()
@click.option(
    "--check",
    is_flag=True,
    help="Say what it would do, for how long, and beside whom; change nothing. Exit 3 if a migration is needed.",
)
@output_option
@dry_run_flag
@with_refusals
def migrate(check: bool, dry_run: bool, out: Output) -> int:
    """
    Bring the database to the schema of this release. Any number of processes may do it at once.

    A daemon of a former release goes on if the new schema works with it, and stands still if not: --check says which.
    A migration may need the root key, or refuse to work beside daemons: it says so, and changes nothing.

    \b
    Examples:
      phasesync db migrate --check
      phasesync db migrate
    """
    settings = invocation().settings().settings
    from phasesync.bootstrap import migrate_database, preview_migration, schema_status
    from phasesync.cli.database_documents import schema_document

    if check:
        return _show_check(settings, out)
    if dry_run:
        schema, revisions = preview_migration(settings)
        message = f"the database is at schema {schema.current} already"
        if revisions:
            message = f"would bring the database from schema {schema.current or 'none'} to {schema.expected}"
        if schema.queue_fix is not None:
            message += ", and would give it the queue of this release"
        show_dry_run(out, message, schema_document(schema) | {"revisions": list(revisions)})
        return 0
    before = schema_status(settings)
    migrate_database(settings)
    after = schema_status(settings)
    if before.current is not None and before.current != after.current:
        note_done(settings, "db.migrate", details={"from": before.current, "to": after.current}, out=out)
    moved = "is at" if before.current == after.current else "was brought to"
    with_queue = ", and has the queue of this release now" if before.queue_fix and not after.queue_fix else ""
    out.done(f"the database {moved} schema {after.current}{with_queue}", schema_document(after))
    return 0


def _show_check(settings: "Settings", out: Output) -> int:
    from phasesync.bootstrap import check_migration
    from phasesync.cli.database_documents import migration_check_document

    found = check_migration(settings)
    document = migration_check_document(found)
    if out.as_json:
        out.document(document)
        return _MIGRATION_NEEDED if found.needed else 0
    current, expected = found.schema.current, found.schema.expected
    if found.pending:
        out.items(document["migrations"], ["revision", "title", "works_with", "rows"])
        out.say(f"from schema {current or 'none'} to {expected}, in one transaction of at most {document['seconds']} s")
        out.say(f"until its end wait: {document['waits']}")
        if current is not None:
            out.say(f"daemons of the release of schema {current} {document['former_daemons']}")
    elif current != expected:
        out.say(f"the database is at schema {current}, which is newer and works with this release ({expected})")
    else:
        out.say(f"the database is at schema {current} already")
    if found.schema.queue_fix is not None:
        out.say("it has no queue of this release yet")
    return _MIGRATION_NEEDED if found.needed else 0


_MIGRATION_NEEDED = 3
"""Exit code: as for a plan with changes."""


@db.command()
@output_option
def status(out: Output) -> int:
    """
    Show which schema the database has and which this release needs, and how scheduled backups go.

    Exit 6 if the schemas differ, or if the database is retired.

    \b
    Example:
      phasesync db status
    """
    from phasesync.bootstrap import schema_status
    from phasesync.cli.database_documents import schema_document

    settings = invocation().settings().settings
    schema = schema_status(settings)
    schedules, refused = ([], []) if schema.retirement or not schema.is_current else _schedules(settings, out)
    document = schema_document(schema)
    if out.as_json:
        out.document(document | {"backups": schedules})
    else:
        out.item(document)
        if schedules:
            click.echo()
            out.items(schedules, ["place", "every", "keep", "succeeded_at", "next_at", "error"])
    _warn_of_backups(schedules, refused, out)
    if not schema.is_current:
        missing = "there is no queue of this release" if schema.current == schema.expected else None
        out.warn(f"{missing or 'the schema is not the one of this release'}; next: {schema.fix}")
    if schema.retirement is not None:
        from phasesync.store.retirement import refuse_retired

        refuse_retired(schema.retirement.at, schema.retirement.to)
    return 0 if schema.is_current else 6


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
    from phasesync.engine.stale_database import SKIP

    confirm("write what this database holds over what is at AWS, newer or not", yes=yes, no_input=no_input)
    accepted = application.store.restore_mark.accept(ahead=SKIP)
    for name in accepted.unread:
        out.warn(f"the journal of {name} does not authenticate: phasesync syncs remove {name}, and add it again")
    out.done(
        f"accepted: {counted(accepted.syncs, 'sync')} with {counted(accepted.objects, 'remote object')}, which are "
        "checked again",
        {"syncs": accepted.syncs, "objects": accepted.objects, "unread": list(accepted.unread)},
    )


@db.command("copy", short_help="Copy the database to PostgreSQL or SQLite, and retire this one.")
@click.option(
    "--to",
    "target",
    metavar="URL",
    required=True,
    help="An empty database, or a SQLite file that does not exist. - reads the URL from stdin.",
)
@click.option(
    "--verify",
    is_flag=True,
    help="Check also that every row of the copy authenticates under the root key.",
)
@never_asks
@output_option
@dry_run_flag
@with_refusals
def copy_to(target: str, verify: bool, dry_run: bool, out: Output) -> None:
    """
    Copy the database to another one, compare the two, and retire this one.

    No daemon may be at work. Ids, ciphertexts and history stay as they are, so a daemon on the copy writes nothing at
    AWS. Rows and digests of every table are compared before the copy can be used. Interrupted, repeat it: it goes on.
    Nobody can write to a retired database; db unretire takes it back.

    \b
    Examples:
      phasesync db copy --to postgresql://phasesync@db.internal/phasesync --verify
      phasesync db copy --to sqlite:////var/lib/phasesync/phasesync.db
    """
    settings = invocation().settings().settings
    from phasesync.bootstrap import copy_database
    from phasesync.cli.database_documents import copy_document

    if dry_run:
        _show_copy(settings, url_of_option(target), verify=verify, out=out)
        return
    target = url_of_option(target)
    copied = copy_database(
        settings,
        target,
        verify=verify,
        report=lambda table: (
            None if out.as_json else out.say(f"{table.table}: {counted(table.rows, 'row')}, the same in both")
        ),
    )
    there = settings.model_copy(update={"database_url": target})
    note_done(there, "db.copy", details={"from": copied.source, "to": copied.target}, out=out)
    document = copy_document(copied, verified=verify)
    if out.as_json:
        out.document(document)
    else:
        out.items(document["tables"], ["table", "rows", "digest"])
    if (apart_s := abs(copied.clocks_apart).total_seconds()) > _CLOCKS_APART_S:
        out.warn(
            f"the clocks of the two databases are {apart_s:.0f} s apart: from now on leases end, and syncs run, by the "
            "clock of the copy"
        )
    out.say(f"copied to {copied.target}; {copied.source} is retired")
    out.say(f"next: set PHASESYNC_DATABASE_URL, or database_url in the settings, to {copied.target}; start the daemon")


def _show_copy(settings: "Settings", target: str, *, verify: bool, out: Output) -> None:
    from phasesync.bootstrap import preview_copy

    preview = preview_copy(settings, target, verify=verify)
    tables = [{"table": table, "rows": rows} for table, rows in preview.rows.items()]
    if not out.as_json:
        out.items(tables, ["table", "rows"])
    goes_on = "would go on with the copy" if preview.begun else "would copy the database"
    show_dry_run(
        out,
        f"{goes_on} to {preview.target}, and retire {preview.source}",
        {"from": preview.source, "to": preview.target, "instance_id": preview.instance_id, "tables": tables},
    )


def _schedules(settings: "Settings", out: Output) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the schedules of backups, and what is wrong with those that were altered."""
    from phasesync.adapters.clock import SystemClock
    from phasesync.bootstrap import read_backup_schedules
    from phasesync.cli.database_documents import backup_schedule_document

    try:
        schedules = read_backup_schedules(settings)
    except KeyUnavailableError as error:
        out.warn(f"how scheduled backups go is not shown without the root key: {error.message}")
        return [], []
    if schedules is None:
        return [], []
    now, names = SystemClock().now(), schedules.credentials
    documents = [backup_schedule_document(one, names, now=now) for one in schedules.listed.usable]
    return documents, list(schedules.listed.refused)


def _warn_of_backups(schedules: list[dict[str, Any]], refused: list[str], out: Output) -> None:
    for reason in refused:
        out.warn(f"{reason}; no backup is made by it")
    for schedule in schedules:
        if schedule["overdue"]:
            out.warn(f"a backup to {schedule['place']} is overdue: is a daemon running? phasesync status")
        if schedule["error"] is not None:
            out.warn(
                f"the newest backup to {schedule['place']} failed ({schedule['error']}); the daemon's log says why"
            )


_CLOCKS_APART_S = 5


def url_of_option(target: str, option: str = "--to") -> str:
    """Return the URL of an option. InvalidInputError for a password in it: every user of the machine sees arguments."""
    if target == "-":
        return read_stdin().decode("utf-8", "replace").strip()
    from phasesync.store.database_url import parse_database_url

    if parse_database_url(target).password is not None:
        raise InvalidInputError(
            "a password among the arguments can be read by every user of the machine",
            hint=f"put it into ~/.pgpass and leave it out, or give the URL on stdin: {option} -",
        )
    return target


@db.command("unretire", short_help="Take a retired database back into use.")
@confirmation_options
@output_option
@dry_run_flag
@with_refusals
def unretire(yes: bool, no_input: bool, dry_run: bool, out: Output) -> None:
    """
    Take a database back into use that db copy has retired.

    Only if nobody has ever worked with the copy, which is your word: otherwise two databases write to the same objects
    at AWS. Remove the copy first. If it was in use, copy it back: db copy with its settings.

    \b
    Example:
      phasesync db unretire --yes
    """
    from phasesync.bootstrap import unretire_database

    settings = invocation().settings().settings
    retirement = unretire_database(settings, rehearse=True)
    confirm(
        f"take this database back: is it certain that nobody has ever worked with its copy at {retirement.to}",
        yes=yes,
        no_input=no_input,
    )
    if not dry_run:
        retirement = unretire_database(settings)
        note_done(settings, "db.unretire", details={"copy": retirement.to}, out=out)
    document = {"retired_at": retirement.at, "retired_to": retirement.to}
    if dry_run:
        show_dry_run(out, f"would take this database back into use; its copy is at {retirement.to}", document)
        return
    out.done(f"this database is in use again; its copy at {retirement.to} must never be used: remove it", document)


for command in (backup, verify, drill, restore):
    db.add_command(command)
