"""
Reads YAML into nodes that know their places. JSON is read as the YAML that it is.

It works on the events of the parser, never on PyYAML's objects: no tag makes an object, no recursion follows the depth
of a file, and what aliases repeat is counted before anything is repeated. No message repeats a scalar.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import yaml

from phasesync.adapters.project_files.scalars import scalar
from phasesync.core.project.nodes import Node, Place, Unquoted
from phasesync.errors import DocumentError

MAX_PARTS: Final = 400_000
"""Of one document, with everything that aliases repeat: some 10,000 syncs."""
MAX_DEPTH: Final = 40
"""Levels of lists and mappings, with everything that aliases repeat. The format has 7; policies have more."""

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE: Final = "<<"
_TEXT_TAGS: Final = (None, "!", "tag:yaml.org,2002:str")

_PROBLEMS: Final = {
    "found character that cannot start any token": ("this character cannot stand here", "write the text in quotes"),
    "mapping values are not allowed": ("a second colon, or wrong indentation", "write the text in quotes, or indent"),
    "could not find expected ':'": ("a name without a colon", "write NAME: TEXT, or - before an entry"),
    "did not find expected key": ("the indentation is wrong", "begin fields of one mapping in one column"),
    "did not find expected '-' indicator": ("the indentation is wrong", "begin entries of one list in one column"),
    "did not find expected ',' or ']'": ("the list in brackets is not closed", "write ] or a comma"),
    "did not find expected ',' or '}'": ("the mapping in braces is not closed", "write } or a comma"),
    "did not find expected node content": ("a value is missing", "write one, or [] or {}"),
    "did not find expected <document start>": ("something stands before the document", "begin it with ---"),
    "found unexpected end of stream": ("the file ends within quotes", "close them"),
    "found unknown escape character": ("an escape that YAML does not have", "write it in single quotes"),
    "block sequence entries are not allowed": ("a list entry cannot begin here", "begin it on a line of its own"),
    "control characters are not allowed": ("a control character", "leave it out"),
}
"""What the parser says -> what that means, and the fix."""


def read_yaml(data: bytes, file: str) -> list[Node]:
    """
    Return the documents of a file.

    Args:
        data: the file.
        file: its name, for messages.

    Raises:
        DocumentError: it is no YAML, or has none in it; or one of its documents is empty.
    """
    text = _text_of(data, file)
    try:
        documents = list(_Builder(file).documents(_without_pairs(text)))
    except yaml.MarkedYAMLError as error:
        _refuse_syntax(error, text, file)
    except yaml.YAMLError as error:
        # Characters that YAML refuses have an offset and no mark.
        place = _place_at(text, file, getattr(error, "position", 0) or 0)
        raise _error(place, "a character that YAML does not take", "leave it out") from None
    if not documents:
        raise _error(Place(file, 1, 1), "there is no document in this file", "begin with apiVersion: phasesync/v1")
    return documents


def _text_of(data: bytes, file: str) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise _error(Place(file, 1, 1), "the file is UTF-16", "save it as UTF-8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        raise _error(_place_at(before, file, len(before)), "this is not UTF-8", "save the file as UTF-8") from None
    text = text.removeprefix("\ufeff")
    if (at := text.find("\0")) >= 0:
        raise _error(_place_at(text, file, at), "a NUL character", "leave it out")
    return text


_PAIR: Final = re.compile(r"((?<!\\)(?:\\\\)*)\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})", re.IGNORECASE)


def _without_pairs(text: str) -> str:
    """
    Return JSON with the escapes of YAML for characters beyond U+FFFF, which JSON writes as two.

    Columns after such a character are less by two. Other YAML is returned as it is.
    """
    if not text.lstrip().startswith(("{", "[")) or _PAIR.search(text) is None:
        return text
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text

    def as_one(match: re.Match[str]) -> str:
        high, low = int(match[2], 16), int(match[3], 16)
        return f"{match[1]}\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08x}"

    return _PAIR.sub(as_one, text)


def _place_at(text: str, file: str, offset: int) -> Place:
    before = text[:offset]
    lines = re.split(r"\r\n|\r|\n", before)
    return Place(file, len(lines), len(lines[-1]) + 1)


def _error(place: Place, what: str, fix: str) -> DocumentError:
    return DocumentError([f"{place}: {what}; {fix}"])


def _refuse_syntax(error: yaml.MarkedYAMLError, text: str, file: str) -> NoReturn:
    mark = error.problem_mark or error.context_mark
    place = Place(file, 1, 1) if mark is None else Place(file, mark.line + 1, mark.column + 1)
    problem = error.problem or ""
    what, fix = next(
        (known for said, known in _PROBLEMS.items() if problem.startswith(said)),
        ("this is not YAML", "check quotes, colons and indentation here and in the line before"),
    )
    lines = text.split("\n")
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    if "\t" in line[: place.column] and not line[: place.column - 1].strip():
        what, fix = "a tab cannot indent a line", "write spaces"
    raise DocumentError([f"{place}: {what}; {fix}"]) from None


class _Open:
    """A list or a mapping that is being read."""

    def __init__(self, event: Any, *, mapping: bool) -> None:
        self.mapping = mapping
        self.anchor = event.anchor
        self.line, self.column = event.start_mark.line + 1, event.start_mark.column + 1
        self.entries: list[Node] = []
        self.members: dict[str, Node] = {}
        self.keys: dict[str, tuple[int, int]] = {}
        self.merged: list[Node] = []
        self.key: Node | None = None


class _Builder:
    """Makes nodes of the events of a parser."""

    def __init__(self, file: str) -> None:
        self._file = file

    def documents(self, text: str) -> Iterator[Node]:
        """Go through the documents of a text."""
        stack: list[_Open] = []
        anchors: dict[str, Node | None] = {}
        root: Node | None = None
        begun = Place(self._file, 1, 1)
        for event in yaml.parse(text, Loader=_LOADER):
            match event:
                case yaml.ScalarEvent():
                    node = self._scalar(event)
                case yaml.AliasEvent():
                    node = self._alias(event, anchors)
                case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                    self._check_tag(event, allowed=(None, "!"))
                    stack.append(_Open(event, mapping=isinstance(event, yaml.MappingStartEvent)))
                    if event.anchor is not None:
                        anchors[event.anchor] = None
                    if len(stack) > MAX_DEPTH:
                        raise _error(self._place(event), f"more than {MAX_DEPTH} levels deep", "nest it less")
                    continue
                case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                    closed = stack.pop()
                    node = self._close(closed)
                    if closed.anchor is not None:
                        anchors[closed.anchor] = node
                case yaml.DocumentStartEvent():
                    anchors, root, begun = {}, None, self._place(event)
                    continue
                case yaml.DocumentEndEvent():
                    if root is not None and root.data is None:
                        raise _error(begun, "this document is empty", "write one, or leave out the --- that begins it")
                    if root is not None:
                        yield root
                    continue
                case _:
                    continue
            if isinstance(event, yaml.ScalarEvent) and event.anchor is not None:
                anchors[event.anchor] = node
            if not stack:
                root = node
            else:
                self._add(stack[-1], node)

    def _place(self, event: Any) -> Place:
        return Place(self._file, event.start_mark.line + 1, event.start_mark.column + 1)

    def _check_tag(self, event: Any, *, allowed: tuple[str | None, ...]) -> None:
        if event.tag not in allowed:
            raise _error(self._place(event), "tags such as !this are not taken", "write the value without it")

    def _scalar(self, event: Any) -> Node:
        self._check_tag(event, allowed=_TEXT_TAGS)
        plain = event.style in (None, "") and event.tag is None
        return Node(
            data=scalar(event.value) if plain else event.value,
            line=event.start_mark.line + 1,
            column=event.start_mark.column + 1,
        )

    def _alias(self, event: Any, anchors: dict[str, Node | None]) -> Node:
        place = self._place(event)
        if event.anchor not in anchors:
            raise _error(
                place,
                "there is no anchor of this name before the alias",
                "define it first, or write a text that begins with * in quotes",
            )
        target = anchors[event.anchor]
        if target is None:
            raise _error(place, "the alias repeats what it is in itself", "leave it out")
        return Node(
            data=target.data,
            line=place.line,
            column=place.column,
            size=target.size,
            depth=target.depth,
            members=target.members,
            keys=target.keys,
        )

    def _add(self, into: _Open, node: Node) -> None:
        if not into.mapping:
            into.entries.append(node)
        elif into.key is None:
            into.key = node
        else:
            key, into.key = into.key, None
            self._add_member(into, key, node)

    def _add_member(self, into: _Open, key: Node, node: Node) -> None:
        place = Place(self._file, key.line, key.column)
        name = key.data
        if not isinstance(name, str):
            what = f"is {name.what} to programs that read YAML" if isinstance(name, Unquoted) else "is not a text"
            raise _error(place, f"this name of a field {what}", "write it in quotes")
        if name == _MERGE:
            if into.merged:
                raise _error(place, "<< is written twice in one mapping", "write <<: [*one, *other]")
            into.merged = self._merged(node)
            return
        if name in into.members:
            line, column = into.keys[name]
            raise _error(
                place,
                f"{name[:60]!r} is written twice in one mapping",
                f"leave one out; the first is in {Place(self._file, line, column)}",
            )
        into.members[name] = node
        into.keys[name] = (key.line, key.column)

    def _merged(self, node: Node) -> list[Node]:
        nodes = node.members if isinstance(node.members, list) else [node]
        if not nodes or not all(isinstance(each.data, dict) for each in nodes):
            place = Place(self._file, node.line, node.column)
            raise _error(place, "<< takes a mapping, or a list of mappings", "write <<: *ANCHOR")
        return nodes

    def _close(self, closed: _Open) -> Node:
        members: dict[str, Node] | list[Node] = closed.entries
        data: Any
        if closed.mapping:
            # Members of the mapping itself win, then those of the mappings that are merged first.
            members = closed.members
            for merged in closed.merged:
                assert isinstance(merged.members, dict)  # noqa: S101 - `_merged` takes no others
                for name, member in merged.members.items():
                    if name not in members:
                        members[name] = member
                        closed.keys[name] = merged.keys[name]
            parts = list(members.values())
            data = {name: member.data for name, member in members.items()}
        else:
            parts = closed.entries
            data = [member.data for member in parts]
        node = Node(
            data=data,
            line=closed.line,
            column=closed.column,
            size=1 + sum(part.size for part in parts),
            depth=1 + max((part.depth for part in parts), default=0),
            members=members,
            keys=closed.keys,
        )
        place = Place(self._file, closed.line, closed.column)
        if node.size > MAX_PARTS:
            raise _error(place, f"more than {MAX_PARTS:,} parts, with what aliases repeat", "split the document")
        if node.depth > MAX_DEPTH:
            raise _error(place, f"more than {MAX_DEPTH} levels deep, with what aliases repeat", "nest it less")
        return node
