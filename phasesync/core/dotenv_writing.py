r"""
Writing dotenv and shell: the quoting that most readers read as the same value.

    KEY=value     letters, digits and _ . / : @ % + , -
    KEY='value'   as it is
    KEY="value"   as it is, for values with a single quote
    KEY="value"   with \\ \" \r; node and npm dotenv know no escape of quotes and backslashes
    KEY='value'   with \\ \'; bash, node and npm dotenv know none of them in single quotes, docker compose only \'

The first of them that most readers read is taken. Whatever is written, `dotenv_reading` reads the same value from it.
Who reads what was measured as that module says.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from phasesync.core.dotenv_reading import DISPUTED_ESCAPE, has_expansion, is_kept_by_shells, is_shell_name
from phasesync.errors import InvalidInputError

PYTHON: Final = "python-dotenv"
BASH: Final = "bash"
NODE: Final = "node --env-file"
NPM: Final = "npm dotenv"
COMPOSE: Final = "docker compose"
READERS: Final = (PYTHON, BASH, NODE, NPM, COMPOSE)

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:@%+,-]*")
_KEY: Final = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True, kw_only=True)
class Written:
    """
    One line.

    Attributes:
        text: KEY=value and a line end.
        read_by: who reads the value from it.
    """

    text: str = field(repr=False)
    read_by: frozenset[str]

    @property
    def misread_by(self) -> tuple[str, ...]:
        """Who reads something else, or nothing, in the order of `READERS`."""
        return tuple(reader for reader in READERS if reader not in self.read_by)


def is_dotenv_key(key: str) -> bool:
    """Return whether a key can stand in a dotenv file."""
    return _KEY.fullmatch(key) is not None


def dotenv_line(key: str, text: str) -> Written:
    """Return the line of one key. InvalidInputError where no reader takes the key."""
    if not is_dotenv_key(key):
        raise InvalidInputError(f"the key {key!r} cannot stand in a dotenv file", hint="add --format json")
    written, read_by = max(_candidates(text), key=lambda one: len(one[1]))
    if has_expansion(text):
        read_by -= {PYTHON}
    if not is_shell_name(key) or is_kept_by_shells(key):
        read_by -= {BASH}
    if "\0" in text:
        read_by &= {PYTHON}  # No environment can have it.
    return Written(text=f"{key}={written}\n", read_by=read_by)


def runs_in_shells(text: str) -> bool:
    """Return whether a shell that misreads a line may run a part of its value."""
    return "$(" in text or "`" in text


def write_shell(values: Mapping[str, str]) -> str:
    """
    Return lines `export KEY='value'`, from which sh and bash have each value exactly.

    InvalidInputError names the key that no shell can have or take, or whose value has a NUL.
    """
    for key, text in sorted(values.items()):
        if not is_shell_name(key):
            raise InvalidInputError(f"a shell has no variable of the name {key!r}", hint="add --format json")
        if is_kept_by_shells(key):
            raise InvalidInputError(
                f"bash keeps the variable {key} for itself and would not take the value", hint="add --format json"
            )
        if "\0" in text:
            raise InvalidInputError(
                f"{key} has a NUL character, which no variable of a shell can have", hint="add --format json"
            )
    return "".join(f"export {key}={_shell_quoted(text)}\n" for key, text in sorted(values.items()))


def _shell_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _candidates(text: str) -> list[tuple[str, frozenset[str]]]:
    """Return (form, readers that take it for the text), the plainest first."""
    if _PLAIN.fullmatch(text):
        return [(text, frozenset(READERS))]
    found = []
    returns = "\r" in text
    if not returns and "'" not in text and "\\\\" not in text and not text.endswith("\\"):
        found.append((f"'{text}'", frozenset(READERS)))
    if not returns and '"' not in text and not DISPUTED_ESCAPE.search(text) and not text.endswith("\\"):
        found.append((f'"{text}"', frozenset(READERS) - _who_expands(text)))
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "\\r")
    found.append((f'"{escaped}"', _by_escapes_in_double_quotes(text)))
    if not returns:
        escaped = text.replace("\\", "\\\\").replace("'", "\\'")
        found.append((f"'{escaped}'", frozenset({PYTHON} if "\\" in text else {PYTHON, COMPOSE})))
    return found


def _by_escapes_in_double_quotes(text: str) -> frozenset[str]:
    read_by = {PYTHON, COMPOSE}
    if "\r" not in text:
        read_by.add(BASH)
    if '"' not in text and "\\" not in text:
        read_by.add(NPM)
    return frozenset(read_by) - _who_expands(text)


def _who_expands(text: str) -> frozenset[str]:
    """Return who puts something into a text in double quotes, runs it, or (bash, of U+0001 and U+007F) drops it."""
    if "$" in text:
        return frozenset({BASH, COMPOSE})
    return frozenset({BASH}) if any(character in text for character in "`\x01\x7f") else frozenset()
