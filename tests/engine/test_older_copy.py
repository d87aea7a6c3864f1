"""
A copy of the database that somebody brought in without our knowledge: recognised before anything is written.

Each copy is made as people make them: pg_restore into a fresh database and over the old one, CREATE DATABASE ...
TEMPLATE, a snapshot of the data directory of a stopped server; on SQLite a file that is moved into the place.
"""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from phasesync.core.events import DatabaseCompared
from phasesync.core.run import Outcome, Run
from phasesync.core.sync import SyncConfig, Trigger
from phasesync.engine.claims import ClaimKeeper
from phasesync.engine.removal import remove_sync_and_objects
from phasesync.engine.stale_database import SKIP
from phasesync.errors import DestinationUnavailableError, PermissionDeniedError
from phasesync.store.tables import instance, journal
from tests.fakes.remote import REGION
from tests.support.databases import fresh_postgres_database, on_each_database
from tests.support.postgres import program_folder, start_server
from tests.support.stores import ACTOR, EXPIRED, open_test_store, sync_draft
from tests.support.world import World

API, WEB = "shop/api", "shop/web"

SQLITE = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
POSTGRESQL = pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)


@dataclass
class Shop:
    """A world with a second sync, `api`, of the same environment, on whatever database it is opened on next."""

    world: World

    @classmethod
    def begin(cls, url: str) -> "Shop":
        """Both objects are at AWS, and in step."""
        shop = cls(World(open_test_store(url)))
        shop.world.store.syncs.add_sync(sync_draft("api", region=REGION, config=SyncConfig(remote_name=API)))
        assert [shop.run("web").outcome, shop.run("api").outcome] == [Outcome.APPLIED, Outcome.APPLIED]
        return shop

    def open(self, url: str) -> None:
        """Go on with another database, as a new process."""
        former, self.world = self.world, World(open_test_store(url), begun=True)
        self.world.remote, self.world.destinations = former.remote, former.destinations
        self.world.reconciler = self.world.another_reconciler()
        self.world.destinations.log.clear()
        object.__setattr__(self.world.context, "make_destinations", lambda: former.destinations)

    def close(self) -> None:
        """End the process."""
        self.world.store.close()

    def run(self, name: str) -> Run:
        """Reconcile a sync once."""
        store = self.world.store
        claim = store.claims.claim(
            store.syncs.get_sync(name).id, "daemon", trigger=Trigger.MANUAL, actor=ACTOR, ttl=EXPIRED
        )
        run = self.world.another_reconciler().reconcile(claim, lambda: None)
        assert run is not None
        return run

    @property
    def lists(self) -> int:
        """How often AWS was asked for a list of everything."""
        return self.world.destinations.log.count("sweep")


@pytest.fixture
def shop(migrated_database_url: str) -> Iterator[Shop]:
    """A shop on a database of its own."""
    shop = Shop.begin(migrated_database_url)
    yield shop
    shop.close()


def write_more(shop: Shop) -> None:
    """After the copy was made, `web` is written again; `api` is not touched, so nothing at AWS proves it by itself."""
    shop.world.configure(description="later")
    shop.world.edit(URL="postgres://newer")
    assert shop.run("web").outcome is Outcome.APPLIED


def assert_refuses_to_write(shop: Shop) -> None:
    """The first thing that would be written is another object than the one that proves it."""
    world = shop.world
    newest, versions = world.text, len(world.remote.object(API).versions)
    world.edit(USER="from the older copy")

    run = shop.run("api")

    assert run.error is not None
    assert (run.outcome, run.error.cls) == (Outcome.REFUSED, "StaleDatabaseError")
    assert world.store.restore_mark.is_set()
    assert (world.text, len(world.remote.object(API).versions)) == (newest, versions)
    assert shop.run("web").outcome is not Outcome.APPLIED
    assert world.writes() == []


def postgres_program(name: str, *arguments: str) -> None:
    """Run a program of PostgreSQL. As root it would refuse to be the server, and nothing else."""
    subprocess.run([program_folder() / name, *arguments], check=True, capture_output=True)


def url_of_libpq(url: str) -> str:
    """A URL as PostgreSQL's own programs read it."""
    return url.replace("postgresql+psycopg:", "postgresql:")


# --- the copies


@SQLITE
def test_a_file_that_was_moved_into_the_place(shop: Shop, migrated_database_url: str, tmp_path: Path) -> None:
    """As a restore with `tar`, `rsync` or a backup program does it."""
    place, copy = Path(migrated_database_url.removeprefix("sqlite:///")), tmp_path / "copy.db"
    shop.world.store.database.checkpoint()
    shutil.copyfile(place, copy)
    write_more(shop)
    shop.close()
    for end in ("-wal", "-shm"):
        place.with_name(place.name + end).unlink(missing_ok=True)
    copy.rename(place)

    shop.open(migrated_database_url)

    assert_refuses_to_write(shop)


