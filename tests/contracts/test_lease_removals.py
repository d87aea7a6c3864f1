"""Removals while leases are live: refused while a lease has to be revoked, and what they delete."""

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from phasesync.core.lease import Lease
from phasesync.core.lease_claim import Entry, LeaseEvent
from phasesync.errors import IllegalTransitionError, NotFoundError, PhasesyncError
from phasesync.store import Store, tables
from tests.support.stores import (
    TTL,
    access_key,
    add_dynamic,
    end_lease,
    fail_lease,
    issue_lease,
    request_lease,
    revoke_lease,
)
from tests.support.waiting import wait_until

LIVE: dict[str, Callable[[Store], object]] = {
    "requested": lambda store: request_lease(store, store.dynamics.get("ci")),
    "active": lambda store: issue_lease(store, store.dynamics.get("ci")),
    "past its end": lambda store: issue_lease(store, store.dynamics.get("ci"), ttl=timedelta(seconds=-1)),
    "being taken back": lambda store: revoke_lease(store, issue_lease(store, store.dynamics.get("ci"))),
    "not taken back": lambda store: fail_lease(store, issue_lease(store, store.dynamics.get("ci"))),
}


def rows(store: Store) -> dict[str, int]:
    """How many rows the tables of dynamic secrets hold."""
    with store.database.read() as connection:
        return {
            table.name: connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
            for table in (tables.dynamic_secrets, tables.leases, tables.lease_events)
        }


def ended(store: Store, name: str = "ci") -> Lease:
    """A lease that ended, with an entry in its log."""
    entry = Entry(event=LeaseEvent.LEFT_OVER, actor="phasesync", detail="why")
    lease = issue_lease(store, store.dynamics.get(name))
    store.leases(ttl=TTL).change(lease.id, lambda lease, now: lease, entry=entry)
    return end_lease(store, lease)


@pytest.mark.parametrize("make", LIVE.values(), ids=LIVE)
def test_nothing_of_a_live_lease_is_removed(store: Store, make: Callable[[Store], object]) -> None:
    add_dynamic(store)
    ended(store)
    make(store)
    before = rows(store)

    with pytest.raises(IllegalTransitionError, match=r"the dynamic secret ci has 1 live lease$") as caught:
        store.dynamics.remove("CI")
    assert caught.value.hint == "to revoke them first: phasesync dynamic remove ci --revoke"
    with pytest.raises(IllegalTransitionError, match=r"shop/production has 1 live lease$") as caught:
        store.apps.remove_environment("SHOP", "production")
    assert caught.value.hint == "to revoke them first: phasesync envs remove shop/production --revoke"

    assert rows(store) == before
    assert store.dynamics.get("ci").live == 1


def test_live_leases_are_counted_in_the_refusal(store: Store) -> None:
    dynamic = add_dynamic(store)
    second = add_dynamic(store, "second")
    for one in (dynamic, dynamic, second):
        issue_lease(store, one)
    with pytest.raises(IllegalTransitionError, match=r"the dynamic secret ci has 2 live leases$"):
        store.dynamics.remove("ci")
    with pytest.raises(IllegalTransitionError, match=r"shop/production has 3 live leases$"):
        store.apps.remove_environment("shop", "production")


def test_a_dynamic_secret_goes_with_its_ended_leases_and_their_log(store: Store) -> None:
    add_dynamic(store)
    add_dynamic(store, "other")
    gone, kept = ended(store), ended(store, "other")

    store.dynamics.remove("CI")

    assert rows(store) == {"dynamic_secrets": 1, "leases": 1, "lease_events": 1}
    assert [dynamic.name for dynamic in store.dynamics.list_all()] == ["other"]
    assert store.leases(ttl=TTL).list_leases(ended=True) == [kept]
    with pytest.raises(NotFoundError):
        store.leases(ttl=TTL).get(gone.id)


def test_an_environment_goes_with_its_dynamic_secrets_and_ended_leases(store: Store) -> None:
    add_dynamic(store)
    add_dynamic(store, "other", environment="staging")
    ended(store)
    kept = issue_lease(store, store.dynamics.get("other"))

    store.apps.remove_environment("shop", "production")

    assert [dynamic.name for dynamic in store.dynamics.list_all()] == ["other"]
    assert store.leases(ttl=TTL).list_leases(ended=True) == [kept]
    assert rows(store) == {"dynamic_secrets": 1, "leases": 1, "lease_events": 0}


def test_a_credential_that_a_dynamic_secret_uses_is_not_removed(store: Store) -> None:
    for name in ("b", "a"):
        add_dynamic(store, name)
    with pytest.raises(IllegalTransitionError, match="credential aws is used by dynamic secrets: a, b") as caught:
        store.credentials.remove("AWS")
    assert "phasesync credentials remove aws --revoke" in str(caught.value.hint)
    for name in ("a", "b"):
        store.dynamics.remove(name)
    store.credentials.remove("aws")
    assert store.credentials.list_all() == []


def test_a_credential_is_not_removed_while_it_has_to_take_leases_back(store: Store) -> None:
    """Those that it made before the dynamic secret was given another one."""
    dynamic = add_dynamic(store)
    store.credentials.add("other", access_key())
    leases = [issue_lease(store, dynamic), fail_lease(store, issue_lease(store, dynamic))]
    store.dynamics.update("ci", credential="other", config=dynamic.config)

    with pytest.raises(IllegalTransitionError, match="2 live leases were issued with the credential aws") as caught:
        store.credentials.remove("aws")
    assert caught.value.hint == "phasesync credentials remove aws --revoke"

    left = [end_lease(store, lease) for lease in leases]
    store.credentials.remove("aws")
    assert [credential.name for credential in store.credentials.list_all()] == ["other"]
    listed = store.leases(ttl=TTL).list_leases(ended=True)
    assert sorted(result.id for result in listed) == sorted(result.id for result in left), (
        "what they did is still listed"
    )


@pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("what", ["environment", "dynamic secret"])
def test_a_lease_that_is_asked_for_during_a_removal_is_not_lost(store: Store, what: str) -> None:
    """Either the removal sees it, or it is refused: no one would revoke a lease without a row."""
    dynamic = add_dynamic(store)
    asked: list[Lease] = []

    def ask() -> None:
        with suppress(PhasesyncError):
            asked.append(request_lease(store, dynamic)[1])

    thread = threading.Thread(target=ask)

    def just_before(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("DELETE FROM") and thread.ident is None:
            thread.start()
            wait_until(lambda: not thread.is_alive() or waiting(store), what="the request, or its wait for a lock")

    event.listen(store.database.engine, "before_cursor_execute", just_before)
    with suppress(IllegalTransitionError):
        if what == "environment":
            store.apps.remove_environment("shop", "production")
        else:
            store.dynamics.remove("ci")
    event.remove(store.database.engine, "before_cursor_execute", just_before)
    thread.join()

    assert store.leases(ttl=TTL).list_leases() == asked


def waiting(store: Store) -> bool:
    """Whether a statement in this database waits for a lock."""
    with store.database.read() as connection:
        found = connection.scalar(
            sa.text(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        )
    return bool(found)
