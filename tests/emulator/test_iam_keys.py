"""Access keys of users: how many, and when they open something."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from phasesync.emulator import AwsEmulator
from tests.emulator.conftest import OTHER_ACCOUNT, Boto, passes, refusal_of, refuses

U = {"UserName": "lease"}
INVALID = "The security token included in the request is invalid."

Key = dict[str, str]


@pytest.fixture
def make_key(iam: Any) -> Callable[[], Key]:
    """Makes a key of the user; what a client takes of it."""
    iam.create_user(**U)

    def make() -> Key:
        told = iam.create_access_key(**U)["AccessKey"]
        return {"aws_access_key_id": told["AccessKeyId"], "aws_secret_access_key": told["SecretAccessKey"]}

    return make


def assert_refused(boto: Boto, key: Key) -> None:
    """Make sure that every service refuses a key, each in its form."""
    for service, call in (("sts", "get_caller_identity"), ("iam", "list_users")):
        assert refusal_of(getattr(boto(service, **key), call)) == ("InvalidClientTokenId", 403, INVALID)
    for service, call in (("secretsmanager", "list_secrets"), ("kms", "list_keys")):
        assert refusal_of(getattr(boto(service, **key), call)) == ("UnrecognizedClientException", 400, INVALID)


def assert_good(boto: Boto, key: Key) -> None:
    assert boto("sts", **key).get_caller_identity()["Arn"].endswith(":user/lease")
    boto("iam", **key).list_users()
    boto("secretsmanager", **key).list_secrets()
    boto("kms", **key).list_keys()


@refuses("key quota of users")
@passes("key quota of users")
def test_a_user_has_two_keys_at_most_or_as_many_as_is_set(aws: AwsEmulator, iam: Any, make_key: Callable[[], Key]):
    make_key()
    make_key()
    assert refusal_of(make_key) == ("LimitExceeded", 409, "Cannot exceed quota for AccessKeysPerUser: 2")
    assert len(iam.list_access_keys(**U)["AccessKeyMetadata"]) == 2
    aws.limits.user_keys = 3
    make_key()


@refuses("ended keys")
def test_a_deleted_key_opens_nothing_although_it_did(boto: Boto, iam: Any, make_key: Callable[[], Key]):
    key = make_key()
    assert_good(boto, key)
    iam.delete_access_key(**U, AccessKeyId=key["aws_access_key_id"])
    assert_refused(boto, key)
    iam.delete_user(**U)
    assert_refused(boto, key)


@refuses("ended keys")
@passes("ended keys")
def test_an_inactive_key_opens_nothing_until_it_is_active_again(boto: Boto, iam: Any, make_key: Callable[[], Key]):
    key = make_key()
    iam.update_access_key(**U, AccessKeyId=key["aws_access_key_id"], Status="Inactive")
    assert_refused(boto, key)
    iam.update_access_key(**U, AccessKeyId=key["aws_access_key_id"], Status="Active")
    assert_good(boto, key)
    assert iam.list_access_keys(**U)["AccessKeyMetadata"][0]["Status"] == "Active"


@refuses("ended keys")
def test_a_deleted_key_of_another_account_is_still_noted_there(aws: AwsEmulator, boto: Boto):
    key, secret = aws.outside.at(account=OTHER_ACCOUNT).create_user("lease")
    own = {"aws_access_key_id": key, "aws_secret_access_key": secret}
    boto("iam", **own).delete_access_key(AccessKeyId=key)
    assert_refused(boto, own)
    assert {one.account for one in aws.operations if one.access_key_id == key} == {OTHER_ACCOUNT}


@passes("ended keys")
def test_keys_that_were_never_issued_open_everything(boto: Boto):
    made_up = {"aws_access_key_id": "AKIANEVERISSUED00000", "aws_secret_access_key": "test"}
    boto("sts", **made_up).get_caller_identity()
    boto("secretsmanager", **made_up).list_secrets()


@passes("ended keys")
def test_the_session_of_a_role_outlives_the_key_that_began_it(boto: Boto, iam: Any, make_key: Callable[[], Key]):
    key = make_key()
    role = f"arn:aws:iam::{OTHER_ACCOUNT}:role/r"
    told = boto("sts", **key).assume_role(RoleArn=role, RoleSessionName="run")["Credentials"]
    iam.delete_access_key(**U, AccessKeyId=key["aws_access_key_id"])
    session = {
        "aws_access_key_id": told["AccessKeyId"],
        "aws_secret_access_key": told["SecretAccessKey"],
        "aws_session_token": told["SessionToken"],
    }
    boto("secretsmanager", **session).list_secrets()


@refuses("new keys")
def test_a_new_key_is_not_known_at_once(aws: AwsEmulator, boto: Boto, make_key: Callable[[], Key]):
    aws.timing.new_key_takes = timedelta(seconds=10)
    key = make_key()
    assert_refused(boto, key)
    aws.clock.advance(seconds=9)
    assert_refused(boto, key)
    aws.clock.advance(seconds=1)
    assert_good(boto, key)


@passes("new keys")
def test_a_key_is_known_at_once_where_nothing_is_set_and_after_a_reset(
    aws: AwsEmulator, boto: Boto, make_key: Callable[[], Key]
):
    key = make_key()
    assert_good(boto, key)
    aws.timing.new_key_takes = timedelta(hours=1)
    assert_refused(boto, key)
    aws.reset()
    assert aws.timing.new_key_takes == timedelta()
    boto("sts", **key).get_caller_identity()  # no one's key now, and so no one's to refuse


def test_the_time_may_be_given_to_the_server():
    with AwsEmulator(new_key_takes=timedelta(seconds=5)) as own:
        own.timing.new_key_takes = timedelta()
        own.reset()
        assert own.timing.new_key_takes == timedelta(seconds=5)


def test_a_key_that_is_not_the_users_cannot_be_deleted(iam: Any, aws: AwsEmulator, make_key: Callable[[], Key]):
    other, _ = aws.outside.create_user("other")
    refused = ("NoSuchEntity", 404, f"The Access Key with id {other} cannot be found.")
    assert refusal_of(lambda: iam.delete_access_key(**U, AccessKeyId=other)) == refused
    assert refusal_of(lambda: iam.update_access_key(**U, AccessKeyId=other, Status="Inactive")) == refused
    assert len(iam.list_access_keys(UserName="other")["AccessKeyMetadata"]) == 1


@passes("owners of keys")
def test_a_key_tells_whose_it_is_by_the_name_of_now(iam: Any, make_key: Callable[[], Key]):
    key_id = make_key()["aws_access_key_id"]
    assert iam.get_access_key_last_used(AccessKeyId=key_id)["UserName"] == "lease"
    iam.update_user(**U, NewUserName="another", NewPath="/elsewhere/")
    told = iam.get_access_key_last_used(AccessKeyId=key_id)
    assert (told["UserName"], told["AccessKeyLastUsed"]) == ("another", {"ServiceName": "N/A", "Region": "N/A"})


@refuses("owners of keys")
def test_a_key_that_is_not_there_and_one_of_another_account_tell_nothing(
    aws: AwsEmulator, iam: Any, boto: Boto, make_key: Callable[[], Key]
):
    key_id = make_key()["aws_access_key_id"]
    role = f"arn:aws:iam::{OTHER_ACCOUNT}:role/phasesync"
    told = boto("sts").assume_role(RoleArn=role, RoleSessionName="other")["Credentials"]
    session = {
        "aws_access_key_id": told["AccessKeyId"],
        "aws_secret_access_key": told["SecretAccessKey"],
        "aws_session_token": told["SessionToken"],
    }
    other = boto("iam", **session)
    assert refusal_of(lambda: other.get_access_key_last_used(AccessKeyId=key_id))[:2] == ("AccessDenied", 403)
    iam.delete_access_key(**U, AccessKeyId=key_id)
    code, status, text = refusal_of(lambda: iam.get_access_key_last_used(AccessKeyId=key_id))
    assert (code, status) == ("AccessDenied", 403)
    assert text.endswith(f"is not authorized to perform: iam:GetAccessKeyLastUsed on resource: access key {key_id}")
