"""Asking for a secret at a real terminal: whole, or not at all."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from phasesync.cli import secret_prompt
from phasesync.cli.input import confirm, read_stdin
from phasesync.cli.secret_prompt import ask_secret
from phasesync.errors import InvalidInputError, OperatorError

PEM = "-----BEGIN KEY-----\n{}\n-----END KEY-----\n"
LONG_PEM = PEM.format("\n".join("A" * 64 for _ in range(28)))
PROMPT = b"KEY: "
LIMIT_S = 20


def in_brackets(text: str) -> bytes:
    """What a terminal with bracketed paste sends: its marks, and Enter's character for each line end."""
    return b"\x1b[200~" + text.replace("\n", "\r").encode() + b"\x1b[201~"


def until(condition: Callable[[], bool]) -> None:
    """Wait for something."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class Terminal:
    """The far end of a terminal: somebody who types as soon as the prompt is there."""

    def __init__(self) -> None:
        self.far, self.near = os.openpty()
        self.shown = b""
        self._done = threading.Event()

    def types(self, *keys: bytes) -> None:
        """Type, in the background, once there is a prompt."""
        self._typist = threading.Thread(target=self._type, args=(keys,), daemon=True)
        self._typist.start()

    def _type(self, keys: tuple[bytes, ...]) -> None:
        waiting, prompted = b"", False
        end = time.monotonic() + LIMIT_S
        left = list(keys)
        while not self._done.is_set() and time.monotonic() < end:
            readable, writable, _ = select.select([self.far], [self.far] if waiting else [], [], 0.01)
            if readable:
                self.shown += os.read(self.far, 65_536)
            prompted = prompted or PROMPT in self.shown
            if prompted and not waiting and left:
                waiting = left.pop(0)
            if writable:
                waiting = waiting[os.write(self.far, waiting[:512]) :]

    def settings(self) -> list[object]:
        return termios.tcgetattr(self.near)

    def close(self) -> None:
        """Hang up."""
        self._done.set()
        self._typist.join(LIMIT_S)
        for descriptor in (self.far, self.near):
            with suppress(OSError):
                os.close(descriptor)

    def left(self) -> bytes:
        """What would be read next, by the shell: nothing of a secret."""
        changed = termios.tcgetattr(self.near)
        changed[3] &= ~termios.ICANON
        changed[6][termios.VMIN], changed[6][termios.VTIME] = 0, 0
        termios.tcsetattr(self.near, termios.TCSANOW, changed)
        return os.read(self.near, 65_536)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A terminal that is stdin and stderr."""
    made = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(secret_prompt, "QUIET_S", 0.1)
    monkeypatch.setattr(secret_prompt, "signal_group", signal.raise_signal)  # The group is that of the whole suite.
    yield made
    made.close()


@pytest.fixture
def ask(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bytes]:
    """Ask while somebody types; the terminal is afterwards as it was before."""

    def asking(*keys: bytes) -> bytes:
        before = terminal.settings()
        terminal.types(*keys)
        try:
            # In the test itself: before it, pytest sets streams of its own.
            with (
                monkeypatch.context() as patch,
                open(os.dup(terminal.near)) as stdin,
                open(os.dup(terminal.near), "w") as stderr,
            ):
                patch.setattr(sys, "stdin", stdin)
                patch.setattr(sys, "stderr", stderr)
                return ask_secret("KEY", max_bytes=100_000, otherwise="--from-file FILE")
        finally:
            assert terminal.settings() == before

    return asking


@pytest.mark.parametrize(
    "text",
    [PEM.format("MIIcanary"), LONG_PEM, "canary" * 834, "x" * 4095, "x" * 4096, "x" * 70_000, "ü€😀" * 2_000],
    ids=["three lines", "thirty lines", "5,004", "4,095", "4,096", "70,000", "UTF-8"],
)
def test_what_is_pasted_is_taken_whole(ask: Callable[..., bytes], terminal: Terminal, text: str) -> None:
    assert ask(in_brackets(text), b"\r") == text.encode()
    assert b"canary" not in terminal.shown
    assert b"\x1b[?2004h" in terminal.shown


@pytest.mark.parametrize("length", [4_094, 4_095, 4_096, 5_000, 70_000])
def test_a_long_line_is_taken_whole_without_bracketed_paste(ask: Callable[..., bytes], length: int) -> None:
    text = (b"0123456789" * 7_000)[:length]
    assert ask(text + b"\r") == text


