"""
From an exception to the lines that an operator reads on stderr, and to the exit code; and signals that end a command.

An error is one line `error: ...` and a line `hint: ...` if there is a hint; a document has one line for each of its
problems. With `-o json` it is one JSON document. The text of an exception that is not ours is never printed: it may
contain a value.
"""

import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import NoReturn

import click

from phasesync.cli.streams import drop_stream, json_text, one_line, print_to_stderr, styled
from phasesync.core.counted import counted
from phasesync.core.names import without_keys, without_value
from phasesync.errors import DocumentError, PhasesyncError

USAGE = 2
INTERRUPTED = 130
BROKEN_PIPE = 1
OUTPUT_LOST = 1
BUG = 1


def report(error: BaseException, args: Sequence[str]) -> int:
    """
    Print an error for the operator.

    Args:
        error: what ended the command.
        args: the command line, which says whether to print JSON; the error may come from before it was parsed.

    Returns:
        The exit code.
    """
    match error:
        case click.exceptions.NoArgsIsHelpError():
            error.show()
            return USAGE
        case DocumentError():
            _print_problems(error, args)
            return error.exit_code
        case PhasesyncError():
            _print_error(type(error).__name__, error.message, error.hint, args)
            return error.exit_code
        case click.ClickException():
            _print_error(type(error).__name__, _message_of(error), _help_hint(error), args)
            return error.exit_code
        case click.Abort() | KeyboardInterrupt() | EOFError():
            _print_error("Interrupted", "interrupted", None, args)
            return INTERRUPTED
        case BrokenPipeError():
            drop_stream(sys.stdout)
            return BROKEN_PIPE
        case OSError() if _from_output(error):
            drop_stream(sys.stdout)
            _print_error(type(error).__name__, f"the output cannot be written: {error.strerror}", None, args)
            return OUTPUT_LOST
        case _:
            name = type(error).__name__
            _print_error(name, f"this is a bug in phasesync: {name}{_place(error.__traceback__)}", _DEBUG_HINT, args)
            if os.environ.get("PHASESYNC_DEBUG"):
                # Lines of the program only: neither the text of the exception nor any variable.
                click.echo("".join(traceback.format_tb(error.__traceback__)), err=True, nl=False)
            return BUG


_DEBUG_HINT = "PHASESYNC_DEBUG=1 shows where it happened; please report it"


def hide_unraisable() -> None:
    """
    Print nothing about an exception that nothing can catch, unless PHASESYNC_DEBUG asks for its place.

    Ctrl-C in the middle of a constructor of the standard library leaves half an object, and its finalizer then fails
    (http.client.HTTPResponse does). By default Python prints such an exception with its text.
    """

    def unraisable(args: "sys.UnraisableHookArgs") -> None:
        if os.environ.get("PHASESYNC_DEBUG"):
            click.echo("".join(traceback.format_tb(args.exc_traceback)), err=True, nl=False)

    sys.unraisablehook = unraisable


def wants_json(args: Sequence[str]) -> bool:
    """Return whether a command line asks for JSON output."""
    pairs = zip(args, [*args[1:], ""], strict=True)
    return any(
        arg in {"-ojson", "-o=json", "--output=json"} or (arg in {"-o", "--output"} and following == "json")
        for arg, following in pairs
    )


_SECRET_COMMANDS = ("secrets", "run")
"""Commands that deal with secret values. None of their options takes KEY=VALUE."""


def _without_values(text: str, args: Sequence[str]) -> str:
    """
    Return a text without the values of arguments KEY=VALUE.

    The value may be a secret, and click repeats arguments, as messages about files do. Options such as --tag take such
    pairs. So what follows an option stays as it is, unless the command deals with secret values.
    """
    everywhere = any(arg in _SECRET_COMMANDS for arg in args)
    for before, arg in zip(["", *args], args, strict=False):
        typed = arg.partition("=")[2] if arg.startswith("-") else arg
        shown = without_value(typed)
        if shown == typed or not (everywhere or (typed == arg and not before.startswith("-"))):
            continue
        for form in (typed, repr(typed)[1:-1]):
            text = text.replace(form, shown)
    return text


_MOST_PROBLEMS = 100
"""Lines that a person reads; with -o json there are all of them."""


