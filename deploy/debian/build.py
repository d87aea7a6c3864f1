"""
Builds the Debian package: the program with a virtual environment of its own, for the Python of this distribution.

    python build.py --wheel dist/phasesync-0.2.0-py3-none-any.whl --output dist

Build it on the distribution that it is for: the interpreter is /usr/bin/python3.N, and what the compiled parts need is
looked up among the packages here (dpkg-shlibdeps, from dpkg-dev). The same tree gives the same bytes: every file has
the time of SOURCE_DATE_EPOCH, and no path of this machine is in one. `make deb` is how it is called.
"""

import argparse
import base64
import csv
import gzip
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

HERE = Path(__file__).parent
TREE = HERE.parents[1]
HOME = Path("usr/lib/phasesync")
"""The virtual environment, once installed below /."""
SCRIPT = "phasesync"
PROGRAM_OF_THE_UNIT = "/opt/phasesync/bin/phasesync"
MAINTAINER = os.environ.get("DEB_MAINTAINER", "the authors of phasesync <phasesync@phasesync.invalid>")
PYTHONS = tuple(f"/usr/bin/python3.{minor}" for minor in (14, 13, 12, 11))
NOTIFY_RELOAD_SINCE = (3, 12)
"""Debian and Ubuntu with this Python or a newer one have systemd 253 or newer, which knows Type=notify-reload."""


