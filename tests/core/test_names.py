"""Names, keys and paths."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.names import (
    check_key,
    check_name,
    check_stored_key,
    is_name,
    normalise_path,
    parse_environment_label,
)
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


@pytest.mark.parametrize(
    ("character", "says"),
    [
        ("\ufeff", "U+FEFF (ZERO WIDTH NO-BREAK SPACE)"),
        ("\u200b", "U+200B (ZERO WIDTH SPACE)"),
        ("\u200d", "U+200D"),
        ("\u2060", "U+2060"),
        ("\u202e", "U+202E (RIGHT-TO-LEFT OVERRIDE)"),
        ("\u2066", "U+2066"),
        ("\u00ad", "U+00AD (SOFT HYPHEN)"),
        ("\u00a0", "U+00A0 (NO-BREAK SPACE)"),
        ("\u3000", "U+3000"),
        ("\u2028", "U+2028"),
        ("\u3164", "U+3164 (HANGUL FILLER)"),
        ("\u2800", "U+2800"),
        ("\u034f", "U+034F"),
        ("\ufe0f", "U+FE0F"),
        ("\U000e0041", "U+E0041"),
        ("\ufffd", "U+FFFD"),
        ("\uffff", "U+FFFF"),
        ("\ue000", "U+E000, a character for private use"),
        ("\u2011", "U+2011 (NON-BREAKING HYPHEN), which looks like -"),
        ("\uff1d", "U+FF1D (FULLWIDTH EQUALS SIGN), which looks like ="),
        ("\u2215", "which looks like /"),
    ],
)
@pytest.mark.parametrize("form", ["{}K", "A{}B", "K{}"])
def test_a_character_that_cannot_be_seen_or_told_is_refused_by_its_code_point(character, says, form):
    """Wherever it stands; a store that has such a key from before can still be read."""
    key = form.format(character)
    with pytest.raises(InvalidInputError) as caught:
        check_key(key)
    assert says in caught.value.message
    assert f"character {key.index(character) + 1} is" in caught.value.message
    assert caught.value.message.isprintable()
    assert check_stored_key(key) == key


@pytest.mark.parametrize("check", [check_name, normalise_path, parse_environment_label])
def test_names_and_paths_are_refused_by_the_code_point_too(check):
    with pytest.raises(InvalidInputError, match=r"character 5 is U\+2011 \(NON-BREAKING HYPHEN\), which looks like -"):
        check("shop\u2011api/prod")


@pytest.mark.parametrize(("key", "where"), [(" K", "beginning"), ("K ", "end"), (" ", "beginning")])
def test_white_space_at_the_ends_is_refused(key, where):
    with pytest.raises(InvalidInputError, match=f"white space at its {where}"):
        check_key(key)


@pytest.mark.parametrize("text", ["KEY=canary", "KEY\u200b=canary", "KEY=canary=x\0", "shop=canary/prod"])
def test_what_follows_an_equals_sign_is_in_no_message(text):
    said = []
    for check in (check_key, check_stored_key, check_name, normalise_path, parse_environment_label):
        try:
            check(text)
        except InvalidInputError as error:
            said.append(f"{error.message}{error.hint}")
    assert said
    assert "canary" not in "".join(said)


@given(st.text(max_size=20))
def test_a_key_has_nothing_that_a_terminal_does_not_show(text):
    try:
        check_key(text)
    except InvalidInputError:
        return
    assert check_stored_key(text) == text
    assert text == text.strip()
    assert all(c == " " or not unicodedata.category(c).startswith(("Z", "Cc", "Cf", "Cs")) for c in text)


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
