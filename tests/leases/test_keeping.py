"""Kept leases: however many ask at once one is issued, and no key is shown that AWS does not know any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from phasesync.core.lease import LeaseStatus
from phasesync.core.lease_claim import LeaseEvent
from phasesync.emulator import DROP, Answer, Operation
from phasesync.engine.leases.issuance import IssuedLease
from phasesync.engine.leases.operations import spec_maker
from phasesync.errors import ClaimHeldError, DestinationRejectedError, PermissionDeniedError, PhasesyncError
from tests.support.databases import on_each_database
from tests.support.lease_world import ACCESS_KEY_ID, ACCOUNT, LeaseProcess, LeaseWorld
from tests.support.stores import ACTOR, LONG
from tests.support.vouching import vouch_for_leases

on_sqlite = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
AT_ONCE = 10


def give(process: LeaseProcess, *, probe_for: timedelta | None = timedelta(0)) -> IssuedLease:
    """What `leases issue ci --keep` does."""
    issued, _ = process.operations.issue_kept("ci", actor=ACTOR, probe_for=probe_for)
    return issued


def all_at_once(world: LeaseWorld, count: int = AT_ONCE) -> list[IssuedLease | PhasesyncError]:
    """Have several processes ask at the same moment; return what each got."""
    results: list[IssuedLease | PhasesyncError] = []
    ready = threading.Barrier(count)

    def ask(process: LeaseProcess) -> None:
        process.operations._kept._sleep = lambda _: time.sleep(0.02)
        ready.wait()
        try:
            results.append(give(process))
        except PhasesyncError as error:
            results.append(error)

    processes = [world.another_process(claim_ttl=LONG) for _ in range(count)]
    threads = [threading.Thread(target=ask, args=(process,)) for process in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == count
    return results


def key_of(issued: IssuedLease) -> str:
    return issued.outputs["access_key_id"].reveal_text()


@on_each_database
@pytest.mark.parametrize("cap", [50, 1])
def test_of_those_that_ask_at_once_one_issues_and_all_get_the_same(
    make_lease_world: Callable[..., LeaseWorld], cap: int
) -> None:
    world = make_lease_world(max_leases=cap)

    results = all_at_once(world)

    assert [one for one in results if not isinstance(one, IssuedLease)] == []
    assert len({key_of(one) for one in results if isinstance(one, IssuedLease)}) == 1
    assert len(world.users()) == world.aws.count("CreateUser") == 1


@on_sqlite
def test_where_the_one_that_issues_fails_each_hears_why_and_nothing_is_left(world: LeaseWorld) -> None:
    world.deny("iam:CreateUser")

    results = all_at_once(world, 4)

    assert all(isinstance(one, PermissionDeniedError) for one in results)
    assert world.users() == set()


@on_sqlite
def test_where_the_one_that_issues_dies_another_one_does_once_its_claim_is_over(world: LeaseWorld) -> None:
    dead = world.another_process(claim_ttl=LONG)
    orders = spec_maker(dead.context, world.dynamic, timedelta(hours=1), lambda: "0" * 16)
    claim, _ = dead.leases.request(world.dynamic, orders, ttl=timedelta(hours=1), owner="dead", for_keep=True)
    waits = 0

    def wait(_seconds: float) -> None:
        nonlocal waits
        waits += 1
        assert world.users() == set()
        if waits == 3:
            world.let_time_pass(hours=2)

    world.operations._kept._sleep = wait
    issued = give(world)

    assert waits == 3
    assert world.users() == {issued.lease.spec.name}
    assert claim.lease_id != issued.lease.id


@on_sqlite
def test_who_waits_for_too_long_is_told(world: LeaseWorld) -> None:
    other = world.another_process(claim_ttl=LONG)
    orders = spec_maker(other.context, world.dynamic, timedelta(hours=1), lambda: "0" * 16)
    other.leases.request(world.dynamic, orders, ttl=timedelta(hours=1), owner="slow", for_keep=True)
    passed = iter(range(0, 10_000, 60))
    world.clock.monotonic = lambda: float(next(passed))  # type: ignore[method-assign]

    with pytest.raises(ClaimHeldError, match="another process is issuing a lease of ci to be kept"):
        give(world)


@on_sqlite
def test_who_asks_for_a_lease_of_its_own_waits_for_nobody(world: LeaseWorld) -> None:
    other = world.another_process(claim_ttl=LONG)
    orders = spec_maker(other.context, world.dynamic, timedelta(hours=1), lambda: "0" * 16)
    other.leases.request(world.dynamic, orders, ttl=timedelta(hours=1), owner="slow", for_keep=True)

    first, second = world.issue(), world.issue(keep=True)

    assert world.users() == {first.lease.spec.name, second.lease.spec.name}


# --- keys that are gone


@on_each_database
@pytest.mark.parametrize("cap", [50, 1])
def test_a_key_whose_user_was_deleted_is_not_handed_out_again(
    make_lease_world: Callable[..., LeaseWorld], cap: int
) -> None:
    world = make_lease_world(max_leases=cap)
    first = give(world)
    world.delete_by_hand(first.lease.spec.name)

    second = give(world)

    assert key_of(second) != key_of(first)
    assert world.users() == {second.lease.spec.name} == world.wanted()
    assert world.lease(first.lease.id).status is LeaseStatus.REVOKING
    assert LeaseEvent.GIVEN_AGAIN not in [one.event for one in world.leases.records(first.lease.id)]
    world.let_time_pass(minutes=6)
    world.sweep()
    assert not world.lease(first.lease.id).live


@on_sqlite
@pytest.mark.parametrize("how", ["deleted", "inactive"])
def test_a_key_that_somebody_took_away_is_replaced_and_its_user_goes(world: LeaseWorld, how: str) -> None:
    first = give(world)
    named = {"UserName": first.lease.spec.name, "AccessKeyId": key_of(first)}
    if how == "deleted":
        world.iam.delete_access_key(**named)
    else:
        world.iam.update_access_key(**named, Status="Inactive")

    second = give(world)

    assert world.users() == {second.lease.spec.name} == world.wanted()


@on_sqlite
def test_many_that_find_a_dead_key_at_once_issue_one(world: LeaseWorld) -> None:
    first = give(world)
    world.delete_by_hand(first.lease.spec.name)

    results = all_at_once(world, 5)

    keys = {key_of(one) for one in results if isinstance(one, IssuedLease)}
    assert (len(keys), key_of(first) in keys, len(world.users())) == (1, False, 1)


@on_sqlite
def test_a_good_key_is_asked_for_each_time_with_one_call(world: LeaseWorld) -> None:
    first = give(world)
    before = len(world.aws.operations)

    second = give(world)

    asked = [(one.name, one.access_key_id) for one in world.aws.operations[before:]]
    assert asked == [("GetCallerIdentity", key_of(first))]
    assert (key_of(second), second.known) == (key_of(first), True)


def of_the_lease(answer: Answer) -> Callable[[Operation], Answer | None]:
    """Have calls of keys of leases answered wrongly."""
    return lambda one: answer if one.access_key_id != ACCESS_KEY_ID else None


@on_sqlite
@pytest.mark.parametrize("wrong", [DROP, Answer("ServiceFailure", "it broke", status=500), Answer("Throttling", "x")])
def test_where_sts_does_not_answer_the_key_is_handed_out_as_it_is(world: LeaseWorld, wrong: Answer) -> None:
    first = give(world)
    world.aws.do("GetCallerIdentity", of_the_lease(wrong), times=None)

    second = give(world)

    assert (key_of(second), second.known) == (key_of(first), None)


@on_sqlite
def test_a_key_that_sts_does_not_know_and_iam_has_is_good(world: LeaseWorld) -> None:
    """It is new, or the Region's STS is not active for the account."""
    first = give(world)
    unknown = Answer("InvalidClientTokenId", "The security token included in the request is invalid.", status=403)
    world.aws.do("GetCallerIdentity", of_the_lease(unknown), times=None)

    assert key_of(give(world)) == key_of(first)
    assert len(world.users()) == 1


