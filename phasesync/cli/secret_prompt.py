"""
Asks a person at a terminal for a secret value, without echo. The value is taken as a whole or not at all.

A terminal in line mode cuts each line at 4,095 bytes (Linux; 1,024 on macOS, MAX_CANON in POSIX), and silently ends the
answer at the first line end of pasted text. So characters are read one by one, with the terminal's bracketed paste:
everything between its two marks is content, line ends included. A second line right after the answer shows that more
was pasted: the terminal has no marks, or the pasted text contains the closing mark. Then nothing is taken.

However the prompt ends, the terminal gets its former settings back.
"""

import os
import select
import signal
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final

from phasesync.cli.streams import one_line, print_to_stderr
from phasesync.errors import InvalidInputError

QUIET_S = 0.5
"""The rest of a paste follows its first line within this time, even over a slow connection. A person is slower."""
SIGNAL_CHECK_S: Final = 0.2
"""Longest time until a signal is handled."""
_DISCARDED_BYTES: Final = 64 * 1_048_576
"""Most bytes that are discarded, so that a terminal that never stops does not block us."""

_SIGNALS: Final = {"interrupt": signal.SIGINT, "stop": signal.SIGTSTP, "quit": signal.SIGQUIT}
"""Key -> the signal that we send for it, since the terminal does not."""

_PASTE_ON: Final = "\x1b[?2004h"
_PASTE_OFF: Final = "\x1b[?2004l"
_PASTE_BEGINS: Final = b"\x1b[200~"
_PASTE_ENDS: Final = b"\x1b[201~"

_STOPPING: Final[tuple[int, ...]] = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP)


def ask_secret(subject: str, *, max_bytes: int, otherwise: str) -> bytes:
    """
    Ask for a value at the terminal that is stdin; the prompt goes to stderr.

    Enter ends the answer. Pasted line ends become line feeds. The line end of a single pasted line is dropped; several
    lines are kept as they are.

    Args:
        subject: what to ask for.
        max_bytes: the most that is taken.
        otherwise: the hint if the answer cannot be taken: how to give the value without a terminal.

    Raises:
        InvalidInputError: several lines without bracketed paste, a control character, not UTF-8, or too much. Nothing
            of the answer is kept, and the rest of the paste is discarded.
        KeyboardInterrupt: Ctrl-C.
        EOFError: Ctrl-D without an answer, or the terminal is gone.
    """
    fd = sys.stdin.fileno()
    prompt = f"{one_line(subject)}: "
    try:
        former = termios.tcgetattr(fd)
    except termios.error:
        raise InvalidInputError("stdin is no terminal that can be asked", hint=otherwise) from None
    with _without_echo(fd, former, prompt) as show:
        if _ready(fd, 0):
            _discard(fd)
            print_to_stderr("what was typed before the prompt is discarded")
        show()
        try:
            answer = _Answer(former, max_bytes).read(fd)
        except BaseException as error:
            if isinstance(error, InvalidInputError):
                error.hint = otherwise
            # The rest of a secret must not become commands of the shell.
            _discard(fd)
            raise
    lines = answer.count(b"\n") + (not answer.endswith(b"\n"))
    if lines > 1:
        print_to_stderr(f"{lines} lines, {len(answer):,} bytes")
    return answer


class _Answer:
    """The answer so far, and how each byte changes it."""

    def __init__(self, settings: list[Any], max_bytes: int) -> None:
        """
        Args:
            settings: of the terminal, as in termios: they define the editing characters.
            max_bytes: the most that is taken.
        """
        self._taken = bytearray()
        self._max_bytes = max_bytes
        self._brackets = False
        """The terminal has shown that it marks what is pasted."""
        self._keys = _editing_keys(settings[6])

    def read(self, fd: int) -> bytes:
        """Read until Enter. The errors of `ask_secret`."""
        unread = bytearray()
        while True:
            if not unread:
                unread += _chunk(fd)
            if unread[:1] == b"\x1b":
                self._paste(fd, unread)
            elif self._ends(unread):
                self._refuse_more_lines(fd, unread)
                return self._checked()

    def _ends(self, unread: bytearray) -> bool:
        """Take one byte; return whether it ends the answer."""
        byte = unread[:1]
        del unread[:1]
        if byte in b"\r\n":
            return True
        key = self._keys.get(bytes(byte))
        if key == "eof":
            if not self._taken:
                raise EOFError
            return True
        if key is not None and key in _SIGNALS:
            signal_group(_SIGNALS[key])
        elif key is not None:
            _edit(self._taken, key)
        elif byte < b" " and byte != b"\t":
            raise InvalidInputError("a control character or a special key was typed: nothing is stored")
        else:
            self._take(byte)
        return False

    def _paste(self, fd: int, unread: bytearray) -> None:
        """Take the text between the marks of bracketed paste; refuse any other escape sequence."""
        while len(unread) < len(_PASTE_BEGINS) and _PASTE_BEGINS.startswith(unread) and _ready(fd, QUIET_S):
            unread += _chunk(fd)
        if not unread.startswith(_PASTE_BEGINS):
            raise InvalidInputError("a special key, such as an arrow, was typed: nothing is stored")
        self._brackets = True
        del unread[: len(_PASTE_BEGINS)]
        pasted = bytearray()
        while (end := unread.find(_PASTE_ENDS)) == -1:
            # The mark may be only partly read yet.
            kept = max(0, len(unread) - len(_PASTE_ENDS) + 1)
            pasted += unread[:kept]
            del unread[:kept]
            self._check_length(len(pasted))
            more = _chunk(fd)
            if self._keys.get(more) == "interrupt":
                signal_group(signal.SIGINT)  # The closing mark was lost. Typed alone, this key is not content.
            unread += more
        pasted += unread[:end]
        del unread[: end + len(_PASTE_ENDS)]
        # Terminals send a line end as Enter does.
        pasted = pasted.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        self._take(pasted)

    def _refuse_more_lines(self, fd: int, unread: bytearray) -> None:
        """
        Refuse the answer if another line follows at once. More line ends alone do not count.

        With bracketed paste too: not every terminal removes the closing mark from pasted text.
        """
        while not unread.strip(b"\r\n") and _ready(fd, QUIET_S):
            unread += _chunk(fd)
        if not unread.strip(b"\r\n"):
            return
        if self._brackets:
            raise InvalidInputError("more input follows the line that ends the answer: nothing is taken")
        raise InvalidInputError("several lines were pasted, and the terminal has no bracketed paste: nothing is stored")

    def _take(self, content: bytes | bytearray) -> None:
        self._check_length(len(content))
        self._taken += content

    def _check_length(self, more: int) -> None:
        if len(self._taken) + more > self._max_bytes:
            raise InvalidInputError(f"the input is larger than {self._max_bytes:,} bytes")

    def _checked(self) -> bytes:
        if self._taken.count(b"\n") == 1 and self._taken.endswith(b"\n"):
            # A line that was copied with its end, which is not part of a password.
            self._taken.pop()
        if b"\0" in self._taken:
            raise InvalidInputError("a NUL character was pasted: nothing is stored")
        try:
            self._taken.decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidInputError("what was typed is not UTF-8 text: the terminal has another encoding") from None
        return bytes(self._taken)


