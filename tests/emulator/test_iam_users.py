"""IAM users: their names, paths, tags and boundaries, how they are told and listed, and their new names."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from phasesync.emulator import AwsEmulator
from tests.emulator.conftest import (
    ACCOUNT,
    OTHER_ACCOUNT,
    Boto,
    code_of,
    passes,
    refusal_of,
    refuses,
)

MANAGED = "arn:aws:iam::aws:policy/ReadOnlyAccess"
DOCUMENT = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*"}]}
)


def names(iam: Any, **more: Any) -> list[str]:
    return [one["UserName"] for one in iam.list_users(**more)["Users"]]


def tags_of(iam: Any, name: str = "lease") -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in iam.get_user(UserName=name)["User"].get("Tags", [])}


def pairs(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


# --- names


@refuses("names of users")
@pytest.mark.parametrize("name", ["lease", "Lease", "LEASE"])
def test_refuses_a_name_that_is_taken_in_any_case(iam: Any, name: str):
    iam.create_user(UserName="lease", Path="/a/", Tags=pairs({"k": "v"}))
    assert refusal_of(lambda: iam.create_user(UserName=name, Path="/b/", Tags=pairs({"k": "w"}))) == (
        "EntityAlreadyExists",
        409,
        f"User with name {name} already exists.",
    )
    assert names(iam) == ["lease"]
    assert (iam.get_user(UserName="lease")["User"]["Path"], tags_of(iam)) == ("/a/", {"k": "v"})


@passes("names of users")
def test_a_name_is_free_again_and_may_be_taken_in_another_account(aws: AwsEmulator, boto: Boto, iam: Any):
    iam.create_user(UserName="lease", Tags=pairs({"k": "v"}))
    iam.delete_user(UserName="lease")
    iam.create_user(UserName="Lease")
    assert tags_of(iam, "Lease") == {}
    key, secret = aws.outside.at(account=OTHER_ACCOUNT).create_user("admin")
    other = boto("iam", aws_access_key_id=key, aws_secret_access_key=secret)
    other.create_user(UserName="lease")
    assert names(other) == ["admin", "lease"]


@refuses("user quota")
@passes("user quota")
def test_an_account_has_so_many_users_at_most(aws: AwsEmulator, iam: Any):
    assert aws.limits.users == 5_000
    aws.limits.users = 2
    iam.create_user(UserName="a")
    iam.create_user(UserName="b")
    refused = ("LimitExceeded", 409, "Cannot exceed quota for UsersPerAccount: 2")
    assert refusal_of(lambda: iam.create_user(UserName="c")) == refused
    assert names(iam) == ["a", "b"]


# --- boundaries


@pytest.fixture
def own_policy(iam: Any) -> str:
    return str(iam.create_policy(PolicyName="limit", Path="/ours/", PolicyDocument=DOCUMENT)["Policy"]["Arn"])


@passes("boundaries of users")
def test_keeps_a_boundary_and_tells_it(iam: Any, own_policy: str):
    for name, arn in (("a", MANAGED), ("b", own_policy)):
        boundary = {"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": arn}
        assert iam.create_user(UserName=name, PermissionsBoundary=arn)["User"]["PermissionsBoundary"] == boundary
        assert iam.get_user(UserName=name)["User"]["PermissionsBoundary"] == boundary
    iam.create_user(UserName="c")
    assert "PermissionsBoundary" not in iam.get_user(UserName="c")["User"]


@refuses("boundaries of users")
@pytest.mark.parametrize(
    "arn",
    [
        f"arn:aws:iam::{ACCOUNT}:policy/none",
        f"arn:aws:iam::{ACCOUNT}:policy/limit",
        f"arn:aws:iam::{OTHER_ACCOUNT}:policy/ours/limit",
        "arn:aws:iam::aws:policy/NoSuchAccess",
        "arn:aws:iam::aws:policy/job-function/ReadOnlyAccess",
    ],
)
def test_refuses_a_boundary_that_is_no_policy(iam: Any, own_policy: str, arn: str):
    refused = ("NoSuchEntity", 404, f"Scope ARN: {arn} does not exist or is not attachable.")
    assert refusal_of(lambda: iam.create_user(UserName="lease", PermissionsBoundary=arn)) == refused
    assert names(iam) == []


@refuses("boundaries of users")
def test_refuses_a_boundary_that_is_no_arn_of_a_policy(iam: Any):
    arn = f"arn:aws:iam::{ACCOUNT}:role/limit"
    refused = ("InvalidInput", 400, f"ARN {arn} is not valid.")
    assert refusal_of(lambda: iam.create_user(UserName="lease", PermissionsBoundary=arn)) == refused


@passes("boundaries of users")
def test_a_boundary_may_be_put_and_deleted(iam: Any, own_policy: str):
    iam.create_user(UserName="lease", PermissionsBoundary=MANAGED)
    iam.put_user_permissions_boundary(UserName="lease", PermissionsBoundary=own_policy)
    assert iam.get_user(UserName="lease")["User"]["PermissionsBoundary"]["PermissionsBoundaryArn"] == own_policy
    iam.delete_user_permissions_boundary(UserName="lease")
    assert "PermissionsBoundary" not in iam.get_user(UserName="lease")["User"]
    assert code_of(lambda: iam.delete_user_permissions_boundary(UserName="lease")) == "NoSuchEntity"


# --- described and listed


@refuses("lists of users")
@passes("lists of users")
def test_a_list_has_neither_tags_nor_boundaries_and_get_user_has_both(aws: AwsEmulator, iam: Any):
    iam.create_user(UserName="lease", Path="/p/", Tags=pairs({"k": "v"}), PermissionsBoundary=MANAGED)
    (listed,) = iam.list_users()["Users"]
    assert sorted(listed) == ["Arn", "CreateDate", "Path", "UserId", "UserName"]
    told = iam.get_user(UserName="lease")["User"]
    assert told == {
        **listed,
        "Tags": pairs({"k": "v"}),
        "PermissionsBoundary": {"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": MANAGED},
    }
    assert abs(told["CreateDate"] - aws.clock.now()).total_seconds() < 1


def test_lists_by_the_beginning_of_the_path(iam: Any):
    for name, path in (("a", "/"), ("b", "/phasesync/"), ("c", "/phasesync/x/"), ("d", "/other/")):
        iam.create_user(UserName=name, Path=path)
    assert names(iam) == ["a", "b", "c", "d"]
    assert names(iam, PathPrefix="/phasesync/") == ["b", "c"]
    assert names(iam, PathPrefix="/phase") == ["b", "c"]
    assert names(iam, PathPrefix="/none/") == []


@passes("pages of IAM")
def test_pages_have_as_many_as_asked_for_or_a_hundred(iam: Any):
    every = [f"u{number:03}" for number in range(103)]
    for name in every:
        iam.create_user(UserName=name, Path="/p/")
    first = iam.list_users()
    assert (len(first["Users"]), first["IsTruncated"]) == (100, True)
    assert names(iam, Marker=first["Marker"]) == every[100:]
    whole = iam.list_users(MaxItems=103)
    assert (len(whole["Users"]), whole["IsTruncated"], whole.get("Marker")) == (103, False, None)
    pages = iam.get_paginator("list_users").paginate(PathPrefix="/p/", PaginationConfig={"PageSize": 50})
    assert [len(page["Users"]) for page in pages] == [50, 50, 3]


@refuses("pages of IAM")
def test_a_page_may_be_shorter_than_asked_for_and_loses_nobody(aws: AwsEmulator, iam: Any):
    for name in "abcde":
        iam.create_user(UserName=name)
    aws.limits.iam_page = 2
    first = iam.list_users(MaxItems=1000)
    assert ([one["UserName"] for one in first["Users"]], first["IsTruncated"]) == (["a", "b"], True)
    iam.delete_user(UserName="a")
    iam.delete_user(UserName="b")
    assert names(iam, Marker=first["Marker"]) == ["c", "d"]


@refuses("pages of IAM")
@pytest.mark.parametrize("marker", ["made-up", "TGlzdFVzZXI6YQ==", "ä"])
def test_refuses_a_marker_that_was_not_given(iam: Any, marker: str):
    assert refusal_of(lambda: iam.list_users(Marker=marker)) == ("ValidationError", 400, "Invalid Marker.")


# --- new names


@passes("new names of users")
def test_a_new_name_and_path_take_everything_along(iam: Any, boto: Boto):
    iam.create_user(UserName="lease", Tags=pairs({"k": "v"}), PermissionsBoundary=MANAGED)
    before = iam.get_user(UserName="lease")["User"]
    key = iam.create_access_key(UserName="lease")["AccessKey"]
    iam.create_service_specific_credential(UserName="lease", ServiceName="codecommit.amazonaws.com")
    iam.update_user(UserName="lease", NewUserName="LEASE", NewPath="/p/")
    after = iam.get_user(UserName="LEASE")["User"]
    assert after == {**before, "UserName": "LEASE", "Path": "/p/", "Arn": f"arn:aws:iam::{ACCOUNT}:user/p/LEASE"}
    assert code_of(lambda: iam.get_user(UserName="lease")) == "NoSuchEntity"
    assert [one["UserName"] for one in iam.list_access_keys(UserName="LEASE")["AccessKeyMetadata"]] == ["LEASE"]
    sts = boto("sts", aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"])
    assert sts.get_caller_identity()["Arn"] == after["Arn"]
    assert len(iam.list_service_specific_credentials(UserName="LEASE")["ServiceSpecificCredentials"]) == 1
    iam.delete_access_key(UserName="LEASE", AccessKeyId=key["AccessKeyId"])


@refuses("new names of users")
def test_refuses_a_new_name_that_is_taken(iam: Any):
    iam.create_user(UserName="a")
    iam.create_user(UserName="b")
    assert code_of(lambda: iam.update_user(UserName="a", NewUserName="B", NewPath="/p/")) == "EntityAlreadyExists"
    assert iam.get_user(UserName="a")["User"]["Path"] == "/"


def test_reset_forgets_users_quotas_and_times(aws: AwsEmulator, iam: Any):
    iam.create_user(UserName="lease", PermissionsBoundary=MANAGED)
    aws.limits.user_keys = aws.limits.iam_page = 1
    aws.reset()
    assert names(iam) == []
    iam.create_user(UserName="lease")
    assert "PermissionsBoundary" not in iam.get_user(UserName="lease")["User"]
    assert (aws.limits.user_keys, aws.limits.iam_page) == (2, 1_000)


# --- users that are not found for a time


@refuses("new users")
def test_a_new_user_is_not_found_at_once(aws: AwsEmulator, iam: Any):
    aws.timing.new_user_takes = timedelta(seconds=10)
    iam.create_user(UserName="lease", Path="/ours/")
    aws.clock.advance(seconds=9)
    for call in (iam.get_user, iam.create_access_key, iam.list_access_keys, iam.delete_user):
        assert code_of(partial(call, UserName="lease")) == "NoSuchEntity"
    assert names(iam, PathPrefix="/ours/") == []
    assert code_of(lambda: iam.create_user(UserName="lease")) == "EntityAlreadyExists"

    aws.clock.advance(seconds=1)
    assert names(iam, PathPrefix="/ours/") == ["lease"]
    iam.create_access_key(UserName="lease")


@passes("new users")
def test_a_user_is_found_at_once_where_nothing_is_set(iam: Any):
    iam.create_user(UserName="lease")
    assert iam.get_user(UserName="lease")["User"]["UserName"] == "lease"


def test_a_user_may_be_lost_sight_of_for_a_time_with_its_keys_or_without(aws: AwsEmulator, iam: Any):
    iam.create_user(UserName="lease")
    key = iam.create_access_key(UserName="lease")["AccessKey"]["AccessKeyId"]
    for with_keys in (True, False):
        aws.state.users.hide(ACCOUNT, "lease", timedelta(seconds=5), with_keys=with_keys)
        assert code_of(lambda: iam.get_user(UserName="lease")) == "NoSuchEntity"
        asked = partial(iam.get_access_key_last_used, AccessKeyId=key)
        assert code_of(asked) == "AccessDenied" if with_keys else asked()["UserName"] == "lease"
    aws.clock.advance(seconds=5)
    iam.get_user(UserName="lease")
