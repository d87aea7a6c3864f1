"""`make dist` needs nothing but a clone and makes the same bytes everywhere; `make verify-dist` finds if it did not."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from phasesync import __version__
from tests.support.wheels import build_wheel, made_once

ROOT = Path(__file__).parents[2]
STEM = f"phasesync-{__version__}"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.e2e,
    pytest.mark.skipif(
        shutil.which("git") is None or not (ROOT / ".git").exists(), reason="this is no clone, so nothing can be cloned"
    ),
]


def tracked() -> list[str]:
    """Return what a clone would have, if everything were committed."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [name for name in names if (ROOT / name).is_file()]


def make(clone: Path, *words: str, umask: int = 0o022) -> str:
    # Not what this run was started with: the environment of a shell in the clone.
    given = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL")}
    given["SOURCE_DATE_EPOCH"] = "1000000000"
    made = subprocess.run(
        ["make", *words], cwd=clone, env=given, umask=umask, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stdout + made.stderr
    return made.stdout


def release_in(folder: Path) -> None:
    """Make a release from a fresh clone: in another place, with other times, and by somebody with a strict umask."""
    before = os.umask(0o077)
    try:
        for name in tracked():
            copy = folder / "a clone" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy)
            copy.chmod(0o700 if os.access(ROOT / name, os.X_OK) else 0o600)
            os.utime(copy, (1_000_000_000, 1_000_000_000))
    finally:
        os.umask(before)
    make(folder / "a clone", "dist", umask=0o077)


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which a release was made."""
    return made_once(tmp_path_factory, "release", release_in) / "a clone"


def test_a_fresh_clone_makes_both_archives_with_what_builds_and_no_more(clone: Path) -> None:
    assert sorted(os.listdir(clone / ".venv")) == [".build", ".sbom"], "the development environment is not made"
    for kind in ("build", "sbom"):
        packages = {
            path.name.partition("-")[0] for path in clone.glob(f".venv/.{kind}/lib/*/site-packages/*.dist-info")
        }
        assert packages - {"pip", "setuptools"} <= set(pins(f"{kind}.txt")), "and nothing else"
    with tarfile.open(clone / "dist" / f"{STEM}.tar.gz") as file:
        inside = {member.name.partition("/")[2] for member in file if member.isfile()}
    with zipfile.ZipFile(clone / "dist" / f"{STEM}-py3-none-any.whl") as unpacked:
        modules = set(unpacked.namelist())
    wanted = set(tracked())
    assert wanted <= inside
    # What git ignores is missing in a clone: none of it may be needed.
    deployed = {str(path.relative_to(ROOT)) for path in (ROOT / "deploy").rglob("*") if path.is_file()}
    assert {name for name in deployed if "__pycache__" not in name} <= inside
    sources = {name for name in wanted if name.startswith("phasesync/")}
    assert sources and sources <= modules
    assert "phasesync/_migrations/env.py" in modules
    assert not any(name.startswith(("tests/", "deploy/")) for name in modules)


def pins(file: str) -> list[str]:
    lines = (ROOT / "requirements" / file).read_text().splitlines()
    return [line.partition("==")[0].replace("-", "_") for line in lines if "==" in line]


def test_two_builds_of_one_tree_have_the_same_bytes(clone: Path, wheel: Path, tmp_path: Path) -> None:
    """The other one is made here, with other times, places, modes and another umask."""
    again = {
        "whl": wheel,
        "tar.gz": build_wheel(ROOT, tmp_path, kind="sdist"),
    }

    for ending, other in again.items():
        (made,) = (clone / "dist").glob(f"*.{ending}")
        assert made.name == other.name
        assert digest(made) == digest(other)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_list_of_digests_is_one_that_sha256sum_reads(clone: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=clone / "dist", check=True)


def test_the_bill_of_materials_has_each_package_with_its_licence_and_who_needs_it(clone: Path) -> None:
    bill = json.loads((clone / "dist" / f"{STEM}.cdx.json").read_text())
    components = {each["name"]: each for each in bill["components"]}
    needs = {each["ref"]: each.get("dependsOn", []) for each in bill["dependencies"]}

    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert "timestamp" not in bill["metadata"]
    assert {name.replace("-", "_") for name in components} == set(pins("runtime.txt"))
    assert all(each["licenses"] for each in components.values())
    assert components["cryptography"]["licenses"] == [{"expression": "Apache-2.0 OR BSD-3-Clause"}]
    assert (components["botocore"]["scope"], components["psycopg"]["scope"]) == ("required", "optional")
    assert components["botocore"]["purl"] in needs[components["boto3"]["purl"]]
    reached, more = set(), {bill["metadata"]["component"]["bom-ref"]}
    while more:
        reached |= more
        more = {needed for each in more for needed in needs[each]} - reached
    assert reached == set(needs), "nothing is there that nothing needs"


def test_what_was_made_is_found_to_be_as_it_should_be(clone: Path) -> None:
    """With the packages of this environment, as most of the time would be spent on installing them."""
    said = make(clone, "verify-dist", f"ARGS=--packages {sysconfig.get_path('purelib')}")

    assert [line[:4].strip() for line in said.splitlines() if line[0] != " "] == ["yes"] * 6


# --- what `make verify-dist` finds


@pytest.fixture
def verify(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """deploy/release/verify.py, whose programs stand beside it."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(ROOT / "deploy" / "release")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield importlib.import_module("verify")
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def dist(clone: Path, tmp_path: Path) -> Path:
    """A copy of the release."""
    return shutil.copytree(clone / "dist", tmp_path / "dist")


