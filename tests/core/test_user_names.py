"""Names of users and sessions, and the paths that users are made under."""

import re
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.lease_users import (
    DEFAULT_TEMPLATE,
    MAX_NAME,
    MAX_PATH,
    PLACEHOLDERS,
    RANDOM,
    RANDOM_ALPHABET,
    check_iam_path,
    check_user_template,
    default_iam_path,
    render_user_name,
)
from phasesync.core.names import normalise_path
from phasesync.errors import InvalidInputError

WORDS = {"app": "shop", "env": "production", "name": "ci"}
AWS_NAME = re.compile(r"[A-Za-z0-9+=,.@_-]{2,64}")
"""Of users (API reference, CreateUser) and of sessions (STS, AssumeRole), which have 2 characters at least."""
AWS_PATH = re.compile(r"(/)|(/[\x21-\x7e]+/)")
"""API reference, CreateUser, Path."""


def letters() -> str:
    """What stands for {{random}}."""
    return "k3v9" * (RANDOM // 4)


def refused(template: str, words: Mapping[str, str] = WORDS) -> str:
    """Why a template is refused."""
    with pytest.raises(InvalidInputError) as caught:
        check_user_template(template, words)
    assert caught.value.hint
    return str(caught.value)


@pytest.mark.parametrize(
    ("template", "name"),
    [
        (DEFAULT_TEMPLATE, "ci-k3v9k3v9k3v9k3v9"),
        ("{{random}}", "k3v9k3v9k3v9k3v9"),
        ("{{app}}.{{env}}.{{name}}@{{ random }}", "shop.production.ci@k3v9k3v9k3v9k3v9"),
        ("a+b=c,d_{{random}}-{{name}}-{{name}}", "a+b=c,d_k3v9k3v9k3v9k3v9-ci-ci"),
    ],
)
def test_a_name_is_made_from_words_and_randomness(template: str, name: str) -> None:
    check_user_template(template, WORDS)
    assert render_user_name(template, WORDS, letters) == name


def test_randomness_is_drawn_for_each_place() -> None:
    drawn = iter(["a" * RANDOM, "b" * RANDOM])
    name = render_user_name("{{random}}-{{random}}", WORDS, lambda: next(drawn))
    assert name == f"{'a' * RANDOM}-{'b' * RANDOM}"


@pytest.mark.parametrize("placeholder", ["nobody", "RANDOM", "", "random-", "app.env", "rand om"])
def test_a_placeholder_that_does_not_exist_is_refused(placeholder: str) -> None:
    assert "placeholder that does not exist" in refused(f"{{{{random}}}}-{{{{{placeholder}}}}}")


@pytest.mark.parametrize("template", ["", "ci", "{{name}}", "{random}", "random", "{{name}}-{{app}}"])
def test_a_template_that_gives_every_lease_the_same_name_is_refused(template: str) -> None:
    assert "no {{random}}" in refused(template)


def test_a_name_has_64_characters_at_most_with_all_that_stands_for_placeholders() -> None:
    most = "x" * (MAX_NAME - RANDOM)
    check_user_template(most + "{{random}}", WORDS)
    assert len(render_user_name(most + "{{random}}", WORDS, letters)) == 64
    assert "names of 65 characters; AWS takes 64" in refused(most + "y{{random}}")
    assert "names of 65 characters" in refused("{{random}}{{app}}", WORDS | {"app": "a" * 49})
    assert "names of 80 characters" in refused("{{random}}" * 5)


@pytest.mark.parametrize("character", [" ", "/", "ü", "\n", "{", "}", "*", "?", "$", ":", "é", "４"])
def test_a_character_that_aws_does_not_take_is_refused(character: str) -> None:
    assert "characters that AWS does not take" in refused(f"ci{character}{{{{random}}}}")


def test_capitals_are_no_part_of_randomness() -> None:
    """IAM ignores the case of names."""
    assert RANDOM_ALPHABET.lower() == RANDOM_ALPHABET
    assert len(set(RANDOM_ALPHABET)) == len(RANDOM_ALPHABET)
    assert len(RANDOM_ALPHABET) ** RANDOM > 2**80


pieces = st.sampled_from([*(f"{{{{{name}}}}}" for name in PLACEHOLDERS), "{{ random }}"])
fillers = st.from_regex(r"[\w+=,.@-]{1,8}", fullmatch=True) | st.sampled_from(["", "-", "{", "}}", "é", " ", "/"])
templates = st.lists(pieces | fillers, max_size=2).map(lambda parts: "".join((*parts[:1], "{{random}}", *parts[1:])))
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,30}", fullmatch=True)
randoms = st.text(RANDOM_ALPHABET, min_size=RANDOM, max_size=RANDOM)


