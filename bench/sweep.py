"""
What it costs to check many unchanged objects of one account for drift, beside a call for each of them.

    python -m bench.sweep [--objects 10000] [--asked 10000] [--runs 50]

The sweep is the daemon's own, in this process: read and authenticate the journal, list, compare, set the next checks.
Then another writer changes one object, and the next sweep has to suspect only that object. Once as many syncs of one
object each, and once as syncs of a hundred keys that are an object each. The peers' ways are their AWS calls alone, on
the same endpoint with the same objects: no database, no decryption. Memory is what Python allocates at most during a
sweep (tracemalloc, in a sweep that is not timed).
"""

import argparse
import json
import sys
import time
import tracemalloc
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from bench.endpoint import Endpoint
from bench.ground import databases_option, installed, table
from phasesync.bootstrap import Application
from phasesync.core.events import Event, SweepFinished
from phasesync.core.planning.ownership import owner_tags
from phasesync.core.remote import JournalEntry
from phasesync.core.run import Outcome
from phasesync.core.sync import Layout
from phasesync.engine.sweep import Sweeper
from phasesync.store.journal import to_row
from phasesync.store.secrets import lookup_of
from phasesync.store.serialization import to_json
from phasesync.store.sync_rows import destination_key, sync_mac
from phasesync.store.tables import chores, environments, journal, secrets, sync_reads, syncs
from tests.support.installation import REGION, Installation
from tests.support.sql import counted

KEYS = 100
"""Objects of a sync of layout per-key."""
_MANY = 500
"""Rows in one insert."""


class _Events:
    """Collects the events of a sweep."""

    def __init__(self) -> None:
        self.swept: list[SweepFinished] = []

    def emit(self, event: Event) -> None:
        if isinstance(event, SweepFinished):
            self.swept.append(event)


def main(args: list[str], endpoint: Endpoint) -> int:
    """Measure and print; exit code 1 where a sweep made other calls than lists, or suspected wrongly."""
    parser = argparse.ArgumentParser(prog="python -m bench.sweep")
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--asked", type=int, default=10_000, help="objects that the peers' ways ask for")
    parser.add_argument("--runs", type=int, default=50, help="checks by runs of their own, one after the other")
    databases_option(parser)
    options = parser.parse_args(args)
    rows, bad = [], False
    peers: list[tuple[object, ...]] = []
    asked: list[tuple[object, ...]] = []
    for database in options.databases:
        for keys in (1, KEYS):
            with installed(database, endpoint.empty().url) as installation:
                planted = _Planted(installation, endpoint, options.objects, keys)
                shape = f"{database}, {options.objects // keys:,} syncs of {keys}"
                result_row, well = _measure(planted, endpoint)
                bad |= not well
                rows.append((shape, *result_row))
                if keys == 1:
                    peers.append(_run_one_by_one(f"{database}, a run for each", installation, endpoint, options.runs))
                if not asked:
                    asked = _ask_for_each(endpoint, planted.names[: options.asked])
    head = ["sweep", "calls", "s", "CPU s", "SQL statements", "peak MiB", "suspects", "after one change"]
    table(head, rows)
    print()
    table(["a call for each object", "objects", "calls", "s", "CPU s", "ms an object"], [*asked, *peers])
    return int(bad)


