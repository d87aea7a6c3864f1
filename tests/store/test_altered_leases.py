"""An attacker with write access and no key: an altered dynamic secret or lease is noticed, and blocks nothing else."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from phasesync.core.dynamic import DynamicSecret
from phasesync.core.lease import Cause, Lease, LeaseStatus, begin_revoke, revoked
from phasesync.core.lease_claim import ClaimedLease, Entry, LeaseEvent
from phasesync.core.model import SecretValue
from phasesync.errors import CiphertextError, IllegalTransitionError
from phasesync.store import Store, tables
from tests.support.stores import (
    EXPIRED,
    TTL,
    access_key,
    add_dynamic,
    alter,
    dynamic_draft,
    end_lease,
    issue_lease,
    move_lease,
    put,
    request_lease,
)
from tests.support.values import HOUR

YEAR = timedelta(days=365)
on_sqlite = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
"""What is told from what was read alone; what a query finds is tried on both."""
KEPT = {"secret_access_key": SecretValue("wJalrXUtnFEMI")}


def column(store: Store, table: sa.Table, row_id: str, name: str) -> Any:
    """What stands in a row."""
    with store.database.read() as connection:
        return connection.scalar(sa.select(table.c[name]).where(table.c.id == row_id))


def swap(store: Store, table: sa.Table, name: str, ids: tuple[str, str]) -> None:
    """Exchange what two rows have in a column."""
    first, second = (column(store, table, one, name) for one in ids)
    assert first != second, "there would be nothing to notice"
    alter(store, table, ids[0], **{name: second})
    alter(store, table, ids[1], **{name: first})


def flip(store: Store, table: sa.Table, name: str, row_id: str) -> None:
    """Change one bit of a ciphertext."""
    ciphertext = column(store, table, row_id, name)
    alter(store, table, row_id, **{name: ciphertext[:-1] + bytes([ciphertext[-1] ^ 1])})


def two_recipes(store: Store) -> tuple[DynamicSecret, DynamicSecret]:
    """Two dynamic secrets that have nothing in common."""
    first = add_dynamic(store, "ci")
    put(store, environment="staging")
    store.credentials.add("other", access_key())
    draft = dynamic_draft("cd", environment="staging", path="/db", credential="other", issuer="aws-assume-role")
    store.dynamics.add(draft)
    return first, store.dynamics.update("cd", credential="other", config=replace(draft.config, max_ttl=9 * HOUR))


def due(store: Store, *, restored: bool = False) -> dict[str, ClaimedLease]:
    """Claim what a daemon has to act on; lease id -> it."""
    claimed = store.leases(ttl=TTL).claim_due("daemon", limit=9, again=9, restored=restored)
    return {claimed_lease.claim.lease_id: claimed_lease for claimed_lease in claimed}


# --- recipes

BOUND = ("name", "environment_id", "path", "credential_id", "issuer", "version", "config")


@pytest.mark.parametrize("name", BOUND)
def test_two_recipes_that_were_mixed_are_both_noticed(store: Store, name: str) -> None:
    ids = tuple(dynamic.id for dynamic in two_recipes(store))
    swap(store, tables.dynamic_secrets, name, (ids[0], ids[1]))
    for attempt in (
        lambda: store.dynamics.get("ci"),
        lambda: store.dynamics.get("cd"),
        lambda: store.dynamics.update("ci", credential="aws", config=dynamic_draft().config),
    ):
        with pytest.raises(CiphertextError, match=r"the dynamic secret c[id] in table dynamic_secrets does not auth"):
            attempt()
    listed = store.dynamics.list_all()
    assert [lease.error is not None for lease in listed] == [True, True], "each stands in the list with the reason"
    assert [lease.config.policy_arns for lease in listed] == [(), ()]


def test_a_recipe_of_which_a_bit_was_changed_is_noticed(store: Store) -> None:
    flip(store, tables.dynamic_secrets, "config", add_dynamic(store).id)
    with pytest.raises(CiphertextError, match="the dynamic secret ci ") as caught:
        store.dynamics.get("ci")
    assert "phasesync dynamic remove ci" in str(caught.value.hint)


def test_an_older_recipe_does_not_pass_for_the_current_one(store: Store) -> None:
    before = add_dynamic(store)
    old = column(store, tables.dynamic_secrets, before.id, "config")
    store.dynamics.update("ci", credential="aws", config=replace(before.config, policy_arns=()))
    alter(store, tables.dynamic_secrets, before.id, config=old)
    with pytest.raises(CiphertextError):
        store.dynamics.get("ci")


def test_an_altered_recipe_is_not_blessed_by_an_update_and_can_be_removed(store: Store) -> None:
    dynamic = add_dynamic(store)
    end_lease(store, issue_lease(store, dynamic))
    alter(store, tables.dynamic_secrets, path="/elsewhere")
    with pytest.raises(CiphertextError):
        store.dynamics.update("ci", credential="aws", config=dynamic.config)
    assert column(store, tables.dynamic_secrets, dynamic.id, "version") == 1
    store.dynamics.remove("ci")
    assert store.dynamics.list_all() == []


def test_an_altered_recipe_does_not_stand_in_the_way_of_others(store: Store) -> None:
    flip(store, tables.dynamic_secrets, "config", add_dynamic(store).id)
    assert add_dynamic(store, "other").name == "other"


# --- leases


def two_leases(store: Store, *, ttl: timedelta = EXPIRED) -> tuple[Lease, Lease]:
    """Leases of two recipes, that are due."""
    first, second = two_recipes(store)
    return issue_lease(store, first, ttl=ttl, keep=KEPT), issue_lease(store, second, ttl=ttl, keep=KEPT)


ALTERED: dict[str, Callable[[Store, Lease, Lease], None]] = {
    **{
        f"{name} swapped": lambda store, one, other, name=name: swap(  # type: ignore[misc]
            store, tables.leases, name, (one.id, other.id)
        )
        for name in ("dynamic_id", "credential_id", "max_expires_at", "details")
    },
    "a longer life": lambda store, one, _: move_lease(store, one, timedelta(microseconds=1), "max_expires_at"),
    "another credential": lambda store, one, _: alter(store, tables.leases, one.id, credential_id="0" * 32),
    "a bit changed": lambda store, one, _: flip(store, tables.leases, "details", one.id),
}


@pytest.fixture(params=list(ALTERED.values()), ids=list(ALTERED))
def altered(request: pytest.FixtureRequest, store: Store) -> Lease:
    """A lease that someone altered; another one is there as well."""
    one, other = two_leases(store)
    request.param(store, one, other)
    return one


@on_sqlite
def test_an_altered_lease_is_neither_read_nor_changed(store: Store, altered: Lease) -> None:
    leases = store.leases(ttl=TTL)
    claim = leases.claim(altered.id, "me").claim
    entry = Entry(event=LeaseEvent.REVOKED, actor="ada")
    for attempt in (
        lambda: leases.get(altered.id),
        lambda: leases.save(claim, lambda lease, now: begin_revoke(lease, Cause.REQUEST, "why", now), entry=entry),
        lambda: leases.change(
            altered.id, lambda lease, now: begin_revoke(lease, Cause.REQUEST, "why", now), entry=entry
        ),
    ):
        with pytest.raises(CiphertextError, match=f"the lease {altered.id} of c[id] in table leases does not auth"):
            attempt()
    assert column(store, tables.leases, altered.id, "status") == "active"
    assert leases.records(altered.id) == []


@on_sqlite
def test_an_altered_lease_stands_in_the_list_with_the_reason_and_hides_no_other(store: Store, altered: Lease) -> None:
    third = issue_lease(store, add_dynamic(store, "third"))
    listed = {lease.id: lease for lease in store.leases(ttl=TTL).list_leases()}
    assert len(listed) == 3
    assert listed[third.id] == third
    assert "does not authenticate" in (listed[altered.id].error or "")
    assert (listed[altered.id].status, listed[altered.id].access_key_id) == (LeaseStatus.ACTIVE, None)


def test_an_altered_lease_is_due_and_comes_with_the_reason(store: Store, altered: Lease) -> None:
    third = issue_lease(store, add_dynamic(store, "third"), ttl=EXPIRED)

    claimed = due(store)

    assert len(claimed) == 3
    assert claimed[altered.id].lease is None
    assert f"the lease {altered.id} of " in (claimed[altered.id].error or "")
    assert (claimed[third.id].lease, claimed[third.id].error) == (third, None)


@on_sqlite
def test_an_altered_lease_that_is_put_off_stays_live_and_is_looked_at_later(store: Store, altered: Lease) -> None:
    leases = store.leases(ttl=TTL)
    claimed = leases.claim(altered.id, "me")
    assert (claimed.lease, "does not authenticate" in (claimed.error or "")) == (None, True)
    leases.defer(claimed.claim, TTL)
    assert altered.id not in due(store)
    move_lease(store, altered, -TTL, "retry_at")
    assert list(due(store)) == [altered.id]


@on_sqlite
def test_nothing_that_an_altered_lease_says_of_its_status_is_believed(store: Store, altered: Lease) -> None:
    third = issue_lease(store, add_dynamic(store, "third"))
    assert store.leases(ttl=TTL).statuses([altered.id, third.id]) == {third.id: LeaseStatus.ACTIVE}


def test_two_leases_of_one_recipe_that_were_mixed_are_both_noticed(store: Store) -> None:
    """Before anything was issued, too: each would revoke the other's user."""
    dynamic = add_dynamic(store)
    one, other = (request_lease(store, dynamic)[1] for _ in range(2))
    swap(store, tables.leases, "details", (one.id, other.id))
    for lease in (one, other):
        with pytest.raises(CiphertextError):
            store.leases(ttl=TTL).get(lease.id)


