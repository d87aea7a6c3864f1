"""
Wheels of phasesync, built by the environment that runs the tests: offline, in a second or so.

    build_wheel(tree, folder)     of any tree, such as that of an earlier release
    wheel                         a fixture: of this tree, built once in a test run
    made_once(...)                anything else that is built once, whichever process of a test run comes first
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def build_wheel(tree: Path, target: Path, *, kind: str = "wheel") -> Path:
    """
    Build the wheel of a tree as `make dist` does, and return its path. Nothing is written into the tree.

    Args:
        tree: the folder of its pyproject.toml.
        target: the folder for it; it is made if it is missing. Nothing else is in it.
        kind: `sdist` builds the source archive.
    """
    environ = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    command = f"{sys.executable} -B -m hatchling build --target {kind} --directory".split()
    building = [*command, str(target.resolve())]
    built = subprocess.run(building, cwd=tree, env=environ, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (made,) = target.glob("phasesync-*")
    return made


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that the first process of a test run fills with `make`, while the others wait for that."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    folder.mkdir(exist_ok=True)
    with Path(f"{folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made := Path(f"{folder}.made")).exists():
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree."""
    (wheel,) = made_once(tmp_path_factory, "wheel", lambda folder: build_wheel(ROOT, folder)).glob("*.whl")
    return wheel
