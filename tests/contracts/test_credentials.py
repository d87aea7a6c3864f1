"""Credentials: adding, marking, updating and removing them, and what that does to their syncs."""

from dataclasses import replace
from datetime import timedelta

import pytest

from phasesync.core.credential import CredentialStatus
from phasesync.core.model import SecretValue
from phasesync.core.sync import SyncConfig, SyncStatus, Trigger
from phasesync.errors import AlreadyExistsError, IllegalTransitionError, InvalidInputError, NotFoundError
from tests.support.stores import (
    access_key,
    add_sync,
    claim_due,
    claim_one,
    incomplete_role,
    settle,
)

ROLE = "arn:aws:iam::111122223333:role/sync"


def test_a_credential_comes_back_as_it_was_given(store):
    added = store.credentials.add("AWS", access_key())
    assert store.credentials.get("aws") == store.credentials.get_by_id(added.id) == added
    assert added.secret_access_key == SecretValue("wJalrXUtnFEMI/K7MDENG")
    assert (added.status, added.version, added.account, added.verified_at) == (
        CredentialStatus.UNVERIFIED,
        1,
        None,
        None,
    )


def test_a_role_that_does_not_exist_yet_is_incomplete_until_it_does(store):
    added = store.credentials.add("role", incomplete_role())
    assert (added.status, added.external_id) == (CredentialStatus.INCOMPLETE, "phasesync-1234")
    updated = store.credentials.update("role", replace(incomplete_role(), role_arn=ROLE), account="111122223333")
    assert (updated.status, updated.role_arn, updated.version) == (CredentialStatus.UNVERIFIED, ROLE, 2)
    assert updated.account == "111122223333"


def test_names_are_unique_regardless_of_case(store):
    store.credentials.add("aws", access_key())
    with pytest.raises(AlreadyExistsError):
        store.credentials.add("AWS", access_key())
    with pytest.raises(InvalidInputError):
        store.credentials.add("a b", access_key())


def test_a_source_is_named_and_has_to_exist(store):
    store.credentials.add("base", access_key())
    with pytest.raises(NotFoundError, match="there is: base"):
        store.credentials.add("role", access_key(source_name="nobody"))
    added = store.credentials.add("role", access_key(source_name="BASE"))
    assert (added.source_name, added.source_id) == ("base", store.credentials.get("base").id)


def test_a_credential_is_not_its_own_source(store):
    store.credentials.add("a", access_key())
    store.credentials.add("b", access_key(source_name="a"))
    with pytest.raises(InvalidInputError):
        store.credentials.update("a", access_key(source_name="b"), account=None)
    with pytest.raises(InvalidInputError):
        store.credentials.update("a", access_key(source_name="a"), account=None)


def test_a_test_pins_the_account_once_and_leaves_the_version(store):
    added = store.credentials.add("aws", access_key())
    store.credentials.mark(added.id, CredentialStatus.VERIFIED, account="111122223333")
    store.credentials.mark(added.id, CredentialStatus.VERIFIED, account="444455556666")
    marked = store.credentials.get("aws")
    assert (marked.account, marked.version, marked.status) == ("111122223333", 1, CredentialStatus.VERIFIED)
    assert marked.verified_at is not None
    store.credentials.mark(added.id, CredentialStatus.REJECTED)
    assert store.credentials.get("aws").status is CredentialStatus.REJECTED


def test_marking_what_is_gone_says_so(store):
    with pytest.raises(NotFoundError):
        store.credentials.mark("0" * 32, CredentialStatus.VERIFIED)


def test_a_test_pins_the_syncs_that_use_it_too(store):
    sync = add_sync(store)
    store.credentials.mark(sync.credential_id, CredentialStatus.VERIFIED, account="111122223333")
    assert store.syncs.get_sync("web").account == "111122223333"


def test_a_credential_in_use_stays(store):
    add_sync(store)
    with pytest.raises(IllegalTransitionError, match="web"):
        store.credentials.remove("aws")
    store.syncs.remove_sync("web")
    store.credentials.add("role", access_key(source_name="aws"))
    with pytest.raises(IllegalTransitionError, match="role"):
        store.credentials.remove("aws")
    store.credentials.remove("role")
    store.credentials.remove("aws")
    assert store.credentials.list_all() == []


def test_who_uses_it_is_told(store):
    add_sync(store, "b")
    add_sync(store, "a")
    assert store.credentials.get("aws").used_by == ("a", "b")
    assert [credential.used_by for credential in store.credentials.list_all()] == [("a", "b")]


def test_no_sync_of_an_incomplete_credential_is_claimed(store):
    store.credentials.add("role", incomplete_role())
    add_sync(store, credential="role")
    assert claim_due(store) == []


def test_an_update_wakes_its_syncs_whatever_back_off_says_through_sources_too(store):
    add_sync(store)
    store.credentials.add("role", access_key(source_name="aws"))
    store.syncs.update_sync(
        "web", config=SyncConfig(remote_name="x"), path="/", credential="role", region="eu-central-1", adopt=None
    )
    hour = timedelta(hours=1)
    settle(store, claim_one(store), status=SyncStatus.FAILING, failures=1, retry_in=hour, due_in=hour)
    assert claim_due(store) == []
    store.credentials.update("aws", access_key(), account=None)
    assert claim_one(store).trigger is Trigger.CHANGE


def test_a_new_account_is_followed_by_the_syncs_and_may_not_collide(store):
    store.credentials.add("other", access_key())
    store.credentials.update("other", access_key(), account="444455556666")
    add_sync(store, "web", account="111122223333")
    add_sync(store, "two", credential="other", config=SyncConfig(remote_name="shop/web"))
    with pytest.raises(AlreadyExistsError, match="two"):
        store.credentials.update("aws", access_key(), account="444455556666")
    assert store.syncs.get_sync("web").account == "111122223333"
    store.credentials.update("aws", access_key(), account="777788889999")
    assert store.syncs.get_sync("web").account == "777788889999"
