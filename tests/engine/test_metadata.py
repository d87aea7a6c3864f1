"""Copies in other Regions and resource policies: as wanted, nothing of others touched, no call where none is set."""

import pytest

from phasesync.core.canonical_json import canonical_json
from phasesync.core.remote import ReplicaStatus
from phasesync.core.run import Outcome
from phasesync.core.sync import AWS_MANAGED_KEY, SyncStatus
from phasesync.errors import PermissionDeniedError
from tests.support.databases import on_each_database
from tests.support.world import NAME, World

POLICY = canonical_json(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": "arn:aws:iam::111122223333:role/web"},
                "Action": "secretsmanager:GetSecretValue",
                "Resource": "*",
            }
        ],
    }
)
OTHER = POLICY.replace("role/web", "role/other")
US = "us-east-1"


def test_what_is_not_set_costs_no_call(world: World) -> None:
    world.remote.outside_create("other")
    world.run()
    world.remote.outside_replicate(NAME, US)
    world.remote.outside_policy(NAME, OTHER)
    world.destinations.log.clear()

    assert world.run().outcome is Outcome.UNCHANGED
    assert world.destinations.log == ["observe"]
    assert set(world.object.replicas) == {US}
    assert world.object.resource_policy == OTHER


@on_each_database
def test_copies_are_made_and_taken_back(world: World) -> None:
    world.configure(replicas={US: AWS_MANAGED_KEY})
    world.run()
    assert set(world.object.replicas) == {US}
    assert world.run().outcome is Outcome.UNCHANGED

    world.configure(replicas={})
    world.run()
    assert set(world.object.replicas) == set()
    assert world.run().outcome is Outcome.UNCHANGED


def test_a_copy_that_somebody_else_made_stays(world: World) -> None:
    world.configure(replicas={US: AWS_MANAGED_KEY})
    world.run()
    world.remote.outside_replicate(NAME, "eu-north-1")

    assert world.run().outcome is Outcome.UNCHANGED
    assert set(world.object.replicas) == {US, "eu-north-1"}


def test_a_copy_that_somebody_made_after_we_were_refused_stays(world: World) -> None:
    """Where the role may not replicate, an administrator does it; that copy is not ours to remove."""
    world.configure(replicas={"us-east-1": AWS_MANAGED_KEY})
    world.destinations.fail("replicate", error=PermissionDeniedError(action="secretsmanager:ReplicateSecretToRegions"))
    world.run()
    world.remote.replicate(world.object, {"us-east-1": AWS_MANAGED_KEY})
    world.configure(replicas={})
    world.run()

    assert set(world.object.observed().replicas) == {"us-east-1"}


def test_a_name_that_is_taken_there_is_refused_and_nothing_is_written_over(world: World) -> None:
    theirs = world.remote.outside_create(NAME, "theirs", region=US)
    world.configure(replicas={US: AWS_MANAGED_KEY})
    world.run()
    world.remote.settle_replication()

    run = world.run()

    assert run.outcome is Outcome.REFUSED
    assert run.error is not None and US in run.error.message
    assert theirs.text() == "theirs"
    world.edit(URL="postgres://new")
    world.run()
    assert "postgres://new" in world.text


def test_a_copy_that_failed_is_made_anew(world: World) -> None:
    world.configure(replicas={US: AWS_MANAGED_KEY})
    world.run()
    world.remote.outside_break_replication(NAME, US)

    run = world.run()
    assert (run.outcome, run.counts) == (Outcome.FAILED, {"replicate": 1})
    assert run.error is not None and US in run.error.message
    assert world.sync.settled_status is SyncStatus.FAILING, "told, and tried again slowly"
    world.remote.settle_replication()

    assert world.object.replicas[US].status is ReplicaStatus.IN_SYNC
    assert world.run().outcome is Outcome.UNCHANGED


@on_each_database
@pytest.mark.parametrize("existed", [True, False])
def test_a_resource_policy_is_put_and_kept(world: World, existed: bool) -> None:
    if existed:
        world.run()
    world.configure(resource_policy=POLICY)
    assert world.run().outcome is Outcome.APPLIED
    assert world.object.resource_policy == POLICY
    assert world.run().outcome is Outcome.UNCHANGED

    world.remote.outside_policy(NAME, OTHER)
    run = world.run()
    assert (run.outcome, run.counts) == (Outcome.APPLIED, {"set-policy": 1})
    assert world.object.resource_policy == POLICY
    assert world.versions == 1


def test_a_policy_that_is_no_longer_set_stays(world: World) -> None:
    world.configure(resource_policy=POLICY)
    world.run()
    world.configure(resource_policy=None)
    world.run()

    assert world.object.resource_policy == POLICY


def test_a_public_policy_is_refused_and_the_value_goes_out(world: World) -> None:
    world.run()
    world.configure(resource_policy=POLICY.replace('{"AWS":"arn:aws:iam::111122223333:role/web"}', '"*"'))
    world.edit(URL="postgres://new")

    run = world.run()

    assert run.outcome is Outcome.FAILED
    assert world.sync.settled_status is SyncStatus.HALTED
    assert "postgres://new" in world.text
    assert world.object.resource_policy is None
