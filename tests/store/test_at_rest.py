"""
What is on the disk: no value, key name, folder, comment, reason or credential in any form; and an alteration or a move
is noticed.
"""

from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from phasesync.core.model import SecretValue, SecretWrite
from phasesync.core.remote import Action, Intent
from phasesync.core.run import ChangeResult, Outcome, RunError
from phasesync.core.sync import Paused, SyncStatus
from phasesync.demo.canary import (
    CANARY_ACCESS_KEY_ID,
    CANARY_COMMENT,
    CANARY_KEY,
    CANARY_SECRET_ACCESS_KEY,
    CANARY_VALUE,
    find,
)
from phasesync.errors import CiphertextError
from phasesync.store import read_wrapped_keys, tables
from phasesync.store.key_ring import KeyRing
from phasesync.store.secrets import select_current, to_version
from tests.support.stores import (
    ROOT_KEY,
    access_key,
    add_sync,
    after,
    claim_one,
    put,
    run_of,
    settle,
    values_of,
    write,
)
from tests.support.values import NOW, entry

CANARY_PATH = "/cnry-f0lder-19be"
CANARY_EXTERNAL_ID = "cnry-external-1d-77aa"
CANARY_REASON = "cnry-reas0n-4411"
CANARIES = (
    CANARY_VALUE,
    CANARY_KEY,
    CANARY_COMMENT,
    CANARY_PATH,
    CANARY_ACCESS_KEY_ID,
    CANARY_SECRET_ACCESS_KEY,
    CANARY_EXTERNAL_ID,
    CANARY_REASON,
)


def dump(store) -> bytes:
    """Every row of every table, and every byte of a SQLite database with its side files."""
    found = []
    with store.database.read() as connection:
        for table in tables.metadata.sorted_tables:
            for row in connection.execute(sa.select(table)):
                found += [value if isinstance(value, bytes) else str(value).encode() for value in row]
    if store.database.is_sqlite:
        found += [path.read_bytes() for path in Path(store.database.url.database).parent.glob("phasesync.db*")]
    return b"\n".join(found)


def fill(store) -> None:
    """Put canaries everywhere that a secret or its name can go."""
    put(store)
    secret = SecretWrite(path=CANARY_PATH, key=CANARY_KEY, value=SecretValue(CANARY_VALUE), comment=CANARY_COMMENT)
    put(store, secret, write(CANARY_KEY, "first", comment=CANARY_COMMENT))
    put(store, write(CANARY_KEY, CANARY_VALUE))
    store.secrets.edit("shop", "production", actor="ada", origin="set", unsets=[("/", CANARY_KEY)])
    store.secrets.clone_environment("shop", "production", "staging", actor="ada")
    store.credentials.add(
        "aws",
        access_key(
            access_key_id=CANARY_ACCESS_KEY_ID,
            secret_access_key=SecretValue(CANARY_SECRET_ACCESS_KEY),
            external_id=CANARY_EXTERNAL_ID,
        ),
    )
    sync = add_sync(store)
    store.sync_requests.pause("web", Paused(by="ada", at=NOW, reason=CANARY_REASON, until=None))
    store.sync_requests.resume("web", actor="ada")
    store.sync_requests.pause("web", Paused(by="ada", at=NOW, reason=CANARY_REASON, until=NOW))
    claim = claim_one(store)
    intent = Intent(
        action=Action.PUT, generation=1, token="t", fingerprint="f", payloads=1, made_at=NOW, keys={CANARY_KEY: "d"}
    )
    store.journal.save_entry(claim, entry(id=None, sync_id=sync.id, keys={CANARY_KEY: "d"}, intent=intent))
    error = RunError(cls="PlanHeldError", code=None, message=CANARY_REASON, request_id=None, hint=CANARY_KEY)
    change = ChangeResult(action="put", remote_name="shop/web", outcome=Outcome.HELD, reason=f"drops {CANARY_KEY}")
    run = run_of(claim, error=error, changes=(change,), outcome=Outcome.HELD)
    store.runs.finish(claim, run, after(status=SyncStatus.HELD, reason=f"{CANARY_REASON} {CANARY_KEY}"))


def test_the_database_has_no_canary_in_any_form(store):
    fill(store)
    data = dump(store)
    assert find(data, CANARIES) == []
    assert b"shop/web" in data  # the search sees what is there


