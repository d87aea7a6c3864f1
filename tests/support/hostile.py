"""
What hostile conditions need of the host: file systems of their own, signals to whole servers, a name server.

Some of it takes root. Without it a test is skipped, and says why; where CI is set, it fails instead: there everything
has to run.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def needs(condition: bool, what: str) -> None:
    """Skip the test where the host lacks something that it needs; in CI that is a failure."""
    if condition:
        return
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"CI has to have what this test needs: {what}")
    pytest.skip(f"this host has no {what}")


@contextmanager
def mounted(*arguments: str, at: Path) -> Iterator[None]:
    """Mount something at a folder during the block: `arguments` are those of mount(8) before the folder."""
    done = subprocess.run(["mount", *arguments, str(at)], capture_output=True, check=False)
    needs(done.returncode == 0, "right to mount a file system (root has it)")
    try:
        yield
    finally:
        # Lazily: what still has files open there may be a process that is about to be killed.
        subprocess.run(["umount", "--lazy", str(at)], check=True)


@contextmanager
def small_disk(at: Path, *, megabytes: int) -> Iterator[None]:
    """Have a disk of its own at a new folder."""
    at.mkdir(mode=0o700)
    with mounted("-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", at=at):
        yield


def fill(folder: Path) -> Path:
    """Use up all space of the disk that a folder is on; return the file that does."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return ballast
