"""Names, keys and paths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.names import check_key, check_name, is_name, normalise_path, parse_environment_label
from phasesync.errors import InvalidInputError


@pytest.mark.parametrize("name", ["a", "0", "shop-api_2", "A" * 64])
def test_these_are_names(name):
    assert check_name(name, "app") == name


@pytest.mark.parametrize("name", ["", "-a", "_a", "a b", "a.b", "a/b", "a" * 65, "ä", "a\n", "a\0"])
def test_these_are_not_names_and_the_hint_says_what_is_allowed(name):
    with pytest.raises(InvalidInputError) as caught:
        check_name(name, "app")
    assert "not a valid app name" in caught.value.message
    assert caught.value.hint is not None
    assert "1 to 64 letters, digits" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "path"),
    [("", "/"), ("/", "/"), ("db", "/db"), ("/db", "/db"), ("/db/", "/db"), ("/db/x", "/db/x"), ("db/x/", "/db/x")],
)
def test_a_path_has_a_leading_and_no_trailing_slash(text, path):
    assert normalise_path(text) == path


@pytest.mark.parametrize("text", ["/db//", "/db//x", "/../x", "/a b", "/a.b", "/" + "/".join(["a" * 60] * 5)])
def test_these_are_not_paths(text):
    with pytest.raises(InvalidInputError):
        normalise_path(text)


@given(st.text(max_size=300))
def test_a_path_stays_the_same_when_normalised_again(text):
    try:
        path = normalise_path(text)
    except InvalidInputError:
        return
    assert normalise_path(path) == path
    assert path.startswith("/")
    assert len(path) <= 255


@pytest.mark.parametrize("key", ["K", "a.b", "with space", "ключ", "K" * 255, "a/b", "$", "{}"])
def test_these_are_keys(key):
    assert check_key(key) == key


@pytest.mark.parametrize("key", ["", "K" * 256, "A\nB", "A\0", "\x7f", "\x85", "\ud800"])
def test_these_are_not_keys(key):
    with pytest.raises(InvalidInputError) as caught:
        check_key(key)
    caught.value.message.encode("utf-8")
    assert "\n" not in caught.value.message


def test_a_label_has_an_app_and_an_environment():
    assert parse_environment_label("Shop/prod") == ("Shop", "prod")


@pytest.mark.parametrize("label", ["", "shop", "shop/", "/prod", "a/b/c", "a b/c"])
def test_these_are_not_labels(label):
    with pytest.raises(InvalidInputError, match="does not name an environment"):
        parse_environment_label(label)


@given(st.text(max_size=70))
def test_a_name_survives_a_label(text):
    if is_name(text):
        assert parse_environment_label(f"{text}/{text}") == (text, text)