@given(templates.map("".join), st.fixed_dictionaries({"app": names, "env": names, "name": names}), randoms)
def test_a_template_passes_exactly_if_aws_takes_the_names_that_it_makes(
    template: str, words: dict[str, str], random: str
) -> None:
    name = render_user_name(template, words, lambda: random)
    try:
        check_user_template(template, words)
    except InvalidInputError:
        assert not AWS_NAME.fullmatch(name), "it would have made a good one"
    else:
        assert AWS_NAME.fullmatch(name)
        assert random in name


# --- paths


@pytest.mark.parametrize(
    ("folder", "path"),
    [("/", "/phasesync/shop/production/"), ("/db/replica", "/phasesync/shop/production/db/replica/")],
)
def test_the_usual_path_is_app_environment_and_folder(folder: str, path: str) -> None:
    assert default_iam_path("shop", "production", folder) == path


folders = st.lists(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", fullmatch=True), max_size=4).map("/".join)
longest = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{63}", fullmatch=True)


@given(longest, longest, folders.filter(lambda folder: len(folder) < 255))
def test_the_usual_path_is_one_that_iam_takes_however_long_the_names(app: str, environment: str, folder: str) -> None:
    path = default_iam_path(app, environment, normalise_path(folder))
    assert check_iam_path(path) == path
    assert path.startswith("/phasesync/")


@pytest.mark.parametrize("path", ["/ci/", "/ci/shop/", "/a!b~/", f"/{'x' * (MAX_PATH - 2)}/"])
def test_an_iam_path_is_taken_as_it_is(path: str) -> None:
    assert check_iam_path(path) == path
    assert AWS_PATH.fullmatch(path)


@pytest.mark.parametrize(
    "path", ["", "ci", "/ci", "ci/", "//", "/c i/", "/ü/", "/ci/\n", "/c\x7fi/", f"/{'x' * (MAX_PATH - 1)}/"]
)
def test_what_iam_does_not_take_for_a_path_is_refused(path: str) -> None:
    with pytest.raises(InvalidInputError, match="is not an IAM path"):
        check_iam_path(path)


@pytest.mark.parametrize("path", ["/a*/", "/team?/", "/${aws:username}/", "/*/", "/a$/"])
def test_a_path_whose_policy_would_be_for_others_is_refused(path: str) -> None:
    with pytest.raises(InvalidInputError, match="the policy for it would be for other paths too") as caught:
        check_iam_path(path)
    assert "leave out" in (caught.value.hint or "")


def test_the_path_of_everybody_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="it holds the users of everyone") as caught:
        check_iam_path("/")
    assert caught.value.hint


@given(st.text(alphabet=st.characters(max_codepoint=0x180), max_size=12).map(lambda text: f"/{text}/"))
def test_a_path_is_taken_exactly_if_aws_takes_it_and_a_policy_means_it_alone(path: str) -> None:
    if AWS_PATH.fullmatch(path) and not set("*?$") & set(path):
        assert check_iam_path(path) == path
    else:
        with pytest.raises(InvalidInputError):
            check_iam_path(path)
