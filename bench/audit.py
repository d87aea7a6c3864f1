"""
The audit log with many writers at once, and what it finds.

    python -m bench.audit [--replicas 3] [--commands 20] [--rounds 2] [--edits 100] [--database postgresql]

Replicas reconcile while command lines edit, all at the same moment. Afterwards the chain has to be whole, with a row
for each edit. Then what an edit costs is measured, with the log and without it. At the end somebody without the key
tampers with the rows, in each way in turn, and `audit verify` has to name it. Exit code 1 where something is wrong.
"""

import argparse
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import sqlalchemy as sa

from bench.endpoint import Endpoint
from bench.figures import Figure
from bench.ground import edit, installed, print_figures, wait_for
from bench.replicas import Replicas
from bench.soak import in_sync
from phasesync.bootstrap import Application
from phasesync.core.audit import AuditHead
from phasesync.store.tables import audit, audit_head
from tests.support.installation import PHASESYNC, Done, Installation

COLUMNS: Final = ", ".join(column.name for column in audit.columns if column.name != "number")

TAMPERING: Final[dict[str, Sequence[str]]] = {
    "a removed row": ["DELETE FROM audit WHERE number = 5"],
    "an altered row": ["UPDATE audit SET actor = 'eve' WHERE number = 5"],
    "two rows in another order": [
        "UPDATE audit SET number = -1 WHERE number = 5",
        "UPDATE audit SET number = 5 WHERE number = 9",
        "UPDATE audit SET number = 9 WHERE number = -1",
    ],
    "an inserted row": [f"INSERT INTO audit SELECT number + 1, {COLUMNS} FROM audit ORDER BY number DESC LIMIT 1"],
    "a cut tail": ["DELETE FROM audit WHERE number > (SELECT number - 3 FROM audit_head)"],
    "an altered head": ["UPDATE audit_head SET number = number - 3"],
}
"""What somebody does who can write to the database and has no key."""


