"""
The Debian package: what is in it, and its life on a host, from the installation to the purge.

It is built once for a test run, by the Makefile's program and from this tree, for this machine's Debian.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from phasesync.cli.main import COMMANDS
from tests.support.aws import Aws
from tests.support.debian import DebianRoot, clean, dpkg
from tests.support.waiting import wait_until
from tests.support.wheels import made_once

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
EPOCH = 1_780_000_000
BUILDING = ("dpkg", "dpkg-deb", "dpkg-shlibdeps")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.e2e,
    pytest.mark.skipif(
        any(shutil.which(name) is None for name in BUILDING),
        reason="a package is built on Debian, with dpkg-dev",
    ),
]
needs_root = pytest.mark.skipif(
    (why := DebianRoot.why_not()) is not None, reason=f"no root to install the package into: {why}"
)


def run(*command: str | Path, folder: Path, umask: int = 0o022) -> None:
    environ = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH), "TMPDIR": str(folder)}
    done = subprocess.run(command, env=environ, umask=umask, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def build(wheel: Path, folder: Path, *options: str | Path, umask: int = 0o022) -> Path:
    """Build the package in a folder, and return it."""
    program = ROOT / "deploy" / "debian" / "build.py"
    run(
        *(sys.executable, program, "--wheel", wheel, "--output", folder, "--compression", "zstd", *options),
        folder=folder,
        umask=umask,
    )
    (package,) = folder.glob("*.deb")
    return package


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The package."""
    (built,) = made_once(tmp_path_factory, "debian-package", lambda folder: build(wheel, folder)).glob("*.deb")
    return built


