"""Rights on users: which resource a call is about, how a refusal names it, and what a policy may look at."""

from __future__ import annotations

from typing import Any

import pytest

from phasesync.emulator import Answer, AwsEmulator, Operation
from phasesync.emulator.access import Ask, asks
from tests.emulator.conftest import ACCOUNT, OTHER_ACCOUNT, Boto, code_of, passes, refusal_of, refuses
from tests.emulator.test_iam_grants import MANAGED, document

IAM = f"arn:aws:iam::{ACCOUNT}"
LEASE = f"{IAM}:user/p/lease"
U = {"UserName": "lease"}
TAGS = [{"Key": "owner", "Value": "us"}]
CALLER = f"User: arn:aws:sts::{ACCOUNT}:user/moto is not authorized to perform:"


@pytest.fixture
def lease(iam: Any) -> None:
    iam.create_user(**U, Path="/p/", Tags=TAGS, PermissionsBoundary=MANAGED)


@refuses("rights on users")
def test_denies_by_the_path_and_names_what_is_made_by_its_arn(aws: AwsEmulator, iam: Any):
    aws.deny("iam:CreateUser", resource=f"{IAM}:user/p/*")
    text = f"{CALLER} iam:CreateUser on resource: {LEASE} because no identity-based policy allows the iam:CreateUser"
    assert refusal_of(lambda: iam.create_user(**U, Path="/p/")) == ("AccessDenied", 403, f"{text} action")
    assert iam.list_users()["Users"] == []


@passes("rights on users")
def test_other_paths_users_and_callers_are_let_in(aws: AwsEmulator, boto: Boto, iam: Any, lease: None):
    aws.deny("iam:CreateUser", resource=f"{IAM}:user/q/*")
    aws.deny("iam:TagUser", resource=f"{IAM}:user/lease")
    aws.deny("iam:*", resource=f"arn:aws:iam::{OTHER_ACCOUNT}:user/*")
    aws.deny("iam:*", caller="AKIASOMEBODYELSE0000")
    iam.create_user(UserName="other", Path="/p/")
    iam.tag_user(**U, Tags=TAGS)


@refuses("rights on users")
@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("get_user", {}),
        ("tag_user", {"Tags": TAGS}),
        ("attach_user_policy", {"PolicyArn": MANAGED}),
        ("put_user_policy", {"PolicyName": "p", "PolicyDocument": document(200)}),
        ("create_access_key", {}),
        ("delete_user", {}),
        ("deactivate_mfa_device", {"SerialNumber": f"{IAM}:mfa/phone"}),
    ],
)
def test_an_existing_user_is_denied_by_its_arn_and_named(
    aws: AwsEmulator, iam: Any, lease: None, operation: str, arguments: dict[str, Any]
):
    denial = aws.deny("iam:*", resource=LEASE, explicit=True)
    code, status, text = refusal_of(lambda: getattr(iam, operation)(**U, **arguments))
    assert (code, status) == ("AccessDenied", 403)
    assert text.endswith(" on resource: user lease with an explicit deny in an identity-based policy")
    aws.access.allow(denial)
    told = iam.get_user(**U)["User"]
    assert told["Tags"] == TAGS
    assert iam.list_access_keys(**U)["AccessKeyMetadata"] == []


@refuses("rights on users")
def test_groups_devices_and_lists_have_resources_of_their_own(aws: AwsEmulator, iam: Any, lease: None):
    iam.create_group(GroupName="team", Path="/g/")
    aws.deny("iam:AddUserToGroup", resource=f"{IAM}:group/g/team")
    aws.deny("iam:DeleteVirtualMFADevice", resource=f"{IAM}:mfa/phone")
    aws.deny("iam:ListUsers", resource=f"{IAM}:user/*")
    assert "on resource: group team because" in refusal_of(lambda: iam.add_user_to_group(**U, GroupName="team"))[2]
    serial = f"{IAM}:mfa/phone"
    text = refusal_of(lambda: iam.delete_virtual_mfa_device(SerialNumber=serial))[2]
    assert f"on resource: {serial} because" in text
    iam.list_users()
    aws.deny("iam:ListUsers", resource="*")
    assert f"iam:ListUsers on resource: {IAM}:user/ because" in refusal_of(lambda: iam.list_users())[2]


