"""
What a command asks for: secret values and confirmations.

Values come from a prompt without echo, from stdin or from a file, never from arguments: every user of the machine can
see those, and the shell keeps them in its history.
"""

import codecs
import select
import sys
import termios
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from phasesync.cli.dry_run import is_dry_run
from phasesync.cli.secret_prompt import ask_secret
from phasesync.cli.streams import one_line, print_to_stderr
from phasesync.core.canonical_json import parse_json_document
from phasesync.core.model import SecretValue, ValueType
from phasesync.errors import ConfirmationRequiredError, InvalidInputError, OperatorError

F = TypeVar("F", bound=Callable[..., Any])

MAX_BYTES = 1_048_576
"""Most bytes that are read from a prompt, a file or stdin: sixteen times what AWS takes."""

_OTHERWISE = "give - after the key to read stdin, or --from-file FILE"

_LONGEST_LINE = (1_024 if sys.platform == "darwin" else 4_096) - 2
"""
A terminal in line mode may cut a line from this length on: it keeps one byte or two for the line end.
Linux: N_TTY_BUF_SIZE in n_tty.c; macOS: MAX_CANON. POSIX's pathconf says 255 on Linux, which is wrong.
"""


def is_terminal() -> bool:
    """Return whether a person can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def no_input_option(command: F) -> F:
    """Add `--no-input`."""
    return click.option("--no-input", is_flag=True, help="Never ask; fail if an answer is needed.")(command)


def confirmation_options(command: F) -> F:
    """Add `--yes` and `--no-input`."""
    return click.option("-y", "--yes", is_flag=True, help="Do it without asking.")(no_input_option(command))


def never_asks(command: F) -> F:
    """Accept `--yes` and `--no-input` for a command that never asks, so that scripts can use them everywhere."""
    for names in (("--no-input",), ("-y", "--yes")):
        command = click.option(*names, is_flag=True, hidden=True, expose_value=False)(command)
    return command


def confirm(question: str, *, yes: bool, no_input: bool) -> None:
    """
    Ask for a confirmation before something that cannot be undone.

    Args:
        question: what will happen, as a question without its mark.
        yes: the command line has the answer.
        no_input: do not ask.

    Raises:
        ConfirmationRequiredError: there is no terminal to ask on.
        OperatorError: the answer was no.
    """
    if yes or _is_not_asked(question):
        return
    if no_input or not is_terminal():
        raise ConfirmationRequiredError(f"this needs a confirmation: {question}")
    if _answer(f"{question}? [y/N]").lower() not in {"y", "yes"}:
        raise OperatorError("not confirmed; nothing was changed")


def confirm_by_name(question: str, name: str, *, yes: bool, no_input: bool) -> None:
    """
    Ask for a name to be typed, before something that nothing can undo.

    Args:
        question: what will happen.
        name: what has to be typed.
        yes: the command line has the answer.
        no_input: do not ask.

    Raises:
        ConfirmationRequiredError: there is no terminal to ask on.
        OperatorError: another name was typed.
    """
    if yes or _is_not_asked(question):
        return
    if no_input or not is_terminal():
        raise ConfirmationRequiredError(f"this needs a confirmation: {question}")
    if _answer(f"{question}; type its name to go on") != name:
        raise OperatorError("not confirmed; nothing was changed")


def ask_yes(question: str) -> bool:
    """Ask a question at the terminal; Enter alone means yes."""
    return _answer(f"{question}? [Y/n]").lower() not in {"n", "no"}


def _is_not_asked(question: str) -> bool:
    """Return whether the command is rehearsed; then say what it would ask."""
    if is_dry_run():
        print_to_stderr(f"it would ask first: {one_line(question)}?")
    return is_dry_run()


def _answer(question: str) -> str:
    """Ask for one line. Lines that were pasted, before the question or with the answer, do not count."""
    _drop_typed()
    answer: str = click.prompt(question, default="", show_default=False, err=True)
    if _drop_typed():
        raise OperatorError("several lines arrived in place of one answer; nothing was changed")
    return answer.strip()


def _drop_typed() -> bool:
    """Drop input of the terminal that was not read yet; return whether there was any."""
    try:
        waiting = bool(select.select([sys.stdin.fileno()], [], [], 0)[0])
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
    except (OSError, ValueError, termios.error):
        return False  # It has hung up, or is not a terminal: what is wrong shows when it is read.
    return waiting


def read_value(
    *,
    key: str,
    from_stdin: bool = False,
    from_file: Path | None = None,
    no_input: bool = False,
    allow_empty: bool = False,
) -> bytes:
    """
    Read a secret value. Missing input counts as an empty value only with `allow_empty`.

    Args:
        key: the key of the secret, for the prompt and for messages.
        from_stdin: read stdin, without one final newline.
        from_file: read this file, byte for byte.
        no_input: do not prompt.
        allow_empty: accept an empty value.

    Raises:
        InvalidInputError: there is no terminal to ask on, no input or too much, or the file cannot be read.
    """
    if from_stdin and from_file is not None:
        raise InvalidInputError("take the value from stdin or from a file, not from both")
    if from_file is not None:
        value, source = read_file(from_file), f"{from_file} is empty"
    elif from_stdin:
        value, source = read_stdin().removesuffix(b"\n"), "nothing arrived on stdin"
    elif no_input or not is_terminal():
        raise InvalidInputError(f"there is no terminal to ask for {key}", hint=_OTHERWISE)
    else:
        value, source = ask_secret(key, max_bytes=MAX_BYTES, otherwise=_OTHERWISE), "nothing was typed"
    empty = (b"", b"\r") if from_stdin else (b"",)
    _check_not_empty(key, value, allow_empty=allow_empty, empty=empty, source=source)
    return value


def read_values(keys: Sequence[str], *, null: bool = False, allow_empty: bool = False) -> list[bytes]:
    """
    Read the values of several keys from stdin, in their order: one line each.

    Args:
        keys: the keys.
        null: each value ends with a NUL character in place of a line end, which may be left out after the last one.
        allow_empty: accept empty values.

    Raises:
        InvalidInputError: there are more or fewer values than keys, one is empty, or too much arrived.
    """
    end, name = (b"\0", "NUL-terminated values") if null else (b"\n", "lines")
    data = read_stdin(MAX_BYTES * len(keys))
    values = data.removesuffix(end).split(end) if data else []
    if len(values) != len(keys):
        hint = "printf '%s\\0' for each, with --null" if null else "one line a key; values of several lines: --null"
        count = f"{len(values)} of them" if values else "nothing"
        raise InvalidInputError(f"{len(keys)} {name} are expected on stdin, and {count} arrived", hint=hint)
    for key, value in zip(keys, values, strict=True):
        _bounded(value, MAX_BYTES)
        _check_not_empty(key, value, allow_empty=allow_empty, empty=(b"", b"\r"), source="nothing arrived on stdin")
    return values


def _check_not_empty(key: str, value: bytes, *, allow_empty: bool, empty: tuple[bytes, ...], source: str) -> None:
    # A failed command leaves this, and `echo "$UNSET"` does. On Windows it comes with a byte order mark and a CR.
    if not allow_empty and value.removeprefix(codecs.BOM_UTF8) in empty:
        raise InvalidInputError(f"{source}: {key} would become empty", hint="an empty value needs --allow-empty")


def read_file(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Read a file, byte for byte. InvalidInputError."""
    try:
        with path.open("rb") as file:
            return _bounded(file.read(max_bytes + 1), max_bytes)
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}") from None


