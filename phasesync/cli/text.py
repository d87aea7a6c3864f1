"""Plans and runs for people: a few lines each. Exit codes of runs."""

from typing import Any

import click

from phasesync import errors
from phasesync.cli.failures import one_line
from phasesync.cli.output import Output
from phasesync.core.remote import Action
from phasesync.core.run import Outcome, Run, exit_code_of


def show_plan(out: Output, document: dict[str, Any]) -> None:
    """
    Print a plan: a line for each change, key names, what waits.

    Of many changes the first of each action are shown, what is left as it is as a number; JSON has them all.
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
    _show_troubles(out, document)
    if document["digest"]:
        out.say(f"held until: phasesync syncs approve {document['sync']} --plan {document['digest']}")


_FEW = 30
"""Up to this many changes are shown one by one."""

_SHOWN = 5
"""Of more than that, so many of each action."""


def _show_change(change: dict[str, Any]) -> None:
    held = " (held)" if change["held"] else ""
    click.echo(f"{change['action']:<16}{one_line(change['remote_name'])}  {one_line(change['reason'])}{held}")
    emptied = frozenset(change["keys"]["emptied"])
    for sign, kind in (("+", "added"), ("~", "changed"), ("-", "removed")):
        for key in change["keys"][kind]:
            click.echo(f"{'':<16}{sign} {one_line(key)} = {'(empty)' if key in emptied else '***'}")


def _show_troubles(out: Output, document: dict[str, Any]) -> None:
    """Say on stderr what is in no plan and why, and what mends that and what is not ours to change; each hint once."""
    problems = document["problems"]
    for one in problems[:_SHOWN]:
        out.say(f"error: {one['remote_name']}: {one['message']}")
    if len(problems) > _SHOWN:
        out.say(f"... and {len(problems) - _SHOWN} more that could not be planned")
    for hint in dict.fromkeys(one["hint"] for one in (*problems, *document["changes"]) if one["hint"]):
        out.say(f"hint: {hint}")


def _waiting(changes: list[dict[str, Any]]) -> str:
    held = sum(change["held"] for change in changes)
    delayed = sum(change["delayed_until"] is not None for change in changes)
    parts = [f"{number} {what}" for number, what in ((held, "held"), (delayed, "delayed")) if number]
    return f" ({', '.join(parts)})" if parts else ""


def show_run(out: Output, run: Run) -> None:
    """Print a run: the outcome, its changes, and what went wrong on stderr."""
    duration_ms = round((run.ended_at - run.started_at).total_seconds() * 1000)
    click.echo(
        f"{run.outcome}  {run.sync}  {duration_ms} ms, {_counted(run.aws_calls, 'call')}, "
        f"{_counted(run.versions_written, 'new version')}"
    )
    for change in run.changes:
        # What could not be looked at has no change: "noop" would say that it is as it should be.
        action = "-" if change.action == Action.NOOP and change.outcome is not Outcome.UNCHANGED else change.action
        click.echo(f"  {action:<16}{one_line(change.remote_name)}  {change.outcome}: {one_line(change.reason)}")
        for sign, keys in (("+", change.keys.added), ("~", change.keys.changed), ("-", change.keys.removed)):
            for key in keys:
                click.echo(f"  {'':<16}{sign} {one_line(key)}{' (emptied)' if key in change.keys.emptied else ''}")
    if run.error is not None:
        code = f" ({run.error.code})" if run.error.code and run.error.code not in run.error.message else ""
        out.say(f"error: {run.error.message}{code}")
        if run.error.hint:
            out.say(f"hint: {run.error.hint}")


def exit_code_of_run(run: Run) -> int:
    """Return the exit code of a command that ran a sync: that of the error where there is one."""
    if run.error is None:
        return exit_code_of(run.outcome)
    cls = getattr(errors, run.error.cls, None)
    if isinstance(cls, type) and issubclass(cls, errors.PhasesyncError):
        return cls.exit_code
    return exit_code_of(run.outcome)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