@refuses("rights on users")
@passes("rights on users")
def test_a_user_with_tags_needs_the_right_to_tag_as_well(aws: AwsEmulator, iam: Any):
    aws.deny("iam:TagUser")
    text = refusal_of(lambda: iam.create_user(**U, Path="/p/", Tags=TAGS))[2]
    assert text.startswith(f"{CALLER} iam:TagUser on resource: {LEASE} because")
    assert iam.list_users()["Users"] == []
    iam.create_user(**U)


# --- what a request asks for


@pytest.fixture
def asked(aws: AwsEmulator) -> list[Ask]:
    """What the requests of a test ask for, each as it stood before the request."""
    found: list[Ask] = []

    def hook(when: str, one: Operation) -> None:
        if when == "before":
            found.extend(asks(aws.state, one))

    aws.on_request = hook
    return found


OWN = {"aws:ResourceTag/owner": "us", "iam:ResourceTag/owner": "us"}
BOUNDED = OWN | {"iam:PermissionsBoundary": MANAGED}


def test_a_creation_tells_boundary_and_tags_and_asks_twice(iam: Any, asked: list[Ask]):
    iam.create_user(**U, Path="/p/", Tags=TAGS, PermissionsBoundary=MANAGED)
    iam.create_user(UserName="other")
    tags = {"aws:RequestTag/owner": "us"}
    assert asked == [
        ("iam:CreateUser", LEASE, {"iam:PermissionsBoundary": MANAGED} | tags),
        ("iam:TagUser", LEASE, tags),
        ("iam:CreateUser", f"{IAM}:user/other", {}),
    ]


@pytest.mark.parametrize(
    ("operation", "arguments", "action", "context"),
    [
        ("get_user", {}, "iam:GetUser", OWN),
        ("tag_user", {"Tags": [{"Key": "k", "Value": ""}]}, "iam:TagUser", OWN | {"aws:RequestTag/k": ""}),
        ("attach_user_policy", {"PolicyArn": MANAGED}, "iam:AttachUserPolicy", BOUNDED | {"iam:PolicyARN": MANAGED}),
        ("detach_user_policy", {"PolicyArn": MANAGED}, "iam:DetachUserPolicy", BOUNDED | {"iam:PolicyARN": MANAGED}),
        (
            "put_user_policy",
            {"PolicyName": "p", "PolicyDocument": document(200)},
            "iam:PutUserPolicy",
            BOUNDED,
        ),
        ("delete_user_policy", {"PolicyName": "p"}, "iam:DeleteUserPolicy", BOUNDED),
        ("create_access_key", {}, "iam:CreateAccessKey", OWN),
        ("list_access_keys", {}, "iam:ListAccessKeys", OWN),
        ("delete_user", {}, "iam:DeleteUser", OWN),
        (
            "put_user_permissions_boundary",
            {"PermissionsBoundary": f"{IAM}:policy/none"},
            "iam:PutUserPermissionsBoundary",
            OWN | {"iam:PermissionsBoundary": f"{IAM}:policy/none"},
        ),
        ("delete_user_permissions_boundary", {}, "iam:DeleteUserPermissionsBoundary", BOUNDED),
        ("list_service_specific_credentials", {}, "iam:ListServiceSpecificCredentials", OWN),
    ],
)
def test_a_call_on_a_user_tells_its_arn_boundary_and_tags(
    aws: AwsEmulator,
    iam: Any,
    lease: None,
    asked: list[Ask],
    operation: str,
    arguments: dict[str, Any],
    action: str,
    context: dict[str, str],
):
    aws.fail("*", Answer("ServiceFailure", status=500))
    assert code_of(lambda: getattr(iam, operation)(**U, **arguments)) == "ServiceFailure"
    aws.faults.clear()
    asked.clear()
    try:
        getattr(iam, operation)(**U, **arguments)
    except iam.exceptions.NoSuchEntityException:
        assert operation in ("detach_user_policy", "delete_user_policy", "put_user_permissions_boundary")
    assert asked == [(action, LEASE, context)]