@pytest.fixture
def root() -> Iterator[DebianRoot]:
    """A Debian without phasesync."""
    with DebianRoot() as made:
        yield made


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file, folder or link in the package."""

    name: str
    mode: int
    owner: tuple[str, str]
    mtime: int
    type: bytes
    leads_to: str
    digest: bytes

    @property
    def is_file(self) -> bool:
        return self.type == tarfile.REGTYPE


def members(package: Path, part: str = "--fsys-tarfile") -> Iterator[Member]:
    """Yield what is in the package, in its order; with `--ctrl-tarfile`, what is for dpkg alone."""
    with (
        subprocess.Popen(["dpkg-deb", part, package], stdout=subprocess.PIPE) as unpacking,
        tarfile.open(fileobj=unpacking.stdout, mode="r|") as archive,
    ):
        for each in archive:
            content = archive.extractfile(each) if each.isreg() else None
            yield Member(
                name=each.name.removeprefix("."),
                mode=each.mode,
                owner=(each.uname, each.gname),
                mtime=int(each.mtime),
                type=each.type,
                leads_to=each.linkname,
                digest=hashlib.sha256(content.read()).digest() if content else b"",
            )


@pytest.fixture(scope="module")
def files(package: Path) -> dict[str, Member]:
    """Path -> what is in the package."""
    return {member.name: member for member in members(package)}


def field(package: Path, name: str) -> str:
    return subprocess.run(
        ["dpkg-deb", "--field", package, name], capture_output=True, text=True, check=True
    ).stdout.strip()


# --- the package


def test_it_needs_the_python_that_it_was_built_for_and_names_its_settings(package, tmp_path) -> None:
    subprocess.run(["dpkg-deb", "--control", package, tmp_path], check=True)
    needs = field(package, "Depends").split(", ")

    assert package.name == f"phasesync_{VERSION}_{field(package, 'Architecture')}.deb"
    assert [need for need in needs if need.startswith("python3.1")] == [Path(os.readlink("/usr/bin/python3")).name]
    assert any(need.startswith("libc6 (>= 2.") for need in needs), "psycopg and cryptography are compiled"
    assert (tmp_path / "conffiles").read_text() == "/etc/phasesync/config.toml\n"


def test_only_root_may_change_it_and_nothing_is_of_the_machine_that_built_it(files) -> None:
    assert {file.owner for file in files.values()} == {("root", "root")}
    assert {file.mtime for file in files.values()} == {EPOCH}
    assert {oct(file.mode) for file in files.values() if not file.leads_to} == {"0o755", "0o644"}
    executable = {name for name, file in files.items() if file.is_file and file.mode & 0o111}
    assert executable == {"/usr/lib/phasesync/bin/phasesync"}
    links = {name: file.leads_to for name, file in files.items() if file.leads_to}
    assert [name for name, leads_to in links.items() if leads_to.startswith("/") and leads_to[:9] != "/usr/bin/"] == []


def test_each_command_has_a_manual_page_and_each_shell_its_script(files) -> None:
    pages = {f"/usr/share/man/man1/phasesync-{name}.1.gz" for name in COMMANDS} | {"/usr/share/man/man1/phasesync.1.gz"}
    scripts = {
        "/usr/share/bash-completion/completions/phasesync",
        "/usr/share/zsh/vendor-completions/_phasesync",
        "/usr/share/fish/vendor_completions.d/phasesync.fish",
    }

    assert {name for name in files if name.startswith("/usr/share/man/man1/")} == pages
    assert scripts <= files.keys()


def test_it_brings_the_alerts_the_dashboard_and_the_drop_ins(files) -> None:
    examples = {"encrypted-key.conf", "kms-key.conf", "notify-reload.conf"}
    examples |= {"phasesync.rules.yaml", "phasesync.rules.test.yaml"}
    assert {f"/usr/share/doc/phasesync/examples/{name}" for name in examples | {"phasesync.json"}} <= files.keys()
    assert "/usr/share/doc/phasesync/THIRD-PARTY-LICENSES.txt" in files


FEW = ("cffi", "click", "pycparser", "pyyaml")
"""Packages of which one is compiled by its authors, one is not, and one starts the program: all are packed alike."""


def test_the_same_wheel_gives_the_same_bytes_wherever_it_is_built(package, files, wheel, tmp_path) -> None:
    """With few of the packages that it brings, as most of the time would be spent on the others."""
    folder = tmp_path / "another place"
    folder.mkdir()
    pins = re.split(r"^(?=\w)", (ROOT / "requirements" / "runtime.txt").read_text(), flags=re.MULTILINE)
    few_pins = [pin for pin in pins if pin.partition("==")[0] in FEW]
    (tmp_path / "few.txt").write_text("".join(few_pins))

    few = build(wheel, folder, "--requirements", tmp_path / "few.txt", umask=0o077)

    again = list(members(few))
    assert len(again) > 500 and {member.name for member in again} < files.keys()
    names = {member.name for member in again}
    assert again == [member for member in files.values() if member.name in names]
    # The number of its bytes, what it needs and the list of all digests are of what it brings.
    ours = {"", "/conffiles", "/postinst", "/postrm", "/prerm"}
    scripts = [[each for each in members(one, "--ctrl-tarfile") if each.name in ours] for one in (few, package)]
    assert scripts[0] == scripts[1]
    assert {each.name for each in scripts[0]} == ours
    assert times_of_parts(few) == times_of_parts(package) == [EPOCH] * 3


def times_of_parts(package: Path) -> list[int]:
    """Return the times of the parts of the archive itself, each of which begins with a header of 60 bytes."""
    content = package.read_bytes()
    found, at = [], len("!<arch>\n")
    while at < len(content):
        found.append(int(content[at + 16 : at + 28]))
        size = int(content[at + 48 : at + 58])
        at += 60 + size + size % 2
    return found


def test_a_path_of_the_machine_that_built_it_would_be_found(tmp_path) -> None:
    sys_path = str(ROOT / "deploy" / "debian")
    (tmp_path / "root" / "usr").mkdir(parents=True)
    (tmp_path / "root" / "usr" / "clean").write_text("nothing")
    code = "import sys; sys.path.insert(0, sys.argv[1]); import build; from pathlib import Path; "
    code += "build.assert_relocatable(Path(sys.argv[2]), [sys.argv[2]])"
    command = [sys.executable, "-B", "-c", code, sys_path, str(tmp_path / "root")]

    assert subprocess.run(command, check=False).returncode == 0
    (tmp_path / "root" / "usr" / "compiled.pyc").write_bytes(b"\0" + str(tmp_path / "root").encode() + b"\0")
    (tmp_path / "root" / "usr" / "link").symlink_to(tmp_path / "root" / "elsewhere")
    found = subprocess.run(command, capture_output=True, text=True, check=False)

    assert found.returncode == 1
    assert "usr/compiled.pyc, usr/link" in found.stderr


# --- its life


@needs_root
def test_it_works_on_a_host_that_never_saw_the_tree(package, root: DebianRoot, aws: Aws, tmp_path) -> None:
    root.done(*dpkg("--install", root.bring(package)))

    assert root.done("phasesync", "--version") == f"phasesync, version {VERSION}\n"
    assert root.done("stat", "--format=%U %G %a", "/var/lib/phasesync") == "phasesync phasesync 700\n"
    assert not root.path("/var/lib/phasesync/phasesync.db").exists(), "the operator makes it"
    assert not root.path("/etc/systemd/system/multi-user.target.wants/phasesync.service").exists()

    # As README.Debian says it.
    root.done("phasesync", "init")
    root.done("chown", "--recursive", "phasesync:", "/etc/phasesync/root.key", "/var/lib/phasesync")

    environ = {**aws.environ, "HOME": "/var/lib/phasesync"}

    def phasesync(*words: str, stdin: str = "") -> str:
        return root.done("phasesync", *words, user="phasesync", stdin=stdin, environ=environ)

    phasesync("apps", "add", "shop")
    phasesync("envs", "add", "shop/production")
    phasesync("secrets", "set", "shop/production", "GREETING", "-", stdin="hello\n")
    phasesync("credentials", "add", "aws", "--type", "ambient", "--region", "eu-west-1")
    phasesync(
        "syncs", "add", "s", "--env", "shop/production", "--credential", "aws", "--secret-name", "shop/production"
    )
    # What systemd gives it: the key as a credential, and the folder.
    root.done("install", "-D", "--owner=phasesync", "--mode=0400", "/etc/phasesync/root.key", "/run/given/root_key")
    given = {"CREDENTIALS_DIRECTORY": "/run/given", "STATE_DIRECTORY": "/var/lib/phasesync"}
    with (tmp_path / "log").open("wb") as log:
        daemon = subprocess.Popen(
            root.command("phasesync", "daemon", user="phasesync"),
            env=clean(environ | given | {"PHASESYNC_HTTP__LISTEN": "127.0.0.1:0"}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: daemon.poll() is not None or b'"run finished"' in (tmp_path / "log").read_bytes())
    finally:
        daemon.terminate()
        assert daemon.wait(timeout=60) == 0, (tmp_path / "log").read_text()
    assert json.loads(aws.secret_text("shop/production")) == {"GREETING": "hello"}

    assert_pages_and_completion(root)
    # Everything was compiled already: root's commands wrote nothing beside the program.
    assert root.done("dpkg", "--verify", "phasesync") == ""
    listed = set(root.done("dpkg", "--listfiles", "phasesync").splitlines())
    assert [path for path in root.changed() if path.startswith("/usr/lib/phasesync") and path not in listed] == []


def assert_pages_and_completion(root: DebianRoot) -> None:
    page = root.done("man", "--no-hyphenation", "phasesync-syncs", environ={"MANPAGER": "cat", "MANWIDTH": "100"})
    assert "phasesync syncs pause [OPTIONS] [NAME]..." in page
    assert "--secret-name NAME" in page
    line = (
        "source /usr/share/bash-completion/completions/phasesync; COMP_WORDS=(phasesync syncs pa); COMP_CWORD=2;"
        ' _phasesync_completion phasesync; echo "${COMPREPLY[*]}"'
    )
    assert root.done("bash", "--norc", "-c", line) == "pause\n"
    file = "/usr/lib/systemd/system/phasesync.service"
    assert "Documentation=man:phasesync(1) " in root.done("cat", file), "and the page is there:"
    unit = root.run("systemd-analyze", "verify", file)
    assert [text for text in (unit.stdout + unit.stderr).splitlines() if "phasesync" in text] == []


SYSTEMCTL = """#!/bin/sh
echo "$*" >> /root/asked
case "$*" in *is-enabled*) echo enabled ;; esac
"""


@needs_root
def test_settings_and_data_outlive_an_upgrade_and_a_removal_and_the_key_a_purge(
    package, root: DebianRoot, tmp_path
) -> None:
    root.done(*dpkg("--install", root.bring(package)))
    root.done("phasesync", "init")
    settings = root.path("/etc/phasesync/config.toml")
    settings.write_text(settings.read_text() + "daemon.workers = 3\n")
    kept = {name: root.path(name).read_bytes() for name in KEPT} | {str(SETTINGS): settings.read_bytes()}

    def lost() -> list[str]:
        return [name for name, content in kept.items() if content != content_of(root, name)]

    # From here on systemd runs, as far as scripts can tell, and nobody forbids them to ask it.
    root.path("/run/systemd/system").mkdir(parents=True)
    root.path("/usr/sbin/policy-rc.d").unlink(missing_ok=True)
    root.path("/usr/bin/systemctl").unlink()
    root.path("/usr/bin/systemctl").write_text(SYSTEMCTL)
    root.path("/usr/bin/systemctl").chmod(0o755)

    root.path(WANTED).symlink_to("/lib/systemd/system/phasesync.service")  # systemctl enable
    newer = next_version(package, tmp_path)
    root.done(*dpkg("--install", root.bring(newer)))
    assert f"Version: {VERSION}+next" in root.done("dpkg", "--status", "phasesync")
    assert not root.path("/usr/lib/phasesync/lib").exists(), "nothing of the former release stays"
    assert lost() == []
    assert asked(root) == ["--system daemon-reload", "try-restart phasesync.service --no-block"]

    root.done(*dpkg("--remove", "phasesync"))
    assert asked(root) == ["stop phasesync.service", "--system daemon-reload"]
    assert lost() == []
    assert not root.path("/usr/lib/phasesync").exists()

    # Installed again, it is enabled as it was.
    root.done(*dpkg("--install", root.bring(newer)))
    assert root.path(WANTED).is_symlink()
    assert lost() == []

    purged = root.run(*dpkg("--purge", "phasesync"))
    assert purged.returncode == 0
    assert "kept /var/lib/phasesync" in purged.stderr and "kept /etc/phasesync" in purged.stderr
    assert lost() == [str(SETTINGS)]
    ours = {path for path in root.changed() if "phasesync" in path and not path.startswith("/root/")}
    folders = {"/etc/phasesync", "/var/lib/phasesync"}
    assert ours == {*KEPT, *folders}


@needs_root
def test_a_purge_before_the_first_start_leaves_nothing(package, root: DebianRoot, tmp_path) -> None:
    root.done(*dpkg("--install", root.bring(next_version(package, tmp_path))))
    purged = root.run(*dpkg("--purge", "phasesync"))

    assert (purged.returncode, purged.stderr) == (0, "")
    assert [path for path in root.changed() if "phasesync" in path and not path.startswith("/root/")] == []


KEPT = ("/etc/phasesync/root.key", "/var/lib/phasesync/phasesync.db")
SETTINGS = Path("/etc/phasesync/config.toml")
WANTED = "/etc/systemd/system/multi-user.target.wants/phasesync.service"


def content_of(root: DebianRoot, name: str) -> bytes | None:
    path = root.path(name)
    return path.read_bytes() if path.exists() else None


def asked(root: DebianRoot) -> list[str]:
    """Return what systemctl was asked to do since the last call."""
    file = root.path("/root/asked")
    lines = file.read_text().splitlines()
    file.unlink()
    # Without questions, and without what deb-systemd-helper asks for.
    return [line for line in lines if "is-enabled" not in line and "is-active" not in line and line != "daemon-reload"]


def next_version(package: Path, folder: Path) -> Path:
    """Return the next release: the same, with other settings, and without the program, which takes long to unpack."""
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    shutil.rmtree(tree / "usr" / "lib" / "phasesync" / "lib")
    described = tree / "DEBIAN" / "control"
    described.write_text(
        re.sub(r"^Version: .*$", f"Version: {VERSION}+next", described.read_text(), flags=re.MULTILINE)
    )
    shipped = tree / "etc" / "phasesync" / "config.toml"
    shipped.write_text(shipped.read_text() + "# What a later release says.\n")
    newer = folder / "phasesync_next.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, newer], check=True, stdout=subprocess.DEVNULL
    )
    return newer
