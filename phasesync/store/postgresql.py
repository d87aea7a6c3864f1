"""
Connections to a PostgreSQL server: how they are set up, and what each new one has to prove.

During a failover a name, a proxy or a pooler may lead to a standby, or to a server in read-only mode. What is read
there may be old, and nothing can be written, so such a connection is refused before anything is asked of it.
"""

from typing import Any, Final

import sqlalchemy as sa
from psycopg import errors
from sqlalchemy import exc

from phasesync.store.db_errors import not_writable, wrong_encoding
from phasesync.store.postgresql_login import Refusal, diagnose
from phasesync.store.sqlite_file import BUSY_TIMEOUT_MS

_CONNECT_TIMEOUT_S: Final = 5


def connect_arguments(url: sa.URL) -> dict[str, Any]:
    """Return what the client library is given beside the URL."""
    arguments: dict[str, Any] = {
        "connect_timeout": _CONNECT_TIMEOUT_S,
        "application_name": "phasesync",
        "keepalives_idle": 30,
        # A host that vanished is noticed within this time even with a query under way.
        "tcp_user_timeout": 15_000,
    }
    arguments = {name: value for name, value in arguments.items() if name not in url.query}
    # Whatever the URL or PGCLIENTENCODING says: text is Unicode here.
    arguments["client_encoding"] = "utf8"
    # Prepared statements do not survive PgBouncer in transaction mode.
    arguments["prepare_threshold"] = None
    return arguments


def configure(connection: Any, url: sa.URL) -> None:
    """
    Set up a new connection of the driver.

    Raises:
        SettingsError: the database does not hold Unicode.
        StoreUnavailableError: the server cannot be written now.
    """
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in (None, "UTF8"):
        raise wrong_encoding(url, encoding)
    connection.autocommit = True
    # A process that was stopped in the middle of a transaction must not hold up the others for ever.
    cursor = connection.execute(
        f"SET lock_timeout = {BUSY_TIMEOUT_MS}; SET idle_in_transaction_session_timeout = 60000; SET timezone = 'UTC'; "
        "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'"
    )
    while cursor.nextset():
        pass
    is_standby, is_read_only = cursor.fetchone()
    connection.autocommit = False
    if is_standby or is_read_only:
        raise not_writable(url, "it is a standby" if is_standby else "it is in read-only mode")


def refusal_of(error: exc.DBAPIError, engine: sa.Engine) -> Refusal:
    """Return why a connection failed; Refusal() where the error says it itself, or where nothing answered in time."""
    cause = error.orig
    if getattr(cause, "sqlstate", None) is not None or isinstance(cause, errors.ConnectionTimeout):
        return Refusal()
    _, parameters = engine.dialect.create_connect_args(engine.url)
    given = {**parameters, **connect_arguments(engine.url)}
    return diagnose({name: value for name, value in given.items() if name not in _OF_PSYCOPG})


_OF_PSYCOPG: Final = ("context", "prepare_threshold")
"""Arguments that are psycopg's own and not libpq's."""
