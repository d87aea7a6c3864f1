"""
Whoever may write to the database but has no root key: each column of each table changed, each row deleted or put back
as it was. AWS keeps what it has, whatever is done; what is worth more than a delay is in `docs/security.md`.
"""

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from phasesync.store import tables
from tests.support.altered_world import AlteredWorld

ROOT = Path(__file__).parents[2]


class Worth(Enum):
    """What an alteration is worth."""

    REFUSED = "refused"
    """Noticed: a run, a read or a list reports it, and nothing is written."""
    NOTHING = "nothing"
    """Shown at most; nothing that is done depends on it."""
    EXCEPTION = "exception"
    """Delays something, or hides it; `docs/security.md` says what."""


REFUSED, NOTHING, EXCEPTION = Worth

DECIDED: dict[str, dict[str, Worth]] = {
    "instance": {
        **dict.fromkeys(("id", "instance_id", "created_at", "restored_at", "generation_floor", "registry"), REFUSED),
        "retired_at": REFUSED,
        "retired_to": NOTHING,
        "server": EXCEPTION,
    },
    "schema_compatibility": dict.fromkeys(("id", "works_with"), EXCEPTION),
    "data_keys": {
        **dict.fromkeys(("id", "purpose", "root_key_id", "wrapped"), REFUSED),
        "created_at": NOTHING,
        "retired_at": EXCEPTION,
    },
    "apps": {
        **dict.fromkeys(("id", "name", "name_key", "windows"), REFUSED),
        **dict.fromkeys(("description", "created_at"), NOTHING),
    },
    "environments": {
        **dict.fromkeys(("id", "app_id", "name", "name_key", "revision", "data_key_id", "approvers", "mac"), REFUSED),
        "created_at": NOTHING,
    },
    "secrets": dict.fromkeys(("id", "environment_id", "lookup", "name", "version", "is_set"), REFUSED),
    "secret_versions": {
        **dict.fromkeys(("secret_id", "version", "value", "comment"), REFUSED),
        **dict.fromkeys(("revision", "changed_at", "changed_by", "origin", "approved_by"), NOTHING),
    },
    "credentials": {
        **dict.fromkeys(("id", "name", "name_key", "type", "region", "version", "account", "source_id"), REFUSED),
        "sealed": REFUSED,
        "status": EXCEPTION,
        "created_at": NOTHING,
        "verified_at": NOTHING,
    },
    "syncs": {
        **dict.fromkeys(("id", "name", "name_key", "environment_id", "path", "credential_id", "region"), REFUSED),
        **dict.fromkeys(("destination_kind", "version", "config", "account", "adopt", "adopt_versions"), REFUSED),
        **dict.fromkeys(("approved_digest", "mac", "paused_by", "paused_at", "paused_until"), REFUSED),
        **dict.fromkeys(
            ("destination_key", "applied_revision", "settled_status", "error_class", "failures"), EXCEPTION
        ),
        "status_since": EXCEPTION,
        "alerted_status": EXCEPTION,
        **dict.fromkeys(("objects", "retry_at", "next_due_at", "requested", "request_number", "woken_at"), EXCEPTION),
        **dict.fromkeys(("fence", "claim_owner", "claim_until", "claim_trigger", "claim_request"), EXCEPTION),
        **dict.fromkeys(("claimed_at", "interrupted_at"), EXCEPTION),
        **dict.fromkeys(("paused_reason", "status_reason", "last_run_id", "requested_by", "claim_actor"), NOTHING),
        **dict.fromkeys(("behind_since", "budget_full_at"), NOTHING),
        "created_at": NOTHING,
    },
    "sync_reads": dict.fromkeys(("sync_id", "environment_id", "revision"), EXCEPTION),
    "journal": {
        **dict.fromkeys(("id", "sync_id", "remote_name", "account", "region", "arn", "version_id"), REFUSED),
        **dict.fromkeys(("generation", "fingerprint", "details"), REFUSED),
    },
    "runs": {
        **dict.fromkeys(("id", "sync_id", "details"), REFUSED),
        **dict.fromkeys(("number", "trigger", "actor", "attempt", "outcome", "started_at", "ended_at"), NOTHING),
        **dict.fromkeys(("next_attempt_at", "aws_calls", "versions_written", "error_class"), NOTHING),
    },
    "dynamic_secrets": {
        **dict.fromkeys(("id", "name", "name_key", "path", "issuer", "version", "config", "leases_mac"), REFUSED),
        **dict.fromkeys(("environment_id", "credential_id"), REFUSED),
        "created_at": NOTHING,
    },
    "leases": {
        **dict.fromkeys(("id", "dynamic_id", "credential_id", "status", "requested_at", "expires_at"), REFUSED),
        **dict.fromkeys(("max_expires_at", "ended_at", "details", "mac"), REFUSED),
        **dict.fromkeys(("retry_at", "kept", "fence", "claim_owner", "claim_until"), EXCEPTION),
    },
    "lease_events": {
        **dict.fromkeys(("lease_id", "detail"), REFUSED),
        **dict.fromkeys(("number", "at", "event", "actor"), NOTHING),
    },
    "change_requests": dict.fromkeys(
        ("id", "environment_id", "digest", "status", "requested_at", "expires_at", "version", "details"), REFUSED
    ),
    "projects": dict.fromkeys(("id", "name", "name_key", "manage", "source", "applied_at", "applied_by"), EXCEPTION),
    "owned_objects": dict.fromkeys(("kind", "object_id", "project_id", "spec", "edited_at", "removed_at"), EXCEPTION),
    "notifications": {
        **dict.fromkeys(("id", "name", "name_key", "app_id", "version", "sealed"), REFUSED),
        "created_at": NOTHING,
    },
    "alerts": dict.fromkeys(
        ("id", "condition", "subject_kind", "subject_id", "subject", "since", "ended_at", "ended_by", "news_at"),
        EXCEPTION,
    ),
    "notices": dict.fromkeys(
        ("notification_id", "alert_id", "number", "next_at", "made_at", "message_id", "cause"), EXCEPTION
    ),
    "messages": {
        **dict.fromkeys(("id", "notification_id", "payload"), REFUSED),
        **dict.fromkeys(
            ("step", "condition", "created_at", "next_at", "after_id", "attempts", "error_class"), EXCEPTION
        ),
        "error_code": EXCEPTION,
        **dict.fromkeys(("sent_at", "claim_owner", "claim_until"), EXCEPTION),
    },
    "root_keys": {
        **dict.fromkeys(("id", "source", "status", "wrapped", "wrapped_by", "mac"), REFUSED),
        **dict.fromkeys(("created_at", "changed_at"), NOTHING),
    },
    "daemons": dict.fromkeys(
        ("owner", "host", "pid", "role", "started_at", "beat_at", "until", "root_keys", "release"), EXCEPTION
    ),
    "audit": dict.fromkeys([column.name for column in tables.audit.columns], REFUSED),
    "audit_head": dict.fromkeys([column.name for column in tables.audit_head.columns], REFUSED),
    "backup_schedules": {
        **dict.fromkeys(("id", "version", "sealed", "created_at"), REFUSED),
        **dict.fromkeys(("next_at", "succeeded_at", "failed_at", "error_class"), EXCEPTION),
    },
    "chores": dict.fromkeys(("name", "owner", "claimed_at"), EXCEPTION),
    "sweeps": dict.fromkeys(("destination_kind", "account", "region", "changed_since", "full_at"), EXCEPTION),
}
"""Table -> column -> what changing it is worth. A new column needs a decision; an exception stands there too."""

