"""A folder as a text: what was written reads back the same, and what cannot be read exactly is refused by its line."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.folder_text import entries_of_text, text_of_entries
from phasesync.core.model import SecretValue, ValueType
from phasesync.core.secret_json import FileEntry
from phasesync.errors import InvalidInputError

CANARY = "cnry-value-77"

letters = st.characters(exclude_categories=["Cs"])
keys = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
texts = st.text(letters, max_size=40) | st.sampled_from(
    ["", " ", "'", '"', "# x", "a #b", "${A}", "$${", "a\nb\r\n", "\\"]
)
values = st.one_of(
    texts.map(SecretValue),
    st.binary(max_size=20).map(lambda data: SecretValue(data, ValueType.BINARY)),
    st.binary(max_size=20).map(SecretValue),
    st.sampled_from(["[1]", '{"a": "b #c"}', ' "x" ', "null"]).map(lambda text: SecretValue(text, ValueType.JSON)),
)
comments = st.text(letters, max_size=20) | st.sampled_from(["", "[json] x", '"quoted', "[binary]", "a # b", " x "])
entries = st.builds(lambda value, comment: FileEntry(value=value, comment=comment), values, comments)


def entry(value: str | bytes, comment: str = "", type_: ValueType = ValueType.TEXT) -> FileEntry:
    return FileEntry(value=SecretValue(value, type_), comment=comment)


@given(st.dictionaries(keys, entries, max_size=5))
def test_what_was_written_reads_back_the_same(shown: dict[str, FileEntry]) -> None:
    assert entries_of_text(text_of_entries(shown, ["for the reader", "", "KEY=value"]), shown) == shown


@given(st.dictionaries(keys, entries, min_size=1, max_size=4), st.data())
def test_a_removed_line_removes_all_of_its_key_and_nothing_else(
    shown: dict[str, FileEntry], data: st.DataObject
) -> None:
    gone = data.draw(st.sampled_from(sorted(shown)))
    rest = {key: value for key, value in shown.items() if key != gone}
    assert entries_of_text(text_of_entries(rest, []), shown).keys() - shown.keys() == set()
    left = entries_of_text(text_of_entries(rest, []), rest)
    assert left == rest


def test_the_text_is_plain_dotenv_with_comments_and_types() -> None:
    shown = {
        "URL": entry("postgres://${USER}@db"),
        "PORT": entry("5432", "as on the host"),
        "LIMITS": entry('{"max": 5}', "why", ValueType.JSON),
        "KEY": entry("line 1\nline 2\n"),
        "CERT": entry(b"\xff" * 1024, "of the host", ValueType.BINARY),
    }
    assert text_of_entries(shown, ["head"]).splitlines() == [
        "# head",
        "",
        "CERT='(binary, 1,024 bytes)'  # [binary] of the host",
        "KEY='line 1",
        "line 2",
        "'",
        "LIMITS='{\"max\": 5}'  # [json] why",
        "PORT='5432'  # as on the host",
        "URL='postgres://${USER}@db'",
    ]


def test_what_is_typed_is_taken_as_it_stands() -> None:
    shown = {"A": entry("1", "old"), "J": entry("[1]", "", ValueType.JSON), "B": entry(b"\xff", "", ValueType.BINARY)}
    typed = "A=${J}x\r\nJ='[1]'\r\nB='(binary, 1 bytes)' # [binary] now with a comment\r\nNEW=\"a\nb\" # [json]\r\n"
    with pytest.raises(InvalidInputError, match="line 4 has a value that is not a JSON document"):
        entries_of_text(typed, shown)
    assert entries_of_text(typed.replace("[json]", "for tests"), shown) == {
        "A": entry("${J}x"),
        "J": entry("[1]"),
        "B": entry(b"\xff", "now with a comment", ValueType.BINARY),
        "NEW": entry("a\nb", "for tests"),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"A=1\n{CANARY}\n", "line 2 has a key without a value"),
        (f"A=1\nB='{CANARY}\n", "line 2 is not dotenv: it has a quote that does not end"),
        (f"A=1\nB={CANARY}\nA={CANARY}\n", "line 3 names a key for the second time"),
        (f"A={CANARY} # a remark\n", "line 1 has a # after a value without quotes"),
        (f"A='{CANARY}'# a remark\n", "line 1 has a # after a value without quotes"),
        (f"X=1\nB='{CANARY}' # [binary]\n", "line 2 has a value that cannot be typed here"),
        (f"NEW='{CANARY}' # [kept]\n", "line 1 has a value that cannot be typed here"),
        (f"A={CANARY}\n'\u200b{CANARY}'=x\n", "line 2 has a key that is not valid"),
        (f"A='{CANARY}' # \"no end\n", 'line 1 has a comment that begins with " and is no JSON string'),
        (f"A='{CANARY}' # [json]\n", "line 1 has a value that is not a JSON document"),
    ],
)
def test_what_cannot_be_read_exactly_is_refused_by_its_line(text: str, message: str) -> None:
    shown = {"A": entry("1"), "B": entry(b"\xff", "", ValueType.BINARY)}
    with pytest.raises(InvalidInputError, match=re.escape(message)) as refused:
        entries_of_text(text, shown)
    assert CANARY not in f"{refused.value.message}{refused.value.hint}"
