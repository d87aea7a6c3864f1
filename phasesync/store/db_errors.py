"""
Translates errors of the database to ours, in one place.

An error means one of four things: a person must change something (a wrong password, a missing table), the request is
impossible (a name is taken), phasesync has a defect (a statement that no database accepts), or the database cannot do
this now. An unknown error counts as the last: the work is tried again, and never judged impossible.

Errors are recognised by SQLSTATEs, SQLite's names of errors, and classes. Messages are made from codes and class names,
never from the text of a driver's error: drivers repeat statements and parameters in theirs.
"""

import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy import exc

from phasesync.errors import (
    AlreadyExistsError,
    CiphertextError,
    IllegalTransitionError,
    InternalError,
    InvalidInputError,
    PhasesyncError,
    RetiredDatabaseError,
    SchemaMismatchError,
    SettingsError,
    StoreUnavailableError,
)
from phasesync.host_files import mount_of, out_of_descriptors

CONFLICTS: Final = frozenset({"40001", "40P01"})
"""SQLSTATEs of a conflict between transactions: serialization failure, deadlock. The transaction can be repeated."""

RETIRED_STATE: Final = "PS001"
"""SQLSTATE of a write that a retired database on PostgreSQL refuses: the triggers of `retire.py` raise it."""

_RESTORE: Final = "restore the newest backup that phasesync db backup made"
_MIGRATE_OR_RESTORE: Final = (
    "phasesync db migrate; if that finds nothing to do, a table or a column was removed outside phasesync: "
    "phasesync db restore FILE"
)
_LOGIN: Final = "check user and password in PHASESYNC_DATABASE_URL, and the server's pg_hba.conf"


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """
    Why an attempt to connect failed.

    Attributes:
        states: the SQLSTATE that each server answered with.
        elsewhere: a server was not reached at all, or failed in an unknown way.
        read_only: servers were reached, and none of them accepts writes.
        option: the connection option with a value that libpq does not accept.
        tls: the problem with TLS, and a hint.
    """

    states: tuple[str, ...] = ()
    elsewhere: bool = False
    read_only: bool = False
    option: str | None = None
    tls: tuple[str, str] | None = None


@contextmanager
def translate_errors(
    url: sa.URL, adjust: Callable[[PhasesyncError], PhasesyncError] = lambda error: error
) -> Iterator[None]:
    """
    Raise our errors in place of those of SQLAlchemy and the drivers.

    Args:
        url: names the database in messages, without its password.
        adjust: changes the error before it is raised.
    """
    try:
        yield
    except (exc.SQLAlchemyError, sqlite3.Error) as error:
        raise adjust(translate(error, url)) from None
    except UnicodeEncodeError:
        raise InvalidInputError("text that has no UTF-8 form cannot be stored") from None


def translate(error: Exception, url: sa.URL, refusal: Refusal | None = None) -> PhasesyncError:
    """
    Return our error for an error of SQLAlchemy or of a driver.

    Args:
        error: the error.
        url: names the database.
        refusal: why a server refused a connection, if that was found out.
    """
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    if isinstance(error, exc.TimeoutError):
        return StoreUnavailableError("all connections to the database are in use")
    if isinstance(error, exc.PendingRollbackError):
        return StoreUnavailableError("the connection to the database was lost")
    if isinstance(cause, sqlite3.Error):
        return _from_sqlite(cause, url)
    if isinstance(error, exc.DataError):
        return InvalidInputError("a text or a number cannot be stored: it is too long, too large or holds a NUL")
    if isinstance(error, exc.DBAPIError):
        return _from_postgresql(error, url, refusal)
    return InternalError(f"the database layer failed ({type(error).__name__})")


def invalidates_connections(error: PhasesyncError) -> bool:
    """
    Return whether an error means that the open connections must not be used again.

    They may lead to a server that was replaced or that only answers reads; a new one proves that it can write. What
    SQLite opened while the file could not be written stays read-only for as long as it is open.
    """
    code = error.code or ""
    if code.startswith(_OPENED_READ_ONLY):
        return True
    return isinstance(error, StoreUnavailableError) and not code.startswith(_CONNECTION_IS_USABLE)


