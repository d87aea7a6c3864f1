"""
The keyed MAC of an environment, and the rows that it covers.

The MAC covers the names of an environment, its revision, and which secrets it has in which version. Each value is bound
to its row, but which rows exist and which version is current are plain columns. The MAC covers those, so that an
attacker who can write to the database but has no key cannot restore an older version of one secret, hide one, or give
an environment the name of another. Every edit makes the MAC anew in its own transaction. Every read of values checks
it, over rows of the same moment.

The MAC is computed over all rows and not incrementally: a select of four narrow columns is cheap beside the rest of an
edit, and no proof about sums of digests is needed.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from phasesync.errors import CiphertextError
from phasesync.store.key_ring import KeyRing, same_mac
from phasesync.store.serialization import to_json
from phasesync.store.tables import apps, environments, secrets
from phasesync.store.wake_ups import wake_readers

MAC_COLUMNS: Final = ("id", "app_id", "app", "app_key", "name", "name_key", "revision", "data_key_id")
"""
Columns of `select_environments` that the MAC covers: the environment's own, and the names of its app.

`approvers` is covered where it is set: the MACs of environments from before that column stay valid without the key.
"""


class Pointer(NamedTuple):
    """The current version of a secret, as the MAC covers it. A tuple, since there may be thousands."""

    id: str
    lookup: bytes
    version: int
    is_set: bool


def environment_mac(keys: KeyRing, environment: Mapping[str, Any], pointers: Iterable[Pointer]) -> bytes:
    """Return the MAC of an environment; `environment` has the columns of `MAC_COLUMNS`."""
    covered = {name: environment[name] for name in MAC_COLUMNS}
    if (approvers := environment.get("approvers")) is not None:
        covered["approvers"] = approvers
    rows = sorted((secret_id, lookup.hex(), version, is_set) for secret_id, lookup, version, is_set in pointers)
    return keys.digests.digest("environment", to_json(covered).encode(), json.dumps(rows).encode())


def check_environment_mac(keys: KeyRing, environment: sa.Row[Any], pointers: Iterable[Pointer]) -> None:
    """Raise CiphertextError if a row of `select_environments`, or the set of its secrets, was altered."""
    try:
        authentic = same_mac(environment.mac, environment_mac(keys, environment._asdict(), pointers))
    except (AttributeError, TypeError):  # SQLite stores a value of any type in any column.
        authentic = False
    if not authentic:
        raise CiphertextError(
            f"the environment {environment.app}/{environment.name} in table environments does not authenticate: its "
            "names, its revision, or which secrets it has in which version were altered outside phasesync",
            hint="restore a backup: phasesync db restore FILE; nothing of it is read or written until then",
        )


def load_pointers(connection: sa.Connection, environment_ids: Sequence[str]) -> dict[str, list[Pointer]]:
    """Return environment id -> pointers to its secrets, in one statement."""
    pointers: dict[str, list[Pointer]] = {environment_id: [] for environment_id in environment_ids}
    columns = (secrets.c.environment_id, secrets.c.id, secrets.c.lookup, secrets.c.version, secrets.c.is_set)
    for environment_id, *pointer in connection.execute(
        sa.select(*columns).where(secrets.c.environment_id.in_(pointers))
    ):
        pointers[environment_id].append(Pointer._make(pointer))
    return pointers


def authentic_pointers(connection: sa.Connection, keys: KeyRing, environment: sa.Row[Any]) -> list[Pointer]:
    """Return the pointers of a row of `select_environments`. CiphertextError if the row or they were altered."""
    pointers = load_pointers(connection, [environment.id])[environment.id]
    check_environment_mac(keys, environment, pointers)
    return pointers


def authentic_environments(
    connection: sa.Connection, keys: KeyRing, which: sa.ColumnElement[bool]
) -> list[sa.Row[Any]]:
    """
    Return environments with `app` and `app_key`. CiphertextError if one, or the set of its secrets, was altered.

    One statement, so that it needs no lock: what it reads is of one moment.
    """
    pointer = secrets.alias("pointers")
    statement = (
        sa.select(
            environments,
            *columns_of_app(),
            pointer.c.id.label("secret_id"),
            pointer.c.lookup,
            pointer.c.version,
            pointer.c.is_set,
        )
        .join_from(environments, apps)
        .outerjoin(pointer, pointer.c.environment_id == environments.c.id)
        .where(which)
        .order_by(environments.c.id)
    )
    found = []
    for _, group in groupby(connection.execute(statement), key=lambda row: row.id):
        rows = list(group)
        pointers = [
            Pointer(row.secret_id, row.lookup, row.version, row.is_set) for row in rows if row.secret_id is not None
        ]
        check_environment_mac(keys, rows[0], pointers)
        found.append(rows[0])
    return found


def find_environments(connection: sa.Connection, which: sa.ColumnElement[bool]) -> Sequence[sa.Row[Any]]:
    """Return environments with `app` and `app_key`, which nothing has authenticated."""
    return connection.execute(
        sa.select(environments, *columns_of_app()).join_from(environments, apps).where(which)
    ).all()


def update_environment_row(
    connection: sa.Connection, keys: KeyRing, environment: sa.Row[Any], pointers: Iterable[Pointer], **changes: Any
) -> bytes:
    """
    Store changes to an environment with its new MAC, and return it. The caller has locked and authenticated it.

    A new revision wakes the syncs that read the environment.
    """
    values = {name: value for name, value in changes.items() if name in environments.c}
    mac = environment_mac(keys, {**environment._asdict(), **changes}, pointers)
    connection.execute(environments.update().where(environments.c.id == environment.id).values(**values, mac=mac))
    if "revision" in changes:
        wake_readers(connection, environment.id)
    return mac


def update_app_names(
    connection: sa.Connection, keys: KeyRing, rows: Sequence[sa.Row[Any]], *, name: str, name_key: str
) -> None:
    """Store a new name of an app in the MACs of its environments (locked rows); each gets a new revision."""
    pointers = load_pointers(connection, [row.id for row in rows])
    for row in rows:
        check_environment_mac(keys, row, pointers[row.id])
        update_environment_row(
            connection, keys, row, pointers[row.id], app=name, app_key=name_key, revision=row.revision + 1
        )


def columns_of_app() -> tuple[sa.ColumnElement[str], ...]:
    """Return the columns of an app that the MACs of its environments cover, as `MAC_COLUMNS` names them."""
    return apps.c.name.label("app"), apps.c.name_key.label("app_key")
