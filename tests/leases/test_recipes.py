"""Dynamic secrets when they are defined: what IAM would not take is refused before the first lease."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from phasesync.core.credential import CredentialDraft, CredentialType
from phasesync.core.dynamic import DynamicConfig, DynamicDraft
from phasesync.core.lease_users import DEFAULT_TEMPLATE
from phasesync.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from tests.support.lease_world import BOUNDARY, INLINE, LeaseWorld, policy_arn
from tests.support.stores import ACTOR, put, write

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)

KEYS = {"username": "OPS_USER", "access_key_id": "OPS_ID", "secret_access_key": "OPS_SECRET"}


def recipe(**changes: Any) -> DynamicConfig:
    plain = DynamicConfig(
        user_template=DEFAULT_TEMPLATE, default_ttl=timedelta(hours=1), max_ttl=timedelta(hours=8), keys=KEYS
    )
    return replace(plain, **changes)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"user_template": "ci"}, "has no {{random}}"),
        ({"user_template": "{{who}}-{{random}}"}, "a placeholder that does not exist"),
        ({"user_template": "x" * 50 + "{{random}}"}, "names of 66 characters"),
        ({"user_template": "ci/{{random}}"}, "characters that AWS does not take"),
        ({"iam_path": "ops"}, "is not an IAM path"),
        ({"iam_path": "/" + "x" * 511 + "/"}, "is not an IAM path"),
        ({"policy_arns": ("ReadOnlyAccess",)}, "not the ARN of a managed IAM policy"),
        ({"policy_arns": tuple(policy_arn(f"p{number}") for number in range(21))}, "21 policies are more"),
        ({"groups": ("arn:aws:iam::123456789012:role/x",)}, "neither the name nor the ARN of an IAM group"),
        ({"groups": tuple(f"g{number}" for number in range(11))}, "11 groups are more"),
        ({"permission_boundary": "boundary"}, "not the ARN of a managed IAM policy"),
        ({"inline_policy": "{}"}, "not an IAM policy"),
        ({"inline_policy": INLINE.replace("s3:ListAllMyBuckets", "s3:" + "x" * 2048)}, "IAM takes 2,048"),
        ({"default_ttl": timedelta(seconds=59)}, "the shortest life is 1m"),
        ({"default_ttl": timedelta(hours=9)}, "longer than --max-ttl"),
        ({"tags": {"phasesync:lease": "mine"}}, "phasesync: is reserved, it is ours"),
        ({"tags": {"aws:x": "y"}}, "the prefix aws: is reserved"),
        ({"tags": {"k": "x", "K": "y"}}, "the tags 'k' and 'K' are the same tag to AWS"),
        ({"tags": {"<>": "x"}}, "has the character '<', which AWS does not take in tags"),
        ({"tags": {"team": "a\nb"}}, "which AWS does not take in tags"),
        ({"inline_policy": '{"Statement":[NaN]}'}, "not an IAM policy: .* NaN and Infinity"),
        ({"inline_policy": '{"Statement":' + "[" * 100_000 + "]" * 100_000 + "}"}, "nested more than 100 levels"),
        ({"policy_arns": ("arn:aws-cn:iam::aws:policy/ReadOnlyAccess",)}, "in the partition aws-cn, and .* in aws"),
        ({"permission_boundary": BOUNDARY.replace("arn:aws:", "arn:aws-us-gov:")}, "in the partition aws-us-gov"),
        ({"iam_path": "/a*/"}, "the policy for it would be for other paths"),
        ({"iam_path": "/"}, "it holds the users of everyone"),
        ({"tags": {f"tag-{number}": "" for number in range(47)}}, "AWS takes 50 tags, and 5 of them are ours"),
        ({"keys": {"password": "PASSWORD"}}, "there is no output 'password'"),
        ({"keys": {**KEYS, "username": "OPS_ID"}}, "two outputs have the key OPS_ID"),
        ({"role_arn": "arn:aws:iam::123456789012:role/x"}, "--role-arn is not for the issuer aws-iam-user"),
        ({"session_policy": ""}, "--session-policy is not for the issuer aws-iam-user"),
    ],
)
def test_what_iam_would_not_take_is_refused(world: LeaseWorld, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        world.add("ops", config=recipe(**changes))

    assert [one.name for one in world.store.dynamics.list_all()] == ["ci"]
    assert world.aws.names() == [] == world.calls()


def test_what_is_not_given_is_what_one_expects(world: LeaseWorld) -> None:
    made = world.add("ops", path="/db/replica", config=recipe(keys={}))

    assert made.config.iam_path == "/phasesync/shop/production/db/replica/"
    assert made.config.keys == {
        "username": "AWS_IAM_USERNAME",
        "access_key_id": "AWS_ACCESS_KEY_ID",
        "secret_access_key": "AWS_SECRET_ACCESS_KEY",
    }
    assert (made.config.max_leases, made.live) == (50, 0)


def test_a_path_that_is_taken_back_is_the_usual_one_again(world: LeaseWorld) -> None:
    world.add("ops", path="/db", config=recipe(iam_path="/ops/"))

    updated = world.configuration.update("ops", lambda config: replace(config, iam_path=None)).dynamic

    assert updated.config.iam_path == "/phasesync/shop/production/db/"


def test_tags_may_have_whatever_aws_takes(world: LeaseWorld) -> None:
    tags = {"Équipe _.:/=+-@": "héllo wörld ４ 2/3=@", "empty": ""}

    made = world.add("ops", config=recipe(tags=tags, policy_arns=(BOUNDARY,)))

    assert made.config.tags == tags
    assert world.operations.issue("ops", actor=ACTOR, probe_for=None).lease.live


def test_a_credential_of_another_partition_does_not_fit_the_policies(world: LeaseWorld) -> None:
    world.store.credentials.add("cn", CredentialDraft(type=CredentialType.AMBIENT, region="cn-north-1"))

    with pytest.raises(
        InvalidInputError, match="in the partition aws, and the Region cn-north-1 is in aws-cn"
    ) as caught:
        world.configuration.update("ci", lambda config: config, credential="cn")

    assert "arn:aws-cn:iam::123456789012:policy/read" in (caught.value.hint or "")


def test_groups_may_be_arns_of_any_partition_and_policies_stand_once(world: LeaseWorld) -> None:
    groups = ("arn:aws-us-gov:iam::123456789012:group/teams/deployers", "deployers", "readers")

    made = world.add("ops", config=recipe(groups=groups, policy_arns=(BOUNDARY, BOUNDARY)))

    assert (made.config.groups, made.config.policy_arns) == (("deployers", "readers"), (BOUNDARY,))


def test_policies_are_kept_without_white_space(world: LeaseWorld) -> None:
    spread = INLINE.replace(",", " ,\n  ")

    assert world.add("ops", config=recipe(inline_policy=spread)).config.inline_policy == (
        '{"Statement":[{"Action":"s3:ListAllMyBuckets","Effect":"Allow","Resource":"*"}],"Version":"2012-10-17"}'
    )


def test_keys_do_not_meet_secrets_nor_other_dynamic_secrets_of_the_folder(world: LeaseWorld) -> None:
    put(world.store, write("OPS_ID", "theirs"))

    with pytest.raises(AlreadyExistsError, match="OPS_ID is a secret of shop/production / already"):
        world.add("ops", config=recipe())
    with pytest.raises(AlreadyExistsError, match="are issued by ci already"):
        world.add("ops", config=recipe(keys={}))
    world.add("ops", path="/ops", config=recipe())

    assert [one.name for one in world.store.dynamics.list_all()] == ["ci", "ops"]


def test_no_secret_is_set_under_a_key_that_is_handed_out(world: LeaseWorld) -> None:
    with pytest.raises(AlreadyExistsError, match="AWS_ACCESS_KEY_ID of shop/production / is issued by the dynamic"):
        put(world.store, write("AWS_ACCESS_KEY_ID", "theirs"), write("URL", "postgres://db"))
    put(world.store, write("AWS_ACCESS_KEY_ID", "theirs", path="/elsewhere"))

    found = world.store.secrets.list_secrets("shop", "production")
    assert [(one.path, one.key) for one in found] == [("/elsewhere", "AWS_ACCESS_KEY_ID")]


def test_what_does_not_exist_is_named(world: LeaseWorld) -> None:
    with pytest.raises(InvalidInputError, match="'vault' is not an issuer"):
        world.add("ops", issuer="vault", config=recipe())
    with pytest.raises(NotFoundError, match="nobody"):
        world.add("ops", credential="nobody", config=recipe())
    with pytest.raises(NotFoundError, match="shop/staging"):
        world.add("ops", environment="staging", config=recipe())


def test_who_may_do_nothing_or_has_no_boundary_is_warned_about(world: LeaseWorld) -> None:
    bare = DynamicDraft(
        name="ops",
        app="shop",
        environment="production",
        path="/ops",
        credential="aws",
        issuer="aws-iam-user",
        config=recipe(),
    )

    warned = world.configuration.add(bare).warnings
    calm = world.configuration.update("ops", lambda config: replace(config, inline_policy=INLINE)).warnings
    none = world.configuration.update("ops", lambda config: replace(config, permission_boundary=BOUNDARY)).warnings

    assert ["may do nothing" in warned[0], "no permission boundary" in warned[1]] == [True, True]
    assert (len(calm), none) == (1, ())
