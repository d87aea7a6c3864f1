"""Plans of project documents: as JSON, as text, and as Markdown for a comment on a pull request."""

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from phasesync.cli.output import Output
from phasesync.cli.streams import one_line, styled

if TYPE_CHECKING:
    from phasesync.engine.project.plan import ProjectPlan

Document = Mapping[str, Any]

_SIGNS: Final = {
    "add": ("+", "green"),
    "update": ("~", "yellow"),
    "remove": ("-", "red"),
    "adopt-ownership": ("=", "cyan"),
}
_LONGEST_VALUE: Final = 200


def plan_document(plan: "ProjectPlan", *, warnings: Sequence[str]) -> dict[str, Any]:
    """Return a plan as `diff -o json` prints it."""
    from phasesync.core.project.fields import key_text

    return {
        "digest": plan.digest,
        "owner": ", ".join(diff.project for diff in plan.diffs),
        "changes": [
            {
                "kind": change.kind,
                "name": change.name,
                "action": str(change.action),
                "before": change.before,
                "after": change.after,
                "owner": diff.project,
                "place": change.place,
                "drift": list(change.drift),
            }
            for diff in plan.diffs
            for change in diff.changes
        ],
        "deletions": {name: list(secrets) for name, secrets in plan.deletions.items()},
        "held": list(plan.held),
        "unlisted": [
            {"kind": each.kind, "name": each.name, "owner": diff.project}
            for diff in plan.diffs
            for each in diff.unlisted
        ],
        "missing_keys": {label: [key_text(*key) for key in keys] for label, keys in plan.missing_keys.items()},
        "warnings": list(warnings),
        "command": _command(plan) if plan.changes_anything else None,
    }


def _command(plan: "ProjectPlan") -> str:
    """Return the command that does exactly this. What it removes is shown, so that it does not ask again."""
    asks = any(diff.removals for diff in plan.diffs)
    return f"phasesync apply {plan.options} --plan {plan.digest}{' --yes' if asks else ''}"


def show_plan(out: Output, document: Document) -> None:
    """Print a plan for people; notes and what to do next go to stderr."""
    owner = None
    for change in document["changes"]:
        if change["owner"] != owner:
            owner = change["owner"]
            click.echo(f"project {one_line(owner)}")
        _show_change(change)
        for secret in document["deletions"].get(change["name"], ()) if change["kind"] == "sync" else ():
            click.echo(f"      deletes at AWS  {one_line(secret)}")
    if not document["changes"]:
        out.say("nothing differs")
    _show_notes(out, document)
    if document["changes"]:
        out.say(f"digest: {document['digest']}")
    for reason in document["held"]:
        out.say(f"held: {reason}")
    if document["held"]:
        out.say(f"to approve that: {document['command']}")
    if labels := document.get("approval_needed_for"):
        out.note(f"somebody else has to approve it first: protected is {', '.join(labels)}")


def _show_change(change: Document) -> None:
    sign, colour = _SIGNS[change["action"]]
    place = f"  {change['place']}" if change["place"] else ""
    word = "  (from now on in this document)" if change["action"] == "adopt-ownership" else ""
    click.echo(styled(f"  {sign} {change['kind']} {one_line(change['name'])}", fg=colour) + one_line(place) + word)
    rows = change_rows(change)
    width = max((len(name) for name, _ in rows), default=0)
    if change["action"] == "add" and change["drift"]:
        click.echo("      (removed by hand)")
    for name, text in rows:
        drift = "  (changed by hand)" if name in change["drift"] else ""
        click.echo(f"      {name:<{width}}  {one_line(text)}{drift}")


def change_rows(change: Document) -> list[tuple[str, str]]:
    """Return the members of a change, each with what it is and what it will be."""
    before, after = change["before"], change["after"]
    if before is None or after is None:
        usual = _usual_settings(change["kind"])
        spec = (after if before is None else before) or {}
        return [
            (name, _text(value))
            for name, value in spec.items()
            if value not in _NOTHING and (name not in usual or value != usual[name])
        ]
    return [(name, f"{_text(before.get(name))} -> {_text(value)}") for name, value in after.items()]


