"""
From the database's errors to ours, in one place.

Messages are made from codes and class names, never from the text of a driver's error: drivers repeat statements and
parameters in theirs. The text is only looked at to tell a refused login from a dead server.
"""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import sqlalchemy as sa
from sqlalchemy import exc

from phasesync.errors import (
    AlreadyExistsError,
    EnvironmentStoreError,
    IllegalTransitionError,
    InvalidInputError,
    PhasesyncError,
    SchemaMismatchError,
    SettingsError,
    StoreUnavailableError,
)

_RESTORE: Final = "restore the newest backup that phasesync db backup made"


@contextmanager
def translated(url: sa.URL) -> Iterator[None]:
    """Raise our errors for SQLAlchemy's and the drivers'. `url` names the database in messages, without password."""
    try:
        yield
    except (exc.SQLAlchemyError, sqlite3.Error) as error:
        raise translate(error, url) from None
    except UnicodeEncodeError:
        raise InvalidInputError("text that has no UTF-8 form cannot be stored") from None


def translate(error: Exception, url: sa.URL) -> PhasesyncError:
    """Return our error for one of SQLAlchemy's or of a driver's."""
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    if isinstance(error, exc.TimeoutError):
        return StoreUnavailableError("all connections to the database are in use")
    if isinstance(cause, sqlite3.Error):
        return _from_sqlite(cause, url)
    if isinstance(error, exc.DataError):
        return InvalidInputError("a text or a number cannot be stored: it is too long, too large or holds a NUL")
    if isinstance(error, exc.DBAPIError):
        return _from_postgresql(error, url)
    return EnvironmentStoreError(f"the database layer failed ({type(error).__name__})")


# --- SQLite: https://www.sqlite.org/rescode.html


def _from_sqlite(error: sqlite3.Error, url: sa.URL) -> PhasesyncError:
    name = getattr(error, "sqlite_errorname", "")
    file = url.database
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
            return SettingsError(
                f"the database {file} or its folder may not be opened for writing by this user",
                hint="run as the user that owns it, or correct its permissions; the folder must be writable too",
                code=name,
            )
        case "NOTADB":
            return SettingsError(f"{file} is not a phasesync database", hint="check PHASESYNC_DATABASE_URL", code=name)
        case "CORRUPT":
            return SettingsError(f"the database {file} is damaged", hint=_RESTORE, code=name)
        case "CONSTRAINT":
            if name == "SQLITE_CONSTRAINT_FOREIGNKEY":
                return _in_use(name)
            return AlreadyExistsError(code=name)
        case "ERROR" if str(error).startswith(("no such table", "no such column")):
            return SchemaMismatchError(code=name)
        case "ERROR" if re.match(r"table \S+ already exists", str(error)):
            return _unnumbered(str(file), name)
        case _:
            return EnvironmentStoreError(f"the database refused a statement ({name or type(error).__name__})")


# --- PostgreSQL: https://www.postgresql.org/docs/current/errcodes-appendix.html


def _from_postgresql(error: exc.DBAPIError, url: sa.URL) -> PhasesyncError:
    state = getattr(error.orig, "sqlstate", None) or ""
    match state[:2]:
        case "":
            return _connection_failed(error, url)
        case "08" | "53" | "57" | "58" | "40" | "55" | "25":
            return StoreUnavailableError(
                f"the database at {_place(url)} cannot do this now (SQLSTATE {state})", code=state
            )
        case "28":
            return SettingsError(f"the database at {_place(url)} refused the login (SQLSTATE {state})", code=state)
        case "3D":
            return SettingsError(f"the database at {_place(url)} does not exist", code=state)
        case "42" if state == "42P07":
            return _unnumbered(_place(url), state)
        case "42" if state in ("42P01", "42703", "3F000"):
            return SchemaMismatchError(code=state)
        case "42" if state == "42501":
            return SettingsError(
                f"the database user may not do this in {_place(url)}",
                hint="grant it the rights on the schema, or make it the owner of the tables",
                code=state,
            )
        case "23" if state == "23503":
            return _in_use(state)
        case "23" if state == "23505":
            return AlreadyExistsError(code=state)
        case _:
            return EnvironmentStoreError(f"the database refused a statement (SQLSTATE {state})", code=state)


def _connection_failed(error: exc.DBAPIError, url: sa.URL) -> PhasesyncError:
    """Errors of the connection itself carry no SQLSTATE."""
    text = str(error.orig)
    if "authentication failed" in text or "no pg_hba.conf entry" in text or "role" in text:
        return SettingsError(
            f"the database at {_place(url)} refused the login", hint="check user and password in PHASESYNC_DATABASE_URL"
        )
    if "does not exist" in text:
        return SettingsError(
            f"the database at {_place(url)} does not exist", hint=f"createdb {url.database}, then phasesync init"
        )
    return StoreUnavailableError(
        f"the database at {_place(url)} cannot be reached",
        hint="is it running? check host and port in PHASESYNC_DATABASE_URL",
    )


def _place(url: sa.URL) -> str:
    host = url.host or url.query.get("host") or "localhost"
    return f"{host}/{url.database}"


def _unnumbered(place: str, code: str) -> SchemaMismatchError:
    return SchemaMismatchError(
        f"{place} has tables with our names and does not say which schema they are",
        hint=f"{_RESTORE}, or use a database of our own",
        code=code,
    )


def _in_use(code: str) -> IllegalTransitionError:
    return IllegalTransitionError("something else still refers to it, or what it refers to is gone", code=code)
