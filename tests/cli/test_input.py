"""What a command asks for."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from phasesync.cli import input as asking
from phasesync.cli.input import MAX_BYTES, confirm, read_value, to_value
from phasesync.core.model import ValueType
from phasesync.errors import ConfirmationRequiredError, InvalidInputError, OperatorError
from tests.cli.conftest import typed


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(asking, "is_terminal", lambda: True)
    monkeypatch.setattr(asking, "ask_secret", typed)


def asked(question, stdin: bytes | str = b""):
    """Run something that asks; return its answer and what was printed."""
    answers = []

    @click.command()
    def command():
        answers.append(question())

    done = CliRunner().invoke(command, input=stdin)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return (answers or [None])[0], done


@pytest.mark.parametrize(
    ("stdin", "value"),
    [(b"x\n", b"x"), (b"x", b"x"), (b"x\n\n", b"x\n"), (b"x\r\n", b"x\r"), (b" \xff\x00 ", b" \xff\x00 ")],
)
def test_stdin_loses_one_final_newline_and_nothing_else(stdin, value):
    assert asked(lambda: read_value(key="K", from_stdin=True), stdin)[0] == value


@pytest.mark.parametrize("stdin", [b"", b"\n", b"\r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"])
def test_nothing_on_stdin_is_an_empty_value_only_where_that_is_said(stdin):
    with pytest.raises(InvalidInputError, match="nothing arrived on stdin") as caught:
        asked(lambda: read_value(key="K", from_stdin=True), stdin)
    assert "--allow-empty" in str(caught.value.hint)
    assert asked(lambda: read_value(key="K", from_stdin=True, allow_empty=True), stdin)[0] == stdin.removesuffix(b"\n")


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf"])
def test_an_empty_file_is_an_empty_value_only_where_that_is_said(tmp_path, content):
    file = tmp_path / "value"
    file.write_bytes(content)
    with pytest.raises(InvalidInputError, match="is empty"):
        read_value(key="K", from_file=file)
    assert read_value(key="K", from_file=file, allow_empty=True) == content


def test_an_empty_answer_is_an_empty_value_only_where_that_is_said(terminal):
    with pytest.raises(InvalidInputError, match="nothing was typed"):
        asked(lambda: read_value(key="K"), "\n")
    assert asked(lambda: read_value(key="K", allow_empty=True), "\n")[0] == b""


def test_a_file_is_taken_byte_for_byte(tmp_path):
    file = tmp_path / "value"
    file.write_bytes(b"\xffx\r\n\n")
    assert read_value(key="K", from_file=file) == b"\xffx\r\n\n"


def test_nobody_is_asked_where_no_terminal_is():
    with pytest.raises(InvalidInputError, match="there is no terminal to ask for K"):
        asked(lambda: read_value(key="K"), "x\n")


def test_nobody_is_asked_with_no_input(terminal):
    with pytest.raises(InvalidInputError):
        asked(lambda: read_value(key="K", no_input=True), "x\n")


def test_two_sources_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="not from both"):
        read_value(key="K", from_stdin=True, from_file=tmp_path)


def test_a_missing_file_and_a_directory_are_refused(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(InvalidInputError, match="cannot be read"):
            read_value(key="K", from_file=path)


def test_input_without_end_is_refused(tmp_path):
    file = tmp_path / "large"
    file.write_bytes(b"x" * (MAX_BYTES + 1))
    with pytest.raises(InvalidInputError, match="larger than"):
        read_value(key="K", from_file=file)


@pytest.mark.parametrize("type_", [ValueType.TEXT, ValueType.JSON])
def test_a_value_that_is_not_what_its_type_says_is_refused_without_showing_it(type_):
    with pytest.raises(InvalidInputError) as caught:
        to_value(b"canary\xff", type_)
    assert "canary" not in repr(caught.value)
    assert caught.value.__cause__ is None


def test_binary_takes_any_bytes():
    assert to_value(b"\xff", ValueType.BINARY).reveal() == b"\xff"


def test_json_is_kept_as_it_was_written():
    assert to_value(b'{"b": 1.0, "a": 2}', ValueType.JSON).reveal() == b'{"b": 1.0, "a": 2}'


def test_yes_needs_no_question():
    asked(lambda: confirm("remove it", yes=True, no_input=True))


@pytest.mark.parametrize("no_input", [True, False])
def test_without_a_terminal_a_confirmation_is_required(no_input):
    with pytest.raises(ConfirmationRequiredError, match="remove it"):
        asked(lambda: confirm("remove it", yes=False, no_input=no_input), "y\n")


def test_an_answer_is_asked_for_on_stderr(terminal):
    _, done = asked(lambda: confirm("remove it", yes=False, no_input=False), "y\n")
    assert "remove it?" in done.stderr
    assert done.stdout == ""


def test_no_means_no(terminal):
    with pytest.raises(OperatorError, match="nothing was changed"):
        asked(lambda: confirm("remove it", yes=False, no_input=False), "n\n")
