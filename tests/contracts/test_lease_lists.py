"""Many leases: lists, their statuses, and which ones are deleted in the end."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from phasesync.core.lease import Cause, Lease, LeaseStatus, revoked
from phasesync.core.lease_claim import Entry, LeaseEvent
from phasesync.errors import NotFoundError
from phasesync.store import Store, tables
from tests.support.sql import counted
from tests.support.stores import (
    LONG,
    TTL,
    access_key,
    add_dynamic,
    end_lease,
    fail_lease,
    issue_lease,
    move_lease,
    request_lease,
    revoke_lease,
)

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)


def listed(store: Store, **which: object) -> list[str]:
    """Ids of the leases in a list, in its order."""
    return [lease.id for lease in store.leases(ttl=TTL).list_leases(**which)]  # type: ignore[arg-type]


def several(store: Store) -> dict[str, Lease]:
    """Leases of two environments, two dynamic secrets and two credentials, asked for one minute after the other."""
    ci = add_dynamic(store)
    cd = add_dynamic(store, "cd", environment="staging", credential="other")
    issued = {
        "first": issue_lease(store, ci),
        "ended": end_lease(store, issue_lease(store, ci)),
        "failed": fail_lease(store, issue_lease(store, ci)),
        "other": issue_lease(store, cd),
        "expired": end_lease(store, issue_lease(store, cd), cause=Cause.EXPIRY),
    }
    for minutes, lease in enumerate(reversed(issued.values()), 1):
        move_lease(store, lease, -minutes * 60 * SECOND, "requested_at")
    return {name: store.leases(ttl=TTL).get(lease.id) for name, lease in issued.items()}


LISTS: list[tuple[dict[str, object], list[str]]] = [
    ({}, ["other", "failed", "first"]),
    ({"ended": True}, ["expired", "other", "failed", "ended", "first"]),
    ({"limit": 2}, ["other", "failed"]),
    ({"limit": 2, "ended": True}, ["expired", "other"]),
    ({"dynamic": "CI"}, ["failed", "first"]),
    ({"dynamic": "cd", "ended": True}, ["expired", "other"]),
    ({"dynamic": "ci", "ended": True, "limit": 1}, ["failed"]),
    ({"credential": "AWS"}, ["failed", "first"]),
    ({"credential": "other", "ended": True}, ["expired", "other"]),
    ({"credential": "nobody", "ended": True}, []),
    ({"environment": ("SHOP", "Staging")}, ["other"]),
    ({"environment": ("shop", "production"), "ended": True}, ["failed", "ended", "first"]),
    ({"environment": ("shop", "nowhere"), "ended": True}, []),
    ({"environment": ("blog", "staging"), "ended": True}, []),
    ({"environment": ("shop", "staging"), "dynamic": "ci", "ended": True}, []),
    ({"environment": ("shop", "staging"), "credential": "other", "dynamic": "cd"}, ["other"]),
]
"""What is asked for -> the names of the leases that are listed, in their order."""


def test_leases_are_listed_newest_first_by_what_they_are_of(store: Store) -> None:
    issued = several(store)
    names = {lease.id: name for name, lease in issued.items()}

    lists = [(which, [names[lease_id] for lease_id in listed(store, **which)]) for which, _ in LISTS]

    assert lists == LISTS
    for lease in store.leases(ttl=TTL).list_leases(ended=True):
        assert lease == issued[names[lease.id]] == store.leases(ttl=TTL).get(lease.id)


def test_leases_are_listed_by_the_credential_that_made_them_not_by_the_one_that_is_set_now(store: Store) -> None:
    dynamic = add_dynamic(store)
    store.credentials.add("other", access_key())
    before = issue_lease(store, dynamic)
    after = issue_lease(store, store.dynamics.update("ci", credential="other", config=dynamic.config))
    assert listed(store, credential="aws") == [before.id]
    assert listed(store, credential="other") == [after.id]


def test_an_unknown_dynamic_secret_is_told_and_not_taken_for_one_without_leases(store: Store) -> None:
    several(store)
    with pytest.raises(NotFoundError, match="there is no dynamic secret cx; there is: cd, ci"):
        listed(store, dynamic="cx")


@pytest.mark.parametrize("size", [1, 12])
def test_a_list_is_one_statement_for_any_number_of_leases(store: Store, size: int) -> None:
    dynamic = add_dynamic(store)
    for _ in range(size):
        request_lease(store, dynamic)
    with counted(store.database.engine) as statements:
        assert len(listed(store)) == size
    assert len(statements) == 1


# --- how they stand


def test_statuses_are_told_of_the_leases_that_exist(store: Store) -> None:
    issued = several(store)
    dynamic = store.dynamics.get("ci")
    _, asked = request_lease(store, dynamic)
    taken_back = revoke_lease(store, issue_lease(store, dynamic))
    wanted = [*(lease.id for lease in issued.values()), asked.id, taken_back.lease_id, "0" * 16]

    assert store.leases(ttl=TTL).statuses(wanted) == {
        issued["first"].id: LeaseStatus.ACTIVE,
        issued["ended"].id: LeaseStatus.REVOKED,
        issued["failed"].id: LeaseStatus.REVOKE_FAILED,
        issued["other"].id: LeaseStatus.ACTIVE,
        issued["expired"].id: LeaseStatus.EXPIRED,
        asked.id: LeaseStatus.REQUESTED,
        taken_back.lease_id: LeaseStatus.REVOKING,
    }


def test_statuses_are_told_of_any_number_of_leases(store: Store) -> None:
    """Beyond what one statement takes as well."""
    lease = issue_lease(store, add_dynamic(store))
    leases = store.leases(ttl=TTL)
    unknown = [f"{number:016x}" for number in range(1100)]
    assert leases.statuses([]) == {}
    assert leases.statuses(unknown) == {}
    assert leases.statuses([*unknown, lease.id]) == {lease.id: LeaseStatus.ACTIVE}
    assert leases.statuses([lease.id, *unknown]) == {lease.id: LeaseStatus.ACTIVE}


# --- pruning


def end_with_log(store: Store, lease: Lease, *, ago: timedelta) -> Lease:
    """End a lease, with an entry in its log, some time ago."""
    entry = Entry(event=LeaseEvent.REVOKED, actor="ada", detail="why")
    store.leases(ttl=TTL).save(revoke_lease(store, lease), revoked, entry=entry, done=True)
    move_lease(store, lease, -ago, "ended_at")
    return lease


def logged(store: Store) -> list[str]:
    """The leases that have entries in the table of logs."""
    with store.database.read() as connection:
        return sorted(connection.scalars(sa.select(tables.lease_events.c.lease_id)))


def test_leases_that_ended_long_ago_go_with_their_log(store: Store) -> None:
    dynamic = add_dynamic(store)
    old, older, young = (
        end_with_log(store, issue_lease(store, dynamic), ago=ago) for ago in (DAY + SECOND, 9 * DAY, DAY - LONG)
    )
    assert len(logged(store)) == 3

    assert store.leases(ttl=TTL).prune(older_than=DAY) == 2

    assert listed(store, ended=True) == [young.id]
    assert logged(store) == [young.id]
    assert store.leases(ttl=TTL).statuses([old.id, older.id, young.id]) == {young.id: LeaseStatus.REVOKED}
    assert store.leases(ttl=TTL).prune(older_than=DAY) == 0


def test_live_leases_stay_however_old_they_are(store: Store) -> None:
    dynamic = add_dynamic(store)
    live = [
        request_lease(store, dynamic)[1],
        issue_lease(store, dynamic, ttl=-SECOND),
        fail_lease(store, issue_lease(store, dynamic)),
    ]
    for lease in live:
        move_lease(store, lease, -999 * DAY, "requested_at", "expires_at", "retry_at")
    assert store.leases(ttl=TTL).prune(older_than=timedelta(0)) == 0
    assert sorted(listed(store)) == sorted(lease.id for lease in live)