COLUMNS = [
    (table.name, column.name)
    for table in tables.metadata.sorted_tables
    for column in table.columns
    if column.name not in tables.GENERATED
]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> AlteredWorld:
    """The installation that every test has a copy of; made once."""
    world = AlteredWorld(tmp_path_factory.mktemp("original"))
    world.fill()
    return world


@pytest.fixture
def copies(original: AlteredWorld, tmp_path: Path) -> Callable[[], AlteredWorld]:
    """Make a copy of the installation."""
    folders = (tmp_path / str(number) for number in range(1000))

    def make() -> AlteredWorld:
        folder = next(folders)
        folder.mkdir()
        return original.copy_to(folder)

    return make


def is_kept(world: AlteredWorld, original: AlteredWorld) -> list[str]:
    """Return what is refused, once it is clear that AWS has what it had."""
    outcome = world.outcome()
    assert outcome.objects == original.objects()
    return outcome.refused


def test_what_nobody_altered_is_in_step_and_refused_nowhere(original, copies) -> None:
    assert is_kept(copies(), original) == []
    assert original.objects() == {
        "111122223333/eu-west-1/shop/web": '{"NOTE":"with a comment","REF":"db-2","URL":"second"}',
        "111122223333/eu-west-1/other/production/URL": "another's new",
        "111122223333/eu-west-1/other/production/USER": "another's USER",
        "111122223333/eu-west-1/other/production/PASSWORD": "another's PASSWORD",
    }


