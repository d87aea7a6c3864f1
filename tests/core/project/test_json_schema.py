"""The JSON Schema: valid itself, complete in its descriptions, and in agreement with the reader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given

from phasesync.core.project.json_schema import DIALECT, schema
from tests.core.project.test_settings import few
from tests.support.projects import Document, projects

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
SCHEMA = schema()
CHECKER = jsonschema.Draft202012Validator(SCHEMA)


def properties(described: Any, at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field that a schema describes, with the way to it."""
    if isinstance(described, dict):
        for name, each in described.get("properties", {}).items():
            if isinstance(each, dict):
                yield f"{at}/{name}", each
        for name, each in described.items():
            yield from properties(each, f"{at}/{name}")
    elif isinstance(described, list):
        for number, each in enumerate(described):
            yield from properties(each, f"{at}/{number}")


def test_it_is_a_schema_and_every_field_has_a_description_that_states_its_default() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == DIALECT and SCHEMA["title"] == "Project"

    for where, field in properties(SCHEMA):
        if where.rpartition("/")[2] in ("allow", "deny"):
            continue
        assert field.get("description", "").endswith("."), where
    for name, model in SCHEMA["$defs"].items():
        assert model["description"].endswith("."), name


def test_no_name_of_python_is_in_it() -> None:
    names = {where.rpartition("/")[2] for where, _ in properties(SCHEMA)}

    assert {"for", "apiVersion", "key_map", "secret_name"} <= names
    assert not {"for_", "api_version", "keys_", "remote_name"} & names


@pytest.mark.parametrize("file", sorted(EXAMPLES.rglob("*.yaml")), ids=lambda path: path.name)
def test_it_takes_the_examples(file: Path) -> None:
    for document in yaml.safe_load_all(file.read_text()):
        CHECKER.validate(document)


@few
@given(projects())
def test_it_takes_what_the_reader_takes(document: Document) -> None:
    CHECKER.validate(document)


@pytest.mark.parametrize(
    ("section", "item"),
    [
        ("apps", {"name": "a", "window": []}),
        ("environments", {"name": "a/b", "values": {"A": "x"}}),
        ("credentials", {"name": "a", "type": "role", "region": "eu-west-1"}),
        ("credentials", {"name": "a", "type": "access-key", "region": "eu-west-1", "secret_access_key": "x"}),
        ("syncs", {"name": "a", "interval": "5 minutes"}),
        ("syncs", {"name": "a", "onDrift": "hold"}),
        ("syncs", {"name": "a", "recovery_days": 31}),
        ("dynamic", {"name": "a", "env": "b", "credential": "c"}),
    ],
)
def test_it_refuses_what_the_reader_refuses(section: str, item: Document) -> None:
    document = {"apiVersion": "phasesync/v1", "kind": "Project", "name": "shop", section: [item]}

    assert list(CHECKER.iter_errors(document))
