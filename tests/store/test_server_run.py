"""The run of the server: the same for every connection and process, another one wherever a copy may have come in."""

import os
import shutil
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from phasesync.store import migrate, open_database
from phasesync.store.server_run import parse, render, run_of_file
from tests.support.stores import open_test_store


def run_of(url: str) -> str:
    with closing(open_test_store(url)) as store:
        return store.comparison.standing().run


def test_it_is_the_same_for_every_process(migrated_database_url: str) -> None:
    assert run_of(migrated_database_url) == run_of(migrated_database_url)


@pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("statement", ["VACUUM FULL instance", "TRUNCATE instance"])
def test_another_file_of_the_table_is_another_run(migrated_database_url: str, statement: str) -> None:
    """As after `pg_restore --clean`, or COPY into a table that was emptied."""
    with closing(open_test_store(migrated_database_url)) as store:
        before = store.comparison.standing().run
        with store.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            row = connection.execute(sa.text("SELECT * FROM instance")).one()._asdict()
            connection.execute(sa.text(statement))
            if statement.startswith("TRUNCATE"):
                names = ", ".join(row)
                values = ", ".join(f":{name}" for name in row)
                connection.execute(sa.text(f"INSERT INTO instance ({names}) VALUES ({values})"), row)

        assert store.comparison.standing().run != before


@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_another_file_is_another_run(migrated_database_url: str, tmp_path: Path) -> None:
    """Under the same name, with the same content."""
    file = Path(migrated_database_url.removeprefix("sqlite:///"))
    before = run_of(migrated_database_url)
    shutil.copyfile(file, tmp_path / "copy.db")
    os.replace(tmp_path / "copy.db", file)

    assert run_of(migrated_database_url) != before


def test_a_file_of_the_same_inode_is_another_run(tmp_path: Path) -> None:
    """As after `rm` and `cp` on ext4. Whatever is written to a file, it is the same one."""
    file, place = tmp_path / "phasesync.db", (1, 2)
    file.write_bytes(b"first")
    before = run_of_file(file, place)
    if before.endswith(":"):
        pytest.skip("this file system does not say when a file was made")
    file.write_bytes(b"written again")
    assert run_of_file(file, place) == before
    file.unlink()
    file.write_bytes(b"first")

    assert run_of_file(file, place) != before


def test_an_installation_that_was_just_made_needs_no_comparison(database_url: str) -> None:
    """Nothing was written to AWS under its id."""
    migrate.upgrade(database_url)
    with closing(open_test_store(database_url)) as store:
        assert store.comparison.standing().compared


def test_places_that_gave_no_answer_are_part_of_it() -> None:
    places = frozenset({"aws-secrets-manager/111122223333/eu-west-1", "aws-secrets-manager/111122223333/us-east-1"})

    assert parse(render("a:1:2", places)) == ("a:1:2", places)
    assert parse(render("a:1:2", frozenset())) == ("a:1:2", frozenset())
    assert parse(None) == (None, frozenset())


def test_an_altered_text_is_no_run_of_ours(migrated_database_url: str) -> None:
    """It costs a comparison."""
    with closing(open_database(migrated_database_url)) as database, database.write() as connection:
        connection.execute(sa.text("UPDATE instance SET server = '|||'"))
    with closing(open_test_store(migrated_database_url)) as store:
        assert not store.comparison.standing().compared
