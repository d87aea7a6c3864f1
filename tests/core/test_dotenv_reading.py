"""Reading dotenv: what python-dotenv reads, in linear time, with a note where readers disagree."""

from __future__ import annotations

import time
from contextlib import suppress
from io import StringIO

import pytest
from dotenv.parser import parse_stream
from hypothesis import example, given
from hypothesis import strategies as st

from phasesync.core.dotenv import Form, read_dotenv
from phasesync.errors import InvalidInputError

lines = st.lists(
    st.text("AB_.=#'\"\\ \t`$xn{}:-\u00a0\u2028\x0b")
    | st.sampled_from(["A=1", "export B='x", "y'", "#", "C= # x", ""]),
    max_size=6,
)


@given(lines, st.sampled_from(["\n", "\r\n"]))
@example(["A= # x", "B=a\u00a0#b", "C=\u00a0x\u00a0"], "\n")
@example(["A='a", "b' # c"], "\r\n")
def test_values_are_those_of_python_dotenv(parts: list[str], end: str) -> None:
    """But for keys in double quotes. It too reads line ends of Windows as LF from a file."""
    text = end.join(parts) + end
    bindings = list(parse_stream(StringIO(text.replace("\r\n", "\n"))))
    expected = {one.key: one.value for one in bindings if one.key is not None}
    refused = any(one.error or (one.key is not None and one.value is None) for one in bindings)
    try:
        found = read_dotenv(text).values
    except InvalidInputError:
        assert refused or any('"' in key or "\n" in key for key in expected)
        return
    if not any(key.startswith('"') for key in expected):
        assert not refused
        assert found == expected


@pytest.mark.parametrize(
    ("text", "value", "forms"),
    [
        ("PW=abc # def", "abc", [Form.CUT]),
        ("PW= # def", "", [Form.CUT]),
        ("PW=abc\t#", "abc", [Form.CUT]),
        ("PW=#def", "#def", [Form.HASH]),
        ("PW=abc#def", "abc#def", [Form.HASH]),
        ("PW=a b", "a b", [Form.SPACES]),
        ("PW=\u00a0a", "a", [Form.AROUND_EQUALS]),
        ("PW=a\u00a0", "a", [Form.SPACES]),
        ("PW=a\t", "a", [Form.SPACES]),
        ("PW=\x0c", "", [Form.AROUND_EQUALS]),
        ("\tPW=a", "a", [Form.INDENT]),
        ("PW='a'#b", "a", [Form.CUT]),
        ("PW=$[1]", "$[1]", [Form.REFERENCE]),
        ("PW = a", "a", [Form.AROUND_EQUALS]),
        ("PW= a", "a", [Form.AROUND_EQUALS]),
        ("PW=it's", "it's", [Form.QUOTES]),
        ("PW=`a`", "`a`", [Form.BACKTICKS]),
        ('PW="`a`"', "`a`", [Form.BACKTICKS]),
        ("PW='`a`'", "`a`", []),
        (r"PW=C:\dir", r"C:\dir", [Form.BACKSLASH]),
        (r"PW='C:\dir'", r"C:\dir", []),
        (r"PW='a\\b'", r"a\b", [Form.ESCAPES]),
        (r"PW='a\'b'", "a'b", [Form.ESCAPES]),
        (r'PW="a\nb"', "a\nb", [Form.ESCAPES]),
        (r'PW="a\$b"', r"a\$b", [Form.ESCAPES, Form.REFERENCE]),
        (r'PW="a\db"', r"a\db", []),
        ("PW=$HOME", "$HOME", [Form.REFERENCE]),
        ('PW="${HOME}"', "${HOME}", [Form.REFERENCE]),
        ("PW='${HOME}'", "${HOME}", [Form.REFERENCE]),
        ("PW='$HOME'", "$HOME", []),
        ("PW=a$", "a$", []),
        ("PW=a;b", "a;b", [Form.SHELL]),
        ("PW=~/x", "~/x", [Form.SHELL]),
        ("PW='a\rb'", "a\rb", [Form.CARRIAGE_RETURN]),
        ("export PW=a", "a", [Form.EXPORT]),
        ('"PW"=a', "a", [Form.QUOTED_NAME]),
        ("'PW'=a", "a", [Form.QUOTED_NAME]),
        ("\ufeffPW=a", "a", [Form.BYTE_ORDER_MARK]),
        ("  PW=a", "a", []),
        ('PW="a" # def', "a", []),
        ("PW='a # def'", "a # def", []),
        ("PW='one\n# two\n'", "one\n# two\n", []),
        ("PW=", "", []),
    ],
)
def test_a_form_on_which_readers_disagree_is_noted(text: str, value: str, forms: list[Form]) -> None:
    found = read_dotenv(f"# first\n\n{text}\n")
    assert found.values == {"PW": value}
    assert [(note.form, note.key, note.line) for note in found.notes] == [(form, "PW", 3) for form in forms]


