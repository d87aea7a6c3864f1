"""Memory does not end in a core dump."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource
from phasesync.daemon.hardening import harden
resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1])) if {soft_only} else None
print(harden(), resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
@pytest.mark.parametrize("soft_only", [False, True])
def test_a_hardened_process_leaves_no_core_and_cannot_be_traced(soft_only) -> None:
    program = PROGRAM.format(soft_only=soft_only)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "() (0, 0) 0\n"


def test_what_cannot_be_done_is_said_and_stops_nothing(monkeypatch) -> None:
    from phasesync.daemon import hardening as process

    def refused(*_: object) -> None:
        raise OSError

    monkeypatch.setattr("resource.setrlimit", refused)
    monkeypatch.setattr("ctypes.CDLL", refused)
    problems = process.harden()

    assert len(problems) == (2 if sys.platform == "linux" else 1)
    assert problems[0].startswith("core dumps could not be switched off")
