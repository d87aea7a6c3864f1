"""What the benchmarks stand on: both databases, an installation on each, figures as a table."""

import os
import shutil
import statistics
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa

from bench.figures import Figure, shown
from phasesync.bootstrap import Application
from phasesync.core.model import SecretValue, SecretWrite
from phasesync.core.sync import SyncConfig, SyncDraft
from phasesync.store.migrate import upgrade
from tests.support.installation import REGION, Installation
from tests.support.postgres import PostgresServer, start_server
from tests.support.stores import write_root_key

ANY_RATE = 10_000
"""`aws.rate_percent`: AWS's 50 writes a second in one Region, of which a daemon uses 40, are not what is measured."""
DATABASES = ("sqlite", "postgresql")

_AWS = {
    "AWS_REGION": REGION,
    "AWS_CONFIG_FILE": "/nonexistent/aws-config",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent/aws-credentials",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_ACCESS_KEY_ID": "AKIABENCHBENCHBENCH1",
    "AWS_SECRET_ACCESS_KEY": "not-a-real-secret-access-key",
    "NO_PROXY": "127.0.0.1",
}


@contextmanager
def installed(
    database: str, endpoint_url: str, *, initialise: bool = True, server: PostgresServer | None = None
) -> Iterator[Installation]:
    """
    Make an installation on a fresh database, and lead this process and its children to an endpoint.

    SQLite lies in the folder for temporary files, so that a commit waits for that disk. PostgreSQL is the tests' own:
    it lies in memory and does not wait, which flatters it by what a commit costs on your disk. Without `initialise` the
    database is empty: see `bench.synthetic.copy_database`. `server`: a PostgreSQL of the caller, who stops it.
    """
    folder = Path(tempfile.mkdtemp(prefix="phasesync-bench-"))
    environ = _AWS | {"AWS_ENDPOINT_URL": endpoint_url}
    os.environ.update(_AWS, AWS_ENDPOINT_URL=endpoint_url)
    own_server = start_server() if database == "postgresql" and server is None else None
    used_server = server or own_server
    try:
        if used_server is None:
            url = f"sqlite:///{folder}/phasesync.db"
        else:
            used_server.create_database("bench")
            url = used_server.url("bench")
        upgrade(url)
        installed_here = Installation(folder, url, environ)
        if initialise:
            installed_here.initialise()
        else:
            write_root_key(folder / "root.key")
        try:
            yield installed_here
        finally:
            installed_here.close()
    finally:
        if own_server is not None:
            own_server.stop()
        shutil.rmtree(folder)


def add_fan_out(installation: Installation, count: int, *, secrets: int, app: str = "shop") -> list[str]:
    """
    Add one environment, and syncs that all read it, each for an object of its own; return the syncs' names.

    For a daemon with `aws.rate_percent = ANY_RATE`: at AWS's rates they would be all that is measured.
    """
    names = [f"fan-{number:04}" for number in range(count)]
    installation.add_syncs("shared", values=_values(secrets, 0), interval=timedelta(hours=1))
    with installation.application() as application:
        # The first one is only there to make the environment and the credential.
        application.operations.pause("shared", actor="bench", reason="", until=None)
        for name in names:
            config = SyncConfig(remote_name=f"{app}/{name}", interval=timedelta(hours=1))
            draft = SyncDraft(
                name=name,
                app=app,
                environment="shared",
                path="/",
                credential="aws",
                destination_kind="aws-secrets-manager",
                region=REGION,
                config=config,
                account=None,
                adopt=None,
            )
            application.configuration.add(draft, verify=False)
    return names


def edit_all(installation: Installation, *, secrets: int, number: int) -> float:
    """Give the environment of `add_fan_out` another content; return the monotonic time of the commit."""
    with installation.application() as application:
        return edit(application, "shared", _values(secrets, number))


def edit(application: Application, environment: str, values: dict[str, str]) -> float:
    """Commit one revision of an environment of the app `shop`; return the monotonic time of the commit."""
    writes = [SecretWrite(path="/", key=key, value=SecretValue(text)) for key, text in values.items()]
    application.store.secrets.edit("shop", environment, actor="bench", origin="set", writes=writes)
    return time.monotonic()


def wait_for(condition: Callable[[], bool], *, within_s: float, what: str, every_s: float) -> None:
    """Wait for a condition that costs something to ask for, so that asking is not what is measured."""
    until = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > until:
            raise AssertionError(f"{what} did not come within {within_s:.0f} s")
        time.sleep(every_s)


_UNFINISHED = sa.text(
    "SELECT count(*) FROM syncs WHERE paused_at IS NULL AND (claim_owner IS NOT NULL OR EXISTS (SELECT 1 FROM "
    "sync_reads JOIN environments ON environments.id = sync_reads.environment_id "
    "WHERE sync_reads.sync_id = syncs.id AND environments.revision > sync_reads.revision))"
)


def unfinished(installation: Installation) -> int:
    """Return how many syncs have a revision to apply, or are claimed."""
    with installation.database() as connection:
        return int(connection.scalar(_UNFINISHED) or 0)


def _values(count: int, number: int) -> dict[str, str]:
    return {f"KEY_{key:02}": f"value {key} of edit {number}, as long as a password" for key in range(count)}


def databases_option(parser: ArgumentParser) -> None:
    """Add `--databases`."""
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=DATABASES)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table in Markdown, figures to the right."""
    texts = [[_text(cell) for cell in row] for row in rows]
    widths = [max(len(line[column]) for line in [list(head), *texts]) for column in range(len(head))]
    lines = [head, ["-" * width for width in widths], *texts]
    for number, line in enumerate(lines):
        left = [cell.ljust(width) for cell, width in zip(line[:1], widths[:1], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        if number == 1:
            right = [f"{cell[:-1]}:" for cell in right]
        print("| " + " | ".join([*left, *right]) + " |")


def print_figures(figures: Sequence[Figure]) -> int:
    """Print figures as a table; return 1 where a goal is missed."""
    head = ["figure", "database", "value", "goal", "peers' ways", "verdict"]
    rows = [
        (
            figure.what + (f" ({figure.unit})" if figure.unit else ""),
            figure.database or "-",
            shown(figure.value),
            figure.bound or "-",
            ", ".join(
                f"{name} {shown(value)} ({shown(figure.ratios.get(name, 0.0))}x)"
                for name, value in figure.peers.items()
            ),
            figure.verdict,
        )
        for figure in figures
    ]
    table(head, rows)
    return int(any(figure.missed for figure in figures))


def spread(milliseconds: Sequence[float]) -> tuple[float, float, float]:
    """Return p50, p95 and the greatest."""
    ordered = sorted(milliseconds)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))], ordered[-1]


def _text(cell: object) -> str:
    return f"{cell:,.1f}" if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else str(cell)
