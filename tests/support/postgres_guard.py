"""The process between a test run and its PostgreSQL server; started by `postgres.py`, never imported.

It creates the cluster, starts the server, answers with one line of JSON on stdout, and waits until its
stdin closes. Then it stops the server and removes every file. A line on stdin has it stop, crash, start or
restart the server, which it answers with a line as well. It needs the standard library only.

PostgreSQL refuses to run as root, and an unprivileged user may be unable to read an environment below
root's home. So, as root, the guard copies the binaries to a folder that everybody can read and runs them
as `nobody`.
"""

from __future__ import annotations

import json
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any

UNPRIVILEGED = "nobody"
START_TIMEOUT_S = 60.0
SPACE_NEEDED_BYTES = 512 * 1024 * 1024
# A socket's path must stay under 104 bytes on some systems; ".s.PGSQL.5432.lock" takes 19.
LONGEST_FOLDER = 80

SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "max_wal_size": "1GB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    # Nothing has to survive a crash.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    # It may hold up the copying of a template, and test databases do not live long enough to need it.
    "autovacuum": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


def main() -> int:
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

    installation = Path(sys.argv[1])
    folders: list[Path] = []
    server: subprocess.Popen[bytes] | None = None
    try:
        run = _new_folder(folders, executable=False)
        user: dict[str, Any] = {}
        if os.geteuid() == 0:
            entry = pwd.getpwnam(UNPRIVILEGED)
            user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            os.chown(run, entry.pw_uid, entry.pw_gid)
            installation = _readable_copy(installation, _new_folder(folders, executable=True))
        _create_cluster(installation, run, user)
        server = _start(installation, run, user)
        print(json.dumps({"socket_directory": str(run)}), flush=True)
        while command := _next_command(server):
            if server is not None and command in ("stop", "crash", "restart"):
                # A fast shutdown, where connections end and what is committed stays; or none at all, as in a crash.
                server.send_signal(signal.SIGQUIT if command == "crash" else signal.SIGINT)
                server.wait()
                server = None
            if server is None and command in ("start", "restart"):
                server = _start(installation, run, user)
            print(json.dumps({}), flush=True)
    except Exception as error:
        # Whatever it is, the test run has to hear of it, in one line.
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)
        return 1
    finally:
        if server is not None and server.poll() is None:
            server.send_signal(signal.SIGQUIT)  # an immediate shutdown: there is nothing to save
            server.wait()
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


def _new_folder(folders: list[Path], *, executable: bool) -> Path:
    """A new private folder, in memory if there is room (and, where asked, if programs may run there)."""
    for parent in ("/dev/shm", tempfile.gettempdir(), "/var/tmp", "/tmp"):
        if not os.path.isdir(parent) or not os.access(parent, os.W_OK) or len(parent) > LONGEST_FOLDER:
            continue
        if executable and os.statvfs(parent).f_flag & getattr(os, "ST_NOEXEC", 0):
            continue  # containers mount /dev/shm like this
        if shutil.disk_usage(parent).free < SPACE_NEEDED_BYTES:
            continue
        folders.append(Path(tempfile.mkdtemp(prefix="phasesync-pg-", dir=parent)))
        return folders[-1]
    raise OSError(f"no temporary folder with {SPACE_NEEDED_BYTES >> 20} MiB free")


def _readable_copy(installation: Path, target: Path) -> Path:
    """Copy what a server needs, laid out as in the wheel (its programs find libraries by relative path)."""
    copy = target / installation.parent.name / installation.name
    shutil.copytree(installation / "share", copy / "share")
    shutil.copytree(installation / "lib", copy / "lib", ignore=shutil.ignore_patterns("*.a", "pgxs", "pkgconfig"))
    (copy / "bin").mkdir()
    for program in ("initdb", "postgres"):
        shutil.copy2(installation / "bin" / program, copy / "bin" / program)
    bundled = installation.parent.with_name(installation.parent.name + ".libs")
    if bundled.is_dir():
        shutil.copytree(bundled, target / bundled.name)
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() else path.stat().st_mode & 0o111 | 0o644)
    return copy


def _create_cluster(installation: Path, run: Path, user: dict[str, Any]) -> None:
    """Create a cluster in `run`."""
    initdb = [str(installation / "bin" / "initdb"), "--pgdata", str(run / "data")]
    initdb += ["--username", "postgres", "--auth", "trust", "--no-sync", "--no-instructions"]
    initdb += ["--encoding", "UTF8", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"]
    with open(run / "log", "ab") as output:
        if subprocess.run(initdb, **_surroundings(run, user, output)).returncode != 0:
            raise RuntimeError(f"initdb failed: {_last_lines(run / 'log')}")


def _surroundings(run: Path, user: dict[str, Any], output: IO[bytes]) -> dict[str, Any]:
    streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
    return {**user, "cwd": run, "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}, **streams}


def _start(installation: Path, run: Path, user: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start a server on the cluster in `run`; return when it accepts connections."""
    data, log = run / "data", run / "log"
    options = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
    command = [str(installation / "bin" / "postgres"), "-D", str(data), "-k", str(run), *options]
    with open(log, "ab") as output:
        server: subprocess.Popen[bytes] = subprocess.Popen(command, **_surroundings(run, user, output))
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _is_ready(data / "postmaster.pid"):
        if server.poll() is not None or time.monotonic() > deadline:
            server.kill()
            raise RuntimeError(f"the server did not come up: {_last_lines(log)}")
        time.sleep(0.01)
    return server


def _is_ready(pid_file: Path) -> bool:
    """Whether the server has written `ready` as the eighth line of its pid file."""
    try:
        lines = pid_file.read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[7].strip() == "ready"


def _next_command(server: subprocess.Popen[bytes] | None) -> str:
    """Return a line when it arrives, and nothing when stdin closes or the server has died."""
    while server is None or server.poll() is None:
        readable, _, _ = select.select([sys.stdin], [], [], 1.0)
        if readable:
            return os.read(sys.stdin.fileno(), 1024).decode().strip()
    return ""


def _last_lines(log: Path) -> str:
    return " | ".join(log.read_text(errors="replace").splitlines()[-5:])


if __name__ == "__main__":
    sys.exit(main())
