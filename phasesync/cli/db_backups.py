"""`phasesync db backup`, `verify`, `drill` and `restore`."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, ParamSpec, TypeVar

import click

from phasesync.cli.audited import note_done, with_refusals
from phasesync.cli.dry_run import dry_run_flag, show_dry_run
from phasesync.cli.input import never_asks
from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, output_option
from phasesync.cli.params import REGION, Duration
from phasesync.cli.sync_results import error_document, threads_of, worst_code
from phasesync.core.audit import AuditKind
from phasesync.core.counted import counted
from phasesync.core.times import duration_text
from phasesync.errors import InvalidInputError, PhasesyncError, StaleDatabaseError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.core.backup_schedule import BackupSchedule
    from phasesync.engine.sync_operations import PlanReport
    from phasesync.settings import Settings
    from phasesync.store.backup_check import VerifiedBackup
    from phasesync.store.restore import Consent

KEEP: Final = 28


class _Every(Duration):
    """A duration, or `off`."""

    name = "DURATION|off"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == "off" else super().convert(value, param, ctx)


EVERY: Final = _Every()

P = ParamSpec("P")
R = TypeVar("R")


def _a_backup(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command the argument that names a backup, and the options for one in Amazon S3 or without a manifest."""
    for decorate in (
        click.option(
            "--without-manifest",
            is_flag=True,
            help="Take also a backup whose manifest is missing or has no MAC: nothing tells then which rows it lacks.",
        ),
        click.option(
            "--region", type=REGION, help="With s3://: of the bucket. Default: that of the credential, else AWS_REGION."
        ),
        click.option(
            "--credential",
            metavar="NAME",
            help="With s3://: who reads there, of this database. Default: the identity of this shell.",
        ),
        click.argument("file", metavar="FILE|s3://BUCKET/KEY"),
    ):
        command = decorate(command)
    return command


@click.command()
@click.argument("file", required=False)
@click.option(
    "--every", type=EVERY, help="Have the daemon make backups so often: 6h; off ends it. Default: one now, to FILE."
)
@click.option("--keep", type=int, default=KEEP, show_default=True, help="With --every: how many are kept there.")
@click.option(
    "--to",
    "place",
    metavar="PLACE",
    help="With --every: a folder of the daemon, or s3://BUCKET/PREFIX. Default, with off: the only one.",
)
@click.option("--credential", metavar="NAME", help="With s3://: who writes there. Default: the identity of the daemon.")
@click.option("--region", type=REGION, help="With s3://: of the bucket. Default: that of the credential.")
@output_option
@dry_run_flag
def backup(file: str | None, dry_run: bool, out: Output, **options: Any) -> None:
    """
    Copy the database to a new file while it is in use, whichever database it is; or have the daemon do it.

    The file is a SQLite database with mode 0600. What is encrypted in the database is encrypted there, and the root key
    is not in it. FILE.manifest.json beside it proves that it is whole, and of which time.

    The daemon proves each backup with the root key, and then removes old ones of this installation. db status shows
    how that goes.

    \b
    Examples:
      phasesync db backup /var/backups/phasesync-monday.db
      phasesync db backup --every 6h --keep 28 --to s3://acme-backups/phasesync --credential backups
      phasesync db backup --every off
    """
    request = _Request(**options)
    if file is None:
        if request.every is None:
            raise InvalidInputError("name a file, or say how often: --every 6h --to PLACE")
        _schedule(request, out=out, dry_run=dry_run)
    elif request != _Request():
        raise InvalidInputError("--every and what belongs to it go without a FILE")
    elif file.startswith("s3://"):
        raise InvalidInputError(
            "only the daemon makes backups in Amazon S3; one now goes to a file",
            hint="phasesync db backup --every 6h --to s3://BUCKET/PREFIX makes the first one at once",
        )
    else:
        _copy(Path(file), out, dry_run=dry_run)


@dataclass(frozen=True, kw_only=True)
class _Request:
    """The options of a schedule; `every` is `off` to end it."""

    every: timedelta | Literal["off"] | None = None
    keep: int = KEEP
    place: str | None = None
    credential: str | None = None
    region: str | None = None


