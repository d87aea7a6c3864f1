"""The notes of a release name its migrations, and the IAM actions that its policies have and former ones had not."""

from __future__ import annotations

import os
import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from phasesync.store import migrate
from tests.cli.conftest import CommandLine, phasesync  # noqa: F401 -- a fixture
from tests.upgrade.origins import ROOT, releases
from tests.upgrade.policies import called_actions, printed_actions

VERSION = str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])
FORMER = [release for release in releases() if release.version != VERSION]


def notes_of(version: str) -> str:
    """Return the section of the changelog for a release."""
    text = (ROOT / "CHANGELOG.md").read_text()
    _, head, rest = text.partition(f"\n## [{version}]")
    assert head, f"CHANGELOG.md has no section for {version}"
    return rest.partition("\n## [")[0]


def test_the_notes_of_the_first_release_name_its_schema() -> None:
    assert FORMER[0].schema in notes_of(str(FORMER[0].version))


@pytest.mark.parametrize(
    ("version", "before", "schema"),
    [
        *((str(new.version), old.schema, new.schema) for old, new in pairwise(FORMER)),
        (VERSION, FORMER[-1].schema, migrate.EXPECTED),
    ],
)
def test_the_notes_of_a_release_name_its_migrations(version: str, before: str, schema: str) -> None:
    notes = notes_of(version)

    missing = [one for one in migrate.REVISIONS if before < one <= schema and not re.search(rf"\b{one}\b", notes)]
    assert not missing, f"CHANGELOG.md, {version}: name these migrations, and what each brings and needs"


def test_the_notes_name_the_iam_actions_that_policies_have_and_the_former_release_had_not(
    phasesync: CommandLine,  # noqa: F811
    tmp_path: Path,
) -> None:
    printed = printed_actions(lambda *args: phasesync.done(*args).stdout, tmp_path)
    notes = notes_of(VERSION)

    changed = printed ^ FORMER[-1].actions
    assert not sorted(action for action in changed if action not in notes), "CHANGELOG.md has to name them"
    if not changed:
        assert re.search(r"[Nn]o new IAM action", notes), "CHANGELOG.md has to say that policies need no new IAM action"


def test_the_notes_name_the_iam_actions_of_calls_that_the_former_release_did_not_make() -> None:
    """Of features that need rights of their own, such as backups to S3."""
    notes = notes_of(VERSION)

    new = called_actions(os.environ) - FORMER[-1].calls
    assert not sorted(action for action in new if action not in notes), "CHANGELOG.md has to name them"
