"""
Keys that are replaced under load: kill -9 at each step, and how long it takes for many secrets.

    python -m bench.keys [--databases sqlite postgresql] [--syncs 8] [--every 1] [--secrets 10000] [--output keys.json]

The trial: daemons work (three on PostgreSQL), edits go on, and `keys rotate-data` and `keys rotate-root` are killed at
their first step, repeated until they are done, killed at their second step, and so on until one ends before its step.
Then nothing may be lost, late or written twice, everything has to authenticate, and an old key must be refused. Exit
code 1 where that is not so.

The time: one environment holds 100 secrets. It is taken while somebody edits, whose longest wait is shown.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Final

import sqlalchemy as sa

from bench.convergence import differing, journal_differences, lost_edits, wrong_versions
from bench.endpoint import Endpoint
from bench.figures import Figure, Section, document
from bench.ground import databases_option, edit, installed, print_figures, spread, wait_for
from bench.machine import machine, watched
from bench.replicas import Replicas
from bench.soak import in_sync
from bench.workload import APP, GUARDED, Workload, in_threads
from phasesync.store.authenticity import authenticate_all
from tests.support.installation import Done, Installation

COMMANDS: Final = (("keys", "rotate-data"), ("keys", "rotate-root"))
_REPLICAS: Final = {"sqlite": 1, "postgresql": 3}
_OF_ENVIRONMENT: Final = 100
_HANG_S: Final = 300.0
_ROOT: Final = Path(__file__).resolve().parent.parent


def main(args: list[str]) -> int:
    """Try, measure, print and write; exit code 1 where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.keys")
    databases_option(parser)
    parser.add_argument("--syncs", type=int, default=8)
    parser.add_argument("--edits", type=float, default=1.0, help="edits a second, on average")
    parser.add_argument("--every", type=int, default=1, help="kill at every n-th step only")
    parser.add_argument("--secrets", type=int, default=10_000, help="0: the trial alone")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--output", type=Path, help="file for what was found, as JSON")
    options = parser.parse_args(args)
    print(f"seed {options.seed}", flush=True)
    about, began = machine(), time.monotonic()
    figures: list[Figure] = []
    wrong: list[str] = []
    with watched() as load, Endpoint() as endpoint:
        for database in options.databases:
            with installed(database, endpoint.empty().url) as installation:
                trial = _Trial(database, installation, endpoint, options)
                trial.carry_out()
            figures += trial.figures
            wrong += [f"{database}: {line}" for line in trial.wrong]
            if options.secrets:
                with installed(database, endpoint.empty().url) as installation:
                    figures += _times(database, installation, options.secrets)
    section = Section(
        name="keys",
        title="Keys that are replaced under load",
        command="python -m bench.keys",
        figures=figures,
        load_before=load.before,
        load_during=load.during,
        seconds=time.monotonic() - began,
        measured_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )
    if options.output is not None:
        written = json.loads(document(about, [section])) | {"seed": options.seed, "wrong": wrong}
        options.output.write_text(json.dumps(written, ensure_ascii=False) + "\n")
    code = print_figures(figures)
    for line in wrong:
        print(f"wrong: {line}")
    return int(bool(code or wrong))


