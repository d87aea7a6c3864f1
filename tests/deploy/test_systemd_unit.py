"""systemd takes the unit without a complaint, and finds it well locked up."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
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
@pytest.mark.parametrize("drop_ins", [(), ("encrypted-key.conf",), ("kms-key.conf",)])
def test_it_is_locked_up(unit, drop_ins) -> None:
    for name in drop_ins:
        add_drop_in(unit, name)
    command = ["systemd-analyze", "security", "--offline=yes"]
    done = subprocess.run([*command, "--threshold=12", str(unit)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout[-500:]
    strict = subprocess.run([*command, "--threshold=5", str(unit)], capture_output=True, text=True, check=False)
    assert strict.returncode != 0, "the threshold is looked at"


def test_whoever_breaks_into_the_daemon_gets_no_further_on_the_host() -> None:
    """What the threat model says of it, also where no systemd is."""
    lines = [line for line in UNIT.read_text().splitlines() if line and line[0] not in "#["]
    set_to = dict(line.split("=", 1) for line in lines if not line.startswith("SystemCallFilter=~"))

    assert set_to["User"] == "phasesync"
    assert set_to["CapabilityBoundingSet"] == set_to["AmbientCapabilities"] == "", "none"
    assert set_to["NoNewPrivileges"] == set_to["PrivateDevices"] == set_to["RestrictNamespaces"] == "yes"
    assert (set_to["ProtectSystem"], set_to["ProtectHome"]) == ("strict", "yes")
    assert set_to["StateDirectory"] == "phasesync" and "ReadWritePaths" not in set_to, "the only place to write to"
    assert "SystemCallFilter=~@privileged @resources" in lines


# --- drop-ins


def add_drop_in(unit: Path, name: str) -> None:
    folder = unit.with_name(f"{unit.name}.d")
    folder.mkdir(exist_ok=True)
    shutil.copyfile(DEPLOY / "systemd" / name, folder / name)


def systemd_version() -> int:
    said = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True, check=True).stdout
    return int(said.split()[1])


@needs_systemd
@pytest.mark.parametrize("name", ["encrypted-key.conf", "kms-key.conf"])
def test_systemd_has_no_complaint_about_another_place_of_the_root_key(name, unit) -> None:
    add_drop_in(unit, name)

    assert verify(unit) == ""


@needs_systemd
def test_waiting_for_a_reload_is_for_systemd_that_knows_it(unit) -> None:
    add_drop_in(unit, "notify-reload.conf")

    assert ("notify-reload" in verify(unit)) is (systemd_version() < 253)


def test_a_drop_in_takes_the_place_of_what_the_unit_says() -> None:
    """systemd adds to a list, such as that of credentials, unless an empty assignment clears it first."""
    encrypted = settings_of(DEPLOY / "systemd" / "encrypted-key.conf")
    assert encrypted[0] == ("LoadCredential", "")
    assert encrypted[1][0] == "LoadCredentialEncrypted"
    assert settings_of(DEPLOY / "systemd" / "kms-key.conf") == [("LoadCredential", "")]
    assert settings_of(DEPLOY / "systemd" / "notify-reload.conf") == [("Type", "notify-reload"), ("ExecReload", "")]


def settings_of(file: Path) -> list[tuple[str, str]]:
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith(("#", "["))]
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]


# --- the root key


@pytest.fixture
def systemd_creds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """systemd-creds with a host key of its own: that of this machine is not made."""
    monkeypatch.setenv("SYSTEMD_CREDENTIAL_SECRET", str(tmp_path / "credential.secret"))

    def run(*words: str | Path) -> None:
        done = subprocess.run(["systemd-creds", *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(done.stderr)

    try:
        run("setup")
    except OSError as error:
        pytest.skip(f"systemd-creds makes no host key here: {error}")
    return run


@pytest.mark.skipif(shutil.which("systemd-creds") is None, reason="systemd-creds is not installed")
def test_the_daemon_takes_the_root_key_that_systemd_decrypted(systemd_creds, tmp_path) -> None:
    from phasesync.adapters.root_keys import load_root_key, write_new_root_key

    key = write_new_root_key(tmp_path / "root.key")
    ((_, given),) = [each for each in settings_of(DEPLOY / "systemd" / "encrypted-key.conf") if each[1]]
    name, _, file = given.partition(":")
    encrypted = tmp_path / Path(file).name
    # As docs/operations.md has it. systemd decrypts it with the name of the credential, under which the daemon looks.
    systemd_creds("encrypt", "--with-key=host", f"--name={name}", tmp_path / "root.key", encrypted)
    assert (tmp_path / "root.key").read_bytes().strip() not in encrypted.read_bytes()
    (tmp_path / "credentials").mkdir()
    systemd_creds("decrypt", f"--name={name}", encrypted, tmp_path / "credentials" / name)

    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    loaded = load_root_key(file=tmp_path / "away.key", environ=environ)
    assert loaded.material == key.material
    with pytest.raises(OSError, match="name"):
        systemd_creds("decrypt", "--name=another", encrypted, tmp_path / "other")


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