def signal_group(number: int) -> None:
    """
    Send a signal to all processes that a terminal would send it to: our script, and the others of a pipeline.

    Raises:
        KeyboardInterrupt: by Python's handler, for SIGINT.
    """
    os.killpg(os.getpgrp(), number)


def _edit(taken: bytearray, key: str) -> None:
    """Erase a character, a word or everything."""
    if key == "kill":
        taken.clear()
        return
    if key == "word":
        kept = taken.rstrip()
        del taken[max(kept.rfind(b" "), kept.rfind(b"\n"), kept.rfind(b"\t")) + 1 :]
        return
    while taken and 0x80 <= taken[-1] < 0xC0:
        taken.pop()  # The continuation bytes of one UTF-8 character.
    del taken[-1:]


def _editing_keys(characters: list[bytes]) -> dict[bytes, str]:
    """Return byte -> action: as the terminal is set, and both forms of backspace whatever is set."""
    keys = {b"\x7f": "erase", b"\x08": "erase"}
    for index, action in (
        (termios.VERASE, "erase"),
        (termios.VWERASE, "word"),
        (termios.VKILL, "kill"),
        (termios.VEOF, "eof"),
        (termios.VSUSP, "stop"),
        (termios.VQUIT, "quit"),
        (termios.VINTR, "interrupt"),
    ):
        if characters[index] not in (b"\0", b"\xff"):  # _POSIX_VDISABLE of Linux, and of others.
            keys[characters[index]] = action
    return keys


def _chunk(fd: int) -> bytes:
    """Read what has arrived, at least one byte. EOFError if the terminal is gone."""
    # A signal just before a read does not interrupt the read: its handler would wait for the next key.
    while not _ready(fd, SIGNAL_CHECK_S):
        pass
    try:
        chunk = os.read(fd, 65_536)
    except OSError:
        raise EOFError from None
    if not chunk:
        raise EOFError
    return chunk


def _ready(fd: int, within_s: float) -> bool:
    return bool(select.select([fd], [], [], within_s)[0])


def _discard(fd: int) -> None:
    """Read and drop the rest of a paste, until nothing more arrives."""
    left = _DISCARDED_BYTES
    with suppress(EOFError):
        while left > 0 and _ready(fd, QUIET_S):
            left -= len(_chunk(fd))


@contextmanager
def _without_echo(fd: int, former: list[Any], prompt: str) -> Iterator[Callable[[], None]]:
    """
    Turn off echo and line mode of the terminal; restore it at the end, and at a signal that ends or stops us.

    Yields:
        A function that shows the prompt and asks for bracketed paste.
    """
    brackets = os.environ.get("TERM", "") not in {"", "dumb"}
    shown = False

    def show() -> None:
        nonlocal shown
        shown = True
        _write((_PASTE_ON if brackets else "") + prompt)

    def unset() -> None:
        if shown and brackets:
            _write(_PASTE_OFF)
        # If the terminal has hung up, there is nothing to restore.
        with suppress(termios.error):
            termios.tcsetattr(fd, termios.TCSADRAIN, former)

    def stopped(number: int, _frame: FrameType | None) -> None:
        unset()
        ours = signal.signal(number, handlers[number])
        os.kill(os.getpid(), number)
        # Only after SIGTSTP does the process go on.
        signal.signal(number, ours)
        termios.tcsetattr(fd, termios.TCSADRAIN, _raw_settings(former))
        show()

    handlers: dict[int, Any] = {}
    try:
        for number in _STOPPING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                handlers[number] = signal.getsignal(number)
                signal.signal(number, stopped)
        termios.tcsetattr(fd, termios.TCSADRAIN, _raw_settings(former))
        yield show
    finally:
        unset()
        if shown:
            _write("\n")
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _raw_settings(settings: list[Any]) -> list[Any]:
    """Return terminal settings without line mode and echo."""
    changed = [*settings[:6], list(settings[6])]
    changed[0] &= ~(termios.ICRNL | termios.INLCR | termios.IGNCR | termios.ISTRIP | termios.IXON | termios.INPCK)
    changed[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    changed[6][termios.VMIN], changed[6][termios.VTIME] = 1, 0
    return changed


def _write(text: str) -> None:
    """Write to the terminal. A failure shows at the next read."""
    with suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()
