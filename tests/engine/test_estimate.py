"""What a plan says that a run will cost is what the run costs."""

from collections.abc import Callable
from typing import Any

import pytest

from phasesync.core.planning.plan import Estimate, estimate
from phasesync.core.sync import AWS_MANAGED_KEY, Adopt, Layout, OnRemove, TagMode
from tests.support.stores import ACTOR
from tests.support.world import KEY_ARN, NAME, World

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"])

POLICY = (
    '{"Statement":[{"Action":"secretsmanager:GetSecretValue","Effect":"Allow",'
    '"Principal":{"AWS":"arn:aws:iam::111122223333:role/reader"},"Resource":"*"}],"Version":"2012-10-17"}'
)
EVERYTHING: dict[str, Any] = {
    "description": "of the shop",
    "tags": {"team": "shop"},
    "replicas": {"us-east-1": AWS_MANAGED_KEY},
    "resource_policy": POLICY,
    "kms_key": KEY_ARN,
}


def first(world: World) -> None:
    pass


def first_with_everything(world: World) -> None:
    world.configure(**EVERYTHING)


def nothing_to_do(world: World) -> None:
    world.run()


def an_edit(world: World) -> None:
    world.run()
    world.edit(URL="postgres://new")


def everything_is_set_later(world: World) -> None:
    world.run()
    world.configure(**EVERYTHING)


def tags_come_and_go(world: World) -> None:
    world.configure(tags={"a": "1"}, tag_mode=TagMode.REPLACE_OWN)
    world.run()
    world.configure(tags={"b": "1"})


def replicas_come_and_go(world: World) -> None:
    world.configure(replicas={"us-east-1": AWS_MANAGED_KEY})
    world.run()
    world.configure(replicas={"us-east-2": AWS_MANAGED_KEY})


def deleted_outside_and_edited(world: World) -> None:
    world.configure(resource_policy=POLICY)
    world.run()
    world.edit(URL="postgres://new")
    world.configure(description="of the shop")
    world.remote.outside_delete(NAME)


def deleted_outside(world: World) -> None:
    world.run()
    world.remote.outside_delete(NAME)


def taken_over(world: World) -> None:
    world.remote.outside_create(NAME, "theirs")
    world.configure(kms_key=KEY_ARN, description="ours")
    world.store.sync_requests.consent_to_adopt("web", Adopt.OVERWRITE, actor=ACTOR)


def in_conflict(world: World) -> None:
    world.remote.outside_create(NAME, "theirs")


def held_back(world: World) -> None:
    world.run()
    world.edit(URL=None, USER=None)


def many_objects(world: World) -> None:
    world.configure(layout=Layout.PER_KEY, remote_name=None, name_template="many/{key}", description="of the shop")
    world.edit(**{f"K{number}": "x" for number in range(20)})
    world.run()
    world.edit(NEW="x", K1="y", K2="y")


def one_of_many_is_deleted(world: World) -> None:
    many_objects(world)
    world.configure(on_remove=OnRemove.DELETE, grace=0 * world.sync.config.grace)
    world.run()
    world.edit(K5=None)


@pytest.mark.parametrize(
    "scene",
    [
        first,
        first_with_everything,
        nothing_to_do,
        an_edit,
        everything_is_set_later,
        tags_come_and_go,
        replicas_come_and_go,
        deleted_outside,
        deleted_outside_and_edited,
        taken_over,
        in_conflict,
        held_back,
        many_objects,
        one_of_many_is_deleted,
    ],
)
def test_a_run_costs_what_its_plan_said(world: World, scene: Callable[[World], None]) -> None:
    """Calls of Secrets Manager and new versions, looking included."""
    scene(world)

    prepared = world.reconciler.prepare(world.store.sync_states.state_of("web"))
    said = estimate(prepared.guarded.go, observe_calls=prepared.desired.destination.calls)

    run = world.run()
    assert said == Estimate(calls=run.aws_calls, writes=run.versions_written)
