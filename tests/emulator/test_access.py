"""What is denied to whom, and how sessions of roles begin and end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from phasesync.emulator import AwsEmulator
from tests.emulator.conftest import ACCESS_KEY, OTHER_ACCOUNT, Boto, code_of, passes, refuses, text_of

ROLE = f"arn:aws:iam::{OTHER_ACCOUNT}:role/phasesync"
DENIED = "AccessDeniedException"


def session(boto: Boto, **more: Any) -> dict[str, str]:
    """Assume the role; return what a client of it takes."""
    told = boto("sts").assume_role(RoleArn=ROLE, RoleSessionName="run", **more)["Credentials"]
    return {
        "aws_access_key_id": told["AccessKeyId"],
        "aws_secret_access_key": told["SecretAccessKey"],
        "aws_session_token": told["SessionToken"],
    }


@refuses("rights")
def test_refuses_a_denied_action_in_the_words_of_aws(aws: AwsEmulator, sm: Any):
    aws.outside.create("shop")
    aws.deny("secretsmanager:PutSecretValue")
    put = {"SecretId": "shop", "SecretString": "two"}
    assert code_of(lambda: sm.put_secret_value(**put)) == DENIED
    assert text_of(lambda: sm.put_secret_value(**put)) == (
        "User: arn:aws:sts::123456789012:user/moto is not authorized to perform: secretsmanager:PutSecretValue "
        "on resource: shop because no identity-based policy allows the secretsmanager:PutSecretValue action"
    )
    assert aws.outside.text("shop") == "theirs"


@passes("rights")
def test_other_actions_resources_and_callers_are_let_in(aws: AwsEmulator, sm: Any, boto: Boto):
    arn = aws.outside.create("shop")
    aws.outside.create("cart")
    aws.deny("secretsmanager:Get*", resource=arn)
    aws.deny("secretsmanager:DescribeSecret", caller="AKIASOMEBODYELSE0000")
    sm.get_secret_value(SecretId="cart")
    sm.describe_secret(SecretId="shop")
    assert code_of(lambda: sm.get_secret_value(SecretId="shop")) == DENIED


@refuses("rights")
def test_an_explicit_denial_and_a_list_have_words_of_their_own(aws: AwsEmulator, sm: Any):
    aws.deny("secretsmanager:ListSecrets")
    aws.deny("secretsmanager:DescribeSecret", explicit=True)
    assert "perform: secretsmanager:ListSecrets because no identity-based policy" in text_of(lambda: sm.list_secrets())
    assert text_of(lambda: sm.describe_secret(SecretId="shop")).endswith("explicit deny in an identity-based policy")


@refuses("rights")
def test_a_denial_holds_for_a_role_and_names_its_session(aws: AwsEmulator, sm: Any, boto: Boto):
    of_role = boto(**session(boto))
    aws.deny("secretsmanager:CreateSecret", caller=ROLE)
    assert f"arn:aws:sts::{OTHER_ACCOUNT}:assumed-role/phasesync/run" in text_of(
        lambda: of_role.create_secret(Name="shop")
    )
    sm.create_secret(Name="shop")


@refuses("further rights")
@pytest.mark.parametrize(
    ("action", "arguments"),
    [
        ("TagResource", {"Tags": [{"Key": "k", "Value": "v"}]}),
        ("ReplicateSecretToRegions", {"AddReplicaRegions": [{"Region": "eu-central-1"}]}),
    ],
)
def test_a_create_with_more_needs_more(aws: AwsEmulator, sm: Any, action: str, arguments: dict[str, Any]):
    aws.deny(f"secretsmanager:{action}")
    assert f"perform: secretsmanager:{action} " in text_of(lambda: sm.create_secret(Name="shop", **arguments))
    assert aws.outside.names() == []


@passes("further rights")
def test_a_create_without_tags_needs_no_right_to_tag(aws: AwsEmulator, sm: Any):
    aws.deny("secretsmanager:TagResource")
    sm.create_secret(Name="shop")


@refuses("further rights")
def test_a_batch_tells_which_secrets_it_may_not_read(aws: AwsEmulator, sm: Any):
    for name in ("shop", "cart"):
        aws.outside.create(name)
    aws.deny("secretsmanager:GetSecretValue", resource="cart")
    told = sm.batch_get_secret_value(SecretIdList=["shop", "cart"])
    assert [value["Name"] for value in told["SecretValues"]] == ["shop"]
    assert [(error["SecretId"], error["ErrorCode"]) for error in told["Errors"]] == [("cart", DENIED)]
    aws.deny("secretsmanager:ListSecrets")
    filters = [{"Key": "name", "Values": ["s"]}]
    assert code_of(lambda: sm.batch_get_secret_value(Filters=filters)) == DENIED


@refuses("rights")
def test_denies_calls_of_other_services_too(aws: AwsEmulator, boto: Boto):
    aws.deny("sts:AssumeRole")
    aws.deny("kms:CreateKey")
    aws.deny("iam:CreateUser")
    assert code_of(lambda: session(boto)) == "AccessDenied"
    assert code_of(lambda: boto("kms").create_key()) == DENIED
    assert code_of(lambda: boto("iam").create_user(UserName="x")) == "AccessDenied"
    boto("sts").get_caller_identity()


# --- sessions


@passes("end of sessions")
def test_a_session_lasts_as_long_as_it_was_asked_for(aws: AwsEmulator, boto: Boto):
    of_role = boto(**session(boto, DurationSeconds=900))
    aws.clock.advance(seconds=899)
    assert of_role.create_secret(Name="shop")["ARN"].split(":")[4] == OTHER_ACCOUNT


@refuses("end of sessions")
def test_refuses_a_session_that_has_ended(aws: AwsEmulator, boto: Boto):
    keys = session(boto, DurationSeconds=900)
    boto(**keys).create_secret(Name="shop")
    aws.clock.advance(seconds=900)
    assert code_of(lambda: boto(**keys).describe_secret(SecretId="shop")) == "ExpiredTokenException"
    assert code_of(lambda: boto("sts", **keys).get_caller_identity()) == "ExpiredToken"
    boto().create_secret(Name="shop")


@refuses("end of sessions")
def test_ends_the_sessions_of_a_role_before_their_time(aws: AwsEmulator, boto: Boto):
    former = session(boto)
    aws.end_sessions(ROLE)
    assert code_of(lambda: boto(**former).list_secrets()) == "ExpiredTokenException"
    boto(**session(boto)).list_secrets()


def test_the_end_of_a_session_is_told_by_the_clock(aws: AwsEmulator, boto: Boto):
    aws.clock.advance(days=400)
    told = boto("sts").assume_role(RoleArn=ROLE, RoleSessionName="run")["Credentials"]["Expiration"]
    assert 3598 <= (told - aws.clock.now()).total_seconds() <= 3600


@pytest.fixture
def guarded_role(aws: AwsEmulator, boto: Boto) -> str:
    """A role with a trust policy that asks for an External ID."""
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": "*"},
                "Action": "sts:AssumeRole",
                "Condition": {"StringEquals": {"sts:ExternalId": "ours"}},
            },
            {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:TagSession"},
        ],
    }
    made = boto("iam").create_role(RoleName="guarded", AssumeRolePolicyDocument=json.dumps(trust))
    return str(made["Role"]["Arn"])


@refuses("External ID")
@pytest.mark.parametrize("more", [{}, {"ExternalId": "other"}])
def test_refuses_to_assume_a_role_without_its_external_id(guarded_role: str, boto: Boto, more: dict[str, str]):
    assume = {"RoleArn": guarded_role, "RoleSessionName": "run", **more}
    assert code_of(lambda: boto("sts").assume_role(**assume)) == "AccessDenied"


@passes("External ID")
def test_assumes_a_role_with_its_external_id(guarded_role: str, boto: Boto):
    boto("sts").assume_role(RoleArn=guarded_role, RoleSessionName="run", ExternalId="ours")


@refuses("role chaining")
@passes("role chaining")
def test_a_role_assumed_by_a_role_lasts_an_hour_at_most(aws: AwsEmulator, boto: Boto):
    sts = boto("sts", **session(boto))
    other = f"arn:aws:iam::{OTHER_ACCOUNT}:role/other"
    assume = {"RoleArn": other, "RoleSessionName": "chained"}
    assert code_of(lambda: sts.assume_role(**assume, DurationSeconds=3601)) == "ValidationError"
    sts.assume_role(**assume, DurationSeconds=3600)


def test_an_access_key_of_another_account_sees_that_account(aws: AwsEmulator, boto: Boto):
    others = aws.outside.at(account=OTHER_ACCOUNT)
    key, secret = others.create_user("deploy")
    client = boto(aws_access_key_id=key, aws_secret_access_key=secret)
    client.create_secret(Name="theirs")
    assert others.names() == ["theirs"]
    assert aws.outside.names() == []
    aws.deny("secretsmanager:*", caller=f"arn:aws:iam::{OTHER_ACCOUNT}:user/deploy")
    assert code_of(lambda: client.list_secrets()) == DENIED
    assert ACCESS_KEY not in {
        operation.access_key_id for operation in aws.operations if operation.account != "123456789012"
    }
