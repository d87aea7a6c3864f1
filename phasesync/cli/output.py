"""
What goes to stdout: one table or one JSON document. Everything else that a command has to say goes to stderr.

A table is as wide as its content, on a terminal too: an id that is cut into pieces cannot be copied.
"""

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

import click

from phasesync.cli.streams import json_text, one_line, print_to_stderr, styled, write_data
from phasesync.core.pages import Page
from phasesync.core.times import duration_text, instant_text

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.core.credential import Credential


F = TypeVar("F", bound=Callable[..., Any])

Item = Mapping[str, object]


class Output:
    """How a command prints, as `-o` asked for."""

    def __init__(self, *, as_json: bool, as_markdown: bool = False) -> None:
        self.as_json = as_json
        self.as_markdown = as_markdown

    def items(self, items: Iterable[Item], columns: Sequence[str], *, empty: str = "there is nothing yet") -> None:
        """
        Print a list.

        Args:
            items: dictionaries as JSON shows them, in order.
            columns: names of the columns of a table.
            empty: what to print on stderr instead of an empty table.
        """
        self.pages([Page(items=tuple(items), next=None)], columns, empty=empty)

    def pages(self, pages: Iterable[Page[Item]], columns: Sequence[str], *, empty: str) -> str | None:
        """
        Print a list as `items` does, each page as it comes; return the cursor of what follows, None if nothing does.

        JSON is one document nevertheless. The columns of a table may become wider from one page to the next.
        """
        if self.as_json:
            return _json_list(pages)
        following, widths = None, [0] * len(columns)
        for page in pages:
            shown = [[_shown(name, row.get(name))[1] for name in columns] for row in page.items]
            if shown:
                _table(shown, [_titled(name) for name in columns], widths)
            following = page.next
        if not any(widths):
            self.say(empty)
        return following

    def item(self, item: Item) -> None:
        """Print one item: as a JSON object, or as names and values."""
        if self.as_json:
            self.document(item)
            return
        shown = dict(_shown(name, value) for name, value in item.items())
        width = max(map(len, shown), default=0)
        for name, cell in shown.items():
            click.echo(f"{name:<{width}}  {cell}")

    def done(self, message: str, item: Item) -> None:
        """Report what was done: a line on stderr, or the item as it is now as JSON."""
        if self.as_json:
            self.document(item)
        else:
            self.say(message)

    def document(self, document: Item) -> None:
        """Print the one JSON document of a command."""
        write_data(json_text(json.dumps(document, ensure_ascii=False, indent=2, default=plain)) + "\n")

    def line(self, document: Item) -> None:
        """Print one JSON document of several, each on a line of its own."""
        write_data(json_text(json.dumps(document, ensure_ascii=False, default=plain)) + "\n")

    def say(self, message: str) -> None:
        """Print a line for the operator on stderr."""
        print_to_stderr(one_line(message))

    def note(self, message: str) -> None:
        """Print on stderr a note: nothing is wrong, but it may not be what the operator expects."""
        print_to_stderr(f"note: {one_line(message)}")

    def warn(self, message: str) -> None:
        """Print a warning on stderr."""
        print_to_stderr(f"{styled('warning:', fg='yellow')} {one_line(message)}")


def print_document(document: Item) -> None:
    """Print a document in a format that others define, such as an IAM policy, whatever `-o` says."""
    write_data(json.dumps(document, indent=2) + "\n")


def output_option(command: F) -> F:
    """Add `-o/--output` to a command; it gets an `Output` as `out`."""
    return _output_option(command, ["table", "json"], "How to print. JSON is one document on stdout.")


def markdown_output_option(command: F) -> F:
    """Add `-o/--output` to a command that can also print Markdown."""
    words = "How to print. JSON is one document on stdout; Markdown is for a comment on a pull request."
    return _output_option(command, ["table", "json", "markdown"], words)


def _output_option(command: F, formats: Sequence[str], words: str) -> F:
    return click.option(
        "-o",
        "--output",
        "out",
        type=click.Choice(formats),
        default="table",
        show_default=True,
        help=words,
        callback=lambda _context, _parameter, value: Output(as_json=value == "json", as_markdown=value == "markdown"),
    )(command)


def plain(value: object) -> object:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")  # RFC 3339
        case timedelta():
            return value.total_seconds()
        case Enum():
            return value.value
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case set() | frozenset():
            return sorted(value)
    # So that no secret value gets into JSON by accident.
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _shown(name: str, value: object) -> tuple[str, str]:
    """Return name and value for people: seconds as the command line writes durations."""
    if name.endswith("_s") and isinstance(value, int | float):
        return _titled(name), duration_text(timedelta(seconds=value))
    return name, _cell(value)


def _titled(name: str) -> str:
    """Return a name without its unit: a duration for people contains it."""
    return name.removesuffix("_s")


def _cell(value: object) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return instant_text(value)
        case Enum():
            return str(value.value)
        case list() | tuple():
            return ", ".join(map(_cell, value)) or "-"
        case Mapping():
            return ", ".join(f"{name}={_cell(inner)}" for name, inner in value.items()) or "-"
    return one_line(str(value))


def _json_list(pages: Iterable[Page[Item]]) -> str | None:
    """Print `{"items": [...], "next": ...}` page by page, as `json.dumps` would indent the whole; return `next`."""
    write_data('{\n  "items": [')
    following, separator, end = None, "\n    ", ""
    for page in pages:
        texts = []
        for item in page.items:
            text = json_text(json.dumps(item, ensure_ascii=False, indent=2, default=plain))
            texts.append(separator + text.replace("\n", "\n    "))
            separator, end = ",\n    ", "\n  "
        write_data("".join(texts))
        following = page.next
    write_data(f'{end}],\n  "next": {json.dumps(following)}\n}}\n')
    return following


def _table(rows: Sequence[Sequence[str]], columns: Sequence[str], widths: list[int]) -> None:
    """Print rows of a table, with the titles if they are the first; `widths` grow with what is printed."""
    titles = [column.replace("_", " ").upper() for column in columns]
    head = [] if any(widths) else [titles]
    widths[:] = [max(widths[n], *(len(row[n]) for row in [titles, *rows])) for n in range(len(titles))]
    lines = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [*head, *rows]
    ]
    if head:
        click.echo(styled(lines.pop(0), bold=True))
    click.echo("\n".join(lines))


def show_identity(application: "Application", credential: "Credential", out: Output) -> None:
    """Print account and ARN of a credential: at most one call, and none if the command has asked already."""
    identity = application.clients.identity_of(credential)
    note = application.endpoint_note(credential.region)
    out.say(f"identity: account {identity.account}, {identity.arn}{note}")
