"""A protected environment is written by nobody without an approval: each method of the store, on each database."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from phasesync.core.credential import CredentialDraft, CredentialType
from phasesync.core.sync import Adopt, Paused, SyncConfig, Trigger
from phasesync.errors import ApprovalNeededError, CiphertextError, ProposalMovedError
from phasesync.store import Store
from phasesync.store.protection import Permit, digest_of, permitted
from tests.support.stores import (
    ACTOR,
    access_key,
    add_dynamic,
    add_sync,
    dynamic_draft,
    put,
    sync_draft,
    values_of,
    write,
)
from tests.support.values import NOW

SHOP = ("shop", "production")
ROLE = CredentialDraft(
    type=CredentialType.ASSUME_ROLE,
    region="eu-central-1",
    role_arn="arn:aws:iam::111122223333:role/phasesync",
    external_id="phasesync-1234",
    source_name="base",
)


def update_sync(store: Store) -> None:
    sync = store.syncs.get_sync("web")
    config = replace(sync.config, description="another")
    store.syncs.update_sync("web", config=config, path="/", credential="aws", region=sync.region, adopt=None)


def update_dynamic(store: Store) -> None:
    config = replace(store.dynamics.get("ci").config, max_ttl=timedelta(hours=9))
    store.dynamics.update("ci", credential="aws", config=config)


def second_draft() -> Any:
    return sync_draft("second", config=SyncConfig(remote_name="shop/second"))


HELD: dict[str, Callable[[Store], object]] = {
    "secrets.edit": lambda store: put(store, write("URL", "another")),
    "secrets.edit of nothing but a comment": lambda store: put(store, write(comment="another")),
    "secrets.edit that unsets": lambda store: store.secrets.edit(
        *SHOP, actor=ACTOR, origin="unset", unsets=[("/", "URL")]
    ),
    "apps.update_app": lambda store: store.apps.update_app("shop", new_name="store"),
    "apps.update_environment": lambda store: store.apps.update_environment(*SHOP, new_name="prod"),
    "apps.protect_environment": lambda store: store.apps.protect_environment(*SHOP, approvers=None),
    "apps.protect_environment with more": lambda store: store.apps.protect_environment(*SHOP, approvers=2),
    "apps.remove_environment": lambda store: store.apps.remove_environment("shop", "empty"),
    "apps.check_removal": lambda store: store.apps.check_removal(*SHOP),
    "syncs.add_sync": lambda store: store.syncs.add_sync(second_draft()),
    "syncs.update_sync": update_sync,
    "apps.update_app with windows": lambda store: store.apps.update_app("shop", windows=("deny: 08:00-18:00",)),
    "syncs.rename": lambda store: store.syncs.rename("web", "site"),
    "dynamics.rename": lambda store: store.dynamics.rename("ci", "cd"),
    "syncs.remove_sync": lambda store: store.syncs.remove_sync("web"),
    "sync_requests.consent_to_adopt": lambda store: store.sync_requests.consent_to_adopt(
        "web", Adopt.OVERWRITE, actor=ACTOR
    ),
    "dynamics.add": lambda store: store.dynamics.add(dynamic_draft("second")),
    "dynamics.update": update_dynamic,
    "dynamics.remove": lambda store: store.dynamics.remove("ci"),
    "dynamics.check_removal": lambda store: store.dynamics.check_removal("ci"),
    "credentials.update": lambda store: store.credentials.update("aws", access_key(region="eu-west-1"), account=None),
    "credentials.update of a source": lambda store: store.credentials.update("base", access_key(), account=None),
}
"""Every change of a protected environment: method of a store -> a call."""

FREE = {
    "secrets": {
        "check_editable",
        "clone_environment",
        "snapshot",
        "list_secrets",
        "page_secrets",
        "get_secret",
        "history",
    },
    "apps": {
        *("add_app", "page_apps", "list_apps", "remove_app", "add_environment", "page_environments"),
        *(
            "list_environments",
            "get_environment",
            "get_app",
            "check_change",
            "find_environment_by_id",
            "find_app_by_id",
        ),
    },
    "syncs": {
        *("page_syncs", "list_syncs", "count_by_status", "has_sync", "find_by_id", "find_similar", "get_sync"),
        *("names_of", "stored_names", "get_syncs"),
    },
    "sync_requests": {
        *("pause", "resume", "request", "pause_all", "resume_all", "request_all", "retry_refused", "wake_where_behind"),
        *("waiting_for_window", "retry_waiting_for_window"),
        # What the guard holds was approved before; `_refuse_author` asks for another person here too.
        *("approve", "approve_all"),
    },
    "dynamics": {"page", "list_all", "get", "find_by_id"},
    # Whom to tell changes nothing of an environment.
    "notifications": {"add", "page", "list_all", "get", "find_by_id", "update", "remove", "sent"},
    # A new key changes nothing that is encrypted with it.
    "root_keys": {"list_all", "data_keys", "daemons", "begin", "switch", "rewrap", "follow"},
    "data_keys": {"in_use", "former", "count_rows", "replace", "encrypt_anew", "remove_former"},
    # Backups read all, and change nothing.
    "backup_schedules": {"set", "remove", "list_all", "claim_due", "succeeded", "failed", "release"},
    "alerts": {"counts", "check_times", "stale_after"},
    "outbox": {"has_work", "make", "claim", "sent", "failed", "release", "prune"},
    "credentials": {"add", "page", "list_all", "statuses", "get", "get_by_id", "mark", "remove", "rename"},
}
"""Methods that read, that make something which no protected environment uses yet, or that operate: pause, run, test."""


@pytest.fixture
def protected(store: Store) -> Store:
    """shop/production is protected, with a sync, a dynamic secret and a credential that has a source."""
    store.credentials.add("base", access_key())
    store.credentials.add("aws", ROLE)
    put(store, write())
    add_sync(store)
    add_dynamic(store)
    put(store, environment="empty")
    for name in ("production", "empty"):
        store.apps.protect_environment("shop", name, approvers=1)
    return store


def content(store: Store) -> list[Any]:
    """Everything in the tables that a change could write to."""
    tables = ("apps", "environments", "secrets", "secret_versions", "syncs", "dynamic_secrets", "credentials")
    with store.database.read() as connection:
        return [sorted(map(repr, connection.exec_driver_sql(f"SELECT * FROM {table}").all())) for table in tables]


@pytest.mark.parametrize("change", HELD.values(), ids=HELD)
def test_a_change_without_an_approval_is_refused_and_writes_nothing(
    protected: Store, change: Callable[[Store], object]
) -> None:
    before = content(protected)
    with pytest.raises(ApprovalNeededError, match=r"(is|are) protected") as refused:
        change(protected)
    assert content(protected) == before
    assert refused.value.environments
    assert refused.value.proposal.changes
    stored = repr(before)
    seen = refused.value.proposal.seen
    assert seen, "a request starts from something, or another could be carried out in its place"
    assert [name for name, one in seen.items() if not one.id or one.id not in stored] == []


def test_every_method_of_the_store_is_held_or_free_on_purpose(store: Store) -> None:
    """A new method needs a decision: if it changes what an environment or its syncs are, it asks `require_approval`."""
    held = {name.split()[0] for name in HELD}
    for noun, free in FREE.items():
        kind = type(getattr(store, noun))
        methods = {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}
        assert methods - free == {name.partition(".")[2] for name in held if name.startswith(f"{noun}.")}, noun


def test_operations_and_readings_go_on(protected: Store) -> None:
    protected.sync_requests.pause("web", Paused(by=ACTOR, at=NOW, reason="", until=None))
    protected.sync_requests.resume("web", actor=ACTOR)
    protected.sync_requests.request("web", Trigger.MANUAL, actor=ACTOR)
    assert values_of(protected) == {"URL": "postgres://db"}
    assert put(protected, write()) == 2, "an edit that changes nothing needs nobody"
    protected.secrets.clone_environment(*SHOP, "copy", actor=ACTOR)
    put(protected, write("URL", "${production.URL} of the copy"), environment="copy")
    assert protected.apps.get_environment("shop", "copy").approvers is None


def test_a_permit_is_for_one_change_that_starts_from_one_state(protected: Store) -> None:
    environment = protected.apps.get_environment(*SHOP)
    with pytest.raises(ApprovalNeededError) as refused:
        put(protected, write("URL", "approved"))
    permit = Permit(
        environments=frozenset({environment.id}),
        digest=digest_of(protected.keys, refused.value.proposal),
        seen=refused.value.proposal.seen,
        approvals=1,
        approved_by="grace",
    )
    with permitted(permit):
        with pytest.raises(ProposalMovedError):
            put(protected, write("URL", "something else"))
        put(protected, write("URL", "approved"))
        with pytest.raises(ProposalMovedError, match=r"URL in / \(version 1 then, 2 now\)"):
            put(protected, write("URL", "postgres://db"))
        with pytest.raises(ProposalMovedError, match="shop/empty"):
            put(protected, write("URL", "approved"), environment="empty")
    assert values_of(protected) == {"URL": "approved"}
    (newest, _) = protected.secrets.history(*SHOP, "/", "URL")
    assert (newest.changed_by, newest.approved_by) == (ACTOR, "grace")


def test_a_permit_of_fewer_people_than_are_asked_for_by_now_lets_nothing_through(store: Store) -> None:
    put(store, write())
    store.apps.protect_environment(*SHOP, approvers=2)
    environment = store.apps.get_environment(*SHOP)
    with pytest.raises(ApprovalNeededError) as refused:
        put(store, write("URL", "approved"))
    permit = Permit(
        environments=frozenset({environment.id}),
        digest=digest_of(store.keys, refused.value.proposal),
        seen=refused.value.proposal.seen,
        approvals=1,
    )
    met: dict[str, str] = {}
    for one in (permit, replace(permit, digest=None)):
        with permitted(one), pytest.raises(ApprovalNeededError):
            put(store, write("URL", "approved"))
    with store.database.rehearsal(), permitted(replace(permit, digest=None, met=met)):
        put(store, write("URL", "approved"))
    assert met == {environment.id: "shop/production"}
    with permitted(replace(permit, approvals=2)):
        assert put(store, write("URL", "approved")) == 3


def test_a_digest_differs_with_the_value_and_is_keyed(protected: Store, migrated_database_url: str) -> None:
    digests = set()
    for value in ("zebra", "giraffe", "zebra"):
        with pytest.raises(ApprovalNeededError) as refused:
            put(protected, write("URL", value))
        digests.add(digest_of(protected.keys, refused.value.proposal))
        assert value not in repr(refused.value.proposal)
    assert len(digests) == 2
    assert all(len(digest) == 16 for digest in digests)


@pytest.mark.parametrize("approvers", ["NULL", "3"])
def test_an_altered_protection_lets_nothing_through(protected: Store, approvers: str) -> None:
    with protected.database.write() as connection:
        connection.exec_driver_sql(f"UPDATE environments SET approvers = {approvers} WHERE name = 'production'")
    reading = ("apps.check_removal", "syncs.remove_sync", "dynamics.remove", "dynamics.check_removal")
    for name, change in HELD.items():
        if name in reading or name in ("apps.remove_environment", "apps.protect_environment with more"):
            continue
        with pytest.raises(CiphertextError):
            change(protected)


def test_the_mac_of_an_unprotected_environment_is_what_it_was_before_there_was_protection(store: Store) -> None:
    put(store, write())
    store.apps.protect_environment(*SHOP, approvers=1)
    protected = store.apps.get_environment(*SHOP)
    with pytest.raises(ApprovalNeededError) as refused:
        store.apps.protect_environment(*SHOP, approvers=None)
    permit = Permit(
        environments=frozenset({protected.id}),
        digest=digest_of(store.keys, refused.value.proposal),
        approvals=1,
    )
    with permitted(permit):
        assert store.apps.protect_environment(*SHOP, approvers=None).approvers is None
    assert protected.revision == 2
    assert put(store, write("URL", "free again")) == 4, "each change of the protection is a revision"
