"""Values as an export holds them; round trips of all kinds of them are in `tests/cli/test_round_trips.py`."""

from __future__ import annotations

import json

import pytest

from phasesync.core.model import SecretValue, ValueType
from phasesync.core.secret_json import FileEntry, entries_of_json, export_json, literal_value
from phasesync.errors import InvalidInputError

CANARY = "canary"


@pytest.mark.parametrize(
    ("value", "comment", "member"),
    [
        (SecretValue("text"), "", "text"),
        (SecretValue(""), "", ""),
        (SecretValue('{"phasesync:type":"text","value":"x"}'), "", '{"phasesync:type":"text","value":"x"}'),
        (SecretValue("text"), "why", {"phasesync:type": "text", "value": "text", "comment": "why"}),
        (SecretValue("${A}"), "", {"phasesync:type": "text", "value": "${A}"}),
        (SecretValue("$${A}"), "", {"phasesync:type": "text", "value": "$${A}"}),
        (SecretValue('{"a":[1,null]}', ValueType.JSON), "", {"a": [1, None]}),
        (SecretValue("true", ValueType.JSON), "", True),
        (SecretValue("null", ValueType.JSON), "", {"phasesync:type": "json", "value": "null"}),
        (SecretValue('"x"', ValueType.JSON), "", {"phasesync:type": "json", "value": '"x"'}),
        (SecretValue('{"a": 1}', ValueType.JSON), "", {"phasesync:type": "json", "value": '{"a": 1}'}),
        (SecretValue('["${A}"]', ValueType.JSON), "", {"phasesync:type": "json", "value": '["${A}"]'}),
        (
            SecretValue('{"phasesync:type":"text","value":"x"}', ValueType.JSON),
            "",
            {"phasesync:type": "json", "value": '{"phasesync:type":"text","value":"x"}'},
        ),
        (SecretValue(b"\xff\x00", ValueType.BINARY), "", {"phasesync:type": "binary", "value": "/wA="}),
        (SecretValue(b"", ValueType.BINARY), "", {"phasesync:type": "binary", "value": ""}),
    ],
)
def test_a_member_is_plain_where_reading_it_gives_the_value_back(
    value: SecretValue, comment: str, member: object
) -> None:
    exported = export_json({"K": FileEntry(value=value, comment=comment)})
    assert json.loads(exported) == {"K": member}
    again = entries_of_json(exported)["K"]
    assert (again.value, again.comment or "") == (value, comment)


def test_a_plain_member_says_nothing_of_a_comment_and_an_empty_one_removes_it() -> None:
    found = entries_of_json('{"A": "x", "B": {"phasesync:type": "text", "value": "x", "comment": ""}}')
    assert (found["A"].comment, found["B"].comment) == (None, "")


@pytest.mark.parametrize(
    ("member", "says"),
    [
        ({"phasesync:type": "blob", "value": CANARY}, "neither text nor json nor binary"),
        ({"phasesync:type": "TEXT", "value": CANARY}, "neither text nor json nor binary"),
        ({"phasesync:type": "text"}, "needs phasesync:type and value"),
        ({"phasesync:type": 1, "value": CANARY}, "needs phasesync:type and value"),
        ({"phasesync:type": "json", "value": {"a": CANARY}}, "needs phasesync:type and value"),
        ({"phasesync:type": "text", "value": CANARY, "comment": None}, "needs phasesync:type and value"),
        ({"phasesync:type": "text", "value": "x", "more": CANARY}, "value and comment: 1"),
        ({"phasesync:kind": "text", "value": CANARY}, "needs phasesync:type and value"),
        ({"phasesync:type": "binary", "value": CANARY + "!"}, "not base64"),
        ({"phasesync:type": "binary", "value": "Y2FuYXJ5"[:-1]}, "not base64"),
        ({"phasesync:type": "binary", "value": "/wB="}, "not base64"),
        ({"phasesync:type": "binary", "value": "/w A="}, "not base64"),
        ({"phasesync:type": "json", "value": "{" + CANARY}, "not valid JSON"),
    ],
)
def test_a_marked_member_of_another_form_is_an_error_that_names_the_key_and_no_value(
    member: dict[str, object], says: str
) -> None:
    with pytest.raises(InvalidInputError, match=says) as caught:
        entries_of_json(json.dumps({"KEY": member}))
    assert caught.value.message.startswith("KEY: ")
    assert CANARY not in repr(caught.value) + caught.value.message
    assert caught.value.__cause__ is None


def test_bytes_that_are_not_text_are_an_error_that_names_the_key() -> None:
    with pytest.raises(InvalidInputError, match="K is not UTF-8 text"):
        export_json({"K": FileEntry(value=SecretValue(b"\xff"))})


@pytest.mark.parametrize(
    ("entered", "literal"),
    [("$${y}", "${y}"), ("a $${y} b", "a ${y} b"), ("$$${y}", "$${y}"), ("${", "${"), ("x", "x"), ("${A}", None)],
)
def test_a_literal_text_has_no_escapes_and_no_references(entered: str, literal: str | None) -> None:
    found = literal_value(SecretValue(entered))
    assert (None if found is None else found.reveal_text()) == literal


def test_a_document_without_escapes_stays_as_it_was_written() -> None:
    value = SecretValue('{"a": 1.10}', ValueType.JSON)
    assert literal_value(value) == value
    escaped = literal_value(SecretValue('{"a": "$${x}"}', ValueType.JSON))
    assert escaped == SecretValue('{"a":"${x}"}', ValueType.JSON)
