"""Writing dotenv and shell: the quoting that most readers read as the same value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.dotenv import BASH, COMPOSE, NODE, NPM, PYTHON, READERS, dotenv_line, read_dotenv, write_shell
from phasesync.errors import InvalidInputError

texts = st.text() | st.text("ab'\"\\\n\r\t #=$`{}n")


@given(texts)
def test_what_is_written_is_read_as_it_was(text: str) -> None:
    assert read_dotenv(dotenv_line("K", text).text).values == {"K": text}


@given(texts)
def test_what_all_read_is_read_without_a_note(text: str) -> None:
    written = dotenv_line("K", text)
    if not written.misread_by:
        assert read_dotenv(written.text).notes == ()


@pytest.mark.parametrize(
    ("text", "line", "misread_by"),
    [
        ("", "K=", ()),
        ("a-b/c:1@x", "K=a-b/c:1@x", ()),
        ('a "b" $c `d` #e', """K='a "b" $c `d` #e'""", ()),
        ("one\ntwo\n", "K='one\ntwo\n'", ()),
        (r"C:\dir", r"K='C:\dir'", ()),
        ("it's #1", 'K="it\'s #1"', ()),
        (r"it's C:\dir", r'''K="it's C:\dir"''', ()),
        ('it\'s "x"', r'''K="it's \"x\""''', (NODE, NPM)),
        ("C:\\", r'K="C:\\"', (NODE, NPM)),
        (r"\\host", r'K="\\\\host"', (NODE, NPM)),
        ("a\r\nb", 'K="a\\r\nb"', (BASH, NODE)),
        ("it's $5", 'K="it\'s $5"', (BASH, COMPOSE)),
        ("it's `x`", 'K="it\'s `x`"', (BASH,)),
        ("it's \x7f", 'K="it\'s \x7f"', (BASH,)),
        ('it\'s "$5"', "K='it\\'s \"$5\"'", (BASH, NODE, NPM)),
        ("it's \"$5\\", 'K="it\'s \\"$5\\\\"', (BASH, NODE, NPM, COMPOSE)),
        ("${x}", "K='${x}'", (PYTHON,)),
        ("a\0", "K='a\0'", (BASH, NODE, NPM, COMPOSE)),
    ],
)
def test_the_quoting_that_most_readers_read_is_taken(text: str, line: str, misread_by: tuple[str, ...]) -> None:
    written = dotenv_line("K", text)
    assert (written.text, written.misread_by) == (f"{line}\n", misread_by)


def test_a_name_that_no_shell_has_is_not_read_by_bash() -> None:
    assert dotenv_line("a.b-c", "x").misread_by == (BASH,)
    assert set(READERS) == dotenv_line("a_b", "x").read_by


def test_a_name_that_bash_keeps_for_itself_is_not_read_by_bash() -> None:
    assert dotenv_line("UID", "1000").misread_by == (BASH,)
    with pytest.raises(InvalidInputError, match="bash keeps the variable UID for itself"):
        write_shell({"UID": "1000"})


def test_lines_for_shells_are_exact_or_refused() -> None:
    assert write_shell({"B": "it's $x\r\n", "A": ""}) == "export A=''\nexport B='it'\\''s $x\r\n'\n"
    for values in ({"a.b": "canary"}, {"1a": "canary"}, {"A": "canary\0"}):
        with pytest.raises(InvalidInputError) as caught:
            write_shell(values)
        assert "canary" not in caught.value.message