@pytest.mark.parametrize("end", [b"\r", b"\n"])
@pytest.mark.parametrize("text", [PEM.format("MIIcanary"), LONG_PEM, "canary" * 1_000 + "\nx"])
def test_several_lines_without_bracketed_paste_are_refused_and_discarded(
    ask: Callable[..., bytes], terminal: Terminal, text: str, end: bytes
) -> None:
    with pytest.raises(InvalidInputError, match="several lines were pasted") as caught:
        ask(text.encode().replace(b"\n", end))
    assert "--from-file" in str(caught.value.hint)
    assert "canary" not in str(caught.value)
    assert terminal.left() == b""


@pytest.mark.parametrize("rest", [b"\rcanary-2\rcanary-3", b"canary\ncanary-2", b"\r\n\rcanary-2"])
def test_a_paste_that_holds_the_mark_of_its_end_is_refused_and_discarded(
    ask: Callable[..., bytes], terminal: Terminal, rest: bytes
) -> None:
    with pytest.raises(InvalidInputError, match="more input follows"):
        ask(in_brackets("canary-1") + rest + b"\x1b[201~")
    assert terminal.left() == b""


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (b"secret\r", b"secret"),
        (b"secret\n", b"secret"),
        (b"secret\r\n", b"secret"),
        (b"secret\r\r", b"secret"),
        (b"secret\x04", b"secret"),
        (b"sexx\x7f\x08cret\r", b"secret"),
        ("sü€😀".encode() + b"\x7f\x7f\x7fecret\r", b"secret"),
        (b"\x7f\x7fsecret\r", b"secret"),
        (b"wrong\x15secret\r", b"secret"),
        (b"two wrong\x17words\r", b"two words"),
        (b" a\tb \r", b" a\tb "),
        (b"\r", b""),
        (in_brackets("one line\n") + b"\r", b"one line"),
        (in_brackets("\n\n") + b"\r", b"\n\n"),
        (b"a" + in_brackets("b\nc") + b"d" + in_brackets("e") + b"\r", b"ab\ncde"),
        (in_brackets("a\x1b[31m\x03\x04\x15b") + b"\r", b"a\x1b[31m\x03\x04\x15b"),
        (b"\x1b[200~a\r\nb\x1b[201~\r", b"a\nb"),
    ],
)
def test_keys_edit_as_at_every_prompt_and_what_is_pasted_is_content(
    ask: Callable[..., bytes], keys: bytes, value: bytes
) -> None:
    assert ask(keys) == value


def test_marks_that_arrive_in_pieces_are_marks(ask: Callable[..., bytes]) -> None:
    assert ask(*(bytes([byte]) for byte in in_brackets("a\nb")), b"\r") == b"a\nb"


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (b"a\x1b[Ab\r", "special key"),
        (b"a\x1b", "special key"),
        (b"a\x00b\r", "control character"),
        (b"a\x01b\r", "control character"),
        (in_brackets("a\x00b") + b"\r", "NUL"),
        (b"gr\xfc\xdfe\r", "not UTF-8"),
        (in_brackets("x" * 100_001) + b"\r", "larger than"),
        (b"x" * 100_001 + b"\r", "larger than"),
    ],
)
def test_what_cannot_be_taken_as_it_was_typed_is_refused(
    ask: Callable[..., bytes], terminal: Terminal, keys: bytes, says: str
) -> None:
    with pytest.raises(InvalidInputError, match=says):
        ask(keys)
    assert terminal.left() == b""


@pytest.mark.parametrize(
    ("keys", "error"), [(b"ab\x03", KeyboardInterrupt), (b"\x04", EOFError), (b"ab\x7f\x7f\x04", EOFError)]
)
def test_nothing_is_taken_of_what_is_broken_off(
    ask: Callable[..., bytes], keys: bytes, error: type[BaseException]
) -> None:
    with pytest.raises(error):
        ask(keys)


def test_a_paste_without_an_end_can_be_broken_off(ask: Callable[..., bytes], terminal: Terminal) -> None:
    threading.Timer(0.3, lambda: os.write(terminal.far, b"\x03")).start()
    with pytest.raises(KeyboardInterrupt):
        ask(b"\x1b[200~a\rb")


def test_what_was_typed_before_the_prompt_is_not_part_of_the_answer(
    ask: Callable[..., bytes], terminal: Terminal
) -> None:
    os.write(terminal.far, b"ls\nfirst half of a sec")
    assert ask(b"secret\r") == b"secret"
    assert b"is discarded" in terminal.shown


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_terminal_that_knows_no_sequences_gets_none(
    ask: Callable[..., bytes], terminal: Terminal, monkeypatch: pytest.MonkeyPatch, term: str
) -> None:
    monkeypatch.setenv("TERM", term)
    assert ask(b"secret\r") == b"secret"
    assert b"\x1b" not in terminal.shown


