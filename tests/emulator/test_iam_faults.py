"""Requests to IAM that get lost, come late or are answered with nonsense, and many at once: each one is whole."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.request import Request, urlopen

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError
from botocore.parsers import ResponseParserError

from phasesync.emulator import Answer, AwsEmulator, garbled
from tests.emulator.conftest import Boto, code_of, refusal_of
from tests.emulator.test_iam_grants import document


def names(iam: Any) -> list[str]:
    return [one["UserName"] for one in iam.list_users()["Users"]]


@pytest.mark.parametrize(("when", "there"), [("before", []), ("after", ["lease"])])
def test_drops_the_connection_before_or_after_it_is_carried_out(
    aws: AwsEmulator, iam: Any, when: Any, there: list[str]
):
    aws.fail("CreateUser", when=when)
    with pytest.raises(ConnectionClosedError):
        iam.create_user(UserName="lease")
    assert names(iam) == there


@pytest.mark.parametrize(("when", "there"), [("before", []), ("after", ["lease"])])
def test_answers_an_error_in_the_form_of_iam(aws: AwsEmulator, iam: Any, when: Any, there: list[str]):
    aws.fail("CreateUser", Answer("ServiceFailure", "a < b", status=500), when=when)
    assert refusal_of(lambda: iam.create_user(UserName="lease")) == ("ServiceFailure", 500, "a < b")
    assert names(iam) == there


def test_tells_whose_fault_it_is(aws: AwsEmulator, iam: Any):
    aws.fail("GetUser", Answer("ServiceFailure", status=500))
    aws.fail("GetUser", Answer("Throttling", status=400), nth=2)
    faults = []
    for _ in range(2):
        with pytest.raises(ClientError) as caught:
            iam.get_user(UserName="lease")
        faults.append(dict(caught.value.response["Error"])["Type"])
    assert faults == ["Receiver", "Sender"]


def test_answers_after_the_clients_patience_what_was_carried_out(aws: AwsEmulator, boto: Boto, iam: Any):
    iam.create_user(UserName="lease")
    aws.slow("CreateAccessKey", 5, when="after")
    with pytest.raises(ReadTimeoutError):
        boto("iam", read_timeout=0.2).create_access_key(UserName="lease")
    assert len(iam.list_access_keys(UserName="lease")["AccessKeyMetadata"]) == 1


def test_answers_nonsense_to_what_was_carried_out(aws: AwsEmulator, iam: Any):
    aws.fail("CreateUser", garbled(b"<CreateUserResponse><Crea"), when="after")
    with pytest.raises(ResponseParserError):
        iam.create_user(UserName="a")
    aws.fail("CreateUser", garbled(b"<CreateUserResponse><CreateUserResult/></CreateUserResponse>"), when="after")
    answer = iam.create_user(UserName="b")
    assert "User" not in answer
    assert answer["ResponseMetadata"]["HTTPHeaders"]["content-type"] == "text/xml"
    # botocore raises what it did not mean to where even that is missing.
    aws.fail("CreateUser", garbled(b"<CreateUserResponse/>"), when="after")
    with pytest.raises(KeyError):
        iam.create_user(UserName="c")
    assert names(iam) == ["a", "b", "c"]


def test_somebody_acts_between_a_request_and_its_answer(aws: AwsEmulator, boto: Boto, iam: Any):
    other = boto("iam", aws_access_key_id="AKIASOMEBODYELSE0000")
    aws.do("CreateUser", lambda _: other.create_access_key(UserName="lease") and None, when="after")
    aws.do("DeleteUser", lambda _: other.tag_user(UserName="lease", Tags=[{"Key": "k", "Value": "v"}]) and None)
    iam.create_user(UserName="lease")
    assert code_of(lambda: iam.delete_user(UserName="lease")) == "DeleteConflict"
    assert [tag["Key"] for tag in iam.get_user(UserName="lease")["User"]["Tags"]] == ["k"]


def at_once(calls: list[Callable[[], Any]]) -> list[str | None]:
    """Make calls at the same time; return the code that each is refused with, None if it was not."""
    codes: list[str | None] = [None] * len(calls)
    start = threading.Barrier(len(calls))

    def run(number: int) -> None:
        start.wait(30)
        try:
            calls[number]()
        except ClientError as error:
            codes[number] = str(error.response["Error"]["Code"])

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return codes


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads that give way to each other a thousand times as often, in the middle of anything."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(before / 1000)
    yield
    sys.setswitchinterval(before)


def test_one_of_many_gets_a_name_and_no_more_than_two_a_key(hasty: None, iam: Any):
    for number in range(12):
        spellings = [f"{name}{number}" for name in ("lease", "Lease", "LEASE", "leasE", "lEase", "leAse", "leaSe")]
        codes = at_once([partial(iam.create_user, UserName=name) for name in spellings])
        assert sorted(codes, key=str) == ["EntityAlreadyExists"] * 6 + [None]
        (name,) = (one for one in names(iam) if one.lower() == f"lease{number}")
        codes = at_once([partial(iam.create_access_key, UserName=name)] * 7)
        assert sorted(codes, key=str) == ["LimitExceeded"] * 5 + [None] * 2


def test_a_user_is_deleted_or_gets_something_but_not_both(hasty: None, iam: Any):
    def put(name: str) -> None:
        iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=document(200))

    for number in range(5):
        name = f"lease{number}"
        iam.create_user(UserName=name)
        made, deleted = at_once([partial(put, name), partial(iam.delete_user, UserName=name)])
        assert (made, deleted) in ((None, "DeleteConflict"), ("NoSuchEntity", None))
        assert (name in names(iam)) == (made is None)


def test_faults_do_not_hold_up_other_requests(aws: AwsEmulator, boto: Boto, iam: Any):
    aws.slow("CreateUser", 3)
    late = threading.Thread(target=lambda: boto("iam", read_timeout=20).create_user(UserName="late"))
    late.start()
    started = time.monotonic()
    while aws.count("CreateUser") == 0:
        time.sleep(0.01)
    iam.create_user(UserName="early")
    assert time.monotonic() - started < 2.5
    late.join(30)
    assert names(iam) == ["early", "late"]


def test_an_operation_that_iam_does_not_know_is_refused(aws: AwsEmulator):
    signed = "AWS4-HMAC-SHA256 Credential=AKIATESTTESTTESTTEST/20300101/us-east-1/iam/aws4_request, Signature=0"
    request = Request(aws.url, b"Action=EatUser&Version=2010-05-08", {"Authorization": signed})
    with pytest.raises(OSError, match="400") as caught:
        urlopen(request)
    assert b"<Code>InvalidAction</Code>" in caught.value.read()  # type: ignore[attr-defined]