@with_refusals
def _copy(file: Path, out: Output, *, dry_run: bool) -> None:
    settings = invocation().settings().settings
    if dry_run:
        from phasesync.store.backup import preview_backup

        size = preview_backup(settings.database_url, file)
        show_dry_run(out, f"would copy about {size:,} bytes to {file}", {"file": str(file), "bytes": size})
        return
    from phasesync.bootstrap import back_up_database
    from phasesync.store.backup_manifest import manifest_of

    manifest = back_up_database(settings, file)
    note_done(settings, "db.backup", kind=AuditKind.ACCESS, details={"file": str(file)}, out=out)
    if manifest.mac is None:
        out.warn(
            "no root key opens this database here, so the manifest has no MAC: nothing proves that no rows are lost "
            "later, and db verify and db restore take the backup with --without-manifest only"
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


@with_application
def _schedule(application: "Application", request: _Request, *, out: Output, dry_run: bool) -> None:
    from phasesync.cli.database_documents import backup_schedule_document

    if request.every != "off" and application.store.backup_schedules.list_all().altered:
        out.warn("a schedule that was altered is removed; if it was one of another place, set that anew as well")
    with application.store.database.rehearsal() if dry_run else nullcontext():
        schedule, message = (_unset if request.every == "off" else _set)(application, request)
    credentials = {one.id: one.name for one in application.store.credentials.list_all()}
    document = backup_schedule_document(schedule, credentials, now=application.context.clock.now())
    if dry_run:
        show_dry_run(out, message, document)
        return
    if request.every != "off" and not application.store.daemons.alive():
        out.warn("no daemon is running to make the first backup; start one: phasesync daemon")
    out.done(message, document)


def _unset(application: "Application", request: _Request) -> "tuple[BackupSchedule, str]":
    from phasesync.core.backup_schedule import parse_place

    place = None if request.place is None else parse_place(request.place)
    removed = application.store.backup_schedules.remove(place)
    return removed, f"no more backups are made to {removed.place}; those that are there stay"


def _set(application: "Application", request: _Request) -> "tuple[BackupSchedule, str]":
    from phasesync.core.backup_schedule import Bucket, check_every, check_keep, parse_place

    if request.place is None or not isinstance(request.every, timedelta):
        raise InvalidInputError("where to? --to /var/backups/phasesync, or --to s3://BUCKET/PREFIX")
    place = parse_place(request.place)
    credential = None if request.credential is None else application.store.credentials.get(request.credential)
    region = request.region
    if isinstance(place, Bucket):
        region = region or (None if credential is None else credential.region)
        if region is None:
            raise InvalidInputError("in which Region is the bucket? --region eu-central-1")
    elif credential is not None or region is not None:
        raise InvalidInputError("a folder needs no credential and no Region")
    schedule = application.store.backup_schedules.set(
        place,
        every=check_every(request.every),
        keep=check_keep(request.keep),
        credential_id=None if credential is None else credential.id,
        region=region,
        actor=invocation().actor,
    )
    return schedule, (
        f"a backup is made every {duration_text(schedule.every)} to {place}, the first one now; "
        f"{'the newest one stays' if schedule.keep == 1 else f'the newest {schedule.keep} stay'}; see how it goes: "
        "phasesync db status"
    )


@click.command()
@_a_backup
@output_option
def verify(file: str, credential: str | None, region: str | None, without_manifest: bool, out: Output) -> int:
    """
    Prove with the root key that a backup can be restored: its manifest, its rows, and every MAC in it.

    The backup is only read, and the database is not opened. Exit 6 names what is wrong; also if it is the audit log
    alone, which is no reason not to restore it. Without the MAC of its manifest nothing proves that no rows are
    missing: that is exit 6 too, unless --without-manifest asks for the rest.

    \b
    Examples:
      phasesync db verify /var/backups/phasesync-monday.db
      phasesync db verify s3://acme-backups/phasesync/phasesync-0123456789ab-20300102T030405Z.db
    """
    from phasesync.bootstrap import backup_at_hand, verify_backup

    settings = invocation().settings().settings
    with backup_at_hand(settings, file, credential=credential, region=region) as at_hand:
        verified = verify_backup(settings, at_hand, without_manifest=without_manifest)
    _show_verified(verified, file, out)
    document = _verified_document(verified, file)
    if not out.as_json:
        out.items(
            [{"what": noun.replace("_", " "), "authentic": number} for noun, number in document["authentic"].items()],
            ["what", "authentic"],
        )
    out.done(f"{file} can be restored", document)
    return 6 if verified.tampered else 0


def _show_verified(verified: "VerifiedBackup", file: str, out: Output) -> None:
    if not verified.signed:
        lacks = "has no manifest" if verified.manifest is None else "has a manifest without a MAC"
        out.warn(f"{file} {lacks}: rows may be missing, and nothing proves of which time it is")
    for left_out in verified.left_out[:_SHOWN]:
        out.warn(f"{file} has the {left_out}, which phasesync did not make: a restore leaves it out")
    for finding in verified.tampered[:_SHOWN]:
        out.warn(f"the audit log in it was altered: {finding.message}")
    if (more := len(verified.tampered) - _SHOWN) > 0:
        out.warn(f"and {counted(more, 'thing')} more: phasesync audit verify names them once it is restored")


_SHOWN: Final = 10


def _verified_document(verified: "VerifiedBackup", file: str) -> dict[str, Any]:
    manifest = "missing" if verified.manifest is None else "authentic" if verified.signed else "unsigned"
    return {
        "file": file,
        "instance_id": verified.instance_id,
        "schema": verified.schema,
        "manifest": manifest,
        "made_at": verified.made_at,
        "rows": dict(verified.rows),
        "authentic": vars(verified.authenticated).copy(),
        "left_out": list(verified.left_out),
        "tampered": [
            {"what": one.tampering.value, "first": one.first, "last": one.last, "message": one.message}
            for one in verified.tampered
        ],
    }


@click.command()
@_a_backup
@output_option
def drill(file: str, credential: str | None, region: str | None, without_manifest: bool, out: Output) -> int:
    """
    Try a restore out: prove a backup, restore it to a temporary database, and plan every sync of it against AWS.

    Writes nothing, in the database or at AWS. Shows what a restore would write, and which syncs are behind AWS. Uses
    the identity of this shell where a credential has none of its own. Exit 7 if AWS could not be asked.

    \b
    Example:
      phasesync db drill /var/backups/phasesync-monday.db -o json
    """
    from phasesync.bootstrap import backup_at_hand, drill_backup

    settings = invocation().settings().settings
    began = time.monotonic()
    with (
        backup_at_hand(settings, file, credential=credential, region=region) as at_hand,
        drill_backup(settings, at_hand, without_manifest=without_manifest) as (verified, application),
    ):
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
@click.option(
    "--other-installation",
    is_flag=True,
    help="Replace the database also if it is of another installation than the backup.",
)
@_a_backup
@never_asks
@output_option
@dry_run_flag
@with_refusals
def restore(file: str, credential: str | None, region: str | None, dry_run: bool, out: Output, **consent: bool) -> None:
    """
    Replace the database with a backup. The former content is kept: beside a SQLite database, or in the data directory.

    The backup is proved first, as db verify does. It may be of the other kind of database. No daemon may be at work.
    Until `db accept-restore` no sync writes anything at AWS. A sync is halted if it finds a write that this database
    has not made.

    \b
    Example:
      phasesync db restore /var/backups/phasesync-monday.db
    """
    from phasesync.bootstrap import backup_at_hand, restore_database
    from phasesync.store.restore import Consent

    settings, asked = invocation().settings().settings, Consent(**consent)
    with backup_at_hand(settings, file, credential=credential, region=region) as at_hand:
        if dry_run:
            _show_restore(settings, at_hand, file, asked, out)
            return
        restored = restore_database(settings, at_hand, asked)
    kept = None if restored.kept is None else str(restored.kept)
    _show_verified(restored.verified, file, out)
    note_done(settings, "db.restore", details={"file": file, "kept": kept}, out=out)
    if kept is not None:
        out.say(f"the former database is kept as {kept}")
        if not restored.signed:
            out.warn("no root key opens the former database here, so the manifest of what is kept has no MAC")
    out.done(
        f"restored {file}; see what would be written: phasesync syncs plan NAME; then go on with it: "
        "phasesync db accept-restore",
        {"restored": file, "kept": kept},
    )


def _show_restore(settings: "Settings", at_hand: Path, file: str, asked: "Consent", out: Output) -> None:
    from phasesync.bootstrap import preview_restoration
    from phasesync.cli.database_documents import restore_preview_document

    preview = preview_restoration(settings, at_hand, asked)
    _show_verified(preview.verified, file, out)
    document = restore_preview_document(preview, file)
    if not out.as_json:
        rows = [{"what": noun, **counts} for noun, counts in document["contents"].items()]
        out.items(rows, ["what", "now", "then"])
        for title in ("lost", "added"):
            if names := document["syncs"][title]:
                out.say(f"syncs that would be {title}: {', '.join(names)}")
    schema = preview.verified.schema
    migrated = "" if schema == preview.backup.schema else f", brought to schema {preview.backup.schema}"
    message = f"would replace the database with {file} (schema {schema}{migrated})"
    if preview.kept is not None:
        message += f", and keep the present one as {preview.kept}"
    show_dry_run(out, message, document)
