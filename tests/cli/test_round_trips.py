"""
What an export holds is what an import restores, and `--resolve` prints what a sync writes.

10,000 examples of each, and 1,000 through the command line and the store:

    HYPOTHESIS_PROFILE=exact .venv/bin/python -m pytest -n0 -o faulthandler_timeout=0 tests/cli/test_round_trips.py
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phasesync.bootstrap import open_application
from phasesync.core.model import EnvironmentSnapshot, SecretValue, SecretWrite, ValueType
from phasesync.core.payloads import build_json_payload
from phasesync.core.references import Resolution, resolve
from phasesync.core.secret_json import FileEntry, as_literal, entries_of_json, export_json, literal_value
from phasesync.engine.source import read_folder
from phasesync.errors import InvalidInputError
from phasesync.settings import load_settings
from tests.cli.conftest import CommandLine
from tests.support.digests import FixedDigests

FEWER = 10 if os.environ.get("HYPOTHESIS_PROFILE") == "exact" else 4
"""Each example is three command lines."""
SAMPLES = [
    "$${y}",
    "${A}",
    "$$${A}",
    "${{ x }}",
    "${",
    "}",
    "$",
    "a\r\nb",
    "\x1b[31mred\x1b[0m",
    "\0",
    "\u2028\x85",
    "",
]
texts = st.text() | st.text("aAB$\\{}.:/'\"#=\n\r\t \x1b\0") | st.lists(st.sampled_from(SAMPLES)).map("".join)
keys = st.sampled_from(["A", "B", "C", "phasesync:type"]) | st.text("ABab01_.-:é", min_size=1, max_size=8)
names = texts | st.sampled_from(["phasesync:type", "phasesync:x", "value", "comment"])
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
written = st.builds(
    lambda document, ascii_, indent: json.dumps(document, ensure_ascii=ascii_, indent=indent),
    documents,
    st.booleans(),
    st.sampled_from([None, 1]),
)
deep = st.integers(90, 100).map(lambda depth: "[" * depth + "]" * depth)
values = (
    texts.map(SecretValue)
    | (written | deep | st.sampled_from(["1.10", "1e5", '"\\u0024{A}"'])).map(
        lambda text: SecretValue(text, ValueType.JSON)
    )
    | st.binary().map(lambda data: SecretValue(data, ValueType.BINARY))
)
entries = st.builds(lambda value, comment: FileEntry(value=value, comment=comment), values, st.just("") | texts)
folders = st.dictionaries(keys, entries, max_size=4)


def content(folder: Mapping[str, FileEntry]) -> dict[str, tuple[ValueType, bytes, str]]:
    """Types, values as entered and comments, by key."""
    return {key: (one.value.type, one.value.reveal(), one.comment or "") for key, one in folder.items()}


def resolution(folder: Mapping[str, SecretValue]) -> Resolution:
    """Resolve the references of a folder."""
    secrets = {("/", key): value for key, value in folder.items()}
    return resolve(EnvironmentSnapshot(environment_id="1", app="a", name="e", revision=1, secrets=secrets), "/", {})


@given(folders)
def test_an_export_in_json_restores_types_comments_and_values_as_entered(folder: Mapping[str, FileEntry]) -> None:
    assert content(entries_of_json(export_json(folder))) == content(folder)


@given(st.dictionaries(keys, documents, max_size=4))
def test_an_object_from_elsewhere_is_literal(document: dict[str, object]) -> None:
    """But for members that have a name of ours: those are ours, or refused."""
    marked = {
        key: member
        for key, member in document.items()
        if isinstance(member, dict) and any(name.startswith("phasesync:") for name in member)
    }
    plain = {key: member for key, member in document.items() if key not in marked}
    for key, member in marked.items():
        with pytest.raises(InvalidInputError, match=key.replace(".", r"\.")):
            entries_of_json(json.dumps({key: member}))
    found = {key: one.value for key, one in entries_of_json(json.dumps(plain), allow_null=True).items()}
    resolved = resolution(found)
    assert resolved.complete
    assert json.loads(build_json_payload("x", resolved.values, FixedDigests()).value.reveal()) == plain


@given(values)
def test_a_literal_value_resolves_to_what_the_value_resolves_to(value: SecretValue) -> None:
    """What dotenv holds: a reference is none, an escape is undone, and the import escapes it again."""
    literal = literal_value(value)
    if literal is None:
        assert not resolution({"K": value}).complete
    elif value.type is not ValueType.BINARY:
        again = resolution({"K": as_literal(literal)})
        first = resolution({"K": value})
        assert again.complete
        assert first.complete
        if value.type is ValueType.TEXT:
            assert again.values["K"] == first.values["K"]
        else:
            assert json.loads(again.values["K"].reveal()) == json.loads(first.values["K"].reveal())


def test_an_export_is_restored_in_another_environment_and_resolve_prints_the_payload(shop: CommandLine) -> None:
    """Through the command line and the store."""
    shop.done("envs", "add", "shop/copy")

    with open_application(load_settings(None).settings) as application:
        store = application.store.secrets

        def stored(environment: str) -> dict[str, tuple[ValueType, bytes, str]]:
            found = store.list_secrets("shop", environment, path="/")
            return content(
                {one.key: FileEntry(value=one.value, comment=one.comment) for one in found if one.value is not None}
            )

        def fill(environment: str, folder: Mapping[str, FileEntry]) -> None:
            writes = [
                SecretWrite(path="/", key=key, value=one.value, comment=one.comment) for key, one in folder.items()
            ]
            unsets = [("/", key) for key in stored(environment) if key not in folder]
            store.edit("shop", environment, actor="t", origin="set", writes=writes, unsets=unsets)

        @settings(max_examples=settings().max_examples // FEWER)
        @given(folders)
        def check(folder: Mapping[str, FileEntry]) -> None:
            fill("prod", folder)
            fill("copy", {})

            exported = shop.done("secrets", "export", "shop/prod", "--format", "json").stdout_bytes
            shop.done("secrets", "import", "shop/copy", "-", "--format", "json", "--yes", stdin=exported)
            assert stored("copy") == content(folder)

            source = read_folder(store, "shop", "prod", "/")
            printed = shop("secrets", "export", "shop/prod", "--resolve", "--format", "json")
            if source.problems:
                assert (printed.exit_code, printed.stdout_bytes) != (0, b"")
                assert source.problems[0].key in printed.stderr
            else:
                payload = build_json_payload("x", source.values, FixedDigests()).value.reveal()
                assert printed.stdout_bytes == payload + b"\n"

        check()
