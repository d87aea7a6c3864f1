"""
Fills a store with as many rows as a whole AWS account has, in bulk.

Syncs are real: each row authenticates. Of the journal and of the log only what lists show is real: the newest runs. The
older rows are copies of one, which nothing reads.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.credential import CredentialDraft, CredentialType
from phasesync.core.remote import JournalEntry
from phasesync.core.run import Outcome, Run
from phasesync.core.sync import SyncConfig, SyncStatus, Trigger
from phasesync.store import Store
from phasesync.store.db_time import from_microseconds, now
from phasesync.store.journal import to_row
from phasesync.store.runs import insert_runs
from phasesync.store.serialization import to_json
from phasesync.store.sync_rows import destination_key, reason_context, sync_mac
from phasesync.store.tables import environments, journal, runs, sync_reads, syncs

REGION: Final = "eu-central-1"
ACCOUNT: Final = "111122223333"
KEPT: Final = timedelta(days=30)
_ROWS_AT_ONCE: Final = 5_000
_OUTCOMES: Final = (Outcome.UNCHANGED, Outcome.APPLIED, Outcome.FAILED, Outcome.HELD, Outcome.UNCHANGED)


@dataclass(frozen=True, kw_only=True)
class Size:
    """How many rows there are. Some of a hundred syncs are paused, held, failing, running or behind."""

    syncs: int
    environments: int = 20
    credentials: int = 5
    entries_per_sync: int = 5
    runs: int = 0
    real_runs: int = 2_000


def fill(store: Store, size: Size) -> None:
    """Fill an empty store."""
    envs = _add_environments(store, size.environments)
    credentials = [_add_credential(store, number) for number in range(size.credentials)]
    clock = _clock(store)
    ids = _insert_syncs(store, size.syncs, envs, credentials, clock)
    _copy_journal(store, envs[0], ids[0], size.entries_per_sync)
    _insert_runs(store, ids, envs, size.runs - size.real_runs, clock - KEPT, real=False)
    _insert_runs(store, ids, envs, min(size.runs, size.real_runs), clock - timedelta(hours=1), real=True)


def name_of(number: int) -> str:
    """Return the name of a sync, in the order of their numbers."""
    return f"sync-{number:06}"


def _clock(store: Store) -> datetime:
    with store.database.read() as connection:
        return from_microseconds(connection.scalar(sa.select(now())) or 0)


def _add_environments(store: Store, count: int) -> list[sa.Row[Any]]:
    for number in range(count):
        if number % 40 == 0:
            store.apps.add_app(f"app-{number // 40:03}")
        store.apps.add_environment(f"app-{number // 40:03}", f"env-{number:04}")
    with store.database.write() as connection:
        rows = connection.execute(sa.select(environments).order_by(environments.c.name_key)).all()
    return list(rows)


def _add_credential(store: Store, number: int) -> str:
    draft = CredentialDraft(type=CredentialType.AMBIENT, region=REGION)
    return store.credentials.add(f"credential-{number:03}", draft).id


def _insert_syncs(
    store: Store, count: int, envs: list[sa.Row[Any]], credentials: list[str], clock: datetime
) -> list[str]:
    rows, reads, ids = [], [], []
    for number in range(count):
        environment = envs[number % len(envs)]
        row = _sync_row(store, number, environment, credentials[number % len(credentials)], clock)
        # One of a hundred is behind its environment.
        reads.append({"sync_id": row["id"], "environment_id": environment.id, "revision": -(number % 100 == 7)})
        rows.append(row)
        ids.append(row["id"])
        if len(rows) == _ROWS_AT_ONCE or number == count - 1:
            with store.database.write() as connection:
                connection.execute(syncs.insert(), rows)
                connection.execute(sync_reads.insert(), reads)
            rows, reads = [], []
    return ids


def _sync_row(
    store: Store, number: int, environment: sa.Row[Any], credential_id: str, clock: datetime
) -> dict[str, Any]:
    kind = number % 100
    sync_id = uuid.uuid4().hex
    values: dict[str, Any] = {
        "id": sync_id,
        "name": name_of(number),
        "name_key": name_of(number),
        "environment_id": environment.id,
        "path": "/",
        "credential_id": credential_id,
        "destination_kind": "aws-secrets-manager",
        "region": REGION,
        "version": 1,
        "config": to_json(SyncConfig(remote_name=f"shop/{name_of(number)}")),
        "account": ACCOUNT,
        "adopt": None,
        "adopt_versions": None,
        "approved_digest": None,
        "paused_by": "ada" if kind == 3 else None,
        "paused_at": clock if kind == 3 else None,
        "paused_until": None,
    }
    settled = {1: SyncStatus.FAILING, 2: SyncStatus.HELD, 4: SyncStatus.HALTED}.get(kind, SyncStatus.IN_SYNC)
    reason = None if settled is SyncStatus.IN_SYNC else "AccessDenied"
    return values | {
        "mac": sync_mac(store.keys, values),
        "destination_key": destination_key(values),
        "settled_status": settled,
        "status_reason": store.keys.encrypt_text(
            environment.data_key_id, reason_context(sync_id, "status_reason"), reason
        ),
        "error_class": None if settled is SyncStatus.IN_SYNC else "PermissionDeniedError",
        "failures": 0,
        "objects": 1,
        "next_due_at": clock + timedelta(hours=1, seconds=number % 3_600),
        "requested": Trigger.MANUAL if kind == 6 else None,
        "requested_by": "ada" if kind == 6 else None,
        "request_number": 0,
        "fence": 0,
        "claim_owner": "daemon-1" if number % 10_000 == 5 else None,
        "claim_until": clock + timedelta(hours=1) if number % 10_000 == 5 else None,
        "created_at": clock,
    }


def _copy_journal(store: Store, environment: sa.Row[Any], sync_id: str, per_sync: int) -> None:
    """Give every sync entries with the details of one, which can be read for that one alone."""
    if not per_sync:
        return
    entry = JournalEntry(id=uuid.uuid4().hex, sync_id=sync_id, remote_name="shop/x", account=ACCOUNT, region=REGION)
    row = to_row(store.keys, environment.data_key_id, entry)
    copied = {name: sa.literal(value, journal.c[name].type) for name, value in row.items()}
    number = _numbers(per_sync)
    with store.database.write() as connection:
        postgresql = connection.dialect.name == "postgresql"
        new_id: sa.ColumnElement[str] = sa.literal_column(
            "replace(gen_random_uuid()::text, '-', '')" if postgresql else "lower(hex(randomblob(16)))"
        )
        of_sync = {
            "id": new_id,
            "sync_id": syncs.c.id,
            "remote_name": syncs.c.name + "/" + sa.cast(number.c.n, sa.Text),
        }
        columns = copied | of_sync
        source = sa.select(*columns.values()).select_from(syncs.join(number, sa.true()))
        connection.execute(journal.insert().from_select(list(columns), source))


def _numbers(count: int) -> sa.CTE:
    """Return the numbers from 0, as a table with one column `n`."""
    first = sa.select(sa.literal(0).label("n")).cte("numbers", recursive=True)
    return first.union_all(sa.select(first.c.n + 1).where(first.c.n < count - 1))


def _insert_runs(
    store: Store, ids: list[str], envs: list[sa.Row[Any]], count: int, began: datetime, *, real: bool
) -> None:
    """Insert runs one after the other in time, up to half an hour ago for copies, and up to now for real ones."""
    if count <= 0:
        return
    length = (timedelta(hours=1) if real else KEPT - timedelta(hours=2)) / count
    if not real:
        _copy_runs(store, ids, envs, count, began, length)
        return
    made = []
    for number in range(count):
        which = number % min(20, len(ids))  # A few syncs have enough runs for a page.
        made.append((_run(ids[which], which, number, began + number * length), envs[which % len(envs)].data_key_id))
    with store.database.write() as connection:
        insert_runs(connection, store.keys, made)


def _copy_runs(
    store: Store, ids: list[str], envs: list[sa.Row[Any]], count: int, began: datetime, length: timedelta
) -> None:
    with store.database.write() as connection:
        insert_runs(connection, store.keys, [(_run(ids[0], 0, 0, began), envs[0].data_key_id)])
        one = connection.execute(sa.select(runs)).one()._asdict()
        postgresql = connection.dialect.name == "postgresql"
        # Ids of runs begin with their time.
        new_id = "lpad(to_hex(numbers.n), 24, '0')" if postgresql else "printf('%024x', numbers.n)"
        outcomes = " ".join(f"WHEN {n} THEN '{outcome}'" for n, outcome in enumerate(_OUTCOMES))
        for index in runs.indexes:
            index.drop(connection)
        connection.execute(sa.text("CREATE TEMPORARY TABLE numbered (n INTEGER PRIMARY KEY, id VARCHAR(40))"))
        connection.execute(
            sa.text("INSERT INTO numbered VALUES (:n, :id)"), [{"n": n, "id": sync_id} for n, sync_id in enumerate(ids)]
        )
        plain = [name for name in one if name not in ("number", "id", "sync_id", "outcome", "started_at", "ended_at")]
        names = ", ".join(f'"{name}"' for name in plain)
        micros = length // timedelta(microseconds=1)
        connection.execute(
            sa.text(
                f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count - 1}) "
                f"INSERT INTO runs (id, sync_id, outcome, started_at, ended_at, {names}) "
                f"SELECT {new_id}, numbered.id, CASE numbers.n % {len(_OUTCOMES)} {outcomes} END, "
                f"one.started_at + numbers.n * CAST({micros} AS BIGINT), "
                f"one.ended_at + numbers.n * CAST({micros} AS BIGINT), "
                + ", ".join(f'one."{name}"' for name in plain)
                + f" FROM numbers JOIN numbered ON numbered.n = numbers.n % {len(ids)} "
                "CROSS JOIN (SELECT * FROM runs LIMIT 1) one"
            )
        )
        connection.execute(sa.text("DROP TABLE numbered"))
        for index in runs.indexes:
            index.create(connection)


def _run(sync_id: str, which: int, number: int, at: datetime) -> Run:
    return Run(
        id=uuid.uuid4().hex[:24],
        sync_id=sync_id,
        sync=name_of(which),
        trigger=Trigger.SCHEDULE,
        actor="phasesync",
        attempt=1,
        outcome=_OUTCOMES[number % len(_OUTCOMES)],
        started_at=at,
        ended_at=at,
        revisions={},
        counts={"noop": 1},
        aws_calls=1,
        versions_written=0,
        error=None,
        next_attempt_at=None,
        changes=(),
    )
