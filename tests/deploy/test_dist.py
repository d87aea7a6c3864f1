"""`make dist` needs nothing but a clone and Python, and what it makes is complete."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.e2e,
    pytest.mark.skipif(
        shutil.which("git") is None or not (ROOT / ".git").exists(), reason="this is no clone, so nothing can be cloned"
    ),
]


def tracked() -> list[str]:
    """Return what a clone would have, if everything were committed."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [name for name in names if (ROOT / name).is_file()]


def test_a_fresh_clone_makes_both_archives_with_what_builds_and_no_more(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    for name in tracked():
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, clone / name)
    # Not what this run was started with: the environment of a shell in the clone.
    given = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL")}
    made = subprocess.run(["make", "dist"], cwd=clone, env=given, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr

    assert os.listdir(clone / ".venv") == [".build"], "the development environment is not made"
    packages = {path.name.partition("-")[0] for path in clone.glob(".venv/.build/lib/*/site-packages/*.dist-info")}
    assert packages - {"pip", "setuptools"} == set(pins("build.txt"))
    (archive,) = (clone / "dist").glob("*.tar.gz")
    (wheel,) = (clone / "dist").glob("*.whl")
    with tarfile.open(archive) as file:
        inside = {member.name.partition("/")[2] for member in file if member.isfile()}
    with zipfile.ZipFile(wheel) as unpacked:
        modules = set(unpacked.namelist())
    wanted = set(tracked())
    assert wanted <= inside
    # What git ignores is missing in a clone: none of it may be needed.
    deployed = {str(path.relative_to(ROOT)) for path in (ROOT / "deploy").rglob("*") if path.is_file()}
    assert {name for name in deployed if "__pycache__" not in name} <= inside
    sources = {name for name in wanted if name.startswith("phasesync/")}
    assert sources and sources <= modules
    assert "phasesync/_migrations/env.py" in modules
    assert not any(name.startswith(("tests/", "deploy/")) for name in modules)


def pins(file: str) -> list[str]:
    lines = (ROOT / "requirements" / file).read_text().splitlines()
    return [line.partition("==")[0].replace("-", "_") for line in lines if "==" in line]