def test_duplicates_windows_line_ends_and_names_that_shells_cannot_have_are_noted() -> None:
    found = read_dotenv("A=1\r\nB='x\r\ny'\r\nA=2\r\nc-d=3\r\n")
    assert found.values == {"A": "2", "B": "x\ny", "c-d": "3"}
    assert [(note.form, note.key, note.line) for note in found.notes] == [
        (Form.WINDOWS, None, 1),
        (Form.DUPLICATE, "A", 4),
        (Form.NAME, "c-d", 5),
    ]


def test_a_carriage_return_at_the_end_of_a_line_among_others_is_noted() -> None:
    """bash and node read it as a part of the value; a lone one ends no line and no comment for them."""
    found = read_dotenv("A=1\r\nB='2'\r\nC=\r\nD=4 # x\r\nE=5\n# y\rF=6\nG=7\rH=8\n")
    assert found.values == {key: str(n) for n, key in enumerate("ABCDEFGH", 1)} | {"C": ""}
    noted = [note.key for note in found.notes if note.form is Form.CARRIAGE_RETURN]
    assert noted == ["A", "B", "C", "F", "G"]


@pytest.mark.parametrize("key", ["UID", "EUID", "GROUPS", "RANDOM", "SECONDS", "LINENO", "SHELLOPTS", "BASH_ARGV", "_"])
def test_a_name_that_bash_keeps_for_itself_is_noted(key: str) -> None:
    assert [note.form for note in read_dotenv(f"{key}=1\nX{key}=1\nBASH_ENV=1\n").notes] == [Form.KEPT_BY_SHELLS]


def test_a_byte_order_mark_at_the_start_of_a_line_is_dropped_and_one_elsewhere_is_not() -> None:
    assert read_dotenv("\ufeffA=1\n\ufeff B=\ufeff2\n").values == {"A": "1", "B": "\ufeff2"}
    assert list(read_dotenv("A\ufeff=1\n").values) == ["A\ufeff"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("A=1\n\ncanary\n", "line 3 has a key without a value"),
        ("canary: x\n", "line 1 is not dotenv"),
        ("A='x\ny'\nB='canary\n", "line 3 is not dotenv: it has a quote that does not end"),
        ("A='canary'x\n", "line 1 is not dotenv"),
        ("'canary=1\n", "line 1 is not dotenv"),
        ("=canary\n", "line 1 is not dotenv"),
    ],
)
def test_what_is_not_dotenv_is_refused_by_its_line(text: str, says: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read_dotenv(text)
    assert caught.value.message == says
    assert "canary" not in repr(caught.value)


N = 500_000


@pytest.mark.parametrize(
    "text",
    [
        "A=a" + " " * N + "b\n",
        "A=" + " " * N + "#\n",
        "A" + " " * N + "=1\n",
        " " * N + "A=1\n",
        "A='" + " " * N + "'" + " " * N + "x",
        "export" + " " * N,
        "A=" + " #" * N,
        "A='" + "\\" * N + "'\n",
        'A="' + "\\" * (N + 1) + '"\n',
        'A="' + "\\\"'" * N + '"\n',
        "A='" + '"' * N,
        "A=" + "'" * N + "\n",
        "A='" + "${" * N + "'\n",
        "A=" + "$`~;" * N + "\n",
        "A=1\n" * (N // 20),
        "\n" * N + "A",
        "\r" * N,
        "\ufeff" * N + "A=1",
        "'" * N,
        "#\n" * (N // 10),
        "A='\n'\n" * (N // 20),
    ],
    ids=lambda text: f"{text[:6]!r}…",
)
def test_the_time_is_linear(text: str) -> None:
    """A quadratic step would take minutes with half a million characters."""
    began = time.process_time()
    with suppress(InvalidInputError):
        read_dotenv(text)
    assert time.process_time() - began < 10
