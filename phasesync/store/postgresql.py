"""
Connections to a PostgreSQL server: their set-up, what each new one has to prove, and why a server refused one.

During a failover a name, a proxy or a pooler may lead to a standby, or to a server in read-only mode. Data read there
may be old, and nothing can be written, so such a connection is refused before it is used.
"""

import re
import select
import sys
import time
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any, Final

import sqlalchemy as sa
from psycopg import errors
from sqlalchemy import exc

from phasesync.name_lookup import look_up
from phasesync.store.db_errors import Refusal, not_writable, unknown_host, wrong_encoding
from phasesync.store.sqlite import BUSY_TIMEOUT_MS

_CONNECT_TIMEOUT_S: Final = 5


def connect_arguments(url: sa.URL) -> dict[str, Any]:
    """Return the client library's parameters beside the URL."""
    arguments: dict[str, Any] = {
        "connect_timeout": _CONNECT_TIMEOUT_S,
        "application_name": "phasesync",
        "keepalives_idle": 30,
        # A host that vanished is noticed within this time, even during a query.
        "tcp_user_timeout": 15_000,
    }
    arguments = {name: value for name, value in arguments.items() if name not in url.query}
    # Text is Unicode here, whatever the URL or PGCLIENTENCODING says.
    arguments["client_encoding"] = "utf8"
    # Prepared statements do not survive PgBouncer in transaction mode.
    arguments["prepare_threshold"] = None
    return arguments


def with_addresses(parameters: Mapping[str, Any], url: sa.URL) -> dict[str, Any]:
    """
    Return parameters of libpq with the addresses of the hosts that they name, one attempt for each address.

    libpq and psycopg look names up without a limit, and would hold up whoever connects: for minutes, where name servers
    do not answer. The names stay beside the addresses: certificates are checked against them.

    Raises:
        StoreUnavailableError: no name could be looked up.
    """
    hosts = str(parameters.get("host") or "").split(",")
    if "hostaddr" in parameters or all(not host or host.startswith("/") for host in hosts):
        return dict(parameters)
    ports = str(parameters.get("port") or "").split(",")
    found: list[tuple[str, str, str]] = []
    reason = "the DNS does not know its name"
    for number, host in enumerate(hosts):
        port = ports[number if len(ports) == len(hosts) else 0]
        if not host or host.startswith("/"):
            found.append((host, "", port))
            continue
        try:
            addresses = look_up(host, int(port or _PORT))
        except TimeoutError:
            reason = "the DNS does not answer"
        except (OSError, UnicodeError, ValueError):
            continue  # Another host may be known; libpq says what is wrong with a port.
        else:
            found += [(host, str(address[4][0]), port) for address in addresses]
    if not found:
        raise unknown_host(url, reason)
    names, numbers, their_ports = (",".join(parts) for parts in zip(*found, strict=True))
    return {**parameters, "host": names, "hostaddr": numbers, **({"port": their_ports} if any(ports) else {})}


_PORT: Final = 5432


def configure(connection: Any, url: sa.URL) -> None:
    """
    Set up a new connection of the driver.

    Raises:
        SettingsError: the database's encoding is not UTF8.
        StoreUnavailableError: the server does not accept writes now.
    """
    _check_encoding(connection, url)
    connection.autocommit = True
    cursor = connection.execute(_SET_UP)
    while cursor.nextset():
        pass
    is_standby, is_read_only = cursor.fetchone()
    connection.autocommit = False
    _check_writable(url, is_standby=is_standby, is_read_only=is_read_only)


async def configure_async(connection: Any, url: sa.URL) -> None:
    """
    Set up a new asyncio connection of the driver, as `configure` does. Each of its statements commits by itself.

    So a process that freezes between two statements holds no lock.
    """
    _check_encoding(connection, url)
    await connection.set_autocommit(True)
    cursor = await connection.execute(_SET_UP)
    while cursor.nextset():
        pass
    is_standby, is_read_only = await cursor.fetchone()
    _check_writable(url, is_standby=is_standby, is_read_only=is_read_only)


_SET_UP: Final = (
    # A process that was stopped during a transaction must not block the others for ever.
    f"SET lock_timeout = {BUSY_TIMEOUT_MS}; SET idle_in_transaction_session_timeout = 60000; SET timezone = 'UTC'; "
    "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'"
)


def _check_encoding(connection: Any, url: sa.URL) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in (None, "UTF8"):
        raise wrong_encoding(url, encoding)


def _check_writable(url: sa.URL, *, is_standby: bool, is_read_only: bool) -> None:
    if is_standby or is_read_only:
        raise not_writable(url, "it is a standby" if is_standby else "it is in read-only mode")


def driver_parameters(engine: sa.Engine) -> dict[str, Any]:
    """Return all parameters with which psycopg itself connects as the engine does."""
    _, parameters = engine.dialect.create_connect_args(engine.url)
    arguments = {**parameters, **connect_arguments(engine.url)}
    return {name: value for name, value in arguments.items() if name != "context"}


def refusal_of(error: exc.DBAPIError, engine: sa.Engine) -> Refusal:
    """Return why a connection failed; Refusal() if the error itself has the reason, or if nothing answered in time."""
    cause = error.orig
    if getattr(cause, "sqlstate", None) is not None or isinstance(cause, errors.ConnectionTimeout):
        return Refusal()
    # libpq does not know this one.
    parameters = {name: value for name, value in driver_parameters(engine).items() if name != "prepare_threshold"}
    return diagnose(with_addresses(parameters, engine.url))


