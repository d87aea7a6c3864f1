"""
Checks a release: the digests, what the files say of themselves, that the tree makes the same bytes again, and that the
program installs and works.

    python verify.py --sbom-python .venv/.sbom/bin/python dist

`make verify-dist` is how it is called. The packages that phasesync needs come from where pip gets its packages, each
with one of the pinned digests; PIP_NO_INDEX=1 and PIP_FIND_LINKS=FOLDER take them from a folder, without a network.
"""

import argparse
import base64
import csv
import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from checksums import differences
from licences import read_expressions
from pins import read_pins

TREE = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Release:
    """The files of a release."""

    version: str
    archive: Path
    wheel: Path
    bill: Path
    requirements: Path
    licences: Path
    source: Path
    """The tree of the source archive."""


class NotAsItShouldBe(Exception):
    """Something of the release is wrong; the text says what."""


def main() -> None:
    """Check everything, and say so. What is not as it should be ends this with exit code 1, before anything is run."""
    parser = argparse.ArgumentParser(description="Check a release.")
    parser.add_argument("folder", type=Path, help="The folder with the files of the release.")
    parser.add_argument("--sbom-python", required=True, help="The interpreter that makes the bill of materials.")
    parser.add_argument(
        "--packages",
        type=Path,
        help="A folder of installed packages, in the pinned versions, to use in place of installing them: quick, and"
        " their digests are not checked.",
    )
    given = parser.parse_args()
    version = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]["version"]
    with tempfile.TemporaryDirectory(prefix="phasesync-source-") as folder:
        release = release_in(given.folder.resolve(), version, Path(folder))
        for name, check in (
            ("the digests are those of SHA256SUMS", lambda: check_digests(given.folder)),
            ("the wheel is complete, and says the same as the source archive", lambda: check_wheel(release)),
            ("the bill of materials and the licences are of the packages that are pinned", lambda: check_bill(release)),
            ("the tree here and the source archive make the same archives again", lambda: check_same_again(release)),
            ("and the same bill of materials", lambda: check_same_bill(release, given.sbom_python)),
            ("it installs into a new environment and works", lambda: check_installed(release, given.packages)),
        ):
            try:
                check()
            except NotAsItShouldBe as wrong:
                sys.exit(f"NO    {name}:\n      {wrong}")
            print(f"yes   {name}", flush=True)


def release_in(folder: Path, version: str, place: Path) -> Release:
    """Return the files of the release of this version; its source archive is unpacked in a place for it."""
    stem = f"phasesync-{version}"
    release = Release(
        version=version,
        archive=folder / f"{stem}.tar.gz",
        wheel=folder / f"{stem}-py3-none-any.whl",
        bill=folder / f"{stem}.cdx.json",
        requirements=folder / f"{stem}.requirements.txt",
        licences=folder / f"{stem}.licenses.txt",
        source=place / stem,
    )
    paths = (release.archive, release.wheel, release.bill, release.requirements, release.licences)
    if missing := [str(path) for path in paths if not path.is_file()]:
        sys.exit(f"missing: {', '.join(missing)}. `make dist` makes the release of this tree, {version}")
    unpack(release.archive, place)
    return release


def unpack(archive: Path, place: Path) -> None:
    """Unpack a source archive. What is no ordinary file below one folder is refused: nobody has checked it yet."""
    with tarfile.open(archive) as source:
        for each in source:
            path = place / each.name
            if (
                not each.isfile()
                or ".." in path.parts
                or not path.is_relative_to(place / archive.name[: -len(".tar.gz")])
            ):
                sys.exit(f"{archive.name} has {each.name}, which no source archive of ours has")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.extractfile(each).read())
            path.chmod(0o755 if each.mode & 0o100 else 0o644)


def check_digests(folder: Path) -> None:
    """Compare every file with SHA256SUMS, and SHA256SUMS with the files that are there."""
    _none(differences(folder))


