r"""
dotenv files: reads them as most programs do, and writes lines that most programs read alike. Writes shell exports too.

dotenv has no standard. Values are read as python-dotenv 1.2.4 reads them, without interpolation:

    KEY=value           up to the line end, or to a # after white space; white space at the ends is dropped
    KEY='value'         may have line ends; \\ is \ and \' is '; everything else is literal
    KEY="value"         may have line ends; \\ \' \" \a \b \f \n \r \t \v are escapes; everything else is literal
    export KEY=value    the same as without export
    'KEY'=v  "KEY"=v    the same as without quotes

If bash (`set -a; . file`), node (--env-file, util.parseEnv), npm dotenv or docker compose (compose-go) would read a
line differently, there is a note with the form, the key and the line. Their behaviour was measured with bash 5.2, node
20.20 and npm dotenv 18.0, and read in the source of compose-go.

Lines are written in one of these forms, the one that most of these programs read as the value:

    KEY=value     letters, digits and _ . / : @ % + , -
    KEY='value'   as it is
    KEY="value"   as it is, for values with a single quote
    KEY="value"   with \\ \" \r; node and npm dotenv know no escape of quotes and backslashes
    KEY='value'   with \\ \'; bash, node and npm dotenv know no escapes in single quotes, docker compose only \'

Reading what was written gives the same value. Reading takes time linear in the length: no pattern here tries a position
twice. No message and no note contains a value.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NoReturn

from phasesync.errors import InvalidInputError


class Form(Enum):
    """A form that programs read differently, or that loses a part of the file. Its value is the note on it."""

    CUT = "what follows # is a comment and is left out; quote the value if it belongs to it"
    DUPLICATE = "the key is there more than once; the last one counts"
    HASH = "node and npm dotenv end the value at #; quote it"
    SPACES = "readers disagree on its white space, and bash would run what follows it as a command; quote the value"
    INDENT = "white space other than spaces is before the key, and readers take it for a part of the key"
    AROUND_EQUALS = "bash takes no white space around ="
    QUOTES = "the value has quotes within, which bash removes; quote it as a whole"
    BACKTICKS = "backticks are taken literally; node and npm dotenv read them as quotes, bash as a command"
    BACKSLASH = "bash removes the backslash; quote the value"
    ESCAPES = "readers disagree on what a backslash means here"
    REFERENCE = (
        "$ is taken literally; bash and docker compose put in the value of a variable, python-dotenv for ${NAME}"
    )
    SHELL = "bash obeys one of ; & | < > ( ) ~ in it; quote the value"
    CARRIAGE_RETURN = "it has a carriage return, which most readers change or drop"
    EXPORT = "docker run --env-file, systemd and older readers take export for a part of the name"
    NAME = "bash has no variables of such a name"
    KEPT_BY_SHELLS = "bash keeps a variable of that name for itself and does not take the value"
    QUOTED_NAME = "most readers know no quotes around a name; they are dropped here"
    BYTE_ORDER_MARK = "the line begins with a byte order mark, which is dropped here and kept elsewhere"
    WINDOWS = "the file has Windows line ends (CR LF), read as LF in quotes too; bash keeps the CR in every value"


@dataclass(frozen=True, kw_only=True)
class Note:
    """The place of a form in a file. `key` is None for the whole file."""

    form: Form
    key: str | None
    line: int


@dataclass(frozen=True, kw_only=True)
class Dotenv:
    """
    The content of a file.

    Attributes:
        values: key -> text.
        notes: in the order of the file.
    """

    values: dict[str, str] = field(repr=False)
    notes: tuple[Note, ...]


# --- reading


def read_dotenv(text: str) -> Dotenv:
    """Read a file. InvalidInputError names the line."""
    notes: list[Note] = []
    if _has_windows_line_ends(text):
        notes.append(Note(form=Form.WINDOWS, key=None, line=1))
    values: dict[str, str] = {}
    for binding in read_bindings(text):
        forms = [*binding.forms, Form.DUPLICATE] if binding.key in values else binding.forms
        notes += [Note(form=form, key=binding.key, line=binding.line) for form in dict.fromkeys(forms)]
        values[binding.key] = binding.value
    return Dotenv(values=values, notes=tuple(notes))


def read_bindings(text: str) -> "Iterator[Binding]":
    """Yield each key of a file with its value, in the order of the lines. InvalidInputError names the line."""
    return _Scanner(text.replace("\r\n", "\n") if _has_windows_line_ends(text) else text).bindings()


def _has_windows_line_ends(text: str) -> bool:
    return 0 < text.count("\n") == text.count("\r\n")


_SKIPPED: Final = re.compile(r"[\s\ufeff]*+")
_BLANKS: Final = re.compile(r"[^\S\r\n]*+")
_EXPORT: Final = re.compile(r"export[^\S\r\n]++")
_REST: Final = re.compile(r"[^\r\n]*+")
_END: Final = re.compile(r"[^\S\r\n]*+(?:#[^\r\n]*+)?(?:\r\n|\n|\r|\Z)")
_NEWLINE: Final = re.compile(r"\r\n|\n|\r")
_NAMES: Final = {
    "'": re.compile(r"'([^'\r\n]++)'"),
    '"': re.compile(r'"([^"\r\n]++)"'),
    "": re.compile(r"([^=#\s]++)"),
}
_QUOTED: Final = {
    "'": re.compile(r"'((?:[^'\\]|\\.)*+)'", re.DOTALL),
    '"': re.compile(r'"((?:[^"\\]|\\.)*+)"', re.DOTALL),
}
_ESCAPES: Final = {"'": re.compile(r"\\([\\'])"), '"': re.compile(r"\\([\\'\"abfnrtv])")}
_MEANT: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
DISPUTED_ESCAPE: Final = re.compile(r"\\[abcfnrtv0$\"'\\`\n]")
"""In double quotes: what at least one program reads as an escape."""
_COMMENT: Final = re.compile(r"\s#")
_VARIABLE: Final = re.compile(r"\$[\w({[@*#?$!-]")
_SHELL_OPERATORS: Final = re.compile(r"[;&|<>()]|\A~|:~")
_LONE_RETURN: Final = re.compile(r"\r(?!\n)")
_SHELL_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEPT_BY_SHELLS: Final = re.compile(
    "_|BASHOPTS|BASHPID|BASH_(?:ALIASES|ARGC|ARGV0?|CMDS|COMMAND|LINENO|MONOSECONDS|SOURCE|SUBSHELL|VERSINFO)|DIRSTACK|"
    "E?UID|EPOCH(?:REALTIME|SECONDS)|FUNCNAME|GROUPS|HISTCMD|LINENO|OPTIND|PPID|S?RANDOM|SECONDS|SHELLOPTS|SHLVL"
)
"""Read-only, computed or counted (bash manual, Shell Variables; each was tried with bash 5.2)."""


def is_shell_name(key: str) -> bool:
    """Return whether a shell can have a variable of that name."""
    return _SHELL_NAME.fullmatch(key) is not None


def is_kept_by_shells(key: str) -> bool:
    """Return whether bash refuses, or does not export, a value for a variable of that name."""
    return _KEPT_BY_SHELLS.fullmatch(key) is not None


def has_expansion(text: str) -> bool:
    """Return whether python-dotenv would expand a variable in a text, in any quotes: ${ and } after it."""
    start = text.find("${")
    return start != -1 and text.find("}", start) != -1


@dataclass(frozen=True, kw_only=True)
class Binding:
    """
    A key of a file and its value.

    Attributes:
        line: the number of its line; of several lines the first.
        forms: those that programs read differently.
        comment: what follows # after a value in quotes; empty if nothing does.
    """

    key: str
    value: str = field(repr=False)
    line: int
    forms: list[Form]
    comment: str = field(repr=False)


class _Scanner:
    """Reads a text once, from start to end."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1

    def bindings(self) -> Iterator[Binding]:
        """Yield the key and value of each line. InvalidInputError."""
        while True:
            skipped = self._take(_SKIPPED)
            if self._at == len(self._text):
                return
            if self._text[self._at] == "#":
                self._take(_REST)
                continue
            yield self._binding(list(_forms_before(skipped)))

    def _binding(self, forms: list[Form]) -> Binding:
        line = self._line
        if _EXPORT.match(self._text, self._at):
            self._take(_EXPORT)
            forms.append(Form.EXPORT)
        key = self._name(forms)
        spaced = self._take(_BLANKS)
        if not self._text.startswith("=", self._at):
            _refuse(line, "has a key without a value" if self._ends() else "is not dotenv")
        self._at += 1
        after = self._take(_BLANKS)
        if spaced or (after and not self._ends()) or after.strip(" "):
            forms.append(Form.AROUND_EQUALS)
        value = self._value(forms, after=after)
        if not self._ends():
            _refuse(line, "is not dotenv")
        end = self._take(_END)
        if _keeps_return(end, cut=Form.CUT in forms):
            forms.append(Form.CARRIAGE_RETURN)
        return Binding(key=key, value=value, line=line, forms=forms, comment=end.partition("#")[2].strip())

    def _name(self, forms: list[Form]) -> str:
        quote = self._text[self._at : self._at + 1]
        pattern = _NAMES.get(quote, _NAMES[""])
        match = pattern.match(self._text, self._at)
        if match is None:
            _refuse(self._line, "is not dotenv")
        self._at = match.end()
        if quote in _QUOTED:
            forms.append(Form.QUOTED_NAME)
        if not is_shell_name(match[1]):
            forms.append(Form.NAME)
        elif is_kept_by_shells(match[1]):
            forms.append(Form.KEPT_BY_SHELLS)
        return match[1]

    def _value(self, forms: list[Form], *, after: str) -> str:
        first = self._text[self._at : self._at + 1]
        if first in {"", "\n", "\r"}:
            return ""
        if first == "#" and after:
            forms.append(Form.CUT)
            return ""
        if first not in _QUOTED:
            return self._unquoted(forms)
        match = _QUOTED[first].match(self._text, self._at)
        if match is None:
            _refuse(self._line, "is not dotenv: it has a quote that does not end")
        self._go(match.end())
        forms += _forms_in_quotes(match[1], first)
        if self._text.startswith("#", self._at):
            forms.append(Form.CUT)
        return _ESCAPES[first].sub(lambda escape: _MEANT.get(escape[1], escape[1]), match[1])

    def _unquoted(self, forms: list[Form]) -> str:
        part = self._take(_REST)
        comment = _COMMENT.search(part)
        kept = part if comment is None else part[: comment.start()]
        if comment is not None:
            forms.append(Form.CUT)
        value = kept.strip()
        if value != kept.strip(" "):
            forms.append(Form.SPACES)
        forms += _forms_without_quotes(value)
        return value

    def _ends(self) -> bool:
        """Return whether the rest of the line is empty or a comment."""
        return _END.match(self._text, self._at) is not None

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            return ""
        self._go(match.end())
        return match[0]

    def _go(self, end: int) -> None:
        self._line += sum(1 for _ in _NEWLINE.finditer(self._text, self._at, end))
        self._at = end


