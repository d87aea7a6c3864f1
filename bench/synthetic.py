"""
Whole accounts without a run for each object: environments, secrets, syncs, journal and objects, planted in bulk.

One sync of each shape is made in earnest; the others are written after its rows with the store's own encoders, so that
sweeps and runs find rows as they left them: ciphertexts, MACs, fingerprints, tokens and tags are right.

    planter = Planter(installation, aws)
    planter.plant(Shape(name="web", environments=10, syncs=20, secrets=20))
    planter.close()
"""

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import psycopg
import sqlalchemy as sa

from bench.fast_aws import FastAws
from bench.fast_secrets import arn_of
from phasesync.bootstrap import Application
from phasesync.core.fingerprint import write_token
from phasesync.core.model import SecretValue
from phasesync.core.payloads import build_payloads
from phasesync.core.planning.metadata import wanted_metadata
from phasesync.core.planning.ownership import owner_tags
from phasesync.core.remote import JournalEntry
from phasesync.core.sync import Layout, Sync
from phasesync.engine.desired import desired_object
from phasesync.store.environment_mac import MAC_COLUMNS, Pointer, environment_mac
from phasesync.store.journal import to_row
from phasesync.store.key_ring import KeyRing
from phasesync.store.secrets import lookup_of, name_context, plain_value, version_context
from phasesync.store.serialization import to_json
from phasesync.store.sync_rows import destination_key, sync_mac
from phasesync.store.tables import (
    environments,
    instance,
    journal,
    metadata,
    runs,
    secret_versions,
    secrets,
    sync_reads,
    syncs,
)
from tests.support.installation import Installation

_ROWS = 5_000
"""Rows of one table that are written together."""
_EVERY_S = 60.0
_LONG_AGO = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """
    What to plant.

    Attributes:
        name: its environments are NAME-0, NAME-1, …, its syncs NAME-0-0, NAME-0-1, …
        environments: how many.
        syncs: how many read each of them.
        secrets: how many each of them has.
        per_key: each sync has an object for each secret; otherwise one object.
    """

    name: str
    environments: int
    syncs: int
    secrets: int
    per_key: bool = False

    @property
    def objects(self) -> int:
        """How many objects that makes."""
        return self.environments * self.syncs * (self.secrets if self.per_key else 1)

    def key(self, number: int) -> str:
        """Return the name of a secret."""
        return f"KEY_{number:03}"


@dataclass(kw_only=True)
class _Pattern:
    """The rows of the sync that was made in earnest."""

    environment: dict[str, Any]
    version: dict[str, Any]
    sync_row: dict[str, Any]
    reads: dict[str, Any]
    sync: Sync
    entry: JournalEntry
    data_key_id: str


@dataclass(kw_only=True)
class _Rows:
    """Rows that wait to be written, parents before children."""

    of: dict[sa.Table, list[dict[str, Any]]] = field(
        default_factory=lambda: {
            table: [] for table in (environments, secrets, secret_versions, syncs, sync_reads, journal)
        }
    )

    def flush(self, connection: sa.Connection, *, at_least: int = 1) -> None:
        if max(map(len, self.of.values())) < at_least:
            return
        for table, rows in self.of.items():
            for start in range(0, len(rows), _ROWS):
                connection.execute(table.insert(), rows[start : start + _ROWS])
            rows.clear()