@pytest.fixture
def release(verify: Any, dist: Path, tmp_path: Path) -> Callable[[], Any]:
    """Read the release as it is by now."""
    return lambda: verify.release_in(dist, __version__, tmp_path / "source")


WHEEL = f"{STEM}-py3-none-any.whl"
INFORMATION = f"{STEM}.dist-info"


def test_a_wheel_that_somebody_changed(verify: Any, dist: Path, release: Callable[[], Any]) -> None:
    changed = {
        "phasesync/core/sync.py": b"# Other.",
        "phasesync/more.py": b"",
        "phasesync/__main__.py": None,
        "sitecustomize.py": b"",
        f"{INFORMATION}/licenses/LICENSE": b"Mine.",
        f"{INFORMATION}/METADATA": b"Version: 9.9.9\n",
    }
    with zipfile.ZipFile(dist / WHEEL) as old:
        contents: dict[str, bytes | None] = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(dist / WHEEL, "w") as new:
        for name, content in (contents | changed).items():
            if content is not None:
                new.writestr(name, content)

    with pytest.raises(verify.NotAsItShouldBe) as caught:
        verify.check_wheel(release())
    assert {line.strip() for line in str(caught.value).splitlines()} == {
        "phasesync/core/sync.py has another digest",
        "phasesync/more.py and RECORD do not agree",
        "phasesync/__main__.py and RECORD do not agree",
        "sitecustomize.py and RECORD do not agree",
        "sitecustomize.py has no place there",
        f"{INFORMATION}/licenses/LICENSE has another digest",
        "LICENSE is missing",
        f"{INFORMATION}/METADATA has another digest",
        "METADATA is not PKG-INFO of the source archive",
        f"the version in METADATA is not {__version__}",
    }
    with pytest.raises(verify.NotAsItShouldBe, match=f"{WHEEL} has another digest"):
        verify.check_digests(dist)


def test_files_and_their_list_that_do_not_agree(verify: Any, dist: Path, release: Callable[[], Any]) -> None:
    (dist / f"{STEM}.cdx.json").unlink()
    (dist / "phasesync-9.9.9.tar.gz").write_bytes(b"")

    with pytest.raises(
        verify.NotAsItShouldBe, match=rf"9.9.9.tar.gz is not in SHA256SUMS\n.*{STEM}.cdx.json .* missing"
    ):
        verify.check_digests(dist)
    (dist / "SHA256SUMS").unlink()
    with pytest.raises(verify.NotAsItShouldBe, match="whl is not in SHA256SUMS"):
        verify.check_digests(dist)
    with pytest.raises(SystemExit, match=r"missing: .*cdx\.json\. `make dist` makes"):
        release()


