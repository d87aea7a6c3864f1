"""
How long lists, `status` and the retention take with as many rows as a whole AWS account has.

    python -m bench.lists --databases sqlite --syncs 100000 --runs 10000000

Each command runs in this process after its modules are loaded: the figures are what it takes beyond the start of
Python. `--explain` prints the plans of the statements that take longest.
"""

import contextlib
import io
import json
import os
import resource
import shutil
import statistics
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from bench.ground import databases_option
from phasesync.cli.main import cli
from phasesync.engine.retention import BATCH
from phasesync.store import Store
from phasesync.store.migrate import upgrade
from tests.support.postgres import start_server
from tests.support.stores import open_test_store, write_root_key
from tests.support.whole_account import Size, fill, name_of

COMMANDS = (
    "syncs list",
    "syncs list -o json",
    "syncs list -o json --limit 50",
    "syncs list -o json --after {middle}",
    "syncs list --status failing -o json",
    "syncs list --status pending,running -o json",
    "syncs list --status in-sync -o json",
    "syncs list --app app-001 -o json",
    "syncs list --credential credential-000 -o json",
    "syncs show {first} -o json",
    "runs list",
    "runs list -o json --limit 1000",
    "runs list --sync {first} -o json",
    "runs list --outcome failed -o json",
    "runs list --outcome failed,held --since 30m -o json",
    "runs list --outcome interrupted -o json",
    "runs list --since 30m -o json",
    "runs list --sync {middle} --outcome interrupted -o json",
    "status",
    "status -o json",
    "credentials list",
    "credentials list -o json",
    "envs list -o json",
    "apps list -o json",
    "leases list -o json",
)
ROUNDS = 5


@contextmanager
def filled(database: str, size: Size, keep: Path | None) -> Iterator[tuple[str, Path]]:
    """Make a database of a size; yield its URL and the folder with its root key."""
    folder = keep or Path(tempfile.mkdtemp(prefix="phasesync-bench-"))
    folder.mkdir(exist_ok=True, mode=0o700)
    server = start_server() if database == "postgresql" else None
    try:
        file = folder / "phasesync.db"
        is_new = not file.exists()
        if server is None:
            url = f"sqlite:///{file}"
        else:
            server.create_database("bench")
            url = server.url("bench")
        if server is not None or is_new:
            began = time.monotonic()
            upgrade(url)
            write_root_key(folder / "root.key")
            store = open_test_store(url)
            if server is None:
                event.listen(store.database.engine, "connect", _cache_more)
            fill(store, size)
            if server is not None:
                with store.database.engine.connect() as connection:
                    connection.execution_options(isolation_level="AUTOCOMMIT").execute(sa.text("VACUUM ANALYZE"))
            store.close()
            print(f"filled in {time.monotonic() - began:.0f} s")
        yield url, folder
    finally:
        if server is not None:
            server.stop()
        if keep is None:
            shutil.rmtree(folder)


def _cache_more(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA cache_size = -1000000")  # KiB: indexes of millions of rows are made in memory.
    connection.execute("PRAGMA temp_store = MEMORY")


def measure(command: str, url: str, folder: Path) -> tuple[list[float], float, int]:
    """Return how long each round of a command took in ms, the CPU time of this process, and how much it printed."""
    environ = {
        "PHASESYNC_DATABASE_URL": url,
        "PHASESYNC_ROOT_KEY_FILE": str(folder / "root.key"),
        "PHASESYNC_DATA_DIR": str(folder),
        "HOME": str(folder),
    }
    times, cpu, printed = [], [], ""
    os.environ.update(environ)
    errors = io.StringIO()
    for _ in range(ROUNDS + 1):
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        began, cpu_began = time.perf_counter(), time.process_time()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            try:
                cli.main(command.split(), prog_name="phasesync", standalone_mode=False)
            except SystemExit as ended:
                if ended.code:
                    raise RuntimeError(f"{command}: {errors.getvalue()}") from None
        times.append((time.perf_counter() - began) * 1000)
        cpu.append((time.process_time() - cpu_began) * 1000)
        out.flush()
        printed = out.buffer.getvalue().decode()
    count = len(json.loads(printed).get("items", [])) if "json" in command else printed.count("\n")
    return times[1:], statistics.median(cpu[1:]), count


def prune(store: Store, older_than: timedelta, steps: int) -> None:
    """Measure the first steps of the retention."""
    times, deleted, after = [], 0, None
    for _ in range(steps):
        began = time.perf_counter()
        step = store.runs.prune_runs(older_than=older_than, limit=BATCH, after=after)
        times.append((time.perf_counter() - began) * 1000)
        deleted, after = deleted + step.count, step.next
        if after is None:
            break
    print(
        f"| retention, a step of {BATCH} runs ({len(times)} steps, {deleted} deleted) | "
        f"{statistics.median(times):.0f} | {max(times):.0f} | | |"
    )


def main() -> int:
    parser = ArgumentParser(description=__doc__)
    databases_option(parser)
    parser.add_argument("--syncs", type=int, default=100_000)
    parser.add_argument("--environments", type=int, default=2_000)
    parser.add_argument("--credentials", type=int, default=50)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, help="Folder of a SQLite database to make, or to use again.")
    parser.add_argument("--steps", type=int, default=20, help="Steps of the retention.")
    options = parser.parse_args()
    size = Size(
        syncs=options.syncs,
        environments=options.environments,
        credentials=options.credentials,
        runs=options.runs,
        real_runs=20_000,
    )
    for database in options.databases:
        print(
            f"\n{database}: {size.syncs:,} syncs, {size.syncs * size.entries_per_sync:,} journal rows, "
            f"{size.runs:,} runs"
        )
        with filled(database, size, options.keep) as (url, folder):
            print("\n| command | ms (median) | ms (worst) | ms of CPU | printed |\n|---|---|---|---|---|")
            for command in COMMANDS:
                words = command.format(first=name_of(0), middle=name_of(size.syncs // 2))
                times, cpu, count = measure(words, url, folder)
                print(
                    f"| `{words}` | {statistics.median(times):.0f} | {max(times):.0f} | {cpu:.0f} | {count:,} |",
                    flush=True,
                )
            store = open_test_store(url)
            prune(store, timedelta(days=20), options.steps)
            began = time.perf_counter()
            store.clock_watch.check("bench")
            clock = (time.perf_counter() - began) * 1000
            print(f"| the check of the clock | {clock:.1f} | | | |")
            store.close()
            print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
