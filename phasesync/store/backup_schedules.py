"""
Backups by the daemon: what is asked for, which one is due, and how the newest attempt went.

What was asked for is one ciphertext, bound to its row. So whoever can write to the database but has no key cannot have
backups sent elsewhere; such a row is used for nothing, and reported.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.audit import AuditKind
from phasesync.core.backup_schedule import BackupPlace, BackupSchedule, Bucket, parse_place
from phasesync.errors import CiphertextError, InvalidInputError, NotFoundError
from phasesync.store.base import BaseStore, new_id
from phasesync.store.database import Database, row_lock
from phasesync.store.db_time import after, from_microseconds, now, to_microseconds
from phasesync.store.key_ring import CREDENTIALS_KEY, KeyRing
from phasesync.store.migrate import EXPECTED, status_of
from phasesync.store.tables import backup_schedules, instance

HELD_FOR: Final = timedelta(minutes=30)
"""How long a backup may take until another daemon makes it, if the one that began has died."""


@dataclass(frozen=True, kw_only=True)
class _Sealed:
    """The members that are stored encrypted. `every_s`: seconds."""

    place: str
    every_s: int
    keep: int
    credential_id: str | None
    region: str | None
    added_by: str


@dataclass(frozen=True, kw_only=True)
class Listed:
    """
    All schedules.

    Attributes:
        usable: those that authenticate, the oldest first.
        altered: the ids of the others.
        refused: what is wrong with those, one line each.
    """

    usable: tuple[BackupSchedule, ...]
    altered: tuple[str, ...]
    refused: tuple[str, ...]


class BackupScheduleStore(BaseStore):
    """Schedules of backups."""

    def set(
        self,
        place: BackupPlace,
        *,
        every: timedelta,
        keep: int,
        credential_id: str | None,
        region: str | None,
        actor: str,
    ) -> BackupSchedule:
        """
        Add a schedule, or replace the one of the same place. Its first backup is due at once.

        Rows that were altered are removed: they are used for nothing, and of which place they were is unknown.
        """
        sealed = _Sealed(
            place=str(place),
            every_s=int(every.total_seconds()),
            keep=keep,
            credential_id=credential_id,
            region=region,
            added_by=actor,
        )
        with self._database.write() as connection:
            # Two commands at once must not add two schedules of one place.
            connection.execute(row_lock(sa.select(instance.c.id))).all()
            self._remove_altered(connection)
            former = self._find(connection, place)
            if former is None:
                created_at = from_microseconds(connection.scalar(sa.select(now())) or 0)
                values: dict[str, Any] = {"id": new_id(), "version": 1, "created_at": created_at}
            else:
                values = {"id": former.id, "version": former.version + 1, "created_at": former.created_at}
            values["sealed"] = self._keys.encrypt_json(
                self._keys.data_key(CREDENTIALS_KEY), schedule_context(values), sealed
            )
            if former is None:
                connection.execute(backup_schedules.insert().values(**values, next_at=now()))
            else:
                here = backup_schedules.c.id == former.id
                connection.execute(backup_schedules.update().where(here).values(**values, next_at=now()))
            self._audit(
                connection,
                "db.schedule-backup",
                str(place),
                details={"every_s": sealed.every_s, "keep": keep, "credential_id": credential_id, "region": region},
            )
            return self._get(connection, values["id"])

    def remove(self, place: BackupPlace | None) -> BackupSchedule:
        """
        Remove the schedule of a place; None: the only one there is. What was made stays.

        NotFoundError, or InvalidInputError if there are several.
        """
        with self._database.write() as connection:
            connection.execute(row_lock(sa.select(instance.c.id))).all()
            listed = load_schedules(connection, self._keys)
            if place is None and len(listed.usable) > 1:
                raise InvalidInputError(
                    f"there are backups to {', '.join(str(one.place) for one in listed.usable)}", hint="name one: --to"
                )
            found = next((one for one in listed.usable if place is None or one.place == place), None)
            if found is None:
                places = ", ".join(str(one.place) for one in listed.usable)
                raise NotFoundError(
                    f"there is no schedule of backups{'' if place is None else f' to {place}'}"
                    f"{f'; there is one to {places}' if places else ''}",
                    hint="phasesync db status",
                )
            connection.execute(backup_schedules.delete().where(backup_schedules.c.id == found.id))
            self._audit(connection, "db.unschedule-backup", str(found.place))
            return found

    def _remove_altered(self, connection: sa.Connection) -> None:
        for schedule_id in load_schedules(connection, self._keys).altered:
            connection.execute(backup_schedules.delete().where(backup_schedules.c.id == schedule_id))
            self._audit(connection, "db.unschedule-backup", "altered", details={"id": schedule_id})

    def list_all(self) -> Listed:
        """Return all schedules, with what is wrong with those that were altered."""
        with self._database.read() as connection:
            return load_schedules(connection, self._keys)

    def claim_due(self) -> BackupSchedule | None:
        """
        Return a schedule whose backup is due, for this daemon alone, for `HELD_FOR`; None if none is due.

        CiphertextError: its row was altered. It is asked for again later.
        """
        due = sa.select(backup_schedules.c.id).where(backup_schedules.c.next_at <= now())
        with self._database.read_once() as connection:
            if connection.scalar(due.limit(1)) is None:
                return None
        if status_of(self._database).current != EXPECTED:
            return None  # A daemon of the release that migrated the database makes it.
        with self._database.write() as connection:
            locked = due.order_by(backup_schedules.c.next_at).limit(1).with_for_update(skip_locked=True)
            found = connection.scalar(locked)
            if found is None:
                return None
            here = backup_schedules.c.id == found
            connection.execute(backup_schedules.update().where(here).values(next_at=after(HELD_FOR)))
        with self._database.read() as connection:
            return self._get(connection, found)

    def succeeded(self, schedule: BackupSchedule) -> None:
        """Store that the backup of a schedule is complete; the next one is due `every` later."""
        with self._database.transaction() as connection:
            self._end(schedule, pause=schedule.every, succeeded_at=now(), error_class=None)
            self._audit(connection, "db.backup", str(schedule.place), kind=AuditKind.ACCESS)

    def failed(self, schedule: BackupSchedule, error_class: str, *, pause: timedelta) -> None:
        """Store that an attempt failed; the next one is due after a pause."""
        self._end(schedule, pause=pause, failed_at=now(), error_class=error_class)

    def release(self, schedule: BackupSchedule) -> None:
        """Have the backup of a schedule made at once, by whichever daemon comes first: this one stops."""
        self._end(schedule, pause=timedelta(0))

    def _end(self, schedule: BackupSchedule, *, pause: timedelta, **values: Any) -> None:
        # Unless somebody changed the schedule meanwhile: then a backup is due at once.
        here = (backup_schedules.c.id == schedule.id) & (backup_schedules.c.version == schedule.version)
        with self._database.write() as connection:
            connection.execute(backup_schedules.update().where(here).values(**values, next_at=after(pause)))

    def _find(self, connection: sa.Connection, place: BackupPlace) -> BackupSchedule | None:
        return next((one for one in load_schedules(connection, self._keys).usable if one.place == place), None)

    def _get(self, connection: sa.Connection, schedule_id: str) -> BackupSchedule:
        row = connection.execute(select_schedules().where(backup_schedules.c.id == schedule_id)).first()
        if row is None:
            raise NotFoundError("the schedule of backups was removed meanwhile", hint="phasesync db status")
        return to_schedule(row, self._keys)


def has_schedules(database: Database) -> bool:
    """Return whether there is any schedule, usable or not."""
    with database.read() as connection:
        return connection.scalar(sa.select(backup_schedules.c.id).limit(1)) is not None


def load_schedules(connection: sa.Connection, keys: KeyRing) -> Listed:
    """Return all schedules, as one transaction reads them."""
    usable, altered, refused = [], [], []
    for row in connection.execute(select_schedules()).all():
        try:
            usable.append(to_schedule(row, keys))
        except CiphertextError as error:
            altered.append(row.id)
            refused.append(error.message)
    return Listed(usable=tuple(usable), altered=tuple(altered), refused=tuple(refused))


def select_schedules() -> sa.Select[Any]:
    """Return the select behind `to_schedule`."""
    # SQLite stores text in any column, and the driver fails at text that is no UTF-8.
    sealed = sa.cast(backup_schedules.c.sealed, sa.LargeBinary).label("sealed")
    others = [column for column in backup_schedules.c if column is not backup_schedules.c.sealed]
    return sa.select(*others, sealed).order_by(backup_schedules.c.created_at, backup_schedules.c.id)


def to_schedule(row: sa.Row[Any], keys: KeyRing) -> BackupSchedule:
    """Decrypt a row of `select_schedules`. CiphertextError."""
    try:
        sealed = keys.decrypt_json_once(_Sealed, schedule_context(row._asdict()), row.sealed)
        place = parse_place(sealed.place)
    except (CiphertextError, InvalidInputError, TypeError, AttributeError):
        # SQLite stores a value of any type in any column.
        raise CiphertextError(
            "a schedule of backups does not authenticate: it was altered outside phasesync",
            hint="phasesync db backup --every 6h --to PLACE sets it anew",
        ) from None
    return BackupSchedule(
        id=row.id,
        version=row.version,
        place=place,
        every=timedelta(seconds=sealed.every_s),
        keep=sealed.keep,
        credential_id=sealed.credential_id,
        region=sealed.region if isinstance(place, Bucket) else None,
        added_by=sealed.added_by,
        next_at=row.next_at,
        succeeded_at=row.succeeded_at,
        failed_at=row.failed_at,
        error_class=row.error_class,
        created_at=row.created_at,
    )


def schedule_context(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the context of the ciphertext: it binds what was asked for to its row."""
    created_at: datetime = values["created_at"]
    created = str(to_microseconds(created_at))
    return ("backup_schedules", str(values["id"]), "sealed", str(values["version"]), created)
