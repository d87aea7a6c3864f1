"""The server itself: what it notes, what it forgets, how it lives."""

from __future__ import annotations

import threading
import warnings
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from phasesync.emulator import AwsEmulator, EmulatorClock
from tests.emulator.conftest import ACCESS_KEY, ACCOUNT, REGION, Boto, code_of


def test_notes_every_request_with_who_where_and_what(aws: AwsEmulator, sm: Any, boto: Boto):
    sm.create_secret(Name="shop", SecretString="sesame")
    boto("sts").get_caller_identity()
    first, second = aws.operations
    assert (first.service, first.name, first.secret_id) == ("secretsmanager", "CreateSecret", "shop")
    assert (first.account, first.region, first.access_key_id) == (ACCOUNT, REGION, ACCESS_KEY)
    assert (second.service, second.name, second.form["Action"]) == ("sts", "GetCallerIdentity", "GetCallerIdentity")
    assert first.arguments["SecretString"] == "sesame"
    assert "sesame" not in repr(first)
    assert (aws.count("CreateSecret"), aws.names()) == (1, ["CreateSecret"])
    assert aws.calls(except_by=[ACCESS_KEY]) == {}


def test_does_not_count_the_outsider(aws: AwsEmulator):
    aws.outside.create("shop")
    aws.outside.put("shop", "two")
    aws.outside.tag("shop", {"k": "v"})
    aws.outside.untag("shop", "k")
    aws.outside.delete("shop")
    aws.outside.restore("shop")
    assert aws.operations == []
    assert aws.outside.text("shop") == "two"


def test_forgets_everything(aws: AwsEmulator, sm: Any, boto: Boto):
    sm.create_secret(Name="shop", SecretString="one", KmsKeyId=aws.outside.create_key())
    aws.deny("secretsmanager:*")
    aws.fail("ListSecrets")
    aws.timing.list_lag = timedelta(hours=1)
    aws.reset()
    assert aws.keys.uses == []
    assert sm.list_secrets()["SecretList"] == []
    assert aws.names() == ["ListSecrets"]
    assert boto("kms").list_keys()["Keys"] == []


def test_a_clock_that_stands_still_moves_only_when_told():
    start = datetime(2030, 1, 1, tzinfo=UTC)
    clock = EmulatorClock(start, frozen=True)
    assert clock.now() == start
    clock.advance(days=31)
    clock.advance(timedelta(seconds=1))
    assert clock.now() == start + timedelta(days=31, seconds=1)
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(timedelta(seconds=-1))


def test_a_clock_that_runs_starts_at_the_time_it_is_given():
    clock = EmulatorClock(datetime(2030, 1, 1, tzinfo=UTC))
    first = clock.now()
    assert first.year == 2030
    assert EmulatorClock().now() - datetime.now(UTC) < timedelta(seconds=5)
    assert clock.now() >= first


def test_answers_many_at_once_and_every_write_is_whole(aws: AwsEmulator, sm: Any):
    aws.outside.create("shop")

    def write(number: int) -> None:
        for turn in range(5):
            sm.put_secret_value(SecretId="shop", SecretString=f"{number}-{turn}")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    stages = sorted(label for one in aws.outside.describe("shop")["VersionIdsToStages"].values() for label in one)
    assert stages == ["AWSCURRENT", "AWSPREVIOUS"]
    assert len(sm.list_secret_version_ids(SecretId="shop", IncludeDeprecated=True)["Versions"]) == 41


def test_another_process_may_use_it_until_it_stops():
    import boto3.session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    with AwsEmulator() as own:
        client: Any = boto3.session.Session().client(
            "secretsmanager",
            region_name=REGION,
            endpoint_url=own.url,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1}),
        )
        assert client.get_random_password(PasswordLength=12)["RandomPassword"]
    with pytest.raises(BotoCoreError), warnings.catch_warnings():
        client.list_secrets()
    client.close()


def test_refuses_what_is_no_request(aws: AwsEmulator, sm: Any):
    assert code_of(lambda: sm.describe_secret(SecretId="never-was")) == "ResourceNotFoundException"
    assert code_of(lambda: sm.describe_secret()) == "ValidationException"
    assert code_of(lambda: sm.describe_secret(SecretId="")) == "ValidationException"
