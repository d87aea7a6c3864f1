"""Copies of secrets between two accounts, and managed external secrets."""

from __future__ import annotations

from typing import Any

import pytest

from phasesync.emulator import AwsEmulator
from tests.emulator.conftest import (
    ACCOUNT,
    OTHER_ACCOUNT,
    OTHER_REGION,
    REGION,
    Boto,
    code_of,
    passes,
    refuses,
    text_of,
)

PARAMETER = "InvalidParameterException"
REQUEST = "InvalidRequestException"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/replication"
POLICY = (
    '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", '
    '"Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Resource": "*"}]}'
)


@pytest.fixture
def shop(aws: AwsEmulator) -> str:
    """A secret of ours; its ARN."""
    return aws.outside.create("shop", "one")


@pytest.fixture
def far(aws: AwsEmulator, boto: Boto) -> Any:
    """A client of the other account."""
    key_id, secret = aws.outside.at(account=OTHER_ACCOUNT).create_user()
    return boto(aws_access_key_id=key_id, aws_secret_access_key=secret)


@pytest.fixture
def far_key(aws: AwsEmulator) -> str:
    return aws.outside.at(account=OTHER_ACCOUNT).create_key()


def state(client: Any) -> Any:
    """How the other end stands, from whichever end."""
    told = client.describe_secret(SecretId="shop")
    found = told.get("CrossAccountPrimary") or told["CrossAccountReplicas"][0]
    return found["ReplicationStatus"]


def value(client: Any) -> str:
    return str(client.get_secret_value(SecretId="shop")["SecretString"])


# --- how a copy is made


@passes("copies between accounts", "values of copies between accounts", "rights to replicate between accounts")
def test_a_copy_is_made_by_one_account_associated_by_the_other_and_follows(shop: str, sm: Any, far: Any, far_key: str):
    made = far.create_secret(Name="shop", CrossAccountPrimaryARN=shop, KmsKeyId=far_key)["ARN"]
    assert state(far) == "Pending"
    assert code_of(lambda: value(far)) == "ResourceNotFoundException"
    answer = sm.associate_cross_account_replica(SecretId="shop", CrossAccountReplicaARN=made)
    assert (answer["ARN"], answer["CrossAccountReplicaARN"]) == (shop, made)
    sm.put_secret_value(SecretId="shop", SecretString="two")
    assert (state(sm), state(far), value(far)) == ("InSync", "InSync", "two")
    sm.associate_cross_account_replica(SecretId="shop", CrossAccountReplicaARN=made)  # "you can call it again"
    assert far.describe_secret(SecretId="shop")["CrossAccountPrimary"]["PrimarySecretARN"] == shop
    assert sm.describe_secret(SecretId="shop")["CrossAccountReplicas"][0]["ReplicaSecretARN"] == made
    assert not {"CrossAccountPrimary", "CrossAccountReplicas"} & set(sm.list_secrets()["SecretList"][0])


@refuses("copies between accounts")
@pytest.mark.parametrize(
    "more",
    [
        {"KmsKeyId": None},
        {"SecretString": "mine"},
        {"SecretBinary": b"mine"},
        {"Description": "mine"},
        {"Type": "SalesforceClientSecret"},
        {"AddReplicaRegions": [{"Region": OTHER_REGION}]},
        {"CrossAccountPrimaryARN": f"arn:aws:secretsmanager:{OTHER_REGION}:{ACCOUNT}:secret:shop-AbCdEf"},
        {"CrossAccountPrimaryARN": f"arn:aws:secretsmanager:{REGION}:{OTHER_ACCOUNT}:secret:shop-AbCdEf"},
    ],
    ids=lambda more: next(iter(more)),
)
def test_refuses_a_copy_with_anything_of_its_own_or_in_the_wrong_place(
    aws: AwsEmulator, shop: str, far: Any, far_key: str, more: dict[str, Any]
):
    given = {"Name": "shop", "CrossAccountPrimaryARN": shop, "KmsKeyId": far_key, **more}
    given = {name: one for name, one in given.items() if one is not None}
    assert code_of(lambda: far.create_secret(**given)) == PARAMETER
    assert aws.outside.at(account=OTHER_ACCOUNT).names() == []


@refuses("copies between accounts")
def test_refuses_to_associate_what_was_not_made_for_it_or_a_second_one(
    aws: AwsEmulator, shop: str, sm: Any, far: Any, far_key: str
):
    plain = far.create_secret(Name="plain", SecretString="mine")["ARN"]
    assert code_of(lambda: sm.associate_cross_account_replica(SecretId="shop", CrossAccountReplicaARN=plain)) == REQUEST
    missing = plain.replace("plain", "never")
    assert (
        code_of(lambda: sm.associate_cross_account_replica(SecretId="shop", CrossAccountReplicaARN=missing))
        == "ResourceNotFoundException"
    )
    aws.outside.copy_to(OTHER_ACCOUNT, "shop")
    second = far.create_secret(Name="second", CrossAccountPrimaryARN=shop, KmsKeyId=far_key)["ARN"]
    assert (
        code_of(lambda: sm.associate_cross_account_replica(SecretId="shop", CrossAccountReplicaARN=second))
        == "LimitExceededException"
    )


