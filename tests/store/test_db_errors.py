"""Errors of the two databases: which ones a person must fix, and which ones are tried again."""

import sqlite3

import psycopg
import pytest
import sqlalchemy as sa

from phasesync.core.run import verdict_of
from phasesync.core.schedule import after_error
from phasesync.core.sync import SyncStatus
from phasesync.demo.canary import CANARY_VALUE
from phasesync.errors import (
    AlreadyExistsError,
    Disposition,
    IllegalTransitionError,
    InternalError,
    InvalidInputError,
    PhasesyncError,
    SchemaMismatchError,
    SettingsError,
    StoreUnavailableError,
)
from phasesync.store.db_errors import Refusal, invalidates_connections, translate
from phasesync.store.postgresql import read_refusal
from tests.support.stores import LONG

URL = sa.make_url("postgresql+psycopg://ada:hunter2@db/shop")
SQLITE = sa.make_url("sqlite:////data/phasesync.db")


def of_postgresql(state: str | None, kind: type[psycopg.Error] = psycopg.OperationalError) -> PhasesyncError:
    """What we say to an SQLSTATE, in whatever language the server's text is."""
    try:
        error = psycopg.errors.lookup(state)(CANARY_VALUE) if state else kind(CANARY_VALUE)
    except KeyError:
        error = kind(CANARY_VALUE)
        error.sqlstate = state
    return translate(wrapped(error), URL)


def of_sqlite(name: str, text: str = CANARY_VALUE, at: sa.URL = SQLITE) -> PhasesyncError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorname = name
    return translate(wrapped(error), at)


def wrapped(error: Exception) -> sa.exc.DBAPIError:
    """As SQLAlchemy raises a driver's error."""
    base = psycopg.Error if isinstance(error, psycopg.Error) else sqlite3.Error
    error_of_sqlalchemy = sa.exc.DBAPIError.instance(
        "SELECT 1", {"value": CANARY_VALUE}, error, base, hide_parameters=True
    )
    assert isinstance(error_of_sqlalchemy, sa.exc.DBAPIError)
    return error_of_sqlalchemy


def is_tried_again(error: PhasesyncError) -> bool:
    """Whether a sync runs again by itself after a run that ended with it."""
    due = after_error(error, failures=1, interval=LONG, spread=0).due_in
    return verdict_of(error).status is SyncStatus.FAILING and due is not None


# fmt: off
NOT_NOW = [
    "0A000", "25006", "XX000", "XX001", "54000", "54001", "F0000", "57P01", "57P02", "57P03", "57P05",
    "57014", "08000", "08003", "08006", "08P01", "53000", "53100", "53200", "53300", "58030", "40001",
    "40P01", "40003", "55P03", "55000", "25P02", "25P03", "26000", "34000", "42P05", "72000", "HV000",
    "P0001", "ZZ999", "00000",
]
# fmt: on


@pytest.mark.parametrize("state", [*NOT_NOW, None])
def test_what_postgresql_cannot_do_now_is_tried_again(state):
    error = of_postgresql(state)
    assert isinstance(error, StoreUnavailableError)
    assert error.exit_code == 7
    assert is_tried_again(error)
    assert CANARY_VALUE not in f"{error} {error.hint}"
    assert "hunter2" not in f"{error} {error.hint}"


# fmt: off
NOT_NOW_ON_SQLITE = [
    "PROTOCOL", "NOMEM", "INTERRUPT", "ABORT", "BUSY", "BUSY_SNAPSHOT", "BUSY_RECOVERY", "BUSY_TIMEOUT",
    "LOCKED", "LOCKED_SHAREDCACHE", "IOERR", "IOERR_WRITE", "IOERR_SHORT_READ", "IOERR_NOMEM", "IOERR_SHMMAP",
    "FULL", "SCHEMA", "EMPTY", "INTERNAL", "NOTFOUND", "A_CODE_OF_TOMORROW",
]
# fmt: on