def test_how_many_lines_were_taken_is_said(ask: Callable[..., bytes], terminal: Terminal) -> None:
    ask(in_brackets(LONG_PEM), b"\r")
    until(lambda: re.search(rb"30 lines, [0-9,]+ bytes", terminal.shown) is not None)


@pytest.fixture
def at_terminal(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], object]:
    """Run something that reads lines at the terminal."""

    def run(question: Callable[[], object]) -> object:
        with monkeypatch.context() as patch, open(os.dup(terminal.near)) as stdin:
            patch.setattr(sys, "stdin", stdin)
            patch.setattr("phasesync.cli.input.is_terminal", lambda: True)
            return question()

    return run


@pytest.mark.parametrize(("length", "whole"), [(4_000, True), (4_094, False), (4_095, False), (9_000, False)])
@pytest.mark.skipif(sys.platform != "linux", reason="the length is that of Linux")
def test_a_line_of_stdin_that_the_terminal_may_have_cut_is_refused(
    at_terminal: Callable[[Callable[[], object]], object], terminal: Terminal, length: int, whole: bool
) -> None:
    terminal.types()
    os.write(terminal.far, b"a\n" + b"x" * length)
    os.write(terminal.far, b"\n\x04")
    if whole:
        assert at_terminal(read_stdin) == b"a\n" + b"x" * length + b"\n"
    else:
        with pytest.raises(InvalidInputError, match="may have cut it"):
            at_terminal(read_stdin)


@pytest.mark.parametrize(
    ("answer", "confirmed"), [(b"y\n", True), (b"n\n", False), (b"x\n", False), (b"y\ny\n", False)]
)
def test_a_question_takes_one_line_that_was_typed_after_it(
    at_terminal: Callable[[Callable[[], object]], object], terminal: Terminal, answer: bytes, confirmed: bool
) -> None:
    """What was pasted before the question, or more than an answer, removes nothing."""
    terminal.types()
    os.write(terminal.far, b"y\nyes\n")
    asked = threading.Event()

    def type_later() -> None:
        asked.wait(LIMIT_S)
        os.write(terminal.far, answer)

    threading.Thread(target=type_later).start()

    def ask_now(*_: object, **__: object) -> str:
        asked.set()
        line = sys.stdin.readline()
        return line.removesuffix("\n")

    def question() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("click.prompt", ask_now)
            confirm("remove it", yes=False, no_input=False)

    if confirmed:
        at_terminal(question)
    else:
        with pytest.raises(OperatorError, match="nothing was changed"):
            at_terminal(question)


ASK = "from phasesync.cli.secret_prompt import ask_secret; print(len(ask_secret('KEY', max_bytes=99, otherwise='')))"


@pytest.fixture
def asking() -> Iterator[tuple[subprocess.Popen[bytes], Terminal]]:
    """A process that is asking at a terminal."""
    made = Terminal()
    made.types()
    process = subprocess.Popen(
        [sys.executable, "-c", ASK],
        stdin=made.near,
        stderr=made.near,
        stdout=subprocess.PIPE,
        process_group=0,
        env=os.environ | {"TERM": "xterm"},
    )
    try:
        until(lambda: PROMPT in made.shown)
        yield process, made
    finally:
        process.kill()
        process.communicate()
        made.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_that_ends_us_sets_the_terminal_back(
    asking: tuple[subprocess.Popen[bytes], Terminal], number: signal.Signals
) -> None:
    process, terminal = asking
    assert not int(str(terminal.settings()[3])) & termios.ECHO
    process.send_signal(number)
    assert process.wait(LIMIT_S) == -number
    assert int(str(terminal.settings()[3])) & termios.ECHO
    until(lambda: b"\x1b[?2004l" in terminal.shown)


@pytest.mark.parametrize("by_key", [True, False])
def test_while_we_are_stopped_the_terminal_is_the_shells(
    asking: tuple[subprocess.Popen[bytes], Terminal], by_key: bool
) -> None:
    process, terminal = asking
    os.write(terminal.far, b"abc")
    if by_key:
        os.write(terminal.far, b"\x1a")
    else:
        process.send_signal(signal.SIGTSTP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    assert int(str(terminal.settings()[3])) & termios.ECHO
    process.send_signal(signal.SIGCONT)
    until(lambda: terminal.shown.count(PROMPT) == 2)
    assert not int(str(terminal.settings()[3])) & termios.ECHO
    os.write(terminal.far, b"d\r")
    assert process.communicate(timeout=LIMIT_S)[0].strip() == b"4"
