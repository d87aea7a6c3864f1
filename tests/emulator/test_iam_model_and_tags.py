"""What IAM's API model says of parameters, and the rules of users' tags."""

from __future__ import annotations

from typing import Any

import pytest

from phasesync.emulator import AwsEmulator
from tests.emulator.conftest import ACCOUNT, code_of, passes, refusal_of, refuses
from tests.emulator.test_iam_users import names, pairs, tags_of

PATH_TEXT = (
    "The specified value for path is invalid. It must begin and end with / and contain only alphanumeric characters "
    "and/or / characters."
)


@refuses("IAM's API model")
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"UserName": "x" * 65}, "at 'userName' failed to satisfy constraint: Member must have length less than or"),
        ({"UserName": "a/b"}, "The specified value for userName is invalid. It must contain only alphanumeric"),
        ({"UserName": "ä"}, "The specified value for userName is invalid."),
        ({}, "at 'userName' failed to satisfy constraint: Member must not be null"),
        ({"Path": "phasesync"}, PATH_TEXT),
        ({"Path": "/phasesync"}, PATH_TEXT),
        ({"Path": f"/{'x' * 511}/"}, "at 'path' failed to satisfy constraint: Member must have length less than or"),
        ({"PermissionsBoundary": "short"}, "at 'permissionsBoundary' failed to satisfy constraint: Member must have"),
        ({"Tags": pairs({str(one): "" for one in range(51)})}, "at 'tags' failed to satisfy constraint"),
        ({"Tags": pairs({"k" * 129: ""})}, "at 'tags.1.member.key' failed to satisfy constraint"),
        ({"Tags": pairs({"k": "v" * 257})}, "at 'tags.1.member.value' failed to satisfy constraint"),
        ({"Tags": pairs({"k#": "v"})}, "at 'tags.1.member.key' failed to satisfy constraint"),
    ],
)
def test_refuses_what_contradicts_the_model(iam: Any, arguments: dict[str, Any], text: str):
    asked = arguments if arguments == {} or "UserName" in arguments else {"UserName": "lease", **arguments}
    code, status, told = refusal_of(lambda: iam.create_user(**asked))
    assert (code, status) == ("ValidationError", 400)
    assert text in told
    assert names(iam) == []


@refuses("IAM's API model")
def test_refuses_numbers_out_of_range_and_words_that_are_none(iam: Any):
    iam.create_user(UserName="lease")
    key = iam.create_access_key(UserName="lease")["AccessKey"]["AccessKeyId"]
    assert code_of(lambda: iam.list_users(MaxItems=1001)) == "ValidationError"
    assert code_of(lambda: iam.list_users(PathPrefix="x")) == "ValidationError"
    assert code_of(lambda: iam.update_access_key(UserName="lease", AccessKeyId=key, Status="Off")) == "ValidationError"


@passes("IAM's API model")
def test_takes_what_the_model_takes(iam: Any):
    name, path, tags = (
        "A1_+=,.@-" + "x" * 55,
        f"/{'x' * 510}/",
        {"Käse /:=+-@_. \u00a0" + "k" * 100: "", "k": "v" * 256},
    )
    told = iam.create_user(UserName=name, Path=path, Tags=pairs(tags))["User"]
    assert (told["UserName"], told["Path"]) == (name, path)
    assert told["Arn"] == f"arn:aws:iam::{ACCOUNT}:user{path}{name}"
    assert tags_of(iam, name) == tags


# --- tags


@refuses("tags of users")
@pytest.mark.parametrize(
    "tags",
    [pairs({"aws:x": "v"}), pairs({"AWS:x": "v"}), pairs({"k": "v", "K": "w"}), pairs({"k": "v"}) * 2],
)
def test_refuses_reserved_keys_and_keys_that_come_twice(iam: Any, tags: list[dict[str, str]]):
    assert refusal_of(lambda: iam.create_user(UserName="lease", Tags=tags))[:2] == ("InvalidInput", 400)
    assert names(iam) == []
    iam.create_user(UserName="lease", Tags=pairs({"k": "v"}))
    assert code_of(lambda: iam.tag_user(UserName="lease", Tags=tags)) == "InvalidInput"
    assert tags_of(iam) == {"k": "v"}


@passes("tags of users")
def test_tags_are_added_replaced_and_removed_whatever_their_case(iam: Any):
    iam.create_user(UserName="lease", Tags=pairs({"b": "1", "Aws": "2"}))
    iam.tag_user(UserName="lease", Tags=pairs({"B": "3", "c": ""}))
    assert tags_of(iam) == {"Aws": "2", "B": "3", "c": ""}
    assert [tag["Key"] for tag in iam.list_user_tags(UserName="lease")["Tags"]] == ["Aws", "B", "c"]
    iam.untag_user(UserName="lease", TagKeys=["aWS", "none"])
    assert tags_of(iam) == {"B": "3", "c": ""}


@refuses("tag quota of users")
@passes("tag quota of users")
def test_a_user_has_fifty_tags_at_most(aws: AwsEmulator, iam: Any):
    most = {f"k{number}": "v" for number in range(50)}
    iam.create_user(UserName="lease", Tags=pairs(most))
    assert refusal_of(lambda: iam.tag_user(UserName="lease", Tags=pairs({"more": "v"})))[:2] == ("LimitExceeded", 409)
    iam.tag_user(UserName="lease", Tags=pairs({"K0": "w"}))
    assert tags_of(iam) == {**{key: "v" for key in most if key != "k0"}, "K0": "w"}
    aws.limits.user_tags = 2
    assert code_of(lambda: iam.create_user(UserName="b", Tags=pairs({"a": "", "b": "", "c": ""}))) == "LimitExceeded"
