"""Files of secrets."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.cli.formats import Format, format_of, read, write
from phasesync.core.model import EnvironmentSnapshot, SecretValue, ValueType
from phasesync.core.references import resolve
from phasesync.errors import InvalidInputError

keys = st.text("ABCabc019_.-", min_size=1, max_size=8)
texts = st.text() | st.text("ab'\"\\\n\r\t #=$`{}é")


def reveal(values):
    return {key: (value.type, value.reveal_text()) for key, value in values.items()}


def resolved(values):
    """What a folder with these values gives, references resolved."""
    environment = EnvironmentSnapshot(
        environment_id="1", app="a", name="e", revision=1, secrets={("/", key): value for key, value in values.items()}
    )
    found = resolve(environment, "/", {})
    assert found.complete
    return reveal(found.values)


@given(st.dictionaries(keys, texts, max_size=4), st.sampled_from(Format))
def test_text_that_was_written_is_read_as_it_was(values, format_):
    written = write({key: SecretValue(value) for key, value in values.items()}, format_)
    found = read(written.encode(), format_)
    assert resolved(found) == {key: (ValueType.TEXT, value) for key, value in values.items()}


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    # Names that begin like ours are refused: an export marks values with them.
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text().filter(lambda name: not name.startswith("phasesync:")), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(keys, documents, max_size=4))
def test_a_json_object_is_imported_and_exported_as_it_was(document):
    found = read(json.dumps(document).encode(), Format.JSON)
    literal = {key: SecretValue(text, type_) for key, (type_, text) in resolved(found).items()}
    assert json.loads(write(literal, Format.JSON)) == document
    assert {key for key, value in found.items() if value.type is ValueType.TEXT} == {
        key for key, value in document.items() if isinstance(value, str)
    }


def test_a_dotenv_file_as_people_write_it():
    text = """
# a comment
PLAIN=value
export EXPORTED=yes   # not part of it
SINGLE='a $HOME ${HOME} "b"'
DOUBLE="line 1\\nline 2"
MULTI='one
two'
EMPTY=
SPACED = around
PLAIN=later
"""
    assert reveal(read(text.encode(), Format.DOTENV)) == {
        key: (ValueType.TEXT, value)
        for key, value in {
            "PLAIN": "later",
            "EXPORTED": "yes",
            "SINGLE": 'a $HOME $${HOME} "b"',
            "DOUBLE": "line 1\nline 2",
            "MULTI": "one\ntwo",
            "EMPTY": "",
            "SPACED": "around",
        }.items()
    }


def test_windows_line_ends_and_a_byte_order_mark_do_no_harm():
    assert reveal(read(b"\xef\xbb\xbfA=1\r\nB=2\r\n", Format.DOTENV)) == {
        "A": (ValueType.TEXT, "1"),
        "B": (ValueType.TEXT, "2"),
    }


def test_the_environment_is_not_interpolated(monkeypatch):
    monkeypatch.setenv("HOME", "/leak")
    assert reveal(read(b'A="${HOME}"\n', Format.DOTENV)) == {"A": (ValueType.TEXT, "$${HOME}")}


def test_numbers_keep_their_digits():
    found = read(b'{"N": 1.10, "L": [1e5]}', Format.JSON)
    assert reveal(found) == {"N": (ValueType.JSON, "1.10"), "L": (ValueType.JSON, "[1e5]")}
    assert write(found, Format.JSON) == '{"L":[1e5],"N":1.10}\n'


def test_binary_is_written_as_base64():
    values = {"B": SecretValue(b"\xff\x00", ValueType.BINARY)}
    assert write(values, Format.DOTENV) == "B='/wA='\n"
    assert write(values, Format.JSON) == '{"B":"/wA="}\n'


@pytest.mark.parametrize(
    ("data", "format_", "says"),
    [
        (b"canary", Format.DOTENV, "line 1 has a key without a value"),
        (b"A=1\nB='canary\n", Format.DOTENV, "line 2 is not dotenv"),
        (b"A=canary\xff", Format.DOTENV, "not UTF-8"),
        (b'["canary"]', Format.JSON, "one JSON object"),
        (b'{"A": canary}', Format.JSON, "line 1, column 7"),
        (b'{"A": "canary", "A": 1}', Format.JSON, "the same key twice"),
        (b'{"": "canary"}', Format.JSON, "1 to 255 characters"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_without_showing_it(data, format_, says):
    with pytest.raises(InvalidInputError) as caught:
        read(data, format_)
    assert says in caught.value.message
    assert "canary" not in repr(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("key", ["a b", "a=b", "a'b", "ü", "#a"])
def test_a_key_that_dotenv_cannot_hold_is_refused(key):
    with pytest.raises(InvalidInputError, match="cannot stand in a dotenv file"):
        write({key: SecretValue("x")}, Format.DOTENV)
    assert json.loads(write({key: SecretValue("x")}, Format.JSON)) == {key: "x"}


@pytest.mark.parametrize(
    ("name", "format_"), [("x.json", "json"), ("X.JSON", "json"), (".env", "dotenv"), ("-", "dotenv"), ("x", "dotenv")]
)
def test_the_format_follows_from_the_name(name, format_):
    assert format_of(name) == format_
