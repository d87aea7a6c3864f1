"""The import contracts hold, and each breaks when its rule is broken on purpose."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent

VIOLATIONS = [
    ("core reads the clock", "core/planning/plan.py", "import time"),
    ("core knows the database", "core/planning/plan.py", "import sqlalchemy"),
    ("core knows the store", "core/planning/plan.py", "import phasesync.store"),
    ("a port knows the engine", "ports/destination.py", "import phasesync.engine.reconcile"),
    ("a port knows the store", "ports/destination.py", "import phasesync.store"),
    ("the store knows the engine", "store/runs.py", "import phasesync.engine.reconcile"),
    ("the store knows an adapter", "store/runs.py", "import phasesync.adapters.clock"),
    ("the store calls AWS", "store/runs.py", "import boto3"),
    ("errors know the core", "errors.py", "import phasesync.core.model"),
    ("the engine knows an adapter", "engine/apply.py", "import phasesync.adapters.clock"),
    ("the engine knows the database", "engine/apply.py", "import sqlalchemy"),
    ("the engine logs", "engine/apply.py", "import structlog"),
    ("the engine reads settings", "engine/apply.py", "import phasesync.settings"),
    ("an adapter knows its sibling", "adapters/clock.py", "import phasesync.adapters.dispatch"),
    ("an adapter knows the engine", "adapters/aws/session.py", "import phasesync.engine.claims"),
    ("bootstrap knows an entry point", "bootstrap/app.py", "import phasesync.cli.main"),
    ("the command line uses the emulator", "cli/main.py", "import phasesync.emulator.server"),
]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package and its contracts."""
    shutil.copytree(REPOSITORY / "phasesync", tmp_path / "phasesync", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def check_contracts(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the package in a folder."""
    command = [
        sys.executable,
        "-c",
        "import sys; sys.path.insert(0, ''); from importlinter.cli import lint_imports_command; lint_imports_command()",
        "--no-cache",
    ]
    return subprocess.run(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=False
    )


def test_the_contracts_hold(copy: Path) -> None:
    """As the package stands."""
    result = check_contracts(copy)

    assert result.returncode == 0, result.stdout
    assert "0 broken" in result.stdout


def test_every_planted_import_breaks_a_contract(copy: Path) -> None:
    """Each is told with the module that has it, whatever else is broken: one forbidden import is enough."""
    for _, file, line in VIOLATIONS:
        planted = copy / "phasesync" / file
        planted.write_text(planted.read_text() + f"\n{line}\n")

    result = check_contracts(copy)

    assert result.returncode == 1
    told = set(re.findall(r"(\S+) -> (\S+) \(l\.[\d, l.]+\)", result.stdout))
    assert [what for what, file, line in VIOLATIONS if (_module(file), line.split()[1]) not in told] == []


def _module(file: str) -> str:
    return f"phasesync.{file.removesuffix('.py').replace('/', '.')}"
