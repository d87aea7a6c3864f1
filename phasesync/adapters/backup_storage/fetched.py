"""A backup that lies in Amazon S3, as a private file of this host for as long as it is needed."""

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from phasesync.errors import HostUnavailableError, NotFoundError, PhasesyncError, SettingsError
from phasesync.host_files import is_passing, make_private_folder

_PREFIX: Final = ".fetched-backup-"
_LOCKED_AFTER_S: Final = 60
"""A folder that is older, and that nobody has locked, was left by a process that was killed."""


@contextmanager
def fetched(fetch: Callable[[str, Path], None], name: str, *, suffix: str, parent: Path) -> Iterator[Path]:
    """
    Yield a private copy of a backup, with its manifest beside it if there is one; both are removed at the end.

    Args:
        fetch: copies an object to a new file. NotFoundError if there is none.
        name: of the backup.
        suffix: of the name of its manifest.
        parent: the folder for the copy; what was left there by a process that was killed is removed.

    Raises:
        NotFoundError: there is no such backup.
        SettingsError, HostUnavailableError: it cannot be stored here.
    """
    with _private_folder(parent) as folder:
        file = folder / name
        try:
            with suppress(NotFoundError):
                fetch(name + suffix, folder / (name + suffix))
            fetch(name, file)
        except OSError as error:
            raise _failed(parent, error) from None
        yield file


@contextmanager
def _private_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder for this user alone. It is locked, so that another process knows that it is in use."""
    try:
        make_private_folder(parent)
        _remove_left(parent)
        folder = Path(mkdtemp(prefix=_PREFIX, dir=parent))
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _failed(parent, error) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _remove_left(parent: Path) -> None:
    for former in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # Another process removes it just now, or works with it.
            descriptor = os.open(former, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if time.time() - os.fstat(descriptor).st_mtime > _LOCKED_AFTER_S:
                    shutil.rmtree(former)
            finally:
                os.close(descriptor)


def _failed(folder: Path, error: OSError) -> PhasesyncError:
    message = f"the backup cannot be stored in {folder}: {error.strerror}"
    if is_passing(error) or error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HostUnavailableError(message)
    return SettingsError(message, hint="name a folder that can be written: PHASESYNC_DATA_DIR")
