"""
Rights at AWS, with the real engine and adapter: each action of a configuration is needed, an error names it and the
line that prints the policy, and the printed policy is enough.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from phasesync.adapters.aws_secrets_manager.destination import SPEC
from phasesync.core.iam.sync_policy import KMS_ACTIONS, grant_of, policy_of_grants
from phasesync.core.run import Outcome, Run
from phasesync.core.sync import AWS_MANAGED_KEY, Adopt, Layout, OnRemove, TagMode
from phasesync.engine.removal import remove_sync
from phasesync.errors import PermissionDeniedError
from tests.fakes.remote import REGION
from tests.support.aws_world import ACCOUNT, KIND, OTHER_REGION, AwsWorld, make_world, running_emulator

__all__ = ["make_world", "running_emulator"]

# What is stored where makes no difference to AWS.
one_database = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)

MakeWorld = Callable[..., AwsWorld]
PRINTS_IT = "phasesync aws policy web"


@dataclass(frozen=True)
class Need:
    """
    How a sync comes to need an action.

    Attributes:
        act: leads to the call; returns the run in which it should happen.
        config: what is set on the sync from the start.
        before: done while everything is allowed.
    """

    act: Callable[[AwsWorld], Run]
    config: dict[str, Any] = field(default_factory=dict)
    before: Callable[[AwsWorld], Any] = lambda world: world.run()


def nothing(world: AwsWorld) -> None:
    """A world in which nothing has run."""


def edited(world: AwsWorld) -> Run:
    world.edit(URL="postgres://new")
    return world.run()


def configured(**changes: Any) -> Callable[[AwsWorld], Run]:
    """Set something on the sync, then run. A callable value is called with the world first."""

    def act(world: AwsWorld) -> Run:
        world.configure(**{name: value(world) if callable(value) else value for name, value in changes.items()})
        return world.run()

    return act


def restored(world: AwsWorld) -> Run:
    world.outside.delete(world.name)
    return world.run()


def one_key_less(world: AwsWorld) -> Run:
    world.edit(USER=None)
    return world.run()


def own_key(world: AwsWorld) -> str:
    return world.make_key()


def own_key_there(world: AwsWorld) -> dict[str, str]:
    return {OTHER_REGION: world.make_key(OTHER_REGION)}


def reader_policy(role: str) -> str:
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:role/{role}"},
                    "Action": "secretsmanager:GetSecretValue",
                    "Resource": "*",
                }
            ],
        },
        separators=(",", ":"),
        sort_keys=True,
    )


PER_KEY: dict[str, Any] = {
    "layout": Layout.PER_KEY,
    "remote_name": None,
    "name_template": "{app}/{env}/{key}",
    "on_remove": OnRemove.DELETE,
    "grace": timedelta(0),
}
COPIES: dict[str, Any] = {"replicas": {OTHER_REGION: AWS_MANAGED_KEY}}

NEEDS: dict[str, list[Need]] = {
    "secretsmanager:DescribeSecret": [Need(lambda world: world.run(), before=nothing)],
    "secretsmanager:CreateSecret": [Need(lambda world: world.run(), before=nothing)],
    "secretsmanager:TagResource": [
        Need(lambda world: world.run(), before=nothing),
        Need(configured(tags={"team": "shop"})),
    ],
    "secretsmanager:PutSecretValue": [Need(edited)],
    "secretsmanager:RestoreSecret": [Need(restored)],
    "secretsmanager:UpdateSecret": [
        Need(configured(description="new"), {"description": "old"}),
        Need(configured(kms_key=own_key)),
    ],
    "secretsmanager:UntagResource": [
        Need(configured(tags={}), {"tags": {"team": "shop"}, "tag_mode": TagMode.REPLACE_OWN})
    ],
    "secretsmanager:DeleteSecret": [Need(one_key_less, PER_KEY)],
    "secretsmanager:RemoveRegionsFromReplication": [
        Need(configured(replicas={}), COPIES),
        Need(one_key_less, PER_KEY | COPIES),
    ],
    "secretsmanager:ReplicateSecretToRegions": [Need(configured(**COPIES))],
    "secretsmanager:GetResourcePolicy": [Need(edited, {"resource_policy": reader_policy("one")})],
    "secretsmanager:ValidateResourcePolicy": [Need(configured(resource_policy=reader_policy("one")))],
    "secretsmanager:PutResourcePolicy": [Need(configured(resource_policy=reader_policy("one")))],
    "kms:GenerateDataKey": [
        Need(configured(kms_key=own_key)),
        Need(edited, before=lambda world: configured(kms_key=own_key)(world)),
    ],
    "kms:Decrypt": [Need(configured(kms_key=own_key))],
}
"""Action -> the ways in which a run comes to call it."""

CALLED_BY_OTHERS = {
    # No run calls these: imports and verify, lists and sweeps, a key that is named by its alias.
    "secretsmanager:GetSecretValue": lambda world: world.open().read_value(world.name),
    "secretsmanager:ListSecrets": lambda world: list(world.open().sweep(world.store.instance_id)),
    "kms:DescribeKey": lambda world: world.destinations.resolve_key(
        KIND, world.store.credentials.get("aws"), REGION, own_key(world).rpartition("/")[2]
    ),
}
NEVER_REFUSED = {
    # Without it Secrets Manager leaves older versions under the old key and says nothing (API reference,
    # UpdateSecret).
    "kms:Encrypt",
}

CASES = [
    pytest.param(action, need, id=f"{action.partition(':')[2]}-{number}")
    for action, needs in NEEDS.items()
    for number, need in enumerate(needs)
]


def policy(world: AwsWorld, **options: Any) -> dict[str, Any]:
    """The policy that is printed for the sync as it is now."""
    state = world.store.sync_states.state_of("web")
    grant = grant_of(state.sync, SPEC.actions, account=ACCOUNT, journal=state.journal, **options)
    return policy_of_grants([grant], instance_id=world.store.instance_id)


def test_every_action_of_the_printed_policies_is_tried_here():
    every = {action for actions in SPEC.actions.values() for action in actions} | set(KMS_ACTIONS)
    assert set(NEEDS) | set(CALLED_BY_OTHERS) | NEVER_REFUSED == every


@one_database
@pytest.mark.parametrize(("action", "need"), CASES)
def test_an_action_that_is_refused_is_named_with_the_line_that_prints_the_policy(
    make_world: MakeWorld, action: str, need: Need
):
    world = make_world(**need.config)
    need.before(world)
    world.aws.deny(action)

    run = need.act(world)

    assert run.outcome is Outcome.FAILED, run
    assert run.error is not None
    assert run.error.cls == PermissionDeniedError.__name__
    assert action in f"{run.error.message} {run.error.hint}"
    assert PRINTS_IT in (run.error.hint or "")


@one_database
@pytest.mark.parametrize(("action", "need"), CASES)
def test_the_printed_policy_is_enough(make_world: MakeWorld, action: str, need: Need):
    world = make_world(**need.config)
    world.enforce(lambda: policy(world))
    need.before(world)
    called = action.partition(":")[2]
    before = world.aws.count(called)

    run = need.act(world)

    assert run.outcome is Outcome.APPLIED, run
    assert world.key_uses_allowed_by(policy(world)) == []
    if action.startswith("kms:"):
        assert action in {use.action for use in world.aws.keys.uses if use.key_arn}
    elif action != "secretsmanager:TagResource":
        assert world.aws.count(called) > before
    later = [world.run().outcome for _ in range(3)]
    assert set(later) <= {Outcome.APPLIED, Outcome.UNCHANGED}
    assert later[-1] is Outcome.UNCHANGED


@one_database
def test_the_printed_policy_is_enough_for_copies_under_keys_of_the_customer(make_world: MakeWorld):
    world = make_world()
    world.enforce(lambda: policy(world))
    world.run()

    assert configured(kms_key=own_key, replicas=own_key_there)(world).outcome is Outcome.APPLIED

    keys = {use.key_arn for use in world.aws.keys.uses if use.key_arn}
    assert keys == {world.sync.config.kms_key, *(world.sync.config.replicas or {}).values()}
    assert world.key_uses_allowed_by(policy(world)) == []


@one_database
def test_the_printed_policy_is_enough_to_take_a_secret_over_and_not_to_write_it_before(make_world: MakeWorld):
    world = make_world()
    world.outside.create(world.name, '{"URL": "theirs"}')
    world.enforce(lambda: policy(world))
    theirs = world.open().observe(world.name)
    assert theirs is not None
    with pytest.raises(PermissionDeniedError):
        world.open().restore(theirs.arn)

    world.store.sync_requests.consent_to_adopt("web", Adopt.OVERWRITE, actor="ada")

    assert world.run().outcome is Outcome.APPLIED
    assert json.loads(world.outside.text(world.name)) == {"URL": "postgres://db", "USER": "shop"}


@one_database
def test_the_printed_policy_is_enough_to_give_secrets_back_former_names_included(make_world: MakeWorld):
    world = make_world()
    world.run()
    world.configure(remote_name="shop/renamed")
    held = world.another_reconciler().prepare(world.store.sync_states.state_of("web")).guarded.digest
    assert held is not None
    world.store.sync_requests.approve("web", held, actor="ada")
    world.run()
    assert sorted(world.outside.names()) == ["shop/renamed", world.name]
    printed = policy(world)
    world.enforce(lambda: printed)

    assert remove_sync(world.context, "web", actor="ada") == ()

    for name in world.outside.names():
        assert not world.outside.describe(name).get("Tags")


@pytest.mark.reads_values("port")
@one_database
@pytest.mark.parametrize("action", CALLED_BY_OTHERS)
def test_what_no_run_calls_is_named_as_well(make_world: MakeWorld, action: str):
    world = make_world()
    world.run()
    CALLED_BY_OTHERS[action](world)
    world.aws.deny(action)

    with pytest.raises(PermissionDeniedError) as caught:
        CALLED_BY_OTHERS[action](world)

    assert caught.value.action == action
    assert action in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.reads_values("port")
@one_database
def test_reading_and_listing_are_in_the_policy_of_who_asks_for_them(make_world: MakeWorld):
    world = make_world()
    world.run()
    world.enforce(lambda: policy(world, with_import=True))
    for action in ("secretsmanager:GetSecretValue", "secretsmanager:ListSecrets"):
        CALLED_BY_OTHERS[action](world)

    world.enforce(lambda: policy(world, sweep=False))
    for action in ("secretsmanager:GetSecretValue", "secretsmanager:ListSecrets"):
        with pytest.raises(PermissionDeniedError):
            CALLED_BY_OTHERS[action](world)