def _print_problems(error: DocumentError, args: Sequence[str]) -> None:
    """Print one line for each thing that is wrong in a document."""
    if wants_json(args):
        document = {
            "error": {
                "class": type(error).__name__,
                "message": one_line(without_keys(error.message)),
                "hint": error.hint,
                "problems": [without_keys(problem) for problem in error.problems],
            }
        }
        print_to_stderr(json_text(json.dumps(document, ensure_ascii=False)))
        return
    for problem in error.problems[:_MOST_PROBLEMS]:
        print_to_stderr(f"{styled('error:', fg='red')} {one_line(without_keys(problem))}")
    if (more := len(error.problems) - _MOST_PROBLEMS) > 0:
        print_to_stderr(f"{styled('error:', fg='red')} {counted(more, 'more problem')} not shown")


def _print_error(name: str, message: str, hint: str | None, args: Sequence[str]) -> None:
    message = one_line(without_keys(_without_values(message, args)))
    hint = hint and without_keys(_without_values(hint, args))
    if wants_json(args):
        document = {"error": {"class": name, "message": message, "hint": hint}}
        lines = [json_text(json.dumps(document, ensure_ascii=False))]
    else:
        lines = [f"{styled('error:', fg='red')} {message}"]
        if hint:
            lines.append(f"{styled('hint:', fg='cyan')} {one_line(hint)}")
    for line in lines:
        print_to_stderr(line)  # On a full disk only the exit code is left.


def _from_output(error: OSError) -> bool:
    """Return whether an error came from printing, which is always done by click's echo."""
    return any(frame.f_code is click.echo.__code__ for frame, _ in traceback.walk_tb(error.__traceback__))


def _message_of(error: click.ClickException) -> str:
    if (option := _misplaced(error)) is not None:
        return f"{option.opts[0]} stands before the command"
    message = error.format_message()
    if message.startswith("Got unexpected extra argument"):
        # click repeats the argument, which may be a secret.
        return "there are too many arguments"
    for pattern, plain in _PLAINER:
        message = pattern.sub(plain, message)
    message = " ".join(message.split()).removesuffix(".")
    return message[:1].lower() + message[1:]


def _misplaced(error: click.ClickException) -> click.Parameter | None:
    """Return the option that a command does not have, and phasesync itself has; None if that is not the error."""
    if not isinstance(error, click.NoSuchOption) or error.ctx is None:
        return None
    root = error.ctx.find_root()
    if root is error.ctx:
        return None
    # --version and --help end the command as they are met, and have no place.
    with_value = (parameter for parameter in root.command.params if not parameter.is_eager)
    return next((parameter for parameter in with_value if error.option_name in parameter.opts), None)


_PLAINER = (
    (re.compile(r"is not in the range (\d+)<=x<=(\d+)"), r"is not between \1 and \2"),
    (re.compile(r"is not in the range x>=(\d+)"), r"is less than \1"),
    (re.compile(r"\. Choose from:\s*"), ": one of "),
    (re.compile(r",\s*\n\s*"), ", "),
)
"""Sentences of click that are hard to read -> plainer ones."""


def _help_hint(error: click.ClickException) -> str | None:
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None and (option := _misplaced(error)) is not None:
        root = context.find_root().command_path
        return f"{root} {option.opts[0]} {option.metavar}{context.command_path.removeprefix(root)} ..."
    return f"{context.command_path} --help" if context is not None else None


def _place(trace: TracebackType | None) -> str:
    """Return the innermost line of our own code, which a bug report needs."""
    ours = [
        f" at {frame.filename.rpartition('/phasesync/')[2]}:{frame.lineno}"
        for frame in traceback.extract_tb(trace)
        if "/phasesync/" in frame.filename
    ]
    return ours[-1] if ours else ""


_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def obey_signals_as_init() -> None:
    """
    Let SIGTERM and SIGHUP end the first process of a container, as they end any other.

    The kernel drops a signal to process 1 that has no handler (pid_namespaces(7)): `docker stop` would wait for its
    time-out and kill. Commands that handle these signals themselves set their own handlers.
    """
    if os.getpid() != 1:
        return
    for number in _ENDING_SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """End with the exit code that a shell gives for a signal; work in progress is undone on the way out."""
    sys.exit(128 + number)
