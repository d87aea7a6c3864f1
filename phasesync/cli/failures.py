"""
From an exception to what the operator reads on stderr, and to the exit code.

One line `error: ...` and, where there is one, a line `hint: ...`; with `-o json` one JSON document. The text of an
exception that is not ours is never shown: it may carry a value.

The end of a command's process: signals that would be ignored, and streams that nobody reads any more.
"""

import contextlib
import json
import os
import re
import signal
import sys
import traceback
import unicodedata
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import NoReturn, TextIO

import click

from phasesync.cli.streams import json_text
from phasesync.core.names import without_value
from phasesync.errors import PhasesyncError

USAGE = 2
INTERRUPTED = 130
BROKEN_PIPE = 1
OUTPUT_LOST = 1
BUG = 1


def report(error: BaseException, args: Sequence[str]) -> int:
    """
    Tell the operator about an error.

    Args:
        error: what ended the command.
        args: the command line, to see whether JSON was asked for: the error may have come before it was parsed.

    Returns:
        The exit code.
    """
    match error:
        case click.exceptions.NoArgsIsHelpError():
            error.show()
            return USAGE
        case PhasesyncError():
            _tell(type(error).__name__, error.message, error.hint, args)
            return error.exit_code
        case click.ClickException():
            _tell(type(error).__name__, _message_of(error), _help_hint(error), args)
            return error.exit_code
        case click.Abort() | KeyboardInterrupt() | EOFError():
            _tell("Interrupted", "interrupted", None, args)
            return INTERRUPTED
        case BrokenPipeError():
            _give_up(sys.stdout)
            return BROKEN_PIPE
        case OSError() if _from_output(error):
            _give_up(sys.stdout)
            _tell(type(error).__name__, f"the output cannot be written: {error.strerror}", None, args)
            return OUTPUT_LOST
        case _:
            name = type(error).__name__
            _tell(name, f"this is a bug in phasesync: {name}{_place(error.__traceback__)}", _DEBUG_HINT, args)
            if os.environ.get("PHASESYNC_DEBUG"):
                # The lines of the program, without the exception's text and without any variable.
                click.echo("".join(traceback.format_tb(error.__traceback__)), err=True, nl=False)
            return BUG


_DEBUG_HINT = "PHASESYNC_DEBUG=1 shows where it happened; please report it"


def hide_unraisable() -> None:
    """
    Have what is raised where nothing can catch it show nothing, unless PHASESYNC_DEBUG asks for its place.

    Ctrl-C in the middle of a constructor of the standard library leaves half an object, whose finalizer then fails
    (http.client.HTTPResponse does). By default Python prints such a failure with its text.
    """

    def unraisable(args: "sys.UnraisableHookArgs") -> None:
        if os.environ.get("PHASESYNC_DEBUG"):
            click.echo("".join(traceback.format_tb(args.exc_traceback)), err=True, nl=False)

    sys.unraisablehook = unraisable


def one_line(text: str) -> str:
    """Return a text without control characters: what a terminal would obey must not come from data."""
    return "".join(" " if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} else c for c in text)