def test_a_user_that_does_not_exist_has_the_path_of_all(iam: Any, asked: list[Ask]):
    assert code_of(lambda: iam.attach_user_policy(**U, PolicyArn=MANAGED)) == "NoSuchEntity"
    assert asked == [("iam:AttachUserPolicy", f"{IAM}:user/lease", {"iam:PolicyARN": MANAGED})]


def test_groups_devices_policies_and_lists(iam: Any, lease: None, asked: list[Ask]):
    iam.create_group(GroupName="team", Path="/g/")
    iam.add_user_to_group(**U, GroupName="team")
    iam.remove_user_from_group(**U, GroupName="team")
    serial = iam.create_virtual_mfa_device(VirtualMFADeviceName="phone")["VirtualMFADevice"]["SerialNumber"]
    iam.delete_virtual_mfa_device(SerialNumber=serial)
    iam.create_policy(PolicyName="p", Path="/x/", PolicyDocument=document(200))
    iam.get_policy(PolicyArn=f"{IAM}:policy/x/p")
    iam.list_users(PathPrefix="/p/")
    iam.list_groups()
    assert asked == [
        ("iam:CreateGroup", f"{IAM}:group/g/team", {}),
        ("iam:AddUserToGroup", f"{IAM}:group/g/team", {}),
        ("iam:RemoveUserFromGroup", f"{IAM}:group/g/team", {}),
        ("iam:CreateVirtualMFADevice", f"{IAM}:mfa/phone", {}),
        ("iam:DeleteVirtualMFADevice", f"{IAM}:mfa/phone", {}),
        ("iam:CreatePolicy", f"{IAM}:policy/x/p", {}),
        ("iam:GetPolicy", f"{IAM}:policy/x/p", {}),
        ("iam:ListUsers", "*", {}),
        ("iam:ListGroups", "*", {}),
    ]


def test_a_new_name_asks_for_both_and_the_caller_is_a_user_too(
    aws: AwsEmulator, boto: Boto, iam: Any, lease: None, asked: list[Ask]
):
    iam.update_user(**U, NewUserName="other")
    key, secret = aws.outside.create_user("admin")
    own = boto("iam", aws_access_key_id=key, aws_secret_access_key=secret)
    own.get_user()
    own.get_access_key_last_used(AccessKeyId=key)
    assert asked == [
        ("iam:UpdateUser", LEASE, OWN),
        ("iam:UpdateUser", f"{IAM}:user/p/other", OWN),
        ("iam:GetUser", f"{IAM}:user/admin", {}),
        ("iam:GetAccessKeyLastUsed", f"{IAM}:user/admin", {}),
    ]


def test_sts_tells_the_role_and_asks_nothing_for_an_identity(boto: Boto, asked: list[Ask]):
    role = f"arn:aws:iam::{OTHER_ACCOUNT}:role/r"
    boto("sts").assume_role(RoleArn=role, RoleSessionName="run", ExternalId="ours")
    boto("sts").get_caller_identity()
    told = {"sts:ExternalId": "ours", "sts:RoleSessionName": "run"}
    assert asked == [("sts:AssumeRole", role, told)]


def test_a_policy_may_judge_every_request(aws: AwsEmulator, iam: Any):
    def judge(when: str, one: Operation) -> Answer | None:
        wrong = [action for action, _, context in asks(aws.state, one) if "aws:RequestTag/owner" not in context]
        return Answer("AccessDenied", f"not {wrong[0]}", status=403) if when == "before" and wrong else None

    aws.on_request = judge
    assert refusal_of(lambda: iam.create_user(UserName="a")) == ("AccessDenied", 403, "not iam:CreateUser")
    iam.create_user(UserName="b", Tags=TAGS)