@pytest.mark.parametrize("name", NOT_NOW_ON_SQLITE)
def test_what_sqlite_cannot_do_now_is_tried_again(name):
    error = of_sqlite(f"SQLITE_{name}")
    assert isinstance(error, StoreUnavailableError)
    assert is_tried_again(error)
    assert CANARY_VALUE not in f"{error} {error.hint}"


def test_an_error_without_any_code_is_tried_again():
    assert is_tried_again(translate(sqlite3.ProgrammingError("Cannot operate on a closed database."), SQLITE))
    assert is_tried_again(translate(sa.exc.PendingRollbackError("…"), URL))
    assert is_tried_again(translate(sa.exc.TimeoutError("…"), URL))
    assert is_tried_again(translate(sa.exc.ResourceClosedError("…"), URL))


@pytest.mark.parametrize("state", ["42601", "42883", "42P18", "42702", "23502", "23514"])
def test_a_statement_that_postgresql_never_takes_is_a_defect_and_halts_nothing(state):
    error = of_postgresql(state, psycopg.ProgrammingError)
    assert isinstance(error, InternalError)
    assert state in str(error)
    assert is_tried_again(error)


@pytest.mark.parametrize("name", ["ERROR", "MISUSE", "RANGE", "MISMATCH", "CONSTRAINT_NOTNULL", "CONSTRAINT_CHECK"])
def test_a_statement_that_sqlite_never_takes_is_a_defect_and_halts_nothing(name):
    error = of_sqlite(f"SQLITE_{name}")
    assert isinstance(error, InternalError)
    assert is_tried_again(error)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("28P01", SettingsError),
        ("28000", SettingsError),
        ("3D000", SettingsError),
        ("42501", SettingsError),
        ("42P01", SchemaMismatchError),
        ("42703", SchemaMismatchError),
        ("3F000", SettingsError),
        ("23505", AlreadyExistsError),
        ("23503", IllegalTransitionError),
        ("22001", InvalidInputError),
        ("22P05", InvalidInputError),
    ],
)
def test_what_a_person_has_to_change_is_told_apart(state, expected):
    error = of_postgresql(state)
    assert type(error) is expected
    assert error.disposition is Disposition.HALT


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("NOTADB", "", SettingsError),
        ("CORRUPT_VTAB", "", SettingsError),
        ("READONLY_DIRECTORY", "", SettingsError),
        ("CANTOPEN", "", SettingsError),
        ("ERROR", "no such table: apps", SchemaMismatchError),
        ("ERROR", "table apps already exists", SchemaMismatchError),
        ("CONSTRAINT_UNIQUE", "", AlreadyExistsError),
        ("CONSTRAINT_PRIMARYKEY", "", AlreadyExistsError),
        ("CONSTRAINT_FOREIGNKEY", "", IllegalTransitionError),
        ("TOOBIG", "", InvalidInputError),
    ],
)
def test_what_a_person_has_to_change_is_told_apart_on_sqlite(name, text, expected):
    assert type(of_sqlite(f"SQLITE_{name}", text)) is expected


@pytest.mark.parametrize("name", ["SQLITE_CANTOPEN", "SQLITE_CANTOPEN_FULLPATH", "SQLITE_READONLY_DBMOVED"])
def test_a_file_that_could_be_opened_is_no_matter_of_rights(name, tmp_path):
    (tmp_path / "phasesync.db").touch()
    error = of_sqlite(name, at=sa.URL.create("sqlite", database=str(tmp_path / "phasesync.db")))
    assert type(error) is StoreUnavailableError
    assert (error.code, error.hint) == (name, "check its disk, and its folder")


@pytest.mark.parametrize("name", ["SQLITE_CANTOPEN", "SQLITE_CANTOPEN_DIRTYWAL", "SQLITE_READONLY_CANTINIT"])
def test_too_many_open_files_are_called_that_on_sqlite(name, no_descriptors):
    error = of_sqlite(name)
    assert type(error) is StoreUnavailableError
    assert "has too many open files" in error.message
    assert "LimitNOFILE" in str(error.hint)