_OPENED_READ_ONLY: Final = "SQLITE_READONLY"


_CONNECTION_IS_USABLE: Final = (
    *sorted(CONFLICTS),
    "55P03",  # a lock was not available in time
    "57014",  # a statement took too long
    "SQLITE_BUSY",
    "SQLITE_LOCKED",
    "SQLITE_FULL",
    "SQLITE_INTERRUPT",
)


# --- SQLite: https://www.sqlite.org/rescode.html


def _from_sqlite(error: sqlite3.Error, url: sa.URL) -> PhasesyncError:
    name = getattr(error, "sqlite_errorname", None) or ""
    file = url.database
    if str(error).startswith("Could not decode to UTF-8"):  # The driver says so, and SQLite takes any bytes as text.
        return CiphertextError(
            f"a row of {file} holds a text that is none: it was altered outside phasesync, or the disk is damaged",
            hint=_RESTORE,
        )
    # An extended name begins with its primary one: SQLITE_IOERR_WRITE.
    match name.removeprefix("SQLITE_").split("_")[0]:
        case "BUSY" | "LOCKED":
            return StoreUnavailableError("the database is locked by another process", code=name)
        case "FULL":
            return StoreUnavailableError(
                f"the disk of {file} is full; nothing was stored", hint="make room on it", code=name
            )
        case "IOERR":
            return StoreUnavailableError(
                f"reading or writing {file} failed ({name})", hint="check the disk and its free space", code=name
            )
        case "READONLY" | "CANTOPEN" | "PERM" | "AUTH":
            return _not_opened(str(file), name)
        case "NOTADB":
            return SettingsError(f"{file} is not a phasesync database", hint="check PHASESYNC_DATABASE_URL", code=name)
        case "CORRUPT":
            return SettingsError(f"the database {file} is damaged", hint=_RESTORE, code=name)
        case "CONSTRAINT":
            return _constraint(name)
        case "TOOBIG":
            return InvalidInputError("a text cannot be stored: it is too long", code=name)
        case "ERROR":
            return _refused_by_sqlite(error, str(file), name)
        case "MISUSE" | "RANGE" | "MISMATCH":
            return _defect(name)
        case _:
            return StoreUnavailableError(
                f"the database {file} cannot do this now ({name or type(error).__name__})", code=name or None
            )


def _not_opened(file: str, name: str) -> PhasesyncError:
    """SQLite has these codes for every obstacle to a file; only a missing permission is a final error."""
    if out_of_descriptors():
        return _too_many_files(f"the database {file}")
    is_final = name in ("SQLITE_READONLY", "SQLITE_READONLY_DIRECTORY", "SQLITE_PERM", "SQLITE_AUTH")
    may_write = all(os.access(path, os.R_OK | os.W_OK) for path in (file, os.path.dirname(os.path.abspath(file))))
    if not is_final and may_write and os.path.isfile(file):
        return StoreUnavailableError(
            f"the database {file} cannot be opened now ({name})", hint="check its disk, and its folder", code=name
        )
    if (mount := mount_of(Path(file))) is not None and mount.read_only:
        return SettingsError(
            f"the database {file} lies on a file system that is mounted read-only ({mount.point})",
            hint=f"mount -o remount,rw {mount.point}; the kernel makes a disk with errors read-only: look at dmesg. "
            "Under systemd, the folder has to be the StateDirectory or in ReadWritePaths of the unit",
            code=name,
        )
    return SettingsError(
        f"the database {file} or its folder may not be opened for writing by this user",
        hint="run as the user that owns it, or correct its permissions; the folder must be writable too",
        code=name,
    )


