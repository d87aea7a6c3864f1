"""
Each call that issuing and revoking makes goes wrong, in each way: after the daemon's rounds IAM holds exactly the
users of live leases.

The calls are found by running each act once, so that whatever is added to it later goes wrong too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from phasesync.core.lease import LeaseStatus
from phasesync.emulator import DROP, Answer, Operation, When
from phasesync.errors import PhasesyncError
from tests.support.lease_world import INLINE, LeaseWorld

pytestmark = [
    pytest.mark.slow,
    # What the database does at a step is the same on both, and tried on both in tests/contracts.
    pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True),
]

MOST = 40
"""More calls than any act makes; a test that runs out of them ends."""


@dataclass(frozen=True)
class Wrong:
    """One way in which a call goes wrong. `lasts`: everything after it goes wrong as well, until AWS is repaired."""

    name: str
    answer: Answer
    when: When = "before"
    lasts: bool = False


WAYS = [
    Wrong("refused", Answer("AccessDenied", "not authorized", status=403)),
    Wrong("throttled", Answer("Throttling", "Rate exceeded")),
    Wrong("broken", Answer("ServiceFailure", "internal error", status=500)),
    Wrong("broken after it was carried out", Answer("ServiceFailure", "internal error", status=500), when="after"),
    Wrong("never arrives", DROP),
    Wrong("its answer is lost", DROP, when="after"),
    Wrong("AWS is gone from here on", DROP, lasts=True),
    Wrong("answers are lost from here on", DROP, when="after", lasts=True),
    Wrong("all is refused from here on", Answer("AccessDenied", "not authorized", status=403), lasts=True),
]
each_way = pytest.mark.parametrize("wrong", WAYS, ids=lambda wrong: wrong.name)


class Trouble:
    """Has the n-th call of phasesync go wrong, counted from now."""

    def __init__(self, world: LeaseWorld, nth: int, wrong: Wrong) -> None:
        self.seen = 0
        self._nth = nth
        self._wrong = wrong
        self._world = world
        world.aws.on_request = self._answer

    def _answer(self, when: When, operation: Operation) -> Answer | None:
        if not self._world.is_ours(operation):
            return None
        if when == "before":
            self.seen += 1
        hit = self.seen >= self._nth if self._wrong.lasts else self.seen == self._nth
        return self._wrong.answer if hit and when == self._wrong.when else None

    def mend(self) -> None:
        """Have AWS answer as it should again."""
        self._world.aws.on_request = None


def settle(world: LeaseWorld) -> None:
    """Let a daemon do its rounds, with time in between, until nothing is due any more."""
    for _ in range(4):
        world.sweep()
        if not any(lease.retry_at or lease.status is not LeaseStatus.ACTIVE for lease in world.leases.list_leases()):
            return
        world.let_time_pass(minutes=11)
    world.sweep()


def is_settled(world: LeaseWorld) -> None:
    """IAM holds exactly the users of live leases, and no lease hangs in between."""
    assert world.users() == world.wanted()
    between = [
        (lease.status, lease.error)
        for lease in world.leases.list_leases()
        if lease.status not in (LeaseStatus.ACTIVE, LeaseStatus.REVOKING)
    ]
    assert between == []
    for lease in world.leases.list_leases():
        # What was perhaps asked for and is not there is looked at once more when no request can arrive any more.
        assert lease.status is LeaseStatus.ACTIVE or (not lease.was_issued and lease.retry_at is not None)


@each_way
def test_issuing_goes_wrong_at_each_call(make_lease_world: Callable[..., LeaseWorld], wrong: Wrong) -> None:
    world = make_lease_world()
    other = world.issue().lease
    for nth in range(1, MOST):
        trouble = Trouble(world, nth, wrong)
        try:
            issued = world.issue()
        except PhasesyncError:
            issued = None
        reached = trouble.seen >= nth
        at_once = set() if wrong.lasts else world.users() - {other.spec.name}
        trouble.mend()

        if issued is None:
            assert at_once == set(), f"undone at once, call {nth}"
        settle_soon(world)
        is_settled(world)
        wanted = {other.spec.name} | ({issued.lease.spec.name} if issued else set())
        assert world.users() == wanted, nth
        if issued is not None:
            world.revoke(issued.lease.id)
        if not reached:
            assert issued is not None and nth > 6, "there were at least six calls to go wrong"
            return
    pytest.fail("issuing never came to an end")


def settle_soon(world: LeaseWorld) -> None:
    """Let a daemon do its rounds, in so little time that the leases of this test do not end."""
    world.sweep()
    world.let_time_pass(seconds=3)
    world.sweep()


def as_it_was_made(_world: LeaseWorld, _name: str) -> None:
    """No one touched the user."""


def with_more_on_it(world: LeaseWorld, name: str) -> None:
    """Someone else hung things on it, so that it has to be stripped."""
    world.iam.create_access_key(UserName=name)
    world.iam.put_user_policy(UserName=name, PolicyName="theirs", PolicyDocument=INLINE)
    world.iam.create_login_profile(UserName=name, Password="Correct-Horse-9")


CASES = [
    *((as_it_was_made, wrong) for wrong in WAYS),
    # The calls that strip a user are all of one kind: two ways show as much as nine.
    *((with_more_on_it, wrong) for wrong in WAYS if wrong.name in ("refused", "its answer is lost")),
]


@pytest.mark.parametrize(("arrange", "wrong"), CASES, ids=[f"{one.__name__}, {wrong.name}" for one, wrong in CASES])
def test_taking_back_goes_wrong_at_each_call(
    world: LeaseWorld, wrong: Wrong, arrange: Callable[[LeaseWorld, str], None]
) -> None:
    for nth in range(1, MOST):
        lease = world.issue().lease
        arrange(world, lease.spec.name)
        trouble = Trouble(world, nth, wrong)
        done = world.revoke(lease.id)
        reached = trouble.seen >= nth
        trouble.mend()

        assert (done.error is None) == (done.lease.status is LeaseStatus.REVOKED)
        settle(world)
        assert (world.users(), world.lease(lease.id).status) == (set(), LeaseStatus.REVOKED), nth
        if not reached:
            assert nth > 6, "there were at least six calls to go wrong"
            return
    pytest.fail("taking back never came to an end")
