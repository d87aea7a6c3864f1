"""Where backups lie: a folder, or a bucket of Amazon S3."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from phasesync.core.backup_schedule import BackupSchedule


class BackupStorage(Protocol):
    """The files of one place, by name. Any call raises PhasesyncError."""

    def names(self) -> Mapping[str, int]:
        """Return the name of each file -> its bytes."""
        ...

    def put(self, name: str, file: Path, *, sha256: str, checkpoint: Callable[[], object]) -> None:
        """
        Store a file under a new name, whole or not at all; return once the place is proved to have its bytes.

        Args:
            name: of the file there.
            file: the file here.
            sha256: of its bytes, in hex.
            checkpoint: called now and then; what it raises ends the transfer.
        """
        ...

    def read(self, name: str, *, most_bytes: int) -> bytes:
        """Return the content of a small file. NotFoundError if there is none."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file; nothing happens if it is gone."""
        ...


OpenStorage = Callable[[BackupSchedule], BackupStorage]
"""Returns the place of a schedule."""
