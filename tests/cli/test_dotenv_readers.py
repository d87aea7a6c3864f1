"""
An export is read by those who read dotenv: bash, node and python-dotenv themselves, each where it is installed.

node needs util.parseEnv, which is there from 20.12 on; the parser of --env-file is the same.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from dotenv import dotenv_values

from phasesync.cli.formats import Format, write
from phasesync.core.dotenv import BASH, NODE, PYTHON, DotenvLine, dotenv_line, write_shell
from phasesync.core.model import SecretValue
from tests.cli.conftest import CommandLine

MANY = 300
CHARACTERS = "ab'\"\\\n\r\t #=$`{}é!~;&|<>()*?[]%:,x0\x1b\x7f\x01\u2028\u00a0😀n\\'\"$-_./"
COMMON = ["postgres://u:p@db:5432/x?a=b&c=d", "-----BEGIN KEY-----\nab+/=\n-----END KEY-----\n", "pa$$w0rd#1", "it's"]
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


def can_parse() -> bool:
    node = shutil.which("node")
    script = "process.exit(typeof require('util').parseEnv === 'function' ? 0 : 1)"
    return node is not None and subprocess.run([node, "-e", script], check=False).returncode == 0


@pytest.fixture(scope="module")
def values() -> list[str]:
    """The same in each run: odd characters, and what people have."""
    chosen = random.Random(9)
    return ["".join(chosen.choices(CHARACTERS, k=n % 20)) for n in range(MANY)] + COMMON


@pytest.fixture(scope="module")
def lines(values: list[str]) -> list[DotenvLine]:
    return [dotenv_line(f"K{number}", value) for number, value in enumerate(values)]


def sourced(file: Path, names: list[str]) -> list[str]:
    """What bash has after `set -a; . file`."""
    script = 'set -a; . "$1"; shift; for n in "$@"; do printf "%s\\0" "${!n}"; done'
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-c", script, "bash", str(file), *names],
        capture_output=True,
        check=True,
        env={},
    )
    assert done.stderr == b""
    return done.stdout.decode().split("\0")[:-1]


@needs_bash
def test_bash_reads_what_is_said_to_be_read(values: list[str], lines: list[DotenvLine], tmp_path: Path) -> None:
    file = tmp_path / "env"
    served = [n for n, line in enumerate(lines) if BASH in line.read_by]
    file.write_bytes("".join(lines[n].text for n in served).encode())
    assert sourced(file, [f"K{n}" for n in served]) == [values[n] for n in served]
    assert len(served) > MANY // 2


def test_lines_that_not_all_read_stand_last(values: list[str], lines: list[DotenvLine]) -> None:
    """Where a quote stays open for a reader, it misreads what follows as well."""
    written = write({f"K{n}": SecretValue(value) for n, value in enumerate(values)}, Format.DOTENV)
    read_by_all = sorted((f"K{n}", line.text) for n, line in enumerate(lines) if line.misread_by in ((), (PYTHON,)))
    assert 10 < len(read_by_all) < len(lines)
    assert written.startswith("".join(text for _, text in read_by_all))


@needs_bash
def test_lines_for_shells_are_exact(values: list[str], tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_bytes(write_shell({f"K{n}": value for n, value in enumerate(values)}).encode())
    assert sourced(file, [f"K{n}" for n in range(len(values))]) == values


@needs_bash
def test_bash_takes_values_for_all_its_variables_but_those_that_are_noted(tmp_path: Path) -> None:
    names = subprocess.run(["bash", "-c", "compgen -v"], capture_output=True, check=True, text=True).stdout.split()
    file = tmp_path / "env"
    script = f'. "$1"; exec {shutil.which("env")} -0'
    for name in names:
        file.write_text(dotenv_line(name, "a b").text)
        done = subprocess.run(["bash", "-ac", script, "-", str(file)], capture_output=True, check=False)
        if BASH in dotenv_line(name, "a b").read_by:
            assert f"{name}=a b".encode() in done.stdout.split(b"\0"), name


@pytest.mark.skipif(not can_parse(), reason="node 20.12 or newer is not installed")
def test_node_reads_what_is_said_to_be_read(values: list[str], lines: list[DotenvLine]) -> None:
    served = [n for n, line in enumerate(lines) if NODE in line.read_by]
    text = "".join(lines[n].text for n in served)
    script = "process.stdout.write(JSON.stringify(require('util').parseEnv(require('fs').readFileSync(0, 'utf8'))))"
    done = subprocess.run(["node", "-e", script], input=text.encode(), capture_output=True, check=True)
    assert json.loads(done.stdout) == {f"K{n}": values[n] for n in served}
    assert len(served) > MANY // 2


def test_python_dotenv_reads_what_is_said_to_be_read(
    values: list[str], lines: list[DotenvLine], tmp_path: Path
) -> None:
    file = tmp_path / "env"
    file.write_bytes("".join(line.text for line in lines).encode())
    read = dotenv_values(file)
    served = [n for n, line in enumerate(lines) if PYTHON in line.read_by]
    assert {f"K{n}": read[f"K{n}"] for n in served} == {f"K{n}": values[n] for n in served}
    assert len(served) > MANY * 0.9


# --- through the command line


def test_notes_name_keys_and_lines_and_never_values(shop: CommandLine) -> None:
    text = "PW=canary # canary\nKEY= # canary\nPW=canary2\nB=`canary`\n"
    done = shop.done("secrets", "import", "shop/prod", "-", "--yes", stdin=text)
    notes = [line for line in done.stderr.splitlines() if line.startswith("note: ")]
    assert [note.split(": ")[1] for note in notes] == ["PW (line 1), KEY (line 2)", "PW (line 3)", "B (line 4)"]
    assert "what follows # is a comment" in notes[0]
    assert "canary" not in done.stderr
    assert shop.done("secrets", "get", "shop/prod", "PW", "--reveal").stdout == "canary2"


def test_strict_refuses_what_is_noted_and_takes_what_all_read(shop: CommandLine) -> None:
    refused = shop("secrets", "import", "shop/prod", "-", "--yes", "--strict", stdin="A=1\nPW=canary # canary\n")
    assert (refused.exit_code, shop.items("secrets", "list", "shop/prod")) == (2, [])
    assert "note: PW (line 2)" in refused.stderr
    assert "error: --strict" in refused.stderr
    assert "canary" not in refused.output
    clean = "A=1\nB='$x # `y`'\nC=\"it's\"\nD='one\ntwo'\n"
    assert "note" not in shop.done("secrets", "import", "shop/prod", "-", "--yes", "--strict", stdin=clean).stderr
    assert "warning" not in shop.done("secrets", "export", "shop/prod").stderr


def test_an_export_says_where_no_quoting_serves_all_and_shell_is_exact(shop: CommandLine) -> None:
    value = 'it\'s "canary" $x\r\n'
    shop.done("secrets", "set", "shop/prod", "ODD", "-", stdin=value + "\n")
    done = shop.done("secrets", "export", "shop/prod")
    assert (
        "warning: ODD: no quoting serves all who read dotenv; as it is written, python-dotenv reads it exactly, bash, "
        "node --env-file, npm dotenv, docker compose not" in done.stderr
    )
    assert "--format shell" in done.stderr
    assert "canary" not in done.stderr
    shell = shop.done("secrets", "export", "shop/prod", "--format", "shell")
    assert (shell.stderr, shell.stdout_bytes) == ("", b"export ODD='it'\\''s \"canary\" $x\r\n'\n")


def test_an_export_that_a_shell_would_run_a_part_of_says_so(shop: CommandLine) -> None:
    for key, value in {"RUNS": "it's $(canary)", "SAFE": "$(canary) `canary`"}.items():
        shop.done("secrets", "set", "shop/prod", key, "-", stdin=value)
    done = shop.done("secrets", "export", "shop/prod")
    assert "warning: RUNS: a shell that sources this file would run a part of the value\n" in done.stderr
    assert "SAFE" not in done.stderr
    assert "canary" not in done.stderr


def test_a_file_that_is_too_large_is_refused_with_the_limit(shop: CommandLine) -> None:
    refused = shop("secrets", "import", "shop/prod", "-", "--yes", stdin="A=" + "x" * 1_048_576)
    assert (refused.exit_code, "larger than 1,048,576 bytes" in refused.stderr) == (2, True)