def _forms_before(skipped: str) -> Iterator[Form]:
    """Yield forms between two lines that not every program skips."""
    if skipped.endswith("\ufeff"):
        yield Form.BYTE_ORDER_MARK
    if _LONE_RETURN.search(skipped):
        yield Form.CARRIAGE_RETURN
    if skipped.rpartition("\n")[2].strip(" \r\ufeff"):
        yield Form.INDENT


def _keeps_return(end: str, *, cut: bool) -> bool:
    """Return whether a program reads the carriage return at the end of a line as a part of the value."""
    return end.endswith("\r") or (end.endswith("\r\n") and not cut and "#" not in end)


def _forms_in_quotes(body: str, quote: str) -> Iterator[Form]:
    if "\r" in body:
        yield Form.CARRIAGE_RETURN
    if quote == "'":
        if "\\\\" in body or "\\'" in body:
            yield Form.ESCAPES
        if has_expansion(body):
            yield Form.REFERENCE
        return
    if DISPUTED_ESCAPE.search(body):
        yield Form.ESCAPES
    if _VARIABLE.search(body):
        yield Form.REFERENCE
    if "`" in body:
        yield Form.BACKTICKS


def _forms_without_quotes(value: str) -> Iterator[Form]:
    if "#" in value:
        yield Form.HASH
    if any(character.isspace() for character in value):
        yield Form.SPACES
    if "'" in value or '"' in value:
        yield Form.QUOTES
    if "`" in value:
        yield Form.BACKTICKS
    if "\\" in value:
        yield Form.BACKSLASH
    if _VARIABLE.search(value) or "$'" in value or '$"' in value:
        yield Form.REFERENCE
    if _SHELL_OPERATORS.search(value):
        yield Form.SHELL


