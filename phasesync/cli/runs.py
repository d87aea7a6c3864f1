"""`phasesync runs`: the sync log."""

import time
from collections import Counter
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from phasesync.cli.invocation import with_application
from phasesync.cli.output import Output, output_option
from phasesync.cli.paging import Paging, paging_options, show_list
from phasesync.cli.params import MOMENT, Name, Words, comma_list
from phasesync.cli.streams import one_line
from phasesync.core.pages import PAGE_SIZE
from phasesync.core.remote import Action
from phasesync.core.run import Outcome, Run
from phasesync.errors import InvalidInputError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application

COLUMNS = ["ended_at", "id", "sync", "trigger", "outcome", "changes", "calls", "versions", "ms"]
FOLLOW_PAUSE_S = 0.5


@click.group()
def runs() -> None:
    """The sync log: every run, what woke it, what it did."""


@runs.command("list")
@click.option("--sync", type=Name("sync"), help="Runs of this sync only. Default: of all syncs.")
@click.option(
    "--outcome",
    "outcomes",
    type=Words(Outcome),
    multiple=True,
    callback=comma_list,
    metavar="OUTCOME,...",
    help=f"Only these outcomes: {', '.join(Outcome)}. Repeat it, or separate several with commas. Default: all.",
)
@click.option(
    "--since",
    type=MOMENT,
    metavar="INSTANT|DURATION",
    help="Only runs that ended since: an RFC 3339 instant, or a time ago such as 1h. Default: all.",
)
@paging_options("runs", limit=50)
@click.option("--follow", is_flag=True, help="Go on printing runs as they end; Ctrl-C ends it.")
@output_option
@with_application
def list_(
    application: "Application",
    sync: str | None,
    outcomes: tuple[str, ...],
    since: datetime | timedelta | None,
    paging: Paging,
    follow: bool,
    out: Output,
) -> None:
    """
    List runs, newest first. With --follow oldest first, one line (or one JSON document a line) each.

    \b
    Examples:
      phasesync runs list --sync shop-production --since 1h
      phasesync runs list --outcome failed,held --follow -o json
    """
    wanted = _outcomes(outcomes)
    after = application.context.clock.now() - since if isinstance(since, timedelta) else since
    if not follow:
        from phasesync.cli.documents import run_document

        show_list(
            out,
            paging,
            lambda cursor, limit: application.store.runs.page_runs(
                sync=sync, outcomes=wanted, since=after, after=cursor, limit=limit
            ),
            lambda run: run_document(run) if out.as_json else row_of(run),
            COLUMNS,
            empty="there are no runs yet" if (sync, wanted, since) == (None, [], None) else "there are no such runs",
        )
        return
    if paging.after is not None or paging.limit is None or paging.limit > PAGE_SIZE:
        raise InvalidInputError(
            "--follow begins with some of the newest runs, and takes neither --after nor --limit 0",
            hint=f"--limit says with how many: 1 to {PAGE_SIZE}",
        )
    tail = application.store.runs.tail(sync=sync, outcomes=wanted, since=after, limit=paging.limit)
    _follow(application, out, list(tail.runs), tail.last_id, sync=sync, outcomes=wanted)


@runs.command()
@click.argument("run_id")
@output_option
@with_application
def show(application: "Application", run_id: str, out: Output) -> None:
    """
    Show one run with its changes and its error. The beginning of an id is enough if it is unique.

    \b
    Example:
      phasesync runs show 0199f0c2a3b4c5d6e7f80123
    """
    from phasesync.cli.documents import approval_document, run_document
    from phasesync.cli.text import show_run
    from phasesync.engine.approvals import approved_in

    run = application.store.runs.get_run(application.store.runs.full_run_id(run_id))
    approved = [approval_document(request) for request in approved_in(application.context, run)]
    document = run_document(run) | {"approved": approved}
    if out.as_json:
        out.document(document)
        return
    out.item({key: value for key, value in document.items() if key not in ("error", "changes", "approved")})
    for change in approved:
        out.say(
            f"approved {change['digest']}: asked by {change['asked_by']}, approved by "
            f"{', '.join(change['approved_by'])}: {'; '.join(change['changes'])}"
        )
    show_run(out, run)


def _follow(
    application: "Application",
    out: Output,
    ended: list[Run],
    last: str | None,
    *,
    sync: str | None,
    outcomes: list[Outcome],
) -> None:
    from phasesync.cli.documents import run_document

    while True:
        for run in ended:
            if out.as_json:
                out.line(run_document(run))
            else:
                row = row_of(run)
                cells = "  ".join(one_line(str(row[column])) for column in COLUMNS[1:])
                click.echo(f"{row['ended_at']:%Y-%m-%d %H:%M:%SZ}  {cells}")
        time.sleep(FOLLOW_PAUSE_S)
        later = application.store.runs.list_runs(sync=sync, after=last, limit=1000)
        if last is None:
            later.reverse()
        last = later[-1].id if later else last
        ended = [run for run in later if not outcomes or run.outcome in outcomes]


def row_of(run: Run) -> dict[str, Any]:
    """Return a run for a table: its changes in one word each, under short titles."""
    from phasesync.cli.documents import run_document

    document, counts = run_document(run), Counter(run.counts)
    for change in run.changes:
        if change.action == Action.NOOP and change.outcome is not Outcome.UNCHANGED:
            # It could not be observed. "noop" would say that it is as it should be.
            counts.subtract([change.action])
            counts.update([str(change.outcome)])
    changes = " ".join(f"{action}:{count}" for action, count in counts.items() if count > 0)
    if document["waits_for"] is not None:
        changes += f" (waits for the {document['waits_for'].replace('-', ' ')})"
    return document | {
        "changes": changes or "-",
        "calls": document["aws_calls"],
        "versions": document["versions_written"],
        "ms": document["duration_ms"],
    }


def _outcomes(words: tuple[str, ...]) -> list[Outcome]:
    if unknown := [word for word in words if word not in set(Outcome)]:
        raise InvalidInputError(f"{unknown[0]!r} is not an outcome", hint=f"outcomes: {', '.join(Outcome)}")
    return [Outcome(word) for word in words]