# --- which value, which rights


@refuses("values of copies between accounts")
def test_refuses_to_write_the_value_of_a_copy_and_leaves_the_rest_to_its_account(aws: AwsEmulator, shop: str, far: Any):
    aws.outside.copy_to(OTHER_ACCOUNT, "shop")
    assert code_of(lambda: far.put_secret_value(SecretId="shop", SecretString="mine")) == PARAMETER
    assert code_of(lambda: far.update_secret(SecretId="shop", SecretString="mine")) == PARAMETER
    moved = far.describe_secret(SecretId="shop")["VersionIdsToStages"]
    stage = {"VersionStage": "AWSCURRENT", "RemoveFromVersionId": next(iter(moved))}
    assert code_of(lambda: far.update_secret_version_stage(SecretId="shop", **stage)) == PARAMETER
    far.update_secret(SecretId="shop", Description="mine")
    far.tag_resource(SecretId="shop", Tags=[{"Key": "team", "Value": "far"}])
    assert (value(far), far.describe_secret(SecretId="shop")["Description"]) == ("one", "mine")
    assert "Description" not in aws.outside.describe("shop")


@refuses("rights to replicate between accounts")
@pytest.mark.parametrize("action", ["kms:Decrypt", "kms:Encrypt"])
def test_without_the_rights_on_keys_the_write_succeeds_and_the_copy_stays_behind(
    aws: AwsEmulator, sm: Any, far: Any, action: str
):
    aws.outside.create("shop", "one", KmsKeyId=aws.outside.create_key())
    aws.outside.copy_to(OTHER_ACCOUNT, "shop")
    denial = aws.deny(action)
    sm.put_secret_value(SecretId="shop", SecretString="two")
    aws.access.allow(denial)
    assert (value(sm), value(far)) == ("two", "one")
    assert (state(sm), state(far)) == ("Failed", "Failed")
    sm.put_secret_value(SecretId="shop", SecretString="three")
    assert (state(sm), state(far), value(far)) == ("InSync", "InSync", "three")


@passes("rights to replicate between accounts")
def test_a_replication_role_uses_its_own_rights(aws: AwsEmulator, shop: str, sm: Any, far: Any):
    aws.outside.copy_to(OTHER_ACCOUNT, "shop", role_arn=ROLE)
    aws.deny("kms:Encrypt", caller=f"arn:aws:iam::{ACCOUNT}:user/*")
    aws.deny("kms:Encrypt", caller=f"arn:aws:sts::{ACCOUNT}:*")
    sm.put_secret_value(SecretId="shop", SecretString="two")
    assert (state(sm), value(far)) == ("InSync", "two")
    assert sm.describe_secret(SecretId="shop")["CrossAccountReplicas"][0]["ReplicationRoleARN"] == ROLE
    aws.deny("kms:Encrypt", caller=ROLE)
    sm.put_secret_value(SecretId="shop", SecretString="three")
    assert (state(sm), value(far)) == ("Failed", "two")


@refuses("rights to replicate between accounts")
def test_the_primary_is_not_associated_without_the_rights_on_keys(
    aws: AwsEmulator, shop: str, sm: Any, far: Any, far_key: str
):
    made = far.create_secret(Name="shop", CrossAccountPrimaryARN=shop, KmsKeyId=far_key)["ARN"]
    aws.deny("kms:Encrypt")
    assert "KMS" in text_of(lambda: sm.associate_cross_account_replica(SecretId="shop", CrossAccountReplicaARN=made))
    assert "CrossAccountReplicas" not in sm.describe_secret(SecretId="shop")


# --- how it ends


@refuses("copies between accounts before deletion")
@pytest.mark.parametrize("how", [{}, {"ForceDeleteWithoutRecovery": True}])
def test_refuses_to_delete_either_end(aws: AwsEmulator, shop: str, sm: Any, far: Any, how: dict[str, Any]):
    arn = aws.outside.copy_to(OTHER_ACCOUNT, "shop")
    assert code_of(lambda: sm.delete_secret(SecretId="shop", **how)) == REQUEST
    assert arn in text_of(lambda: sm.delete_secret(SecretId="shop", **how))
    assert code_of(lambda: far.delete_secret(SecretId="shop", **how)) == REQUEST
    assert (value(sm), value(far)) == ("one", "one")


