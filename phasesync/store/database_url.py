"""
Reads the URL of a PostgreSQL database, strictly: what is accepted is unambiguous, and safe to show without password.

libpq's forms, several hosts included: https://www.postgresql.org/docs/current/libpq-connect.html. No error repeats a
part of a URL, except for the name of an option: any other part may be the tail of a password.

Where a database lies: URLs made uniform, and a SQLite file checked before it is opened.

Makes the folder and the file with tight modes; never opens a database itself.
"""

import os
import re
import sqlite3
import stat
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, unquote_to_bytes

import sqlalchemy as sa

from phasesync.errors import SettingsError, StoreUnavailableError
from phasesync.host_files import MOUNTS, is_passing, make_private_folder, mount_of

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
    Return the URL with the driver that we use; several hosts and ports are in its query, separated by commas.

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
        # Whatever follows may be the tail of a password, so nothing more of it is looked at.
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
    for one in text.split(","):
        found = _HOST_AND_PORT.fullmatch(one)
        if found is None:
            raise _unusable("its host or port is not valid", _ENCODE)
        hosts.append(_host(found["host"]))
        ports.append(_port(found["port"] or ""))
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
        if (name, value) == ("ssl", "true"):  # as libpq understands what JDBC has
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
    """Return hosts and ports with those of the options `host` and `port`, which are taken out; they go first."""
    named = options.pop("host", "")
    if named:
        hosts, ports = [], []
        for one in named.split(","):
            found = _HOST_AND_PORT.fullmatch(one)
            if one.startswith(("/", "@")) or found is None:
                hosts.append(_socket_or_address(one))
                ports.append("")
            else:
                hosts.append(_host(found["host"]))
                ports.append(_port(found["port"] or ""))
    if (given := options.pop("port", "")) != "":
        ports = [_port(one) for one in given.split(",")]
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

_NETWORK_FILE_SYSTEMS: Final = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "glusterfs", "lustre", "beegfs", "davfs"),
        # Folders of a host that a hypervisor shows to its guest; disks that several hosts share.
        *("vboxsf", "vmhgfs", "prl_fs", "ocfs2", "gfs", "gfs2", "gpfs", "orangefs", "pvfs2", "wekafs", "acfs"),
    }
)
_NETWORK_FUSE: Final = (
    *("sshfs", "glusterfs", "s3fs", "gcsfuse", "rclone", "davfs", "juicefs", "ceph", "seaweedfs", "mount-s3"),
    *("mountpoint-s3", "blobfuse", "goofys", "geesefs", "vmhgfs", "prl_fs", "gvfsd", "curlftpfs", "smbnetfs", "mfs"),
)
"""
How the programs behind FUSE mounts are named, at the beginning. Many name themselves as what is mounted only.

9p and virtiofs are not in these lists: they also carry a machine's own disk into a virtual machine or a sandbox, where
one kernel does all the locking.
"""

_LONGEST_NAME: Final = 255 - len("-journal")
"""Of 255 bytes, which a name may have on the file systems that matter (NAME_MAX)."""

_OLDEST_SQLITE: Final = (3, 35, 0)
"""The first with RETURNING."""


def parse_database_url(text: str) -> sa.URL:
    """
    Return the URL with the driver that we use.

    `postgres://` and `postgresql://` mean psycopg 3. White space at the ends is dropped.

    Raises:
        SettingsError: no URL, another database, a SQLite database in memory, or psycopg is not installed.
    """
    text = text.strip()
    if is_postgresql(text):
        if find_spec("psycopg") is None:
            raise SettingsError(
                "PostgreSQL needs the package psycopg, which is not installed",
                hint="pip install 'phasesync[postgres]'",
            )
        return parse_postgresql_url(text)
    found = _SQLITE_URL.fullmatch(text)
    if found is None:
        raise _not_a_url()
    if "?" in text:
        raise SettingsError("a SQLite URL takes no options; a ? in its path is written %3F", hint=_EXAMPLE)
    path = os.fsdecode(unquote_to_bytes(found["path"].removeprefix("/")))
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


def prepare_sqlite_file(url: sa.URL, *, create: bool, mounts: Path = MOUNTS) -> Path:
    """
    Check the place of a SQLite database, and make folder (0700) and file (0600) where asked.

    Args:
        url: of the database.
        create: make what is missing; otherwise a missing file is an error.
        mounts: the kernel's list of mounts.

    Raises:
        SettingsError: a network file system, no right to write there, no database, or SQLite is too old.
    """
    check_sqlite_version(sqlite3.sqlite_version_info)
    path = Path(url.database or "")
    if len(os.fsencode(path.name)) > _LONGEST_NAME:
        raise SettingsError(
            f"the name of the database {path} is too long: {_LONGEST_NAME} bytes are possible, since SQLite names "
            "files of its own after it",
            hint="choose another one with PHASESYNC_DATABASE_URL",
        )
    if (kind := network_file_system(path, mounts)) is not None:
        raise SettingsError(
            f"{path} lies on a network file system ({kind}), where SQLite's locks do not hold",
            hint="use a local disk, or PostgreSQL: PHASESYNC_DATABASE_URL=postgresql://…",
        )
    try:
        if create:
            make_private_folder(path.parent)
            _make_file(path)
    except OSError as error:
        raise _unusable_file(path, error) from None
    if not sqlite_file_exists(url):
        message, hint = missing_database(path)
        raise SettingsError(message, hint=hint)
    return path