def _too_many_files(subject: str) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"{subject} cannot be opened: this process, or its host, has too many open files",
        hint="raise the limit: LimitNOFILE in the systemd unit, or ulimit -n; or lower daemon.workers",
    )


def _constraint(name: str) -> PhasesyncError:
    match name.removeprefix("SQLITE_CONSTRAINT_"):
        case "FOREIGNKEY":
            return _in_use(name)
        case "TRIGGER":  # only a retired database has triggers: see `retire.py`
            return RetiredDatabaseError(code=name)
        case "NOTNULL" | "CHECK" | "DATATYPE":
            return _defect(name)
        case _:
            return AlreadyExistsError(code=name)


def _refused_by_sqlite(error: sqlite3.Error, file: str, name: str) -> PhasesyncError:
    """SQLite has one code for every statement that it rejects; its sentences are the same everywhere."""
    if str(error).startswith(("no such table: ", "no such column: ")):
        return SchemaMismatchError(code=name, hint=_MIGRATE_OR_RESTORE)
    if re.match(r"table \S+ already exists$", str(error)):
        return _unnumbered(file, name)
    return _defect(name)


# --- PostgreSQL: https://www.postgresql.org/docs/current/errcodes-appendix.html


def _from_postgresql(error: exc.DBAPIError, url: sa.URL, refusal: Refusal | None) -> PhasesyncError:
    if (state := sqlstate_of(error)) is not None:
        return _from_sqlstate(state, url)
    if refusal is not None or isinstance(error, (exc.OperationalError, exc.InterfaceError, exc.InternalError)):
        return _connection_failed(refusal or Refusal(), url)
    return _defect(type(error.orig).__name__)


def sqlstate_of(error: exc.DBAPIError) -> str | None:
    """Return the SQLSTATE of an error; None if it is not from the server, or is a refused connection."""
    state: str | None = getattr(error.orig, "sqlstate", None)
    return state


def _from_sqlstate(state: str, url: sa.URL) -> PhasesyncError:
    if state == RETIRED_STATE:
        return RetiredDatabaseError(code=state)
    match state:
        case "42P07":
            return _unnumbered(_place(url), state)
        case "42P01" | "42703":
            return SchemaMismatchError(code=state, hint=_MIGRATE_OR_RESTORE)
        case "3F000":
            return no_schema(url)
        case "42501":
            return SettingsError(
                f"the database user may not do this in {_place(url)}",
                hint="grant it the rights on the schema, or make it the owner of the tables",
                code=state,
            )
        case "23503" | "23001":
            return _in_use(state)
        case "23505" | "23P01":
            return AlreadyExistsError(code=state)
        case "25006":
            return not_writable(url, "it only answers reads")
        case "42P05":  # a prepared statement of another connection, behind a pooler
            return _unavailable(url, state)
    match state[:2]:
        case "28":
            return SettingsError(
                f"the database at {_place(url)} refused the login (SQLSTATE {state})", hint=_LOGIN, code=state
            )
        case "3D":
            return SettingsError(
                f"the database at {_place(url)} does not exist",
                hint=f"createdb -E UTF8 -T template0 {url.database}, then phasesync init",
                code=state,
            )
        case "22":
            return InvalidInputError("a text or a number cannot be stored: it is too long or too large", code=state)
        case "23" | "42":
            return _defect(f"SQLSTATE {state}")
        case _:
            return _unavailable(url, state)


_ADVICE: Final = {
    "53300": "all connections are in use: raise max_connections or the role's limit, or use a pooler",
    "53100": "make room on the server's disk",
    "XX001": "the server reports damaged data: look into its log",
    "XX002": "the server reports a damaged index: look into its log, then REINDEX",
}


def _unavailable(url: sa.URL, state: str) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"the database at {_place(url)} cannot do this now (SQLSTATE {state})", hint=_ADVICE.get(state), code=state
    )


