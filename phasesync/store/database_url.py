"""
Parses the URL of a database, strictly: what is accepted is unambiguous, and safe to show without its password.

PostgreSQL's forms, several hosts included: https://www.postgresql.org/docs/current/libpq-connect.html. No error repeats
a part of a URL, except the name of an option: any other part may be the end of a password. Opens nothing.
"""

import os
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, unquote_to_bytes

import sqlalchemy as sa

from phasesync.errors import SettingsError

DRIVER: Final = "postgresql+psycopg"

_FORM: Final = "postgresql://user:password@host:5432/database, or with several hosts: host1:5432,host2:5432"
_ENCODE: Final = (
    "write these characters of user and password as % and two digits: @ as %40, / as %2F, ? as %3F, # as %23, : as %3A"
)
_SCHEME: Final = re.compile(r"(?:postgres|postgresql)(?:\+\w+)?://", re.ASCII)
_NETWORK_HOST: Final = re.compile(r"[A-Za-z0-9._-]*", re.ASCII)
_IPV6: Final = re.compile(r"[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._-]+)?", re.ASCII)
_HOST_AND_PORT: Final = re.compile(r"(?P<host>\[[^\[\]]+\]|[^\[\]:]*)(?::(?P<port>[^:]*))?", re.ASCII)
_OPTION: Final = re.compile(r"[A-Za-z_]{1,40}", re.ASCII)


def is_postgresql(text: str) -> bool:
    """Return whether a URL is meant for PostgreSQL."""
    return _SCHEME.match(text) is not None


def parse_postgresql_url(text: str) -> sa.URL:
    """
    Return the URL for our driver; several hosts and ports are in its query, separated by commas.

    Raises:
        SettingsError: it does not parse strictly, or has an option that PostgreSQL's client library does not know.
    """
    scheme = _SCHEME.match(text)
    if scheme is None or re.search(r"[\s\x00-\x1f\x7f]", text):
        raise _unusable("it has white space in it, or does not begin with postgresql://", _FORM)
    before, _, query = text[scheme.end() :].partition("?")
    authority, _, path = before.partition("/")
    user_info, at, host_list = authority.rpartition("@")
    if "@" in user_info or "@" in path or "/" in path or "@" in query:
        # The rest may be the end of a password, so it is not parsed any further.
        raise _unusable("it has one @ or one / too many", _ENCODE)
    user, _, password = user_info.partition(":")
    hosts, ports = _hosts(host_list) if host_list else ([], [])
    options = _options(query)
    hosts, ports = _named_in_options(options, hosts, ports)
    plain = len(hosts) == 1 and _NETWORK_HOST.fullmatch(hosts[0]) is not None
    if hosts and not plain:
        options["host"] = ",".join(hosts)
        if any(ports):
            options["port"] = ",".join(ports)
    if len(hosts) > 1:
        options.setdefault("target_session_attrs", "read-write")
    return sa.URL.create(
        DRIVER,
        username=options.pop("user", None) or unquote(user) or None,
        password=options.pop("password", None) or (unquote(password) if at and password else None),
        host=hosts[0] or None if plain else None,
        port=int(ports[0]) if plain and ports[0] else None,
        database=options.pop("dbname", None) or unquote(path) or None,
        query=options,
    )


def _hosts(text: str) -> tuple[list[str], list[str]]:
    """Return hosts and ports, in order; an empty port is the default one."""
    hosts, ports = [], []
    for part in text.split(","):
        match = _HOST_AND_PORT.fullmatch(part)
        if match is None:
            raise _unusable("its host or port is not valid", _ENCODE)
        hosts.append(_host(match["host"]))
        ports.append(_port(match["port"] or ""))
    return hosts, ports


def _host(text: str) -> str:
    if text.startswith("["):
        if not _IPV6.fullmatch(text[1:-1]) or ":" not in text:
            raise _unusable("its host is not an IPv6 address", _FORM)
        return unquote(text[1:-1])
    plain = unquote(text)
    if plain.startswith("/") and "," not in plain:  # the folder of a Unix socket
        return plain
    if not _NETWORK_HOST.fullmatch(text):
        raise _unusable("its host has a character that no host has", _ENCODE)
    return text


def _port(text: str) -> str:
    if text and not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= 65535):
        raise _unusable("its port is not a number from 1 to 65535", _FORM)
    return text


