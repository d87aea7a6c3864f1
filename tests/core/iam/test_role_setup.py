"""Policies: what they grant and what not, and that the lines to paste do what they say."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from phasesync.core.iam.role_setup import principal_of, setup_commands, trust_policy, update_trust_command
from phasesync.core.iam.sync_policy import starter_sync_policy
from phasesync.core.regions import partition_of
from tests.support.aws import ACCOUNT, Aws

KEY_ARN = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"


def actions_of(policy: dict[str, Any]) -> set[str]:
    return {action for statement in policy["Statement"] for action in statement["Action"]}


def test_a_sync_may_write_but_not_read_values_or_delete():
    assert actions_of(starter_sync_policy(region="eu-west-1", sweep=False)) == {
        f"secretsmanager:{operation}"
        for operation in (
            "CreateSecret",
            "DescribeSecret",
            "PutSecretValue",
            "RestoreSecret",
            "TagResource",
            "UntagResource",
            "UpdateSecret",
        )
    }


def test_import_adds_reading_and_listing_and_nothing_else():
    bare = starter_sync_policy(region="eu-west-1", sweep=False)
    more = actions_of(starter_sync_policy(region="eu-west-1", with_import=True, sweep=False)) - actions_of(bare)
    assert more == {"secretsmanager:GetSecretValue", "secretsmanager:ListSecrets"}


@pytest.mark.parametrize(("region", "condition"), [("eu-west-1", "eu-west-1"), (None, None)])
def test_listing_is_in_a_statement_of_its_own_that_can_be_left_out(region: str | None, condition: str | None):
    *others, listing = starter_sync_policy(region=region)["Statement"]
    assert (listing["Action"], listing["Resource"]) == (["secretsmanager:ListSecrets"], ["*"])
    told = listing.get("Condition", {}).get("StringEquals", {}).get("aws:RequestedRegion")
    assert told == condition
    assert starter_sync_policy(region=region, sweep=False)["Statement"] == others


def test_a_key_without_a_region_beside_it_is_used_in_its_own():
    use = starter_sync_policy(region=None, kms_key_arn=KEY_ARN)["Statement"][1]
    assert use["Condition"] == {"StringEquals": {"kms:ViaService": "secretsmanager.eu-west-1.amazonaws.com"}}


@pytest.mark.parametrize("external_id", ["id-1", None])
def test_a_trust_policy_lets_sessions_have_tags_whoever_assumes_the_role(external_id: str | None):
    assume, tag = trust_policy(principal_arn="arn:aws:iam::1:role/pod", external_id=external_id)["Statement"]
    assert (assume["Action"], tag["Action"]) == ("sts:AssumeRole", "sts:TagSession")
    assert tag["Principal"] == assume["Principal"]
    assert len({assume["Sid"], tag["Sid"]}) == 2


def test_a_key_of_the_customer_may_be_used_through_secrets_manager_alone():
    use = starter_sync_policy(region="eu-west-1", kms_key_arn=KEY_ARN)["Statement"][1]
    assert use["Resource"] == [KEY_ARN]
    assert set(use["Action"]) == {"kms:GenerateDataKey", "kms:Decrypt", "kms:Encrypt"}
    assert use["Condition"] == {"StringEquals": {"kms:ViaService": "secretsmanager.eu-west-1.amazonaws.com"}}


def test_kms_may_be_asked_what_a_key_is_by_ourselves():
    ask = starter_sync_policy(region="eu-west-1", kms_key_arn=KEY_ARN)["Statement"][2]
    assert (ask["Action"], ask["Resource"]) == (["kms:DescribeKey"], [KEY_ARN])
    assert "Condition" not in ask


def test_names_narrow_the_policy_to_exactly_these_objects():
    policy = starter_sync_policy(region="eu-west-1", names=["shop/production"])
    assert policy["Statement"][0]["Resource"] == ["arn:aws:secretsmanager:eu-west-1:*:secret:shop/production-??????"]


@pytest.mark.parametrize(
    ("region", "partition", "service"),
    [
        ("eu-west-1", "aws", "secretsmanager.eu-west-1.amazonaws.com"),
        ("cn-north-1", "aws-cn", "secretsmanager.cn-north-1.amazonaws.com.cn"),
        ("us-gov-west-1", "aws-us-gov", "secretsmanager.us-gov-west-1.amazonaws.com"),
    ],
)
def test_every_partition_gets_its_own_names(region: str, partition: str, service: str):
    policy = starter_sync_policy(region=region, kms_key_arn=KEY_ARN)
    assert partition_of(region) == partition
    assert policy["Statement"][0]["Resource"][0].startswith(f"arn:{partition}:secretsmanager:{region}:")
    assert policy["Statement"][1]["Condition"]["StringEquals"]["kms:ViaService"] == service


def test_the_trust_policy_asks_for_the_external_id():
    statement = trust_policy(principal_arn="arn:aws:iam::1:role/daemon", external_id="id-1")["Statement"][0]
    assert statement["Principal"] == {"AWS": "arn:aws:iam::1:role/daemon"}
    assert statement["Condition"] == {"StringEquals": {"sts:ExternalId": "id-1"}}


def test_without_an_external_id_there_is_no_condition():
    assert "Condition" not in trust_policy(principal_arn="arn:aws:iam::1:user/u", external_id=None)["Statement"][0]


@pytest.mark.parametrize(
    ("identity", "principal"),
    [
        ("arn:aws:iam::111122223333:user/phasesync", "arn:aws:iam::111122223333:user/phasesync"),
        ("arn:aws:sts::111122223333:assumed-role/Daemon/i-0abc", "arn:aws:iam::111122223333:role/Daemon"),
        ("arn:aws-cn:sts::111122223333:assumed-role/Daemon/i-0abc", "arn:aws-cn:iam::111122223333:role/Daemon"),
        ("arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_Admin_1/me@x.com", "arn:aws:iam::111122223333:root"),
    ],
)
def test_a_trust_policy_names_the_role_and_not_its_session(identity: str, principal: str):
    assert principal_of(identity) == principal


def run(aws: Aws, line: str) -> None:
    """Do what a line of the AWS command line does."""
    words = shlex.split(line.replace("$(aws sts get-caller-identity --query Account --output text)", ACCOUNT))
    assert words[:2] == ["aws", "iam"]
    given = dict(zip(words[3::2], words[4::2], strict=True))
    arguments = {"".join(part.title() for part in name[2:].split("-")): value for name, value in given.items()}
    if "PolicyArn" in arguments:
        assert arguments["PolicyArn"].startswith("arn:aws:iam::")
    getattr(aws.boto("iam"), words[2].replace("-", "_"))(**arguments)


@pytest.mark.parametrize("account", [ACCOUNT, None])
def test_the_lines_make_policy_and_role_in_their_order(aws: Aws, account: str | None):
    policy = starter_sync_policy(region="eu-west-1", kms_key_arn=KEY_ARN, with_import=True)
    trust = trust_policy(principal_arn=f"arn:aws:iam::{ACCOUNT}:root", external_id='it\'s "quoted"')
    for line in setup_commands(name="phasesync", region="eu-west-1", policy=policy, trust=trust, account=account):
        run(aws, line)
    iam = aws.boto("iam")
    assert iam.get_role(RoleName="phasesync")["Role"]["AssumeRolePolicyDocument"] == trust
    attached = iam.list_attached_role_policies(RoleName="phasesync")["AttachedPolicies"]
    assert [found["PolicyName"] for found in attached] == ["phasesync"]
    version = iam.get_policy_version(PolicyArn=attached[0]["PolicyArn"], VersionId="v1")
    assert version["PolicyVersion"]["Document"] == policy


def test_the_line_that_mends_a_trust_policy_replaces_it(aws: Aws):
    role = aws.boto("iam").create_role(
        RoleName="phasesync", Path="/teams/", AssumeRolePolicyDocument=json.dumps(trust_policy_of("old"))
    )["Role"]
    run(aws, update_trust_command(role_arn=role["Arn"], trust=trust_policy_of("new")))
    found = aws.boto("iam").get_role(RoleName="phasesync")["Role"]["AssumeRolePolicyDocument"]
    assert found == trust_policy_of("new")


def trust_policy_of(external_id: str) -> dict[str, Any]:
    return trust_policy(principal_arn=f"arn:aws:iam::{ACCOUNT}:root", external_id=external_id)
