"""
Safe access to the few files of this host that phasesync reads and makes: settings, root key, database folder.

A path may lead to anything: a FIFO that never ends, a device, a file of gigabytes. Only regular files of bounded size
are read. New folders are for this user alone, whatever the umask. The content of the files is not interpreted here.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MOUNTS: Final = Path("/proc/self/mounts")
"""The kernel's list of mounts for this process (proc(5))."""

_FOR_NOW: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.EINTR, errno.EIO, errno.ESTALE}
)
"""The host cannot do it now, and can when the load or the fault is gone: nothing is wrong with the path."""

_KINDS: Final = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class UnusableFileError(Exception):
    """
    A file could not be read.

    Attributes:
        reason: why, without the path.
        passing: whether the cause is the host and not the path, so that another try may succeed.
        missing: whether there is no such file.
    """

    def __init__(self, reason: str, *, passing: bool = False, missing: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.passing = passing
        self.missing = missing


def is_passing(error: OSError) -> bool:
    """Return whether an error has a passing cause on this host, which the request did not cause."""
    return error.errno in _FOR_NOW


def shortage(error: BaseException) -> str | None:
    """Return what this process or its host lacked when an error was raised; None if the error says nothing of that."""
    if isinstance(error, MemoryError):
        return "there is no memory left"
    if isinstance(error, RuntimeError) and str(error) == _NO_THREAD:
        return "no thread can be started"
    if isinstance(error, OSError) and is_passing(error):
        return os.strerror(error.errno or 0).lower()
    return None


_NO_THREAD: Final = "can't start new thread"
"""Python's own sentence: the error has no class of its own."""


def read_regular_file(path: Path, *, most_bytes: int) -> tuple[bytes, os.stat_result]:
    """
    Return the content and the status of a file.

    Args:
        path: of a regular file; symlinks are followed.
        most_bytes: how large it may be.

    Raises:
        UnusableFileError: it cannot be read, is no regular file or is too large.
    """
    with _file_errors():
        # Checked before it is opened: to open some devices has side effects.
        _require_regular(os.stat(path))
        # A FIFO that takes its place meanwhile must not block.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            _require_regular(status)
            data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise UnusableFileError(f"it is larger than {most_bytes:,} bytes")
    return data, status


def file_exists(path: Path) -> bool:
    """Return whether there is a file. UnusableFileError if that cannot be checked."""
    try:
        with _file_errors():
            os.stat(path)
    except UnusableFileError as error:
        if error.missing:
            return False
        raise
    return True


def make_private_folder(path: Path) -> None:
    """Make a folder and its missing parents, each for this user alone (0700). OSError."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        if path.parent == path:
            break
        path = path.parent
    for folder in reversed(missing):
        # Path.mkdir(parents=True) uses its mode for the last folder only, and the umask for the others.
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except FileExistsError:
            what = "is a link that leads nowhere" if folder.is_symlink() else "is no folder"
            raise NotADirectoryError(errno.ENOTDIR, f"{folder} {what}") from None


def out_of_descriptors() -> bool:
    """Return whether this process, or its host, can open no further file; SQLite and libpq do not report that."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    return False


@dataclass(frozen=True, kw_only=True)
class Mount:
    """
    A mounted file system.

    Attributes:
        point: where it is mounted.
        source: the device, the share or the program that is mounted.
        kind: type of the file system, such as ext4 or fuse.sshfs.
        read_only: whether it cannot be written through this mount.
    """

    point: str
    source: str
    kind: str
    read_only: bool


def mount_of(path: Path, mounts: Path = MOUNTS) -> Mount | None:
    """Return the mount that a path is on, symlinks followed; None if it is not known."""
    real = os.path.realpath(path)
    mount: Mount | None = None
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    for line in lines:
        source, point, kind, options, *_ = [*line.split(" "), "", "", "", ""]
        point = _unescaped(point)
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        # A later line for the same mount point covers an earlier one.
        if inside and (mount is None or len(point) >= len(mount.point)):
            read_only = "ro" in options.split(",")
            mount = Mount(point=point, source=_unescaped(source), kind=kind, read_only=read_only)
    return mount


@contextmanager
def _file_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
        reason = error.strerror or type(error).__name__
        raise UnusableFileError(reason, passing=is_passing(error), missing=missing) from None
    except ValueError:  # Python's, for a NUL in a path
        raise UnusableFileError("the path holds a NUL") from None


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for test, name in _KINDS if test(status.st_mode)), "no file")
        raise UnusableFileError(f"it is {kind}, and a regular file is needed")


def _unescaped(text: str) -> str:
    """Return a field without escapes: the kernel writes space, tab, newline and backslash as octal (proc(5))."""
    for octal, character in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        text = text.replace(octal, character)
    return text
