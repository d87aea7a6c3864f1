"""Transactions, the database's time, and the errors that they raise."""

import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from phasesync.demo.canary import CANARY_VALUE, find
from phasesync.errors import (
    AlreadyExistsError,
    InvalidInputError,
    PhasesyncError,
    SchemaMismatchError,
    SettingsError,
    StoreUnavailableError,
)
from phasesync.store import open_database
from phasesync.store.db_time import Instant, from_microseconds, now, to_microseconds
from phasesync.store.tables import apps
from tests.support.stores import open_test_store


@pytest.fixture
def database(migrated_database_url):
    opened = open_database(migrated_database_url)
    yield opened
    opened.close()


def app_row(name: str, **changes: object) -> dict[str, object]:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    return {"id": name, "name": name, "name_key": name, "description": "", "created_at": at, **changes}


def add_app(database, name: str = "a", *, first: str = "SELECT 1", fail: bool = False, **changes: object) -> None:
    """Add an app in one write, after a statement."""
    with database.write() as connection:
        connection.exec_driver_sql(first)
        connection.execute(apps.insert().values(app_row(name, **changes)))
        if fail:
            raise RuntimeError


def read_everything(database) -> None:
    with database.read() as connection:
        for table in apps.metadata.sorted_tables:
            connection.execute(sa.select(table)).all()


def names_in(database) -> list[str]:
    with database.read() as connection:
        return list(connection.scalars(sa.select(apps.c.name).order_by(apps.c.name)))


def test_a_write_is_undone_by_an_error(database):
    with pytest.raises(RuntimeError):
        add_app(database, fail=True)
    assert names_in(database) == []


def test_a_read_sees_one_moment(database):
    with database.write() as connection:
        connection.execute(apps.insert().values(app_row("a")))
    with database.read() as connection:
        before = connection.scalar(sa.select(sa.func.count()).select_from(apps))
        with database.write() as other:
            other.execute(apps.insert().values(app_row("b")))
        assert connection.scalar(sa.select(sa.func.count()).select_from(apps)) == before == 1
    assert names_in(database) == ["a", "b"]


@pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
def test_a_read_cannot_write(database):
    with pytest.raises(StoreUnavailableError, match="25006"), database.read() as connection:
        connection.execute(apps.insert().values(app_row("a")))


def test_the_databases_time_is_ours_to_the_millisecond(database):
    before = time.time()
    with database.read() as connection:
        clock = connection.scalar(sa.select(now()))
    assert before - 0.0015 <= clock / 1_000_000 <= time.time() + 0.0015


def test_an_instant_survives_to_the_microsecond(database):
    at = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    with database.write() as connection:
        connection.execute(apps.insert().values(app_row("a", created_at=at)))
    with database.read() as connection:
        assert connection.scalar(sa.select(apps.c.created_at)) == at


@pytest.mark.parametrize("at", [datetime(1900, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)])
def test_microseconds_and_instants_are_exact(at):
    assert from_microseconds(to_microseconds(at)) == at
    assert from_microseconds(to_microseconds(at) - 1) == at - timedelta(microseconds=1)


def test_an_instant_without_a_zone_is_refused():
    with pytest.raises(TypeError):
        Instant().process_bind_param(datetime(2026, 1, 2), None)  # type: ignore[arg-type]  # noqa: DTZ001


@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_sqlite_is_set_up_to_survive_a_power_cut(database):
    with database.read() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")
        }
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    assert found == {"journal_mode": "wal", "synchronous": 2}


# --- errors


def test_errors_tell_neither_statement_nor_parameters(database):
    add_app(database, description=CANARY_VALUE)
    with pytest.raises(AlreadyExistsError) as caught:
        add_app(database, description=CANARY_VALUE)
    error = caught.value
    assert error.__cause__ is None
    assert error.__suppress_context__
    assert find(f"{error!r} {error} {error.hint} {error.code}", [CANARY_VALUE]) == []
    assert "INSERT" not in str(error)


@pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("text", ["a\0b", "x" * 100])
def test_a_text_that_postgresql_does_not_take_is_the_operators_to_mend(database, text):
    with pytest.raises(InvalidInputError):
        add_app(database, name_key=text)


