"""
Standard streams: data leaves as exact bytes, text is UTF-8 whatever the locale, closed streams get a place holder.

`write_data` is the one way for values, documents and policies to stdout. Printing helpers change what they print: they
strip escape sequences where stdout is no terminal, translate line ends, and encode as the locale says.
"""

import json
import os
import re
import sys
import unicodedata
from collections.abc import Sequence
from typing import Final

import click

from phasesync.errors import InvalidInputError

_OBEYED: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]")
"""Control characters, C1 too, in UTF-8; but tab, line feed and carriage return."""

_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def fill_closed_streams() -> None:
    """
    Give each stream that the caller closed (`>&-`) a descriptor of the wrong direction, so that its use is an error.

    Without one the next file that is opened would take the number of the stream, and whatever is printed would go into
    it.
    """
    if sys.stdin is None:
        sys.stdin = open(os.open(os.devnull, os.O_WRONLY))  # noqa: SIM115 - for the life of the process
    if sys.stdout is None:
        sys.stdout = open(os.open(os.devnull, os.O_RDONLY), "w")  # noqa: SIM115 - for the life of the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for the life of the process


def use_utf8() -> None:
    """
    Have arguments, file names, variables and streams be UTF-8, whatever the locale says.

    Python decodes arguments and encodes a child's variables as the locale says. What it decoded as Latin-1 is other
    text by then, so the process starts again, in Python's UTF-8 mode (PEP 540; the default from Python 3.15 on, PEP
    686). The mode is given as an argument and not as a variable: our children keep their own.
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
    # Of bytes, click's echo changes none; and an error of its is known as one of the output.
    click.echo(data if isinstance(data, bytes) else data.encode("utf-8"), nl=False)


def write_values(values: bytes | str, *, hint: str) -> None:
    """
    Write secret values to stdout, byte for byte.

    A terminal that somebody looks at must not obey what is in a value: there, control characters are refused.

    Args:
        values: what to write; text as UTF-8.
        hint: how to get it otherwise.

    Raises:
        InvalidInputError: stdout is a terminal, and would obey something in the data.
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
    Return a JSON text that means the same and in which a terminal finds nothing to obey.

    Characters that are invisible, or steer a terminal, are escaped; so are lone surrogates, which have no UTF-8 form
    (file names that are not UTF-8 have them).
    """
    if text.isascii() and "\x7f" not in text:
        return text  # JSON has escaped the others already.
    return "".join(
        json.dumps(character)[1:-1]
        if character != "\n" and (character == "\x7f" or unicodedata.category(character) in _INVISIBLE)
        else character
        for character in text
    )


def _other_encoding() -> bool:
    return sys.getfilesystemencoding().lower().replace("_", "-") not in {"utf-8", "utf8"}
