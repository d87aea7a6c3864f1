"""A deletion blocks, is cancelled, ends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from phasesync.emulator import AwsEmulator
from tests.emulator.conftest import code_of, passes, refuses, text_of

IN_THE_WAY = "InvalidRequestException"
GONE = "ResourceNotFoundException"
POLICY = (
    '{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"}]}'
)
WRITES_AND_READS: dict[str, Callable[[Any], Any]] = {
    "PutSecretValue": lambda sm: sm.put_secret_value(SecretId="shop", SecretString="two"),
    "UpdateSecret": lambda sm: sm.update_secret(SecretId="shop", Description="two"),
    "GetSecretValue": lambda sm: sm.get_secret_value(SecretId="shop"),
    "TagResource": lambda sm: sm.tag_resource(SecretId="shop", Tags=[{"Key": "k", "Value": "v"}]),
    "UntagResource": lambda sm: sm.untag_resource(SecretId="shop", TagKeys=["k"]),
    "ReplicateSecretToRegions": lambda sm: sm.replicate_secret_to_regions(
        SecretId="shop", AddReplicaRegions=[{"Region": "eu-central-1"}]
    ),
    "PutResourcePolicy": lambda sm: sm.put_resource_policy(SecretId="shop", ResourcePolicy=POLICY),
    "GetResourcePolicy": lambda sm: sm.get_resource_policy(SecretId="shop"),
    "DeleteResourcePolicy": lambda sm: sm.delete_resource_policy(SecretId="shop"),
    "RotateSecret": lambda sm: sm.rotate_secret(SecretId="shop", RotationLambdaARN="arn:aws:lambda:x"),
    "UpdateSecretVersionStage": lambda sm: sm.update_secret_version_stage(SecretId="shop", VersionStage="x"),
    "DeleteSecret": lambda sm: sm.delete_secret(SecretId="shop"),
}


@pytest.fixture
def shop(aws: AwsEmulator) -> str:
    return aws.outside.create("shop", "one")


@refuses("scheduled deletion")
@pytest.mark.parametrize("operation", WRITES_AND_READS)
def test_refuses_it_on_a_secret_that_is_scheduled_for_deletion(aws: AwsEmulator, shop: str, sm: Any, operation: str):
    aws.outside.delete("shop")
    assert code_of(lambda: WRITES_AND_READS[operation](sm)) == IN_THE_WAY


@passes("scheduled deletion")
def test_describes_and_lists_versions_of_a_secret_that_is_scheduled_for_deletion(aws: AwsEmulator, shop: str, sm: Any):
    aws.outside.delete("shop", recovery_days=7)
    due_at = aws.clock.now() + timedelta(days=7)
    assert abs(sm.describe_secret(SecretId="shop")["DeletedDate"] - due_at).total_seconds() < 0.01
    assert sm.list_secret_version_ids(SecretId="shop")["Versions"]


@refuses("name of a scheduled deletion")
def test_refuses_to_create_on_a_name_that_is_scheduled_for_deletion(aws: AwsEmulator, shop: str, sm: Any):
    aws.outside.delete("shop")
    create = {"Name": "shop", "SecretString": "one"}
    assert code_of(lambda: sm.create_secret(**create)) == IN_THE_WAY
    assert "already scheduled for deletion" in text_of(lambda: sm.create_secret(**create))


@passes("name of a scheduled deletion", "end of a scheduled deletion")
def test_the_name_is_free_when_the_window_has_passed_and_the_arn_is_another(aws: AwsEmulator, shop: str, sm: Any):
    aws.outside.delete("shop", recovery_days=7)
    aws.clock.advance(days=7)
    assert sm.create_secret(Name="shop", SecretString="two")["ARN"] != shop
    assert code_of(lambda: sm.describe_secret(SecretId=shop)) == GONE


@refuses("end of a scheduled deletion")
def test_a_secret_is_gone_when_the_window_has_passed(aws: AwsEmulator, shop: str, sm: Any):
    aws.outside.delete("shop", recovery_days=7)
    aws.clock.advance(days=6, hours=23)
    assert "DeletedDate" in sm.describe_secret(SecretId="shop")
    aws.clock.advance(hours=1)
    assert code_of(lambda: sm.restore_secret(SecretId="shop")) == GONE
    assert sm.list_secrets(IncludePlannedDeletion=True)["SecretList"] == []


@passes("scheduled deletion")
def test_a_restored_secret_is_as_before(aws: AwsEmulator, shop: str, sm: Any):
    aws.outside.delete("shop")
    sm.restore_secret(SecretId="shop")
    aws.clock.advance(days=40)
    assert "DeletedDate" not in sm.describe_secret(SecretId="shop")
    assert sm.get_secret_value(SecretId="shop")["SecretString"] == "one"
    sm.restore_secret(SecretId="shop")  # nothing to restore is no error


@refuses("recovery window")
@pytest.mark.parametrize(
    "how", [{"RecoveryWindowInDays": 6}, {"RecoveryWindowInDays": 31}, {"RecoveryWindowInDays": 7, "Force": True}]
)
def test_refuses_a_recovery_window(shop: str, sm: Any, how: dict[str, Any]):
    if how.pop("Force", False):
        how["ForceDeleteWithoutRecovery"] = True
    assert code_of(lambda: sm.delete_secret(SecretId="shop", **how)) == "InvalidParameterException"


@passes("recovery window")
@pytest.mark.parametrize(
    ("how", "days"), [({}, 30), ({"RecoveryWindowInDays": 7}, 7), ({"RecoveryWindowInDays": 30}, 30)]
)
def test_lets_a_recovery_window_pass(aws: AwsEmulator, shop: str, sm: Any, how: dict[str, int], days: int):
    told = sm.delete_secret(SecretId="shop", **how)["DeletionDate"]
    assert abs(told - aws.clock.now() - timedelta(days=days)).total_seconds() < 0.01


@refuses("late deletion without recovery")
def test_a_deletion_without_recovery_blocks_the_name_for_a_while(aws: AwsEmulator, shop: str, sm: Any):
    aws.timing.force_delete_takes = timedelta(seconds=5)
    sm.delete_secret(SecretId="shop", ForceDeleteWithoutRecovery=True)
    assert code_of(lambda: sm.create_secret(Name="shop", SecretString="two")) == IN_THE_WAY
    assert code_of(lambda: sm.get_secret_value(SecretId="shop")) == IN_THE_WAY
    assert code_of(lambda: sm.restore_secret(SecretId="shop")) == GONE


@passes("late deletion without recovery")
def test_a_deletion_without_recovery_ends_and_frees_the_name(aws: AwsEmulator, shop: str, sm: Any):
    aws.timing.force_delete_takes = timedelta(seconds=5)
    sm.delete_secret(SecretId="shop", ForceDeleteWithoutRecovery=True)
    aws.clock.advance(seconds=5)
    sm.create_secret(Name="shop", SecretString="two")
    assert aws.outside.text("shop") == "two"


@passes("late deletion without recovery")
def test_a_deletion_without_recovery_ends_at_once_unless_told_otherwise(shop: str, sm: Any):
    sm.delete_secret(SecretId="shop", ForceDeleteWithoutRecovery=True)
    assert code_of(lambda: sm.describe_secret(SecretId="shop")) == GONE
    sm.create_secret(Name="shop", SecretString="two")


def test_a_scheduled_deletion_can_be_forced_and_what_never_was_too(aws: AwsEmulator, shop: str, sm: Any):
    aws.outside.delete("shop")
    sm.delete_secret(SecretId="shop", ForceDeleteWithoutRecovery=True)
    assert sm.delete_secret(SecretId="never-was", ForceDeleteWithoutRecovery=True)["Name"] == "never-was"
    assert code_of(lambda: sm.delete_secret(SecretId="never-was")) == GONE


@refuses("replicas before deletion")
@passes("replicas before deletion")
def test_a_primary_is_deleted_only_when_its_replicas_are(aws: AwsEmulator, shop: str, sm: Any):
    sm.replicate_secret_to_regions(SecretId="shop", AddReplicaRegions=[{"Region": "eu-central-1"}])
    delete = {"SecretId": "shop", "ForceDeleteWithoutRecovery": True}
    assert code_of(lambda: sm.delete_secret(**delete)) == "InvalidParameterException"
    sm.remove_regions_from_replication(SecretId="shop", RemoveReplicaRegions=["eu-central-1"])
    sm.delete_secret(**delete)
    assert aws.outside.names() == []
