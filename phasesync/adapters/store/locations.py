"""
Where a database lies: URLs made uniform, and a SQLite file checked before it is opened.

Makes the folder and the file with tight modes; never opens a database itself.
"""

import os
import sqlite3
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from phasesync.adapters.store.postgresql_url import is_postgresql, parse_postgresql_url
from phasesync.errors import SettingsError

_MOUNTS: Final = Path("/proc/self/mounts")

_NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "glusterfs", "lustre", "beegfs", "gpfs", "davfs"}
)
_NETWORK_FUSE: Final = (
    "sshfs",
    "glusterfs",
    "s3fs",
    "gcsfuse",
    "rclone",
    "davfs",
    "juicefs",
    "ceph",
    "seaweedfs",
    "mount-s3",
)
"""
9p and virtiofs are not in these lists: they also carry a machine's own disk into a virtual machine or a sandbox, where
one kernel does all the locking.
"""

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
    try:
        url = sa.make_url(text)
    except (ArgumentError, ValueError):  # the latter for a host that is half an IPv6 address
        raise _not_a_url() from None
    if url.drivername.partition("+")[0] != "sqlite":
        raise _not_a_url()
    if url.query:
        raise SettingsError(
            "a SQLite URL takes no options, and the path in it no ?", hint="sqlite:////var/lib/phasesync/phasesync.db"
        )
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise SettingsError("a SQLite database must be a file", hint="sqlite:////var/lib/phasesync/phasesync.db")
    return url.set(drivername="sqlite")


def prepare_sqlite_file(url: sa.URL, *, create: bool, mounts: Path = _MOUNTS) -> Path:
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
    if (kind := network_file_system(path, mounts)) is not None:
        raise SettingsError(
            f"{path} lies on a network file system ({kind}), where SQLite's locks do not hold",
            hint="use a local disk, or PostgreSQL: PHASESYNC_DATABASE_URL=postgresql://…",
        )
    try:
        if create:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make_file(path)
    except OSError as error:
        raise _unusable(path, error) from None
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
        raise _unusable(path, error) from None
    return True


def check_sqlite_version(version: Sequence[int]) -> None:
    """Raise SettingsError for a SQLite library that lacks what we use."""
    if tuple(version) < _OLDEST_SQLITE:
        found, needed = (".".join(map(str, numbers)) for numbers in (version, _OLDEST_SQLITE))
        raise SettingsError(
            f"the SQLite library of this Python is {found}, {needed} or newer is needed",
            hint="use a newer Python, or PostgreSQL",
        )


def network_file_system(path: Path, mounts: Path = _MOUNTS) -> str | None:
    """Return the type of the network file system that a path lies on; None for a local one, or where nothing tells."""
    real = os.path.realpath(path)
    longest, kind = "", ""
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    for line in lines:
        _, mount_point, file_system, *_ = [*line.split(" "), "", "", ""]
        mount_point = _unescape(mount_point)
        inside = real == mount_point or real.startswith(mount_point.rstrip("/") + "/")
        # A later line of the same mount point lies on top of an earlier one.
        if inside and len(mount_point) >= len(longest):
            longest, kind = mount_point, file_system
    family, _, program = kind.partition(".")
    if kind in _NETWORK_FILE_SYSTEMS or (family == "fuse" and program.startswith(_NETWORK_FUSE)):
        return kind
    return None


def _make_file(path: Path) -> None:
    """Make an empty file that only we may read; SQLite gives its side files the mode of the first."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    os.close(descriptor)


def _unescape(mount_point: str) -> str:
    """The kernel writes space, tab, newline and backslash as octal (proc(5))."""
    for octal, character in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        mount_point = mount_point.replace(octal, character)
    return mount_point


def _unusable(path: Path, error: OSError) -> SettingsError:
    return SettingsError(
        f"the database {path} cannot be made or read: {error.strerror}",
        hint="choose another place with PHASESYNC_DATA_DIR, or correct the permissions",
    )


def _not_a_url() -> SettingsError:
    # The text itself is not repeated: it may hold a password.
    return SettingsError(
        "the database URL is not usable", hint="sqlite:////path/phasesync.db or postgresql://user@host/database"
    )
