"""Payloads of layout `json`."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.model import SecretValue, ValueType
from phasesync.core.payloads import LIMIT_BYTES, build_json_payload, check_size
from phasesync.errors import InvalidInputError, PayloadTooLargeError
from tests.support.digests import FixedDigests

digests = FixedDigests()
texts = st.dictionaries(st.text(min_size=1, max_size=10), st.text(max_size=20), max_size=6)


def payload(values):
    return build_json_payload("shop/prod", {key: SecretValue(value) for key, value in values.items()}, digests)


def test_nothing_is_an_empty_object():
    assert payload({}).value.reveal() == b"{}"


def test_every_type_has_its_form():
    values = {
        "z": SecretValue("007"),
        "a": SecretValue('{"n": 1.0, "a": [1 , "x"]}', ValueType.JSON),
        "B": SecretValue(b"\xff\x00", ValueType.BINARY),
        "ü": SecretValue("ü\n"),
    }
    made = build_json_payload("shop/prod", values, digests)
    assert made.value.reveal_text() == '{"B":"/wA=","a":{"a":[1,"x"],"n":1.0},"z":"007","ü":"ü\\n"}'
    assert made.value.type is ValueType.TEXT


@given(texts)
def test_text_comes_back_as_it_went_in(values):
    assert json.loads(payload(values).value.reveal()) == values


@given(st.binary(max_size=50))
def test_binary_comes_back_as_base64(data):
    made = build_json_payload("x", {"k": SecretValue(data, ValueType.BINARY)}, digests)
    assert base64.b64decode(json.loads(made.value.reveal())["k"]) == data


@given(texts, st.randoms())
def test_the_order_of_the_keys_does_not_show(values, random):
    shuffled = list(values.items())
    random.shuffle(shuffled)
    assert payload(dict(shuffled)) == payload(values)


@given(texts, texts)
def test_a_key_s_digest_differs_exactly_when_what_is_written_of_it_does(before, after):
    old, new = payload(before).keys, payload(after).keys
    assert set(new) == set(after)
    for key in before.keys() & after.keys():
        assert (old[key] == new[key]) == (before[key] == after[key])


@given(texts)
def test_sizes_add_up_to_the_payload(values):
    made = payload(values)
    braces, commas = 2, max(len(values) - 1, 0)
    assert sum(made.sizes.values()) + braces + commas == len(made.value)


def test_a_payload_may_be_as_large_as_the_limit_and_not_larger():
    room = LIMIT_BYTES - len(b'{"k":""}')
    check_size(payload({"k": "x" * room}))
    with pytest.raises(PayloadTooLargeError):
        check_size(payload({"k": "x" * (room + 1)}))


def test_bytes_count_and_not_characters():
    check_size(payload({"k": "x" * 40_000}))
    with pytest.raises(PayloadTooLargeError):
        check_size(payload({"k": "ü" * 40_000}))


def test_what_is_too_large_names_its_three_largest_keys():
    sizes = {"a": 1_000, "b": 40_000, "c": 20_000, "d": 30_000, "e": 2}
    with pytest.raises(PayloadTooLargeError) as caught:
        check_size(payload({key: "x" * size for key, size in sizes.items()}))
    assert caught.value.largest == ("b (40,006 bytes)", "d (30,006 bytes)", "c (20,006 bytes)")
    assert caught.value.limit_bytes == 65_536


@pytest.mark.parametrize("type_", [ValueType.TEXT, ValueType.JSON])
def test_a_value_that_is_not_what_its_type_says_is_named_and_not_shown(type_):
    with pytest.raises(InvalidInputError) as caught:
        build_json_payload("x", {"BROKEN": SecretValue(b"canary\xff", type_)}, digests)
    assert "BROKEN" in caught.value.message
    assert "canary" not in repr(caught.value)
    assert caught.value.__cause__ is None


def test_a_payload_does_not_print_what_is_in_it():
    made = payload({"canary-key": "canary-value"})
    assert "canary" not in repr(made)