def test_a_bill_of_materials_of_something_else(verify: Any, dist: Path, release: Callable[[], Any]) -> None:
    bill = dist / f"{STEM}.cdx.json"
    document = json.loads(bill.read_text())
    boto3 = next(each for each in document["components"] if each["name"] == "boto3")
    boto3["version"] = "1.0.0"
    document["components"] = [each for each in document["components"] if each["name"] != "click"]
    document["metadata"]["component"]["externalReferences"][0]["hashes"][0]["content"] = "0" * 64
    bill.write_text(json.dumps(document))
    licences = dist / f"{STEM}.licenses.txt"
    licences.write_text(licences.read_text().replace("structlog 26", "structlogs 26"))

    with pytest.raises(verify.NotAsItShouldBe) as caught:
        verify.check_bill(release())
    assert [line.strip() for line in str(caught.value).splitlines()] == [
        f"{licences.name} is not the THIRD-PARTY-LICENSES.txt of the source archive",
        "click is not in both",
        "structlog has no licence",
        "boto3 is another one in the bill of materials",
        "the bill of materials is of another wheel",
    ]


HATCHLINGS_TIME = 1_580_601_600
HOOK = """
from pathlib import Path
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Hook(BuildHookInterface):
    def initialize(self, version, build_data):
        Path("{ran}").touch()
"""


def test_a_source_archive_of_another_tree_is_found_and_nothing_in_it_is_run(
    verify: Any, dist: Path, release: Callable[[], Any], tmp_path: Path
) -> None:
    """Whoever changes both archives alike is found by the tree: it is what was reviewed."""
    verify.unpack(dist / f"{STEM}.tar.gz", tmp_path)
    with (tmp_path / STEM / "pyproject.toml").open("a") as project:
        project.write("[tool.hatch.build.hooks.custom]\n")
    (tmp_path / STEM / "hatch_build.py").write_text(HOOK.format(ran=tmp_path / "ran"))
    with tarfile.open(dist / f"{STEM}.tar.gz", "w:gz", compresslevel=1) as archive:
        for path in sorted(path for path in (tmp_path / STEM).rglob("*") if path.is_file()):
            archive.add(
                path, path.relative_to(tmp_path), filter=lambda info: info.replace(mtime=HATCHLINGS_TIME, deep=False)
            )

    with pytest.raises(verify.NotAsItShouldBe) as caught:
        verify.check_same_again(release())
    assert str(caught.value).endswith("made from the tree here: hatch_build.py, pyproject.toml")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["../outside", f"{STEM}/../../outside", "/tmp/outside", "elsewhere/file"])
def test_a_source_archive_that_leads_elsewhere_is_not_unpacked(verify: Any, tmp_path: Path, name: str) -> None:
    archive = tmp_path / f"{STEM}.tar.gz"
    with tarfile.open(archive, "w:gz") as made:
        made.addfile(tarfile.TarInfo(name))

    with pytest.raises(SystemExit, match="which no source archive of ours has"):
        verify.unpack(archive, tmp_path / "place")
    assert list(tmp_path.iterdir()) == [archive]


def test_a_wheel_of_another_tree_is_found(verify: Any, dist: Path, release: Callable[[], Any]) -> None:
    with zipfile.ZipFile(dist / WHEEL, "a") as wheel:
        wheel.writestr("phasesync/more.py", "")

    with pytest.raises(verify.NotAsItShouldBe, match=f"{WHEEL} is .* made from the source archive: phasesync/more.py$"):
        verify.check_same_again(release())


def test_what_another_zlib_packed_has_the_same_content(
    verify: Any, dist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / WHEEL
    with zipfile.ZipFile(dist / WHEEL) as old, zipfile.ZipFile(other, "w") as new:
        for each in old.infolist():
            new.writestr(each, old.read(each), zipfile.ZIP_STORED)

    assert verify.different(dist / WHEEL, other) == []
    assert "has the same content, packed by another zlib" in capsys.readouterr().out


def test_packages_that_are_not_those_that_are_pinned(verify: Any, release: Callable[[], Any], tmp_path: Path) -> None:
    (tmp_path / "packages" / "boto3-1.0.0.dist-info").mkdir(parents=True)

    with pytest.raises(verify.NotAsItShouldBe, match=r"has not boto3 1\.[1-9]"):
        verify.check_installed(release(), tmp_path / "packages")