class _Planted:
    """Syncs in step with objects that are there, written after the rows of one that was made in earnest."""

    def __init__(self, installation: Installation, endpoint: Endpoint, objects: int, keys: int) -> None:
        self.installation = installation
        self.names: list[str] = []
        self._tags: dict[str, dict[str, str]] = {}
        per_key = {"layout": Layout.PER_KEY, "remote_name": None, "name_template": "{app}/{env}/{key}"}
        installation.add_syncs("web", values={"KEY_0": "value"}, **(per_key if keys > 1 else {}))
        installation.reconcile("web")
        with installation.application() as application, installation.database() as connection:
            self._plant(application, connection, endpoint, objects // keys, keys)
        engine = sa.create_engine(installation.database_url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql("ANALYZE")

    def _plant(
        self, application: Application, connection: sa.Connection, endpoint: Endpoint, count: int, keys: int
    ) -> None:
        ring = application.store.keys
        endpoint.plant({"shop/web" if keys == 1 else "shop/web/KEY_0": None})
        first = {rows: _only(connection, rows) for rows in (environments, syncs, sync_reads, secrets)}
        (entry,) = application.store.syncs.state_of("web").journal
        rows_of: dict[sa.Table, list[dict[str, Any]]] = {rows: [] for rows in first}
        written: list[JournalEntry] = []
        existing: dict[str, tuple[str, dict[str, str]] | None] = {}
        for number in range(count):
            name, sync_id = f"e{number}", uuid.uuid4().hex
            environment_id = first[environments]["id"] if keys == 1 else uuid.uuid4().hex
            config = json.loads(first[syncs]["config"])
            if keys == 1:
                config["remote_name"] = f"shop/{name}"
            named = {"name": name, "name_key": name}
            sync = first[syncs] | named | {"id": sync_id, "environment_id": environment_id, "config": to_json(config)}
            sync |= {"destination_key": destination_key(sync), "mac": sync_mac(ring, sync), "objects": keys}
            if keys > 1:
                rows_of[environments].append(first[environments] | named | {"id": environment_id})
            rows_of[syncs].append(sync)
            rows_of[sync_reads].append(first[sync_reads] | {"sync_id": sync_id, "environment_id": environment_id})
            for key in (f"KEY_{index}" for index in range(keys)):
                remote_name = f"shop/{name}" if keys == 1 else f"shop/{name}/{key}"
                self.names.append(remote_name)
                version = str(uuid.uuid4())
                tags = owner_tags(application.context.instance_id, sync_id)
                existing[remote_name], self._tags[remote_name] = (version, tags), tags
                added = replace(
                    entry,
                    id=uuid.uuid4().hex,
                    sync_id=sync_id,
                    remote_name=remote_name,
                    version_id=version,
                    keys={key: next(iter(entry.keys.values()))},
                    tags_written=tags,
                    touched_at=None,
                )
                written.append(added)
                if keys > 1:
                    lookup = lookup_of(ring, environment_id, "/", key)
                    rows_of[secrets].append(
                        first[secrets] | {"id": uuid.uuid4().hex, "environment_id": environment_id, "lookup": lookup}
                    )
        arns, data_key_id = endpoint.plant(existing), first[environments]["data_key_id"]
        rows_of[journal] = [to_row(ring, data_key_id, replace(added, arn=arns[added.remote_name])) for added in written]
        for rows, values in rows_of.items():
            for start in range(0, len(values), _MANY):
                connection.execute(rows.insert(), values[start : start + _MANY])
        # The pattern itself is gone.
        connection.execute(syncs.update().where(syncs.c.name == "web").values(next_due_at=None))

    def make_due(self) -> None:
        """Have all checks due soon, and let a sweep follow the last one at once."""
        with self.installation.database() as connection:
            connection.execute(chores.delete())
            soon = time.time_ns() // 1000 + 10_000_000
            connection.execute(
                sa.text("UPDATE syncs SET next_due_at = :soon WHERE next_due_at IS NOT NULL"), {"soon": soon}
            )

    def change_one(self, endpoint: Endpoint) -> None:
        """Write one object as another writer would."""
        name = self.names[len(self.names) // 2]
        endpoint.plant({name: (str(uuid.uuid4()), self._tags[name])})


def _measure(planted: _Planted, endpoint: Endpoint) -> tuple[tuple[object, ...], bool]:
    """Return the cells of a row, and whether all was as it has to be."""
    events = _Events()
    pages = -(-len(planted.names) // 100)
    with planted.installation.application() as application:
        context = replace(application.context, events=events)
        sweeper = Sweeper(context)
        destination = context.destinations.open("aws-secrets-manager", application.store.credentials.get("aws"), REGION)
        destination.account_id()  # Asked once per session, by whoever comes first.
        planted.make_due()
        with counted(application.store.database.engine) as statements:
            calls, seconds, cpu = _watched(endpoint, lambda: sweeper.sweep(lambda: False))
        planted.make_due()
        tracemalloc.start()
        sweeper.sweep(lambda: False)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        planted.make_due()
        planted.change_one(endpoint)
        sweeper.sweep(lambda: False)
    unchanged, _, changed = (swept.suspects for swept in events.swept)
    well = calls == {"ListSecrets": pages} and (unchanged, changed) == (0, 1)
    calls_text = ", ".join(f"{count:,} {name}" for name, count in sorted(calls.items()))
    return (calls_text, seconds, cpu, len(statements), peak / 2**20, unchanged, changed), well


def _watched(endpoint: Endpoint, work: Callable[[], object]) -> tuple[Counter[str], float, float]:
    """Do something; return the calls that arrived meanwhile, the seconds, and those of this process on a core."""
    before = Counter(endpoint.seen().counts)
    began, used = time.perf_counter(), time.process_time()
    work()
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    return Counter(endpoint.seen().counts) - before, seconds, cpu


def _run_one_by_one(name: str, installation: Installation, endpoint: Endpoint, runs: int) -> tuple[object, ...]:
    """Check syncs as without lists: a whole run for each."""
    with installation.application() as application:
        names = [sync.name for sync in application.store.syncs.list_syncs() if sync.name != "web"][:runs]
        application.operations.run(names.pop(), actor="bench")  # opens connections

        def run_all() -> None:
            for name in names:
                if application.operations.run(name, actor="bench").outcome is not Outcome.UNCHANGED:
                    raise AssertionError("there was something to do")

        return _row(name, len(names), *_watched(endpoint, run_all))


def _ask_for_each(endpoint: Endpoint, names: Sequence[str]) -> list[tuple[object, ...]]:
    """Go the peers' ways: read each value, or describe each object."""
    import boto3

    client = boto3.client(
        "secretsmanager",
        region_name=REGION,
        endpoint_url=endpoint.url,
        aws_access_key_id="AKIABENCHBENCHBENCH1",
        aws_secret_access_key="not-a-real-secret-access-key",
    )

    def each(call: Callable[..., Any]) -> Callable[[], None]:
        return lambda: [call(SecretId=name) for name in names].clear()

    return [
        _row("GetSecretValue for each", len(names), *_watched(endpoint, each(client.get_secret_value))),
        _row("DescribeSecret for each", len(names), *_watched(endpoint, each(client.describe_secret))),
    ]


def _row(name: str, objects: int, calls: Counter[str], seconds: float, cpu: float) -> tuple[object, ...]:
    return name, objects, calls.total(), seconds, cpu, seconds / max(1, objects) * 1000


def _only(connection: sa.Connection, rows: sa.Table) -> dict[str, Any]:
    (row,) = connection.execute(sa.select(rows)).mappings()
    return dict(row)


if __name__ == "__main__":
    with Endpoint() as started:
        sys.exit(main(sys.argv[1:], started))
