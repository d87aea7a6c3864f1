"""New names of syncs, credentials and dynamic secrets: what is bound to a name is made anew, and all else stays."""

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime

import pytest

from phasesync.core.lease import Lease
from phasesync.core.run import Run
from phasesync.core.sync import Paused, Trigger
from phasesync.errors import AlreadyExistsError, CiphertextError, InvalidInputError, NotFoundError
from phasesync.store import Store
from phasesync.store.authenticity import authenticate_all
from phasesync.store.tables import credentials, dynamic_secrets, syncs
from tests.support.stores import (
    TTL,
    access_key,
    add_dynamic,
    add_sync,
    alter,
    claim_due,
    claim_one,
    issue_lease,
    open_test_store,
    settle,
)


@pytest.fixture
def filled(store: Store) -> Store:
    """A store with a sync with a run and a pause, its credential, and a dynamic secret with a live lease."""
    add_sync(store, "web")
    settle(store, claim_one(store))
    store.sync_requests.pause("web", Paused(by="ada", at=datetime(2030, 1, 1, tzinfo=UTC), reason="why", until=None))
    issue_lease(store, add_dynamic(store, "ci"))
    return store


def test_everything_stays_under_the_new_names(filled: Store, migrated_database_url: str) -> None:
    sync, ((run,), (lease,)) = filled.syncs.get_sync("web"), _of("web", filled)
    credential, dynamic = filled.credentials.get("aws"), filled.dynamics.get("ci")

    assert filled.syncs.rename("WEB", "site").id == sync.id
    assert filled.credentials.rename("aws", "aws-live").id == credential.id
    assert filled.dynamics.rename("ci", "deploy").id == dynamic.id

    with closing(open_test_store(migrated_database_url)) as again:
        authenticate_all(again.database, again.keys)
        renamed = again.syncs.get_sync("site")
        assert (renamed.paused, renamed.credential, renamed.config) == (sync.paused, "aws-live", sync.config)
        (same_run,), (same_lease,) = _of("site", again)
        assert (same_run.id, same_run.sync) == (run.id, "site")
        assert (same_lease.id, same_lease.dynamic, same_lease.spec) == (lease.id, "deploy", lease.spec)
        secret = again.credentials.get("aws-live").secret_access_key
        assert secret is not None
        assert credential.secret_access_key is not None
        assert secret.reveal_text() == credential.secret_access_key.reveal_text()
        assert again.dynamics.get("deploy").config == dynamic.config
        assert claim_due(again) == [], "no run follows"
        for get, former in ((again.syncs.get_sync, "web"), (again.credentials.get, "aws"), (again.dynamics.get, "ci")):
            with pytest.raises(NotFoundError):
                get(former)


def _of(name: str, store: Store) -> tuple[list[Run], list[Lease]]:
    return store.runs.list_runs(sync=name, limit=10), store.leases(ttl=TTL).list_leases()


RENAMES: list[tuple[Callable[[Store], Callable[[str, str], object]], str]] = [
    (lambda store: store.syncs.rename, "web"),
    (lambda store: store.credentials.rename, "aws"),
    (lambda store: store.dynamics.rename, "ci"),
]


@pytest.mark.parametrize(("rename", "name"), RENAMES, ids=["sync", "credential", "dynamic"])
def test_a_name_is_taken_regardless_of_case_and_may_change_its_own_case(
    filled: Store, rename: Callable[[Store], Callable[[str, str], object]], name: str
) -> None:
    add_sync(filled, "other")
    filled.credentials.add("other", access_key())
    add_dynamic(filled, "other", path="/other")
    for wrong, error in (("OTHER", AlreadyExistsError), ("no name", InvalidInputError), ("", InvalidInputError)):
        with pytest.raises(error):
            rename(filled)(name, wrong)
    with pytest.raises(NotFoundError):
        rename(filled)("missing", "new")

    rename(filled)(name, name.upper())
    rename(filled)(name, name.upper())

    authenticate_all(filled.database, filled.keys)


@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_an_altered_row_is_not_vouched_for(filled: Store) -> None:
    alter(filled, syncs, path="/other")
    alter(filled, credentials, region="us-east-1")
    alter(filled, dynamic_secrets, path="/other")
    for rename, name in RENAMES:
        with pytest.raises(CiphertextError):
            rename(filled)(name, "new")


@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_an_older_row_is_not_vouched_for(filled: Store) -> None:
    with filled.database.read() as connection:
        older = connection.execute(credentials.select()).one()._asdict()
    filled.credentials.update("aws", access_key(), account=None)
    alter(filled, credentials, **older)

    with pytest.raises(CiphertextError, match="an older row"):
        filled.credentials.rename("aws", "new")


def test_a_run_under_way_ends_under_the_new_name(store: Store) -> None:
    add_sync(store, "web")
    claim = claim_one(store)
    store.syncs.rename("web", "site")

    assert settle(store, claim).name == "site"
    store.sync_requests.request("site", Trigger.MANUAL, actor="ada")
    assert len(claim_due(store)) == 1