def check_wheel(release: Release) -> None:
    """Compare the wheel with its own list of files, and what it says of itself with what the source archive says."""
    wrong = []
    information = f"phasesync-{release.version}.dist-info"
    with zipfile.ZipFile(release.wheel) as wheel:
        files = {name: wheel.read(name) for name in wheel.namelist()}
        rows = csv.reader(files[f"{information}/RECORD"].decode().splitlines())
        listed = {name: digest for name, digest, _ in rows}
        wrong += [f"{name} and RECORD do not agree" for name in sorted(files.keys() ^ listed.keys())]
        wrong += [
            f"{name} has another digest" for name in files.keys() & listed.keys() if not _is(files[name], listed[name])
        ]
        if files[f"{information}/METADATA"] != (release.source / "PKG-INFO").read_bytes():
            wrong.append("METADATA is not PKG-INFO of the source archive")
        if f"\nVersion: {release.version}\n" not in files[f"{information}/METADATA"].decode():
            wrong.append(f"the version in METADATA is not {release.version}")
        if files.get(f"{information}/licenses/LICENSE") != (release.source / "LICENSE").read_bytes():
            wrong.append("LICENSE is missing")
        wrong += [f"{name} has no place there" for name in files if not name.startswith(("phasesync/", information))]
    _none(wrong)


def _is(content: bytes, listed: str) -> bool:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return listed in ("", f"sha256={digest}")


def check_same_bill(release: Release, sbom_python: str) -> None:
    """Make the bill of materials anew, and compare the bytes."""
    with tempfile.TemporaryDirectory(prefix="phasesync-again-") as folder:
        bill = Path(folder) / release.bill.name
        making = [sbom_python, "-B", release.source / "deploy/release/sbom.py", "--wheel", release.wheel, bill]
        _run(making, umask=0o077)
        if release.bill.read_bytes() != bill.read_bytes():
            raise NotAsItShouldBe(f"{bill.name} is another one if it is made from the source archive")


def check_bill(release: Release) -> None:
    """Compare the bill of materials and the licences with the pinned requirements, and these with the archive's."""
    bill = json.loads(release.bill.read_text())
    pins = {pin.name: pin for pin in read_pins(release.requirements)}
    wrong = [
        f"{path.name} is not the {inside} of the source archive"
        for path, inside in (
            (release.requirements, "requirements/runtime.txt"),
            (release.licences, "THIRD-PARTY-LICENSES.txt"),
        )
        if path.read_bytes() != (release.source / inside).read_bytes()
    ]
    listed = {each["name"]: each for each in bill["components"]}
    wrong += [f"{name} is not in both" for name in sorted(listed.keys() ^ pins.keys())]
    wrong += [f"{name} has no licence" for name in sorted(pins.keys() - read_expressions(release.licences).keys())]
    for name in sorted(listed.keys() & pins.keys()):
        (files,) = listed[name]["externalReferences"]
        if listed[name]["version"] != pins[name].version or _digests(files) != set(pins[name].digests):
            wrong.append(f"{name} is another one in the bill of materials")
    ours = bill["metadata"]["component"]
    (wheel,) = ours["externalReferences"]
    if ours["version"] != release.version or _digests(wheel) != {
        hashlib.sha256(release.wheel.read_bytes()).hexdigest()
    }:
        wrong.append("the bill of materials is of another wheel")
    _none(wrong)


def _digests(files: dict) -> set[str]:
    return {each["content"] for each in files["hashes"] if each["alg"] == "SHA-256"}


def check_same_again(release: Release) -> None:
    """Make the archives anew, the wheel elsewhere and with another umask, and compare the bytes."""
    with tempfile.TemporaryDirectory(prefix="phasesync-again-") as folder:
        for path, tree, source in (
            # First: what builds a wheel is a program in the archive, and runs only if it is that of the tree here.
            (release.archive, TREE, "the tree here"),
            (release.wheel, release.source, "the source archive"),
        ):
            build(tree, Path(folder), "sdist" if path is release.archive else "wheel", umask=0o077)
            if names := different(path, Path(folder) / path.name):
                raise NotAsItShouldBe(
                    f"{path.name} is another one if it is made from {source}: {', '.join(names[:10])}"
                )


def different(one: Path, other: Path) -> list[str]:
    """Return the files that differ in two archives; none, and a remark, if only the packing does."""
    if one.read_bytes() == other.read_bytes():
        return []
    contents = [contents_of(path) for path in (one, other)]
    if contents[0] == contents[1]:
        print(f"      {one.name} has the same content, packed by another zlib than {zlib.ZLIB_RUNTIME_VERSION} here")
        return []
    return sorted({each[0] for each in set(contents[0]) ^ set(contents[1])}) or ["their order"]