@pytest.mark.parametrize("happening", ["swapped", "changed", "another lease's"])
def test_values_that_were_kept_are_not_given_out_altered(store: Store, happening: str) -> None:
    one, other = two_leases(store, ttl=HOUR)
    match happening:
        case "swapped":
            swap(store, tables.leases, "kept", (one.id, other.id))
        case "changed":
            flip(store, tables.leases, "kept", one.id)
        case _:
            alter(store, tables.leases, one.id, kept=column(store, tables.leases, other.id, "kept"))
    leases = store.leases(ttl=TTL)
    assert leases.reuse(store.dynamics.get("ci"), actor="bob") is None, "another one is issued"
    assert leases.records(one.id) == []

    third = issue_lease(store, store.dynamics.get("ci"), ttl=HOUR, keep=KEPT)
    leases.change(third.id, lambda lease, now: replace(lease, expires_at=lease.expires_at - timedelta(minutes=1)))
    kept = leases.reuse(store.dynamics.get("ci"), actor="bob")
    assert kept is not None
    assert kept.lease.id == third.id, "those whose values were altered hide no other"


def test_an_entry_that_was_moved_to_another_lease_is_noticed(store: Store) -> None:
    leases = store.leases(ttl=TTL)
    one, other = two_leases(store)
    leases.change(one.id, lambda lease, now: lease, entry=Entry(event=LeaseEvent.RENEWED, actor="ada", detail="why"))
    with store.database.write() as connection:
        connection.execute(tables.lease_events.update().values(lease_id=other.id))
    with pytest.raises(CiphertextError, match="detail in table lease_events"):
        leases.records(other.id)


