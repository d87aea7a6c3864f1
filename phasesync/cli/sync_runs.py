"""
Commands of `phasesync syncs` that say when and whether a sync runs: wait, trigger, pause, resume, approve.

Commands of `phasesync syncs` that look closely and change nothing: why, verify.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from phasesync.cli.failures import one_line
from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, instant, output_option
from phasesync.cli.params import DURATION, MOMENT, Name
from phasesync.cli.sync_options import name_argument
from phasesync.core.status import Outcome, SyncStatus
from phasesync.errors import InvalidInputError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.core.planning.explain import ObjectWhy
    from phasesync.engine.explanation import Explanation


timeout_option = click.option(
    "--timeout", type=DURATION, default="2m", show_default=True, help="How long to wait, such as 30s or 5m."
)
one_or_all = click.argument("name", type=Name("sync"), required=False)
all_option = click.option("--all", "every", is_flag=True, help="All syncs, in place of one name.")


def document_of(application: "Application", name: str) -> dict[str, Any]:
    """Return a sync as `syncs show` prints it."""
    from phasesync.cli.documents import sync_details

    sync = application.store.syncs.get_sync(name)
    good = application.store.runs.list_runs(sync=sync.name, outcomes=[Outcome.UNCHANGED, Outcome.APPLIED], limit=1)
    return sync_details(
        sync,
        application.store.credentials.get_by_id(sync.credential_id).status,
        last_synced_at=good[0].ended_at if good else None,
        now=application.context.clock.now(),
    )


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

    Exit 4 when the time is over. It ends at once, with what helps, when the status will not come in that time: exit 4
    where the sync waits for a person (held, halted, paused or incomplete) or is tried again later than that, exit 7
    where no daemon is running.

    \b
    Example:
      phasesync syncs wait shop-production --for in-sync --timeout 2m
    """
    application.operations.wait(name, wanted=SyncStatus(wanted), timeout=timeout)
    out.done(f"{name} is {wanted}", document_of(application, name))


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
    out.done(f"{name} is in sync" if wait else f"the daemon was asked for {name}", document_of(application, name))


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
    for one in names:
        application.operations.pause(one, actor=invocation().actor, reason=reason, until=end)
    _tell(application, "paused", names, every, out, "" if end is None else f" until {instant(end)}")


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
    for one in names:
        application.operations.resume(one, actor=invocation().actor)
    _tell(application, "resumed", names, every, out)


@click.command()
@name_argument
@click.option("--plan", "digest", required=True, metavar="DIGEST", help="Digest that plan prints.")
@output_option
@with_application
def approve(application: "Application", name: str, digest: str, out: Output) -> None:
    """
    Approve what a plan holds back; the next run carries it out.

    \b
    Example:
      phasesync syncs approve shop-production --plan 0123456789abcdef
    """
    held = application.operations.approve(name, digest, actor=invocation().actor)
    changes = [
        {
            "action": str(one.change.action),
            "remote_name": one.change.remote_name,
            "rule": str(one.rule),
            "reason": one.reason,
        }
        for one in held
    ]
    out.done(_approved(name, digest, changes), document_of(application, name) | {"approved": changes})


def _approved(name: str, digest: str, changes: list[dict[str, str]]) -> str:
    if not changes:
        return f"{digest} of {name} was approved already"
    names = {one["remote_name"] for one in changes}
    what = names.pop() if len(names) == 1 else f"{len(changes)} changes of {len(names)} AWS secrets"
    rules = ", ".join(sorted({one["rule"] for one in changes}))
    return f"approved {digest} of {name}: {what} ({rules}); the next run carries it out"


def _names(application: "Application", name: str | None, every: bool) -> list[str]:
    if every == (name is not None):
        raise InvalidInputError("name one sync, or give --all")
    return [name] if name is not None else [sync.name for sync in application.store.syncs.list_syncs()]


def _tell(application: "Application", what: str, names: list[str], every: bool, out: Output, more: str = "") -> None:
    documents = [document_of(application, one) for one in names]
    if not every:
        out.done(f"{what} {names[0]}{more}", documents[0])
    elif out.as_json:
        out.items(documents, [])
    else:
        out.say(f"{what} {len(names)} syncs: {', '.join(names)}{more}" if names else "there are no syncs yet")


_SHOWN = 20
"""So many remote objects are explained one by one."""


@click.command(short_help="Explain how a sync stands, and what a run would decide.")
@name_argument
@output_option
@with_application
def why(application: "Application", name: str, out: Output) -> None:
    """
    Explain how a sync stands and what a run would decide on each AWS secret, and from what. Writes nothing.

    \b
    Example:
      phasesync syncs why shop-production
    """
    from phasesync.engine.explanation import explain

    explained = explain(application.context, name)
    if out.as_json:
        out.document(why_document(explained))
    else:
        _show_why(explained)