def missing_database(path: Path) -> tuple[str, str]:
    """
    Return message and hint for a database that is not there; `init` comes first only where nothing of ours is.

    A new database beside what an old one has left would look right, and would have lost everything.
    """
    place = "set PHASESYNC_DATABASE_URL or PHASESYNC_DATA_DIR to where it is"
    if not path.parent.is_dir():
        return (
            f"there is no database at {path}: there is no folder {path.parent}",
            f"phasesync init makes a new one; where there should be one already: is a disk not mounted? {place}",
        )
    left = sorted(one.name for one in path.parent.iterdir() if one.is_file() and not one.name.startswith("."))
    if not left:
        return (
            f"there is no database at {path}: the folder is empty",
            f"phasesync init makes a new one; where there should be one already: {place}",
        )
    return (
        f"there is no database at {path}; in its folder there is: {', '.join(left[:10])}",
        f"bring it back from a backup: phasesync db restore FILE; or {place}; phasesync init makes a new one, which is "
        "empty",
    )


def sqlite_file_exists(url: sa.URL) -> bool:
    """Return whether a SQLite database is there. SettingsError where its folder may not be searched."""
    path = Path(url.database or "")
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unusable_file(path, error) from None
    return True


def check_sqlite_version(version: Sequence[int]) -> None:
    """Raise SettingsError for a SQLite library that lacks what we use."""
    if tuple(version) < _OLDEST_SQLITE:
        found, needed = (".".join(map(str, numbers)) for numbers in (version, _OLDEST_SQLITE))
        raise SettingsError(
            f"the SQLite library of this Python is {found}, {needed} or newer is needed",
            hint="use a newer Python, or PostgreSQL",
        )


def access_warnings(url: sa.URL) -> tuple[str, ...]:
    """
    Return what should be better about who can reach a SQLite database, one line each; empty = nothing.

    Whoever may write to it can do what docs/security.md lists. A group is how Kubernetes gives a volume to a pod.
    """
    path = Path(os.path.abspath(url.database or ""))
    warnings = []
    try:
        folder, file = os.stat(path.parent), os.stat(path)
    except OSError:
        return ()  # Opening the database says what is wrong.
    if folder.st_mode & stat.S_IWOTH:
        mode = stat.S_IMODE(folder.st_mode)
        warnings.append(
            f"everybody on this machine may put files into {path.parent}, where the database is (mode {mode:04o}): "
            f"chmod 700 {path.parent}"
        )
    if file.st_mode & stat.S_IRWXO:
        mode, what = stat.S_IMODE(file.st_mode), "write" if file.st_mode & stat.S_IWOTH else "read"
        side_files = " ".join(f"{path}{end}" for end in ("", "-wal", "-shm") if os.path.exists(f"{path}{end}"))
        warnings.append(
            f"everybody on this machine may {what} the database {path} (mode {mode:04o}): chmod 600 {side_files}"
        )
    return tuple(warnings)


def network_file_system(path: Path, mounts: Path = MOUNTS) -> str | None:
    """Return the type of the network file system that a path lies on; None for a local one, or where nothing tells."""
    mount = mount_of(path, mounts)
    if mount is None:
        return None
    family, _, program = mount.kind.partition(".")
    if mount.kind in _NETWORK_FILE_SYSTEMS:
        return mount.kind
    if family == "fuse" and program.startswith(_NETWORK_FUSE):
        return mount.kind
    if family == "fuse" and not program and mount.source.startswith(_NETWORK_FUSE):
        return f"fuse, {mount.source}"
    return None


def _make_file(path: Path) -> None:
    """Make an empty file that only we may read; SQLite gives its side files the mode of the first."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    os.close(descriptor)


def _unusable_file(path: Path, error: OSError) -> SettingsError | StoreUnavailableError:
    message = f"the database {path} cannot be made or read: {error.strerror}"
    if is_passing(error):
        return StoreUnavailableError(message)
    return SettingsError(message, hint="choose another place with PHASESYNC_DATA_DIR, or correct the permissions")


def _not_a_url() -> SettingsError:
    # The text itself is not repeated: it may hold a password.
    return SettingsError(
        "the database URL is not usable", hint="sqlite:////path/phasesync.db or postgresql://user@host/database"
    )
