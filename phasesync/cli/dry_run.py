"""
`--dry-run`: carries a command out in a rehearsal, prints what it would change, also at AWS, and changes nothing.

The command itself runs, so that nothing is shown that it would not do. Where it would write to AWS it asks
`is_dry_run`, makes only calls that read, and says with `would_call` what it would call.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, TypeVar

import click

from phasesync.cli.output import Item, Output
from phasesync.errors import PhasesyncError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.core.pages import Page
    from phasesync.core.planned_call import PlannedCall
    from phasesync.engine.rehearsal import AffectedSync

C = TypeVar("C", bound=Callable[..., Any])

_META = "phasesync.dry_run"


def _note(context: click.Context, _parameter: click.Parameter, value: bool) -> bool:
    context.meta[_META] = value
    return value


dry_run_flag = click.option(
    "--dry-run",
    is_flag=True,
    callback=_note,
    help="Show what it would change, also at AWS, and change nothing.",
)
"""For commands without an application; they end with `show_dry_run`."""


def is_dry_run() -> bool:
    """Return whether the command of this process is rehearsed: it asks for no confirmation."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_META))


def dry_run_option(command: C) -> C:
    """
    Add `--dry-run` to a command that changes the store and takes the application and `out`.

    What the command asks AWS has to come before its first change of the store: see `rehearse`. It must not write to AWS
    where `is_dry_run`.
    """

    def wrapper(application: "Application", /, *args: Any, dry_run: bool, out: Output, **kwargs: Any) -> Any:
        if not dry_run:
            return command(application, *args, out=out, **kwargs)
        return _rehearse(application, out, lambda rehearsed: command(application, *args, out=rehearsed, **kwargs))

    decorated: C = dry_run_flag(update_wrapper(wrapper, command))  # type: ignore[assignment]
    return decorated


class _RehearsedOutput(Output):
    """
    Output of a rehearsed command: its results are kept, and its messages say that nothing was changed.

    Attributes:
        results: the documents that the command printed.
        calls: what it would call at AWS, in this order.
        beside: members of the document beside those of every dry run.
    """

    def __init__(self, *, as_json: bool) -> None:
        super().__init__(as_json=as_json)
        self.results: list[Item] = []
        self.calls: list[PlannedCall] = []
        self.beside: dict[str, Any] = {}

    def done(self, message: str, item: Item) -> None:
        self.results.append(item)
        if not self.as_json:
            self.say(f"dry run: {message}")

    def document(self, document: Item) -> None:
        self.results.append(document)

    def item(self, item: Item) -> None:
        if self.as_json:
            self.results.append(item)
        else:
            super().item(item)

    def pages(self, pages: "Iterable[Page[Item]]", columns: Sequence[str], *, empty: str) -> str | None:
        if not self.as_json:
            return super().pages(pages, columns, empty=empty)
        self.results.extend(item for page in pages for item in page.items)
        return None


def would_call(out: Output, calls: "Iterable[PlannedCall]") -> None:
    """Say what a command would call at AWS; what it asked AWS to find that out is not part of it."""
    if isinstance(out, _RehearsedOutput):
        out.calls += calls


def show_beside(out: Output, **members: Any) -> None:
    """Add members to the document of a dry run, for scripts that read them from an earlier release."""
    if isinstance(out, _RehearsedOutput):
        out.beside |= members


def show_dry_run(out: Output, message: str, would: Item) -> None:
    """Print what a command without an application would do."""
    if out.as_json:
        out.document({"dry_run": True, "would": would, "aws": [], "syncs": []})
    else:
        out.say(f"dry run: {message}")
        out.say("nothing was changed")


def _rehearse(application: "Application", out: Output, command: Callable[[Output], Any]) -> int:
    """Carry out a command without an effect; print what it and the runs after it would do. Return the exit code."""
    from phasesync.cli.sync_results import worst_code
    from phasesync.engine.rehearsal import rehearse

    rehearsed = _RehearsedOutput(as_json=out.as_json)
    with rehearse(application.context) as rehearsal:
        code = command(rehearsed) or 0
    documents, worst = planned_syncs(application, rehearsal.affected)
    calls = [{"action": call.action, "object": call.target, "details": call.details} for call in rehearsed.calls]
    if out.as_json:
        would = rehearsed.results[0] if len(rehearsed.results) == 1 else {"items": rehearsed.results, "next": None}
        held = {"approval_needed_for": list(rehearsal.protected)}
        shown = {"dry_run": True, "would": would, "aws": calls, "syncs": documents} | held
        out.document(rehearsed.beside | shown)
    else:
        if rehearsal.protected:
            out.note(f"somebody else has to approve it first: protected is {', '.join(rehearsal.protected)}")
        if calls:
            out.say("it would call AWS:")
            out.items(calls, ["action", "object", "details"])
        show_planned_syncs(out, documents)
        out.say("nothing was changed")
    return worst_code([int(code), worst])


def planned_syncs(application: "Application", affected: "Iterable[AffectedSync]") -> tuple[list[dict[str, Any]], int]:
    """
    Ask AWS, and return what the runs after a rehearsed change would do.

    Returns:
        For each sync its plan as `syncs plan` prints it; or `sync` with `idle` (why no run would follow), or with
        `error`. Then the highest exit code of the errors, 0 if there is none.
    """
    from phasesync.cli.documents import plan_document
    from phasesync.cli.sync_results import error_document, worst_code
    from phasesync.engine.bulk_operations import Threads, plan_rehearsed_all

    affected = list(affected)
    idle = {sync.state.sync.name: why for sync in affected if (why := sync.idle_because) is not None}
    to_plan = [sync for sync in affected if sync.idle_because is None]
    if not to_plan:
        return [{"sync": name, "idle": why} for name, why in idle.items()], 0
    threads = Threads(
        most=application.settings.daemon.workers, ended=lambda *_: None, stop=lambda: application.clients.stop()
    )
    reports = plan_rehearsed_all(application.operations, to_plan, threads)
    documents: list[dict[str, Any]] = []
    codes = [0]
    for sync in affected:
        name = sync.state.sync.name
        if name in idle:
            documents.append({"sync": name, "idle": idle[name]})
        elif isinstance(report := reports[name], PhasesyncError):
            documents.append(error_document(name, report))
            codes.append(report.exit_code)
        else:
            documents.append(plan_document(report))
            codes += [problem.exit_code for problem in report.problems.values()]
    return documents, worst_code(codes)


def show_planned_syncs(out: Output, documents: Sequence[dict[str, Any]]) -> None:
    """Print what `planned_syncs` returned, for people; syncs for which nothing would change are only counted."""
    from phasesync.cli.text import show_plan
    from phasesync.core.remote import Action

    unchanged = 0
    for document in documents:
        name = document["sync"]
        if "error" in document:
            out.warn(f"the sync {name} cannot be planned: {document['error']['message']}")
            if document["error"]["hint"]:
                out.say(f"hint: {document['error']['hint']}")
        elif "idle" in document:
            out.say(f"the sync {name} would not run: {document['idle']}")
        elif all(change["action"] == Action.NOOP for change in document["changes"]) and not document["problems"]:
            unchanged += 1
        else:
            click.echo(f"the sync {name} would then:")
            # The digest of a plan that does not exist yet approves nothing.
            show_plan(out, document | {"digest": None})
    if unchanged:
        more = "1 more sync" if unchanged == 1 else f"{unchanged} more syncs"
        out.say("nothing would change at AWS" if len(documents) == unchanged else f"{more} would change nothing at AWS")
