"""Commands of `phasesync syncs` on syncs as they are: wait, trigger, pause, resume, approve, why, verify."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from phasesync.cli.dry_run import dry_run_option, is_dry_run
from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, output_option
from phasesync.cli.params import DIGEST, DURATION, MOMENT
from phasesync.cli.several_syncs import approve_several, approved_line
from phasesync.cli.sync_options import name_argument
from phasesync.cli.sync_results import last_synced_at, show_changed
from phasesync.cli.sync_selection import Selection, selection_options
from phasesync.core.audit import AuditKind
from phasesync.core.sync import SyncStatus
from phasesync.core.times import instant_text

if TYPE_CHECKING:
    from phasesync.bootstrap import Application


timeout_option = click.option(
    "--timeout", type=DURATION, default="2m", show_default=True, help="How long to wait, such as 30s or 5m."
)


def sync_document_of(application: "Application", name: str) -> dict[str, Any]:
    """Return a sync as `syncs show` prints it."""
    from phasesync.cli.documents import sync_details, waiting_document

    sync = application.store.syncs.get_sync(name)
    last = last_synced_at(application, sync.name)
    waiting = application.store.change_requests.list_requests(sync.environment_id)
    details = sync_details(
        sync,
        application.store.credentials.get_by_id(sync.credential_id).status,
        last_synced_at=last,
        now=application.context.clock.now(),
        window=application.window_state(sync),
    )
    return details | {"waiting_for_approval": [waiting_document(request) for request in waiting]}


@click.command("wait")
@name_argument
@click.option(
    "--for",
    "wanted",
    type=click.Choice([str(status) for status in SyncStatus]),
    default="in-sync",
    show_default=True,
    help="Status to wait for.",
)
@timeout_option
@output_option
@with_application
def wait_(application: "Application", name: str, wanted: str, timeout: timedelta, out: Output) -> None:
    """
    Wait until a sync has a status.

    Exit 4 when the time is over. It ends at once, and says what helps, if the sync cannot get the status in that time:
    with exit 4 if the sync waits for a person (held, halted, paused or incomplete) or is tried again later, with exit 7
    if no daemon is running.

    \b
    Example:
      phasesync syncs wait shop-production --for in-sync --timeout 2m
    """
    application.operations.wait(name, wanted=SyncStatus(wanted), timeout=timeout)
    out.done(f"{name} is {wanted}", sync_document_of(application, name))


@click.command()
@selection_options
@click.option("--wait", is_flag=True, help="Wait until it is in sync.")
@timeout_option
@output_option
@with_application
@dry_run_option
def trigger(application: "Application", selection: Selection, wait: bool, timeout: timedelta, out: Output) -> int:
    """
    Have the daemon reconcile a sync at once, whatever back-off says. With --wait it ends as syncs wait does.

    \b
    Examples:
      phasesync syncs trigger shop-production --wait
      phasesync syncs trigger --app shop
    """
    if selection.only is None:
        return _trigger_several(application, selection, timeout if wait and not is_dry_run() else None, out)
    name = selection.only
    before = application.store.syncs.get_sync(name).last_run_id
    application.operations.trigger(name, actor=invocation().actor)
    _warn_without_daemon(application, selection, out)
    if wait and not is_dry_run():
        application.operations.wait(name, wanted=SyncStatus.IN_SYNC, timeout=timeout, since_run=before or "none")
    done = f"{name} is in sync" if wait and not is_dry_run() else f"the daemon was asked for {name}"
    out.done(done, sync_document_of(application, name))
    return 0


def _trigger_several(application: "Application", selection: Selection, timeout: timedelta | None, out: Output) -> int:
    """Trigger several syncs, and wait for all of them if there is a time for that."""
    from phasesync.engine.bulk_operations import trigger_all, wait_all

    names = selection.resolve(application)
    before = {sync.name: sync.last_run_id for sync in application.store.syncs.get_syncs(names)} if timeout else {}
    errors = dict(trigger_all(application.context, names, actor=invocation().actor))
    if names:
        _warn_without_daemon(application, selection, out)
    if timeout is not None:
        asked = {name: run_id for name, run_id in before.items() if name not in errors}
        errors |= wait_all(application.context, application.operations, asked, timeout=timeout)
    return show_changed(
        application,
        out,
        names,
        errors,
        selection,
        done="in sync" if timeout is not None else "triggered",
    )


def _warn_without_daemon(application: "Application", selection: Selection, out: Output) -> None:
    if not application.store.daemons.alive():
        it = "it" if selection.only else "them"
        out.warn(f"no daemon is running: start one, or run {it} here: phasesync syncs run {selection.words}")


@click.command()
@selection_options
@click.option("--reason", default="", metavar="TEXT", help="Why, as the others will read it. Default: nothing.")
@click.option(
    "--until",
    type=MOMENT,
    metavar="INSTANT|DURATION",
    help="When it ends by itself: an RFC 3339 instant, or a time from now such as 2h. Default: never.",
)
@output_option
@with_application
@dry_run_option
def pause(
    application: "Application",
    selection: Selection,
    reason: str,
    until: datetime | timedelta | None,
    out: Output,
) -> int:
    """
    Pause a sync; takes effect before its next write to AWS.

    \b
    Examples:
      phasesync syncs pause shop-production --reason "database migration" --until 2h
      phasesync syncs pause --credential aws --reason "the account moves"
    """
    end = application.context.clock.now() + until if isinstance(until, timedelta) else until
    more = "" if end is None else f" until {instant_text(end)}"
    if selection.only is not None:
        name = selection.only
        application.operations.pause(name, actor=invocation().actor, reason=reason, until=end)
        out.done(f"paused {name}{more}", sync_document_of(application, name))
        return 0
    from phasesync.engine.bulk_operations import pause_all

    names = selection.resolve(application)
    errors = pause_all(application.context, names, actor=invocation().actor, reason=reason, until=end)
    return show_changed(application, out, names, errors, selection, done="paused", more=more)


@click.command()
@selection_options
@output_option
@with_application
@dry_run_option
def resume(application: "Application", selection: Selection, out: Output) -> int:
    """
    Resume a paused sync; it is reconciled at once.

    \b
    Examples:
      phasesync syncs resume shop-production
      phasesync syncs resume --all
    """
    if selection.only is not None:
        name = selection.only
        application.operations.resume(name, actor=invocation().actor)
        out.done(f"resumed {name}", sync_document_of(application, name))
        return 0
    from phasesync.engine.bulk_operations import resume_all

    names = selection.resolve(application)
    errors = resume_all(application.context, names, actor=invocation().actor)
    return show_changed(application, out, names, errors, selection, done="resumed")


@click.command()
@selection_options
@click.option("--plan", "digest", type=DIGEST, required=True, metavar="DIGEST", help="Digest that plan prints.")
@output_option
@with_application
@dry_run_option
def approve(application: "Application", selection: Selection, digest: str, out: Output) -> int:
    """
    Approve what a plan holds back; the next run carries it out. Takes the digest of a change that waits in the sync's
    environment too, as envs approve does.

    The digest of several syncs covers all held changes that plan shows for the same selection. If one of them differs
    now, nothing is approved (exit 4).

    \b
    Examples:
      phasesync syncs approve shop-production --plan 0123456789abcdef
      phasesync syncs approve --app shop --plan 0123456789abcdef
    """
    from phasesync.cli.approvals import decided_for_sync
    from phasesync.cli.documents import held_document

    if selection.only is None:
        return approve_several(application, selection, digest, out)
    name = selection.only
    if decided_for_sync(application, name, digest, "", out):
        return 0
    by = application.settings.approvals.by
    held = application.operations.approve(name, digest, actor=invocation().actor, by=by)
    changes = [held_document(change) for change in held]
    out.done(approved_line(name, digest, changes), sync_document_of(application, name) | {"approved": changes})
    return 0


@click.command(short_help="Explain how a sync stands, and what a run would decide.")
@name_argument
@output_option
@with_application
def why(application: "Application", name: str, out: Output) -> None:
    """
    Explain how a sync stands, what a run would decide on each AWS secret, and why. Writes nothing.

    \b
    Example:
      phasesync syncs why shop-production
    """
    from phasesync.cli.documents import explanation_document
    from phasesync.cli.text import show_explanation
    from phasesync.engine.explanation import explain

    explanation = explain(application.context, name)
    if out.as_json:
        out.document(explanation_document(explanation))
    else:
        show_explanation(explanation)


@click.command(short_help="Compare the values at AWS with the store's.")
@name_argument
@output_option
@with_application
def verify(application: "Application", name: str, out: Output) -> int:
    """
    Read the values at AWS and compare them with the store. Shows no value. Exit 1 if a value differs, 7 if AWS did not
    allow to read one.

    Needs the right to read values, as only imports do otherwise: phasesync aws policy SYNC --with-import.

    \b
    Example:
      phasesync syncs verify shop-production
    """
    from phasesync.cli.output import show_identity
    from phasesync.engine.value_comparison import verify_sync

    application.store.audit.add("sync.verify", name, kind=AuditKind.ACCESS)
    verified = verify_sync(application.context, name)
    show_identity(application, application.store.credentials.get_by_id(verified.sync.credential_id), out)
    rows = [
        {"remote_name": remote.remote_name, "result": str(remote.result), "reason": remote.reason}
        for remote in verified.objects
    ]
    if out.as_json:
        out.document({"sync": verified.sync.name, "objects": rows})
    else:
        out.items(rows, ["remote_name", "result", "reason"], empty="there is nothing to compare")
    for hint in dict.fromkeys(remote.hint for remote in verified.objects if remote.hint):
        out.say(f"hint: {hint}")
    if verified.undecided:
        return 7
    return 0 if verified.all_same else 1
