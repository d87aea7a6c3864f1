"""
Which run of a database server a connection leads to: what an older copy has not in common with what it is a copy of.

A copy that was brought in without our knowledge cannot be told from the original by what is in it. But nobody can bring
one in without a change of one of these:

- PostgreSQL: the start of the server, to the microsecond (a snapshot of the storage, a failover, a recovery to a point
  in time); the id of the database (pg_restore into a fresh one, CREATE DATABASE ... TEMPLATE); the file of the table
  `instance` (pg_restore --clean, TRUNCATE and COPY).
- SQLite: the start of the system; device, inode and birth of the file (ext4 gives a free inode to the next file).

The system identifier and the timeline of a PostgreSQL cluster would add nothing, and not every user may read them. What
changes none of them is a machine that is set back while it runs, rows that are deleted and loaded again, and `cp` over
the file of a SQLite database: a run finds that when it meets a write of ours at AWS that the journal does not know.
"""

import os
import struct
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

from phasesync.store.database import files_of
from phasesync.store.sqlite import FileId
from phasesync.store.tables import instance, syncs

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
"""Linux: random, made anew at each start of the system."""
_BETWEEN: Final = "|"
"""In `instance.server`: between the run and the places that could not be compared on it."""


class server_run(sa.sql.functions.FunctionElement[str]):
    """The run of the server, as an SQL expression; NULL on SQLite, where the connection says it."""

    type = sa.Text()
    inherit_cache = True
    name = "phasesync_server_run"


@compiles(server_run, "postgresql")
def _server_run_postgresql(element: server_run, compiler: Any, **options: Any) -> str:
    return (
        "(SELECT concat_ws(':', extract(epoch FROM pg_postmaster_start_time()), oid, "
        "pg_relation_filenode(CAST('instance' AS regclass))) FROM pg_database WHERE datname = current_database())"
    )


@compiles(server_run, "sqlite")
def _server_run_sqlite(element: server_run, compiler: Any, **options: Any) -> str:
    return "NULL"


def compared_columns() -> tuple[sa.Label[Any], sa.Label[Any]]:
    """Return the columns that `is_compared` reads: the run that was compared last, and the one of the statement."""
    compared = sa.select(instance.c.server).scalar_subquery()
    return compared.label("compared_on"), server_run().label("server_run")


def place_of_sync() -> sa.ColumnElement[Any]:
    """Return the place that a sync writes to, as `is_compared` takes it; NULL until its account is known."""
    return syncs.c.destination_kind + "/" + syncs.c.account + "/" + syncs.c.region


def current_run(connection: sa.Connection, of_server: str | None) -> str:
    """Return the run that a connection leads to. `of_server`: what `server_run` said on it."""
    if of_server is not None:
        return of_server
    files = files_of(connection)
    return run_of_file(Path(connection.engine.url.database or ""), None if files is None else files.database)


def run_of_file(path: Path, file: FileId | None) -> str:
    """Return the run of a SQLite database: of its file, device and inode as a connection opened it."""
    device, inode = file or (0, 0)
    return f"{_boot_id()}:{device}:{inode}:{_birth_of(path)}"


def is_compared(connection: sa.Connection, row: Any, *, place: str | None = None) -> bool:
    """
    Return whether the database was compared with AWS since it is where it is.

    Args:
        connection: on which the row was read.
        row: has `compared_columns`.
        place: must have been compared as well; None if any may be missing.
    """
    run, open_places = parse(row.compared_on)
    return run == current_run(connection, row.server_run) and place not in open_places


def parse(compared_on: str | None) -> tuple[str | None, frozenset[str]]:
    """Return the run in `instance.server`, and the places that could not be compared on it."""
    if compared_on is None:
        return None, frozenset()
    run, *places = compared_on.split(_BETWEEN)
    return run, frozenset(places)


def render(run: str, open_places: frozenset[str]) -> str:
    """Return what `parse` reads."""
    return _BETWEEN.join((run, *sorted(open_places)))


def _birth_of(path: Path) -> str:
    """Return when a file was made; empty where the system or the file system does not say it."""
    statx, found = _statx(), bytearray(_STATX_BYTES)
    if statx is None or statx(os.fsencode(path), found) != 0:
        return ""
    (mask,) = struct.unpack_from("=I", found, 0)
    seconds, nanoseconds = struct.unpack_from("=qI", found, _STATX_BTIME_AT)
    return f"{seconds}.{nanoseconds:09}" if mask & _STATX_BTIME else ""


# statx(2): Python has no call of its own for it.
_AT_FDCWD: Final = -100
_STATX_BTIME: Final = 0x800
_STATX_BTIME_AT: Final = 0x50
_STATX_BYTES: Final = 256


@cache
def _statx() -> Callable[[bytes, bytearray], int] | None:
    """Return the system call, which fills the bytes; None where there is none."""
    import ctypes  # Only what writes to AWS needs it.

    if not sys.platform.startswith("linux") or not hasattr(libc := ctypes.CDLL(None), "statx"):
        return None
    kind = ctypes.c_char * _STATX_BYTES
    return lambda path, found: int(libc.statx(_AT_FDCWD, path, 0, _STATX_BTIME, kind.from_buffer(found)))


@cache
def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""  # Another system: there only the file counts.