@POSTGRESQL
def test_a_database_made_from_a_template(
    shop: Shop, migrated_database_url: str, request: pytest.FixtureRequest
) -> None:
    """On the same server, within the same run of it."""
    shop.close()
    for copy in fresh_postgres_database(request, template=migrated_database_url.rpartition("/")[2].partition("?")[0]):
        shop.open(migrated_database_url)
        write_more(shop)
        shop.close()

        shop.open(copy)

        assert_refuses_to_write(shop)
        shop.close()


@POSTGRESQL
@pytest.mark.parametrize("over", [False, True], ids=["into a fresh database", "over the database itself"])
def test_what_pg_restore_brought_in(
    shop: Shop, migrated_database_url: str, tmp_path: Path, request: pytest.FixtureRequest, over: bool
) -> None:
    """With the same server, which runs on."""
    dump = str(tmp_path / "monday.dump")
    postgres_program("pg_dump", "--format=custom", "--file", dump, url_of_libpq(migrated_database_url))
    write_more(shop)
    shop.close()
    targets = iter([migrated_database_url]) if over else fresh_postgres_database(request, template=None)
    for target in targets:
        postgres_program("pg_restore", *(["--clean"] if over else []), "--dbname", url_of_libpq(target), dump)

        shop.open(target)

        assert_refuses_to_write(shop)
        shop.close()


