"""The pinned requirements follow pyproject.toml, carry hashes, and name no registry and no machine."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]
GROUPS = PYPROJECT["dependency-groups"]

ASKED = {
    "awscli.txt": GROUPS["awscli"],
    "build.txt": GROUPS["build"],
    "demo.txt": [*PROJECT["dependencies"], *EXTRAS["demo"], *GROUPS["build"]],
    "dev.txt": [
        *PROJECT["dependencies"],
        *(line for extra in EXTRAS.values() for line in extra),
        *(line for name in ("build", "dev") for line in GROUPS[name] if isinstance(line, str)),
    ],
    "helm.txt": GROUPS["helm"],
    "kubectl.txt": GROUPS["kubectl"],
    "ministack.txt": GROUPS["ministack"],
    "runtime.txt": [
        *PROJECT["dependencies"],
        *(line for extra in ("age", "otel", "postgres", "distributed") for line in EXTRAS[extra]),
    ],
    "sbom.txt": GROUPS["sbom"],
}


def pins(file: str) -> dict[str, str]:
    text = (ROOT / "requirements" / file).read_text()
    return dict(re.findall(r"^([a-z0-9.-]+)==([^\s;]+)", text, flags=re.MULTILINE))


@pytest.mark.parametrize("file", ASKED)
def test_every_dependency_is_pinned_within_its_bounds(file: str) -> None:
    pinned = pins(file)

    for requirement in map(Requirement, ASKED[file]):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not pinned: run `make lock`"
        assert version in requirement.specifier, f"{requirement} excludes the pinned {version}: run `make lock`"


@pytest.mark.parametrize("file", ["build.txt", "demo.txt", "runtime.txt"])
def test_what_is_installed_elsewhere_is_what_the_tests_ran_with(file: str) -> None:
    assert pins(file).items() <= pins("dev.txt").items()


@pytest.mark.parametrize("file", ASKED)
def test_the_file_installs_from_wherever_a_machine_gets_its_packages(file: str) -> None:
    for line in (ROOT / "requirements" / file).read_text().splitlines():
        assert re.match(r"[a-z0-9.-]+==[^\s;]+( ; .+)? \\$|    --hash=sha256:[0-9a-f]{64}( \\)?$|\s*#", line), line
        assert "://" not in line