class Planter:
    """Plants shapes in one installation, whose daemon must not be running."""

    def __init__(self, installation: Installation, aws: FastAws) -> None:
        self._installation = installation
        self._aws = aws
        self._written = {table: _writable(installation, table) for table in (environments, syncs, sync_reads)}

    def plant(self, *shapes: Shape, interval: timedelta = timedelta(hours=1)) -> None:
        """Plant shapes, in step with objects that `plant_objects` plants. The next checks are an interval away."""
        for shape in shapes:
            pattern = self._pattern(shape, interval)
            with self._installation.application() as application, self._installation.database() as connection:
                rows = _Rows()
                for number in range(shape.environments):
                    self._environment(application, pattern, shape, number, rows)
                    rows.flush(connection, at_least=_ROWS)
                rows.flush(connection)
        analyse(self._installation)

    def _pattern(self, shape: Shape, interval: timedelta) -> _Pattern:
        name = f"{shape.name}-pattern"
        values = _values(shape, name)
        layout: dict[str, Any] = {}
        if shape.per_key:
            layout = {"layout": Layout.PER_KEY, "remote_name": None, "name_template": f"{name}/{{key}}"}
        self._installation.add_syncs(name, values=values, interval=interval, **layout)
        self._installation.reconcile(name)
        with self._installation.application() as application, self._installation.database() as connection:
            state = application.store.sync_states.state_of(name)
            owner, entry = state.sync.environment_id, state.journal[0]
            version = (
                sa.select(secret_versions)
                .join(secrets, secrets.c.id == secret_versions.c.secret_id)
                .where(secrets.c.environment_id == owner)
                .limit(1)
            )
            select_sync = sa.select(syncs).where(syncs.c.id == state.sync.id)
            sync_row = _one(connection, select_sync)
            environment = _one(connection, sa.select(environments).where(environments.c.id == owner))
            reads = _one(connection, sa.select(sync_reads).where(sync_reads.c.sync_id == state.sync.id))
            # It has served: what is planted is what there is.
            for children in (journal, sync_reads, runs):  # SQLite cascades only where it is told to
                connection.execute(children.delete().where(children.c.sync_id == state.sync.id))
            connection.execute(syncs.delete().where(syncs.c.id == state.sync.id))
            return _Pattern(
                environment=environment,
                version=_one(connection, version),
                sync_row=sync_row,
                reads=reads,
                sync=state.sync,
                entry=entry,
                data_key_id=environment["data_key_id"],
            )

    def _environment(self, application: Application, pattern: _Pattern, shape: Shape, number: int, rows: _Rows) -> None:
        """Add the rows of one environment and of the syncs that read it."""
        ring, name, environment_id = application.store.keys, f"{shape.name}-{number}", uuid.uuid4().hex
        values = _values(shape, name)
        pointers = []
        for key, text in values.items():
            secret_id, lookup = uuid.uuid4().hex, lookup_of(ring, environment_id, "/", key)
            pointers.append(Pointer(id=secret_id, lookup=lookup, version=1, is_set=True))
            sealed = ring.encrypt_json(pattern.data_key_id, name_context(environment_id, secret_id), ("/", key))
            rows.of[secrets].append(
                {
                    "id": secret_id,
                    "environment_id": environment_id,
                    "lookup": lookup,
                    "name": sealed,
                    "version": 1,
                    "is_set": True,
                }
            )
            context = version_context(environment_id, secret_id, "value", 1)
            value = ring.encrypt(pattern.data_key_id, context, plain_value(SecretValue(text)))
            rows.of[secret_versions].append(pattern.version | {"secret_id": secret_id, "version": 1, "value": value})
        row = pattern.environment | {"id": environment_id, "name": name, "name_key": name}
        covered = row | {"app": pattern.sync.app, "app_key": pattern.sync.app.lower()}
        row["mac"] = environment_mac(ring, {column: covered[column] for column in MAC_COLUMNS}, pointers)
        rows.of[environments].append(self._writable(environments, row))
        secret_values = {key: SecretValue(text) for key, text in values.items()}
        for count in range(shape.syncs):
            self._sync(application, pattern, shape, row, f"{name}-{count}", secret_values, rows)

    def _sync(
        self,
        application: Application,
        pattern: _Pattern,
        shape: Shape,
        environment: Mapping[str, Any],
        name: str,
        values: Mapping[str, SecretValue],
        rows: _Rows,
    ) -> None:
        ring, sync_id = application.store.keys, uuid.uuid4().hex
        config = json.loads(pattern.sync_row["config"])
        named: dict[str, Any] = {"name_template": f"{name}/{{key}}"} if shape.per_key else {"remote_name": f"o/{name}"}
        changed = replace(pattern.sync.config, **named)
        row = pattern.sync_row | {
            "id": sync_id,
            "name": name,
            "name_key": name,
            "environment_id": environment["id"],
            "config": to_json(config | named),
        }
        row |= {"destination_key": destination_key(row), "mac": sync_mac(ring, row)}
        row["objects"] = shape.secrets if shape.per_key else 1
        rows.of[syncs].append(self._writable(syncs, row))
        rows.of[sync_reads].append(
            self._writable(sync_reads, pattern.reads | {"sync_id": sync_id, "environment_id": environment["id"]})
        )
        sync = replace(
            pattern.sync,
            id=sync_id,
            name=name,
            environment_id=environment["id"],
            environment=environment["name"],
            config=changed,
        )
        rows.of[journal] += list(_journal_rows(application, ring, pattern, sync, values))

    def _writable(self, table: sa.Table, row: Mapping[str, Any]) -> dict[str, Any]:
        return {name: row[name] for name in self._written[table] if name in row}