def _options(query: str) -> dict[str, str]:
    """Return the options; `host` and `port` may be given more than once, and are joined with commas."""
    known = _known_options()
    options: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        name, equals, value = pair.partition("=")
        if not equals or not _OPTION.fullmatch(name):
            raise _unusable("its options are not of the form name=value&name=value", _ENCODE)
        if (name, value) == ("ssl", "true"):  # JDBC's option, which libpq accepts too
            name, value = "sslmode", "require"
        if name not in known:
            raise _unknown_option(name)
        value = unquote(value)
        if name in options and name not in ("host", "port"):
            raise _unusable(f"the option {name} is given twice", "give it once")
        if name == "connect_timeout" and not (value.isascii() and value.isdigit()):
            raise _unusable("the option connect_timeout is not a number of seconds", "connect_timeout=5")
        options[name] = f"{options[name]},{value}" if name in options else value
    return options


def _known_options() -> frozenset[str]:
    from psycopg import pq

    return frozenset(option.keyword.decode() for option in pq.Conninfo.get_defaults())


def _named_in_options(options: dict[str, str], hosts: list[str], ports: list[str]) -> tuple[list[str], list[str]]:
    """Return hosts and ports; the options `host` and `port`, which are removed, take precedence."""
    named = options.pop("host", "")
    if named:
        hosts, ports = [], []
        for part in named.split(","):
            match = _HOST_AND_PORT.fullmatch(part)
            if part.startswith(("/", "@")) or match is None:
                hosts.append(_socket_or_address(part))
                ports.append("")
            else:
                hosts.append(_host(match["host"]))
                ports.append(_port(match["port"] or ""))
    if (port_list := options.pop("port", "")) != "":
        ports = [_port(port) for port in port_list.split(",")]
        if len(ports) == 1:
            ports *= max(1, len(hosts))
        if hosts and len(ports) != len(hosts):
            raise _unusable("the number of ports differs from the number of hosts", _FORM)
    return hosts or ([""] if any(ports) else []), ports


def _socket_or_address(text: str) -> str:
    if text.startswith(("/", "@")) or (_IPV6.fullmatch(text) and text.count(":") > 1):
        return text
    raise _unusable("its host has a character that no host has", _ENCODE)


_REPLACEMENTS: Final[Mapping[str, str]] = {
    "schema": "for a schema: options=-csearch_path%3DNAME, or ALTER ROLE … SET search_path",
    "currentSchema": "for a schema: options=-csearch_path%3DNAME, or ALTER ROLE … SET search_path",
    "ssl": "for TLS: sslmode=verify-full",
    "sslaccept": "for TLS: sslmode=verify-full",
    "connection_limit": "phasesync needs at most 40 connections; leave it out",
    "pool_timeout": "leave it out",
    "pgbouncer": "leave it out: phasesync works with PgBouncer as it is",
}


def _unknown_option(name: str) -> SettingsError:
    return _unusable(
        f"PostgreSQL's client library knows no option {name}",
        _REPLACEMENTS.get(name, "leave it out; the options are listed in PostgreSQL's documentation of libpq"),
    )


def _unusable(why: str, hint: str) -> SettingsError:
    return SettingsError(f"the database URL is not usable: {why}", hint=hint)


_SQLITE_URL: Final = re.compile(r"sqlite(?:\+\w+)?://(?P<path>/.*|)", re.DOTALL | re.ASCII)
_EXAMPLE: Final = "sqlite:////var/lib/phasesync/phasesync.db"


def parse_database_url(text: str) -> sa.URL:
    """
    Return the URL for our driver.

    `postgres://` and `postgresql://` mean psycopg 3. White space at the ends is removed.

    Raises:
        SettingsError: not a URL, another kind of database, a SQLite database in memory, or psycopg is not installed.
    """
    text = text.strip()
    if is_postgresql(text):
        if find_spec("psycopg") is None:
            raise SettingsError(
                "PostgreSQL needs the package psycopg, which is not installed",
                hint="pip install 'phasesync[postgres]'",
            )
        return parse_postgresql_url(text)
    match = _SQLITE_URL.fullmatch(text)
    if match is None:
        raise _not_a_url()
    if "?" in text:
        raise SettingsError("a SQLite URL takes no options; a ? in its path is written %3F", hint=_EXAMPLE)
    path = os.fsdecode(unquote_to_bytes(match["path"].removeprefix("/")))
    if not path or "\0" in path or path == ":memory:" or path.startswith("file:"):
        raise SettingsError("a SQLite database must be a file", hint=_EXAMPLE)
    try:
        path = os.fspath(Path(path).expanduser())
    except RuntimeError:
        raise SettingsError(
            "the database would be in the home directory, and this user has none",
            hint="name another place: PHASESYNC_DATA_DIR=/var/lib/phasesync",
        ) from None
    return sa.URL.create("sqlite", database=path)


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite database, whatever characters its path has."""
    return f"sqlite:///{quote(os.fsencode(path))}"


def _not_a_url() -> SettingsError:
    # The text itself is not repeated: it may hold a password.
    return SettingsError(
        "the database URL is not usable", hint="sqlite:////path/phasesync.db or postgresql://user@host/database"
    )