def test_everything_that_was_hidden_is_still_there(store):
    fill(store)
    (secret,) = store.secrets.list_secrets("shop", "production")
    assert (secret.path, secret.key, secret.comment) == (CANARY_PATH, CANARY_KEY, CANARY_COMMENT)
    assert secret.value == SecretValue(CANARY_VALUE)
    assert store.credentials.get("aws").secret_access_key == SecretValue(CANARY_SECRET_ACCESS_KEY)
    assert store.syncs.get_sync("web").status_reason == f"{CANARY_REASON} {CANARY_KEY}"
    state = store.sync_states.state_of("web")
    assert state.journal[0].keys == {CANARY_KEY: "d"}
    assert store.runs.list_runs()[0].changes[0].reason == f"drops {CANARY_KEY}"


def test_a_removed_environment_takes_its_key_along(store):
    put(store, write("URL", "a"))
    with store.database.read() as connection:
        row = connection.execute(select_current()).one()
    store.apps.remove_environment("shop", "production")
    later = KeyRing([ROOT_KEY], partial(read_wrapped_keys, store.database))
    with pytest.raises(CiphertextError, match="a key that this database does not have"):
        to_version(row, later)


# --- tampering: whoever can write to the database but has no key


def change(store, table: sa.Table, **values: object) -> None:
    """Alter every row of a table behind the store's back."""
    with store.database.write() as connection:
        assert connection.execute(table.update().values(**values)).rowcount > 0


def flipped(store, column: sa.Column) -> bytes:
    """The first ciphertext of a column with its last bit flipped."""
    with store.database.read() as connection:
        ciphertext: bytes = connection.scalar(sa.select(column).where(column.is_not(None)).limit(1))
    return ciphertext[:-1] + bytes([ciphertext[-1] ^ 1])


def swap(store, table: sa.Table, column: sa.Column, keys: tuple[sa.Column, ...]) -> None:
    """Exchange the ciphertexts of a column between the first two rows of a table."""
    with store.database.write() as connection:
        rows = connection.execute(sa.select(*keys, column).where(column.is_not(None)).order_by(*keys)).all()
        first, second = rows[0], rows[1]
        for row, other in ((first, second), (second, first)):
            where = [key == value for key, value in zip(keys, row, strict=False)]
            connection.execute(table.update().where(*where).values({column: other[-1]}))


def everything(store) -> None:
    """Read all that the store has."""
    for environment in store.apps.list_environments():
        for secret in store.secrets.list_secrets(environment.app, environment.name):
            store.secrets.history(environment.app, environment.name, secret.path, secret.key)
    store.credentials.list_all()
    for sync in store.syncs.list_syncs():
        store.sync_states.state_of(sync.name)
    store.runs.list_runs()


ENCRYPTED = [
    (tables.secrets, "name"),
    (tables.secret_versions, "value"),
    (tables.secret_versions, "comment"),
    (tables.credentials, "sealed"),
    (tables.syncs, "status_reason"),
    (tables.journal, "details"),
    (tables.runs, "details"),
]


@pytest.mark.parametrize(("table", "name"), ENCRYPTED, ids=[f"{table.name}.{name}" for table, name in ENCRYPTED])
def test_an_altered_ciphertext_is_noticed_and_named_by_table_and_column(store, table, name):
    fill(store)
    everything(store)
    change(store, table, **{name: flipped(store, table.c[name])})
    with pytest.raises(CiphertextError) as caught:
        everything(store)
    assert table.name in str(caught.value)
    assert name in str(caught.value)
    assert find(f"{caught.value} {caught.value.hint}", CANARIES) == []


def two_of_everything(store) -> None:
    put(store, write("A", "1", comment="a"), write("B", "2", comment="b"))
    put(store, write("A", "3", comment="a"))
    store.credentials.add("two", access_key())
    for name in ("web", "two"):
        sync = add_sync(store, name)
        claim = claim_one(store)
        for remote_name in ("x", "y"):
            store.journal.save_entry(claim, entry(id=None, sync_id=sync.id, remote_name=remote_name))
        settle(store, claim, reason=name)


