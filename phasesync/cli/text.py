"""Plans, runs and explanations for people, as text; and the exit code of a run."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from phasesync import errors
from phasesync.cli.output import Output
from phasesync.cli.streams import one_line
from phasesync.core.remote import Action
from phasesync.core.run import Outcome, Run, exit_code_of
from phasesync.core.times import instant_text

if TYPE_CHECKING:
    from phasesync.core.planning.explain import ObjectExplanation
    from phasesync.engine.explanation import Explanation


def show_plan(out: Output, document: dict[str, Any]) -> None:
    """
    Print a plan: a line for each change, names of keys, what is held or delayed.

    Of many changes only the first of each action are shown, and the number of the others; JSON has them all.
    """
    many = len(document["changes"]) > _FEW
    by_action: dict[str, list[dict[str, Any]]] = {}
    for change in document["changes"]:
        by_action.setdefault(change["action"] if many else "", []).append(change)
    for action, changes in by_action.items():
        shown = changes if not many else changes[: 0 if action == Action.NOOP else _SHOWN]
        for change in shown:
            _show_change(change)
        if left := len(changes) - len(shown):
            more = f"{left} more" if shown else _counted(left, "object")
            click.echo(f"{action:<16}{'... and ' if shown else ''}{more}{_waiting(changes[len(shown) :])}")
    estimate = document["estimate"]
    click.echo(f"{_counted(estimate['writes'], 'new version')}, about {_counted(estimate['calls'], 'call')}")
    if (window := document.get("window")) is not None and window["closed"]:
        out.say(f"the maintenance window is closed: {one_line(window['text'])}")
        out.say(f"hint: to write all the same: phasesync syncs run {document['sync']}")
    _show_problems(out, document)
    if document["digest"]:
        out.say(f"held until: phasesync syncs approve {document['sync']} --plan {document['digest']}")


_FEW = 30
"""Most changes that are all shown one by one."""

_SHOWN = 5
"""Of more changes, so many of each action are shown."""


def _show_change(change: dict[str, Any]) -> None:
    held = " (held)" if change["held"] else ""
    click.echo(f"{change['action']:<16}{one_line(change['remote_name'])}  {one_line(change['reason'])}{held}")
    emptied = frozenset(change["keys"]["emptied"])
    for sign, kind in (("+", "added"), ("~", "changed"), ("-", "removed")):
        for key in change["keys"][kind]:
            click.echo(f"{'':<16}{sign} {one_line(key)} = {'(empty)' if key in emptied else '***'}")


def _show_problems(out: Output, document: dict[str, Any]) -> None:
    """Print on stderr what could not be planned and why, then the hints for it and for refused changes, each once."""
    problems = document["problems"]
    for problem in problems[:_SHOWN]:
        out.say(f"error: {problem['remote_name']}: {problem['message']}")
    if len(problems) > _SHOWN:
        out.say(f"... and {len(problems) - _SHOWN} more that could not be planned")
    for hint in dict.fromkeys(entry["hint"] for entry in (*problems, *document["changes"]) if entry["hint"]):
        out.say(f"hint: {hint}")


def _waiting(changes: list[dict[str, Any]]) -> str:
    held = sum(change["held"] for change in changes)
    delayed = sum(change["delayed_until"] is not None for change in changes)
    parts = [f"{number} {state}" for number, state in ((held, "held"), (delayed, "delayed")) if number]
    return f" ({', '.join(parts)})" if parts else ""


def show_run(out: Output, run: Run) -> None:
    """Print a run: the outcome, its changes, and what went wrong on stderr."""
    duration_ms = round((run.ended_at - run.started_at).total_seconds() * 1000)
    click.echo(
        f"{run.outcome}  {run.sync}  {duration_ms} ms, {_counted(run.aws_calls, 'call')}, "
        f"{_counted(run.versions_written, 'new version')}"
    )
    for change in run.changes:
        # What could not be observed has no change. "noop" would say that it is as it should be.
        action = "-" if change.action == Action.NOOP and change.outcome is not Outcome.UNCHANGED else change.action
        outcome = "waits" if change.waits else change.outcome
        click.echo(f"  {action:<16}{one_line(change.remote_name)}  {outcome}: {one_line(change.reason)}")
        for sign, keys in (("+", change.keys.added), ("~", change.keys.changed), ("-", change.keys.removed)):
            for key in keys:
                click.echo(f"  {'':<16}{sign} {one_line(key)}{' (emptied)' if key in change.keys.emptied else ''}")
    if run.error is not None:
        code = f" ({run.error.code})" if run.error.code and run.error.code not in run.error.message else ""
        out.say(f"error: {run.error.message}{code}")
        if run.error.hint:
            out.say(f"hint: {run.error.hint}")


def exit_code_of_run(run: Run) -> int:
    """Return the exit code of a command that ran a sync: that of the error if there is one."""
    if run.error is None:
        return exit_code_of(run.outcome)
    cls = getattr(errors, run.error.cls, None)
    if isinstance(cls, type) and issubclass(cls, errors.PhasesyncError):
        return cls.exit_code
    return exit_code_of(run.outcome)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


_SHOWN_OBJECTS = 20
"""Of more remote objects than that, only those worth showing are explained."""


def show_explanation(explanation: "Explanation") -> None:
    """Print how a sync stands and what a run would decide on each remote object."""
    from phasesync.core.planning.explain import worth_showing

    click.echo(explanation.sync.name)
    for line in explanation.reasons:
        click.echo(f"  {one_line(line)}")
    run = explanation.last_run
    if explanation.problem is None and run is not None and run.error is not None and run.error.hint:
        click.echo(f"  hint: {one_line(run.error.hint)}")
    if explanation.problem is not None:
        click.echo(f"  a run would end at once: {one_line(explanation.problem.message)}")
        if explanation.problem.hint:
            click.echo(f"  hint: {one_line(explanation.problem.hint)}")
    for request in explanation.requests:
        click.echo(f"  not in it yet: {one_line('; '.join(request.changes))} (asked by {one_line(request.asked_by)})")
        click.echo(f"  hint: {one_line(request.next_command or request.error or '')}")
    remotes = explanation.objects
    if len(remotes) > _SHOWN_OBJECTS:
        remotes = tuple(remote for remote in remotes if worth_showing(remote))[:_SHOWN_OBJECTS]
    for remote in remotes:
        _show_explained(remote)
    if left := len(explanation.objects) - len(remotes):
        click.echo(f"\n... and {left} more AWS secrets: -o json has them all")


def _show_explained(remote: "ObjectExplanation") -> None:
    evidence = f": {'; '.join(remote.evidence)}" if remote.evidence else ""
    differs = [f"{aspect} (changed by {_changed_by(origin)})" for aspect, origin in remote.differs.items()]
    repaired = "once" if remote.repaired_24h == 1 else f"{remote.repaired_24h} times"
    later = f", the next one after {instant_text(remote.budget.next_at)}" if remote.budget.next_at else ""
    lines = {
        "AWS reports": remote.reported,
        "ownership": f"{remote.ownership}{evidence}",
        "row": remote.row,
        "decision": f"{remote.decision or 'none'}: {remote.reason}",
        "held": f"{remote.held}: {remote.held_reason}" if remote.held else None,
        "delayed": _until(remote.delayed_until),
        "differs": ", ".join(differs) or None,
        "deleted after": instant_text(remote.grace_until) if remote.grace_until else None,
        "warning": remote.warning,
        "versions": f"{remote.budget.used_24h} written in 24 h, {remote.budget.left} left at once{later}",
        "drift": f"repaired {repaired} in 24 h" + (": contested" if remote.contested else ""),
    }
    if not remote.repaired_24h:
        del lines["drift"]
    click.echo(f"\n{one_line(remote.remote_name)}")
    for title, text in lines.items():
        if text is not None:
            click.echo(f"  {title:<14}{one_line(text)}")


def _until(moment: datetime | None) -> str | None:
    return None if moment is None else f"until {instant_text(moment)}, by the version budget"


def _changed_by(origin: str) -> str:
    return "someone else" if origin == "outside" else "the sync's settings"
