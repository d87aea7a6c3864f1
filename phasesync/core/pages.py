"""
One page of a list.

A cursor names the last item of a page, so that what is added or removed meanwhile moves no other item to another page.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from phasesync.errors import InvalidInputError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
R = TypeVar("R")

PAGE_SIZE: Final = 1000
"""Items that are read, and held in memory, at once. A list shows as many, unless it is asked for another number."""


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T_co]):
    """
    One page of a list.

    Attributes:
        items: in the order of the list.
        next: the cursor after which the next page begins; None if this is the last page.
    """

    items: tuple[T_co, ...]
    next: str | None


def page_of(rows: Sequence[R], limit: int, to_item: Callable[[R], T], cursor_of: Callable[[R], str]) -> Page[T]:
    """Return a page of up to `limit` items. `rows`: up to one more row than that, which shows that there is a next."""
    shown = rows[:limit]
    more = len(rows) > limit
    return Page(items=tuple(map(to_item, shown)), next=cursor_of(shown[-1]) if more else None)


def each_page(
    fetch: Callable[[str | None, int], Page[T]], *, after: str | None = None, limit: int | None = None
) -> Iterator[Page[T]]:
    """
    Yield pages until the list ends or `limit` items are reached; None means the whole list.

    Each page is fetched when it is asked for, so that one page at most is in memory.

    Args:
        fetch: returns the page after a cursor, with up to so many items.
        after: the cursor to begin after; None means the beginning.
        limit: number of items of all pages together.
    """
    left = limit
    while True:
        page = fetch(after, PAGE_SIZE if left is None else min(PAGE_SIZE, left))
        yield page
        after = page.next
        left = None if left is None else left - len(page.items)
        if after is None or left == 0:
            return


def bad_cursor() -> InvalidInputError:
    """Return the error for a cursor that no page of a list has returned. It is not repeated: it may be anything."""
    return InvalidInputError(
        "that is no place in this list",
        hint='--after takes what the page before has as "next"; leave it out to begin at the beginning',
    )