@click.command(short_help="Compare the values at AWS with the store's.")
@name_argument
@output_option
@with_application
def verify(application: "Application", name: str, out: Output) -> int:
    """
    Read the values at AWS and say whether they are what the store wants. Shows no value; exit 1 where one is not, 7
    where AWS did not let us read.

    Needs the right to read values, which nothing else here needs: phasesync aws policy SYNC --with-import.

    \b
    Example:
      phasesync syncs verify shop-production
    """
    from phasesync.cli.output import tell_identity
    from phasesync.engine.verification import verify_sync

    verified = verify_sync(application.context, name)
    tell_identity(application, application.store.credentials.get_by_id(verified.sync.credential_id), out)
    rows = [
        {"remote_name": one.remote_name, "result": str(one.result), "reason": one.reason} for one in verified.objects
    ]
    if out.as_json:
        out.document({"sync": verified.sync.name, "objects": rows})
    else:
        out.items(rows, ["remote_name", "result", "reason"], empty="there is nothing to compare")
    for hint in dict.fromkeys(one.hint for one in verified.objects if one.hint):
        out.say(f"hint: {hint}")
    if verified.undecided:
        return 7
    return 0 if verified.all_same else 1


def why_document(explained: "Explanation") -> dict[str, Any]:
    """Return an explanation as `syncs why -o json` prints it."""
    sync, run, problem = explained.sync, explained.last_run, explained.problem
    return {
        "sync": sync.name,
        "status": str(explained.status),
        "reasons": list(explained.reasons),
        "account": sync.account,
        "credential": {"name": sync.credential, "status": str(explained.credential)},
        "pending": sync.pending,
        "failures": sync.failures,
        "retry_at": sync.retry_at,
        "next_due_at": sync.next_due_at,
        "last_run": None
        if run is None
        else {
            "id": run.id,
            "outcome": str(run.outcome),
            "ended_at": run.ended_at,
            "error": None
            if run.error is None
            else {"class": run.error.cls, "message": run.error.message, "hint": run.error.hint},
        },
        "problem": None
        if problem is None
        else {"class": problem.cls, "message": problem.message, "hint": problem.hint},
        "objects": [_object_document(one) for one in explained.objects],
    }


def _object_document(one: "ObjectWhy") -> dict[str, Any]:
    return {
        "remote_name": one.remote_name,
        "reported": one.reported,
        "ownership": one.ownership,
        "evidence": list(one.evidence),
        "row": one.row,
        "decision": one.decision,
        "reason": one.reason,
        "held": one.held,
        "held_reason": one.held_reason,
        "delayed_until": one.delayed_until,
        "budget": {"used_24h": one.budget.used_24h, "left": one.budget.left, "next_at": one.budget.next_at},
        "differs": dict(one.differs),
        "grace_until": one.grace_until,
        "warning": one.warning,
        "repaired_24h": one.repaired_24h,
        "contested": one.contested,
    }


def _show_why(explained: "Explanation") -> None:
    from phasesync.core.planning.explain import worth_showing

    click.echo(explained.sync.name)
    for line in explained.reasons:
        click.echo(f"  {one_line(line)}")
    run = explained.last_run
    if explained.problem is None and run is not None and run.error is not None and run.error.hint:
        click.echo(f"  hint: {one_line(run.error.hint)}")
    if explained.problem is not None:
        click.echo(f"  a run would end at once: {one_line(explained.problem.message)}")
        if explained.problem.hint:
            click.echo(f"  hint: {one_line(explained.problem.hint)}")
    every = len(explained.objects) <= _SHOWN
    shown = [one for one in explained.objects if every or worth_showing(one)][:_SHOWN]
    for one in shown:
        _show_object(one)
    if left := len(explained.objects) - len(shown):
        click.echo(f"\n... and {left} more AWS secrets: -o json has them all")


def _show_object(one: "ObjectWhy") -> None:
    lines = [
        ("AWS reports", one.reported),
        ("ownership", f"{one.ownership}: {'; '.join(one.evidence)}" if one.evidence else one.ownership),
        ("row", one.row),
        ("decision", f"{one.decision or 'none'}: {one.reason}"),
        ("held", f"{one.held}: {one.held_reason}" if one.held else None),
        ("delayed", f"until {instant(one.delayed_until)}, by the version budget" if one.delayed_until else None),
        ("differs", ", ".join(f"{what} (changed by {_who(who)})" for what, who in one.differs.items()) or None),
        ("deleted after", instant(one.grace_until) if one.grace_until else None),
        ("warning", one.warning),
        ("versions", _budget(one)),
        ("drift", f"repaired {_times(one.repaired_24h)} in 24 h" + (": contested" if one.contested else "")),
    ]
    click.echo(f"\n{one_line(one.remote_name)}")
    for title, text in lines:
        if text is not None and not (title == "drift" and not one.repaired_24h):
            click.echo(f"  {title:<14}{one_line(text)}")


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _who(who: str) -> str:
    return "somebody else" if who == "outside" else "the sync's settings"


def _budget(one: "ObjectWhy") -> str:
    later = f", the next one after {instant(one.budget.next_at)}" if one.budget.next_at else ""
    return f"{one.budget.used_24h} written in 24 h, {one.budget.left} left at once{later}"