def _refuse(line: int, problem: str) -> NoReturn:
    raise InvalidInputError(f"line {line} {problem}", hint="KEY=VALUE on each line")


# --- writing

PYTHON: Final = "python-dotenv"
BASH: Final = "bash"
NODE: Final = "node --env-file"
NPM: Final = "npm dotenv"
COMPOSE: Final = "docker compose"
READERS: Final = (PYTHON, BASH, NODE, NPM, COMPOSE)

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:@%+,-]*")
_KEY: Final = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True, kw_only=True)
class DotenvLine:
    """
    A line of a file.

    Attributes:
        text: KEY=value and a line end.
        read_by: the programs that read the value from it.
    """

    text: str = field(repr=False)
    read_by: frozenset[str]

    @property
    def misread_by(self) -> tuple[str, ...]:
        """The programs that read another value, or none, in the order of `READERS`."""
        return tuple(reader for reader in READERS if reader not in self.read_by)


def is_dotenv_key(key: str) -> bool:
    """Return whether a dotenv file can have a key."""
    return _KEY.fullmatch(key) is not None


def dotenv_line(key: str, text: str) -> DotenvLine:
    """Return the line of one key. InvalidInputError if no program accepts the key."""
    if not is_dotenv_key(key):
        raise InvalidInputError(f"the key {key!r} cannot stand in a dotenv file", hint="add --format json")
    written, read_by = max(_candidates(text), key=lambda candidate: len(candidate[1]))
    if has_expansion(text):
        read_by -= {PYTHON}
    if not is_shell_name(key) or is_kept_by_shells(key):
        read_by -= {BASH}
    if "\0" in text:
        read_by &= {PYTHON}  # No environment variable can have it.
    return DotenvLine(text=f"{key}={written}\n", read_by=read_by)