# --- Why a server refused a connection
#
# libpq gives a text and no SQLSTATE for a refused connection, and servers write their part of the text in the language
# of their `lc_messages`. So the attempt is repeated with libpq's error verbosity "sqlstate", which puts the code in
# place of the text. Failures in libpq itself, such as TLS, have no code; they are recognised by libpq's own sentences,
# word for word. No part of a text is repeated.

_SQLSTATE_ONLY: Final = 3
"""PQERRORS_SQLSTATE of libpq-fe.h, from version 12."""
_PATIENCE_S: Final = 5.0

_SERVERS_ANSWER: Final = re.compile(r": +([0-9A-Z]{5})\s*$", re.MULTILINE)

_OPTION_OF: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r'^invalid (?:integer )?value ".*" for connection option "(\w+)"$',
        r'^invalid (\w+) value: ".*"$',
        r'^weak (sslmode) ".*" may not be used with sslrootcert=system',
        r'^definition of (service) ".*" not found$',
    )
)
_READ_ONLY: Final = re.compile(r"(?:session is read-only|server is in hot standby mode)$", re.MULTILINE)
"""libpq's message for a host that it skips because of target_session_attrs."""
_TLS: Final = (
    (
        re.compile(r"server does not support SSL, but SSL was required$", re.MULTILINE),
        "the server does not offer TLS, which sslmode asks for",
        "enable ssl in the server's settings; sslmode=prefer is for networks that no one else reads",
    ),
    (
        re.compile(r"SSL error: certificate verify failed", re.MULTILINE),
        "the server's certificate is not signed by an authority that this host trusts",
        "name the authority's certificate: sslrootcert=FILE in the database URL",
    ),
    (
        re.compile(r'(?:server certificate for ".*"|server certificate) .*does not match host name ', re.MULTILINE),
        "the server's certificate is for another host name than the one in the database URL",
        "use the name that the certificate has, or have one made for this name",
    ),
    (
        re.compile(r'root certificate file ".*" does not exist$|could not read root certificate file ', re.MULTILINE),
        "the certificate of the authority (sslrootcert) is missing or cannot be read",
        "put it to ~/.postgresql/root.crt, or name it: sslrootcert=FILE, or sslrootcert=system for this host's own",
    ),
    (
        re.compile(
            r"could not (?:read|open|load) (?:certificate|private key) file |certificate present, but not private key "
            r"|private key file .* (?:has group or world access|must be owned by)"
            r"|certificate does not match private key",
            re.MULTILINE,
        ),
        "the client's own certificate or its private key (sslcert, sslkey) cannot be used",
        "check both files; the key must be readable by this user alone",
    ),
    (
        re.compile(r"host name must be specified for a verified SSL connection$", re.MULTILINE),
        "a server is verified by its host name, and the database URL has none",
        "put the server's host name into the database URL",
    ),
)


def diagnose(parameters: Mapping[str, Any]) -> Refusal:
    """Connect again with these parameters of libpq and return why it failed; Refusal() if that stays unknown."""
    text = _attempt(parameters)
    return Refusal() if text is None else read_refusal(text)


def read_refusal(text: str) -> Refusal:
    """Return the reason in libpq's text of a failure, at verbosity "sqlstate"."""
    text = text.strip()
    for pattern in _OPTION_OF:
        if match := pattern.search(text):
            return Refusal(option=match[1])
    states = tuple(_SERVERS_ANSWER.findall(text))
    for pattern, problem, hint in _TLS:
        if not states and pattern.search(text):
            return Refusal(tls=(problem, hint))
    # With several hosts there is one line for each attempt; lines with advice begin with a tab.
    attempts = [line for line in text.splitlines() if line and not line.startswith("\t")]
    return Refusal(
        states=states,
        elsewhere=len(attempts) > len(states),
        read_only=not states and _READ_ONLY.search(text) is not None,
    )


def _attempt(parameters: Mapping[str, Any]) -> str | None:
    """Return libpq's text of a failed attempt; None if it did not fail, or if libpq cannot give codes."""
    from psycopg import conninfo, pq

    set_verbosity = _verbosity_of_libpq()
    if set_verbosity is None:
        return None
    connection = pq.PGconn.connect_start(conninfo.make_conninfo("", **parameters).encode())
    try:
        if (pointer := getattr(connection, "pgconn_ptr", None)) is not None:
            set_verbosity(pointer, _SQLSTATE_ONLY)
        deadline = time.monotonic() + _PATIENCE_S
        while connection.status != pq.ConnStatus.BAD and time.monotonic() < deadline:
            match connection.connect_poll():
                case pq.PollingStatus.OK:
                    return None
                case pq.PollingStatus.READING:
                    select.select([connection.socket], [], [], 0.5)
                case pq.PollingStatus.WRITING:
                    select.select([], [connection.socket], [], 0.5)
        return connection.error_message.decode(errors="replace")
    finally:
        connection.finish()


@cache
def _verbosity_of_libpq() -> Any:
    """Return PQsetErrorVerbosity of psycopg's libpq, which psycopg itself does not offer; None if not found."""
    import ctypes  # rarely needed, and slow to load

    from psycopg import pq

    try:
        if pq.__impl__ == "python":
            library = import_module("psycopg.pq._pq_ctypes").pq
        else:
            # Looked up in psycopg's extension module and the libraries that it is linked with.
            library = ctypes.CDLL(str(sys.modules[pq.PGconn.__module__].__file__))
        prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
        return prototype(("PQsetErrorVerbosity", library))
    except (OSError, AttributeError, ImportError):
        return None
