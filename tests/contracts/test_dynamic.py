"""Dynamic secrets: they are stored as given, one for each name, and change without their leases."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from phasesync.core.dynamic import DynamicConfig
from phasesync.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from phasesync.store import Store
from tests.support.sql import counted
from tests.support.stores import (
    TTL,
    access_key,
    add_dynamic,
    at_once,
    dynamic_draft,
    end_lease,
    issue_lease,
    put,
)

EVERYTHING = DynamicConfig(
    user_template="{{app}}-{{random}}",
    iam_path="/ci/shop/",
    policy_arns=("arn:aws:iam::aws:policy/A", "arn:aws:iam::111122223333:policy/path/B"),
    groups=("devs", "ops"),
    permission_boundary="arn:aws:iam::111122223333:policy/boundary",
    inline_policy='{"Statement":[],"Version":"2012-10-17"}',
    tags={"team": "web", "ümlaut": "wört"},
    role_arn="arn:aws:iam::111122223333:role/session",
    session_policy='{"Statement":[]}',
    default_ttl=timedelta(minutes=30),
    max_ttl=timedelta(hours=36, microseconds=1),
    max_leases=7,
    keys={"access_key_id": "ID", "secret_access_key": "KEY"},
)


def test_a_dynamic_secret_comes_back_as_it_was_given(store: Store) -> None:
    put(store)
    credential = store.credentials.add("aws", access_key())
    added = store.dynamics.add(dynamic_draft("Ci", path="/db/x", issuer="aws-assume-role", config=EVERYTHING))

    assert store.dynamics.get("ci") == store.dynamics.get("CI") == added
    assert (added.name, added.path, added.issuer, added.version) == ("Ci", "/db/x", "aws-assume-role", 1)
    assert (added.app, added.environment, added.environment_label) == ("shop", "production", "shop/production")
    assert added.environment_id == store.apps.get_environment("shop", "production").id
    assert (added.credential_id, added.credential, added.live) == (credential.id, "aws", 0)
    assert added.config == EVERYTHING


def test_app_environment_and_credential_are_found_whatever_their_case(store: Store) -> None:
    add_dynamic(store)
    added = store.dynamics.add(dynamic_draft("other", app="SHOP", environment="Production", credential="AWS"))
    assert (added.environment_label, added.credential) == ("shop/production", "aws")


def test_names_are_unique_regardless_of_case_and_folder(store: Store) -> None:
    add_dynamic(store)
    put(store, environment="staging")
    for other in (dynamic_draft("CI"), dynamic_draft("Ci", path="/db", environment="staging")):
        with pytest.raises(AlreadyExistsError, match="the dynamic secret ci exists already") as caught:
            store.dynamics.add(other)
        assert caught.value.hint == "phasesync dynamic update ci"
    with pytest.raises(InvalidInputError):
        store.dynamics.add(dynamic_draft("a b"))
    assert [dynamic.name for dynamic in store.dynamics.list_all()] == ["ci"]


def test_of_several_that_are_added_under_one_name_at_once_one_is(store: Store) -> None:
    add_dynamic(store, "first")

    results = at_once(*(lambda: store.dynamics.add(dynamic_draft("ci")) for _ in range(4)))

    assert sorted(type(result).__name__ for result in results) == ["AlreadyExistsError"] * 3 + ["DynamicSecret"]
    assert store.dynamics.get("ci") in results


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"app": "blog"}, "there is no app blog; there is: shop"),
        ({"environment": "staging"}, "there is no environment shop/staging; shop has: production"),
        ({"credential": "nobody"}, "there is no credential nobody; there is: aws"),
    ],
)
def test_what_it_stands_on_has_to_exist(store: Store, changes: dict[str, Any], message: str) -> None:
    add_dynamic(store)
    with pytest.raises(NotFoundError, match=message):
        store.dynamics.add(dynamic_draft("other", **changes))
    assert [dynamic.name for dynamic in store.dynamics.list_all()] == ["ci"]


def test_what_does_not_exist_is_told_with_what_does(store: Store) -> None:
    with pytest.raises(NotFoundError, match="there is no dynamic secret ci, and no other either") as caught:
        store.dynamics.get("ci")
    assert caught.value.hint == "phasesync dynamic add --help"
    for name in ("b", "A"):
        add_dynamic(store, name)
    for attempt in (
        lambda: store.dynamics.get("ci"),
        lambda: store.dynamics.update("ci", credential="aws", config=EVERYTHING),
        lambda: store.dynamics.remove("ci"),
        lambda: store.leases(ttl=TTL).list_leases(dynamic="ci"),
    ):
        with pytest.raises(NotFoundError, match="there is no dynamic secret ci; there is: A, b"):
            attempt()


def test_all_are_listed_by_name_with_how_many_leases_are_live(store: Store) -> None:
    for name in ("b", "C", "a"):
        add_dynamic(store, name)
    dynamic = store.dynamics.get("b")
    ended, *_ = [issue_lease(store, dynamic) for _ in range(3)]
    end_lease(store, ended)

    listed = store.dynamics.list_all()

    assert [(dynamic.name, dynamic.live) for dynamic in listed] == [("a", 0), ("b", 2), ("C", 0)]
    assert listed == [store.dynamics.get(dynamic.name) for dynamic in listed]


@pytest.mark.parametrize("size", [1, 12])
def test_a_list_takes_the_same_statements_for_any_number(store: Store, size: int) -> None:
    for number in range(size):
        add_dynamic(store, f"d{number}")
    with counted(store.database.engine) as statements:
        assert len(store.dynamics.list_all()) == size
    assert len(statements) == 3  # the list, the registry, the live leases


def test_an_update_replaces_all_that_is_set_and_nothing_else(store: Store) -> None:
    before = add_dynamic(store)
    other = store.credentials.add("other", access_key())

    updated = store.dynamics.update("CI", credential="OTHER", config=EVERYTHING)

    assert updated == store.dynamics.get("ci")
    assert updated == replace(before, version=2, config=EVERYTHING, credential="other", credential_id=other.id)
    assert store.dynamics.update("ci", credential="aws", config=before.config) == replace(before, version=3)


def test_leases_that_were_issued_stay_as_they_are_through_an_update(store: Store) -> None:
    dynamic = add_dynamic(store)
    store.credentials.add("other", access_key())
    lease = issue_lease(store, dynamic)

    updated = store.dynamics.update("ci", credential="other", config=EVERYTHING)

    assert updated.live == 1
    assert store.leases(ttl=TTL).get(lease.id) == lease
    assert lease.credential_id == dynamic.credential_id != updated.credential_id
    assert lease.spec.policy_arns == dynamic.config.policy_arns


def test_an_update_that_fails_changes_nothing(store: Store) -> None:
    before = add_dynamic(store)
    with pytest.raises(NotFoundError, match="there is no credential nobody; there is: aws"):
        store.dynamics.update("ci", credential="nobody", config=EVERYTHING)
    assert store.dynamics.get("ci") == before


def test_a_rename_of_app_or_environment_is_followed(store: Store) -> None:
    before = add_dynamic(store)
    lease = issue_lease(store, before)
    store.apps.update_environment("shop", "production", new_name="live")
    store.apps.update_app("shop", new_name="store")

    after = store.dynamics.get("ci")

    assert after == replace(before, app="store", environment="live", live=1)
    assert after.config.iam_path == before.config.iam_path, "its users stay where its policy says they are"
    assert store.leases(ttl=TTL).get(lease.id) == lease


def test_a_copy_of_an_environment_has_no_dynamic_secrets(store: Store) -> None:
    """Its users would be made twice under one recipe."""
    add_dynamic(store)
    store.secrets.clone_environment("shop", "production", "staging", actor="ada")
    assert [dynamic.environment for dynamic in store.dynamics.list_all()] == ["production"]


def test_a_credential_tells_the_dynamic_secrets_that_use_it(store: Store) -> None:
    for name in ("b", "a"):
        add_dynamic(store, name)
    assert store.credentials.get("aws").used_by == ("a", "b")
