"""
The IAM policy that Phase's documentation has its users make for its AWS Secrets Manager sync: under a role with exactly
that policy, everything that Phase does works here, and what needs more names the action that it lacks.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from phasesync.core.run import Outcome
from phasesync.core.sync import AWS_MANAGED_KEY, Adopt, OnRemove, TagMode
from phasesync.engine.removal import remove_sync
from phasesync.errors import PermissionDeniedError
from tests.engine.test_denied_actions import (
    PER_KEY,
    configured,
    edited,
    one_key_less,
    own_key,
    reader_policy,
    restored,
)
from tests.support.aws_world import OTHER_REGION, AwsWorld, make_world, running_emulator

__all__ = ["make_world", "running_emulator"]

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)

MakeWorld = Callable[..., AwsWorld]

SECRETS = {
    "Sid": "AllowSecretsManagerAccess",
    "Effect": "Allow",
    "Action": [
        "secretsmanager:GetSecretValue",
        "secretsmanager:DescribeSecret",
        "secretsmanager:PutSecretValue",
        "secretsmanager:ListSecrets",
        "secretsmanager:CreateSecret",
        "secretsmanager:DeleteSecret",
        "secretsmanager:TagResource",
        "secretsmanager:UpdateSecret",
    ],
    "Resource": "*",
}
KEYS = {
    "Sid": "AllowKMSEncryption",
    "Effect": "Allow",
    "Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"],
}


@pytest.fixture
def under_it(make_world: MakeWorld) -> MakeWorld:
    """Makes a world with an AWS that allows that policy and nothing else."""

    def make(**config: Any) -> AwsWorld:
        world = make_world(**config)
        world.enforce(lambda: {"Version": "2012-10-17", "Statement": [SECRETS]})
        return world

    return make


def values(world: AwsWorld) -> dict[str, str]:
    """What readers at AWS get."""
    found: dict[str, str] = json.loads(world.outside.text(world.name))
    return found


def test_a_new_secret_is_made_and_follows_every_edit(under_it: MakeWorld):
    world = under_it()
    assert world.run().outcome is Outcome.APPLIED
    assert values(world) == {"URL": "postgres://db", "USER": "shop"}
    edited(world)
    one_key_less(world)
    assert values(world) == {"URL": "postgres://new"}
    assert world.run().outcome is Outcome.UNCHANGED


def test_what_somebody_else_writes_is_written_over(under_it: MakeWorld):
    world = under_it()
    world.run()
    world.outside.put(world.name, '{"URL": "theirs"}')
    assert world.run().outcome is Outcome.APPLIED
    assert values(world)["URL"] == "postgres://db"


@pytest.mark.reads_values("syncs adopt --import")
def test_existing_secrets_are_listed_imported_and_taken_over(under_it: MakeWorld):
    world = under_it()
    world.outside.create(world.name, '{"URL": "theirs"}')
    destination = world.open()
    assert [one.name for one in destination.list_names()] == [world.name]
    imported = destination.read_value(world.name)
    assert imported is not None
    assert imported.reveal_text() == '{"URL": "theirs"}'

    world.store.sync_requests.consent_to_adopt("web", Adopt.OVERWRITE, actor="ada")
    assert world.run().outcome is Outcome.APPLIED
    assert values(world) == {"URL": "postgres://db", "USER": "shop"}


def test_a_key_of_the_customer_encrypts(under_it: MakeWorld):
    world = under_it()
    world.run()
    key = own_key(world)
    assert configured(kms_key=key)(world).outcome is Outcome.APPLIED
    edited(world)
    assert world.key_uses_allowed_by({"Statement": [KEYS | {"Resource": key}]}) == []
    assert world.outside.describe(world.name)["KmsKeyId"] == key


def test_description_tags_and_deletion_work_as_well(under_it: MakeWorld):
    world = under_it(**PER_KEY)
    world.run()
    assert configured(description="the shop", tags={"team": "shop"})(world).outcome is Outcome.APPLIED
    assert one_key_less(world).outcome is Outcome.APPLIED
    assert world.outside.names() == ["shop/production/URL"]


@pytest.mark.parametrize(
    ("action", "config", "act"),
    [
        pytest.param("secretsmanager:RestoreSecret", {}, restored, id="a deletion to cancel"),
        pytest.param(
            "secretsmanager:UntagResource",
            {"tags": {"team": "shop"}, "tag_mode": TagMode.REPLACE_OWN},
            configured(tags={}),
            id="a tag to take off",
        ),
        pytest.param(
            "secretsmanager:ReplicateSecretToRegions",
            {},
            configured(replicas={OTHER_REGION: AWS_MANAGED_KEY}),
            id="a copy in another Region",
        ),
        pytest.param(
            "secretsmanager:GetResourcePolicy",
            {},
            configured(resource_policy=reader_policy("one")),
            id="a resource policy",
        ),
    ],
)
def test_what_needs_more_names_the_action_that_is_missing(
    under_it: MakeWorld, action: str, config: dict[str, Any], act: Callable[[AwsWorld], Any]
):
    world = under_it(**config, on_remove=OnRemove.DELETE)
    world.run()

    run = act(world)

    assert run.outcome is Outcome.FAILED
    assert run.error.cls == PermissionDeniedError.__name__
    assert action in run.error.message
    assert "phasesync aws policy web" in run.error.hint


def test_a_sync_that_is_removed_leaves_its_tags_and_says_why(under_it: MakeWorld):
    world = under_it()
    world.run()
    (line,) = remove_sync(world.context, "web", actor="ada")
    assert "secretsmanager:UntagResource" in line
    assert values(world) == {"URL": "postgres://db", "USER": "shop"}