def test_every_column_has_a_decision_and_every_table_a_row() -> None:
    assert sorted((table, column) for table, columns in DECIDED.items() for column in columns) == sorted(COLUMNS)


def test_every_table_has_a_row_to_alter(original: AlteredWorld) -> None:
    assert [table.name for table in tables.metadata.sorted_tables if not original.all_rows()[table.name]] == []


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=[".".join(column) for column in COLUMNS])
def test_a_changed_column(original: AlteredWorld, copies: Callable[[], AlteredWorld], table: str, column: str) -> None:
    refused: list[str] = []
    done = 0
    rows = original.all_rows()[table]
    for value in alterations(rows, column):
        world = copies()
        if alter(world, table, rows[-1], column, value):
            done += 1
            refused += is_kept(world, original)
    assert done > 0, "nothing was altered"
    worth = DECIDED[table][column]
    if worth is REFUSED:
        assert refused != []
    elif worth is NOTHING:
        assert [message for message in refused if "authenticate" in message] == []


def alterations(rows: list[dict[str, Any]], column: str) -> Iterator[Any]:
    """Values to put into a column of the last row: another row's, one nearby, and none."""
    value = rows[-1][column]
    yield from [row[column] for row in rows if row[column] not in (value, None)][:1]
    match value:
        case int():
            yield from (value - 1, value + 7)
        case str():
            yield value + "x"
        case bytes():
            yield value[:-1] + bytes([value[-1] ^ 1])
        case None:
            yield from (1, "x")
    if value is not None:
        yield None


def alter(world: AlteredWorld, table: str, row: Mapping[str, Any], column: str, value: Any) -> bool:
    """Change a column of a row; return False where no database would take it."""
    keys = [key.name for key in tables.metadata.tables[table].primary_key]
    where = " AND ".join(f"{key} = ?" for key in keys)
    try:
        with world.connected() as connection:
            statement = f'UPDATE {table} SET "{column}" = ? WHERE {where}'
            return connection.execute(statement, [value, *(row[key] for key in keys)]).rowcount == 1
    except sqlite3.IntegrityError:
        return False


# --- rows


def row_names() -> list[str]:
    return [table.name for table in tables.metadata.sorted_tables]


@pytest.mark.parametrize("table", row_names())
def test_a_deleted_row_takes_nothing_from_aws(
    original: AlteredWorld, copies: Callable[[], AlteredWorld], table: str
) -> None:
    """Newest first: the objects of a sync that is gone stay as they are."""
    keys = [key.name for key in tables.metadata.tables[table].primary_key]
    for row in original.all_rows()[table][-3:]:
        world = copies()
        with world.connected() as connection:
            where = " AND ".join(f"{key} = ?" for key in keys)
            connection.execute(f"DELETE FROM {table} WHERE {where}", [row[key] for key in keys])
        is_kept(world, original)


@pytest.mark.parametrize("table", row_names())
def test_rows_that_are_put_back_as_they_were_bring_nothing_back_to_aws(
    original: AlteredWorld, copies: Callable[[], AlteredWorld], table: str
) -> None:
    """One after the other, and all of a table at once."""
    now = original.all_rows()[table]
    former = [row for row in original.rows[table] if row not in now]
    refused: list[str] = []
    for rows in [*([row] for row in former[:4]), former]:
        world = copies()
        put_back(world, {table: rows})
        refused += is_kept(world, original)
    assert (table in NOTICED) == (refused != [])


NOTICED = (
    "notifications",
    "environments",
    "secrets",
    "journal",
    "credentials",
    "dynamic_secrets",
    "leases",
    "syncs",
    "instance",
    "audit_head",
)
"""Tables of which an older row is refused, or reported."""

SOURCE = ("apps", "environments", "secrets", "secret_versions", "data_keys")
SYNCS = ("syncs", "sync_reads", "runs")