def text_of(file: str) -> str:
    """Read a file of text. InvalidInputError."""
    try:
        return read_file(Path(file)).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidInputError(f"{file} is not UTF-8 text") from None


def read_stdin(max_bytes: int = MAX_BYTES) -> bytes:
    """Read stdin to its end. InvalidInputError."""
    try:
        data = _bounded(sys.stdin.buffer.read(max_bytes + 1), max_bytes)
    except OSError as error:
        raise InvalidInputError(f"stdin cannot be read: {error.strerror}") from None
    if sys.stdin.isatty() and any(len(line) >= _LONGEST_LINE for line in data.split(b"\n")):
        raise InvalidInputError(
            "a line is so long that the terminal may have cut it: nothing is stored",
            hint="leave - out to be asked at a prompt, or give --from-file FILE",
        )
    return data


def to_value(data: bytes, type_: ValueType) -> SecretValue:
    """Return the value of some bytes. InvalidInputError if they are not of the type; the error never shows them."""
    if type_ is ValueType.TEXT:
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidInputError("the value is not UTF-8 text", hint="add --type binary") from None
    elif type_ is ValueType.JSON:
        parse_json_document(data)
    return SecretValue(data, type_)


def _bounded(data: bytes, max_bytes: int) -> bytes:
    if len(data) > max_bytes:
        raise InvalidInputError(f"the input is larger than {max_bytes:,} bytes")
    return data