def _text(value: Any) -> str:
    match value:
        case _ if value in _NOTHING:
            text = "-"
        case bool():
            text = "yes" if value else "no"
        case list():
            text = ", ".join(map(_text, value))
        case dict():
            text = ", ".join(f"{name}={_text(member)}" for name, member in value.items())
        case _:
            text = str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


_NOTHING: Final[tuple[Any, ...]] = (None, "", [], {})


def _usual_settings(kind: str) -> Mapping[str, Any]:
    """Return the settings of a new object of a kind: they are not worth showing."""
    from phasesync.core.project.desired import DesiredSync
    from phasesync.core.project.models import AWS_SECRETS_MANAGER
    from phasesync.core.project.settings import SYNC, described
    from phasesync.core.sync import SyncConfig

    if kind != DesiredSync.kind:
        return {}
    return {"path": "/", "destination": AWS_SECRETS_MANAGER, **described(SyncConfig(), SYNC)}


def _show_notes(out: Output, document: Document) -> None:
    if unlisted := document["unlisted"]:
        names = ", ".join(f"{each['kind']} {each['name']}" for each in unlisted[:5])
        more = f" and {len(unlisted) - 5} more" if len(unlisted) > 5 else ""
        out.note(f"no longer in the documents, and kept: {names}{more}; --prune removes them")
    for label, keys in document["missing_keys"].items():
        out.warn(f"{label} lacks keys that must exist: {', '.join(keys)}; {_setting(label, keys[0])}")
    for warning in document["warnings"]:
        out.warn(warning)


def _setting(label: str, key: str) -> str:
    """Return the command that sets a key."""
    from phasesync.core.project.fields import key_with_folder

    folder, name = key_with_folder(key)
    return f"phasesync secrets set {label} {shlex.quote(name)}" + (f" --path {folder}" if folder != "/" else "")


def plan_as_markdown(document: Document) -> str:
    """Return a plan as Markdown that fits into a comment of GitHub; no name or value in it is markup."""
    from phasesync.cli.plan_markdown import code, fitting, plain_text, plans_as_markdown

    changes = document["changes"]
    counts: dict[str, int] = {}
    for change in changes:
        counts[change["action"]] = counts.get(change["action"], 0) + 1
    title = ", ".join(f"{count} {action}" for action, count in counts.items()) or "nothing differs"
    end = [""]
    if document.get("applied"):
        title = f"applied: {title}"
    elif changes:
        end = ["", f"To do exactly this: `{document['command']}`", ""]
    head = [f"### phasesync {plain_text(document['owner'])}: {title}", ""]
    notes = [f"- **held:** {plain_text(reason)}" for reason in document["held"]]
    notes += [
        f"- **missing keys** of {code(label)}: {', '.join(map(code, keys))}"
        for label, keys in document["missing_keys"].items()
    ]
    if labels := document.get("approval_needed_for"):
        notes.append(f"- **somebody else has to approve it first**: protected is {', '.join(map(code, labels))}")
    for name, secrets in document["deletions"].items():
        shown = ", ".join(map(code, secrets[:20])) + (f" and {len(secrets) - 20} more" if len(secrets) > 20 else "")
        notes.append(f"- **deleted at AWS** with the sync {code(name)}: {shown or 'nothing'}")
    if document["unlisted"]:
        names = ", ".join(code(f"{each['kind']} {each['name']}") for each in document["unlisted"][:20])
        notes.append(f"- no longer in the documents, and kept: {names}")
    table = [f"| | object | |{_NEWLINE}|---|---|---|"] if changes else []
    rows = [[_markdown_row(change)] for change in changes]
    lines = fitting(rows, 40_000, "| … | and {left} more | |")
    text = "\n".join([*head, *table, *lines, "", *notes, *end])
    if document.get("syncs"):
        text += "\n" + plans_as_markdown(document["syncs"], digest=None, approve="")[: 60_000 - len(text)]
    return text


_NEWLINE: Final = "\n"


def _markdown_row(change: Document) -> str:
    from phasesync.cli.plan_markdown import code, plain_text

    rows = [
        f"{plain_text(name)}: {code(text)}" + (" (changed by hand)" if name in change["drift"] else "")
        for name, text in change_rows(change)
    ]
    return f"| {change['action']} | {change['kind']} {code(change['name'])} | {'<br>'.join(rows)} |"
