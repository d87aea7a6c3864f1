"""systemd takes the unit without a complaint, and finds it well locked up."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = DEPLOY / "systemd" / "phasesync.service"
INSTALLED = "/opt/phasesync/bin/phasesync"

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with a command that exists here: systemd-analyze looks for it."""
    text = UNIT.read_text()
    assert text.count(INSTALLED) == 1
    command = tmp_path / "bin" / "phasesync"
    command.parent.mkdir()
    command.symlink_to(sys.executable)
    copy = tmp_path / UNIT.name
    copy.write_text(text.replace(INSTALLED, str(command)))
    return copy


def verify(unit: Path) -> str:
    """Return systemd's complaints; its exit code is 0 whatever it finds."""
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@needs_systemd
def test_systemd_has_no_complaint(unit) -> None:
    assert verify(unit) == ""


@needs_systemd
@pytest.mark.parametrize(
    "spoil",
    [
        ("Type=notify", "Type=notifies"),
        ("LimitCORE=0", "LimitCORES=0"),
        ("/bin/phasesync daemon", "/bin/missing daemon"),
    ],
)
def test_systemd_would_complain(spoil, unit) -> None:
    text = unit.read_text()
    assert spoil[0] in text
    unit.write_text(text.replace(*spoil))

    assert verify(unit) != ""


@needs_systemd
def test_it_is_locked_up(unit) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=20", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-500:]


def test_the_key_comes_under_the_name_that_the_daemon_looks_for() -> None:
    from phasesync.adapters.root_keys import CREDENTIAL_NAME

    assert f"\nLoadCredential={CREDENTIAL_NAME}:/etc/phasesync/root.key\n" in UNIT.read_text()


def test_systemd_waits_longer_for_the_end_than_the_daemon_takes() -> None:
    from phasesync.daemon.shutdown import STOP_BEYOND_DRAIN
    from phasesync.settings.model import DaemonSettings

    found = re.search(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), flags=re.MULTILINE)
    assert found is not None
    assert int(found[1]) > DaemonSettings().drain_s + STOP_BEYOND_DRAIN.total_seconds()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_the_program_needs_no_memory_that_is_writable_and_executable() -> None:
    """MemoryDenyWriteExecute=: the kernel has the same as PR_SET_MDWE (65) since 6.3."""
    program = (
        "import ctypes, mmap, sys\n"
        "if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0): sys.exit(77)\n"
        "try: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC); sys.exit('not in force')\n"
        "except PermissionError: pass\n"
        "import alembic, apscheduler, boto3, psycopg, sqlalchemy, ssl, structlog\n"
        "from cryptography.hazmat.primitives.ciphers.aead import AESGCM\n"
        "AESGCM(bytes(32)).encrypt(bytes(12), b'', b'')\n"
        "ssl.create_default_context()\n"
        "boto3.client('secretsmanager', region_name='eu-west-1')\n"
        "from phasesync.daemon.hardening import harden\n"
        "assert harden() == ()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("this kernel has no PR_SET_MDWE")

    assert (done.returncode, done.stderr) == (0, "")