@passes("copies between accounts before deletion", "named policies")
def test_the_primary_is_deleted_when_it_was_disassociated_and_the_copy_stays_detached(
    aws: AwsEmulator, shop: str, sm: Any, far: Any
):
    arn = aws.outside.copy_to(OTHER_ACCOUNT, "shop")
    sm.disassociate_cross_account_replica(SecretId="shop", CrossAccountReplicaARN=arn)
    assert (
        code_of(lambda: sm.disassociate_cross_account_replica(SecretId="shop", CrossAccountReplicaARN=arn)) == REQUEST
    )
    sm.put_secret_value(SecretId="shop", SecretString="two")
    assert (state(far), value(far)) == ("Detached", "one")
    assert code_of(lambda: far.delete_secret(SecretId="shop")) == REQUEST
    sm.delete_secret(SecretId="shop")
    far.stop_replication_to_replica(SecretId="shop")
    assert "CrossAccountPrimary" not in far.describe_secret(SecretId="shop")
    assert far.list_resource_policies(SecretId="shop")["ResourcePolicies"] == []
    far.put_secret_value(SecretId="shop", SecretString="mine")
    far.delete_secret(SecretId="shop")


@refuses("copies between accounts before deletion")
def test_a_primary_whose_copy_was_stopped_has_to_be_disassociated_all_the_same(
    aws: AwsEmulator, shop: str, sm: Any, far: Any
):
    """Each account ends it on its own side (User Guide, stop cross-account replication)."""
    arn = aws.outside.copy_to(OTHER_ACCOUNT, "shop")
    far.stop_replication_to_replica(SecretId="shop")
    sm.put_secret_value(SecretId="shop", SecretString="two")
    assert (state(sm), value(far)) == ("Detached", "one")
    assert code_of(lambda: sm.delete_secret(SecretId="shop")) == REQUEST
    sm.disassociate_cross_account_replica(SecretId="shop", CrossAccountReplicaARN=arn)
    sm.delete_secret(SecretId="shop")


# --- policies


@refuses("named policies")
def test_refuses_to_change_any_policy_but_the_default_one(aws: AwsEmulator, shop: str, far: Any):
    aws.outside.copy_to(OTHER_ACCOUNT, "shop")
    name = "cross-account-replication"
    kept = far.get_resource_policy(SecretId="shop", PolicyName=name)["ResourcePolicy"]
    assert (
        code_of(lambda: far.put_resource_policy(SecretId="shop", ResourcePolicy=POLICY, PolicyName=name)) == PARAMETER
    )
    assert code_of(lambda: far.delete_resource_policy(SecretId="shop", PolicyName=name)) == PARAMETER
    assert far.get_resource_policy(SecretId="shop", PolicyName=name)["ResourcePolicy"] == kept
    assert (
        code_of(lambda: far.get_resource_policy(SecretId="shop", PolicyName="another")) == "ResourceNotFoundException"
    )


@passes("named policies")
def test_the_default_policy_is_read_and_changed_beside_the_others(aws: AwsEmulator, shop: str, far: Any):
    aws.outside.copy_to(OTHER_ACCOUNT, "shop")
    assert "ResourcePolicy" not in far.get_resource_policy(SecretId="shop")
    far.put_resource_policy(SecretId="shop", ResourcePolicy=POLICY, PolicyName="default")
    far.put_resource_policy(SecretId="shop", ResourcePolicy=POLICY)
    assert far.get_resource_policy(SecretId="shop")["ResourcePolicy"] == POLICY
    names = [one["PolicyName"] for one in far.list_resource_policies(SecretId="shop")["ResourcePolicies"]]
    assert names == ["default", "cross-account-replication"]
    far.delete_resource_policy(SecretId="shop")
    names = [one["PolicyName"] for one in far.list_resource_policies(SecretId="shop")["ResourcePolicies"]]
    assert names == ["cross-account-replication"]


# --- managed external secrets


@passes("managed external secrets")
def test_a_type_is_told_kept_by_other_changes_and_rotated_by_a_role(aws: AwsEmulator, sm: Any):
    aws.outside.create_external("shop", "DatadogApiKey")
    sm.put_secret_value(SecretId="shop", SecretString="two")
    sm.update_secret(SecretId="shop", Description="text")
    metadata = [{"Key": "apiVersion", "Value": "v1"}]
    sm.rotate_secret(
        SecretId="shop", ExternalSecretRotationRoleArn=ROLE, ExternalSecretRotationMetadata=metadata, RotationRules={}
    )
    told = sm.describe_secret(SecretId="shop")
    assert (told["Type"], told["RotationEnabled"]) == ("DatadogApiKey", True)
    assert (told["ExternalSecretRotationRoleArn"], told["ExternalSecretRotationMetadata"]) == (ROLE, metadata)
    (listed,) = sm.list_secrets()["SecretList"]
    assert (listed["Type"], listed["ExternalSecretRotationRoleArn"]) == ("DatadogApiKey", ROLE)


@refuses("managed external secrets")
def test_refuses_to_rotate_an_ordinary_secret_as_an_external_one(shop: str, sm: Any):
    assert code_of(lambda: sm.rotate_secret(SecretId="shop", ExternalSecretRotationRoleArn=ROLE)) == REQUEST
    assert "Type" not in sm.describe_secret(SecretId="shop")
    sm.update_secret(SecretId="shop", Type="SalesforceClientSecret")
    assert code_of(lambda: sm.rotate_secret(SecretId="shop")) == REQUEST
    assert sm.describe_secret(SecretId="shop")["Type"] == "SalesforceClientSecret"