@on_sqlite
def test_a_new_user_that_iam_does_not_find_yet_is_waited_for(world: LeaseWorld) -> None:
    first = give(world, probe_for=None)
    world.aws.timing.new_key_takes = timedelta(seconds=10)
    world.aws.state.users.hide(ACCOUNT, first.lease.spec.name, timedelta(seconds=5))
    world.operations._kept._sleep = lambda seconds: world.aws.clock.advance(seconds=seconds)

    assert key_of(give(world)) == key_of(first)


@on_sqlite
def test_where_iam_may_not_be_asked_what_sts_says_counts(world: LeaseWorld) -> None:
    first = give(world)
    world.alter(first.lease.id, issued_at=first.lease.requested_at - timedelta(minutes=5))
    world.delete_by_hand(first.lease.spec.name)
    world.deny("iam:ListAccessKeys")

    assert key_of(give(world)) != key_of(first)


# --- restored databases


@on_sqlite
def test_an_accepted_backup_hands_out_no_key_from_before(world: LeaseWorld) -> None:
    first = give(world)
    world.become_restored()
    world.store.restore_mark.accept(ahead=1)

    second = give(world)

    assert key_of(second) != key_of(first)
    assert world.users() == {first.lease.spec.name, second.lease.spec.name}


@on_sqlite
def test_a_key_that_was_revoked_after_the_backup_is_not_handed_out(world: LeaseWorld) -> None:
    first = give(world)
    row = world.lease(first.lease.id)
    with world.store.database.read() as connection:
        from phasesync.store.tables import leases

        kept = connection.execute(leases.select()).one().kept
    world.revoke(first.lease.id)
    with world.store.database.write() as connection:
        connection.execute(leases.update().values(kept=kept, status="active", ended_at=None))
    vouch_for_leases(world.store.database)
    assert world.lease(first.lease.id).kept and row.kept

    assert key_of(give(world)) != key_of(first)


@on_sqlite
def test_a_recipe_that_names_what_is_not_there_says_so_to_all(make_lease_world: Callable[..., LeaseWorld]) -> None:
    world = make_lease_world(groups=("gone",))

    results = all_at_once(world, 3)

    assert all(isinstance(one, DestinationRejectedError) for one in results)
