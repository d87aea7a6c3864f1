"""`phasesync run`: what is refused before anything is issued, and leases that outlast the issue of others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from phasesync.cli.output import Output
from phasesync.cli.run.variables import environ_with, warn_of_loading
from phasesync.emulator import Answer, Operation
from tests.cli.conftest import CommandLine, add_dynamic, users
from tests.support.aws import Aws
from tests.support.vouching import vouch_for_leases

SECOND = ("--key-map", "username=B_USER,access_key_id=B_ID,secret_access_key=B_SECRET")
RUN = ("run", "--env", "shop/prod")


@pytest.mark.parametrize("dynamics", [(), ("--dynamic", "ci")], ids=["secrets", "lease"])
@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("{folder}/missing", 127, "No such file"),
        ("{folder}/plain/missing", 127, "Not a directory"),
        ("missing", 127, "No such file"),
        ("", 127, "No such file"),
        ("{folder}", 126, "Is a directory"),
        ("{folder}/plain", 126, "Permission denied"),
        ("plain", 126, "Permission denied"),
    ],
)
def test_a_command_that_cannot_be_run_has_a_shells_exit_code_and_no_lease(
    ci: CommandLine,
    dynamics: tuple[str, ...],
    command: str,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is looked for in the PATH of the caller."""
    folder = ci.directory / "bin"
    folder.mkdir()
    (folder / "plain").write_text("no program")
    monkeypatch.setenv("PATH", str(folder))

    refused = ci(*RUN, *dynamics, "--", command.format(folder=folder))

    assert (refused.exit_code, said in refused.stderr) == (code, True), refused.stderr
    assert ci.items("leases", "list", "--all") == []