def runs_in_shells(text: str) -> bool:
    """Return whether a shell that misreads a line may run a part of its value as a command."""
    return "$(" in text or "`" in text


def write_shell(values: Mapping[str, str]) -> str:
    """
    Return lines `export KEY='value'`, which sh and bash read exactly.

    Raises:
        InvalidInputError: a key that no shell accepts, or a value with a NUL. It names the key.
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
    """Return (form, programs that read the text from it), the plainest first."""
    if _PLAIN.fullmatch(text):
        return [(text, frozenset(READERS))]
    candidates = []
    returns = "\r" in text
    if not returns and "'" not in text and "\\\\" not in text and not text.endswith("\\"):
        candidates.append((f"'{text}'", frozenset(READERS)))
    if not returns and '"' not in text and not DISPUTED_ESCAPE.search(text) and not text.endswith("\\"):
        candidates.append((f'"{text}"', frozenset(READERS) - _expanded_by(text)))
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "\\r")
    candidates.append((f'"{escaped}"', _by_escapes_in_double_quotes(text)))
    if not returns:
        escaped = text.replace("\\", "\\\\").replace("'", "\\'")
        candidates.append((f"'{escaped}'", frozenset({PYTHON} if "\\" in text else {PYTHON, COMPOSE})))
    return candidates


def _by_escapes_in_double_quotes(text: str) -> frozenset[str]:
    read_by = {PYTHON, COMPOSE}
    if "\r" not in text:
        read_by.add(BASH)
    if '"' not in text and "\\" not in text:
        read_by.add(NPM)
    return frozenset(read_by) - _expanded_by(text)


def _expanded_by(text: str) -> frozenset[str]:
    """Return the programs that expand or run a part of a text in double quotes, or (bash) drop U+0001 and U+007F."""
    if "$" in text:
        return frozenset({BASH, COMPOSE})
    return frozenset({BASH}) if any(character in text for character in "`\x01\x7f") else frozenset()
