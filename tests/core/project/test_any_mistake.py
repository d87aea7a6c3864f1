"""Whatever is put in place of any part of a document: it is read, or refused with places, and nothing else happens."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import settings as run_with
from hypothesis import strategies as st

from tests.core.project.test_settings import few
from tests.support.projects import projects
from tests.support.reading import problems_of

SECRET = "s3cr3t"
junk = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        1.5,
        "",
        "x",
        "{x}",
        "a/b",
        [],
        {},
        [None],
        {"a": None},
        [[1]],
        {"x": {"y": 1}},
        "é" * 300,
        "\n",
    ]
)
SECRETIVE = ("secret_access_key", "values", "external_id", "access_key_id")


def places(document: Any) -> list[tuple[Any, Any]]:
    """Every container of a document with every key or index in it."""
    found: list[tuple[Any, Any]] = []
    for key, each in document.items() if isinstance(document, dict) else enumerate(document):
        found.append((document, key))
        if isinstance(each, dict | list):
            found += places(each)
    return found


@few
@given(projects(), st.data())
def test_any_other_value_in_any_place_is_read_or_refused_with_its_place(document: Any, data: st.DataObject) -> None:
    for _ in range(8):
        changed = json.loads(json.dumps(document))
        container, key = data.draw(st.sampled_from(places(changed)))
        container[key] = data.draw(junk)
        problems = problems_of(json.dumps(changed))
        assert all(problem.startswith("<stdin>:1:") and "\n" not in problem for problem in problems)


@few
@given(projects(), st.data())
def test_a_value_in_the_place_of_a_secret_is_never_repeated(document: Any, data: st.DataObject) -> None:
    for _ in range(8):
        changed = json.loads(json.dumps(document))
        word = data.draw(st.sampled_from(SECRETIVE))
        section = "environments" if word == "values" else "credentials"
        form = data.draw(
            st.sampled_from([SECRET, [SECRET], {SECRET: 1}, {"env": [SECRET]}, {"sops": {SECRET: SECRET}}])
        )
        item = changed[section][0]
        changed[section][0] = ({"name": item} if isinstance(item, str) else item) | {word: form}
        problems = problems_of(json.dumps(changed))
        assert problems or (word == "external_id" and form == SECRET)
        assert SECRET not in str(problems)


@run_with(max_examples=200, derandomize=True, deadline=None, database=None)
@given(st.text("{}[]:,-&*!|>'\"%@`#?<\t\r\n ~=ab1.\ufeff\u2028\x85\x07é😀", max_size=40) | st.binary(max_size=40))
def test_any_text_and_any_bytes_are_read_or_refused_with_a_place(data: str | bytes) -> None:
    for problem in problems_of(data):
        assert problem.startswith("<stdin>:") and "\n" not in problem
