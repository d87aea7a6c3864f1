"""What gives users their rights, and how much of it a user takes: policies, groups, inline policies."""

from __future__ import annotations

import json
from typing import Any

import pytest

from phasesync.emulator import AwsEmulator
from tests.emulator.conftest import ACCOUNT, code_of, passes, refusal_of, refuses

MANAGED = "arn:aws:iam::aws:policy/ReadOnlyAccess"


def document(characters: int) -> str:
    """Return a policy of so many characters, white space not counted."""
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}]}
    short = sum(not one.isspace() for one in json.dumps(policy | {"Id": ""}))
    return json.dumps(policy | {"Id": "x" * (characters - short)}, indent=8)


@pytest.fixture(autouse=True)
def lease(iam: Any) -> None:
    iam.create_user(UserName="lease", Path="/p/")


def attach(iam: Any, arn: str) -> None:
    iam.attach_user_policy(UserName="lease", PolicyArn=arn)


def attached(iam: Any) -> list[str]:
    return [one["PolicyArn"] for one in iam.list_attached_user_policies(UserName="lease")["AttachedPolicies"]]


def put(iam: Any, name: str, text: str) -> None:
    iam.put_user_policy(UserName="lease", PolicyName=name, PolicyDocument=text)


@pytest.fixture
def policies(iam: Any) -> list[str]:
    """Eleven policies of the account."""
    made = [iam.create_policy(PolicyName=f"p{number:02}", PolicyDocument=document(200)) for number in range(11)]
    return [one["Policy"]["Arn"] for one in made]


@refuses("policy quota of users")
def test_a_user_has_ten_managed_policies_at_most(iam: Any, policies: list[str]):
    for arn in policies[:10]:
        attach(iam, arn)
    refused = ("LimitExceeded", 409, "Cannot exceed quota for PoliciesPerUser: 10")
    assert refusal_of(lambda: attach(iam, policies[10])) == refused
    assert attached(iam) == policies[:10]
    attach(iam, policies[0])
    iam.detach_user_policy(UserName="lease", PolicyArn=policies[0])
    attach(iam, policies[10])


@passes("policy quota of users")
def test_a_policy_that_is_attached_already_is_no_error_and_counts_once(aws: AwsEmulator, iam: Any, policies: list[str]):
    aws.limits.user_policies = 1
    for _ in range(3):
        attach(iam, policies[0])
    assert attached(iam) == policies[:1]
    assert iam.get_policy(PolicyArn=policies[0])["Policy"]["AttachmentCount"] == 1


@refuses("group quota of users")
@passes("group quota of users")
def test_a_user_is_in_ten_groups_at_most(iam: Any):
    for number in range(11):
        iam.create_group(GroupName=f"g{number}")
    for number in [*range(10), 0]:
        iam.add_user_to_group(UserName="lease", GroupName=f"g{number}")
    assert refusal_of(lambda: iam.add_user_to_group(UserName="lease", GroupName="g10")) == (
        "LimitExceeded",
        409,
        "Cannot exceed quota for GroupsPerUser: 10",
    )
    assert len(iam.list_groups_for_user(UserName="lease")["Groups"]) == 10
    assert iam.get_group(GroupName="g10")["Users"] == []


@refuses("inline quota of users")
def test_inline_policies_have_so_many_characters_together_at_most(iam: Any):
    put(iam, "one", document(1_500))
    refused = ("LimitExceeded", 409, "Maximum policy size of 2048 bytes exceeded for user lease")
    assert refusal_of(lambda: put(iam, "two", document(549))) == refused
    assert refusal_of(lambda: put(iam, "one", document(2_049))) == refused
    assert iam.list_user_policies(UserName="lease")["PolicyNames"] == ["one"]
    assert len(iam.get_user_policy(UserName="lease", PolicyName="one")["PolicyDocument"]["Id"]) < 1_500


@passes("inline quota of users")
def test_white_space_does_not_count_and_a_new_document_replaces_the_old_one(iam: Any):
    put(iam, "one", document(1_500))
    put(iam, "two", document(548))
    put(iam, "one", document(1_500))
    assert len(document(1_500)) > 1_600
    assert sorted(iam.list_user_policies(UserName="lease")["PolicyNames"]) == ["one", "two"]


def test_a_document_that_makes_no_sense_is_refused_by_moto(iam: Any):
    assert refusal_of(lambda: put(iam, "one", "{}"))[:2] == ("MalformedPolicyDocument", 400)
    assert iam.list_user_policies(UserName="lease")["PolicyNames"] == []


@refuses("detached twice")
def test_a_policy_that_is_not_there_cannot_be_taken_back(iam: Any, policies: list[str]):
    put(iam, "one", document(200))
    detach = {"UserName": "lease", "PolicyArn": policies[0]}
    refused = ("NoSuchEntity", 404, f"Policy {policies[0]} was not found.")
    assert refusal_of(lambda: iam.detach_user_policy(**detach)) == refused
    attach(iam, policies[0])
    iam.detach_user_policy(**detach)
    assert refusal_of(lambda: iam.detach_user_policy(**detach)) == refused
    iam.delete_user_policy(UserName="lease", PolicyName="one")
    refused = ("NoSuchEntity", 404, "The user policy with name one cannot be found.")
    assert refusal_of(lambda: iam.delete_user_policy(UserName="lease", PolicyName="one")) == refused


@passes("detached twice")
def test_a_user_may_be_removed_from_a_group_that_it_is_not_in(iam: Any):
    iam.create_group(GroupName="team")
    iam.add_user_to_group(UserName="lease", GroupName="team")
    for _ in range(2):
        iam.remove_user_from_group(UserName="lease", GroupName="team")
        assert iam.get_group(GroupName="team")["Users"] == []


def test_a_policy_of_another_account_is_none_here(iam: Any):
    assert code_of(lambda: attach(iam, MANAGED.replace(":aws:policy", ":222222222222:policy"))) == "NoSuchEntity"
    attach(iam, MANAGED)
    assert attached(iam) == [MANAGED]
    assert iam.get_user(UserName="lease")["User"]["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/p/lease"