# --- what is not bound must not lengthen a life either


@pytest.mark.parametrize("restored", [False, True])
def test_a_lease_past_its_maximum_is_due_whatever_its_end_was_moved_to(store: Store, restored: bool) -> None:
    lease = issue_lease(store, add_dynamic(store, max_ttl=EXPIRED), ttl=EXPIRED)
    move_lease(store, lease, YEAR, "expires_at")
    assert list(due(store, restored=restored)) == [lease.id]


ODD: dict[str, dict[str, Any]] = {
    "asked for in no year": {"requested_at": 10**18},
    "asked for before all years": {"requested_at": -(10**18)},
    "ends in no year": {"expires_at": 2**63 - 1},
    "its maximum is in no year": {"max_expires_at": 2**63 - 1},
    "tried again in no year": {"status": "revoke-failed", "retry_at": 10**18},
    "ended in no year": {"ended_at": 10**18},
    "in a state that there is not": {"status": "lent"},
    "of the last claim that can be counted": {"fence": 2**63 - 1},
    "claimed without an end": {"claim_owner": "x", "claim_until": None},
}


@pytest.mark.parametrize("columns", ODD.values(), ids=ODD)
def test_an_odd_row_keeps_no_other_lease_alive_and_ends_itself_or_is_told(
    store: Store, columns: dict[str, Any]
) -> None:
    dynamic = add_dynamic(store, max_ttl=HOUR)
    odd, good = issue_lease(store, dynamic, ttl=EXPIRED), issue_lease(store, dynamic, ttl=EXPIRED)
    plain = ", ".join(f"{name} = :{name}" for name in columns)
    with store.database.write() as connection:
        connection.execute(sa.text(f"UPDATE leases SET {plain} WHERE id = :id"), {**columns, "id": odd.id})

    claimed = due(store)

    assert claimed[good.id].lease == good
    if columns != {"expires_at": 2**63 - 1}:  # That one is due at its maximum, which is bound.
        assert odd.id in claimed
    leases = store.leases(ttl=TTL)
    assert {lease.id for lease in leases.list_leases()} == {odd.id, good.id}
    for one in claimed.values():
        leases.defer(one.claim, EXPIRED)
    again = due(store)
    assert set(again) == set(claimed), "whatever it was, it is looked at again"
    if "status" in columns:
        assert again[odd.id].lease is not None, "what was altered of it is written anew"


