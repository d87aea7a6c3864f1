"""
Plans as Markdown, for a comment on a pull request: a table of syncs, then what changes of each, folded.

Names of keys, never values. What names and reasons contain cannot become markup, mention anybody or link anywhere, and
the text fits into a comment of GitHub.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from phasesync.cli.streams import one_line
from phasesync.core.counted import counted
from phasesync.core.remote import Action

MAX_CHARACTERS: Final = 65_536
"""
Longest body of a comment that GitHub takes ("Body is too long (maximum is 65536 characters)"). GitLab takes 1,000,000.
"""
_ROOM: Final = 60_000
"""What a plan takes of it: a workflow may put a headline of its own before."""
_ROOM_FOR_TABLE: Final = 24_000
_KEYS_SHOWN: Final = 50
_MARKUP: Final = re.compile(r"[^A-Za-z0-9 /.,=%()\u00a0-\U0010ffff-]")
_LONGEST_TEXT: Final = 300

Plan = Mapping[str, Any]


def plans_as_markdown(plans: Sequence[Plan], *, digest: str | None, approve: str) -> str:
    """
    Return plans as Markdown of at most 60,000 characters, with a note where something is left out.

    Args:
        plans: as JSON shows them: of each sync its plan, or its error.
        digest: what an approval of all held changes names; None if nothing is held.
        approve: the words of the command `phasesync syncs approve` that select the same syncs.
    """
    changed = sum(bool(_changes(plan)) for plan in plans)
    failed = sum("error" in plan or bool(plan.get("problems")) for plan in plans)
    titles = [f"{changed:,} of {counted(len(plans), 'sync')} would change" if changed else "no sync would change"]
    if failed:
        titles.append(f"{failed} could not be planned completely")
    end = [""]
    if digest is not None:
        end = ["", f"Some changes are held. To approve them: `phasesync syncs approve {approve} --plan {digest}`", ""]
    # What needs to be seen comes first, in case that not all of it fits.
    ordered = sorted(plans, key=lambda plan: not _is_notable(plan))
    table = fitting([[_row(plan)] for plan in ordered], _ROOM_FOR_TABLE, "| … and {left} more syncs | | | |")
    head = [f"### phasesync: {'; '.join(titles)}", "", "| sync | changes | held | state |", "|---|---|---|---|", *table]
    room = _ROOM - _length([*head, *end])
    blocks = [_details(plan, room) for plan in ordered if _is_notable(plan)]
    note = "_Left out, since a comment has no room for it: what changes of {left} more syncs. -o json has all._"
    return "\n".join([*head, "", *fitting(blocks, room, note), *end])


def code(text: str) -> str:
    """Return a name in a form in which nothing of it is markup, in a table too."""
    return f"<code>{_escaped(text)}</code>"


def plain_text(text: str) -> str:
    """Return a sentence in which nothing is markup, and nobody is mentioned."""
    # A joiner that is not seen keeps what follows the sign from being a name of somebody.
    return _escaped(text).replace("&#64;", "&#64;&#8288;")


def _escaped(text: str) -> str:
    line = one_line(text)
    if len(line) > _LONGEST_TEXT:
        line = line[:_LONGEST_TEXT] + "…"
    return _MARKUP.sub(lambda match: f"&#{ord(match[0])};", line)


def _changes(plan: Plan) -> list[Mapping[str, Any]]:
    return [change for change in plan.get("changes", ()) if change["action"] != Action.NOOP]


def _closed(plan: Plan) -> str | None:
    """Return when the closed maintenance window of a sync opens, as text; None if none is closed."""
    window = plan.get("window")
    return window["text"] if window is not None and window["closed"] else None


def _is_notable(plan: Plan) -> bool:
    return "error" in plan or bool(plan.get("problems")) or bool(_changes(plan))


def _row(plan: Plan) -> str:
    changes = _changes(plan)
    state = "in step"
    if "error" in plan:
        state = "error"
    elif "idle" in plan:
        state = "would not run"
    elif plan["problems"]:
        state = "incomplete"
    elif changes:
        state = "held" if plan["held"] else "waits for its window" if _closed(plan) else "changes"
    return f"| {code(plan['sync'])} | {_counted(changes) or '-'} | {len(plan.get('held', ())) or '-'} | {state} |"


def _counted(changes: Sequence[Mapping[str, Any]]) -> str:
    actions = [str(change["action"]) for change in changes]
    return ", ".join(f"{actions.count(action)} {action}" for action in dict.fromkeys(actions))


def _details(plan: Plan, room: int) -> list[str]:
    """Return the lines of one sync, folded."""
    if "error" in plan:
        summary, items = "error", [[f"- {plain_text(plan['error']['message'])}"]]
    else:
        changes = _changes(plan)
        summary = _counted(changes) or "could not be planned completely"
        problems = [
            [f"- error: {code(problem['remote_name'])}: {plain_text(problem['message'])}"]
            for problem in plan["problems"]
        ]
        window = _closed(plan)
        waits = [[f"- the maintenance window is closed: {plain_text(window)}"]] if window is not None else []
        items = [*problems, *waits, *(list(_change(change)) for change in changes)]
    begin = ["<details>", f"<summary>{code(plan['sync'])}: {summary}</summary>", ""]
    end = ["", "</details>", ""]
    # A sync with very many secrets must not take the place of all others.
    return [*begin, *fitting(items, room // 2 - _length([*begin, *end]), "- … and {left} more"), *end]


def _change(change: Mapping[str, Any]) -> Iterator[str]:
    held = " **(held)**" if change["held"] else ""
    yield f"- **{change['action']}** {code(change['remote_name'])}: {plain_text(change['reason'])}{held}"
    emptied = frozenset(change["keys"]["emptied"])
    for word, kind in (("added", "added"), ("changed", "changed"), ("removed", "removed")):
        keys = change["keys"][kind]
        if not keys:
            continue
        shown = [code(key) + (" (emptied)" if key in emptied else "") for key in keys[:_KEYS_SHOWN]]
        more = f" and {len(keys) - _KEYS_SHOWN} more" if len(keys) > _KEYS_SHOWN else ""
        yield f"  - {word}: {', '.join(shown)}{more}"


def fitting(blocks: Sequence[Sequence[str]], room: int, note: str) -> list[str]:
    """Return the lines of the first blocks that fit into so many characters, and a note on those left out."""
    lines: list[str] = []
    room -= len(note)
    for number, block in enumerate(blocks):
        room -= _length(block)
        if room < 0:
            return [*lines, note.replace("{left}", str(len(blocks) - number))]
        lines += block
    return lines


def _length(lines: Sequence[str]) -> int:
    return sum(len(line) + 1 for line in lines)
