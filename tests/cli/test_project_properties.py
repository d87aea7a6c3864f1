"""Dumps of generated projects change nothing and recreate everything but values; wrong documents change nothing."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.cli.conftest import CommandLine
from tests.support.projects import SECRET_VARIABLE, Document, as_yaml, in_parts, projects
from tests.support.stores import write_root_key
from tests.support.wrong_documents import WRONG

FEW = settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


Fresh = Callable[[], AbstractContextManager[CommandLine]]


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, migrated_sqlite_template: Path) -> Fresh:
    """Opens command lines with empty stores, as many as a property needs."""

    @contextmanager
    def open_one() -> Iterator[CommandLine]:
        data = Path(tempfile.mkdtemp(dir=tmp_path))
        shutil.copyfile(migrated_sqlite_template, data / "phasesync.db")
        (data / "phasesync.db").chmod(0o600)
        write_root_key(tmp_path / "root.key")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("PHASESYNC_DATA_DIR", str(data))
        monkeypatch.setenv("PHASESYNC_ROOT_KEY_FILE", str(tmp_path / "root.key"))
        monkeypatch.setenv(SECRET_VARIABLE, SECRET)
        yield CommandLine(data)
        shutil.rmtree(data)

    return open_one


def dumped(shell: CommandLine, monkeypatch: pytest.MonkeyPatch) -> str:
    """Dump the store; the variables that the dump names for secret access keys are set."""
    text = shell.done("dump").stdout
    for line in text.splitlines():
        if line.strip().startswith("env:") and line.endswith("_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(line.rpartition(" ")[2], SECRET)
    return text


@given(document=projects(protected=False, adopt=False))
@FEW
def test_a_dump_that_is_applied_changes_nothing(
    fresh: Fresh, document: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fresh() as shell:
        shell.done("apply", "-f", "-", stdin=as_yaml(document))
        assert shell.json("diff", "-f", "-", stdin=as_yaml(document))["changes"] == []
        for part in in_parts(document)[:1]:
            assert part["name"] == document["name"]
        text = dumped(shell, monkeypatch)
        before = everything(shell)

        done = shell.json("apply", "-f", "-", stdin=text)

        assert done["changes"] == []
        assert everything(shell) == before
        assert shell.done("dump").stdout == text


@given(document=projects(protected=False, adopt=False))
@FEW
def test_a_dump_recreates_everything_but_values(
    fresh: Fresh, document: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fresh() as shell:
        shell.done("apply", "-f", "-", stdin=as_yaml(document))
        text = dumped(shell, monkeypatch)
        before = everything(shell)
    with fresh() as shell:
        shell.done("apply", "-f", "-", stdin=text)
        assert everything(shell) == before
        assert shell.done("dump").stdout == text


CHANGING = {"created_at", "verified_at", "next_due_at", "id", "last_run", "instance_id"}
"""What is another one in another store, or at another time."""


def everything(shell: CommandLine) -> str:
    """What the lists show of the store."""
    listed = {
        group: [
            {name: value for name, value in item.items() if name not in CHANGING} for item in shell.items(group, "list")
        ]
        for group in ("apps", "envs", "credentials", "dynamic")
    }
    shown = [
        {name: value for name, value in shell.json("syncs", "show", item["name"]).items() if name not in CHANGING}
        for item in shell.items("syncs", "list")
    ]
    return json.dumps([listed, shown], indent=1)


def test_wrong_documents_change_nothing(phasesync: CommandLine, tmp_path: Path) -> None:
    """Each of the table: exit code 2, one line with the place and the fix, and nothing is there afterwards."""
    file = tmp_path / "wrong.yaml"
    assert len(WRONG) >= 100
    for case in WRONG:
        file.write_bytes(case.data)
        done = phasesync("apply", "-f", str(file), "--yes")
        assert done.exit_code == 2, (case.name, done.stderr)
        assert f"wrong.yaml:{case.place}: " in done.stderr, (case.name, done.stderr)
        assert case.fix in done.stderr, (case.name, done.stderr)
        assert case.unsaid is None or case.unsaid not in done.stderr, case.name
    for group in ("apps", "envs", "credentials", "syncs", "dynamic"):
        assert phasesync.items(group, "list") == []