@dataclass
class _Trial:
    """Commands that are killed while daemons and people work."""

    database: str
    installation: Installation
    endpoint: Endpoint
    options: argparse.Namespace
    figures: list[Figure] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def carry_out(self) -> None:
        """Furnish, kill, and look what is left."""
        workload = Workload(self.installation, self.endpoint, self.options.seed)
        workload.furnish(self.options.syncs, leases=False)
        names = [f"replica-{number + 1}" for number in range(_REPLICAS[self.database])]
        replicas = Replicas(self.installation, names, preloaded=True)
        for name in names:
            replicas.start(name, ready=True)
        old_value, old_root = self._value_of_guarded(), (self.installation.folder / "root.key").read_bytes()
        with in_threads(lambda ended: workload.edit_steadily(ended, self.options.edits, commands=False)):
            for command in COMMANDS:
                self._kill_at_each_step(command)
                replicas.look()
        self._refuse_old_keys(old_value, old_root)
        with self.installation.application() as application:
            wait_for(
                lambda: in_sync(application) == len(workload.syncs),
                within_s=_HANG_S,
                what="every sync in step",
                every_s=0.5,
            )
            replicas.look()
            written = self.endpoint.written()
            found = {
                "objects that differ from the store": differing(workload),
                "edits that are lost": lost_edits(application, workload),
                "versions that are wrong or written twice": wrong_versions(workload, written),
                "objects that the journal miscounts": journal_differences(self.installation, written),
                "ends of daemons": replicas.problems,
            }
            counted = authenticate_all(application.store.database, application.store.keys)
        self.wrong += [f"{what}: {line}" for what, lines in found.items() for line in lines[:10]]
        self._figure("edits", "edits meanwhile", workload.edits)
        self._figure("runs", "runs in the log, each authentic", counted.runs)
        self._figure("wrong", "lost, late, doubled or unreadable", len(self.wrong), goal=0)

    def _kill_at_each_step(self, command: Sequence[str]) -> None:
        """Kill a command at its first step, repeat it; at its second; until it ends before the step comes."""
        name, number, places, took = command[1], 1, Counter[str](), 0.0
        while (said := self._killed_at(number, command)) is not None:
            places[said] += 1
            began = time.monotonic()
            again = self.installation.run(*command)
            took = max(took, time.monotonic() - began)
            if again.exit_code != 0:
                self.wrong.append(
                    f"{name}, repeated after step {number}: exit {again.exit_code}, {again.stderr[-300:]}"
                )
            self._look_at_keys(f"{name}, repeated after step {number}")
            number += self.options.every
        print(f"{self.database}: {name} killed {sum(places.values())} times: {dict(places)}", flush=True)
        self._figure(f"{name}_kills", f"{name}: steps at which it was killed, and repeated", sum(places.values()))
        self._figure(f"{name}_again_s", f"{name}: the longest repetition, with its start", took, "s")

    def _killed_at(self, number: int, command: Sequence[str]) -> str | None:
        """Carry out a command that dies at a step; return where it died, or None if it ended before."""
        process = subprocess.run(
            [sys.executable, "-m", "bench.killed_command", str(number), *command],
            env=self.installation.environ,
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_HANG_S,
            check=False,
        )
        said = process.stderr.decode()
        if process.returncode == -signal.SIGKILL:
            return said.splitlines()[-1]
        if process.returncode != 0:
            self.wrong.append(f"{command[1]}, not killed: exit {process.returncode}, {said[-300:]}")
        return None

    def _look_at_keys(self, when: str) -> None:
        """Every environment and purpose has one data key, and all are under one root key."""
        with self.installation.database() as connection:
            counts = connection.execute(
                sa.text(
                    "SELECT (SELECT count(*) FROM data_keys) AS all_keys, (SELECT count(*) FROM environments) AS own, "
                    "(SELECT count(DISTINCT purpose) FROM data_keys WHERE purpose <> 'environment') AS shared, "
                    "(SELECT count(DISTINCT root_key_id) FROM data_keys) AS roots"
                )
            ).one()
        if counts.all_keys != counts.own + counts.shared or counts.roots != 1:
            self.wrong.append(f"{when}: {counts._asdict()}")

    # --- old keys

    def _value_of_guarded(self) -> tuple[str, int, bytes]:
        statement = sa.text(
            "SELECT secret_id, secret_versions.version, value FROM secret_versions "
            "JOIN secrets ON secrets.id = secret_id JOIN environments ON environments.id = environment_id "
            "WHERE environments.name = :name ORDER BY secret_id LIMIT 1"
        )
        with self.installation.database() as connection:
            row = connection.execute(statement, {"name": GUARDED}).one()
        return row.secret_id, row.version, row.value

    def _refuse_old_keys(self, old_value: tuple[str, int, bytes], old_root: bytes) -> None:
        """A former root key opens nothing, and a ciphertext under a former data key is not read."""
        file = self.installation.folder / "old-root.key"
        file.touch(mode=0o600)
        file.write_bytes(old_root)
        self._expect_refusal(
            "the former root key", self.installation.run("status", PHASESYNC_ROOT_KEY_FILE=str(file)), "replaced by"
        )
        now = self._value_of_guarded()
        self._put(old_value)
        refused = self.installation.run("secrets", "list", f"{APP}/{GUARDED}")
        self._put(now)
        self._expect_refusal("a row under a former data key", refused, "names a key that this database does not have")

    def _expect_refusal(self, what: str, done: Done, words: str) -> None:
        said = done.stderr.strip()
        print(f"{self.database}: {what}: exit {done.exit_code}: {said}", flush=True)
        if done.exit_code != 6 or words not in said:
            self.wrong.append(f"{what} is not refused: exit {done.exit_code}, {said[-300:]}")

    def _put(self, value: tuple[str, int, bytes]) -> None:
        secret_id, version, sealed = value
        statement = sa.text("UPDATE secret_versions SET value = :value WHERE secret_id = :id AND version = :version")
        with self.installation.database() as connection:
            connection.execute(statement, {"value": sealed, "id": secret_id, "version": version})
            connection.commit()

    def _figure(self, key: str, what: str, value: float, unit: str = "", goal: float | None = None) -> None:
        figure = Figure(key=f"keys_{key}", what=what, database=self.database, value=value, unit=unit, goal=goal)
        self.figures.append(figure)


def _times(database: str, installation: Installation, secrets: int) -> list[Figure]:
    """Return how long each command takes, and how long an edit waits meanwhile."""
    names = [f"env-{number:03}" for number in range(max(1, secrets // _OF_ENVIRONMENT))]
    values = {f"KEY_{number:03}": f"value {number}, as long as a password" for number in range(_OF_ENVIRONMENT)}
    figures = []
    with installation.application() as application:
        application.store.apps.add_app(APP)
        for name in names:
            application.store.apps.add_environment(APP, name)
            edit(application, name, values)
        for command in COMMANDS:
            waits: list[float] = []

            def keep_editing(ended: Event, waits: list[float] = waits) -> None:
                while not ended.wait(0.2):
                    began = time.monotonic()
                    edit(application, names[0], {"KEY_000": f"value of {began}"})
                    waits.append((time.monotonic() - began) * 1000)

            with in_threads(keep_editing):
                began = time.monotonic()
                done = installation.done(*command)
                took = time.monotonic() - began
            print(f"{database}, {secrets:,} secrets: phasesync {' '.join(command)}: {done.stderr.strip()}", flush=True)
            p50, _, longest = spread(waits)
            measured = {
                "s": (f"{command[1]} with {secrets:,} secrets", took),
                "p50_ms": (f"{command[1]}: an edit meanwhile", p50),
                "max_ms": (f"{command[1]}: the slowest edit meanwhile", longest),
            }
            for key, (what, value) in measured.items():
                unit = key.rpartition("_")[2]
                key = f"keys_{command[1]}_{key}"
                figures.append(Figure(key=key, what=what, database=database, value=value, unit=unit))
    return figures


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main(sys.argv[1:]))