def _journal_rows(
    application: Application, ring: KeyRing, pattern: _Pattern, sync: Sync, values: Mapping[str, SecretValue]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a sync's objects, as its last run left them a day ago."""
    instance_id, marks = application.context.instance_id, owner_tags(application.context.instance_id, sync.id)
    entry = pattern.entry
    for remote_name, payload in build_payloads(sync, values, ring.digests).payloads.items():
        wanted = desired_object(sync, remote_name, payload, {}, marks)
        yield to_row(
            ring,
            pattern.data_key_id,
            replace(
                entry,
                id=uuid.uuid4().hex,
                sync_id=sync.id,
                remote_name=remote_name,
                arn=arn_of(remote_name),
                version_id=write_token(ring.digests, instance_id, sync.id, remote_name, entry.generation),
                fingerprint=payload.fingerprint,
                keys=payload.keys,
                tags_written=dict(wanted.tags),
                metadata=wanted_metadata(wanted),
                revisions={sync.environment_id: pattern.reads["revision"]},
                created_at=_earlier(entry.created_at),
                touched_at=None,
                versions_at=(),
            ),
        )


def plant_objects(installation: Installation, aws: FastAws) -> int:
    """
    Plant at the endpoint what the journal expects there, and nothing else; return how many objects that is.

    One object was changed a minute after the other, 500,000 within a year. Had all changed at once, a check would read
    all of them again as long as nothing newer comes.
    """
    aws.empty()
    with installation.database() as connection:
        instance_id = connection.scalar(sa.select(instance.c.instance_id)) or ""
        sync_ids = list(connection.scalars(sa.select(syncs.c.id)))
        number = {sync_id: index for index, sync_id in enumerate(sync_ids)}
        selected = sa.select(journal.c.remote_name, journal.c.version_id, journal.c.sync_id)
        found = connection.execute(selected, execution_options={"yield_per": 10_000})
        count = connection.scalar(sa.select(sa.func.count()).select_from(journal)) or 0
        objects = ((name, version, number[sync_id]) for name, version, sync_id in found)
        tags = [owner_tags(instance_id, sync_id) for sync_id in sync_ids]
        aws.plant(objects, tags, age_s=count * _EVERY_S + _LONG_AGO.total_seconds(), every_s=_EVERY_S)
        return count


def copy_database(source: Installation, target: Installation) -> None:
    """Copy what was planted on SQLite to an empty, migrated PostgreSQL: the same keys, the same rows."""
    skipped = {"runs", "daemons", "chores", "sweeps"}
    engine = sa.create_engine(source.database_url, poolclass=sa.NullPool)
    raw_url = sa.make_url(target.database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with engine.connect() as reading, psycopg.connect(raw_url) as writing, writing.cursor() as cursor:
        for table in metadata.sorted_tables:
            if table.name in skipped:
                continue
            names = [name for name in _writable(source, table) if name in table.c]
            booleans = {index for index, name in enumerate(names) if isinstance(table.c[name].type, sa.Boolean)}
            columns = ", ".join(f'"{name}"' for name in names)
            rows = reading.exec_driver_sql(f'SELECT {columns} FROM "{table.name}"')  # raw: no types are converted
            cursor.execute(f'DELETE FROM "{table.name}"')
            with cursor.copy(f'COPY "{table.name}" ({columns}) FROM STDIN') as copy:
                for row in rows:
                    copy.write_row([bool(cell) if at in booleans else cell for at, cell in enumerate(row)])
    analyse(target)


def analyse(installation: Installation) -> None:
    """Give the database figures to plan with, as it has after some hours of work."""
    engine = sa.create_engine(installation.database_url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE")


def _writable(installation: Installation, table: sa.Table) -> list[str]:
    """Return the columns that the database does not compute itself."""
    engine = sa.create_engine(installation.database_url, poolclass=sa.NullPool)
    return [column["name"] for column in sa.inspect(engine).get_columns(table.name) if not column.get("computed")]


def _values(shape: Shape, environment: str) -> dict[str, str]:
    return {shape.key(number): f"{environment} {number}: as long as a password" for number in range(shape.secrets)}


def _one(connection: sa.Connection, statement: sa.Select[Any]) -> dict[str, Any]:
    return dict(connection.execute(statement).mappings().one())


def _earlier(at: datetime | None) -> datetime | None:
    return None if at is None else at - _LONG_AGO


def count_objects(shapes: Iterable[Shape]) -> int:
    """Return how many objects shapes make, without those of their patterns."""
    return sum(shape.objects for shape in shapes)


def names_of(shape: Shape) -> Sequence[str]:
    """Return the names of a shape's environments."""
    return [f"{shape.name}-{number}" for number in range(shape.environments)]
