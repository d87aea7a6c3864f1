"""docs/storage-format.md is complete and true: a reader in another language, written from it, opens backups."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from phasesync.cli.main import cli
from phasesync.core.model import ValueType
from phasesync.store import migrate, open_database, tables
from phasesync.store.db_time import Instant, from_microseconds
from phasesync.store.encrypted_columns import ENCRYPTED
from phasesync.store.key_ring import ENVIRONMENT_KEY, KeyRing, WrappedKey, join_parts
from phasesync.store.secrets import version_context
from tests.support.stores import ROOT_KEY, open_test_store, opens_with, put, write, write_root_key
from tests.upgrade.conftest import unpacked
from tests.upgrade.origins import ROOT, origins, releases

READER = ROOT / "docs" / "examples" / "read-backup.mjs"
DOCUMENT = ROOT / "docs" / "storage-format.md"
MANY = 600
"""Secrets that take a table of SQLite over one page of pointers."""

with_node = pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node here")


@dataclass(frozen=True)
class Installed:
    """
    A database with something of everything.

    Attributes:
        before: a backup from before its root key was replaced.
        backup: one from after that.
    """

    before: Path
    backup: Path
    former_root_key: Path
    root_key: Path
    environ: dict[str, str]

    def phasesync(self, *args: str) -> Any:
        """Run a command that succeeds and prints JSON."""
        done = CliRunner().invoke(cli, [*args, "-o", "json"], env=self.environ, prog_name="phasesync")
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """A database that the first release began and this one goes on with; its data keys were replaced since."""
    folder = tmp_path_factory.mktemp("format")
    database = unpacked(releases()[0], folder)
    url = f"sqlite:///{database}"
    migrate.upgrade(url, opens_with())
    write_root_key(folder / "root.key")
    data = folder / "data"
    data.mkdir(mode=0o700)
    installed = Installed(
        before=folder / "before.db",
        backup=folder / "backup.db",
        former_root_key=folder / "former.key",
        root_key=folder / "root.key",
        environ={
            "HOME": str(folder),
            "PHASESYNC_DATA_DIR": str(data),
            "PHASESYNC_DATABASE_URL": url,
            "PHASESYNC_ROOT_KEY_FILE": str(folder / "root.key"),
        },
    )
    store = open_test_store(url)
    put(store, *(write(f"KEY_{n}", "v" * (n * 7)) for n in range(MANY)), environment="staging")
    put(store, write("QUOTED", 'a "quoted" \\ text\twith\x01controls'), write("ÜMLAUT", "ß"), environment="other")
    store.close()
    put(store := open_test_store(url), write("LATER", "under the new key"))
    store.close()
    installed.phasesync("keys", "rotate-data")
    installed.phasesync("db", "backup", str(installed.before))
    shutil.copyfile(installed.root_key, installed.former_root_key)
    installed.phasesync("keys", "rotate-root")
    installed.phasesync("db", "backup", str(installed.backup))
    return installed


def read(backup: Path, *root_keys: Path) -> subprocess.CompletedProcess[str]:
    """Run the reader."""
    reading = ["node", str(READER), str(backup), *map(str, root_keys)]
    return subprocess.run(reading, capture_output=True, text=True, check=False, timeout=60)


@with_node
def test_the_reader_prints_what_secrets_get_reveals(installed: Installed) -> None:
    done = read(installed.backup, installed.root_key)

    assert (done.returncode, done.stderr) == (0, "")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    names = {(one["environment"], one["path"], one["key"]) for one in found}
    environments = [f"{one['app']}/{one['name']}" for one in installed.phasesync("envs", "list")["items"]]
    listed = {
        (environment, one["path"], one["key"])
        for environment in environments
        for one in every_item(installed, "secrets", "list", environment)
    }
    assert names == listed and len(found) == len(listed) > MANY
    some = [one for one in found if one["key"] == "KEY_599" or not one["key"].startswith("KEY_")]
    assert {one["type"] for one in some} == {kind.value for kind in ValueType}
    for one in some:
        got = installed.phasesync("secrets", "get", one["environment"], one["key"], "--path", one["path"], "--reveal")
        assert (got["type"], got["value"]) == (one["type"], one["value"])


def every_item(installed: Installed, *args: str) -> list[Any]:
    document = installed.phasesync(*args, "--limit", "1000")
    assert document["next"] is None
    items: list[Any] = document["items"]
    return items


def test_the_reader_has_at_most_200_lines_and_no_packages() -> None:
    lines = READER.read_text().splitlines()
    imported = set(re.findall(r"from '([^']+)'", READER.read_text()))

    assert len(lines) <= 200
    assert max(map(len, lines)) <= 120
    assert imported == {"node:crypto", "node:fs"}


@with_node
@pytest.mark.parametrize("origin", [one for one in origins() if one.schema >= "0003"], ids=lambda origin: origin.name)
def test_the_reader_opens_backups_of_former_schemas(origin: Any, tmp_path: Path) -> None:
    """As they were made: since the MACs of 0003."""
    write_root_key(tmp_path / "root.key")

    done = read(unpacked(origin, tmp_path), tmp_path / "root.key")

    assert (done.returncode, done.stderr) == (0, "")
    assert "postgres://shop:s3cret-3@db/shop" in done.stdout


@with_node
@pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
def test_the_reader_opens_a_backup_of_postgresql(migrated_database_url: str, tmp_path: Path) -> None:
    put(store := open_test_store(migrated_database_url), write("URL", "from PostgreSQL"))
    store.close()
    write_root_key(tmp_path / "root.key")
    environ = {
        "HOME": str(tmp_path),
        "PHASESYNC_DATABASE_URL": migrated_database_url,
        "PHASESYNC_ROOT_KEY_FILE": str(tmp_path / "root.key"),
    }
    copied = CliRunner().invoke(cli, ["db", "backup", str(tmp_path / "backup.db")], env=environ, prog_name="phasesync")
    assert copied.exit_code == 0, copied.stderr

    done = read(tmp_path / "backup.db", tmp_path / "root.key")

    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(line)["value"] for line in done.stdout.splitlines()] == ["from PostgreSQL"]


# --- what it refuses


Alteration = Callable[[sqlite3.Connection], object]
ALTERATIONS: dict[str, tuple[str, str]] = {
    "a value": (
        "UPDATE secret_versions SET value = substr(value, 1, 30) || x'00' || substr(value, 32)",
        "secret_versions.value",
    ),
    "a value that was moved": (
        "UPDATE secret_versions SET value = (SELECT value FROM secret_versions WHERE comment IS NOT NULL)",
        "secret_versions.value",
    ),
    "an older version": ("UPDATE secrets SET version = 1 WHERE version > 1", "the MAC of the environment"),
    "a hidden secret": ("UPDATE secrets SET is_set = 0", "the MAC of the environment"),
    "a removed secret": ("DELETE FROM secrets WHERE rowid = 1", "the MAC of the environment"),
    "an environment's name": ("UPDATE environments SET name = 'staging2'", "the MAC of the environment"),
    "an app's name": ("UPDATE apps SET name = 'other'", "the MAC of the environment"),
    "a data key": ("UPDATE data_keys SET purpose = 'environment'", "the data key"),
    "a credential": ("UPDATE credentials SET account = '999999999999'", "credentials.sealed"),
    "a row of the journal": ("UPDATE journal SET remote_name = 'elsewhere'", "journal.details"),
    "the actor of a row of the audit log": ("UPDATE audit SET actor = 'mallory' WHERE number = 2", "the row 2"),
    "a removed row of the audit log": (
        "DELETE FROM audit WHERE number = 2",
        "row 3 of the audit log (or of one missing before it)",
    ),
    "a cut end of the audit log": (
        "DELETE FROM audit WHERE number = (SELECT max(number) FROM audit)",
        "the end of the audit log",
    ),
    "the head of the audit log": ("UPDATE audit_head SET number = number - 1", "the head of the audit log"),
}


@with_node
@pytest.mark.parametrize("what", list(ALTERATIONS))
def test_the_reader_prints_nothing_of_a_backup_with_an_alteration(
    what: str, installed: Installed, tmp_path: Path
) -> None:
    statement, named = ALTERATIONS[what]
    altered = tmp_path / "altered.db"
    shutil.copyfile(installed.backup, altered)
    with closing(sqlite3.connect(altered)) as connection, connection:
        assert connection.execute(statement).rowcount > 0

    done = read(altered, installed.root_key)

    assert (done.returncode, done.stdout) == (1, "")
    assert named in done.stderr


@with_node
def test_a_backup_needs_the_root_key_of_its_time(installed: Installed) -> None:
    former, present = installed.former_root_key, installed.root_key

    for backup, wrong, right in ((installed.before, present, former), (installed.backup, former, present)):
        refused = read(backup, wrong)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "needs the root key" in refused.stderr
        assert read(backup, right).returncode == read(backup, wrong, right).returncode == 0
    assert ROOT_KEY.id in read(installed.before, present).stderr


@with_node
def test_the_reader_refuses_a_database_in_use(installed: Installed, tmp_path: Path) -> None:
    """Part of it is in another file, so what the reader would print is not what is in it."""
    copy = tmp_path / "used.db"
    shutil.copyfile(installed.backup, copy)
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("UPDATE apps SET description = 'of now'")

        done = read(copy, installed.root_key)

    assert (done.returncode, done.stdout) == (1, "")
    assert "phasesync db backup" in done.stderr


# --- the document


def section(title: str) -> str:
    text = DOCUMENT.read_text()
    assert f"\n## {title}\n" in text
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows_of(text: str) -> Iterator[list[str]]:
    """Yield the cells of the rows of all tables, without the heads."""
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith("| --"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def test_the_document_names_every_table_and_every_column() -> None:
    named = {cells[0].strip("`"): set(re.findall(r"`(\w+)`", cells[1])) for cells in rows_of(section("Tables"))}
    named.pop("table")
    there = {table.name: {column.name for column in table.columns} for table in tables.metadata.sorted_tables}

    assert named == there


def bound() -> dict[str, list[str]]:
    """Return table.column -> row, version and further parts, as the document says it."""
    cells = list(rows_of(section("Associated data")))[1:]
    return {name.strip("`"): re.findall(r"`([^`]+)`", parts) for name, _, parts, _ in cells}


def test_the_document_says_what_each_ciphertext_is_bound_to() -> None:
    """Compared with the code, which is given a row in which every column holds its own name."""
    stated = bound()

    encrypted = {f"{each.table.name}.{column}": of for each in ENCRYPTED for column, of in each.columns.items()}
    assert set(stated) == set(encrypted)
    for name, context_of in encrypted.items():
        table, column = name.split(".")
        row = Named(tables.metadata.tables[table])
        context = [row.name_at.get(part, part) for part in context_of(cast("sa.Row[Any]", row))]
        assert context == [table, stated[name][0], column, *stated[name][1:]], name


class Named:
    """A row in which every column holds its own name; an instant is one that `name_at` has the name of."""

    def __init__(self, table: sa.Table) -> None:
        instants = [column.name for column in table.columns if isinstance(column.type, Instant)]
        self.name_at = {str(count): name for count, name in enumerate(instants, start=1_000_000)}
        self._values: dict[str, Any] = {column.name: column.name for column in table.columns}
        self._values |= {"environment_id": "environment_id"}  # Of its secret.
        self._values |= {name: from_microseconds(int(count)) for count, name in self.name_at.items()}

    def __getattr__(self, name: str) -> Any:
        return self._values[name]

    def _asdict(self) -> dict[str, Any]:
        return self._values


def test_the_reader_has_what_the_document_says_of_it() -> None:
    contexts = READER.read_text().partition("const CONTEXTS = {")[2].partition("\n}")[0]

    assert dict(re.findall(r"'([a-z_]+\.[a-z_]+)': '([^']+)'", contexts)) == {
        name: " ".join(parts) for name, parts in bound().items()
    }


def test_the_document_names_the_purpose_of_every_keyed_digest() -> None:
    stated = {cells[0].strip("`") for cells in rows_of(section("Keyed digests"))} - {"purpose"}
    code = [path.read_text() for path in (ROOT / "phasesync").rglob("*.py")]
    used = {purpose for text in code for purpose in re.findall(r"""\bdigest\(\s*["']([^"']+)["']""", text)}
    used |= {purpose for text in code for purpose in re.findall(r'^_(?:MAC_)?PURPOSE: Final = "([^"]+)"', text, re.M)}

    assert stated == used


def test_the_values_to_test_with_are_those_of_the_code() -> None:
    stated = [cells[1].strip("`") for cells in rows_of(section("Values to test with"))][1:]
    material, nonce = bytes(range(32, 64)), bytes(range(12))
    key = WrappedKey(
        id="0a0b0c0d0e0f", purpose=ENVIRONMENT_KEY, root_key_id=ROOT_KEY.id, wrapped=bytes.fromhex(stated[3])
    )
    ring = KeyRing([ROOT_KEY], lambda: [key])

    assert stated[0] == ROOT_KEY.id
    assert stated[1] == HKDF(SHA256(), 32, None, b"phasesync v1 wrap").derive(ROOT_KEY.material).hex()
    assert stated[2] == join_parts([b"ab", b""]).hex()
    assert key.wrapped.startswith(nonce)
    assert ring.decrypt(version_context("e1", "s1", "value", 3), bytes.fromhex(stated[4])) == b"thello"
    assert AESGCM(material).decrypt(nonce, bytes.fromhex(stated[4])[19:], associated("e1/s1")) == b"thello"
    digest_key = ring.rewrap(key, ROOT_KEY.id)
    assert ring.digests_of(digest_key).digest("secret-lookup", b"e1", b"/", b"KEY").hex() == stated[5]


def associated(row: str) -> bytes:
    """The associated data of the example, as the document says it: not by the code of the store."""
    parts = [bytes.fromhex("010a0b0c0d0e0f"), b"secret_versions", row.encode(), b"value", b"3"]
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def test_the_document_is_linked_from_where_people_look() -> None:
    assert "storage-format.md" in (ROOT / "docs" / "operations.md").read_text()


def test_no_table_of_the_schema_is_without_a_rowid(tmp_path: Path) -> None:
    """The reader knows tables with rowids alone, as the document says."""
    url = f"sqlite:///{tmp_path / 'fresh.db'}"
    migrate.upgrade(url)
    with closing(open_database(url)) as database, database.read() as connection:
        made = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE type = 'table'").scalars().all()

    assert made and not [sql for sql in made if "WITHOUT ROWID" in sql.upper()]
