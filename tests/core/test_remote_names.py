"""Names of remote objects: templates, and that no two keys ever write to one object."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from phasesync.core.remote_names import check_template, clashes, key_of_name, name_of_key, names_taken, render_name
from phasesync.core.sync import Layout
from phasesync.errors import InvalidInputError
from tests.support.values import config


def filled(template: str, *, path: str = "/", key: str = "URL") -> str:
    """A name of shop/production."""
    return render_name(template, app="shop", environment="production", path=path, key=key)


@pytest.mark.parametrize(
    ("template", "path", "name"),
    [
        ("{app}/{env}/{key}", "/", "shop/production/URL"),
        ("{key}", "/", "URL"),
        ("{app}/{env}/{path}/{key}", "/db/replica", "shop/production/db/replica/URL"),
        ("{app}/{env}/{path}/{key}", "/", "shop/production/URL"),
        ("{path}/{key}", "/", "URL"),
        ("{key}/{path}", "/", "URL"),
        ("{key}-{path}", "/", "URL-"),
        ("{key}.{key}", "/", "URL.URL"),
        ("prefix_{key}=@+", "/", "prefix_URL=@+"),
    ],
)
def test_a_template_is_filled_in(template: str, path: str, name: str) -> None:
    check_template(template)
    assert filled(template, path=path) == name


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{app}/{env}", "has no {key}"),
        ("fixed", "has no {key}"),
        ("", "has no {key}"),
        ("{key}/{region}", "placeholder that does not exist"),
        ("{key}/{}", "placeholder that does not exist"),
        ("{key}{", "placeholder that does not exist"),
        ("}{key}", "placeholder that does not exist"),
        ("{{key}}", "placeholder that does not exist"),
        ("{ key }", "placeholder that does not exist"),
        ("{KEY}", "placeholder that does not exist"),
    ],
)
def test_a_template_that_cannot_tell_keys_apart_is_refused(template: str, said: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        check_template(template)
    assert said in str(refused.value)
    assert refused.value.hint


def test_what_is_filled_in_is_not_filled_in_again() -> None:
    """A key, an app or a folder may look like a placeholder."""
    assert render_name("{app}/{key}", app="{key}", environment="", path="/", key="{app}") == "{key}/{app}"


def test_a_key_has_the_one_name_of_layout_json_and_its_own_of_the_other() -> None:
    whole, each = config(), config(layout=Layout.PER_KEY, remote_name=None, name_template="{env}/{key}")
    place = {"app": "shop", "environment": "production", "path": "/"}
    assert name_of_key(whole, **place, key="A") == name_of_key(whole, **place, key="B") == "shop/production"
    assert name_of_key(each, **place, key="A") == "production/A"


# --- any template, any keys

PIECES = st.sampled_from(["{app}", "{env}", "{path}", "/", "-", "_", "x", "key"])
templates = (
    st.lists(PIECES | st.just("{key}"), min_size=1, max_size=7).map("".join).filter(lambda text: "{key}" in text)
)
words = st.text("aAbB-_./", min_size=1, max_size=6)
paths = st.sampled_from(["/", "/db", "/db/replica", "/key"])


@given(template=templates, app=words, environment=words, path=paths, one=words, other=words)
def test_distinct_keys_have_distinct_names(
    template: str, app: str, environment: str, path: str, one: str, other: str
) -> None:
    assume(one != other)
    check_template(template)
    names = {render_name(template, app=app, environment=environment, path=path, key=key) for key in (one, other)}
    assert len(names) == 2


@given(template=templates, app=words, environment=words, path=paths, key=words)
def test_a_name_leads_back_to_its_key_and_to_no_other(
    template: str, app: str, environment: str, path: str, key: str
) -> None:
    place = {"app": app, "environment": environment, "path": path}
    found = key_of_name(template, render_name(template, **place, key=key), **place)
    nothing_before = not render_name(template, **place, key="\0").partition("\0")[0]
    assert found == (None if nothing_before or "/" in key else key)


@given(template=templates, path=paths, name=words)
def test_a_name_that_the_template_does_not_make_leads_to_no_key(template: str, path: str, name: str) -> None:
    place = {"app": "shop", "environment": "production", "path": path}
    found = key_of_name(template, name, **place)
    assert found is None or render_name(template, **place, key=found) == name


# --- clashes


def test_names_that_differ_in_case_only_clash() -> None:
    """AWS would take both; readers that fold case, and people, would not distinguish them."""
    names = {"a": "shop/URL", "b": "shop/url", "c": "shop/user", "d": "shop/Url"}
    assert clashes(names) == {"shop/url": ("a", "b", "d")}
    assert clashes({"a": "x", "b": "x"}) == {"x": ("a", "b")}
    assert clashes({}) == {}


@given(st.dictionaries(words, words, max_size=8))
def test_whatever_clashes_is_named_and_nothing_else(names: dict[str, str]) -> None:
    found = clashes(names)
    named = {key for keys in found.values() for key in keys}
    for key, name in names.items():
        alone = sum(other.lower() == name.lower() for other in names.values()) == 1
        assert (key in named) is not alone
    for name, keys in found.items():
        assert len(keys) > 1
        assert {names[key].lower() for key in keys} == {name}


def test_names_of_another_sync_are_taken_whatever_their_case() -> None:
    assert names_taken(["shop/URL", "shop/user"], {"shop/url": "web", "shop/else": "jobs"}) == {"shop/URL": "web"}
    assert names_taken([], {"shop/url": "web"}) == {}