@POSTGRESQL
def test_a_snapshot_of_the_storage(migrated_database_url: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """The data directory of a stopped server, put back later: the same cluster, database and table."""
    template = migrated_database_url.rpartition("/")[2].partition("?")[0]
    dump = str(tmp_path / "template.dump")
    postgres_program("pg_dump", "--format=custom", "--file", dump, url_of_libpq(migrated_database_url))
    with start_server() as server:
        server.create_database(template)
        url = server.url(template)
        postgres_program("pg_restore", "--dbname", url_of_libpq(url), dump)
        shop = Shop.begin(url)
        shop.close()
        data, snapshot = Path(server.socket_directory) / "data", Path(server.socket_directory) / "snapshot"
        server.halt()
        _copy_folder(data, snapshot)
        server.resume()
        shop.open(url)
        write_more(shop)
        shop.close()
        server.halt()
        shutil.rmtree(data)
        snapshot.rename(data)
        server.resume()

        shop.open(url)

        assert_refuses_to_write(shop)
        shop.close()


def _copy_folder(source: Path, target: Path) -> None:
    """With owners and modes, as a snapshot has them: the server does not run as root."""
    subprocess.run(["cp", "--archive", str(source), str(target)], check=True)


@pytest.fixture
def copied(
    shop: Shop, migrated_database_url: str, database_backend: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[str]:
    """The URL of a copy of the database as it was at the beginning of the test; the shop is at work on its own."""
    shop.close()
    if database_backend == "sqlite":
        place, copy = Path(migrated_database_url.removeprefix("sqlite:///")), tmp_path / "copy" / "phasesync.db"
        copy.parent.mkdir(mode=0o700)
        shutil.copyfile(place, copy)
        urls = iter([f"sqlite:///{copy}"])
    else:
        template = migrated_database_url.rpartition("/")[2].partition("?")[0]
        urls = fresh_postgres_database(request, template=template)
    for url in urls:
        shop.open(migrated_database_url)
        yield url
        shop.close()


@on_each_database
@pytest.mark.parametrize("accepts", [1, 3])
def test_a_copy_of_a_database_that_was_accepted_since(shop: Shop, copied: str, accepts: int) -> None:
    """It wrote nothing since they parted, so the first write of the accepted one is right after what was skipped."""
    for number in range(accepts):
        shop.world.store.restore_mark.accept(ahead=SKIP)
        shop.world.edit(URL=f"postgres://accepted-{number}")
        assert shop.run("web").outcome is Outcome.APPLIED
        assert shop.run("api").outcome is Outcome.APPLIED
    newest = shop.world.remote.object(API).text()
    shop.close()

    shop.open(copied)
    shop.world.edit(URL="postgres://older")
    runs = [shop.run("api"), shop.run("web")]

    assert runs[0].error is not None
    assert (runs[0].outcome, runs[0].error.cls) == (Outcome.REFUSED, "StaleDatabaseError")
    assert runs[1].outcome is not Outcome.APPLIED
    assert shop.world.store.restore_mark.is_set()
    assert (shop.world.remote.object(API).text(), shop.world.writes()) == (newest, [])


@on_each_database
def test_a_copy_that_has_a_sync_that_was_removed_with_its_secret(shop: Shop, copied: str) -> None:
    """Nothing was written since, and the deletion has no version: it is recognised by its tag, and not undone."""
    assert remove_sync_and_objects(shop.world.context, "web", actor=ACTOR).scheduled == (WEB,)
    shop.close()

    shop.open(copied)
    run = shop.run("web")

    assert run.error is not None
    assert (run.outcome, run.error.cls) == (Outcome.REFUSED, "StaleDatabaseError")
    assert shop.world.remote.object(WEB).deleted_at is not None
    assert shop.world.store.restore_mark.is_set()
    assert shop.world.writes() == []


# --- what is no older copy


def test_a_restart_of_a_daemon_costs_nothing(shop: Shop, migrated_database_url: str) -> None:
    """The same database on the same run of its server."""
    for _ in range(2):
        shop.close()
        shop.open(migrated_database_url)
        shop.world.edit(USER="after the restart")

        assert shop.run("api").outcome in (Outcome.APPLIED, Outcome.UNCHANGED)
        assert shop.lists == 0


def copy_that_is_not_older(shop: Shop) -> None:
    """Have the database count as brought in: the run of its server is another than the one that it was compared on."""
    with shop.world.store.database.write() as connection:
        connection.execute(instance.update().values(server="another run"))


def test_a_database_that_is_not_older_goes_on_after_one_list(shop: Shop, migrated_database_url: str) -> None:
    """As after a failover, a restart of the server, or `db copy`; the second process asks nothing more."""
    copy_that_is_not_older(shop)
    shop.world.edit(USER="first")

    assert [shop.run("api").outcome, shop.run("web").outcome] == [Outcome.APPLIED, Outcome.APPLIED]

    assert shop.lists == 1
    assert not shop.world.store.restore_mark.is_set()
    assert DatabaseCompared(places=1, objects=2, unanswered=0, older=False) in shop.world.events


def test_nothing_is_written_where_aws_gives_no_answer(shop: Shop) -> None:
    """The run fails as any run does that AWS does not answer, and the next one asks again."""
    copy_that_is_not_older(shop)
    shop.world.edit(USER="first")
    shop.world.destinations.fail("sweep", error=DestinationUnavailableError(), times=2)

    failed = shop.run("api")

    assert failed.error is not None
    assert failed.error.cls == "DestinationUnavailableError"
    assert shop.world.writes() == ["create", "create"]  # Those of the beginning.
    assert shop.run("api").outcome is Outcome.APPLIED
    assert shop.run("web").outcome is Outcome.APPLIED
    assert shop.lists == 3


def test_where_lists_are_denied_the_objects_are_described(shop: Shop) -> None:
    """A call for each, once; a later write of ours is found as well."""
    _forget_a_write(shop)
    newest = shop.world.text
    copy_that_is_not_older(shop)
    shop.world.edit(USER="first")
    shop.world.destinations.fail("sweep", error=PermissionDeniedError(action="secretsmanager:ListSecrets"), times=9)

    run = shop.run("api")

    assert run.error is not None
    assert run.error.cls == "StaleDatabaseError"
    assert shop.world.text == newest


def _forget_a_write(shop: Shop) -> None:
    """Write `web` again, and put the journal back to what it was before."""
    with shop.world.store.database.read() as connection:
        before = [row._asdict() for row in connection.execute(sa.select(journal))]
    write_more(shop)
    with shop.world.store.database.write() as connection:
        for row in before:
            connection.execute(journal.update().where(journal.c.id == row["id"]).values(**row))


def test_an_object_that_the_copy_never_wrote_proves_it_too(shop: Shop) -> None:
    """A sync that was added before the copy, and written first after it."""
    with shop.world.store.database.write() as connection:
        connection.execute(journal.delete().where(journal.c.remote_name == WEB))
    copy_that_is_not_older(shop)
    shop.world.edit(USER="first")

    run = shop.run("api")

    assert run.error is not None
    assert run.error.cls == "StaleDatabaseError"


def test_an_outside_write_proves_nothing(shop: Shop) -> None:
    """Its version is no token of ours: it is drift."""
    shop.world.remote.outside_put(WEB, "theirs")
    copy_that_is_not_older(shop)

    assert shop.run("web").outcome is Outcome.APPLIED


def test_an_accepted_copy_is_not_asked_about_again(shop: Shop) -> None:
    """What an operator decided holds on the next run of the server as well."""
    _forget_a_write(shop)
    copy_that_is_not_older(shop)
    shop.run("api")
    shop.world.store.restore_mark.accept(ahead=SKIP)

    shop.world.edit(URL="postgres://older")
    assert shop.run("web").outcome is Outcome.APPLIED
    copy_that_is_not_older(shop)
    shop.world.edit(URL="postgres://later")

    assert shop.run("web").outcome is Outcome.APPLIED


def test_a_server_that_is_started_anew_during_a_run_ends_the_run(shop: Shop) -> None:
    """What it read may be of another age than what is there now, so nothing more is written."""
    shop.world.edit(URL="postgres://newer")
    with shop.world.steps(
        lambda when, call: copy_that_is_not_older(shop) if (when, call) == ("after", "observe") else None
    ):
        store = shop.world.store
        keeper = ClaimKeeper(shop.world.context)
        claim = store.claims.claim(
            shop.world.sync_id, "daemon", trigger=Trigger.MANUAL, actor=ACTOR, ttl=shop.world.context.claim_ttl
        )
        run = shop.world.another_reconciler().reconcile(claim, keeper.hold(claim))

    assert run is not None
    assert run.outcome is Outcome.INTERRUPTED
    assert "newer" not in shop.world.text
