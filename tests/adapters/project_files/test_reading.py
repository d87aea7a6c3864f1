"""Which files are read, and what YAML in them means."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
import yaml as pyyaml
from hypothesis import given, settings
from hypothesis import strategies as st

from phasesync.adapters.project_files import read
from phasesync.adapters.project_files.read import read_documents, read_projects
from phasesync.adapters.project_files.scalars import scalar
from phasesync.adapters.project_files.yaml import read_yaml
from phasesync.core.project.desired import DesiredEnvironment, DesiredSync
from phasesync.core.project.nodes import Unquoted
from phasesync.errors import DocumentError, InvalidInputError
from tests.support.reading import read_text
from tests.support.wrong_documents import HEAD, WORLD

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"


def files(folder: Path, **contents: str) -> Path:
    """A folder with files; `__` in a name is a slash, and `_` before an ending a dot."""
    for name, text in contents.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_a_directory_is_read_in_the_order_of_its_paths(tmp_path: Path) -> None:
    files(
        tmp_path,
        b_yaml="b: 1",
        a_yml="a: 1",
        c__d_json='{"c": 1}',
        notes_txt="x",
        _hidden_yaml="h: 1",
        _git__x_yaml="x: 1",
    )

    documents = read_documents([str(tmp_path)])

    assert [document.root.data for document in documents] == [{"a": 1}, {"b": 1}, {"c": 1}]
    assert documents[2].file == f"{tmp_path}/c/d.json" and documents[2].folder == f"{tmp_path}/c"


def test_a_file_that_a_document_names_is_no_document(tmp_path: Path) -> None:
    policy = '{"Statement": [], "Version": "2012-10-17"}'
    text = (
        HEAD
        + "apps: [shop]\nenvironments: [{name: shop/live, values: {sops: ../secrets.yaml}}]\n"
        + "credentials: [{name: aws, type: ambient, region: eu-west-1}]\n"
        + "syncs: [{name: a, env: live, credential: aws, secret_name: a, resource_policy: {file: p.json}}]\n"
    )
    files(tmp_path, projects__shop_yaml=text, projects__p_json=policy, secrets_yaml="A: [ENC")

    (project,) = read_projects([str(tmp_path)])

    (environment,) = project.objects["environment"]
    (sync,) = project.objects["sync"]
    assert isinstance(environment, DesiredEnvironment) and isinstance(sync, DesiredSync)
    assert environment.values_file == f"{tmp_path}/projects/../secrets.yaml"
    assert str(environment.values_place) == f"{tmp_path}/projects/shop.yaml:5:49"
    assert sync.config.resource_policy == '{"Statement":[],"Version":"2012-10-17"}'


def test_one_unreadable_file_refuses_the_whole_directory(tmp_path: Path) -> None:
    files(tmp_path, a_yaml=HEAD, b_yaml="x: [", c_yaml="---\n")

    with pytest.raises(DocumentError) as caught:
        read_projects([str(tmp_path)])

    assert [problem.partition(": ")[0] for problem in caught.value.problems] == [
        f"{tmp_path}/b.yaml:2:1",
        f"{tmp_path}/c.yaml:1:1",
    ]


def test_all_problems_of_all_files_are_reported(tmp_path: Path) -> None:
    files(tmp_path, a_yaml=HEAD + "app: []\nsyncs: [{nam: x}]\n", b_yaml=HEAD + "manage: x\n")

    with pytest.raises(DocumentError) as caught:
        read_projects([str(tmp_path)])

    assert [problem.split(": ")[0].rpartition("/")[2] for problem in caught.value.problems] == [
        "a.yaml:4:1",
        "a.yaml:5:10",
        "b.yaml:4:9",
    ]
    assert caught.value.exit_code == 2 and "(and 2 more)" in caught.value.message


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: None, "shop.yaml does not exist"),
        (lambda path: path.mkdir(), "has no document"),
        (lambda path: (path.mkdir(), (path / ".a.yaml").write_text("a: 1")), "has no document"),
        (lambda path: path.write_bytes(b"a" * 101), "more than 100 bytes"),
        (lambda path: path.symlink_to(os.devnull), "is not a file"),
    ],
)
def test_what_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Any, message: str
) -> None:
    monkeypatch.setattr(read, "_documents", lambda data, *rest: pytest.fail("it was read"))
    monkeypatch.setattr(read, "MAX_BYTES", 100)
    prepare(tmp_path / "shop.yaml")

    with pytest.raises(InvalidInputError) as caught:
        read_projects([str(tmp_path / "shop.yaml")])

    assert message in caught.value.message and not isinstance(caught.value, DocumentError)


def test_stdin_starts_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files(tmp_path, p_json='{"Statement": []}')
    text = (
        WORLD + "syncs: [{name: a, env: staging, credential: aws, secret_name: a, resource_policy: {file: p.json}}]\n"
    )

    (project,) = read_projects(["-"], stdin=io.BytesIO(text.encode()))

    (sync,) = project.objects["sync"]
    assert isinstance(sync, DesiredSync) and sync.config.resource_policy == '{"Statement":[]}'
    assert project.files == ("<stdin>",)


def test_an_object_in_two_files_names_both_places(tmp_path: Path) -> None:
    files(tmp_path, a_yaml=HEAD + "apps: [web]\n", b_yaml=HEAD.replace("shop", "other") + "apps: [Web]\n")

    with pytest.raises(DocumentError) as caught:
        read_projects([str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")])

    assert caught.value.problems == (
        f"{tmp_path}/b.yaml:4:8: the app Web is also in {tmp_path}/a.yaml:4:8, in the project shop; write it in one "
        "place of one project",
    )


def test_merge_keys_aliases_and_places() -> None:
    text = "a: &a {x: '1', y: '2'}\nb: &b {y: '3'}\nc:\n  <<: [*b, *a]\n  z: *a\nd: {<<: *a, x: '4'}\n"

    (root,) = read_yaml(text.encode(), "f")

    assert root.data["c"] == {"z": {"x": "1", "y": "2"}, "y": "3", "x": "1"}
    assert root.data["d"] == {"x": "4", "y": "2"}
    assert isinstance(root.members, dict)
    alias = root.members["c"].members["z"]  # type: ignore[call-overload,index]
    assert (alias.line, alias.column) == (5, 6), "of the alias, not of what it repeats"


def test_json_is_read_with_tabs_and_characters_of_two_escapes() -> None:
    (root,) = read_yaml(b'{\n\t"a": "\\ud83d\\ude00 \\\\ud83d\\\\ude00 \\/",\n\t"b": true\n}', "f")

    assert root.data == {"a": "\U0001f600 \\ud83d\\ude00 /", "b": True}


@given(st.text("0123456789abcdefoxynYNOTtrueFALSEinNull.:-+_~ eE", max_size=12).map(str.strip))
@settings(max_examples=300, derandomize=True, deadline=None, database=None)
def test_what_pyyaml_takes_for_something_else_is_never_text(text: str) -> None:
    try:
        theirs = pyyaml.safe_load(text)
    except (pyyaml.YAMLError, ValueError):
        return
    ours = scalar(text)
    if isinstance(theirs, dict | list) or "#" in text:
        return
    if isinstance(ours, str):
        assert theirs == ours
    elif isinstance(ours, bool | int):
        assert theirs == ours and isinstance(theirs, type(ours))


@pytest.mark.parametrize(
    "text", ["on", "No", "012", "0o14", "0x1F", "1_000", "1e3", "1.", ".5", "-.inf", ".nan", "1:30", "2026-01-31", "+1"]
)
def test_scalars_that_programs_read_in_different_ways_are_refused_as_text(text: str) -> None:
    assert isinstance(scalar(text), Unquoted)


@pytest.mark.parametrize("text", ["", "~", "null", "true", "False", "12", "-3", "0"])
def test_scalars_that_all_programs_read_alike_are_what_they_read(text: str) -> None:
    assert scalar(text) == pyyaml.safe_load(text)


@pytest.mark.parametrize("text", ["a:b", "10.0.0.1", "5m", "12a", "a-b", "2026-01", "version 2", "-", "=", "@x"])
def test_other_scalars_are_text(text: str) -> None:
    assert scalar(text) == text


def test_the_examples_are_read() -> None:
    (shop,) = read_projects([str(EXAMPLES / "project.yaml")])
    (thirty,) = read_projects([str(EXAMPLES / "thirty-syncs")])

    assert all(shop.objects.values())
    assert (len(thirty.objects["environment"]), len(thirty.objects["sync"])) == (20, 30)
    lines = sum(len(path.read_text().splitlines()) for path in (EXAMPLES / "thirty-syncs").iterdir())
    assert lines <= 60
    assert read_text((EXAMPLES / "project.yaml").read_bytes())[0].objects.keys() == shop.objects.keys()
