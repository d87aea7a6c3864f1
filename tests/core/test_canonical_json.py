"""Canonical JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.canonical_json import canonical_json, parse_json_document
from phasesync.errors import InvalidInputError

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20
)


def canonical(text: str) -> str:
    return canonical_json(parse_json_document(text.encode()))


@given(documents)
def test_a_document_means_the_same_afterwards(document):
    assert json.loads(canonical(json.dumps(document))) == document


@given(documents, st.sampled_from([None, 2]), st.booleans())
def test_how_it_was_written_does_not_show(document, indent, ascii_only):
    written = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    assert canonical(written) == canonical(json.dumps(document))


@given(documents)
def test_canonical_text_is_its_own_canonical_text(document):
    once = canonical(json.dumps(document))
    assert canonical(once) == once


@pytest.mark.parametrize("number", ["0", "-0", "1.10", "1E5", "1e-400", "9" * 5000, "0.1000000000000000055511151"])
def test_numbers_stay_as_they_were_written(number):
    assert canonical(f'{{"n": [{number} ]}}') == f'{{"n":[{number}]}}'


def test_keys_are_sorted_by_code_point_and_text_is_left_as_it_is():
    assert canonical('{"\\ud83d\\ude00": "ü", "\\uff5e": 1, "a": true, "B": null}') == (
        '{"B":null,"a":true,"～":1,"😀":"ü"}'
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{'a': 1}",
        '{"a": 1} x',
        "NaN",
        '{"a": [Infinity]}',
        "-Infinity",
        '{"a": 1, "a": 1}',
        '{"b": {"a": 1, "\\u0061": 2}}',
        '"\\ud800"',
        '{"\\ud800": 1}',
        "[" * 102 + "]" * 102,
        '{"a":' * 100_000,
        "\ufeff{}",
    ],
)
def test_these_are_refused(text):
    with pytest.raises(InvalidInputError):
        parse_json_document(text.encode())


def test_a_hundred_levels_are_accepted():
    text = "[" * 100 + "]" * 100
    assert canonical(text) == text


def test_bytes_that_are_not_utf_8_are_refused():
    with pytest.raises(InvalidInputError, match="not UTF-8"):
        parse_json_document(b'"\xff"')


@pytest.mark.parametrize("text", ['{"canary": canary}', '{"canary": 1, "canary": 2}', '"canary\\ud800"', "canary"])
def test_a_refusal_repeats_nothing_of_the_document(text):
    with pytest.raises(InvalidInputError) as caught:
        parse_json_document(text.encode())
    assert "canary" not in repr(caught.value)
    assert caught.value.__cause__ is None
