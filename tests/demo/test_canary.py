"""The search for leaks finds a canary in every form it may leak in, and does not tell it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from phasesync.demo.canary import CANARY_VALUE, assert_absent, find, find_in_tree, forms_of

FORMS: dict[str, Callable[[str], str]] = {
    "as it is": lambda value: f"before {value} after",
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "base64 after one byte": lambda value: base64.b64encode(f"x{value} and more".encode()).decode(),
    "base64 after two bytes": lambda value: base64.b64encode(f"xy{value} and more".encode()).decode(),
    "base64 for urls": lambda value: base64.urlsafe_b64encode(f"xyz{value}".encode()).decode(),
    "percent-encoded": lambda value: quote(value, safe=""),
    "in a form": quote_plus,
    "in JSON": json.dumps,
    "in JSON as UTF-8": lambda value: json.dumps(value, ensure_ascii=False),
    "in JSON in JSON": lambda value: json.dumps(json.dumps({"key": value})),
    "in a request to AWS": lambda value: json.dumps({"SecretString": json.dumps({"K": value}, ensure_ascii=False)}),
    "hex": lambda value: value.encode().hex(),
    "repr": repr,
    "repr of bytes": lambda value: repr(value.encode()),
}


@pytest.mark.parametrize("form", sorted(FORMS))
def test_finds_a_canary_in_every_form(form: str):
    assert find(FORMS[form](CANARY_VALUE), [CANARY_VALUE])


def test_finds_nothing_where_nothing_is():
    assert find("nothing of the kind" * 1000, [CANARY_VALUE]) == []


def test_says_which_canary_and_where_but_not_what(tmp_path: Path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "log.txt").write_text("fine\n" + CANARY_VALUE)
    (sighting,) = [found for found in find_in_tree(tmp_path, ["another-canary", CANARY_VALUE]) if found.form == "plain"]
    assert (sighting.where, sighting.canary) == (str(tmp_path / "deep" / "log.txt"), 1)
    with pytest.raises(AssertionError) as caught:
        assert_absent(CANARY_VALUE, [CANARY_VALUE])
    assert find(str(caught.value), [CANARY_VALUE]) == []


def test_finds_a_canary_in_the_name_of_a_file(tmp_path: Path):
    (tmp_path / "cnry-name-1.txt").touch()
    assert find_in_tree(tmp_path, ["cnry-name-1"])


def test_no_form_is_so_short_that_it_stands_anywhere_by_chance():
    assert min(len(needle) for needle in forms_of(CANARY_VALUE).values()) >= 12