@on_sqlite
def test_a_text_in_place_of_an_instant_is_no_end_to_the_rounds(store: Store) -> None:
    """SQLite alone keeps such a thing."""
    dynamic = add_dynamic(store)
    odd, good = issue_lease(store, dynamic, ttl=EXPIRED), issue_lease(store, dynamic, ttl=EXPIRED)
    with store.database.write() as connection:
        for name in ("retry_at", "expires_at", "ended_at", "requested_at"):
            connection.execute(sa.text(f"UPDATE leases SET {name} = 'soon' WHERE id = :id"), {"id": odd.id})
    assert good.id in due(store)
    assert len(store.leases(ttl=TTL).list_leases()) == 2


def test_a_lease_stays_with_its_issuer_though_its_recipe_is_given_another(store: Store) -> None:
    """Of a session a daemon believes that AWS ends it by itself; a user would live for ever."""
    dynamic = add_dynamic(store)
    lease = issue_lease(store, dynamic, ttl=EXPIRED)
    alter(store, tables.dynamic_secrets, dynamic.id, issuer="aws-assume-role")
    (claimed,) = due(store).values()
    assert claimed.lease is None or claimed.lease.issuer == lease.issuer == "aws-iam-user"


def test_an_altered_lease_can_be_dropped_and_one_that_is_as_we_wrote_it_cannot(store: Store) -> None:
    dynamic = add_dynamic(store)
    altered, good = issue_lease(store, dynamic), issue_lease(store, dynamic)
    flip(store, tables.leases, "details", altered.id)
    leases = store.leases(ttl=TTL)

    leases.drop_altered(altered.id)
    with pytest.raises(IllegalTransitionError, match="is as we wrote it"):
        leases.drop_altered(good.id)

    assert [lease.id for lease in leases.list_leases(ended=True)] == [good.id]


# --- which leases there are


def errors_of(store: Store, dynamic: DynamicSecret) -> list[str]:
    """What the list of dynamic secrets says of the leases of one."""
    listed = store.dynamics.list_all()
    return [entry.error for entry in listed if entry.id == dynamic.id and entry.error is not None]


