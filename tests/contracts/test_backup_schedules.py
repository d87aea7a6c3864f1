"""Schedules of backups: one for a place, claimed by one daemon at a time."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta

import pytest
import sqlalchemy as sa

from phasesync.core.backup_schedule import BackupSchedule, Bucket, Folder
from phasesync.errors import CiphertextError, InvalidInputError, NotFoundError
from phasesync.store import Store
from phasesync.store.backup_schedules import HELD_FOR
from phasesync.store.db_time import after
from phasesync.store.tables import backup_schedules
from tests.support.stores import open_test_store

HERE, S3 = Folder(path="/var/backups"), Bucket(name="backups", prefix="prod")
EVERY = timedelta(hours=6)


def schedule(store: Store, place: Folder | Bucket = HERE, *, keep: int = 28) -> BackupSchedule:
    region = "eu-west-1" if isinstance(place, Bucket) else None
    return store.backup_schedules.set(place, every=EVERY, keep=keep, credential_id=None, region=region, actor="ada")


def all_of(store: Store) -> list[BackupSchedule]:
    return list(store.backup_schedules.list_all().usable)


def move_on(store: Store, by: timedelta) -> None:
    """Have what is due later be due now."""
    with store.database.write() as connection:
        next_at = connection.scalar(sa.select(backup_schedules.c.next_at))
        assert next_at is not None
        connection.execute(backup_schedules.update().values(next_at=next_at - by - timedelta(seconds=1)))


def test_a_schedule_is_stored_and_replaced(store: Store) -> None:
    added = schedule(store)
    other = schedule(store, S3)
    changed = schedule(store, keep=2)

    assert (added.place, added.every, added.keep, added.added_by) == (HERE, EVERY, 28, "ada")
    assert (changed.id, changed.version, changed.keep) == (added.id, 2, 2)
    assert [one.id for one in all_of(store)] == [added.id, other.id]
    assert (other.region, other.place) == ("eu-west-1", S3)


def test_the_only_one_is_removed_without_a_name_and_others_by_place(store: Store) -> None:
    with pytest.raises(NotFoundError):
        store.backup_schedules.remove(None)
    schedule(store)
    schedule(store, S3)
    with pytest.raises(InvalidInputError, match=r"/var/backups, s3://backups/prod"):
        store.backup_schedules.remove(None)
    with pytest.raises(NotFoundError, match="there is one to /var/backups"):
        store.backup_schedules.remove(Folder(path="/elsewhere"))
    assert store.backup_schedules.remove(S3).place == S3
    assert store.backup_schedules.remove(None).place == HERE
    assert all_of(store) == []


def test_one_daemon_gets_it_and_another_once_that_one_has_died(store: Store, migrated_database_url: str) -> None:
    schedule(store)
    with closing(open_test_store(migrated_database_url)) as other:
        claimed = store.backup_schedules.claim_due()
        assert claimed is not None
        assert other.backup_schedules.claim_due() is None
        move_on(store, HELD_FOR)
        assert other.backup_schedules.claim_due() is not None


def test_the_next_one_is_due_after_the_interval(store: Store) -> None:
    schedule(store)
    claimed = store.backup_schedules.claim_due()
    assert claimed is not None
    store.backup_schedules.succeeded(claimed)

    (after_it,) = all_of(store)
    assert after_it.next_at is not None
    assert after_it.succeeded_at is not None
    assert timedelta(0) <= EVERY - (after_it.next_at - after_it.succeeded_at) < timedelta(minutes=1)
    assert store.backup_schedules.claim_due() is None
    move_on(store, EVERY)
    assert store.backup_schedules.claim_due() is not None


def test_a_failure_is_kept_until_one_succeeds(store: Store) -> None:
    schedule(store)
    claimed = store.backup_schedules.claim_due()
    assert claimed is not None
    store.backup_schedules.failed(claimed, "SettingsError", pause=timedelta(minutes=10))
    assert all_of(store)[0].error_class == "SettingsError"
    move_on(store, timedelta(minutes=10))
    again = store.backup_schedules.claim_due()
    assert again is not None
    store.backup_schedules.succeeded(again)
    (fixed,) = all_of(store)
    assert (fixed.error_class, fixed.failed_at is not None) == (None, True)


def test_a_daemon_that_stops_leaves_it_to_the_next(store: Store) -> None:
    schedule(store)
    claimed = store.backup_schedules.claim_due()
    assert claimed is not None
    store.backup_schedules.release(claimed)
    assert store.backup_schedules.claim_due() is not None


def test_a_schedule_that_was_changed_meanwhile_is_due_at_once(store: Store) -> None:
    schedule(store)
    claimed = store.backup_schedules.claim_due()
    assert claimed is not None
    schedule(store, keep=3)
    store.backup_schedules.succeeded(claimed)
    due = store.backup_schedules.claim_due()
    assert due is not None and due.keep == 3


def test_the_figures_say_that_one_is_failing_and_overdue(store: Store) -> None:
    def backups() -> tuple[int, int, bool]:
        found = store.figures.read(revocable=[]).backups
        return found.schedules, found.failing, found.overdue > timedelta(0)

    assert backups() == (0, 0, False)
    schedule(store)
    claimed = store.backup_schedules.claim_due()
    assert claimed is not None
    store.backup_schedules.succeeded(claimed)
    assert backups() == (1, 0, False)
    with store.database.write() as connection:
        connection.execute(backup_schedules.update().values(succeeded_at=after(-2 * EVERY - timedelta(minutes=1))))
    assert backups() == (1, 0, True)
    store.backup_schedules.failed(claimed, "SettingsError", pause=EVERY)
    assert backups() == (1, 1, True)


@pytest.mark.parametrize("column", ["id", "version", "sealed", "created_at"])
def test_one_that_was_altered_is_used_for_nothing(store: Store, column: str) -> None:
    schedule(store)
    with store.database.write() as connection:
        (row,) = connection.execute(sa.select(backup_schedules)).all()
        value = getattr(row, column)
        altered = {"id": "0" * 32, "version": 7, "sealed": value[:-1] + b"\0" if column == "sealed" else None}
        altered["created_at"] = row.created_at - timedelta(days=1)
        connection.execute(backup_schedules.update().values({column: altered[column]}))

    listed = store.backup_schedules.list_all()
    assert (listed.usable, len(listed.refused)) == ((), 1)
    with pytest.raises(CiphertextError):
        store.backup_schedules.claim_due()
    assert store.figures.read(revocable=[]).backups.failing == 1
    schedule(store)
    assert len(store.backup_schedules.list_all().usable) == 1, "as the hint says"
    assert store.backup_schedules.list_all().refused == ()
