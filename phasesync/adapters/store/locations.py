"""
Where a database lies: URLs made uniform, and a SQLite file checked before it is opened.

Makes the folder and the file with tight modes; never opens a database itself.
"""

import os
import re
import sqlite3
import stat
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote_to_bytes

import sqlalchemy as sa

from phasesync.adapters.store.postgresql_url import is_postgresql, parse_postgresql_url
from phasesync.errors import SettingsError, StoreUnavailableError
from phasesync.host_files import MOUNTS, is_passing, make_private_folder, mount_of

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


def _unusable(path: Path, error: OSError) -> SettingsError | StoreUnavailableError:
    message = f"the database {path} cannot be made or read: {error.strerror}"
    if is_passing(error):
        return StoreUnavailableError(message)
    return SettingsError(message, hint="choose another place with PHASESYNC_DATA_DIR, or correct the permissions")


def _not_a_url() -> SettingsError:
    # The text itself is not repeated: it may hold a password.
    return SettingsError(
        "the database URL is not usable", hint="sqlite:////path/phasesync.db or postgresql://user@host/database"
    )
