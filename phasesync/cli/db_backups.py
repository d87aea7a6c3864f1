"""`phasesync db backup`, `verify`, `drill` and `restore`."""

import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from phasesync.cli.dry_run import dry_run_flag, show_dry_run
from phasesync.cli.input import never_asks
from phasesync.cli.invocation import invocation
from phasesync.cli.output import Output, output_option
from phasesync.cli.sync_results import error_document, threads_of, worst_code
from phasesync.errors import PhasesyncError, StaleDatabaseError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.engine.sync_operations import PlanReport
    from phasesync.settings import Settings
    from phasesync.store.backup_check import VerifiedBackup

_FILE: Final = click.argument("file", type=click.Path(path_type=Path))


@click.command()
@_FILE
@output_option
@dry_run_flag
def backup(file: Path, dry_run: bool, out: Output) -> None:
    """
    Copy the database to a new file while it is in use, whichever database it is.

    The file is a SQLite database with mode 0600. What is encrypted in the database is encrypted there, and the root key
    is not in it. FILE.manifest.json beside it proves that it is whole, and of which time.

    \b
    Example:
      phasesync db backup /var/backups/phasesync-monday.db
    """
    settings = invocation().settings().settings
    if dry_run:
        from phasesync.store.backup import preview_backup

        size = preview_backup(settings.database_url, file)
        show_dry_run(out, f"would copy about {size:,} bytes to {file}", {"file": str(file), "bytes": size})
        return
    from phasesync.bootstrap import back_up_database
    from phasesync.store.backup_manifest import manifest_of

    manifest = back_up_database(settings, file)
    if manifest.mac is None:
        out.warn(
            "the root key was not there, so nothing proves the manifest: the backup is as good, but that it is whole "
            "and of which time shows only its size and digest"
        )
    out.done(
        f"copied the database to {file}",
        {
            "file": str(file),
            "manifest": str(manifest_of(file)),
            "bytes": manifest.size,
            "sha256": manifest.sha256,
            "instance_id": manifest.instance_id,
            "schema": manifest.schema,
            "made_at": manifest.made_at,
            "signed": manifest.mac is not None,
        },
    )


@click.command()
@_FILE
@output_option
def verify(file: Path, out: Output) -> None:
    """
    Prove with the root key that a backup can be restored: its manifest, its rows, and every MAC in it.

    The backup is only read, and the database is not opened. Exit 6 names what is wrong.

    \b
    Example:
      phasesync db verify /var/backups/phasesync-monday.db
    """
    from phasesync.bootstrap import verify_backup

    verified = verify_backup(invocation().settings().settings, file)
    _show_verified(verified, file, out)
    document = _verified_document(verified, file)
    if not out.as_json:
        out.items(
            [{"what": noun.replace("_", " "), "authentic": number} for noun, number in document["authentic"].items()],
            ["what", "authentic"],
        )
    out.done(f"{file} can be restored", document)


def _show_verified(verified: "VerifiedBackup", file: Path, out: Output) -> None:
    if verified.manifest is None:
        out.warn(f"no manifest lies beside {file}: nothing proves that it is whole, and of which time")
    elif not verified.signed:
        out.warn("the manifest has no MAC: it was made without the root key, so nothing proves it")


def _verified_document(verified: "VerifiedBackup", file: Path) -> dict[str, Any]:
    manifest = "missing" if verified.manifest is None else "authentic" if verified.signed else "unsigned"
    return {
        "file": str(file),
        "instance_id": verified.instance_id,
        "schema": verified.schema,
        "manifest": manifest,
        "made_at": verified.made_at,
        "rows": dict(verified.rows),
        "authentic": vars(verified.authenticated).copy(),
    }


@click.command()
@_FILE
@output_option
def drill(file: Path, out: Output) -> int:
    """
    Try a restore out: prove a backup, restore it to a temporary database, and plan every sync of it against AWS.

    Writes nothing, in the database or at AWS. Shows what a restore would write, and which syncs are behind AWS. Uses
    the identity of this shell where a credential has none of its own. Exit 7 if AWS could not be asked.

    \b
    Example:
      phasesync db drill /var/backups/phasesync-monday.db -o json
    """
    from phasesync.bootstrap import drill_backup

    began = time.monotonic()
    with drill_backup(invocation().settings().settings, file) as (verified, application):
        verified_s = time.monotonic() - began
        _show_verified(verified, file, out)
        documents, code = _plans(application, out)
    total_s = time.monotonic() - began
    states = Counter(document["state"] for document in documents)
    took_s = {"verify": round(verified_s, 3), "plan": round(total_s - verified_s, 3), "total": round(total_s, 3)}
    if not out.as_json and documents:
        out.items([_row(document) for document in documents], ["sync", "state", "changes", "reason"])
    found = ", ".join(f"{number} {state}" for state, number in sorted(states.items())) or "no syncs"
    out.done(
        f"{file} can be restored: {found}; {took_s['total']:.1f} s",
        {**_verified_document(verified, file), "states": dict(states), "syncs": documents, "took_s": took_s},
    )
    return code


def _plans(application: "Application", out: Output) -> tuple[list[dict[str, Any]], int]:
    """Return the plan of each sync, and the worst exit code of those that could not be planned."""
    from phasesync.engine.bulk_operations import plan_all

    names = [sync.name for sync in application.store.syncs.list_syncs()]
    if not names:
        return [], 0
    reports = plan_all(application.operations, names, threads_of(application, names, out, "planned"))
    codes = [0]
    documents = []
    for name, report in reports.items():
        documents.append(_planned(name, report))
        if isinstance(report, StaleDatabaseError):
            continue  # What a backup is: AWS has newer writes.
        if isinstance(report, PhasesyncError):
            codes.append(report.exit_code)
        else:
            codes += [problem.exit_code for problem in report.problems.values()]
    return documents, worst_code(codes)


def _planned(name: str, report: "PlanReport | PhasesyncError") -> dict[str, Any]:
    from phasesync.cli.documents import has_changes, plan_document

    if isinstance(report, StaleDatabaseError):
        return error_document(name, report) | {"state": "behind-aws"}
    if isinstance(report, PhasesyncError):
        return error_document(name, report) | {"state": "not-planned"}
    state = "not-planned" if report.problems else "would-change" if has_changes(report) else "in-step"
    return plan_document(report) | {"state": state}


def _row(document: Mapping[str, Any]) -> dict[str, Any]:
    actions = Counter(str(change["action"]) for change in document.get("changes", ()))
    problem = document.get("error") or next(iter(document.get("problems", ())), None)
    return {
        "sync": document["sync"],
        "state": document["state"],
        "changes": ", ".join(f"{number} {action}" for action, number in sorted(actions.items())) or None,
        "reason": None if problem is None else problem["message"],
    }


@click.command()
@_FILE
@never_asks
@output_option
@dry_run_flag
def restore(file: Path, dry_run: bool, out: Output) -> None:
    """
    Replace the database with a backup. The former content is kept: beside a SQLite database, or in the data directory.

    The backup may be of the other kind of database. No daemon may be at work. Until `db accept-restore` no sync writes
    anything at AWS. A sync is halted if it finds a write that this database has not made.

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