def test_too_many_open_files_are_called_that_on_postgresql(no_descriptors):
    error = of_postgresql(None)
    assert type(error) is StoreUnavailableError
    assert "has too many open files" in error.message


def test_a_search_path_that_leads_nowhere_is_named_with_the_settings():
    error = of_postgresql("3F000")
    assert "no schema of search_path" in error.message
    assert "options=-csearch_path%3DNAME" in str(error.hint)


@pytest.mark.parametrize("error", [SettingsError(), SchemaMismatchError()])
def test_even_what_a_person_has_to_change_is_looked_at_again(error):
    """Once it is changed nothing else informs the sync."""
    assert after_error(error, failures=1, interval=LONG, spread=0).due_in is not None


@pytest.mark.parametrize("state", ["25006", "0A000", "57P01", "XX000", "54000", "F0000", "08006", "40003", None])
def test_connections_that_may_lead_astray_are_dropped(state):
    assert invalidates_connections(of_postgresql(state))


@pytest.mark.parametrize("state", ["40001", "40P01", "55P03", "57014", "23505", "42601"])
def test_connections_that_are_good_are_kept(state):
    assert not invalidates_connections(of_postgresql(state))


# --- connections that were refused: libpq's texts at verbosity "sqlstate"

AT_DB = 'connection to server at "db" (192.0.2.1), port 5432 failed: '


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        (f"{AT_DB}FATAL:  53300\n", Refusal(states=("53300",))),
        (f"{AT_DB}FATAL:  28P01", Refusal(states=("28P01",))),
        (f"{AT_DB}SCHWERWIEGEND:  3D000\n", Refusal(states=("3D000",))),
        (
            f"{AT_DB}Connection refused\n\tIs the server running on that host?\n{AT_DB}FATAL:  28P01\n",
            Refusal(states=("28P01",), elsewhere=True),
        ),
        (f"{AT_DB}FATAL:  28P01\n{AT_DB}FATAL:  57P03", Refusal(states=("28P01", "57P03"))),
        ('could not translate host name "role" to address: Name or service not known', Refusal(elsewhere=True)),
        (f"{AT_DB}session is read-only", Refusal(elsewhere=True, read_only=True)),
        ('invalid sslmode value: "sometimes"', Refusal(option="sslmode")),
        ('invalid integer value "x" for connection option "keepalives_idle"', Refusal(option="keepalives_idle")),
    ],
)
def test_why_a_connection_was_refused_is_told_by_codes(text, refusal):
    assert read_refusal(text) == refusal


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("server does not support SSL, but SSL was required", "does not offer TLS"),
        ("SSL error: certificate verify failed", "not signed by an authority"),
        ('server certificate for "a" (and 1 other name) does not match host name "db"', "another host name"),
        ('root certificate file "/x/root.crt" does not exist\nEither provide the file, …', "sslrootcert"),
        ('could not open certificate file "/x": Permission denied', "sslcert"),
    ],
)
def test_a_problem_of_tls_is_named(text, problem):
    error = refused(read_refusal(AT_DB + text))
    assert isinstance(error, SettingsError)
    assert problem in str(error)
    assert error.hint


def refused(refusal: Refusal) -> PhasesyncError:
    return translate(wrapped(psycopg.OperationalError(CANARY_VALUE)), URL, refusal)


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (Refusal(states=("28P01",)), SettingsError),
        (Refusal(states=("28000", "28P01")), SettingsError),
        (Refusal(states=("28P01",), elsewhere=True), StoreUnavailableError),
        (Refusal(states=("3D000", "57P03")), StoreUnavailableError),
        (Refusal(states=("53300",)), StoreUnavailableError),
        (Refusal(elsewhere=True), StoreUnavailableError),
        (Refusal(), StoreUnavailableError),
    ],
)
def test_only_what_every_server_says_is_a_verdict(refusal, expected):
    assert type(refused(refusal)) is expected
