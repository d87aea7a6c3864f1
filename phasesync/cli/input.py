"""
What a command asks for: secret values and confirmations.

Values come from a prompt without echo, from stdin or from a file, never from arguments: those are seen by every user
of the machine and kept in the shell's history.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from phasesync.core.canonical import parse_json_document
from phasesync.core.model import SecretValue, ValueType
from phasesync.errors import ConfirmationRequiredError, InvalidInputError, OperatorError

F = TypeVar("F", bound=Callable[..., Any])

MAX_BYTES = 1_048_576
"""What is read at most of a file or stdin: sixteen times what AWS takes."""


def is_terminal() -> bool:
    """Return whether somebody is there to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def no_input_option(command: F) -> F:
    """Add `--no-input`."""
    return click.option("--no-input", is_flag=True, help="Never ask; fail where an answer is needed.")(command)


def confirmation_options(command: F) -> F:
    """Add `--yes` and `--no-input`."""
    return click.option("-y", "--yes", is_flag=True, help="Do it without asking.")(no_input_option(command))


def never_asks(command: F) -> F:
    """Accept `--yes` and `--no-input` where nothing is asked, so that scripts may give them everywhere."""
    for names in (("--no-input",), ("-y", "--yes")):
        command = click.option(*names, is_flag=True, hidden=True, expose_value=False)(command)
    return command


def confirm(question: str, *, yes: bool, no_input: bool) -> None:
    """
    Ask before something that cannot be taken back.

    Args:
        question: what will happen, as a question without its mark.
        yes: the answer was given with the command.
        no_input: nobody is to be asked.

    Raises:
        ConfirmationRequiredError: nobody is there to answer.
        OperatorError: the answer was no.
    """
    if yes:
        return
    if no_input or not is_terminal():
        raise ConfirmationRequiredError(f"this needs a confirmation: {question}")
    if not click.confirm(f"{question}?", err=True):
        raise OperatorError("not confirmed; nothing was changed")


def confirm_by_name(question: str, name: str, *, yes: bool, no_input: bool) -> None:
    """
    Have a name typed before something that nothing can undo.

    Args:
        question: what will happen.
        name: what has to be typed.
        yes: the answer was given with the command.
        no_input: nobody is to be asked.

    Raises:
        ConfirmationRequiredError: nobody is there to answer.
        OperatorError: another name was typed.
    """
    if yes:
        return
    if no_input or not is_terminal():
        raise ConfirmationRequiredError(f"this needs a confirmation: {question}")
    answer: str = click.prompt(f"{question}; type its name to go on", default="", show_default=False, err=True)
    if answer != name:
        raise OperatorError("not confirmed; nothing was changed")


def read_value(
    *,
    what: str,
    from_stdin: bool = False,
    from_file: Path | None = None,
    no_input: bool = False,
    stdin_without_terminal: bool = False,
) -> bytes:
    """
    Read a secret value.

    Args:
        what: what to ask for in a prompt.
        from_stdin: read stdin, without one final newline.
        from_file: read this file, byte for byte.
        no_input: do not prompt.
        stdin_without_terminal: read stdin also unasked, where no terminal is.

    Raises:
        InvalidInputError: nobody is there to ask, too much, or a file that cannot be read.
    """
    if from_stdin and from_file is not None:
        raise InvalidInputError("take the value from stdin or from a file, not from both")
    if from_file is not None:
        return read_file(from_file)
    if from_stdin or (stdin_without_terminal and not is_terminal()):
        return read_stdin().removesuffix(b"\n")
    if no_input or not is_terminal():
        raise InvalidInputError(f"nobody is there to ask for {what}", hint="give - to read stdin, or --from-file FILE")
    answer: str = click.prompt(what, hide_input=True, err=True)
    return _encoded(answer)


def read_file(path: Path) -> bytes:
    """Read a file, byte for byte. InvalidInputError."""
    try:
        with path.open("rb") as file:
            return _bounded(file.read(MAX_BYTES + 1))
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}") from None


def text_of(file: str) -> str:
    """Read a file of text. InvalidInputError."""
    try:
        return read_file(Path(file)).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidInputError(f"{file} is not UTF-8 text") from None


def read_stdin() -> bytes:
    """Read stdin to its end. InvalidInputError."""
    try:
        return _bounded(sys.stdin.buffer.read(MAX_BYTES + 1))
    except OSError as error:
        raise InvalidInputError(f"stdin cannot be read: {error.strerror}") from None


def to_value(data: bytes, type_: ValueType) -> SecretValue:
    """Make a value of its bytes. InvalidInputError where they are not what the type says; never shows them."""
    if type_ is ValueType.TEXT:
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidInputError("the value is not UTF-8 text", hint="add --type binary") from None
    elif type_ is ValueType.JSON:
        parse_json_document(data)
    return SecretValue(data, type_)


def _encoded(answer: str) -> bytes:
    try:
        return answer.encode("utf-8")
    except UnicodeEncodeError:
        # What a terminal with another encoding sends; the encoder's error carries it.
        raise InvalidInputError("the value is not UTF-8 text", hint="read it from a file: --from-file FILE") from None


def _bounded(data: bytes) -> bytes:
    if len(data) > MAX_BYTES:
        raise InvalidInputError(f"the input is larger than {MAX_BYTES:,} bytes")
    return data
