"""The daemon makes backups: each is proved, and old ones go only after that, and only if they are ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from phasesync.adapters.backup_storage.folder import FolderStorage
from phasesync.core.backup_schedule import TRY_AGAIN, BackupSchedule, Folder, backup_name
from phasesync.core.events import BackupFailed, BackupMade, OldBackupsNotRemoved
from phasesync.engine.scheduled_backup import BackupMaker
from phasesync.errors import CiphertextError, DestinationUnavailableError, PermissionDeniedError
from phasesync.ports.backups import BackupStorage
from phasesync.store import Store
from phasesync.store.backup_check import verify_backup
from phasesync.store.backup_manifest import mac_of, manifest_of, read_manifest, write_manifest
from phasesync.store.db_time import now
from phasesync.store.restore_mark import set_mark
from phasesync.store.tables import audit, backup_schedules, secret_versions, sync_reads, syncs
from tests.support.databases import on_each_database
from tests.support.stores import add_sync, alter, open_test_store, opens_with, put, values_of, write
from tests.support.values import NOW

EVERY = timedelta(hours=6)


class Made:
    """An installation with a schedule, and what a daemon makes of it."""

    def __init__(self, store: Store, url: str, folder: Path) -> None:
        self.store = store
        self.folder = folder
        self.events: list[Any] = []
        clock = SimpleNamespace(now=lambda: NOW, monotonic=lambda: 0.0)
        context = SimpleNamespace(
            store=store, clock=clock, events=SimpleNamespace(emit=self.events.append), instance_id=store.instance_id
        )
        self.storage: Callable[[BackupSchedule], BackupStorage] = lambda schedule: FolderStorage(
            schedule.place if isinstance(schedule.place, Folder) else Folder(path="/")
        )
        self.work = folder.parent / "work"
        self.work.mkdir()
        self.maker = BackupMaker(
            context,  # type: ignore[arg-type]
            open_storage=lambda schedule: self.storage(schedule),
            database_url=url,
            folder=self.work,
        )

    def schedule(self, *, keep: int = 2) -> None:
        self.store.backup_schedules.set(
            Folder(path=str(self.folder)), every=EVERY, keep=keep, credential_id=None, region=None, actor="ada"
        )

    def make(self, *, stopped: Callable[[], bool] = lambda: False) -> Any:
        """Have the backup be due now, make it, and return its event."""
        with self.store.database.write() as connection:
            connection.execute(backup_schedules.update().values(next_at=now()))
        self.events.clear()
        self.maker.round(stopped)
        assert list(self.work.iterdir()) == [], "nothing temporary is left"
        return self.events[-1] if self.events else None

    def age(self, days: float) -> None:
        """Have the backup that was made last be made so many days before."""
        last = max(self.folder.glob("*.manifest.json"), key=lambda file: file.stat().st_ctime_ns)
        manifest = read_manifest(file := last.with_name(last.name.removesuffix(".manifest.json")))
        assert manifest is not None
        manifest = replace(manifest, made_at=NOW - timedelta(days=days))
        older = self.folder / backup_name(self.store.instance_id, manifest.made_at)
        last.unlink()
        write_manifest(replace(manifest, mac=mac_of(manifest, self.store.keys)), manifest_of(older))
        if file.exists():
            file.rename(older)

    def backups(self) -> list[Path]:
        return sorted(self.folder.glob(f"phasesync-{self.store.instance_id[:12]}-*.db"))


@pytest.fixture
def made(migrated_database_url: str, tmp_path: Path) -> Iterator[Made]:
    with closing(open_test_store(migrated_database_url)) as store:
        put(store, write("URL", "a"))
        add_sync(store, "web")
        yield Made(store, migrated_database_url, tmp_path / "backups")


@on_each_database
def test_a_backup_that_is_due_is_made_and_proved(made: Made) -> None:
    made.schedule()
    event = made.make()

    (file,) = made.backups()
    assert event == BackupMade(
        place=str(made.folder), size=file.stat().st_size, rows=event.rows, removed=0, duration_ms=0
    )
    assert verify_backup(file, open_keys=opens_with()).signed
    with closing(open_test_store(f"sqlite:///{file}")) as copy:
        assert values_of(copy) == {"URL": "a"}
    made.events.clear()
    made.maker.round(lambda: False)
    assert made.events == [], "the next one is due in six hours"


def test_only_so_many_are_kept(made: Made) -> None:
    made.schedule(keep=2)
    for days in (3, 2, 1):
        assert isinstance(made.make(), BackupMade)
        made.age(days)
    event = made.make()

    assert event.removed == 1
    kept = made.backups()
    assert len(kept) == 2
    assert sorted(made.folder.iterdir()) == sorted([*kept, *map(manifest_of, kept)])


def test_what_is_not_ours_stays_whatever_it_is_called(made: Made) -> None:
    """A file with our name and a manifest that does not authenticate, or none; and everything else."""
    made.schedule(keep=1)
    made.folder.mkdir()
    forged, bare = (made.folder / backup_name(made.store.instance_id, NOW - timedelta(days=n)) for n in (9, 8))
    for file in (forged, bare, made.folder / "notes.txt", made.folder / backup_name("f" * 32, NOW)):
        file.write_bytes(b"precious")
    manifest_of(forged).write_bytes(b'{"format": "phasesync-backup-1"}')
    before_it = set(made.folder.iterdir())
    made.make()
    made.age(1)
    made.make()

    assert before_it <= set(made.folder.iterdir())
    assert len(made.backups()) == 3


@pytest.mark.parametrize("manifest", [b"{}", b'{"format": "phasesync-backup-1"}', None], ids=["none", "forged", "copy"])
def test_names_that_somebody_chose_take_the_place_of_no_backup(made: Made, manifest: bytes | None) -> None:
    """Whoever may write to a place, and may not remove anything there, does not have the daemon do it."""
    made.schedule(keep=2)
    made.make()
    made.age(2)
    (real,) = made.backups()
    for name in (
        *(backup_name(made.store.instance_id, NOW + timedelta(days=36_500 + n)) for n in range(3)),
        *(backup_name(made.store.instance_id, NOW - timedelta(hours=n)) for n in range(3)),
    ):
        (made.folder / name).write_bytes(real.read_bytes())
        manifest_of(made.folder / name).write_bytes(manifest or manifest_of(real).read_bytes())
    before_it = set(made.folder.iterdir())

    event = made.make()

    assert event.removed == 0
    assert before_it < set(made.folder.iterdir())
    assert len(set(made.folder.iterdir()) - before_it) == 2


def test_backups_of_a_clock_that_was_ahead_replace_no_later_ones(made: Made) -> None:
    made.schedule(keep=2)
    for days in (-36_500, -36_501, 4, 3):
        made.make()
        made.age(days)
    event = made.make()
    assert event.removed == 1, "the oldest of three"
    assert len(made.backups()) == 4


def path_of_the_sync(store: Store) -> None:
    alter(store, syncs, store.syncs.get_sync("web").id, path="/other")


def current_value(store: Store) -> None:
    with store.database.write() as connection:
        assert connection.execute(secret_versions.delete().where(secret_versions.c.version == 2)).rowcount == 1


def former_value(store: Store) -> None:
    with store.database.write() as connection:
        assert connection.execute(secret_versions.delete().where(secret_versions.c.version == 1)).rowcount == 1


def what_the_sync_read(store: Store) -> None:
    with store.database.write() as connection:
        assert connection.execute(sync_reads.delete()).rowcount == 1


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (path_of_the_sync, "sync web"),
        (current_value, "versions of 1 secret of the environment shop/production are missing"),
        (former_value, "versions of 1 secret of the environment shop/production are missing"),
        (what_the_sync_read, "sync web in table sync_reads is missing"),
    ],
)
@on_each_database
def test_a_database_that_was_altered_removes_no_good_backup(
    made: Made, spoil: Callable[[Store], None], named: str
) -> None:
    put(made.store, write("URL", "b"))
    made.schedule(keep=1)
    made.make()
    made.age(1)
    good = set(made.folder.iterdir())
    spoil(made.store)
    event = made.make()

    assert isinstance(event, BackupFailed)
    assert (event.error, named in event.message) == (CiphertextError.__name__, True)
    assert set(made.folder.iterdir()) == good


def test_a_place_that_is_a_link_to_nothing_says_so(made: Made) -> None:
    made.folder.symlink_to(made.folder.parent / "gone")
    made.schedule()
    event = made.make()
    assert isinstance(event, BackupFailed)
    assert f"{made.folder} is a link that leads nowhere" in event.message


def test_a_place_that_fails_is_tried_again_soon_and_loses_nothing(made: Made) -> None:
    made.schedule(keep=1)
    made.make()
    made.age(1)
    good = set(made.folder.iterdir())

    def gone(_schedule: BackupSchedule) -> BackupStorage:
        raise DestinationUnavailableError("the bucket cannot be reached", code="x")

    working, made.storage = made.storage, gone
    event = made.make()
    assert (event.error, event.code) == ("DestinationUnavailableError", "x")
    (schedule,) = made.store.backup_schedules.list_all().usable
    assert schedule.next_at is not None
    assert schedule.failed_at is not None
    assert schedule.next_at - schedule.failed_at <= TRY_AGAIN
    assert set(made.folder.iterdir()) == good
    made.storage = working
    assert isinstance(made.make(), BackupMade)


@pytest.mark.parametrize("refused", ["names", "remove"])
def test_a_backup_counts_as_made_also_where_old_ones_cannot_be_removed(made: Made, refused: str) -> None:
    made.schedule(keep=1)
    made.make()
    made.age(1)

    class Keeping(FolderStorage):
        asked = 0

        def names(self) -> Mapping[str, int]:
            self.asked += 1
            if refused == "names" and self.asked > 1:
                raise PermissionDeniedError("not allowed", code="AccessDenied")
            return super().names()

        def remove(self, name: str) -> None:
            raise PermissionDeniedError("not allowed", code="AccessDenied")

    made.storage = lambda _: Keeping(Folder(path=str(made.folder)))
    assert made.make().removed == 0
    assert made.events[0].code == "AccessDenied"
    assert isinstance(made.events[0], OldBackupsNotRemoved)
    (schedule,) = made.store.backup_schedules.list_all().usable
    assert schedule.error_class is None
    assert schedule.next_at is not None
    assert schedule.succeeded_at is not None
    assert schedule.next_at - schedule.succeeded_at == EVERY
    assert len(made.backups()) == 2


def restored(store: Store) -> None:
    with store.database.write() as connection:
        set_mark(connection, store.keys)


def audit_cut(store: Store) -> None:
    with store.database.write() as connection:
        connection.execute(audit.delete().where(audit.c.number == 2))


@pytest.mark.parametrize("spoil", [restored, audit_cut])
def test_what_older_backups_may_hold_alone_stays(made: Made, spoil: Callable[[Store], None]) -> None:
    """A restored copy has the schedules of the original; a cut audit log may be whole in an older backup."""
    made.schedule(keep=1)
    made.make()
    made.age(1)
    spoil(made.store)

    assert made.make().removed == 0
    assert isinstance(made.events[0], OldBackupsNotRemoved)
    assert len(made.backups()) == 2


def test_a_daemon_that_stops_leaves_the_backup_to_another(made: Made) -> None:
    made.schedule()
    calls = iter(range(100))
    assert made.make(stopped=lambda: next(calls) > 2) is None
    assert list(made.folder.glob("*")) == []
    made.events.clear()
    made.maker.round(lambda: False)
    assert isinstance(made.events[-1], BackupMade)


class Killed(BaseException):
    """The process died here."""


@pytest.mark.parametrize("step", ["put 1", "put 2", "remove 1", "remove 2"])
def test_a_daemon_that_was_killed_leaves_what_the_next_goes_on_with(made: Made, step: str) -> None:
    made.schedule(keep=1)
    made.make()
    made.age(1)
    died = False

    class Dying(FolderStorage):
        def __init__(self) -> None:
            super().__init__(Folder(path=str(made.folder)))
            self.counts = {"put": 0, "remove": 0}

        def _die(self, what: str) -> None:
            nonlocal died
            self.counts[what] += 1
            if step == f"{what} {self.counts[what]}":
                died = True
                raise Killed

        def put(self, *args: Any, **options: Any) -> None:
            self._die("put")
            super().put(*args, **options)

        def remove(self, name: str) -> None:
            self._die("remove")
            super().remove(name)

    working, made.storage = made.storage, lambda _: Dying()
    with pytest.raises(Killed):
        made.make()
    assert died
    assert made.backups(), "there is always a good one"
    if step != "put 1":
        made.age(1 / 24)  # The next one is made in another second.
    made.storage = working
    made.make()
    kept = made.backups()
    assert verify_backup(kept[-1], open_keys=opens_with()).signed
    assert len(kept) == 1
    assert sorted(made.folder.iterdir()) == sorted([*kept, *map(manifest_of, kept)])


def test_what_a_killed_process_left_is_removed(made: Made) -> None:
    made.schedule()
    (schedule,) = made.store.backup_schedules.list_all().usable
    (made.work / f".backup-{schedule.id}-x").mkdir()
    (made.work / f".backup-{schedule.id}-x" / "backup.db").write_bytes(b"half")
    assert isinstance(made.make(), BackupMade)


def test_without_a_schedule_one_statement_finds_nothing(made: Made) -> None:
    from tests.support.sql import counted

    with counted(made.store.database.engine) as statements:
        made.maker.round(lambda: False)
    assert len(statements) == 1
