"""
Makes a backup that is due: a copy of the database, proved with the root key, in its place, and proved there. Only then
are old ones removed, if enough newer ones are there. What is removed and what counts as newer is ours by the MAC of its
manifest, which has to fit the name.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING

from phasesync.core.backup_schedule import TRY_AGAIN, BackupSchedule, backup_name, superfluous
from phasesync.core.events import BackupFailed, BackupMade, OldBackupsNotRemoved
from phasesync.engine.context import Context
from phasesync.engine.older_copy import is_restored
from phasesync.errors import (
    CiphertextError,
    HostUnavailableError,
    InterruptedRunError,
    NotFoundError,
    PhasesyncError,
    SettingsError,
    StaleDatabaseError,
)
from phasesync.ports.backups import BackupStorage, OpenStorage
from phasesync.store.backup_manifest import MOST_BYTES, SUFFIX, check_mac, manifest_of, parse_manifest

if TYPE_CHECKING:
    from phasesync.store.backup_check import VerifiedBackup
    from phasesync.store.backup_manifest import Manifest


class BackupMaker:
    """Makes the backups that are scheduled, one at a time."""

    def __init__(
        self,
        context: Context,
        *,
        open_storage: OpenStorage,
        database_url: str,
        folder: Path | None,
    ) -> None:
        """
        Args:
            context: of the installation.
            open_storage: returns the place of a schedule.
            database_url: of the installation.
            folder: where a backup is made before it goes to its place; None: where temporary files are.
        """
        self._context = context
        self._open_storage = open_storage
        self._database_url = database_url
        self._folder = folder
        self._proven: dict[str, set[tuple[str, int | None]]] = {}
        """Schedule -> name and bytes of what its place has, as far as their manifests were read and are ours."""

    def round(self, stopped: Callable[[], bool]) -> None:
        """
        Make every backup that is due. How each of them ended is stored, and an event says it.

        `stopped`: returns whether this daemon stops, or stands by now; asked often.
        """

        def checkpoint() -> None:
            if stopped():
                raise InterruptedRunError("phasesync was asked to stop")

        schedules = self._context.store.backup_schedules
        while not stopped() and (schedule := schedules.claim_due()) is not None:
            began = self._context.clock.monotonic()
            try:
                verified, manifest, storage = self._make(schedule, checkpoint)
            except InterruptedRunError:
                schedules.release(schedule)
                return
            except PhasesyncError as error:
                self._failed(schedule, error)
                continue
            except OSError as error:
                self._failed(schedule, HostUnavailableError(f"the backup could not be made: {error.strerror}"))
                continue
            # What follows is no reason to make another one.
            schedules.succeeded(schedule)
            removed = self._remove_old(storage, schedule, verified, manifest, checkpoint)
            self._context.events.emit(
                BackupMade(
                    place=str(schedule.place),
                    size=manifest.size,
                    rows=sum(manifest.rows.values()),
                    removed=removed,
                    duration_ms=round((self._context.clock.monotonic() - began) * 1000),
                )
            )

    def _failed(self, schedule: BackupSchedule, error: PhasesyncError) -> None:
        self._context.store.backup_schedules.failed(
            schedule, type(error).__name__, pause=min(TRY_AGAIN, schedule.every)
        )
        self._context.events.emit(
            BackupFailed(
                place=str(schedule.place), error=type(error).__name__, code=error.code, message=_with_hint(error)
            )
        )

    def _make(
        self, schedule: BackupSchedule, checkpoint: Callable[[], None]
    ) -> "tuple[VerifiedBackup, Manifest, BackupStorage]":
        # Imported here, since most daemons make none.
        from phasesync.store.backup import backup, digest_of_file
        from phasesync.store.backup_check import verify_backup

        storage = self._open_storage(schedule)
        storage.names()  # Whatever is wrong with the place is known before the work.
        keys = self._context.store.keys
        with _temporary_folder(self._folder, schedule.id) as folder:
            file = folder / "backup.db"
            backup(self._database_url, file, open_keys=lambda _: keys, checkpoint=checkpoint)
            checkpoint()
            verified = verify_backup(file, open_keys=lambda _: keys, folder=folder)
            if (manifest := verified.manifest) is None:
                raise SettingsError("the manifest of the backup is gone: something else removes files there")
            name = backup_name(manifest.instance_id, manifest.made_at)
            # First the manifest: a backup without one would belong to nobody.
            for end, source in ((SUFFIX, manifest_of(file)), ("", file)):
                digest = digest_of_file(source) if end else manifest.sha256
                storage.put(name + end, source, sha256=digest, checkpoint=checkpoint)
        return verified, manifest, storage

    def _remove_old(
        self,
        storage: BackupStorage,
        schedule: BackupSchedule,
        verified: "VerifiedBackup",
        made: "Manifest",
        checkpoint: Callable[[], None],
    ) -> int:
        """Remove backups beyond the newest ones; return how many were removed. An event says what went wrong."""
        removed: list[str] = []
        try:
            self._require_newest(verified)
            self._remove_beyond(storage, schedule, made, checkpoint, removed)
        except InterruptedRunError:
            pass  # They are removed after the next backup.
        except PhasesyncError as error:
            self._context.events.emit(
                OldBackupsNotRemoved(
                    place=str(schedule.place), error=type(error).__name__, code=error.code, message=_with_hint(error)
                )
            )
        return len(removed)

    def _require_newest(self, verified: "VerifiedBackup") -> None:
        """
        Raise an error if an older backup may hold what this database has lost.

        A copy that was restored, also to another host for a look, has the schedules of the original.
        """
        if is_restored(self._context):
            raise StaleDatabaseError(
                "this database is older than AWS, or was just restored: backups that are newer than it may be there",
                hint="phasesync db accept-restore, or phasesync db backup --every off",
            )
        if verified.tampered:
            raise CiphertextError(
                "the audit log was altered outside phasesync: older backups may hold what was in it",
                hint="phasesync audit verify names what; remove old backups by hand",
            )

    def _remove_beyond(
        self,
        storage: BackupStorage,
        schedule: BackupSchedule,
        made: "Manifest",
        checkpoint: Callable[[], None],
        removed: list[str],
    ) -> None:
        names = storage.names()
        former, proven = self._proven.get(schedule.id, set()), set()

        def is_ours(name: str) -> bool:
            checkpoint()
            size = names.get(name)
            found = (name, size) in former or self._is_ours(storage, name, size)
            if found:
                proven.add((name, size))
            return found

        old = superfluous(
            names,
            instance_id=self._context.instance_id,
            newest=backup_name(made.instance_id, made.made_at),
            keep=schedule.keep,
            suffix=SUFFIX,
            is_proven=is_ours,
        )
        self._proven[schedule.id] = proven
        for name in old:
            if not is_ours(name):
                continue
            # The manifest last: with it, an interrupted removal is gone on with.
            for each in (name, name + SUFFIX):
                storage.remove(each)
            if name in names:
                removed.append(name)

    def _is_ours(self, storage: BackupStorage, name: str, size: int | None) -> bool:
        """
        Return whether the manifest of a backup proves that this installation made it, then and with so many bytes.

        `size`: of the backup; None if only its manifest is there.
        """
        try:
            manifest = parse_manifest(storage.read(name + SUFFIX, most_bytes=MOST_BYTES), name=name + SUFFIX)
            return (
                backup_name(self._context.instance_id, manifest.made_at) == name
                and manifest.instance_id == self._context.instance_id
                and size in (None, manifest.size)
                and check_mac(manifest, self._context.store.keys)
            )
        except (NotFoundError, SettingsError, CiphertextError):
            return False


def _with_hint(error: PhasesyncError) -> str:
    return error.message if error.hint is None else f"{error.message}; {error.hint}"


@contextmanager
def _temporary_folder(parent: Path | None, schedule_id: str) -> Iterator[Path]:
    """Yield a private folder for one backup; what a process left there that was killed is removed first."""
    prefix, place = f".backup-{schedule_id}-", parent or Path(gettempdir())
    for former in place.glob(f"{prefix}*"):
        shutil.rmtree(former, ignore_errors=True)
    with TemporaryDirectory(prefix=prefix, dir=place) as folder:
        yield Path(folder)
