"""Envelope encryption: what a ciphertext is bound to, and what a wrong or altered key does."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.demo.canary import CANARY_VALUE, find
from phasesync.errors import CiphertextError, KeyUnavailableError
from phasesync.store.key_ring import KeyRing, RootKey, WrappedKey, join_parts

ROOT = RootKey(material=bytes(range(32)), source="test")
OTHER = RootKey(material=bytes(32), source="test")
PLACE = ("secret_versions", "row-1", "value", "3")


class Shelf:
    """Wrapped keys in memory."""

    def __init__(self) -> None:
        self.keys: list[WrappedKey] = []
        self.reads = 0

    def list_all(self) -> list[WrappedKey]:
        self.reads += 1
        return list(self.keys)


@pytest.fixture
def shelf():
    return Shelf()


@pytest.fixture
def ring(shelf):
    ring = KeyRing([ROOT], shelf.list_all)
    for purpose in ("digest", "credentials", "environment", "environment"):
        shelf.keys.append(ring.new_data_key(purpose))
    return ring


def environment_key(shelf, number=0):
    return [key.id for key in shelf.keys if key.purpose == "environment"][number]


def test_what_goes_in_comes_out_of_another_ring_with_the_same_root_key(ring, shelf):
    sealed = ring.encrypt(environment_key(shelf), PLACE, b"plain")
    assert KeyRing([ROOT], shelf.list_all).decrypt(PLACE, sealed) == b"plain"


def test_the_same_plaintext_never_gives_the_same_ciphertext(ring, shelf):
    key = environment_key(shelf)
    assert len({ring.encrypt(key, PLACE, b"plain") for _ in range(100)}) == 100


def test_a_ciphertext_tells_nothing_but_its_key(ring, shelf):
    sealed = ring.encrypt(environment_key(shelf), PLACE, CANARY_VALUE.encode())
    assert find(sealed, [CANARY_VALUE]) == []
    assert environment_key(shelf) in sealed.hex()


def test_every_altered_byte_is_noticed(ring, shelf):
    sealed = ring.encrypt(environment_key(shelf), PLACE, b"plain")
    for position in range(len(sealed)):
        altered = bytearray(sealed)
        altered[position] ^= 1
        with pytest.raises(CiphertextError, match="value in table secret_versions"):
            ring.decrypt(PLACE, bytes(altered))
    for length in range(len(sealed)):
        with pytest.raises(CiphertextError):
            ring.decrypt(PLACE, sealed[:length])


@pytest.mark.parametrize("position", range(4))
def test_a_ciphertext_is_bound_to_table_row_column_and_version(ring, shelf, position):
    sealed = ring.encrypt(environment_key(shelf), PLACE, b"plain")
    elsewhere = list(PLACE)
    elsewhere[position] += "x"
    with pytest.raises(CiphertextError):
        ring.decrypt(elsewhere, sealed)


def test_places_do_not_run_together(ring, shelf):
    sealed = ring.encrypt(environment_key(shelf), ("t", "ab", "c", "1"), b"plain")
    with pytest.raises(CiphertextError):
        ring.decrypt(("t", "a", "bc", "1"), sealed)


@given(st.lists(st.binary(max_size=5), max_size=4), st.lists(st.binary(max_size=5), max_size=4))
def test_no_two_sequences_of_parts_join_to_the_same_bytes(first, second):
    assert (join_parts(first) == join_parts(second)) == (first == second)


def test_a_ciphertext_that_names_another_key_is_refused(ring, shelf):
    first, second = environment_key(shelf, 0), environment_key(shelf, 1)
    sealed = ring.encrypt(first, PLACE, b"plain")
    renamed = sealed[:1] + bytes.fromhex(second) + sealed[7:]
    with pytest.raises(CiphertextError):
        ring.decrypt(PLACE, renamed)


def test_an_error_never_repeats_content(ring, shelf):
    sealed = ring.encrypt(environment_key(shelf), PLACE, CANARY_VALUE.encode())
    with pytest.raises(CiphertextError) as caught:
        ring.decrypt(("secret_versions", "row-2", "value", "3"), sealed)
    assert caught.value.__cause__ is None
    assert find(f"{caught.value!r} {caught.value} {caught.value.hint}", [CANARY_VALUE, sealed.hex()]) == []


def test_a_wrong_root_key_is_named_with_the_right_one(ring, shelf):
    wrong = KeyRing([OTHER], shelf.list_all)
    sealed = ring.encrypt(environment_key(shelf), PLACE, b"plain")
    for attempt in (
        wrong.verify,
        lambda: wrong.digests,
        lambda: wrong.decrypt(PLACE, sealed),
        lambda: wrong.encrypt(environment_key(shelf), PLACE, b"x"),
    ):
        with pytest.raises(KeyUnavailableError, match=f"{ROOT.id}.*{OTHER.id}"):
            attempt()


def test_a_former_root_key_still_opens_while_the_new_one_wraps(ring, shelf):
    sealed = ring.encrypt(environment_key(shelf), PLACE, b"plain")
    rotated = KeyRing([OTHER, ROOT], shelf.list_all)
    rotated.verify()
    assert rotated.decrypt(PLACE, sealed) == b"plain"
    assert rotated.new_data_key("environment").root_key_id == OTHER.id


def test_an_altered_wrapped_key_is_noticed(ring, shelf):
    for number, key in enumerate(shelf.keys):
        for altered in (
            replace(key, wrapped=key.wrapped[:-1] + bytes([key.wrapped[-1] ^ 1])),
            replace(key, wrapped=b""),
            replace(key, purpose="other"),
            replace(key, id="00" * 6),
        ):
            damaged = Shelf()
            damaged.keys = [*shelf.keys[:number], altered, *shelf.keys[number + 1 :]]
            with pytest.raises(CiphertextError):
                KeyRing([ROOT], damaged.list_all).verify()


def test_a_database_without_keys_says_so():
    empty = KeyRing([ROOT], Shelf().list_all)
    empty.verify()
    for attempt in (lambda: empty.digests, lambda: empty.data_key("credentials")):
        with pytest.raises(KeyUnavailableError) as caught:
            attempt()
        assert caught.value.hint == "phasesync init"
    with pytest.raises(KeyUnavailableError):
        empty.encrypt("00" * 6, PLACE, b"x")


def test_keys_are_read_once_and_again_only_for_a_new_one(ring, shelf):
    fresh = KeyRing([ROOT], shelf.list_all)
    fresh.verify()
    sealed = [ring.encrypt(key.id, PLACE, b"x") for key in shelf.keys]
    assert [fresh.decrypt(PLACE, ciphertext) for ciphertext in sealed] == [b"x"] * 4
    assert fresh.digests.key_id == shelf.keys[0].id
    assert shelf.reads == 1
    shelf.keys.append(ring.new_data_key("environment"))
    assert fresh.decrypt(PLACE, ring.encrypt(shelf.keys[-1].id, PLACE, b"new")) == b"new"
    assert shelf.reads == 2


def test_digests_are_keyed_and_kept_apart(ring, shelf):
    digests = ring.digests
    assert digests.digest("lookup", b"a", b"b") == KeyRing([ROOT], shelf.list_all).digests.digest("lookup", b"a", b"b")
    different = {
        digests.digest("lookup", b"a", b"b"),
        digests.digest("lookup", b"ab"),
        digests.digest("lookup", b"ab", b""),
        digests.digest("token", b"a", b"b"),
        digests.digest("lookup"),
    }
    assert len(different) == 5
    assert {len(digest) for digest in different} == {32}


def test_nothing_of_a_key_is_shown(ring):
    key = ring.new_data_key("environment")
    assert key.wrapped.hex() not in f"{key!r}{key}"
    assert "wrapped" not in repr(key)
