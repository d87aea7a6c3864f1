"""promtool is taken from where there is one; without, tests say why they skip, and fail in continuous integration."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import promtool

SCRIPT = Path(__file__).parents[2] / ".ci" / "promtool"


def path_with(folder: Path, *programs: str) -> Path:
    """Make a folder with some programs of this machine, and nothing else."""
    folder.mkdir()
    for name in programs:
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder


def fetch(into: Path, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, into], env={"PATH": str(path)}, capture_output=True, text=True, check=False)


def test_programs_on_the_path_are_used(tmp_path) -> None:
    path = path_with(tmp_path / "bin", "rm", "mkdir", "ln")
    for name in ("promtool", "prometheus"):
        (path / name).write_text("#!/bin/sh\n")
        (path / name).chmod(0o755)

    done = fetch(tmp_path / "promtool", path)

    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "promtool" / "promtool").readlink() == path / "promtool"
    assert (tmp_path / "promtool" / "prometheus").readlink() == path / "prometheus"


def test_without_a_package_it_says_why_and_goes_on(tmp_path) -> None:
    done = fetch(tmp_path / "promtool", path_with(tmp_path / "bin", "rm", "mkdir", "cat"))

    assert done.returncode == 0
    assert "there is no apt-get to take them out of a package with" in (tmp_path / "promtool" / "missing").read_text()
    assert "The alerts will not be tested" in done.stderr


class TestWithoutPromtool:
    @pytest.fixture(autouse=True)
    def missing(self, tmp_path, monkeypatch) -> None:
        (tmp_path / "missing").write_text("there is none here\n")
        monkeypatch.setattr(promtool, "FOLDER", tmp_path)

    def test_a_test_skips_with_the_reason(self, monkeypatch) -> None:
        monkeypatch.delenv("CI", raising=False)

        with pytest.raises(pytest.skip.Exception, match="there is none here"):
            promtool.program()

    def test_a_test_fails_in_continuous_integration(self, monkeypatch) -> None:
        monkeypatch.setenv("CI", "true")

        with pytest.raises(pytest.fail.Exception, match="no alert is tested: there is none here"):
            promtool.program()
