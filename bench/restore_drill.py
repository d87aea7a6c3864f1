"""
A restore drill against the clock: everything is lost but a backup and the root key, and the installation works again.

    python -m bench.restore_drill [--databases sqlite,postgresql] [--syncs 50] [--edits 5]

A daemon makes the backup, as it does on a schedule. Some syncs are edited after it, so that AWS is ahead of it. Then
the daemon is killed, and the database and the data directory are removed. What follows are the commands of
docs/backup.md, each in a process of its own, with the seconds that it took; at the end every sync is in step. Exit code
1 where something is missing.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.endpoint import Endpoint
from bench.ground import ANY_RATE, DATABASES, installed, wait_for
from phasesync.core.sync import SyncStatus
from tests.support.daemon import PHASESYNC
from tests.support.installation import Installation
from tests.support.postgres import PostgresServer, start_server

_WITHIN_S: Final = 300.0


@dataclass(kw_only=True)
class _Drill:
    """
    What was done after the loss.

    Attributes:
        steps: what, and how many seconds it took.
        wrong: what is not as it has to be.
        states: state of a sync in the drill -> how many.
        written: versions that were written at AWS after the loss.
    """

    steps: list[tuple[str, float]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    states: dict[str, int] = field(default_factory=dict)
    written: int = 0

    @property
    def seconds(self) -> float:
        return sum(seconds for _, seconds in self.steps)

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.steps.append((what, time.monotonic() - began))

    def command(self, installation: Installation, *args: str) -> Any:
        """Run a command that prints JSON."""
        with self.step(f"phasesync {' '.join(args)}".replace(str(installation.folder), "")):
            done = installation.run(*args, "-o", "json")
        if done.exit_code != 0:
            raise AssertionError(f"phasesync {' '.join(args)}: exit {done.exit_code}: {done.stderr}")
        return json.loads(done.stdout)


def main(args: list[str], at: Endpoint | None = None) -> int:
    """Drill on each database, and print minutes and commands; exit code 1 where something is missing."""
    parser = argparse.ArgumentParser(prog="python -m bench.restore_drill")
    parser.add_argument("--databases", default=",".join(DATABASES))
    parser.add_argument("--syncs", type=int, default=50)
    parser.add_argument("--edits", type=int, default=5, help="syncs that are edited after the backup")
    parser.add_argument("--in-process", action="store_true", help="commands without the start of Python: for tests")
    options = parser.parse_args(args)
    wrong: list[str] = []
    for database in options.databases.split(","):
        with nullcontext(at) if at is not None else Endpoint() as endpoint:
            drill = _drill(database, endpoint, options)
        print(f"\n{database}: {options.syncs} syncs, {options.edits} of them edited after the backup\n")
        for what, seconds in drill.steps:
            print(f"  {seconds:6.1f} s  {what}")
        print(f"\n  {drill.seconds:6.1f} s  = {drill.seconds / 60:.1f} minutes from the loss to every sync in step")
        print(f"  the drill said: {json.dumps(drill.states)}; versions written at AWS since the loss: {drill.written}")
        wrong += [f"{database}: {each}" for each in drill.wrong]
    for line in wrong:
        print(f"wrong: {line}")
    return int(bool(wrong))


def _drill(database: str, endpoint: Endpoint, options: argparse.Namespace) -> _Drill:
    server = start_server() if database == "postgresql" else None
    try:
        with installed(database, endpoint.url, server=server) as installation:
            installation.in_process = options.in_process
            installation.configure(aws__rate_percent=ANY_RATE)
            names = [f"sync-{number:04}" for number in range(options.syncs)]
            installation.add_syncs(*names)
            backups = installation.folder / "backups"
            backup = _back_up(installation, names, backups)
            for name in names[: options.edits]:
                installation.edit(name, URL="newer")
            installation.wait_for(*names, within_s=_WITHIN_S)
            installation.daemons[0].kill()
            _lose_everything(installation, server)
            return _bring_back(installation, endpoint, backup, names, options.edits)
    finally:
        if server is not None:
            server.stop()


def _back_up(installation: Installation, names: list[str], folder: Path) -> Path:
    """Have the daemon bring all syncs in step, and make a backup; return its file."""
    installation.start_daemon()
    installation.wait_for(*names, within_s=_WITHIN_S)
    installation.done("db", "backup", "--every", "6h", "--keep", "28", "--to", str(folder))

    def made() -> bool:
        return bool(list(folder.glob("phasesync-*.db")))

    wait_for(made, within_s=_WITHIN_S, what="the backup of the daemon", every_s=0.2)
    return next(folder.glob("phasesync-*.db"))


def _lose_everything(installation: Installation, server: PostgresServer | None) -> None:
    """Remove all but the backup, the root key and the settings."""
    shutil.rmtree(installation.data_dir)
    for file in installation.folder.glob("phasesync.db*"):
        file.unlink()
    if server is not None:
        server.drop_database("bench")
        server.create_database("bench")


def _bring_back(installation: Installation, endpoint: Endpoint, backup: Path, names: list[str], edits: int) -> _Drill:
    drill = _Drill()
    before = len([one for versions in endpoint.written().values() for one in versions])
    drill.command(installation, "db", "verify", str(backup))
    tried = drill.command(installation, "db", "drill", str(backup))
    drill.states = tried["states"]
    if drill.states != {state: n for state, n in (("in-step", len(names) - edits), ("behind-aws", edits)) if n}:
        drill.wrong.append(f"the drill did not find {edits} of {len(names)} syncs behind AWS: {drill.states}")
    drill.command(installation, "db", "restore", str(backup))
    drill.command(installation, "db", "accept-restore", "--yes")
    with drill.step(f"{PHASESYNC.name} daemon, until every sync is in step"):
        installation.start_daemon()
        installation.wait_for(*names, within_s=_WITHIN_S)
    drill.written = len([one for versions in endpoint.written().values() for one in versions]) - before
    if drill.written != edits:
        drill.wrong.append(f"{drill.written} versions were written, and {edits} secrets were newer at AWS")
    planned = installation.run("syncs", "plan", "--all", "--detailed-exitcode", "-o", "json")
    if planned.exit_code != 0:
        drill.wrong.append(f"not every sync is in step: {planned.stdout} {planned.stderr}")
    with installation.application() as application:
        counted = application.store.syncs.count_by_status()
    if counted.get(SyncStatus.IN_SYNC) != len(names):
        drill.wrong.append(f"syncs by status: {counted}")
    return drill


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