def test_a_command_gets_no_secret_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The root key opens everything, and the password of the mail server is for mail."""
    monkeypatch.setenv("PHASESYNC_ROOT_KEY", "key")
    monkeypatch.setenv("PHASESYNC_NOTIFICATIONS__SMTP_PASSWORD", "password")

    environ = environ_with({"URL": "postgres://db"}, [])

    assert environ["URL"] == "postgres://db"
    assert not {"PHASESYNC_ROOT_KEY", "PHASESYNC_NOTIFICATIONS__SMTP_PASSWORD"} & set(environ)


def test_what_only_the_kernel_refuses_is_there_and_cannot_be_executed(ci: CommandLine, aws: Aws) -> None:
    script = ci.directory / "script"
    script.write_text("#!/nonexistent/interpreter\n")
    script.chmod(0o755)

    assert ci(*RUN, "--dynamic", "ci", "--", str(script)).exit_code == 126
    assert users(aws) == set()


def test_a_key_that_is_no_name_of_a_variable_is_refused_with_what_mends_it(ci: CommandLine) -> None:
    ci.done("dynamic", "update", "ci", "--key-map", "access_key_id=A=B")

    refused = ci(*RUN, "--dynamic", "ci", "--", "true")

    assert refused.exit_code == 2
    assert "phasesync dynamic update ci --key-map access_key_id=NAME" in refused.stderr
    assert ci.items("leases", "list", "--all") == []


@pytest.fixture
def two_folders(ci: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program `which-one` in the caller's PATH, and another one in the secret PATH."""
    for name in ("mine", "theirs"):
        (ci.directory / name).mkdir()
        program = ci.directory / name / "which-one"
        program.write_text(f'#!/bin/sh\necho "{name} $PATH" > {ci.directory}/ran\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ci.directory}/mine:{os.environ['PATH']}")
    ci.done("secrets", "set", "shop/prod", "PATH", "-", stdin=f"{ci.directory}/theirs")
    return ci.directory / "ran"


@pytest.mark.parametrize("dynamics", [(), ("--dynamic", "ci")], ids=["secrets", "lease"])
def test_the_path_of_the_caller_decides_which_program_runs(
    ci: CommandLine, two_folders: Path, dynamics: tuple[str, ...]
) -> None:
    """The program itself gets the secret."""
    command = [sys.executable, "-m", "phasesync", *RUN, "--", "which-one"]
    if dynamics:
        done = ci.done(*RUN, *dynamics, "--", "which-one").stderr
    else:
        done = subprocess.run(command, capture_output=True, check=True, text=True).stderr
    assert two_folders.read_text() == f"mine {ci.directory}/theirs\n"
    assert "warning: PATH: decides what code the command" in done


def test_a_command_that_is_only_in_the_secret_path_is_not_found(
    ci: CommandLine, two_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    for dynamics in ((), ("--dynamic", "ci")):
        assert ci(*RUN, *dynamics, "--", "which-one").exit_code == 127
    assert not two_folders.exists()


def test_secrets_by_which_programs_load_code_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    loading = ["BASH_ENV", "LD_LIBRARY_PATH", "LD_PRELOAD", "NODE_OPTIONS", "PATH", "PYTHONPATH", "RUBYOPT"]
    warn_of_loading(["A", *loading, "LD", "MY_PATH", "PYTHON_VERSION", "path"], Output(as_json=False))
    told = capsys.readouterr().err
    assert told.startswith(f"warning: {', '.join(loading)}: ")
    warn_of_loading(["A", "DATABASE_URL"], Output(as_json=False))
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a limit for one variable")
def test_a_variable_that_is_too_large_is_named_before_anything_is_issued(ci: CommandLine) -> None:
    for key, size in {"FITS": 131_072 - 6, "BIG": 131_072 - 4}.items():
        ci.done("secrets", "set", "shop/prod", key, "-", stdin="x" * size)
    for dynamics in ((), ("--dynamic", "ci")):
        refused = ci(*RUN, *dynamics, "--", "true")
        assert (refused.exit_code, "131,072 bytes a variable: BIG (131,073 bytes)\n" in refused.stderr) == (2, True)
    assert ci.items("leases", "list", "--all") == []
    ci.done("secrets", "unset", "shop/prod", "BIG")
    assert ci.done(*RUN, "--dynamic", "ci", "--", "true").exit_code == 0


def test_an_environment_that_is_too_large_names_its_largest_keys(ci: CommandLine) -> None:
    limit = min(os.sysconf("SC_ARG_MAX"), 6 * 1_024 * 1_024)
    one = 100_000
    content = {f"K{n:02}": "x" * (one - n) for n in range(limit // one + 1)}
    ci.done("secrets", "import", "shop/prod", "-", "--format", "json", "--yes", stdin=json.dumps(content))
    refused = ci(*RUN, "--dynamic", "ci", "--", "true")
    assert refused.exit_code == 2
    assert f"this system takes {limit:,}; the largest: K00 (100,005 bytes), K01" in refused.stderr
    assert ci.items("leases", "list", "--all") == []


def test_a_value_that_no_environment_can_have_is_refused(ci: CommandLine) -> None:
    ci.done("secrets", "set", "shop/prod", "ODD", "-", stdin="canary\0")

    refused = ci(*RUN, "--dynamic", "ci", "--", "true")

    assert (refused.exit_code, "the value of ODD" in refused.stderr) == (2, True)
    assert "canary" not in refused.stderr
    assert ci.items("leases", "list", "--all") == []


def test_a_command_gets_utf8_whatever_the_locale(shop: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own bytes too: what is no UTF-8 among its words and in its environment passes as it is."""
    shop.done("secrets", "set", "shop/prod", "UMLAUT", "-", stdin="ü€")
    for name, value in {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "OLD": "gr\udcfc\udcdfe"}.items():
        monkeypatch.setenv(name, value)
    command = ["sh", "-c", 'printf %s "$UMLAUT|$OLD|$1|$PYTHONUTF8"', "sh", "\udcfcml\u00e4ut"]

    done = subprocess.run([sys.executable, "-m", "phasesync", *RUN, "--", *command], capture_output=True, check=False)

    assert (done.returncode, done.stdout) == (0, "ü€".encode() + b"|gr\xfc\xdfe|\xfcml\xc3\xa4ut|0"), done.stderr


def test_a_lease_is_renewed_in_time_however_long_the_next_one_takes(
    ci: CommandLine, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_dynamic(ci, "second", *SECOND)
    ahead = [0.0]
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + ahead[0])
    monkeypatch.setattr("phasesync.cli.run.renewal.time", clock)

    def take_long(_operation: Operation) -> Answer | None:
        """45 s of the first lease's minute go by."""
        ahead[0] = 45.0
        engine = sa.create_engine(f"sqlite:///{ci.directory}/data/phasesync.db", poolclass=sa.NullPool)
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE leases SET expires_at = expires_at - 45000000 WHERE status = 'active'"))
        vouch_for_leases(f"sqlite:///{ci.directory}/data/phasesync.db")
        return None

    aws.server.do("CreateUser", take_long, nth=2)
    wait_for_it = (
        "import sys, time, sqlite3; db = sqlite3.connect(sys.argv[1], timeout=30)\n"
        "while not db.execute(\"SELECT 1 FROM lease_events WHERE event = 'renewed'\").fetchall(): time.sleep(0.05)"
    )
    command = ("timeout", "10", sys.executable, "-c", wait_for_it, str(ci.directory / "data" / "phasesync.db"))

    done = ci(*RUN, "--dynamic", "ci,second", "--ttl", "60s", "--", *command)

    assert done.exit_code == 0, done.stderr
    first = ci.items("leases", "list", "--all", "--dynamic", "ci")[0]["id"]
    assert [one["event"] for one in ci.json("leases", "show", first)["log"]] == ["issued", "renewed", "revoked"]
