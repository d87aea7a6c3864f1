"""`--after` and `--limit` of lists, and printing a list page by page: no list is held in memory as a whole."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import update_wrapper
from itertools import chain
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from phasesync.cli.output import Item, Output
from phasesync.core.pages import PAGE_SIZE, Page, each_page

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Paging:
    """
    Which part of a list was asked for.

    Attributes:
        after: the cursor to begin after; None means from the beginning.
        limit: how many items; None means all.
        chosen: the caller asked for this limit, and so expects that there may be more.
    """

    after: str | None
    limit: int | None
    chosen: bool


def paging_options(items: str, *, limit: int = PAGE_SIZE) -> Callable[[F], F]:
    """
    Add `--after` and `--limit` to a command; it gets a `Paging` as `paging`.

    Args:
        items: names what it lists, for the help.
        limit: how many where the caller does not say.
    """

    def add(command: F) -> F:
        def wrapper(*args: Any, after: str | None, limit: int, **kwargs: Any) -> Any:
            source = click.get_current_context().get_parameter_source("limit")
            paging = Paging(after=after, limit=limit or None, chosen=source is not ParameterSource.DEFAULT)
            return command(*args, paging=paging, **kwargs)

        wrapped: Any = update_wrapper(wrapper, command)
        for option in (
            click.option(
                "--after",
                metavar="CURSOR",
                help='Go on after this place: "next" of the page before. Default: the beginning.',
            ),
            click.option(
                "--limit",
                type=click.IntRange(0),
                default=limit,
                show_default=True,
                help=f"At most this many {items}; 0 means all.",
            ),
        ):
            wrapped = option(wrapped)
        result: F = wrapped
        return result

    return add


def show_list(
    out: Output,
    paging: Paging,
    fetch: Callable[[str | None, int], Page[T]],
    to_item: Callable[[T], Item],
    columns: list[str],
    *,
    empty: str,
) -> None:
    """
    Print the part of a list that was asked for, page by page, and say on stderr how to see the rest.

    Args:
        out: how to print.
        paging: the part.
        fetch: returns the page after a cursor, with up to so many items.
        to_item: returns an item as JSON shows it; a table shows its columns.
        columns: of a table.
        empty: what to print on stderr instead of an empty table.
    """
    pages = each_page(fetch, after=paging.after, limit=paging.limit)
    shown: Iterator[Page[Item]] = (Page(items=tuple(map(to_item, page.items)), next=page.next) for page in pages)
    first = next(shown)  # What is wrong with the first page is reported before anything is printed.
    following = out.pages(
        chain([first], shown), columns, empty=f"nothing follows {paging.after}" if paging.after else empty
    )
    if following is not None and not (out.as_json and paging.chosen):
        out.note(f"there are more than {paging.limit}: the same command with --after {following}, or all: --limit 0")
