"""
Wheels of phasesync, built by the environment that runs the tests: offline, in a second or so.

    build_wheel(tree, folder)     of any tree, such as that of an earlier release
    wheel                         a fixture: of this tree, built once in a test run
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def build_wheel(tree: Path, target: Path, *, umask: int = 0o022) -> Path:
    """
    Build the wheel of a tree as `make dist` does, and return its path. Nothing is written into the tree.

    Args:
        tree: the folder of its pyproject.toml.
        target: the folder for the wheel; it is made if it is missing. It holds one wheel at the end.
        umask: that of the process that builds.
    """
    environ = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    building = [
        sys.executable,
        "-B",
        "-m",
        "hatchling",
        "build",
        "--target",
        "wheel",
        "--directory",
        str(target.resolve()),
    ]
    built = subprocess.run(building, cwd=tree, env=environ, umask=umask, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = target.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree. The first process of a test run builds it, the others wait for that."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "wheel"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return next(folder.glob("*.whl"), None) or build_wheel(ROOT, folder)
