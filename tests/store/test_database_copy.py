"""Copying a database: to another kind and back, after an interruption, and what is refused."""

import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from phasesync.core.backup_schedule import Folder
from phasesync.core.credential import CredentialDraft, CredentialType
from phasesync.core.lease_claim import Entry, LeaseEvent
from phasesync.core.model import SecretValue
from phasesync.core.project.ownership import Manage, ObjectKind
from phasesync.core.sync import Paused, SyncStatus, Trigger
from phasesync.errors import (
    AlreadyExistsError,
    ApprovalNeededError,
    CiphertextError,
    DatabaseCopyError,
    IllegalTransitionError,
    InvalidInputError,
    KeyUnavailableError,
    PhasesyncError,
    RetiredDatabaseError,
    SchemaMismatchError,
    StoreUnavailableError,
)
from phasesync.store import Database, Store, database_copy, initialise, open_database
from phasesync.store.authenticity import authenticate_all
from phasesync.store.database_copy import COPIED, CopiedDatabase, copy_database, preview_copy
from phasesync.store.migrate import status, upgrade
from phasesync.store.projects import Ownership
from phasesync.store.raw_rows import TableDigest, columns_of, read_rows
from phasesync.store.retire import retire, unretire
from phasesync.store.root_keys import NewRootKey
from phasesync.store.tables import leases, metadata, runs, syncs
from tests.support.alerts import leave_a_message
from tests.support.databases import copy_of_filled, fresh_postgres_database
from tests.support.stores import (
    EXPIRED,
    OTHER_ROOT_KEY,
    access_key,
    add_dynamic,
    add_sync,
    alter,
    claim_one,
    end_lease,
    issue_lease,
    open_test_store,
    opens_with,
    put,
    request_lease,
    settle,
    values_of,
    write,
)
from tests.support.values import new_entry

ENCRYPTED = [
    (table, column)
    for table in metadata.sorted_tables
    for column in table.columns
    if isinstance(column.type, sa.LargeBinary)
]
SqliteOnly = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
TTL = timedelta(minutes=1)
AT = datetime(2030, 1, 2, tzinfo=UTC)


