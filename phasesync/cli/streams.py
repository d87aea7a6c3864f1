"""
Standard streams: data is written byte for byte, text is UTF-8 whatever the locale, closed streams get a place holder.

`write_data` is the one way for values, documents and policies to stdout. Functions that print change what they print:
they strip escape sequences if stdout is not a terminal, translate line ends, and encode as the locale says.
"""

import contextlib
import json
import os
import re
import sys
import unicodedata
from collections.abc import Sequence
from typing import Final, TextIO

import click

from phasesync.errors import InvalidInputError

_OBEYED: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]")
"""Control characters in UTF-8, C1 too, except tab, line feed and carriage return."""

_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def fill_closed_streams() -> None:
    """
    Give each stream that the caller closed (`>&-`) a descriptor of the wrong direction, so that its use is an error.

    Otherwise the next opened file would get the number of the stream, and printed text would go into that file.
    """
    if sys.stdin is None:
        sys.stdin = open(os.open(os.devnull, os.O_WRONLY))  # noqa: SIM115 - for the life of the process
    if sys.stdout is None:
        sys.stdout = open(os.open(os.devnull, os.O_RDONLY), "w")  # noqa: SIM115 - for the life of the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for the life of the process


def use_utf8() -> None:
    """
    Use UTF-8 for arguments, file names, variables and streams, whatever the locale says.

    Python decodes arguments and encodes the variables of a child as the locale says. Text that was decoded as Latin-1
    is wrong by now, so the process starts again in Python's UTF-8 mode (PEP 540; the default from Python 3.15 on, PEP
    686). The mode is an argument and not a variable, so that child processes keep their own.
    """
    if _other_encoding() and not sys.flags.utf8_mode and sys.executable:
        os.execv(sys.executable, utf8_command(sys.executable, sys.orig_argv))  # noqa: S606 - ourselves, no shell
    # PYTHONIOENCODING holds in UTF-8 mode too.
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "strict"), (sys.stderr, "backslashreplace")):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors=errors)


def utf8_command(executable: str, argv: Sequence[str]) -> list[str]:
    """Return the command line of a Python process, in UTF-8 mode."""
    return [executable, "-X", "utf8", *argv[1:]]


def write_data(data: bytes | str) -> None:
    """Write data to stdout, byte for byte; text as UTF-8. Nothing is added."""
    # click's echo leaves bytes as they are, and its errors are recognised as errors of the output.
    click.echo(data if isinstance(data, bytes) else data.encode("utf-8"), nl=False)


def write_values(values: bytes | str, *, hint: str) -> None:
    """
    Write secret values to stdout, byte for byte.

    A value must not control the terminal, so on a terminal control characters are refused.

    Args:
        values: what to write; text as UTF-8.
        hint: how to get the values otherwise.

    Raises:
        InvalidInputError: stdout is a terminal, and the data has control characters.
    """
    data = values if isinstance(values, bytes) else values.encode("utf-8")
    if not sys.stdout.isatty():
        write_data(data)
        return
    if _OBEYED.search(data):
        raise InvalidInputError("the output has control characters, which would disturb the terminal", hint=hint)
    # The prompt goes on a line of its own.
    write_data(data if data.endswith(b"\n") else data + b"\n")


def json_text(text: str) -> str:
    """
    Return a JSON text with the same meaning that cannot control a terminal.

    Invisible and control characters are escaped. So are lone surrogates, which have no UTF-8 form; file names that are
    not UTF-8 contain them.
    """
    if text.isascii() and "\x7f" not in text:
        return text  # JSON has escaped the others already.
    return "".join(
        json.dumps(character)[1:-1]
        if character != "\n" and (character == "\x7f" or unicodedata.category(character) in _INVISIBLE)
        else character
        for character in text
    )


def one_line(text: str) -> str:
    """Return a text without control characters: data must not control the terminal."""
    return "".join(" " if unicodedata.category(c) in _INVISIBLE else c for c in text)


def styled(text: str, *, fg: str | None = None, bold: bool | None = None) -> str:
    """
    Return a text with colours; unchanged if the operator or the terminal does not want them.

    https://no-color.org: any value of NO_COLOR but an empty one. A terminal of type dumb understands no escape
    sequences. If the stream is not a terminal, click strips them.
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return click.style(text, fg=fg, bold=bold)


def print_to_stderr(line: str) -> None:
    """Print a line on stderr. If it cannot be written, the command goes on: this raises nothing."""
    try:
        click.echo(line, err=True)
    except OSError:
        # The descriptor stays as it is: a command that we run inherits it, and reports for itself.
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for the life of the process
    except RuntimeError:
        return  # A signal handler prints while another line is being printed: the stream refuses that.


def release_streams() -> None:
    """
    Flush what was printed, and drop what cannot be written any more.

    The interpreter flushes at its end. If that fails, it changes the exit code to 120.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            drop_stream(stream)


def drop_stream(stream: TextIO) -> None:
    """Let a stream that cannot be written end in /dev/null, so that the last flush neither complains nor fails."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _other_encoding() -> bool:
    return sys.getfilesystemencoding().lower().replace("_", "-") not in {"utf-8", "utf8"}
