"""Fingerprints and tokens."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.fingerprint import fingerprint, key_digest, same, tokens_among, write_token
from phasesync.core.model import SecretValue, ValueType
from tests.support.digests import FixedDigests

digests = FixedDigests()
values = st.builds(SecretValue, st.binary(max_size=20), st.sampled_from(ValueType))


def kind(value: SecretValue) -> tuple[bool, bytes]:
    return value.type is ValueType.BINARY, value.reveal()


@given(values, values)
def test_fingerprints_are_the_same_for_the_same_bytes_and_kind_only(a, b):
    assert same(fingerprint(digests, a), fingerprint(digests, b)) == (kind(a) == kind(b))


def test_a_fingerprint_names_its_format_and_its_key():
    assert fingerprint(FixedDigests("k7"), SecretValue("x")).startswith("v1:k7:")


def test_another_key_gives_another_fingerprint():
    value = SecretValue("x")
    mine, theirs = fingerprint(FixedDigests("k1"), value), fingerprint(FixedDigests("k2"), value)
    assert mine.rpartition(":")[2] != theirs.rpartition(":")[2]


def test_what_is_not_known_equals_nothing():
    assert not same(None, None)
    assert not same("v1:k1:aa", None)
    assert not same("v1:k1:aa", "v2:k1:aa")


def test_equal_values_under_two_keys_or_in_two_objects_do_not_show():
    found = {key_digest(digests, name, key, b"x") for name in ("a", "b") for key in ("k", "l")}
    assert len(found) == 4


tokens = st.tuples(st.text(max_size=5), st.text(max_size=5), st.text(max_size=5), st.integers(0, 50))


@given(tokens, tokens)
def test_a_token_belongs_to_one_write(a, b):
    assert (write_token(digests, *a) == write_token(digests, *b)) == (a == b)


@given(tokens)
def test_a_token_is_a_uuid_of_a_length_that_aws_accepts(write):
    token = write_token(digests, *write)
    assert str(uuid.UUID(token)) == token
    assert uuid.UUID(token).version == 4
    assert 32 <= len(token) <= 64


@given(st.integers(0, 20), st.sets(st.integers(0, 40)))
def test_tokens_are_found_among_other_texts(first, generations):
    write = ("instance", "sync", "name")
    texts = {write_token(digests, *write, number) for number in generations} | {"a1b2", str(uuid.UUID(int=7))}
    searched = range(first, first + 10)

    found = list(tokens_among(texts, digests, *write, searched))

    assert found == [write_token(digests, *write, number) for number in searched if number in generations]