def put_back(world: AlteredWorld, former: Mapping[str, Sequence[dict[str, Any]]]) -> None:
    """Put rows of an earlier time in the place of what they are now."""
    with world.connected() as connection:
        for table, rows in former.items():
            for stored in rows:
                row = {name: value for name, value in stored.items() if name not in tables.GENERATED}
                names = ", ".join(f'"{name}"' for name in row)
                marks = ", ".join("?" for _ in row)
                connection.execute(f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})", list(row.values()))


@pytest.mark.parametrize(
    ("put", "word"),
    [
        (SOURCE, "CiphertextError"),
        (("syncs",), "CiphertextError"),
        ((*SOURCE, *SYNCS), "CiphertextError"),
        ((*SOURCE, *SYNCS, "journal"), "StaleDatabaseError"),
        ((*SOURCE, *SYNCS, "journal", "instance", "credentials", "dynamic_secrets", "leases"), "StaleDatabaseError"),
    ],
    ids=["an environment", "a sync", "with its syncs", "with their journal", "everything"],
)
def test_an_older_copy_that_is_authentic_in_itself_is_told_by_what_was_written(
    original: AlteredWorld, copies: Callable[[], AlteredWorld], put: tuple[str, ...], word: str
) -> None:
    """The journal knows which revision it wrote, and AWS has versions that an older journal does not know."""
    world = copies()
    put_back(world, {table: original.rows[table] for table in put})
    assert [message for message in is_kept(world, original) if word in message]


@pytest.mark.parametrize(
    "put",
    [("instance", "credentials", "dynamic_secrets", "notifications"), ("dynamic_secrets", "leases", "lease_events")],
    ids=["what is registered", "leases"],
)
def test_what_is_put_back_with_the_word_for_it_brings_nothing_back_to_aws(
    original: AlteredWorld, copies: Callable[[], AlteredWorld], put: tuple[str, ...]
) -> None:
    """Nothing distinguishes these from the newest rows; the document says what that allows."""
    world = copies()
    put_back(world, {table: original.rows[table] for table in put})
    is_kept(world, original)
    section = (ROOT / "docs" / "security.md").read_text()
    assert "can be put back with them, from one moment" in section


SWAPPED = {
    "the names of two environments of an app": ("environments", "name", "name_key", "shop/production", "shop/shared"),
    "the apps of two environments": ("environments", "app_id", None, "shop/production", "other/production"),
    "the data keys of two environments": ("environments", "data_key_id", None, "shop/production", "other/production"),
    "the names of two apps": ("apps", "name", "name_key", "shop", "other"),
    "the keys by which apps are found": ("apps", "name_key", None, "shop", "other"),
    "the names of two syncs": ("syncs", "name", "name_key", "web", "api"),
    "the keys by which syncs are found": ("syncs", "name_key", None, "web", "api"),
    "the names of two credentials": ("credentials", "name", "name_key", "aws", "second"),
    "the keys by which credentials are found": ("credentials", "name_key", None, "aws", "second"),
    "the keys by which recipes are found": ("dynamic_secrets", "name_key", None, "ci", "cd"),
}


@pytest.mark.parametrize("swapped", SWAPPED.values(), ids=SWAPPED)
def test_names_that_were_swapped_lead_nowhere(
    original: AlteredWorld, copies: Callable[[], AlteredWorld], swapped: tuple[str, str, str | None, str, str]
) -> None:
    table, *columns, first, second = swapped
    world = copies()
    rows = {label_of(world, table, row): row for row in world.all_rows()[table]}
    left, right = rows[str(first)], rows[str(second)]
    with world.connected() as connection:
        for column in filter(None, columns):
            for value, row in (("between", left), (left[column], right), (right[column], left)):
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", [value, row["id"]])
    assert is_kept(world, original) != []


def label_of(world: AlteredWorld, table: str, row: Mapping[str, Any]) -> str:
    """Return the name of a row, with its app's where it has one."""
    if table != "environments":
        return str(row["name"])
    apps = {app["id"]: app["name"] for app in world.all_rows()["apps"]}
    return f"{apps[row['app_id']]}/{row['name']}"


# --- what the document says


def test_the_document_names_the_exceptions_and_no_other() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    section = text.partition("\n## Someone who may write to the database\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    documented = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    exceptions = [
        f"{table}.{column}"
        for table, columns in DECIDED.items()
        for column, worth in columns.items()
        if worth is EXCEPTION
    ]
    assert sorted(documented) == sorted(exceptions)
