"""Rotating secrets, and secrets of other AWS services."""

from __future__ import annotations

from typing import Any

import pytest

from phasesync.emulator import AwsEmulator
from tests.emulator.conftest import code_of, passes, refuses

FUNCTION = "arn:aws:lambda:eu-west-1:123456789012:function:rotate"
REFUSED = "InvalidRequestException"


@pytest.fixture
def shop(aws: AwsEmulator) -> str:
    return aws.outside.create("shop", "one")


def labels(sm: Any) -> list[str]:
    found = sm.describe_secret(SecretId="shop")["VersionIdsToStages"]
    return sorted(label for stages in found.values() for label in stages)


@refuses("rotation")
def test_refuses_rotation_without_a_function(shop: str, sm: Any):
    assert code_of(lambda: sm.rotate_secret(SecretId="shop")) == REFUSED
    assert "RotationEnabled" not in sm.describe_secret(SecretId="shop")


@refuses("rotation")
def test_refuses_a_second_rotation_while_one_is_under_way(aws: AwsEmulator, shop: str, sm: Any):
    aws.outside.begin_rotation("shop")
    assert labels(sm) == ["AWSCURRENT", "AWSPENDING"]
    assert code_of(lambda: sm.rotate_secret(SecretId="shop", RotationLambdaARN=FUNCTION)) == REFUSED


@passes("rotation")
def test_a_rotation_ends_with_another_current_value(aws: AwsEmulator, shop: str, sm: Any):
    token = aws.outside.begin_rotation("shop")
    assert (
        code_of(lambda: sm.get_secret_value(SecretId="shop", VersionStage="AWSPENDING")) == "ResourceNotFoundException"
    )
    assert sm.describe_secret(SecretId="shop")["RotationEnabled"] is True
    aws.outside.finish_rotation("shop", "rotated")
    told = sm.get_secret_value(SecretId="shop")
    assert (told["SecretString"], told["VersionId"]) == ("rotated", token)
    assert labels(sm) == ["AWSCURRENT", "AWSPREVIOUS"]
    aws.outside.rotate("shop", "again")
    assert aws.outside.text("shop") == "again"


@passes("rotation")
def test_a_cancelled_rotation_is_told_as_off(aws: AwsEmulator, shop: str, sm: Any):
    aws.outside.rotate("shop", "rotated")
    sm.cancel_rotate_secret(SecretId="shop")
    assert sm.describe_secret(SecretId="shop")["RotationEnabled"] is False


@refuses("abandoned rotation")
def test_a_write_ends_a_rotation_that_is_under_way(aws: AwsEmulator, shop: str, sm: Any):
    aws.outside.begin_rotation("shop")
    sm.put_secret_value(SecretId="shop", SecretString="two")
    assert labels(sm) == ["AWSCURRENT", "AWSPREVIOUS"]


@passes("abandoned rotation")
def test_a_write_of_another_label_leaves_a_rotation_alone(aws: AwsEmulator, shop: str, sm: Any):
    aws.outside.begin_rotation("shop")
    sm.put_secret_value(SecretId="shop", SecretString="two", VersionStages=["blue"])
    assert labels(sm) == ["AWSCURRENT", "AWSPENDING", "blue"]


@refuses("owned secrets")
def test_refuses_writes_to_a_secret_of_another_service(aws: AwsEmulator, sm: Any):
    aws.outside.create_owned("rds", "rds!db-1")
    assert code_of(lambda: sm.put_secret_value(SecretId="rds!db-1", SecretString="ours")) == REFUSED
    assert code_of(lambda: sm.update_secret(SecretId="rds!db-1", Description="ours")) == REFUSED
    assert code_of(lambda: sm.delete_secret(SecretId="rds!db-1")) == REFUSED
    assert aws.outside.text("rds!db-1") == "theirs"


@passes("owned secrets")
def test_a_secret_of_another_service_is_read_described_and_tagged(aws: AwsEmulator, sm: Any):
    aws.outside.create_owned("rds", "rds!db-1")
    assert sm.describe_secret(SecretId="rds!db-1")["OwningService"] == "rds"
    assert sm.get_secret_value(SecretId="rds!db-1")["SecretString"] == "theirs"
    sm.tag_resource(SecretId="rds!db-1", Tags=[{"Key": "k", "Value": "v"}])
    found = sm.list_secrets(Filters=[{"Key": "owning-service", "Values": ["rds"]}])["SecretList"]
    assert [entry["Name"] for entry in found] == ["rds!db-1"]
