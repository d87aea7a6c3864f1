"""Commands of `phasesync syncs` on one sync as it is: wait, trigger, pause, resume, approve, why, verify."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, output_option
from phasesync.cli.params import DURATION, MOMENT, Name
from phasesync.cli.sync_options import name_argument
from phasesync.core.pages import PAGE_SIZE, Page, each_page
from phasesync.core.run import Outcome
from phasesync.core.sync import SyncStatus
from phasesync.core.times import instant_text
from phasesync.errors import InvalidInputError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application


timeout_option = click.option(
    "--timeout", type=DURATION, default="2m", show_default=True, help="How long to wait, such as 30s or 5m."
)
_NAMES_SHOWN = 10
one_or_all = click.argument("name", type=Name("sync"), required=False)
all_option = click.option("--all", "every", is_flag=True, help="All syncs, in place of one name.")


def sync_document_of(application: "Application", name: str) -> dict[str, Any]:
    """Return a sync as `syncs show` prints it."""
    from phasesync.cli.documents import sync_details, waiting_document

    sync = application.store.syncs.get_sync(name)
    successes = application.store.runs.list_runs(sync=sync.name, outcomes=[Outcome.UNCHANGED, Outcome.APPLIED], limit=1)
    waiting = application.store.change_requests.list_requests(sync.environment_id)
    return sync_details(
        sync,
        application.store.credentials.get_by_id(sync.credential_id).status,
        last_synced_at=successes[0].ended_at if successes else None,
        now=application.context.clock.now(),
    ) | {"waiting_for_approval": [waiting_document(request) for request in waiting]}


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
@name_argument
@click.option("--wait", is_flag=True, help="Wait until it is in sync.")
@timeout_option
@output_option
@with_application
def trigger(application: "Application", name: str, wait: bool, timeout: timedelta, out: Output) -> None:
    """
    Have the daemon reconcile a sync at once, whatever back-off says. With --wait it ends as syncs wait does.

    \b
    Example:
      phasesync syncs trigger shop-production --wait
    """
    before = application.store.syncs.get_sync(name).last_run_id
    application.operations.trigger(name, actor=invocation().actor)
    if not application.store.daemons.alive():
        out.warn(f"no daemon is running: start one, or run it here: phasesync syncs run {name}")
    if wait:
        application.operations.wait(name, wanted=SyncStatus.IN_SYNC, timeout=timeout, since_run=before or "none")
    out.done(f"{name} is in sync" if wait else f"the daemon was asked for {name}", sync_document_of(application, name))


@click.command()
@one_or_all
@all_option
@click.option("--reason", default="", metavar="TEXT", help="Why, as the others will read it. Default: nothing.")
@click.option(
    "--until",
    type=MOMENT,
    metavar="INSTANT|DURATION",
    help="When it ends by itself: an RFC 3339 instant, or a time from now such as 2h. Default: never.",
)
@output_option
@with_application
def pause(
    application: "Application",
    name: str | None,
    every: bool,
    reason: str,
    until: datetime | timedelta | None,
    out: Output,
) -> None:
    """
    Pause a sync; takes effect before its next write to AWS.

    \b
    Example:
      phasesync syncs pause shop-production --reason "database migration" --until 2h
    """
    end = application.context.clock.now() + until if isinstance(until, timedelta) else until
    names = _names(application, name, every)
    for sync in names:
        application.operations.pause(sync, actor=invocation().actor, reason=reason, until=end)
    _report(application, "paused", names, every, out, "" if end is None else f" until {instant_text(end)}")


@click.command()
@one_or_all
@all_option
@output_option
@with_application
def resume(application: "Application", name: str | None, every: bool, out: Output) -> None:
    """
    Resume a paused sync; it is reconciled at once.

    \b
    Example:
      phasesync syncs resume --all
    """
    names = _names(application, name, every)
    for sync in names:
        application.operations.resume(sync, actor=invocation().actor)
    _report(application, "resumed", names, every, out)


@click.command()
@name_argument
@click.option("--plan", "digest", required=True, metavar="DIGEST", help="Digest that plan prints.")
@output_option
@with_application
def approve(application: "Application", name: str, digest: str, out: Output) -> None:
    """
    Approve what a plan holds back; the next run carries it out. Takes the digest of a change that waits in the sync's
    environment too, as envs approve does.

    \b
    Example:
      phasesync syncs approve shop-production --plan 0123456789abcdef
    """
    from phasesync.cli.approvals import decided_for_sync
    from phasesync.cli.documents import held_document

    if decided_for_sync(application, name, digest, "", out):
        return
    held = application.operations.approve(name, digest, actor=invocation().actor)
    changes = [held_document(change) for change in held]
    out.done(_approved(name, digest, changes), sync_document_of(application, name) | {"approved": changes})


def _approved(name: str, digest: str, changes: list[dict[str, str]]) -> str:
    if not changes:
        return f"{digest} of {name} was approved already"
    names = {change["remote_name"] for change in changes}
    subject = names.pop() if len(names) == 1 else f"{len(changes)} changes of {len(names)} AWS secrets"
    rules = ", ".join(sorted({change["rule"] for change in changes}))
    return f"approved {digest} of {name}: {subject} ({rules}); the next run carries it out"


def _names(application: "Application", name: str | None, every: bool) -> list[str]:
    if every == (name is not None):
        raise InvalidInputError("name one sync, or give --all")
    if name is not None:
        return [name]
    pages = each_page(lambda after, limit: application.store.syncs.page_syncs(after=after, limit=limit))
    return [sync.name for page in pages for sync in page.items]


def _report(application: "Application", done: str, names: list[str], every: bool, out: Output, more: str = "") -> None:
    if not every:
        out.done(f"{done} {names[0]}{more}", sync_document_of(application, names[0]))
    elif out.as_json:
        out.pages(
            (
                Page(items=tuple(sync_document_of(application, sync) for sync in names[n : n + PAGE_SIZE]), next=None)
                for n in range(0, len(names), PAGE_SIZE)
            ),
            [],
            empty="",
        )
    elif names:
        shown = ", ".join(names[:_NAMES_SHOWN])
        others = f" and {len(names) - _NAMES_SHOWN:,} more" if len(names) > _NAMES_SHOWN else ""
        out.say(f"{done} {len(names)} syncs: {shown}{others}{more}")
    else:
        out.say("there are no syncs yet")


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