def main(args: list[str]) -> int:
    """Run, print, and return 1 where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.audit")
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--commands", type=int, default=20, help="command lines at once")
    parser.add_argument("--rounds", type=int, default=2, help="edits of each command line, one after the other")
    parser.add_argument("--edits", type=int, default=100, help="edits of each of 8 threads, to measure what they cost")
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="postgresql")
    options = parser.parse_args(args)
    wrong: list[str] = []
    with Endpoint() as endpoint, installed(options.database, endpoint.url) as installation:
        figures = _write_at_once(installation, options, wrong)
        with installation.application() as application:
            figures += _costs(application, options)
            _tamper(application, wrong)
    code = print_figures(figures)
    for line in wrong:
        print(f"wrong: {line}")
    return int(bool(code or wrong))


def _write_at_once(installation: Installation, options: argparse.Namespace, wrong: list[str]) -> list[Figure]:
    """Have replicas and command lines work at the same moment."""
    names = [f"sync-{number:02}" for number in range(options.commands)]
    installation.add_syncs(*names, values={"KEY": "first"})
    replicas = Replicas(installation, [f"replica-{number + 1}" for number in range(options.replicas)])
    for name in replicas.names:
        replicas.start(name, ready=True)

    def command(name: str) -> list[Done]:
        return [_run(installation, f"shop/{name}", f"value {number}") for number in range(options.rounds)]

    began = time.monotonic()
    with ThreadPoolExecutor(options.commands) as pool:
        done = [each for results in pool.map(command, names) for each in results]
    took = time.monotonic() - began
    with installation.application() as application:
        wait_for(
            lambda: in_sync(application) == len(names), within_s=_PATIENCE_S, what="every sync in step", every_s=0.5
        )
        replicas.look()
        verified = application.store.audit.verify()
        rows = [row.entry for row in application.store.audit.page(limit=10**6).items if row.entry is not None]
    for name in replicas.names:
        replicas.stop(name)
    wrong += replicas.problems
    wrong += [f"a command ended with {each.exit_code}: {each.stderr}" for each in done if each.exit_code != 0]
    wrong += [f"the chain: {finding.message}" for finding in verified.findings]
    counts = Counter(entry.action for entry in rows)
    sets = Counter(entry.object for entry in rows if entry.action == "secret.set")
    wrong += [
        f"{name} has {sets[f'shop/{name}']} rows of edits" for name in names if sets[f"shop/{name}"] < options.rounds
    ]
    print(f"rows: {dict(counts)}; head {verified.head}")
    return [
        _figure("commands", "edits by command lines", len(done)),
        _figure("commands_s", "until all had ended", took, "s"),
        _figure("rows", "rows of the chain", verified.rows),
        _figure("findings", "rows that are not as they were written", len(verified.findings), goal=0),
    ]


def _run(installation: Installation, environment: str, value: str) -> Done:
    """Run a command line, however long it takes: many at once have to share the cores."""
    done = subprocess.run(
        [str(PHASESYNC), "secrets", "set", environment, "KEY", "-"],
        env=installation.environ,
        input=value.encode(),
        capture_output=True,
        timeout=_PATIENCE_S,
        check=False,
    )
    return Done(exit_code=done.returncode, stdout=done.stdout.decode(), stderr=done.stderr.decode())


_PATIENCE_S: Final = 600
_THREADS: Final = 8


def _costs(application: Application, options: argparse.Namespace) -> list[Figure]:
    """Measure edits by several threads, with the log and without it."""
    for number in range(_THREADS):
        application.store.apps.add_environment("shop", f"cost-{number}")

    def edits(number: int) -> list[float]:
        taken = []
        for turn in range(options.edits):
            began = time.monotonic()
            edit(application, f"cost-{number}", {"KEY": f"{turn} {began}"})
            taken.append(time.monotonic() - began)
        return taken

    def measure() -> tuple[float, float]:
        began = time.monotonic()
        with ThreadPoolExecutor(_THREADS) as pool:
            taken = sorted(one for part in pool.map(edits, range(_THREADS)) for one in part)
        return len(taken) / (time.monotonic() - began), taken[len(taken) // 2] * 1000

    database = application.store.database
    with_log, without = [], []
    append = database.before_commit
    assert append is not None
    for _ in range(3):
        with_log.append(measure())
        database.before_commit = lambda connection, _notes: append(connection, ())
        without.append(measure())
        database.before_commit = append
    figures = []
    for name, measured in (("with", with_log), ("without", without)):
        rate, median = sorted(measured)[1]
        what = f"{_THREADS} threads at once, {name} the log"
        figures.append(_figure(f"{name}_rate", f"edits a second, {what}", rate))
        figures.append(_figure(f"{name}_ms", f"an edit, {what}, median", median, "ms"))
    began = time.monotonic()
    verified = application.store.audit.verify()
    took = time.monotonic() - began
    figures.append(_figure("verify", "rows verified a second", verified.rows / took))
    return figures


def _tamper(application: Application, wrong: list[str]) -> None:
    """Tamper in each way, have it named, and put everything back."""
    store = application.store
    for what, statements in TAMPERING.items():
        with _put_back(application):
            _execute(application, statements)
            findings = store.audit.verify().findings
        print(f"{what}:")
        for finding in findings[:4]:
            print(f"    {finding.tampering.value:<9}  {finding.message}")
        if not findings:
            wrong.append(f"{what} was not found")
    kept = store.audit.head() or AuditHead(number=0, digest="")
    with _put_back(application):
        with store.database.read() as connection:
            former = connection.execute(sa.select(audit_head)).one()._asdict()
        store.apps.add_app("removed-again")
        kept = store.audit.head() or kept
        with store.database.engine.begin() as connection:
            connection.execute(audit.delete().where(audit.c.number > former["number"]))
            connection.execute(audit_head.update().values(**former))
        blind, findings = store.audit.verify().findings, store.audit.verify([kept]).findings
    print(f"a tail that was cut with its head (without --head: {len(blind)} findings), with --head {kept}:")
    for finding in findings:
        print(f"    {finding.tampering.value:<9}  {finding.message}")
    if not findings:
        wrong.append("a tail that was cut with its head was not found")
    wrong += [f"afterwards: {finding.message}" for finding in store.audit.verify().findings]


@contextmanager
def _put_back(application: Application) -> Iterator[None]:
    """Put the rows of the log back at the end as they were."""
    tables = (audit, audit_head)
    with application.store.database.engine.begin() as connection:
        rows = [[row._asdict() for row in connection.execute(sa.select(table))] for table in tables]
    yield
    with application.store.database.engine.begin() as connection:
        for table, former in zip(tables, rows, strict=True):
            connection.execute(table.delete())
            connection.execute(table.insert(), former)


def _execute(application: Application, statements: Sequence[str]) -> None:
    with application.store.database.engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def _figure(key: str, what: str, value: float, unit: str = "", goal: float | None = None) -> Figure:
    return Figure(key=f"audit_{key}", what=what, value=value, unit=unit, goal=goal)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