def test_a_text_without_a_utf8_form_is_the_operators_to_mend(database):
    with pytest.raises(InvalidInputError):
        add_app(database, description="\udcff")
    assert names_in(database) == []


def test_a_database_that_was_never_migrated_says_so(database_url):
    database = open_database(database_url, create=True)
    with pytest.raises(SchemaMismatchError) as caught, database.read() as connection:
        connection.execute(sa.select(apps))
    assert "phasesync db migrate" in str(caught.value.hint)
    database.close()


class TestSqliteFailures:
    @pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
    def test_a_locked_database_is_to_be_tried_again(self, database):
        with database.read() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout = 1")
        file = database.url.database
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailableError, match="locked"), database.write():
                pass

    @pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
    def test_a_full_disk_is_said_in_one_line(self, database):
        with pytest.raises(StoreUnavailableError, match="is full"):
            # Less than the file has already means: not a page more.
            add_app(database, first="PRAGMA max_page_count = 1", description="x" * 1_000_000)
        assert names_in(database) == []

    @pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
    def test_a_database_that_may_only_be_read_is_said_in_one_line(self, database):
        with pytest.raises(SettingsError, match="writing"):
            add_app(database, first="PRAGMA query_only = 1")

    @pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
    def test_a_damaged_database_asks_for_a_backup(self, migrated_database_url):
        store = open_test_store(migrated_database_url)
        path = str(store.database.url.database)
        store.close()
        with open(path, "r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * 4096 * 8)
        database = open_database(migrated_database_url)
        with pytest.raises(SettingsError, match="damaged") as caught:
            read_everything(database)
        assert "backup" in str(caught.value.hint)
        database.close()

    def test_another_kind_of_file_is_named(self, tmp_path):
        (tmp_path / "phasesync.db").write_bytes(b"not a database at all, " * 100)
        database = open_database(f"sqlite:///{tmp_path}/phasesync.db")
        with pytest.raises(SettingsError, match=r"phasesync\.db is not a phasesync database"), database.read():
            pass
        database.close()

    def test_a_folder_in_place_of_the_database_is_named(self, tmp_path):
        database = open_database(f"sqlite:///{tmp_path}")
        with pytest.raises(SettingsError), database.read():
            pass
        database.close()


class TestPostgresqlFailures:
    def refused(self, url: str) -> PhasesyncError:
        database = open_database(url)
        with pytest.raises(PhasesyncError) as caught, database.read():
            pass
        database.close()
        assert "hunter2" not in f"{caught.value} {caught.value.hint}"
        return caught.value

    def test_a_server_that_is_down_is_to_be_tried_again(self):
        error = self.refused("postgresql://ada:hunter2@127.0.0.1:1/shop")
        assert isinstance(error, StoreUnavailableError)
        assert "127.0.0.1/shop" in str(error)

    def test_a_database_that_does_not_exist_is_named(self, postgres_server):
        error = self.refused(postgres_server.url("nowhere"))
        assert isinstance(error, SettingsError)
        assert "does not exist" in str(error)

    def test_a_refused_login_is_named(self, postgres_server):
        error = self.refused(postgres_server.url().replace("postgres@", "nobody_known:hunter2@"))
        assert isinstance(error, SettingsError)
        assert "refused the login" in str(error)

    def test_a_server_without_connections_left_is_to_be_tried_again(self, postgres_server):
        """The server's text names a role, as the one of an unknown role does."""
        with postgres_server.connect() as connection:
            connection.execute("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0")
        error = self.refused(postgres_server.url().replace("postgres@", "crowded:hunter2@"))
        assert isinstance(error, StoreUnavailableError)
        assert error.code == "53300"
        assert "max_connections" in str(error.hint)

    @pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
    def test_a_database_that_does_not_hold_unicode_is_refused(self, postgres_server, encoding):
        name = f"in_{encoding.lower()}"
        with postgres_server.connect() as connection:
            connection.execute(
                f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE_PROVIDER libc LOCALE 'C'"
            )
        error = self.refused(postgres_server.url(name))
        assert isinstance(error, SettingsError)
        assert encoding in str(error)
        assert error.hint == f"make a new one: createdb -E UTF8 -T template0 {name}"

    def test_a_value_that_an_option_does_not_take_is_told_by_its_name(self, postgres_server):
        error = self.refused(f"{postgres_server.url()}&sslmode=hunter2")
        assert isinstance(error, SettingsError)
        assert "sslmode" in str(error)

    def test_a_server_without_tls_is_told_apart_from_one_that_is_down(self):
        with without_tls() as port:
            error = self.refused(f"postgresql://ada:hunter2@127.0.0.1:{port}/shop?sslmode=require")
        assert isinstance(error, SettingsError)
        assert "does not offer TLS" in str(error)

    @pytest.mark.parametrize("second", ["first", "last"])
    def test_the_host_that_is_up_is_found_among_several(self, postgres_server, second):
        up, down = postgres_server.socket_directory, "/nowhere"
        hosts = f"{down},{up}" if second == "last" else f"{up},{down}"
        database = open_database(f"postgresql://postgres@/postgres?host={hosts}")
        with database.read() as connection:
            assert connection.scalar(sa.select(1)) == 1
        database.close()

    def test_a_login_is_a_verdict_only_where_every_host_refuses_it(self, postgres_server):
        error = self.refused(f"postgresql://nobody_known:hunter2@/x?host=/nowhere,{postgres_server.socket_directory}")
        assert isinstance(error, StoreUnavailableError)

    @pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
    def test_text_is_unicode_whatever_the_url_says(self, migrated_database_url):
        database = open_database(f"{migrated_database_url}&client_encoding=latin1")
        add_app(database, description="日本")
        with database.read() as connection:
            assert connection.scalar(sa.select(apps.c.description)) == "日本"
        database.close()

    @pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
    def test_connections_to_a_server_that_only_answers_reads_are_dropped(self, database, postgres_server):
        """As after a failover that was noticed by no one: the pool is full of them."""
        name = database.url.database
        add_app(database, "before")
        with database.read(), database.read(), database.read():
            pass
        with postgres_server.connect() as connection:
            connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
            terminate(connection, name)
        for use in (database.check_writable, lambda: names_in(database), lambda: add_app(database, "lost")):
            with pytest.raises(StoreUnavailableError):
                use()
        with pytest.raises(StoreUnavailableError, match="read-only mode"):
            names_in(database)

        with postgres_server.connect() as connection:
            connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")

        add_app(database, "after")
        assert names_in(database) == ["after", "before"]

    @pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
    @pytest.mark.parametrize("state", ["0A000", "25006", "XX000", "54000", "F0000", "57P01", "08006"])
    def test_after_an_error_that_may_be_the_connections_new_ones_are_made(self, database, state):
        with database.read() as first, database.read() as second:
            former = {backend(first), backend(second)}
        with pytest.raises(StoreUnavailableError), database.write() as connection:
            connection.exec_driver_sql(f"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{state}'; END $$")
        with database.read() as first, database.read() as second:
            assert not former & {backend(first), backend(second)}

    @pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
    def test_what_worked_once_and_is_refused_later_is_no_verdict(self, database, postgres_server):
        """A password that was changed, a right that was withdrawn: the process goes on when that is put right."""
        add_app(database)
        with postgres_server.connect() as connection:
            connection.execute(f"ALTER DATABASE {database.url.database} ALLOW_CONNECTIONS false")
            terminate(connection, database.url.database)
            connection.execute(f"ALTER DATABASE {database.url.database} RENAME TO elsewhere")
        for _ in range(2):
            with pytest.raises(StoreUnavailableError):
                names_in(database)
        with postgres_server.connect() as connection:
            connection.execute(f"ALTER DATABASE elsewhere RENAME TO {database.url.database}")
            connection.execute(f"ALTER DATABASE {database.url.database} ALLOW_CONNECTIONS true")
        assert names_in(database) == ["a"]

    @pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
    def test_a_lost_connection_is_to_be_tried_again_and_mended_by_itself(self, database):
        with pytest.raises(StoreUnavailableError):
            add_app(database, first="SELECT pg_terminate_backend(pg_backend_pid())")
        assert names_in(database) == []


def backend(connection) -> int:
    """The server's process behind a connection."""
    return int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar())


