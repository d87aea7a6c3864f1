"""Replicas come, fail, go, and cannot be written."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from phasesync.emulator import AwsEmulator
from tests.emulator.conftest import OTHER_REGION, REGION, Boto, code_of, passes, refuses

THERE = [{"Region": OTHER_REGION}]
INVALID = "InvalidParameterException"


@pytest.fixture
def shop(aws: AwsEmulator) -> str:
    return aws.outside.create("shop", "one", tags={"team": "shop"})


@pytest.fixture
def far(boto: Boto) -> Any:
    """A client of the replica's Region."""
    return boto(region=OTHER_REGION)


def status(sm: Any) -> list[tuple[str, str]]:
    told = sm.describe_secret(SecretId="shop").get("ReplicationStatus", [])
    return [(one["Region"], one["Status"]) for one in told]


@passes("replication takes time")
def test_a_replica_tells_the_primarys_value_tags_and_region(shop: str, sm: Any, far: Any):
    sm.replicate_secret_to_regions(SecretId="shop", AddReplicaRegions=THERE)
    assert status(sm) == [(OTHER_REGION, "InSync")]
    sm.put_secret_value(SecretId="shop", SecretString="two")
    told = far.describe_secret(SecretId="shop")
    assert (told["ARN"], told["PrimaryRegion"]) == (shop.replace(REGION, OTHER_REGION), REGION)
    assert told["Tags"] == [{"Key": "team", "Value": "shop"}]
    assert far.get_secret_value(SecretId=told["ARN"])["SecretString"] == "two"


@refuses("replication takes time")
def test_a_replica_is_in_progress_for_a_while_and_cannot_be_read(aws: AwsEmulator, shop: str, sm: Any, far: Any):
    aws.timing.replication_takes = timedelta(seconds=20)
    sm.replicate_secret_to_regions(SecretId="shop", AddReplicaRegions=THERE)
    assert status(sm) == [(OTHER_REGION, "InProgress")]
    assert code_of(lambda: far.get_secret_value(SecretId="shop")) == "ResourceNotFoundException"
    aws.clock.advance(seconds=20)
    assert status(sm) == [(OTHER_REGION, "InSync")]
    assert far.get_secret_value(SecretId="shop")["SecretString"] == "one"


@refuses("replicas are read-only")
def test_refuses_writes_to_a_replica(shop: str, sm: Any, far: Any):
    sm.replicate_secret_to_regions(SecretId="shop", AddReplicaRegions=THERE)
    assert code_of(lambda: far.put_secret_value(SecretId="shop", SecretString="two")) == INVALID
    assert code_of(lambda: far.update_secret(SecretId="shop", Description="two")) == INVALID
    assert code_of(lambda: far.tag_resource(SecretId="shop", Tags=[{"Key": "k", "Value": "v"}])) == INVALID
    assert code_of(lambda: far.delete_secret(SecretId="shop")) == INVALID
    assert code_of(lambda: far.create_secret(Name="shop")) == "ResourceExistsException"
    assert sm.get_secret_value(SecretId="shop")["SecretString"] == "one"


@passes("replicas are read-only")
def test_a_replica_takes_another_key(aws: AwsEmulator, shop: str, sm: Any, far: Any):
    sm.replicate_secret_to_regions(SecretId="shop", AddReplicaRegions=THERE)
    key = aws.outside.at(region=OTHER_REGION).create_key()
    far.update_secret(SecretId="shop", KmsKeyId=key)
    assert far.describe_secret(SecretId="shop")["KmsKeyId"] == key
    assert "KmsKeyId" not in sm.describe_secret(SecretId="shop")


@refuses("failed replicas")
def test_a_replica_fails_where_its_name_is_taken(aws: AwsEmulator, shop: str, sm: Any):
    theirs = aws.outside.at(region=OTHER_REGION)
    theirs.create("shop", "theirs")
    sm.replicate_secret_to_regions(SecretId="shop", AddReplicaRegions=THERE)
    assert status(sm) == [(OTHER_REGION, "Failed")]
    assert theirs.text("shop") == "theirs"


@passes("failed replicas")
def test_a_failed_replica_is_tried_again_over_what_was_there(aws: AwsEmulator, shop: str, sm: Any):
    theirs = aws.outside.at(region=OTHER_REGION)
    theirs.create("shop", "theirs")
    sm.replicate_secret_to_regions(SecretId="shop", AddReplicaRegions=THERE)
    sm.replicate_secret_to_regions(SecretId="shop", AddReplicaRegions=THERE, ForceOverwriteReplicaSecret=True)
    assert status(sm) == [(OTHER_REGION, "InSync")]
    assert theirs.text("shop") == "one"


@refuses("failed replicas")
@pytest.mark.parametrize("missing", ["kms:Encrypt", "the key"])
def test_a_replica_fails_without_its_key_and_the_create_does_not(aws: AwsEmulator, sm: Any, missing: str):
    key = aws.outside.at(region=OTHER_REGION).create_key()
    if missing == "the key":
        key = key[:-1] + "x"
    else:
        aws.deny(missing)
    replicas = [{"Region": OTHER_REGION, "KmsKeyId": key}]
    sm.create_secret(Name="shop", SecretString="one", AddReplicaRegions=replicas)
    assert status(sm) == [(OTHER_REGION, "Failed")]
    assert aws.outside.at(region=OTHER_REGION).names() == []


@pytest.mark.parametrize("regions", [[REGION], [OTHER_REGION, OTHER_REGION]])
def test_refuses_the_own_region_and_one_region_twice(shop: str, sm: Any, regions: list[str]):
    replicas = [{"Region": region} for region in regions]
    assert code_of(lambda: sm.replicate_secret_to_regions(SecretId="shop", AddReplicaRegions=replicas)) == INVALID


def test_a_removed_replica_is_gone_at_once(aws: AwsEmulator, shop: str, sm: Any, far: Any):
    sm.replicate_secret_to_regions(SecretId="shop", AddReplicaRegions=THERE)
    sm.remove_regions_from_replication(SecretId="shop", RemoveReplicaRegions=[OTHER_REGION])
    assert status(sm) == []
    assert code_of(lambda: far.describe_secret(SecretId="shop")) == "ResourceNotFoundException"


def test_a_promoted_replica_stands_alone(aws: AwsEmulator, shop: str, sm: Any, far: Any):
    sm.replicate_secret_to_regions(SecretId="shop", AddReplicaRegions=THERE)
    arn = far.stop_replication_to_replica(SecretId="shop")["ARN"]
    assert arn == shop.replace(REGION, OTHER_REGION)
    far.put_secret_value(SecretId=arn, SecretString="two")
    assert sm.get_secret_value(SecretId="shop")["SecretString"] == "one"
    assert far.get_secret_value(SecretId="shop")["SecretString"] == "two"
    assert status(sm) == []
    assert "PrimaryRegion" not in far.describe_secret(SecretId="shop")
