"""
`--dry-run`: carries a command out in a rehearsal, prints what it would change, also at AWS, and changes nothing.

The command itself runs, so that nothing is shown that it would not do. It must not write to AWS; commands that do have
a dry run of their own.
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
    from phasesync.engine.rehearsal import AffectedSync

C = TypeVar("C", bound=Callable[..., Any])

_META = "phasesync.dry_run"

dry_run_flag = click.option(
    "--dry-run", is_flag=True, help="Show what it would change, also at AWS, and change nothing."
)
"""For commands with a dry run of their own."""


def is_dry_run() -> bool:
    """Return whether the command of this process is rehearsed: it asks for no confirmation."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_META))


def dry_run_option(command: C) -> C:
    """
    Add `--dry-run` to a command that changes the store and takes the application and `out`.

    What the command asks AWS has to come before its first change of the store: see `rehearse`.
    """

    def wrapper(application: "Application", /, *args: Any, dry_run: bool, out: Output, **kwargs: Any) -> Any:
        if not dry_run:
            return command(application, *args, out=out, **kwargs)
        return _rehearse(application, out, lambda rehearsed: command(application, *args, out=rehearsed, **kwargs))

    decorated: C = dry_run_flag(update_wrapper(wrapper, command))  # type: ignore[assignment]
    return decorated


class _RehearsedOutput(Output):
    """Output of a rehearsed command: its results are kept, and its messages say that nothing was changed."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__(as_json=as_json)
        self.results: list[Item] = []

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


def _rehearse(application: "Application", out: Output, command: Callable[[Output], Any]) -> int:
    """Carry out a command without an effect; print what it and the runs after it would do. Return the exit code."""
    from phasesync.engine.rehearsal import rehearse

    click.get_current_context().meta[_META] = True
    rehearsed = _RehearsedOutput(as_json=out.as_json)
    with rehearse(application.context) as rehearsal:
        code = command(rehearsed) or 0
    documents, worst = planned_syncs(application, rehearsal.affected)
    if out.as_json:
        would = rehearsed.results[0] if len(rehearsed.results) == 1 else {"items": rehearsed.results, "next": None}
        held = list(rehearsal.protected)
        out.document({"dry_run": True, "would": would, "syncs": documents, "approval_needed_for": held})
    else:
        if rehearsal.protected:
            out.note(f"somebody else has to approve it first: protected is {', '.join(rehearsal.protected)}")
        show_planned_syncs(out, documents)
        out.say("nothing was changed")
    return max(int(code), worst)


def planned_syncs(application: "Application", affected: "Iterable[AffectedSync]") -> tuple[list[dict[str, Any]], int]:
    """
    Ask AWS, and return what the runs after a rehearsed change would do.

    Returns:
        For each sync its plan as `syncs plan` prints it; or `sync` with `idle` (why no run would follow), or with
        `error`. Then the highest exit code of the errors, 0 if there is none.
    """
    from phasesync.cli.documents import plan_document

    documents: list[dict[str, Any]] = []
    worst = 0
    for sync in affected:
        name = sync.state.sync.name
        if sync.idle_because is not None:
            documents.append({"sync": name, "idle": sync.idle_because})
            continue
        try:
            report = application.operations.plan_rehearsed(sync)
        except PhasesyncError as error:
            documents.append(
                {
                    "sync": name,
                    "error": {"class": type(error).__name__, "message": error.message, "hint": error.hint},
                }
            )
            worst = max(worst, error.exit_code)
            continue
        documents.append(plan_document(report))
        worst = max(worst, *(problem.exit_code for problem in report.problems.values()), 0)
    return documents, worst


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
        out.say(
            f"nothing would change at AWS by {unchanged} more syncs"
            if len(documents) > unchanged
            else "nothing would change at AWS"
        )