@pytest.fixture
def target_url(database_backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database of the other kind."""
    if database_backend == "postgresql":
        yield f"sqlite:///{tmp_path / 'new' / 'copy.db'}"
    else:
        yield from fresh_postgres_database(request, template=None)


@pytest.fixture
def filled(request: pytest.FixtureRequest, database_backend: str, tmp_path: Path) -> Iterator[str]:
    """A database with something in nearly every table that is copied."""
    yield from copy_of_filled(request, database_backend, tmp_path, "to_be_copied", fill)


def fill(url: str) -> None:
    """Store what most databases have."""
    store = open_test_store(url)
    put(store, write("URL", "a"), write("UTF", "größer ✓"), write("LINES", "1\n2"))
    put(store, write("URL", "b", comment="why"))
    add_sync(store, "web")
    settle(store, claim_one(store))
    store.sync_requests.request("web", Trigger.MANUAL, actor="ada")
    put(store, write("LOG", "x"), environment="staging")
    add_sync(store, "api", environment="staging")
    store.sync_requests.pause("api", Paused(by="ada", at=AT, reason="freeze", until=None))
    store.credentials.add("hub", access_key())
    role = CredentialDraft(type=CredentialType.ASSUME_ROLE, region="eu-central-1", source_name="hub")
    for number in range(4):  # Ids are random: one of them comes before the one that it refers to.
        store.credentials.add(f"spoke-{number}", role)
    dynamic = add_dynamic(store, "ci")
    issue_lease(store, dynamic, keep={"CI_KEY_ID": SecretValue("AKIA"), "CI_SECRET_KEY": SecretValue("s3cret")})
    end_lease(store, issue_lease(store, dynamic))
    store.close()


def fill_the_rest(store: Store) -> None:
    """Store what most databases do not have: something in every encrypted column."""
    leave_a_message(store)
    back_up_daily(store)
    at_kms = NewRootKey(
        id="0123456789ab", kind="aws-kms", wrapped=b"by KMS", wrapped_by="arn:aws:kms:eu-central-1:1:key/k"
    )
    store.root_keys.begin(at_kms, kind_of_current="file")
    store.apps.add_app("owned", windows=["deny: 08:00-18:00"])
    owned = {(str(ObjectKind.APP), "an-id"): ("owned", {"description": ""}, "shop.yaml")}
    ownership = Ownership(name="shop", manage=Manage.TRACK, source="shop.yaml", objects=owned)
    store.projects.save(ownership, actor="ada")
    lease = issue_lease(store, store.dynamics.get("ci"))
    entry = Entry(event=LeaseEvent.RENEWED, actor="ada", detail="why")
    store.leases(ttl=TTL).change(lease.id, lambda lease, now: lease, entry=entry)
    claim = claim_one(store)
    store.journal.save_entry(claim, replace(new_entry(), sync_id=claim.sync_id))
    settle(store, claim, status=SyncStatus.HALTED, reason="denied")
    put(store, write("URL", "x"), environment="guarded")
    store.apps.protect_environment("shop", "guarded", approvers=1)
    with pytest.raises(ApprovalNeededError) as needed:
        put(store, write("URL", "y"), environment="guarded")
    store.change_requests.file(needed.value.proposal, list(needed.value.environments), actor="ada")


def back_up_daily(store: Store) -> None:
    store.backup_schedules.set(
        Folder(path="/backups"), every=timedelta(days=1), keep=7, credential_id=None, region=None, actor="ada"
    )


def rows_of(database_url: str, table: sa.Table) -> list[tuple[object, ...]]:
    """All rows of a table, without what says which database is in use."""
    columns = [column for column in table.columns if not column.name.startswith("retired_")]
    with closing(open_database(database_url)) as database, database.read() as connection:
        return [tuple(row) for row in connection.execute(sa.select(*columns).order_by(*table.primary_key.columns))]


def seen(database_url: str) -> object:
    """What an operator sees of a store."""
    with closing(open_test_store(database_url)) as store:
        return (
            store.instance_id,
            values_of(store),
            [version.comment for version in store.secrets.history("shop", "production", "/", "URL")],
            [(sync.name, sync.settled_status, sync.paused) for sync in store.syncs.list_syncs()],
            store.runs.list_runs(sync="web", limit=10),
            store.credentials.list_all(),
            store.leases(ttl=TTL).list_leases(),
        )


class Killed(BaseException):
    """The process died here."""


# --- the copy


def test_a_preview_makes_nothing_and_counts_what_is_copied(filled: str, target_url: str) -> None:
    """Also between the steps of a copy, and once it is complete."""
    previewed = preview_copy(filled, target_url)

    assert status(target_url).current is None
    upgrade(target_url)
    assert (previewed, previewed.begun) == (preview_copy(filled, target_url), False)
    copied = copy_database(filled, target_url)
    assert previewed.rows == {table.table: table.rows for table in copied.tables}
    assert (previewed.source, previewed.target) == (copied.source, copied.target)
    with pytest.raises(IllegalTransitionError, match="in use"):
        preview_copy(filled, target_url)


def test_a_copy_is_the_same_database_also_back_again(filled: str, target_url: str, tmp_path: Path) -> None:
    before = seen(filled)
    copied = copy_database(filled, target_url)

    assert seen(target_url) == before
    assert {table.table: table.rows for table in copied.tables}["runs"] == 1
    for table in COPIED:
        assert rows_of(target_url, table) == rows_of(filled, table)
    back = f"sqlite:///{tmp_path / 'back.db'}"
    assert copy_database(target_url, back).tables == copied.tables
    assert seen(back) == before
    assert stat.S_IMODE((tmp_path / "back.db").stat().st_mode) == 0o600


def test_everything_in_the_copy_authenticates(filled: str, target_url: str) -> None:
    copy_database(filled, target_url, verify=lambda target: authenticate_all(target, opens_with()(target)))

    with pytest.raises(RetiredDatabaseError, match=r"is retired since .*: it was copied to"):
        open_test_store(filled)


def test_a_copy_under_another_root_key_cannot_be_used(filled: str, target_url: str) -> None:
    with pytest.raises(PhasesyncError) as caught:
        copy_database(filled, target_url, verify=lambda target: opens_with(OTHER_ROOT_KEY)(target))

    assert caught.value.exit_code == 6
    with pytest.raises(RetiredDatabaseError, match="is not complete"):
        open_test_store(target_url)


def test_without_its_root_key_nothing_is_made_or_retired(filled: str, target_url: str) -> None:
    for copying in (copy_database, preview_copy):
        with pytest.raises(KeyUnavailableError):
            copying(filled, target_url, check=opens_with(OTHER_ROOT_KEY))

    assert status(target_url).current is None
    open_test_store(filled).close()


def test_a_failure_after_the_retirement_says_how_to_go_on(filled: str, target_url: str) -> None:
    def full(_target: Database) -> None:
        raise StoreUnavailableError("the disk is full; nothing was stored", hint="make room")

    with pytest.raises(StoreUnavailableError) as caught:
        copy_database(filled, target_url, verify=full)

    assert caught.value.hint == (
        "make room; the original is retired: repeat the command, or go on with it: phasesync db unretire"
    )
    with closing(open_database(filled)) as source:
        unretire(source)
    open_test_store(filled).close()


def test_a_database_that_was_taken_back_meanwhile_is_the_only_one(filled: str, target_url: str) -> None:
    """The copy stood still, and somebody took the original back: as before, one of the two can be used."""

    def take_back(table: TableDigest) -> None:
        if table.table == COPIED[-1].name:
            with closing(open_database(filled)) as source:
                unretire(source)

    with pytest.raises(DatabaseCopyError, match="was unretired while it was copied"):
        copy_database(filled, target_url, report=take_back)

    with pytest.raises(RetiredDatabaseError, match="is not complete"):
        open_test_store(target_url)
    with closing(open_test_store(filled)) as store:
        put(store, write("URL", "c"))
    copy_database(filled, target_url)
    assert seen(target_url)[1]["URL"] == "c"  # type: ignore[index]


@SqliteOnly
def test_a_change_of_any_encrypted_column_is_found(filled: str) -> None:
    """Also of ciphertexts that no run reads, as requests for approval; a changed audit chain, by its check."""
    with closing(open_test_store(filled)) as store:
        fill_the_rest(store)
        authenticate_all(store.database, store.keys)
        altered = set()
        for table, column in ENCRYPTED:
            name, where = f"{table.name}.{column.name}", column.is_not(None)
            key = list(table.primary_key.columns)
            with store.database.read() as connection:
                row = connection.execute(sa.select(*key, column.label("ciphertext")).where(where).limit(1)).first()
            assert row is not None, f"{name} is empty in the example"
            here = sa.and_(*(each == value for each, value in zip(key, row, strict=False)))
            flipped = row.ciphertext[:-1] + bytes([row.ciphertext[-1] ^ 1])
            with store.database.write() as connection:
                connection.execute(table.update().where(here).values({column.name: flipped}))
            try:
                authenticate_all(store.database, opens_with()(store.database))
            except CiphertextError:
                altered.add(name)
            if table.name.startswith("audit") and store.audit.verify().findings:
                altered.add(name)
            with store.database.write() as connection:
                connection.execute(table.update().where(here).values({column.name: row.ciphertext}))
        assert altered == {f"{table.name}.{column.name}" for table, column in ENCRYPTED}


def test_numbers_grow_beyond_those_of_rows_that_are_gone(filled: str, target_url: str) -> None:
    with closing(open_test_store(filled)) as store:
        for _ in range(3):
            settle(
                store,
                store.claims.claim(store.syncs.get_sync("web").id, "x", trigger=Trigger.MANUAL, actor="a", ttl=TTL),
            )
        with store.database.write() as connection:
            last = connection.scalar(sa.select(sa.func.max(runs.c.number)))
            connection.execute(runs.delete())
    copy_database(filled, target_url)

    with closing(open_test_store(target_url)) as store:
        settle(
            store, store.claims.claim(store.syncs.get_sync("web").id, "x", trigger=Trigger.MANUAL, actor="a", ttl=TTL)
        )
        with store.database.read() as connection:
            assert connection.scalar(sa.select(runs.c.number)) == last + 1


def test_claims_of_the_dead_are_free_at_once_by_any_clock(filled: str, target_url: str) -> None:
    with closing(open_test_store(filled)) as store:
        claim_one(store, ttl=EXPIRED)
        request_lease(store, store.dynamics.get("ci"), claim_ttl=EXPIRED)
    copy_database(filled, target_url)

    with closing(open_test_store(target_url)) as store:
        with store.database.read() as connection:
            for table in (syncs, leases):
                ends = connection.scalars(sa.select(table.c.claim_until).where(table.c.claim_owner.is_not(None))).all()
                assert [end.year for end in ends] == [1970]
        assert store.claims.release_expired() == ["web"]


# --- an interruption


def test_a_copy_that_died_anywhere_goes_on_and_duplicates_nothing(
    filled: str, target_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = seen(filled)
    died: set[object] = set()

    def once(where: object) -> None:
        if where not in died:
            died.add(where)
            raise Killed

    finish = database_copy._Copying.finish

    def dying_rows(database: Database, table: sa.Table, *args: object, **options: object) -> Iterator[object]:
        with closing(read_rows(database, table, *args, **options)) as rows:  # type: ignore[arg-type]
            for row in rows:
                yield row
                once(table)

    def dying_retire(*args: object, **options: object) -> None:
        once("before it was retired")
        retire(*args, **options)  # type: ignore[arg-type]
        once("after it was retired")

    def dying_finish(self: object, *args: object) -> CopiedDatabase:
        once("before it was finished")
        return finish(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(database_copy, "read_rows", dying_rows)
    monkeypatch.setattr(database_copy, "retire", dying_retire)
    monkeypatch.setattr(database_copy._Copying, "finish", dying_finish)
    for _ in range(40):
        try:
            copy_database(filled, target_url)
        except Killed:
            assert status(target_url).retirement is not None
            with pytest.raises(RetiredDatabaseError, match="is not complete"):
                open_test_store(target_url)
        else:
            break

    assert len(died) > 12
    assert seen(target_url) == before


def test_after_a_return_to_the_original_the_copy_begins_again(
    filled: str, target_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(database_copy._Copying, "finish", fail)
        with pytest.raises(Killed):
            copy_database(filled, target_url)
    with closing(open_database(filled)) as database:
        unretire(database)
    with closing(open_test_store(filled)) as store:
        put(store, write("URL", "newer"))
    copy_database(filled, target_url)

    with closing(open_test_store(target_url)) as store:
        assert values_of(store)["URL"] == "newer"


# --- the retired database


def test_who_was_at_work_before_can_write_nothing_any_more(filled: str, target_url: str) -> None:
    store = open_test_store(filled)
    sync = store.syncs.get_sync("web")
    writes: list[Callable[[], object]] = [
        lambda: put(store, write("URL", "lost")),
        lambda: claim_one(store),
        lambda: store.claims.claim(sync.id, "d", trigger=Trigger.MANUAL, actor="a", ttl=TTL),
        lambda: store.claims.write_conditions(sync.id),
        lambda: store.daemons.beat("d", host="h", pid=1, ttl=TTL),
        lambda: store.credentials.remove("spoke-1"),
        lambda: store.apps.add_app("new"),
        lambda: request_lease(store, store.dynamics.get("ci")),
    ]
    copy_database(filled, target_url)

    for one in writes:
        with pytest.raises(RetiredDatabaseError) as caught:
            one()
        assert caught.value.exit_code == 6
    store.close()


def test_a_retired_database_can_be_taken_back(filled: str, target_url: str) -> None:
    copy_database(filled, target_url)
    with closing(open_database(filled)) as database:
        unretire(database)
        with pytest.raises(IllegalTransitionError, match="is not retired"):
            unretire(database)

    with closing(open_test_store(filled)) as store:
        put(store, write("URL", "again"))
        assert values_of(store)["URL"] == "again"


def test_a_retired_database_is_not_initialised_again(filled: str, target_url: str) -> None:
    copy_database(filled, target_url)

    with closing(open_database(filled)) as database, pytest.raises(RetiredDatabaseError):
        initialise(database, opens_with()(database))


# --- what is refused


def test_nobody_is_at_work_when_it_is_retired(filled: str, target_url: str) -> None:
    with closing(open_test_store(filled)) as store:
        store.daemons.beat("daemon-1", host="db-1", pid=4711, ttl=TTL)
        with pytest.raises(IllegalTransitionError, match="pid 4711 on db-1") as caught:
            copy_database(filled, target_url)
        assert caught.value.exit_code == 4
        store.daemons.deregister("daemon-1")
        claim = claim_one(store)
        with pytest.raises(IllegalTransitionError, match="a sync is being reconciled by daemon-1"):
            copy_database(filled, target_url)
        store.claims.release(claim)
        assert status(target_url).current is None, "nothing was made there"

    copy_database(filled, target_url)


def test_only_an_empty_database_is_written_to(filled: str, target_url: str, tmp_path: Path) -> None:
    upgrade(target_url)
    with closing(open_database(target_url)) as database:
        initialise(database, opens_with()(database))
    with pytest.raises(AlreadyExistsError, match="is not empty: it holds another installation"):
        copy_database(filled, target_url)
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE notes (text)")
    with pytest.raises(AlreadyExistsError, match="tables of something else"):
        copy_database(filled, f"sqlite:///{tmp_path / 'other.db'}")

    open_test_store(filled).close()


def test_it_is_not_copied_to_itself(filled: str, database_backend: str, tmp_path: Path) -> None:
    spelled = f"{filled}{'&' if '?' in filled else '?'}connect_timeout=7"
    error: type[PhasesyncError] = IllegalTransitionError
    if database_backend == "sqlite":
        os.link(tmp_path / "phasesync.db", tmp_path / "linked.db")
        spelled, error = f"sqlite:///{tmp_path / 'linked.db'}", InvalidInputError
    with pytest.raises(error):
        copy_database(filled, spelled)

    open_test_store(filled).close()


def test_a_retired_database_is_copied_to_one_place_only(filled: str, target_url: str, tmp_path: Path) -> None:
    copy_database(filled, target_url)
    with pytest.raises(IllegalTransitionError, match="is this installation already, and is in use"):
        copy_database(filled, target_url)
    with pytest.raises(RetiredDatabaseError, match="that is not the target"):
        copy_database(filled, f"sqlite:///{tmp_path / 'third.db'}")
    with pytest.raises(IllegalTransitionError, match="is a retired database of this installation"):
        copy_database(target_url, filled)


def test_two_copies_at_once_make_one(filled: str, target_url: str) -> None:
    results: list[object] = []

    def copy() -> None:
        try:
            results.append(copy_database(filled, target_url))
        except PhasesyncError as error:
            results.append(error)

    upgrade(target_url)
    threads = [threading.Thread(target=copy) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not any(isinstance(result, CopiedDatabase) for result in results):
        copy_database(filled, target_url)  # They stopped each other: nothing is lost, and it is repeated.

    assert seen(target_url)


def test_a_database_without_an_installation_is_not_copied(database_url: str, tmp_path: Path) -> None:
    upgrade(database_url)
    with pytest.raises(SchemaMismatchError, match="is not initialised"):
        copy_database(database_url, f"sqlite:///{tmp_path / 'copy.db'}")


# --- what cannot be copied

ALTERATIONS = [
    ("syncs", "created_at", "'yesterday'", "text, not a number"),
    ("syncs", "objects", "1.5", "float, not a number"),
    ("syncs", "config", "CAST('x' AS BLOB)", "bytes, not text"),
    ("secrets", "is_set", "7", "the number 7 in place of a truth value"),
    ("secrets", "name", "'plain'", "text, not bytes"),
    ("apps", "description", "CAST(X'ff' AS TEXT)", "text that is not UTF-8"),
    ("apps", "description", "'a' || char(0) || 'b'", "text with a NUL"),
    ("apps", "name", "printf('%.100c', 'x')", "more than 64 characters"),
    ("syncs", "failures", "3000000000", "a number beyond 2147483647"),
]


@SqliteOnly
def test_a_value_that_postgresql_would_not_take_is_named(filled: str, tmp_path: Path) -> None:
    with closing(open_database(filled)) as source, closing(sqlite3.connect(tmp_path / "phasesync.db")) as connection:
        for name, column, value, message in ALTERATIONS:
            (row_id, before) = connection.execute(f"SELECT id, {column} FROM {name} ORDER BY id LIMIT 1").fetchone()
            connection.execute(f"UPDATE {name} SET {column} = {value} WHERE id = ?", (row_id,))
            connection.commit()
            table = metadata.tables[name]

            with pytest.raises(DatabaseCopyError, match=f"{name}.{column} of the row {row_id} holds {message}"):
                list(read_rows(source, table, columns_of(table), for_postgresql=True))

            connection.execute(f"UPDATE {name} SET {column} = ? WHERE id = ?", (before, row_id))
            connection.commit()


@SqliteOnly
def test_a_row_with_a_value_of_another_type_is_not_copied(filled: str, target_url: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "phasesync.db")) as connection:
        connection.execute("UPDATE syncs SET created_at = 'yesterday' WHERE name = 'web'")
        connection.commit()

    with pytest.raises(DatabaseCopyError, match=r"syncs.created_at of the row .* holds text") as caught:
        copy_database(filled, target_url)

    assert caught.value.exit_code == 6
    assert status(target_url).retirement is not None, "it cannot be used"


@SqliteOnly
def test_a_row_that_refers_to_nothing_is_not_copied(filled: str, target_url: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "phasesync.db")) as connection:
        connection.execute("DELETE FROM data_keys WHERE purpose = 'environment'")
        connection.commit()

    with pytest.raises(DatabaseCopyError, match="rows of environments refer to rows that are gone"):
        copy_database(filled, target_url)


def test_a_copy_that_differs_cannot_be_used(filled: str, target_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(database: Database, table: sa.Table, *args: object, **options: object) -> Iterator[object]:
        rows = read_rows(database, table, *args, **options)  # type: ignore[arg-type]
        if table is runs:
            next(rows)
        yield from rows

    monkeypatch.setattr(database_copy, "read_rows", forgetful)
    with pytest.raises(DatabaseCopyError, match=r"the table runs differs in the copy \(1 row, 0 in the copy\)"):
        copy_database(filled, target_url)

    with pytest.raises(RetiredDatabaseError, match="is not complete"):
        open_test_store(target_url)


def test_an_altered_row_is_found_with_the_root_key(filled: str, target_url: str) -> None:
    with closing(open_test_store(filled)) as store:
        alter(store, syncs, store.syncs.get_sync("web").id, path="/other")

    with pytest.raises(CiphertextError, match="the configuration of sync web"):
        copy_database(filled, target_url, verify=lambda target: authenticate_all(target, opens_with()(target)))