def main() -> None:
    """Build one package, and print where it is."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--wheel", type=Path, required=True, help="The program.")
    parser.add_argument("--output", type=Path, required=True, help="The folder for the package.")
    parser.add_argument(
        "--python", help="The interpreter to depend on. Default: the newest of /usr/bin that is supported."
    )
    parser.add_argument("--compression", default="xz", help="As dpkg-deb takes it: xz, zstd, gzip, none.")
    pinned = TREE / "requirements" / "runtime.txt"
    parser.add_argument("--requirements", type=Path, default=pinned, help="What it brings. Default: runtime.txt.")
    given = parser.parse_args()
    missing = [name for name in ("dpkg", "dpkg-deb", "dpkg-shlibdeps") if shutil.which(name) is None]
    if missing:
        sys.exit(f"{', '.join(missing)}: not installed here. On Debian and Ubuntu: apt install dpkg-dev")
    os.umask(0o022)
    with tempfile.TemporaryDirectory(prefix="phasesync-deb-") as folder:
        python = given.python or system_python()
        built = build(Path(folder), given.wheel, given.requirements, given.output, python, given.compression)
    print(built)


def build(folder: Path, wheel: Path, requirements: Path, output: Path, python: str, compression: str) -> Path:
    """
    Build the package in a folder of its own, and return its path.

    Args:
        folder: empty; its path must not show in the package.
        wheel: the program.
        requirements: the packages that it brings, with their digests.
        output: where the package goes.
        python: /usr/bin/python3.N.
        compression: as dpkg-deb takes it.
    """
    root = folder / "root"
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", (TREE / "pyproject.toml").stat().st_mtime))
    version, minor = install_program(root, wheel, requirements, python)
    add_documents(root, version, epoch)
    add_system_files(root, minor)
    compile_program(root, python)
    control(root, folder, version, python)
    for path in [root, *root.rglob("*")]:
        os.utime(path, (epoch, epoch), follow_symlinks=False)
    assert_relocatable(root, [str(folder), str(TREE), str(wheel.resolve().parent)])
    architecture = said("dpkg", "--print-architecture")
    output.mkdir(parents=True, exist_ok=True)
    package = output / f"phasesync_{version}_{architecture}.deb"
    run(
        # One thread: with several, xz makes other bytes.
        *("dpkg-deb", "--root-owner-group", "--threads-max=1", f"-Z{compression}", "--build", root, package),
        environ={"SOURCE_DATE_EPOCH": str(epoch)},
    )
    return package


def system_python() -> str:
    """Return the newest interpreter of the distribution that phasesync supports."""
    for python in PYTHONS:
        if Path(python).exists():
            return python
    sys.exit(f"none of {', '.join(PYTHONS)} is here: the package is for the Python of its distribution")


def install_program(root: Path, wheel: Path, requirements: Path, python: str) -> tuple[str, tuple[int, int]]:
    """
    Make the virtual environment and install the pinned packages and the program into it.

    Made by hand: the venv module would need python3-venv, and would write where it was made into its files.

    Returns:
        The version in Debian's spelling, and that of the interpreter.
    """
    known = json.loads(
        said(python, "-I", "-c", "import json, sys; print(json.dumps([*sys.version_info[:3], sys.base_prefix]))")
    )
    *numbers, prefix = known
    if prefix != "/usr":
        sys.exit(f"{python} belongs to {prefix}; the package is for the distribution's own, below /usr")
    home = root / HOME
    (home / "bin").mkdir(parents=True)
    name = f"python{numbers[0]}.{numbers[1]}"
    (home / "bin" / name).symlink_to(f"/usr/bin/{name}")
    for link in ("python", "python3"):
        (home / "bin" / link).symlink_to(name)
    release = ".".join(map(str, numbers[:2]))
    (home / "pyvenv.cfg").write_text(f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {release}\n")
    (home / "lib" / name / "site-packages").mkdir(parents=True)

    release_of_program = wheel.name.split("-")[1]
    install = [sys.executable, "-m", "pip", "--python", home / "bin" / name, "install", "--quiet", "--no-compile"]
    install += ["--disable-pip-version-check", "--no-warn-script-location", "--root-user-action", "ignore", "--no-deps"]
    run(*install, "--require-hashes", "--only-binary", ":all:", "--requirement", requirements)
    # By name: for a path pip would write down where it was.
    run(*install, "--no-index", "--find-links", wheel.resolve().parent, f"phasesync=={release_of_program}")
    tidy_scripts(home)
    for path in (home / "lib").rglob("*"):
        # Wheels have libraries and tests that may be executed, which nobody does.
        path.chmod(0o755 if path.is_dir() else 0o644)
    link = root / "usr" / "bin" / SCRIPT
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(f"../lib/phasesync/bin/{SCRIPT}")
    debian_version = re.sub(r"(\d)(a|b|rc|\.dev)(\d)", r"\1~\2\3", release_of_program).replace("~.dev", "~dev")
    return debian_version, (numbers[0], numbers[1])


def tidy_scripts(home: Path) -> None:
    """Leave one script, ours, that starts with the interpreter as it will be installed; correct the lists of files."""
    ours = home / "bin" / SCRIPT
    for path in (home / "bin").iterdir():
        if not path.is_symlink():
            path.unlink()
    # -I: neither PYTHONPATH nor packages of the user's own reach a program that opens a database of secrets.
    ours.write_text(
        f"#!/{HOME}/bin/python3 -I\nimport sys\nfrom phasesync.__main__ import main\n\n"
        'if __name__ == "__main__":\n    sys.exit(main())\n'
    )
    ours.chmod(0o755)
    digest = base64.urlsafe_b64encode(hashlib.sha256(ours.read_bytes()).digest()).rstrip(b"=").decode()
    for listed in sorted(home.glob("lib/*/site-packages/*.dist-info/RECORD")):
        with listed.open(newline="") as file:
            rows = [
                row for row in csv.reader(file) if not row[0].startswith("../../../bin/") or row[0].endswith(SCRIPT)
            ]
        for row in rows:
            if row[0].endswith(f"/bin/{SCRIPT}"):
                row[1:] = [f"sha256={digest}", str(ours.stat().st_size)]
        with listed.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


def compile_program(root: Path, python: str) -> None:
    """Compile every module, under the path that it will have: nobody may write into /usr/lib later."""
    compiling = [python, "-I", "-m", "compileall", "-q", "-j1", "--invalidation-mode", "unchecked-hash"]
    run(*compiling, "-s", root, "-p", "/", root / HOME / "lib")


def add_documents(root: Path, version: str, epoch: int) -> None:
    """Add documents; and from the program that was just installed manual pages, and what completes its commands."""
    documents = root / "usr/share/doc/phasesync"
    documents.mkdir(parents=True)
    licences = TREE / "THIRD-PARTY-LICENSES.txt"
    for source in (HERE / "copyright", HERE / "README.Debian", TREE / "config.example.toml", licences):
        shutil.copyfile(source, documents / source.name)
    for source in sorted((TREE / "docs").glob("*.md")):
        shutil.copyfile(source, documents / source.name)
    compressed(documents / "CHANGELOG.md.gz", (TREE / "CHANGELOG.md").read_bytes())
    when = datetime.fromtimestamp(epoch, UTC)
    entry = f"phasesync ({version}) unstable; urgency=medium\n\n  * What changed: CHANGELOG.md.gz beside this file.\n\n"
    entry += f" -- {MAINTAINER}  {format_datetime(when)}\n"
    compressed(documents / "changelog.gz", entry.encode())

    program = [root / HOME / "bin" / "python3", "-I", "-B"]
    pages = root / "usr/share/man/man1"
    run(*program, HERE / "man_pages.py", "--date", when.date().isoformat(), pages)
    for page in sorted(pages.iterdir()):
        compressed(page.with_name(f"{page.name}.gz"), page.read_bytes())
        page.unlink()
    for shell, place in (
        ("bash", "usr/share/bash-completion/completions/phasesync"),
        ("zsh", "usr/share/zsh/vendor-completions/_phasesync"),
        ("fish", "usr/share/fish/vendor_completions.d/phasesync.fish"),
    ):
        script = root / place
        script.parent.mkdir(parents=True)
        script.write_text(said(*program, "-m", "phasesync", "completion", shell) + "\n")


def compressed(path: Path, content: bytes) -> None:
    """Write a compressed file without name and time."""
    path.write_bytes(gzip.compress(content, 9, mtime=0))


def add_system_files(root: Path, minor: tuple[int, int]) -> None:
    """Add the unit, its user, its folder, and the settings."""
    systemd = TREE / "deploy" / "systemd"
    unit = (systemd / "phasesync.service").read_text()
    if unit.count(PROGRAM_OF_THE_UNIT) != 1:
        sys.exit(f"the unit does not start {PROGRAM_OF_THE_UNIT}, which the package has at another place")
    unit = unit.replace(PROGRAM_OF_THE_UNIT, "/usr/bin/phasesync")
    # Only here: `systemd-analyze verify` complains of pages that are not installed, and pip installs none.
    unit = unit.replace(
        "[Unit]\n", "[Unit]\nDocumentation=man:phasesync(1) file:/usr/share/doc/phasesync/README.Debian\n"
    )
    files = {
        "usr/lib/systemd/system/phasesync.service": unit,
        "usr/lib/sysusers.d/phasesync.conf": (systemd / "phasesync.sysusers.conf").read_text(),
        "usr/lib/tmpfiles.d/phasesync.conf": (HERE / "phasesync.tmpfiles.conf").read_text(),
        "etc/phasesync/config.toml": (HERE / "phasesync.toml").read_text(),
    }
    examples = [systemd / "encrypted-key.conf", systemd / "kms-key.conf", systemd / "notify-reload.conf"]
    examples += sorted((TREE / "deploy" / "prometheus").glob("*.yaml"))
    examples += [TREE / "deploy" / "grafana" / "phasesync.json"]
    for example in examples:
        files[f"usr/share/doc/phasesync/examples/{example.name}"] = example.read_text()
    if minor >= NOTIFY_RELOAD_SINCE:
        drop_in = "usr/lib/systemd/system/phasesync.service.d/notify-reload.conf"
        files[drop_in] = (systemd / "notify-reload.conf").read_text()
    for place, text in files.items():
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def control(root: Path, folder: Path, version: str, python: str) -> None:
    """Write what dpkg reads: the description, the settings that belong to the operator, digests, and scripts."""
    needs = ", ".join(
        [
            Path(python).name,
            shared_libraries(root, folder),
            "init-system-helpers (>= 1.54~)",
            "systemd | systemd-standalone-sysusers",
            "systemd | systemd-standalone-tmpfiles",
        ]
    )
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink()]
    size = sum((path.stat().st_size + 1023) // 1024 for path in files)
    fields = {
        "Package": "phasesync",
        "Version": version,
        "Architecture": said("dpkg", "--print-architecture"),
        "Maintainer": MAINTAINER,
        "Installed-Size": str(size),
        "Depends": needs,
        "Recommends": "ca-certificates",
        "Section": "admin",
        "Priority": "optional",
        "Description": "keeps AWS Secrets Manager in step with an encrypted store"
        "\n A daemon detects every change of a secret in an encrypted store, and writes"
        "\n exactly the difference to AWS Secrets Manager. The command line edits the"
        "\n store and shows how everything stands."
        "\n .\n The program and all packages that it needs are in /usr/lib/phasesync.",
    }
    place = root / "DEBIAN"
    place.mkdir()
    (place / "control").write_text("".join(f"{name}: {value}\n" for name, value in fields.items()))
    (place / "conffiles").write_text("/etc/phasesync/config.toml\n")
    sums = [f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(root)}\n" for path in files]  # noqa: S324
    (place / "md5sums").write_text("".join(sums))
    for name in ("postinst", "prerm", "postrm"):
        shutil.copyfile(HERE / name, place / name)
        (place / name).chmod(0o755)


def shared_libraries(root: Path, folder: Path) -> str:
    """Return the packages that the compiled parts need, by dpkg-shlibdeps."""
    compiled = [path for path in sorted(root.rglob("*")) if path.is_file() and is_compiled(path)]
    (folder / "debian").mkdir()
    (folder / "debian" / "control").write_text("Source: phasesync\n\nPackage: phasesync\nArchitecture: any\n")
    own = sorted({str(path.parent) for path in compiled})
    asking = ["dpkg-shlibdeps", "-O", "--ignore-missing-info", "--warnings=0", *(f"-l{path}" for path in own)]
    found = said(*asking, *(f"-e{path}" for path in compiled), folder=folder)
    return found.removeprefix("shlibs:Depends=")


def is_compiled(path: Path) -> bool:
    """Return whether a file, and not a link, is ELF."""
    if path.is_symlink():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def assert_relocatable(root: Path, places: list[str]) -> None:
    """End with an error if a file or a link has a path of this machine in it."""
    spoilt = [
        str(path.relative_to(root)) for path in entries(root) if any(place.encode() in raw(path) for place in places)
    ]
    if spoilt:
        sys.exit("these name a path of the machine that built them: " + ", ".join(spoilt))


def entries(root: Path) -> Iterator[Path]:
    """Yield every file and link."""
    return (path for path in sorted(root.rglob("*")) if path.is_symlink() or path.is_file())


def raw(path: Path) -> bytes:
    """Return the content of a file, or where a link leads."""
    if stat.S_ISLNK(path.lstat().st_mode):
        return os.fsencode(path.readlink())
    return path.read_bytes()


def run(*command: str | Path, environ: dict[str, str] | None = None) -> None:
    """Run a command; end with its error if it fails."""
    said(*command, environ=environ)


def said(*command: str | Path, folder: Path | None = None, environ: dict[str, str] | None = None) -> str:
    """Return what a command prints; end with its error if it fails."""
    # The settings of whoever builds must not show in the package.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PHASESYNC_", "PYTHON", "AWS_"))}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        # Compiled later, under another path: not by whoever imports a module meanwhile.
        env={**kept, "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1", **(environ or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{command[0]} failed ({done.returncode}):\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


if __name__ == "__main__":
    main()
