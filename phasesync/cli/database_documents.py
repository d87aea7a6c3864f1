"""The JSON documents of the database itself: its schema, its copies and backups; see `documents.py`."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from phasesync.cli.documents import Document
from phasesync.core.times import duration_text

if TYPE_CHECKING:
    from phasesync.core.backup_schedule import BackupSchedule
    from phasesync.store.database_copy import CopiedDatabase
    from phasesync.store.migrate import SchemaStatus
    from phasesync.store.migration_check import MigrationCheck
    from phasesync.store.restore import RestorePreview


def schema_document(schema: "SchemaStatus") -> Document:
    """Return which schema the database has, as `db status` and `db migrate` print it."""
    document: Document = {"current": schema.current, "expected": schema.expected, "is_current": schema.is_current}
    if schema.retirement is not None:
        document |= {"retired_at": schema.retirement.at, "retired_to": schema.retirement.to}
    # Only where the settings ask for a queue, and this release cannot use it.
    return document if schema.queue_fix is None else document | {"queue": "missing, or of another release"}


def migration_check_document(check: "MigrationCheck") -> Document:
    """Return what `db migrate --check -o json` prints."""
    waits = "every writer; who only reads goes on" if check.on_sqlite else f"who uses {', '.join(check.locks)}"
    return {
        "current": check.schema.current,
        "expected": check.schema.expected,
        "needed": check.needed,
        "migrations": [
            {"revision": each.revision, "title": each.title, "works_with": each.works_with, "rows": each.rows}
            for each in check.pending
        ],
        "seconds": -(-check.estimate // timedelta(seconds=1)),
        "waits": (waits if check.on_sqlite or check.locks else "nobody") if check.pending else "nobody",
        "locks": list(check.locks),
        "former_daemons": "go on" if check.former_goes_on else "stand still until they are replaced",
    }


def copy_document(copied: "CopiedDatabase", *, verified: bool) -> Document:
    """Return what `db copy -o json` prints."""
    return {
        "from": copied.source,
        "to": copied.target,
        "instance_id": copied.instance_id,
        "tables": [{"table": table.table, "rows": table.rows, "digest": table.digest} for table in copied.tables],
        "verified": verified,
    }


def backup_schedule_document(schedule: "BackupSchedule", credentials: Mapping[str, str], *, now: datetime) -> Document:
    """
    Return a schedule of backups as `db status` prints it.

    Args:
        schedule: the schedule.
        credentials: id of a credential -> its name.
        now: the time.
    """
    credential = schedule.credential_id
    return {
        "place": str(schedule.place),
        "every": duration_text(schedule.every),
        "keep": schedule.keep,
        "credential": None if credential is None else credentials.get(credential, f"{credential}, which is gone"),
        "region": schedule.region,
        "next_at": schedule.next_at,
        "succeeded_at": schedule.succeeded_at,
        "failed_at": schedule.failed_at,
        "error": schedule.error_class,
        "overdue": bool(schedule.overdue_at(now)),
    }


def restore_preview_document(preview: "RestorePreview", file: str) -> Document:
    """Return what a restore would replace, as `db restore --dry-run` prints it."""
    backup, present = preview.backup, preview.present
    now = {} if present is None else {**present.counts, "objects": present.objects}
    then = {**backup.counts, "objects": backup.objects}
    before = () if present is None else present.syncs
    return {
        "restored": file,
        "kept": None if preview.kept is None else str(preview.kept),
        "instance_id": preview.verified.instance_id,
        "schema": {"backup": preview.verified.schema, "expected": backup.schema},
        "contents": {noun: {"now": now.get(noun), "then": number} for noun, number in then.items()},
        "syncs": {
            "lost": [name for name in before if name not in backup.syncs],
            "added": [name for name in backup.syncs if name not in before],
        },
    }
