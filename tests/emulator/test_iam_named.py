"""Calls of IAM name users, groups and policies that exist, or are about the user who calls."""

from __future__ import annotations

import json
from typing import Any

import pytest

from phasesync.emulator import AwsEmulator
from tests.emulator.conftest import ACCOUNT, Boto, code_of, passes, refusal_of, refuses, text_of
from tests.emulator.test_iam_users import DOCUMENT, MANAGED, pairs


@refuses("names in calls of IAM")
@pytest.mark.parametrize(
    ("operation", "more"),
    [
        ("get_user", {}),
        ("delete_user", {}),
        ("tag_user", {"Tags": pairs({"k": "v"})}),
        ("untag_user", {"TagKeys": ["k"]}),
        ("list_user_tags", {}),
        ("update_user", {"NewUserName": "other"}),
        ("attach_user_policy", {"PolicyArn": MANAGED}),
        ("detach_user_policy", {"PolicyArn": MANAGED}),
        ("put_user_policy", {"PolicyName": "p", "PolicyDocument": DOCUMENT}),
        ("delete_user_policy", {"PolicyName": "p"}),
        ("list_user_policies", {}),
        ("list_attached_user_policies", {}),
        ("add_user_to_group", {"GroupName": "none"}),
        ("remove_user_from_group", {"GroupName": "none"}),
        ("list_groups_for_user", {}),
        ("create_access_key", {}),
        ("list_access_keys", {}),
        ("delete_access_key", {"AccessKeyId": "AKIAIOSFODNN7EXAMPLE"}),
        ("list_mfa_devices", {}),
        ("deactivate_mfa_device", {"SerialNumber": f"arn:aws:iam::{ACCOUNT}:mfa/phone"}),
        ("list_ssh_public_keys", {}),
        ("list_signing_certificates", {}),
        ("list_service_specific_credentials", {}),
        ("delete_login_profile", {}),
        ("put_user_permissions_boundary", {"PermissionsBoundary": MANAGED}),
    ],
)
def test_every_call_on_a_user_needs_the_user(iam: Any, operation: str, more: dict[str, Any]):
    refused = ("NoSuchEntity", 404, "The user with name nobody cannot be found.")
    assert refusal_of(lambda: getattr(iam, operation)(UserName="nobody", **more)) == refused


@refuses("names in calls of IAM")
def test_policies_and_groups_have_to_exist_too(iam: Any):
    iam.create_user(UserName="lease")
    arn = f"arn:aws:iam::{ACCOUNT}:policy/none"
    attach = {"UserName": "lease", "PolicyArn": arn}
    refused = ("NoSuchEntity", 404, f"Policy {arn} does not exist or is not attachable.")
    assert refusal_of(lambda: iam.attach_user_policy(**attach)) == refused
    assert code_of(lambda: iam.attach_user_policy(UserName="lease", PolicyArn="x" * 20)) == "InvalidInput"
    add = {"UserName": "lease", "GroupName": "none"}
    refused = ("NoSuchEntity", 404, "The group with name none cannot be found.")
    assert refusal_of(lambda: iam.add_user_to_group(**add)) == refused
    assert refusal_of(lambda: iam.remove_user_from_group(**add)) == refused


@passes("names in calls of IAM")
def test_what_exists_is_found(iam: Any):
    arn = iam.create_policy(PolicyName="limit", PolicyDocument=DOCUMENT)["Policy"]["Arn"]
    iam.create_user(UserName="lease")
    iam.create_group(GroupName="team", Path="/g/")
    iam.attach_user_policy(UserName="lease", PolicyArn=arn)
    iam.add_user_to_group(UserName="lease", GroupName="team")
    assert [one["PolicyName"] for one in iam.list_attached_user_policies(UserName="lease")["AttachedPolicies"]] == [
        "limit"
    ]
    assert [one["GroupName"] for one in iam.list_groups_for_user(UserName="lease")["Groups"]] == ["team"]


@passes("calls about the caller")
def test_a_call_without_a_name_is_about_the_user_who_calls(aws: AwsEmulator, boto: Boto):
    key, secret = aws.outside.create_user("admin")
    own = boto("iam", aws_access_key_id=key, aws_secret_access_key=secret)
    assert own.get_user()["User"]["UserName"] == "admin"
    assert [one["AccessKeyId"] for one in own.list_access_keys()["AccessKeyMetadata"]] == [key]
    assert own.list_mfa_devices()["MFADevices"] == []
    assert own.list_signing_certificates()["Certificates"] == []
    assert own.create_access_key()["AccessKey"]["UserName"] == "admin"


@refuses("calls about the caller")
@pytest.mark.parametrize("operation", ["get_user", "create_access_key", "list_mfa_devices"])
def test_a_call_without_a_name_needs_a_user_who_calls(iam: Any, operation: str):
    text = text_of(lambda: getattr(iam, operation)())
    assert text == "Must specify userName when calling with non-User credentials"


@passes("policies of AWS")
def test_policies_of_aws_may_be_attached_to_users_and_roles(iam: Any):
    iam.create_user(UserName="lease")
    job = "arn:aws:iam::aws:policy/job-function/Billing"
    iam.attach_user_policy(UserName="lease", PolicyArn=job)
    trust = {"Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]}
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", **trust}))
    iam.attach_role_policy(RoleName="r", PolicyArn=MANAGED)
    assert iam.get_policy(PolicyArn=job)["Policy"]["AttachmentCount"] == 1


@refuses("policies of AWS")
def test_aws_has_no_policies_but_its_own(iam: Any):
    iam.create_user(UserName="lease")
    arn = "arn:aws:iam::aws:policy/NoSuchAccess"
    assert code_of(lambda: iam.attach_user_policy(UserName="lease", PolicyArn=arn)) == "NoSuchEntity"
    assert code_of(lambda: iam.get_policy(PolicyArn=arn)) == "NoSuchEntity"