def not_writable(url: sa.URL, why: str) -> StoreUnavailableError:
    """Return the error for a server that cannot be written now: a standby, or one in read-only mode."""
    return StoreUnavailableError(
        f"the database at {_place(url)} cannot be written now: {why} (SQLSTATE 25006)",
        hint="the URL must lead to the primary: name all hosts (host1,host2) to have it found",
        code="25006",
    )


def _connection_failed(refusal: Refusal, url: sa.URL) -> PhasesyncError:
    """Return the error for a connection that was refused or lost; final only if every server gives the same reason."""
    place = _place(url)
    if out_of_descriptors():
        return _too_many_files(f"a connection to the database at {place}")
    if refusal.option is not None:
        return SettingsError(
            f"the database URL is not usable: the option {refusal.option} has a value that PostgreSQL's client library "
            "does not take",
            hint=f"correct {refusal.option} in PHASESYNC_DATABASE_URL",
        )
    if refusal.tls is not None:
        problem, hint = refusal.tls
        return SettingsError(f"no TLS connection to the database at {place}: {problem}", hint=hint)
    if refusal.read_only:
        return not_writable(url, "none of its hosts accepts writes")
    errors = {type(error): error for error in (_from_sqlstate(state, url) for state in refusal.states)}
    if len(errors) == 1 and not refusal.elsewhere:
        return next(iter(errors.values()))
    if (unavailable := errors.get(StoreUnavailableError)) is not None:
        return unavailable
    return StoreUnavailableError(
        f"the database at {place} cannot be reached",
        hint="is it running? check host and port in PHASESYNC_DATABASE_URL",
    )


def unknown_host(url: sa.URL, reason: str) -> StoreUnavailableError:
    """Return the error for hosts of which none could be looked up."""
    return StoreUnavailableError(
        f"the database at {_place(url)} cannot be reached: {reason}",
        hint="check the host in PHASESYNC_DATABASE_URL, and the name servers in /etc/resolv.conf",
    )


def no_schema(url: sa.URL) -> SettingsError:
    """Return the error for a PostgreSQL database with a search_path that leads to no schema."""
    return SettingsError(
        f"no schema of search_path is there in {_place(url)}, or none that this database user may use",
        hint="CREATE SCHEMA it, GRANT USAGE, CREATE on it, or correct search_path: in the URL "
        "options=-csearch_path%3DNAME, otherwise ALTER ROLE … SET search_path",
        code="3F000",
    )


def wrong_encoding(url: sa.URL, encoding: str) -> SettingsError:
    """Return the error for a PostgreSQL database with an encoding other than UTF8."""
    return SettingsError(
        f"the database at {_place(url)} has the encoding {encoding}; phasesync needs UTF8",
        hint=f"make a new one: createdb -E UTF8 -T template0 {url.database}",
    )


def _place(url: sa.URL) -> str:
    hosts = str(url.host or url.query.get("host") or "localhost").split(",")
    ports = str(url.query.get("port") or "").split(",")
    if len(hosts) == len(ports):
        pairs = zip((f"[{host}]" if ":" in host else host for host in hosts), ports, strict=True)
        hosts = [f"{host}:{port}" if port else host for host, port in pairs]
    return f"{','.join(hosts)}/{url.database}"


# --- both


def _defect(code: str) -> InternalError:
    """
    Return the error for a statement that the database will never accept.

    The work is tried again nevertheless, with growing pauses: the next release may send another statement, and the
    request itself is not wrong.
    """
    return InternalError(
        f"the database refused a statement ({code})",
        hint="PostgreSQL 12 or SQLite 3.35 is needed, or newer; otherwise please report it: no value is in the message",
        code=code.removeprefix("SQLSTATE "),
    )


def _unnumbered(place: str, code: str) -> SchemaMismatchError:
    return SchemaMismatchError(
        f"{place} has tables with our names and does not say which schema they are",
        hint=f"{_RESTORE}, or use a database of our own",
        code=code,
    )


def _in_use(code: str) -> IllegalTransitionError:
    return IllegalTransitionError("something else still refers to it, or what it refers to is gone", code=code)
