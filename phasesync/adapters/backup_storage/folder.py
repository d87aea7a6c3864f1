"""A folder of this host, for backups. Files have mode 0600, and their names once they are complete."""

import errno
import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from phasesync.core.backup_schedule import Folder
from phasesync.errors import AlreadyExistsError, HostUnavailableError, NotFoundError, PhasesyncError, SettingsError
from phasesync.host_files import UnusableFileError, is_passing, make_private_folder, read_regular_file

_AT_ONCE: Final = 1 << 20


class FolderStorage:
    """The files of one folder; it is made if it is missing."""

    def __init__(self, place: Folder) -> None:
        self._folder = Path(place.path)

    def names(self) -> Mapping[str, int]:
        """Return the name of each file -> its bytes."""
        try:
            make_private_folder(self._folder)
            with os.scandir(self._folder) as entries:
                return {
                    entry.name: entry.stat(follow_symlinks=False).st_size
                    for entry in entries
                    if entry.is_file(follow_symlinks=False)
                }
        except OSError as error:
            raise self._failed(error) from None

    def put(self, name: str, file: Path, *, sha256: str, checkpoint: Callable[[], object]) -> None:
        """Store a file; see the port."""
        target, partial = self._folder / name, self._folder / f".{name}.partial"
        try:
            make_private_folder(self._folder)
            self._remove_partial(name)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with file.open("rb") as source, os.fdopen(os.open(partial, flags, 0o600), "w+b") as copy:
                while part := source.read(_AT_ONCE):
                    checkpoint()
                    copy.write(part)
                copy.flush()
                os.fsync(copy.fileno())
                # What the kernel would give to a reader now; not what is on the disk, which fsync has reported.
                copy.seek(0)
                digest = hashlib.sha256()
                while part := copy.read(_AT_ONCE):
                    checkpoint()
                    digest.update(part)
            if digest.hexdigest() != sha256:
                raise SettingsError(f"what was written to {self._folder} reads as other bytes: check the disk")
            if os.path.lexists(target):
                raise AlreadyExistsError(f"{target} exists already; a backup never overwrites")
            os.rename(partial, target)
            self._sync_names()
        except OSError as error:
            raise self._failed(error) from None
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def read(self, name: str, *, most_bytes: int) -> bytes:
        """Return the content of a small file. NotFoundError if there is none."""
        try:
            return read_regular_file(self._folder / name, most_bytes=most_bytes)[0]
        except UnusableFileError as error:
            if error.missing:
                raise NotFoundError(f"there is no {name} in {self._folder}") from None
            raise SettingsError(f"{self._folder / name} cannot be read: {error.reason}") from None

    def remove(self, name: str) -> None:
        """Remove a file; nothing happens if it is gone."""
        try:
            (self._folder / name).unlink(missing_ok=True)
            self._sync_names()
        except OSError as error:
            raise self._failed(error) from None

    def _remove_partial(self, name: str) -> None:
        """Remove what a process left that was killed. One daemon of an installation makes a backup at a time."""
        for partial in self._folder.glob(f".{name.rpartition('-')[0]}-*.partial"):
            partial.unlink(missing_ok=True)

    def _sync_names(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _failed(self, error: OSError) -> PhasesyncError:
        message = f"the folder for backups {self._folder} cannot be used: {error.strerror}"
        if is_passing(error) or error.errno in (errno.ENOSPC, errno.EDQUOT):
            return HostUnavailableError(message)
        hint = "the daemon needs a folder that it may write to"
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            hint += f"; under systemd: ReadWritePaths={self._folder} in a drop-in of its unit"
        return SettingsError(message, hint=hint)