@pytest.mark.parametrize(("table", "name"), ENCRYPTED, ids=[f"{table.name}.{name}" for table, name in ENCRYPTED])
def test_two_exchanged_ciphertexts_are_noticed(store, table, name):
    two_of_everything(store)
    everything(store)
    swap(store, table, table.c[name], tuple(table.primary_key.columns))
    with pytest.raises(CiphertextError):
        everything(store)


def test_an_older_version_does_not_pass_for_the_current_one(store):
    put(store, write("URL", "old"))
    put(store, write("URL", "new"))
    versions = tables.secret_versions
    swap(store, versions, versions.c.value, (versions.c.secret_id, versions.c.version))
    with pytest.raises(CiphertextError):
        values_of(store)


def test_a_secret_moved_to_another_environment_is_noticed(store):
    put(store, write("URL", "a"))
    put(store, environment="staging")
    change(store, tables.secrets, environment_id=store.apps.get_environment("shop", "staging").id)
    with pytest.raises(CiphertextError), store.secrets.snapshot() as reader:
        reader.load([("shop", "staging")])


def test_a_value_that_was_taken_out_is_noticed(store):
    put(store, write("URL", "a"))
    change(store, tables.secret_versions, value=None)
    with pytest.raises(CiphertextError):
        values_of(store)


@pytest.mark.parametrize(
    "values",
    [
        {"region": "eu-west-1"},
        {"path": "/db"},
        {"account": "999999999999"},
        {"adopt": "overwrite"},
        {"approved_digest": "abc"},
        {"config": '{"remote_name":"elsewhere"}'},
        {"destination_kind": "other"},
        {"name": "other"},
        {"version": 7},
        {"mac": b"x" * 32},
    ],
    ids=lambda values: next(iter(values)),
)
def test_a_sync_that_was_pointed_elsewhere_is_noticed(store, values):
    add_sync(store, account="111122223333")
    claim = claim_one(store)
    change(store, tables.syncs, **values)
    name = values.get("name", "web")
    for attempt in (
        lambda: store.syncs.get_sync("web"),
        lambda: store.sync_states.load(claim),
        lambda: store.sync_requests.approve("web", "d", actor="ada"),
        lambda: store.runs.finish(claim, run_of(claim), after()),
        lambda: store.runs.finish(claim, run_of(claim), after(account="111122223333", adopt_done=True)),
        lambda: store.credentials.update("aws", access_key(), account="444455556666"),
    ):
        with pytest.raises(CiphertextError, match=f"sync {name} in table syncs"):
            attempt()


@pytest.mark.parametrize("column", ["environment_id", "credential_id"])
def test_a_sync_that_was_given_another_source_or_credential_is_noticed(store, column):
    add_sync(store)
    put(store, environment="staging")
    store.credentials.add("other", access_key())
    found = {
        "environment_id": store.apps.get_environment("shop", "staging").id,
        "credential_id": store.credentials.get("other").id,
    }
    change(store, tables.syncs, **{column: found[column]})
    with pytest.raises(CiphertextError):
        store.syncs.get_sync("web")


def test_a_sync_that_was_altered_can_still_be_removed(store):
    add_sync(store)
    change(store, tables.syncs, region="eu-west-1")
    store.syncs.remove_sync("web")
    assert store.syncs.list_syncs() == []


@pytest.mark.parametrize(
    "values",
    [{"region": "us-east-1"}, {"type": "ambient"}, {"account": "999999999999"}, {"version": 9}, {"name": "other"}],
    ids=lambda values: next(iter(values)),
)
def test_a_credential_that_leads_elsewhere_is_noticed(store, values):
    store.credentials.add("aws", access_key())
    change(store, tables.credentials, **values)
    with pytest.raises(
        CiphertextError, match=r"(the credential aws: .*column sealed|name_key of \w+) in table credentials"
    ):
        store.credentials.get("aws")


@pytest.mark.parametrize("values", [{"arn": "arn:else"}, {"generation": 9}, {"version_id": "v"}, {"remote_name": "z"}])
def test_a_journal_that_was_altered_is_noticed(store, values):
    sync = add_sync(store)
    store.journal.save_entry(claim_one(store), entry(id=None, sync_id=sync.id))
    change(store, tables.journal, **values)
    with pytest.raises(CiphertextError, match="details in table journal"):
        store.sync_states.state_of("web")
