"""
The keyed MAC of an environment: its names, its revision, and which secrets it has in which version.

Each value is bound to its row, but which rows there are and which version is current are plain columns. The MAC covers
those, so that somebody who can write to the database but has no key cannot put back an older version of one secret,
hide one, or give an environment another one's name. Every edit makes it anew in its own transaction; whatever reads
values checks it, over rows of the same moment.

It is computed over all rows and not kept up by increments: a select of four narrow columns is cheap beside anything
else that an edit does, and nothing has to be argued about sums of digests.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from phasesync.errors import CiphertextError
from phasesync.store.encryption import same_mac
from phasesync.store.keys import KeyRing
from phasesync.store.serialization import to_json
from phasesync.store.tables import apps, environments, secrets

COVERED: Final = ("id", "app_id", "app", "app_key", "name", "name_key", "revision", "data_key_id")
"""Columns of `select_environments` that the MAC covers: the environment's own, and the names of its app."""


class Pointer(NamedTuple):
    """Which version of a secret is current, as the MAC covers it. A tuple, since they come by the thousand."""

    id: str
    lookup: bytes
    version: int
    is_set: bool


def mac_of(keys: KeyRing, environment: Mapping[str, Any], pointers: Iterable[Pointer]) -> bytes:
    """Return the MAC of an environment; `environment` has the columns of `COVERED`."""
    covered = {name: environment[name] for name in COVERED}
    rows = sorted((secret_id, lookup.hex(), version, is_set) for secret_id, lookup, version, is_set in pointers)
    return keys.digests.digest("environment", to_json(covered).encode(), json.dumps(rows).encode())


def check_mac(keys: KeyRing, environment: sa.Row[Any], pointers: Iterable[Pointer]) -> None:
    """Raise CiphertextError where a row of `select_environments`, or what it has, was altered."""
    try:
        authentic = same_mac(environment.mac, mac_of(keys, environment._asdict(), pointers))
    except (AttributeError, TypeError):  # SQLite keeps whatever is put into a column.
        authentic = False
    if not authentic:
        raise CiphertextError(
            f"the environment {environment.app}/{environment.name} in table environments does not authenticate: its "
            "names, its revision, or which secrets it has in which version were altered outside phasesync",
            hint="restore a backup: phasesync db restore FILE; nothing of it is read or written until then",
        )


def pointers_of(connection: sa.Connection, environment_ids: Sequence[str]) -> dict[str, list[Pointer]]:
    """Return environment id -> its secrets, in one statement."""
    found: dict[str, list[Pointer]] = {one: [] for one in environment_ids}
    columns = (secrets.c.environment_id, secrets.c.id, secrets.c.lookup, secrets.c.version, secrets.c.is_set)
    for environment_id, *pointer in connection.execute(sa.select(*columns).where(secrets.c.environment_id.in_(found))):
        found[environment_id].append(Pointer._make(pointer))
    return found


def authenticated(connection: sa.Connection, keys: KeyRing, environment: sa.Row[Any]) -> list[Pointer]:
    """Return the secrets of a row of `select_environments`. CiphertextError where it or they were altered."""
    pointers = pointers_of(connection, [environment.id])[environment.id]
    check_mac(keys, environment, pointers)
    return pointers


def store_mac(
    connection: sa.Connection, keys: KeyRing, environment: sa.Row[Any], pointers: Iterable[Pointer], **changes: Any
) -> None:
    """Store changes to an environment, locked and authenticated before, with its new MAC."""
    values = {name: value for name, value in changes.items() if name in environments.c}
    mac = mac_of(keys, {**environment._asdict(), **changes}, pointers)
    connection.execute(environments.update().where(environments.c.id == environment.id).values(**values, mac=mac))


def follow_app(
    connection: sa.Connection, keys: KeyRing, rows: Sequence[sa.Row[Any]], *, name: str, name_key: str
) -> None:
    """Give environments, locked rows of `select_environments`, the new names of their app, and a new revision each."""
    pointers = pointers_of(connection, [row.id for row in rows])
    for row in rows:
        check_mac(keys, row, pointers[row.id])
        store_mac(connection, keys, row, pointers[row.id], app=name, app_key=name_key, revision=row.revision + 1)


def columns_of_app() -> tuple[sa.ColumnElement[str], ...]:
    """Return the columns of an app that the MACs of its environments cover, as `COVERED` names them."""
    return apps.c.name.label("app"), apps.c.name_key.label("app_key")
