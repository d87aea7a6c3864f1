"""
The syntax of references: find the references in a text, parse one, escape text that must not be one.

    ${KEY}                    own folder, then /
    ${/path/KEY}              another folder of the same environment
    ${env.KEY}                another environment of the same app, folder /
    ${env./path/KEY}
    ${app::env.KEY}           another app
    ${app::env./path/KEY}
    $${                       a literal ${
    ${{ ... }}                left alone: templates of other tools
    ${ without } in its line  left alone

It knows no environment: `references.py` resolves references.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from phasesync.core.names import MAX_KEY_CHARACTERS, MAX_PATH_CHARACTERS, ROOT, is_name

_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
_PLAIN = re.compile(rf"(?:(?:{_NAME}::)?{_NAME}\.)?(?:/(?:{_NAME}/)*)?[\w.-]+")
_LEADING = re.compile(r"[\w./-]*(?:::[\w./-]*)?")
_MAX_SHOWN = 2 * MAX_PATH_CHARACTERS


@dataclass(frozen=True, slots=True)
class Reference:
    """The text between `${` and `}`."""

    expression: str

    @property
    def shown(self) -> str:
        """
        The reference as messages show it.

        If it is not well-formed, only the name at its beginning: `${VAR:-default}` contains a value.
        """
        if is_well_formed(self.expression) and len(self.expression) <= _MAX_SHOWN:
            return f"${{{self.expression}}}"
        name = _LEADING.match(self.expression)
        return f"${{{name[0][:MAX_KEY_CHARACTERS] if name else ''}…}}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """
    One way to read a reference.

    Attributes:
        app: None means the same app.
        environment: None means the same environment.
        path: None means own folder, then `/`.
    """

    app: str | None = None
    environment: str | None = None
    path: str | None = None
    key: str


def pieces(text: str) -> Iterator[str | Reference]:
    """Split a text into references and literal text without escapes, in time linear in its length."""
    first, *others = text.split("\n")
    yield from _pieces_of_line(first)
    for line in others:
        yield "\n"
        yield from _pieces_of_line(line)


def _pieces_of_line(line: str) -> Iterator[str | Reference]:
    # The last braces are located once: every ${ after them is literal, so no search is repeated in vain.
    last_close, last_double_close = line.rfind("}"), line.rfind("}}")
    done = 0
    start = line.find("${")
    while start != -1:
        if start > done and line[start - 1] == "$":
            yield line[done : start - 1]
            yield "${"
            done = start + 2
        elif line.startswith("{", start + 2):
            end = line.find("}}", start + 3) + 2 if last_double_close >= start + 3 else start + 3
            yield line[done:end]
            done = end
        elif last_close > start:
            end = line.find("}", start)
            yield line[done:start]
            yield Reference(line[start + 2 : end])
            done = end + 1
        else:
            break
        start = line.find("${", done)
    yield line[done:]


def escape(text: str) -> str:
    """Return a text that resolves to exactly `text`."""
    return text.replace("${", "$${")


def literal_of(text: str) -> str | None:
    """Return the literal text that a text resolves to; None if it has references."""
    parts = list(pieces(text))
    return None if any(isinstance(part, Reference) for part in parts) else "".join(map(str, parts))


def references_in(text: str) -> list[Reference]:
    """Return the references of a text, each once, in order."""
    if "${" not in text:
        return []
    return list(dict.fromkeys(piece for piece in pieces(text) if isinstance(piece, Reference)))


def targets(expression: str) -> list[Target]:
    """
    Return every way to read a reference, the own folder first.

    `${a.b}` has two: a key named `a.b` here, and the key `b` of the environment `a`.
    """
    if expression.startswith("/"):
        return _in_folder(expression, app=None, environment=None)
    readings = [Target(key=expression)] if expression else []
    app, colons, rest = expression.partition("::")
    if not colons:
        app, rest = "", expression
    environment, dot, tail = rest.partition(".")
    if dot and tail and is_name(environment) and (not colons or is_name(app)):
        if tail.startswith("/"):
            readings += _in_folder(tail, app=app or None, environment=environment)
        else:
            readings.append(Target(app=app or None, environment=environment, path=ROOT, key=tail))
    return readings


def is_well_formed(expression: str) -> bool:
    """
    Return whether a reference has one of the forms above.

    Keys may hold almost any character, so one that is not well-formed can still name a key that exists.
    """
    return _PLAIN.fullmatch(expression) is not None


def malformed_references(text: str) -> list[str]:
    """Return the references of a text that look like another tool's syntax, as messages name them."""
    return [reference.shown for reference in references_in(text) if not is_well_formed(reference.expression)]


def _in_folder(tail: str, *, app: str | None, environment: str | None) -> list[Target]:
    folder, _, key = tail.rpartition("/")
    folders = folder.split("/")[1:]
    if not key or not all(is_name(name) for name in folders):
        return []
    return [Target(app=app, environment=environment, path=folder or ROOT, key=key)]