def contents_of(archive: Path) -> list[tuple[str, int, object, str]]:
    """Return name, mode, time and digest of each file in an archive, in its order."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return [
                (each.filename, each.external_attr, each.date_time, hashlib.sha256(wheel.read(each)).hexdigest())
                for each in wheel.infolist()
            ]
    with tarfile.open(archive) as source:
        return [
            (each.name.partition("/")[2], each.mode, each.mtime, hashlib.sha256(content.read()).hexdigest())
            for each in source
            if (content := source.extractfile(each)) is not None
        ]


def build(tree: Path, target: Path, kind: str, *, umask: int) -> None:
    """Build the wheel or the source archive (`sdist`) of a tree into a folder."""
    command = [sys.executable, "-B", "-m", "hatchling", "build", "--target", kind, "--directory", target]
    # Of this release, not of this machine: the time in the archives is hatchling's own.
    environ = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    _run(command, folder=tree, environ=environ, umask=umask)


def check_installed(release: Release, packages: Path | None) -> None:
    """Install the release into a new environment, and let it make a database and a key there."""
    with tempfile.TemporaryDirectory(prefix="phasesync-installed-") as folder:
        place = Path(folder)
        _run([sys.executable, "-m", "venv", "--without-pip", place / "venv"])
        python, program = place / "venv/bin/python", place / "venv/bin/phasesync"
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
        install = [*pip, "install", "--quiet", "--no-compile", "--no-deps", "--only-binary", ":all:"]
        if packages is None:
            _run([*install, "--require-hashes", "--requirement", release.requirements])
        else:
            borrow(packages, release, python)
        (place / "wheel.txt").write_text(f"{release.wheel} --hash=sha256:{_sha256(release.wheel)}\n")
        _run([*install, "--no-index", "--require-hashes", "--requirement", place / "wheel.txt"])
        if packages is None:
            _run([*pip, "check"])
        environ = {"HOME": folder, "PATH": os.environ["PATH"], "PHASESYNC_DATA_DIR": str(place / "data")}
        environ["PHASESYNC_ROOT_KEY_FILE"] = str(place / "root.key")
        said = _run([program, "--version"], environ=environ)
        if said.strip() != f"phasesync, version {release.version}":
            raise NotAsItShouldBe(f"phasesync --version says: {said}")
        _run([program, "init"], environ=environ)
        status = json.loads(_run([program, "db", "status", "-o", "json"], environ=environ))
        newest = max(path.name[:4] for path in (TREE / "migrations" / "versions").glob("[0-9]*.py"))
        if status["current"] != newest:
            raise NotAsItShouldBe(f"the schema of a new database is {status['current']}, not {newest}")


def borrow(packages: Path, release: Release, python: Path) -> None:
    """Let an environment use the packages of another one, which have to be those that are pinned."""
    versions = re.compile(r"([^-]+)-([^-]+)\.dist-info$")
    found = {
        match[1].lower().replace("_", "-"): match[2]
        for path in packages.iterdir()
        if (match := versions.match(path.name))
    }
    _none(
        [
            f"{packages} has not {pin.name} {pin.version}"
            for pin in read_pins(release.requirements)
            if found.get(pin.name.replace(".", "-")) != pin.version
        ]
    )
    (own,) = python.parents[1].glob("lib/python*/site-packages")
    # What this environment has itself comes first.
    (own / "borrowed.pth").write_text(f"{packages.resolve()}\n")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _run(
    command: list[str | Path], *, folder: Path | None = None, environ: dict[str, str] | None = None, umask: int = -1
) -> str:
    done = subprocess.run(command, cwd=folder, env=environ, umask=umask, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr + done.stdout).strip()
        raise NotAsItShouldBe(f"{' '.join(map(str, command))} ends with {done.returncode}: {said}")
    return done.stdout


def _none(wrong: list[str]) -> None:
    if wrong:
        raise NotAsItShouldBe("\n      ".join(wrong))


if __name__ == "__main__":
    main()