def called_ended(store: Store, lease: Lease) -> None:
    alter(store, tables.leases, lease.id, status="revoked", ended_at=lease.requested_at)


def deleted(store: Store, lease: Lease) -> None:
    with store.database.write() as connection:
        connection.execute(tables.leases.delete().where(tables.leases.c.id == lease.id))


@pytest.mark.parametrize("hide", [called_ended, deleted])
def test_a_live_lease_that_was_hidden_is_told_of_and_nothing_more_is_issued(
    store: Store, hide: Callable[[Store, Lease], None]
) -> None:
    dynamic = add_dynamic(store, max_leases=2)
    hidden, other = issue_lease(store, dynamic), issue_lease(store, dynamic)
    assert errors_of(store, dynamic) == []

    hide(store, hidden)

    assert ["are not those that it has" in result for result in errors_of(store, dynamic)] == [True]
    with pytest.raises(CiphertextError, match="leases of the dynamic secret ci") as caught:
        request_lease(store, dynamic)
    assert "phasesync dynamic update ci" in str(caught.value.hint)
    assert end_lease(store, other).status is LeaseStatus.REVOKED, "an end goes through"
    assert errors_of(store, dynamic) != [], "and vouches for nothing"

    went_on = store.dynamics.update("ci", credential="aws", config=dynamic.config)
    assert errors_of(store, went_on) == []
    assert issue_lease(store, went_on).live


def test_a_lease_that_has_ended_and_was_put_back_is_not_given_again(store: Store) -> None:
    dynamic = add_dynamic(store)
    lease = issue_lease(store, dynamic, ttl=HOUR, keep=KEPT)
    with store.database.read() as connection:
        row = connection.execute(sa.select(tables.leases).where(tables.leases.c.id == lease.id)).one()._asdict()
    end_lease(store, lease)
    alter(store, tables.leases, lease.id, **row)
    with pytest.raises(CiphertextError):
        store.leases(ttl=TTL).reuse(dynamic, actor="bob")
    assert errors_of(store, dynamic) != []


@pytest.mark.parametrize(
    "columns",
    [{"expires_at": YEAR}, {"requested_at": -YEAR}, {"expires_at": -HOUR}],
    ids=["a longer life", "begun earlier", "ended earlier"],
)
def test_a_lease_of_which_only_the_state_was_altered_is_revoked(store: Store, columns: dict[str, timedelta]) -> None:
    lease = issue_lease(store, add_dynamic(store), ttl=EXPIRED)
    alter(store, tables.leases, lease.id, **{name: getattr(lease, name) + by for name, by in columns.items()})
    leases = store.leases(ttl=TTL)
    claimed = leases.claim(lease.id, "daemon")
    assert claimed.lease is None
    leases.defer(claimed.claim, TTL)

    (again,) = due(store).values()

    assert again.lease is not None
    assert again.lease.status is LeaseStatus.REVOKE_FAILED
    assert again.lease.spec == lease.spec
    leases.save(again.claim, lambda lease, now: begin_revoke(lease, Cause.REQUEST, "altered", now))
    assert leases.save(again.claim, revoked, done=True).status is LeaseStatus.REVOKED


def test_an_older_recipe_with_all_that_vouches_for_it_is_refused(store: Store) -> None:
    """Someone wants the policies that it had."""
    before = add_dynamic(store)
    with store.database.read() as connection:
        row = connection.execute(sa.select(tables.dynamic_secrets)).one()._asdict()
    store.dynamics.update("ci", credential="aws", config=replace(before.config, policy_arns=()))
    alter(store, tables.dynamic_secrets, before.id, **row)
    for attempt in (
        lambda: store.dynamics.get("ci"),
        lambda: store.dynamics.update("ci", credential="aws", config=before.config),
        lambda: request_lease(store, before),
    ):
        with pytest.raises(CiphertextError, match="is not the one that was stored last"):
            attempt()
    store.dynamics.remove("ci")
    assert add_dynamic(store).version == 1