def terminate(connection, name) -> None:
    """Break every connection to a database."""
    connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])


@contextmanager
def without_tls() -> Iterator[int]:
    """A server that answers every request for TLS with no; returns its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with suppress(OSError):
                while True:
                    client, _ = server.accept()
                    with client:
                        client.recv(8)
                        client.sendall(b"N")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_writes_of_one_transaction_are_kept_together(database):
    with database.transaction():
        with database.write() as connection:
            connection.execute(apps.insert().values(**app_row("a")))
        with database.write_once() as connection:
            connection.execute(apps.insert().values(**app_row("b")))
        with database.read() as connection, database.read_once() as other:
            assert set(connection.scalars(sa.select(apps.c.name))) == {"a", "b"}
            assert set(other.scalars(sa.select(apps.c.name))) == {"a", "b"}
    with database.read() as connection:
        assert set(connection.scalars(sa.select(apps.c.name))) == {"a", "b"}


def test_an_error_undoes_a_whole_transaction(database):
    def fail() -> None:
        with database.transaction():
            add_app_row(database, "a")
            raise InvalidInputError("no")

    with pytest.raises(InvalidInputError):
        fail()
    with database.write() as connection:
        assert connection.scalars(sa.select(apps.c.name)).all() == []


def test_a_rehearsal_leaves_nothing(database):
    with database.rehearsal():
        with database.write() as connection:
            connection.execute(apps.insert().values(**app_row("a")))
        with database.read() as connection:
            assert connection.scalars(sa.select(apps.c.name)).all() == ["a"]
    with database.write() as connection:
        assert connection.scalars(sa.select(apps.c.name)).all() == []


def test_a_rehearsal_in_a_rehearsal_takes_back_its_own_writes_alone(database):
    with database.rehearsal():
        with database.rehearsal():
            add_app_row(database, "a")
        with database.read() as connection:
            assert connection.scalars(sa.select(apps.c.name)).all() == []
        add_app_row(database, "b")
        with database.rehearsal():
            add_app_row(database, "c")
        with database.read() as connection:
            assert connection.scalars(sa.select(apps.c.name)).all() == ["b"]
    with database.read() as connection:
        assert connection.scalars(sa.select(apps.c.name)).all() == []


def test_other_threads_see_nothing_of_an_open_transaction(database):
    seen = []

    def read() -> None:
        with database.read() as connection:
            seen.extend(connection.scalars(sa.select(apps.c.name)))

    with database.transaction(), database.write() as connection:
        connection.execute(apps.insert().values(**app_row("a")))
        reader = threading.Thread(target=read)
        reader.start()
        reader.join()
    assert seen == []


def test_an_error_in_a_rehearsal_leaves_nothing_either(database):
    def fail() -> None:
        with database.rehearsal(), database.transaction():
            add_app_row(database, "a")
            raise InvalidInputError("no")

    with pytest.raises(InvalidInputError):
        fail()
    with database.write() as connection:
        assert connection.scalars(sa.select(apps.c.name)).all() == []


def test_a_rehearsal_locks_nothing_before_its_first_write(database):
    with database.rehearsal():
        with database.read() as connection:
            assert connection.scalars(sa.select(apps.c.name)).all() == []
        writer = threading.Thread(target=lambda: add_app_row(database, "b"))
        writer.start()
        writer.join()
        add_app_row(database, "a")
    with database.read() as connection:
        assert connection.scalars(sa.select(apps.c.name)).all() == ["b"]


def add_app_row(database, name: str) -> None:
    with database.write() as connection:
        connection.execute(apps.insert().values(**app_row(name)))


# --- what is measured


def test_each_transaction_is_measured_once(database) -> None:
    seen: list[tuple[str, float]] = []
    database.observe = lambda kind, seconds: seen.append((kind, seconds))
    names_in(database)
    add_app(database, "a")
    with suppress(RuntimeError):
        add_app(database, "b", fail=True)
    with database.read_once() as connection:
        connection.execute(sa.select(1))
    with database.transaction():
        names_in(database)
        add_app(database, "c")

    assert [kind for kind, _ in seen] == ["read", "write", "write", "read", "write"], "one that joins is a part of it"
    assert all(0 < seconds < 60 for _, seconds in seen)
