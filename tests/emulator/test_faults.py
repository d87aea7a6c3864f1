"""Requests that get lost, come late, or are answered with nonsense."""

from __future__ import annotations

import time
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from phasesync.emulator import Answer, AwsEmulator, Operation, garbled
from tests.emulator.conftest import Boto, code_of


def put(sm: Any, value: str = "two") -> Any:
    return sm.put_secret_value(SecretId="shop", SecretString=value)


@pytest.fixture(autouse=True)
def shop(aws: AwsEmulator) -> None:
    aws.outside.create("shop", "one")


@pytest.mark.parametrize(("when", "value"), [("before", "one"), ("after", "two")])
def test_drops_the_connection_before_or_after_the_request_is_carried_out(
    aws: AwsEmulator, sm: Any, when: Any, value: str
):
    aws.fail("PutSecretValue", when=when)
    with pytest.raises(ConnectionClosedError):
        put(sm)
    assert aws.outside.text("shop") == value
    put(sm, "three")


@pytest.mark.parametrize(("when", "value"), [("before", "one"), ("after", "two")])
def test_fails_inside_aws_before_or_after_the_request_is_carried_out(aws: AwsEmulator, sm: Any, when: Any, value: str):
    aws.fail("PutSecretValue", Answer("InternalServiceError", status=500), when=when)
    assert code_of(lambda: put(sm)) == "InternalServiceError"
    assert aws.outside.text("shop") == value


def test_chooses_requests_by_count(aws: AwsEmulator, sm: Any):
    aws.fail("DescribeSecret", Answer("ThrottlingException"), nth=2, times=2)
    outcomes = []
    for _ in range(4):
        try:
            sm.describe_secret(SecretId="shop")
        except ClientError:
            outcomes.append("refused")
        else:
            outcomes.append("answered")
    assert outcomes == ["answered", "refused", "refused", "answered"]
    assert aws.count("DescribeSecret") == 4


def test_answers_after_the_clients_patience_what_was_carried_out(aws: AwsEmulator, boto: Boto):
    aws.slow("PutSecretValue", 5, when="after")
    with pytest.raises(ReadTimeoutError):
        put(boto(read_timeout=0.2))
    assert aws.outside.text("shop") == "two"


def test_adds_latency(aws: AwsEmulator, sm: Any):
    aws.slow("*", 0.1)
    started = time.monotonic()
    sm.describe_secret(SecretId="shop")
    assert time.monotonic() - started >= 0.1


def test_answers_nonsense_to_what_was_carried_out(aws: AwsEmulator, sm: Any):
    aws.fail("PutSecretValue", garbled(b"{}"), when="after")
    assert "VersionId" not in put(sm)
    assert aws.outside.text("shop") == "two"


def test_cuts_an_answer_in_its_middle(aws: AwsEmulator, sm: Any):
    aws.fail("PutSecretValue", garbled(cut=True), when="after")
    # botocore takes half an answer for one in which everything is missing.
    assert "VersionId" not in put(sm)
    assert aws.outside.text("shop") == "two"
    assert "VersionId" in put(sm, "three")


def test_calls_the_hook_before_and_after_and_answers_what_it_says(aws: AwsEmulator, sm: Any):
    seen: list[tuple[str, str, str | None]] = []

    def hook(when: str, operation: Operation) -> Answer | None:
        seen.append((when, operation.name, operation.secret_id))
        return Answer("InternalServiceError", status=503) if len(seen) == 3 else None

    aws.on_request = hook
    sm.describe_secret(SecretId="shop")
    assert code_of(lambda: put(sm)) == "InternalServiceError"
    assert seen == [
        ("before", "DescribeSecret", "shop"),
        ("after", "DescribeSecret", "shop"),
        ("before", "PutSecretValue", "shop"),
    ]


def test_somebody_writes_in_the_middle_of_a_request(aws: AwsEmulator, sm: Any):
    def write(_: Operation) -> None:
        aws.outside.put("shop", "theirs")

    aws.do("DescribeSecret", write, when="after")
    versions = sm.describe_secret(SecretId="shop")["VersionIdsToStages"]
    put(sm)
    assert aws.outside.text("shop", label="AWSPREVIOUS") == "theirs"
    assert len(versions) == 1


def test_the_sdk_recovers_from_one_failure_by_itself_with_one_version(aws: AwsEmulator):
    import boto3.session
    from botocore.config import Config

    patient: Any = boto3.session.Session().client(
        "secretsmanager",
        region_name="eu-west-1",
        endpoint_url=aws.url,
        aws_access_key_id="AKIATESTTESTTESTTEST",
        aws_secret_access_key="test",
        config=Config(retries={"mode": "standard", "total_max_attempts": 3}),
    )
    aws.fail("PutSecretValue", when="after")
    put(patient)
    assert aws.count("PutSecretValue") == 2
    assert len(aws.outside.describe("shop")["VersionIdsToStages"]) == 2
    patient.close()
