"""
A document as it was read: its data, and the place of every part of it. Knows neither YAML nor fields.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Loc = Sequence[str | int]
"""The way to a part of a document: names of fields, and numbers of entries from 0."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A place in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Unquoted:
    """
    A scalar without quotes that YAML's versions and programs read as something else than text.

    Attributes:
        text: as it is written.
        what: what they take it for, with its article: `a date`.
    """

    text: str = field(repr=False)
    what: str


@dataclass(slots=True, kw_only=True)
class Node:
    """
    A part of a document.

    Attributes:
        data: dict, list, str, int, bool, None, NumberLiteral or Unquoted.
        line: where it begins, from 1; likewise `column`.
        size: how many parts it has, itself included, with those that aliases repeat.
        depth: how many levels it has, 1 for a scalar.
        members: the parts of a mapping by name, or of a list; None for a scalar.
        keys: the line and the column of a member's name.
    """

    data: Any = field(repr=False)
    line: int
    column: int
    size: int = 1
    depth: int = 1
    members: "dict[str, Node] | list[Node] | None" = field(default=None, repr=False)
    keys: Mapping[str, tuple[int, int]] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True)
class Document:
    """
    One YAML document.

    Attributes:
        file: as messages name it.
        folder: what relative paths in it start from.
        root: the whole of it.
    """

    file: str
    folder: str
    root: Node

    def node(self, loc: Loc) -> Node:
        """Return a part; where there is none, the nearest part around it."""
        node = self.root
        for step in loc:
            try:
                node = node.members[step]  # type: ignore[index]
            except (KeyError, IndexError, TypeError):
                break
        return node

    def place(self, *loc: str | int, of_name: bool = False) -> Place:
        """
        Return the place of a part, or the nearest place around it.

        Args:
            loc: the way to it.
            of_name: the place of its name in place of its content.
        """
        if of_name and loc and (at := self.node(loc[:-1]).keys.get(str(loc[-1]))) is not None:
            return Place(self.file, *at)
        node = self.node(loc)
        return Place(self.file, node.line, node.column)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a document that was read: where it is."""

    document: Document
    loc: tuple[str | int, ...] = ()

    def place(self, *loc: str | int, of_name: bool = False) -> Place:
        """Return the place of something in it; without `loc` its own."""
        return self.document.place(*self.loc, *loc, of_name=of_name)


class Problems:
    """What is wrong in documents, collected so that all of it is reported at once."""

    def __init__(self) -> None:
        self._found: list[tuple[Place, str]] = []

    def add(self, place: Place, what: str, fix: str | None = None) -> None:
        """Note a problem. `fix`: how to correct it."""
        entry = (place, one_line(f"{what}; {fix}" if fix else what))
        if entry not in self._found[-20:]:
            self._found.append(entry)

    def __bool__(self) -> bool:
        return bool(self._found)

    @property
    def lines(self) -> tuple[str, ...]:
        """One line for each, by file and place."""
        return tuple(f"{place}: {what}" for place, what in sorted(self._found))


def one_line(text: str) -> str:
    """Return a text on one line."""
    return " ".join(text.split())
