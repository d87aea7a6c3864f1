"""
kill -9 between any two calls of issuing and of revoking, and between any two writes of the database.

A child process does the work and kills itself at the n-th step; the steps are counted by a first child that lives, so
that whatever is added later is killed too. Then a daemon does its rounds, and IAM holds exactly the users of live
leases.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import boto3
import pytest

from phasesync.adapters.aws.client import AwsClient
from phasesync.core.lease import LeaseStatus
from phasesync.store.database import Database
from tests.leases.test_failures import settle
from tests.support.lease_world import LeaseProcess, LeaseWorld
from tests.support.sdk import keep_event_names, keep_models
from tests.support.stores import ACTOR, open_test_store

pytestmark = [pytest.mark.slow]

keep_models()
keep_event_names()
for _service in ("iam", "sts"):
    boto3.client(_service, region_name="eu-west-1")  # In the process that children come from: it is read once for all.

LIVES = 0
"""Step at which no one dies."""


class Steps:
    """Counts the calls of AWS and the writes of the database, before and after each; dies at one of them."""

    def __init__(self, dies_at: int) -> None:
        self.count = 0
        self._dies_at = dies_at

    def reach(self) -> None:
        self.count += 1
        if self.count == self._dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """Have every call and every write pass here, in this process."""
        call, write = AwsClient.call, Database.write

        def watched_call(*args: Any, **kwargs: Any) -> Any:
            self.reach()
            answer = call(*args, **kwargs)
            self.reach()
            return answer

        @contextmanager
        def watched_write(*args: Any) -> Iterator[Any]:
            with write(*args) as connection:
                yield connection
                self.reach()  # Before the commit.
            self.reach()

        AwsClient.call = watched_call  # type: ignore[method-assign]
        Database.write = watched_write  # type: ignore[method-assign, assignment]


def child(
    act: str, lease_id: str, dies_at: int, database_url: str, aws_url: str, environ: dict[str, str], said: Path
) -> None:
    """Issue or revoke a lease in a process of its own, and say how many steps that were."""
    os.environ.update(environ)
    store = open_test_store(database_url)
    process = LeaseProcess(store, aws_url, owner=f"child-{os.getpid()}")
    steps = Steps(dies_at)
    steps.watch()
    if act == "issue":
        process.issue()
    else:
        process.operations.revoke(lease_id, actor=ACTOR)
    said.write_text(str(steps.count))


@pytest.fixture(scope="module")
def children() -> ForkServerContext:
    """Where children come from: a process of one thread that has everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.leases.test_kills"])
    return context


@pytest.fixture
def die(
    children: ForkServerContext, world: LeaseWorld, migrated_database_url: str, tmp_path: Path
) -> Callable[..., int | None]:
    """Do something in a child that dies at a step; return how many steps there were where it lived."""
    environ = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    said = tmp_path / "steps"

    def run(act: str, dies_at: int, lease_id: str = "") -> int | None:
        said.unlink(missing_ok=True)
        arguments = (act, lease_id, dies_at, migrated_database_url, world.aws.url, environ, said)
        process = children.Process(target=child, args=arguments)
        process.start()
        process.join(60)
        assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
        return int(said.read_text()) if process.exitcode == 0 else None

    return run


def moments(steps: int | None) -> Iterator[int]:
    """Return each step at which a child shall die."""
    assert steps is not None and steps > 20, "six calls and some writes, before and after each"
    return iter(range(1, steps + 1))


@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_killed_at_any_step_of_issuing_no_user_is_left_that_no_lease_wants(
    world: LeaseWorld, die: Callable[..., int | None]
) -> None:
    for step in moments(die("issue", LIVES)):
        before = world.wanted()
        assert die("issue", step) is None

        settle(world)

        assert world.users() == world.wanted(), step
        # Whether its key was shown is not known: the row decides, and the user follows it.
        for lease in world.leases.list_leases():
            if lease.spec.name not in before and lease.status is LeaseStatus.ACTIVE:
                world.revoke(lease.id)


@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_killed_at_any_step_of_taking_back_the_daemon_finishes_it(
    world: LeaseWorld, die: Callable[..., int | None]
) -> None:
    first = world.issue().lease
    for step in moments(die("revoke", LIVES, first.id)):
        lease = world.issue().lease
        assert die("revoke", step, lease.id) is None

        settle(world)

        left = world.lease(lease.id)
        if left.status is LeaseStatus.ACTIVE:
            assert world.users() == {lease.spec.name}, f"died before it had begun, at step {step}"
            world.revoke(lease.id)
            left = world.lease(lease.id)
        assert (left.status, world.users()) == (LeaseStatus.REVOKED, set()), step
