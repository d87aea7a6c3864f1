"""Every file that names the version names that of this release, and the changelog begins with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from phasesync import __version__

ROOT = Path(__file__).parents[2]
NAMED = {
    "pyproject.toml": r'^version = "(.+)"',
    "deploy/Dockerfile": r'image\.version="(.+?)"| phasesync:(\S+)',
    "deploy/debian/build.py": r"phasesync-([\d.]+)-py3",
    "deploy/release/sbom.py": r"phasesync-([\d.]+)(?:-py3|\.cdx)",
    "deploy/helm/phasesync/Chart.yaml": r"^(?:appV|v)ersion: (.+)",
    "deploy/kubernetes/base/deployment.yaml": r"image: phasesync:(\S+)",
    "deploy/kubernetes/components/backup-sqlite/backup.yaml": r"image: phasesync:(\S+)",
    "deploy/kubernetes/maintenance.yaml": r"image: phasesync:(\S+)",
    "docs/kubernetes.md": r"phasesync:(\d[\d.]*\d)",
    "docs/operations.md": r"phasesync[_-](\d[\d.]*\d)|--branch v(\S+)",
}


@pytest.mark.parametrize("file", NAMED)
def test_a_file_that_names_the_version_names_this_one(file: str) -> None:
    found = re.findall(NAMED[file], (ROOT / file).read_text(), flags=re.MULTILINE)

    assert found
    assert {version for each in found for version in ([each] if isinstance(each, str) else each) if version} == {
        __version__
    }


def test_no_other_file_of_the_deployment_names_a_version_of_the_image() -> None:
    files = [path for path in (ROOT / "deploy").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    naming = {str(path.relative_to(ROOT)) for path in files if re.search(r"phasesync:\d", path.read_text())}

    assert naming <= NAMED.keys()


def test_the_changelog_begins_with_this_version_and_its_day() -> None:
    headings = re.findall(r"^## \[(.+?)\](.*)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    released = [(version, day) for version, day in headings if version != "Unreleased"]

    assert released[0][0] == __version__
    assert all(re.fullmatch(r" - \d{4}-\d\d-\d\d", day) for _, day in released)
    versions = [tuple(map(int, version.split("."))) for version, _ in released]
    assert versions == sorted(set(versions), reverse=True)