def styled(text: str, *, fg: str | None = None, bold: bool | None = None) -> str:
    """
    Return a text with colours; as it is where a person or the terminal wants none.

    https://no-color.org: any value of NO_COLOR but an empty one. A terminal that calls itself dumb obeys no escape
    sequence. Where the stream is no terminal, click strips them.
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return click.style(text, fg=fg, bold=bold)


def tell(line: str) -> None:
    """Print a line on stderr. Where nobody can read it, what is being done goes on: this raises nothing."""
    try:
        click.echo(line, err=True)
    except OSError:
        # The descriptor stays as it is: a command that we run has it from us, and speaks for itself.
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for the life of the process
    except RuntimeError:
        return  # A signal's line, in the middle of another one: the stream takes no two at once.


def wants_json(args: Sequence[str]) -> bool:
    """Return whether a command line asks for JSON output."""
    pairs = zip(args, [*args[1:], ""], strict=True)
    return any(
        arg in {"-ojson", "-o=json", "--output=json"} or (arg in {"-o", "--output"} and following == "json")
        for arg, following in pairs
    )


_TAKE_VALUES = ("secrets", "run")
"""Commands whose users type values: none of their options takes KEY=VALUE."""


def _without_values(text: str, args: Sequence[str]) -> str:
    """
    Return a text without the values of arguments KEY=VALUE.

    Somebody may have typed a secret there, and click repeats arguments, as messages about files do. Options such as
    --tag take such pairs, so that what follows an option is left alone where no secret is expected.
    """
    everywhere = any(arg in _TAKE_VALUES for arg in args)
    for before, arg in zip(["", *args], args, strict=False):
        given = arg.partition("=")[2] if arg.startswith("-") else arg
        shown = without_value(given)
        if shown == given or not (everywhere or (given == arg and not before.startswith("-"))):
            continue
        for form in (given, repr(given)[1:-1]):
            text = text.replace(form, shown)
    return text


def _tell(name: str, message: str, hint: str | None, args: Sequence[str]) -> None:
    message = one_line(_without_values(message, args))
    hint = hint and _without_values(hint, args)
    if wants_json(args):
        document = {"error": {"class": name, "message": message, "hint": hint}}
        lines = [json_text(json.dumps(document, ensure_ascii=False))]
    else:
        lines = [f"{styled('error:', fg='red')} {message}"]
        if hint:
            lines.append(f"{styled('hint:', fg='cyan')} {one_line(hint)}")
    for line in lines:
        tell(line)  # on a full disk the exit code still tells


def _from_output(error: OSError) -> bool:
    """Return whether an error came from printing, which is always done by click's echo."""
    return any(frame.f_code is click.echo.__code__ for frame, _ in traceback.walk_tb(error.__traceback__))


def _give_up(stream: TextIO) -> None:
    """Nobody gets it any more; the interpreter must not complain about that, nor change the code, at its last flush."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _message_of(error: click.ClickException) -> str:
    message = error.format_message()
    if message.startswith("Got unexpected extra argument"):
        # click repeats the argument; somebody may have typed a secret there.
        return "there are too many arguments"
    for pattern, plain in _PLAINER:
        message = pattern.sub(plain, message)
    message = " ".join(message.split()).removesuffix(".")
    return message[:1].lower() + message[1:]


_PLAINER = (
    (re.compile(r"is not in the range (\d+)<=x<=(\d+)"), r"is not between \1 and \2"),
    (re.compile(r"is not in the range x>=(\d+)"), r"is less than \1"),
    (re.compile(r"\. Choose from:\s*"), ": one of "),
    (re.compile(r",\s*\n\s*"), ", "),
)
"""click's sentences that need a second reading -> plainer ones."""


def _help_hint(error: click.ClickException) -> str | None:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{context.command_path} --help" if context is not None else None


def _place(trace: TracebackType | None) -> str:
    """Name the innermost line of our own, without which a report of a bug is worth little."""
    ours = [
        f" at {frame.filename.rpartition('/phasesync/')[2]}:{frame.lineno}"
        for frame in traceback.extract_tb(trace)
        if "/phasesync/" in frame.filename
    ]
    return ours[-1] if ours else ""


_ENDING = (signal.SIGTERM, signal.SIGHUP)


def obey_signals_as_init() -> None:
    """
    Have SIGTERM and SIGHUP end the first process of a container, as they end any other.

    The kernel drops a signal to process 1 that has no handler (pid_namespaces(7)): `docker stop` would wait for its
    time-out and kill. Commands that handle these signals themselves set their own handlers.
    """
    if os.getpid() != 1:
        return
    for number in _ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)


def let_go_of_streams() -> None:
    """
    Flush what was printed; where nobody reads it any more, drop it.

    The interpreter flushes at its end, and would turn the exit code into 120 where that fails.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """End as a shell says of a process that a signal ended; what is under way is undone on the way out."""
    sys.exit(128 + number)
