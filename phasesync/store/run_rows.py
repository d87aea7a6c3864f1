"""
Runs as rows. Counts, revisions, error and changes are one ciphertext: messages and reasons may name keys.

Numbers follow the order of commits, so that whoever follows the log misses none.
"""

import json
from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.run import Outcome, Run
from phasesync.core.sync import Trigger
from phasesync.store.encryption import ColumnCipher
from phasesync.store.serialization import members, to_member, to_plain
from phasesync.store.tables import runs, syncs

_PLAIN: Final = (
    "id",
    "sync_id",
    "trigger",
    "actor",
    "attempt",
    "outcome",
    "started_at",
    "ended_at",
    "next_attempt_at",
    "aws_calls",
    "versions_written",
)
"""Columns that stand in the clear; every other member of a run but the sync's name is in `details`."""

_ORDER_LOCK: Final = 0x70_68_61_73_65_72_75_6E
"""Advisory lock of PostgreSQL ("phaserun"): held from the numbering of a run to its commit."""


def insert_runs(connection: sa.Connection, cipher: ColumnCipher, entries: Sequence[tuple[Run, str]]) -> None:
    """Store runs, each with the id of the data key that encrypts its details."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.literal(_ORDER_LOCK, sa.BigInteger()))))
    connection.execute(runs.insert(), [_values(run, data_key_id, cipher) for run, data_key_id in entries])


@cache
def select_runs() -> sa.Select[Any]:
    """Return the select behind `to_run`."""
    return sa.select(runs, syncs.c.name.label("sync")).join_from(runs, syncs)


def to_run(row: sa.Row[Any], cipher: ColumnCipher) -> Run:
    """Decrypt a row of `select_runs`. CiphertextError."""
    plain = {name: getattr(row, name) for name in _PLAIN}
    plain |= {
        "trigger": to_member(Trigger, row.trigger, "trigger in table runs"),
        "outcome": to_member(Outcome, row.outcome, "outcome in table runs"),
        "sync": row.sync,
    }
    details = json.loads(cipher.keys.decrypt(_context(row.id, row.sync_id), row.details))
    return Run(**plain, **members(Run, details))


def _values(run: Run, data_key_id: str, cipher: ColumnCipher) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(run, name) for name in _PLAIN}
    details = {
        one.name: to_plain(getattr(run, one.name))
        for one in fields(run)
        if one.name not in _PLAIN and one.name != "sync"
    }
    values["error_class"] = None if run.error is None else run.error.cls
    values["details"] = cipher.json(data_key_id, _context(run.id, run.sync_id), details)
    return values


def _context(run_id: str, sync_id: str) -> tuple[str, ...]:
    return ("runs", run_id, "details", "1", sync_id)
