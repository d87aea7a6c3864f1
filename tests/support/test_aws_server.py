"""The AWS on loopback serves other processes, records what arrives, and fails where it is told to."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.aws import Aws
from tests.support.aws_server import Answer, Operation

WRITE = "import boto3; boto3.client('secretsmanager').create_secret(Name='shop', SecretString='one')"


def run(aws: Aws) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITE], env={**os.environ, **aws.environ}, stderr=subprocess.DEVNULL)


def exists(aws: Aws) -> bool:
    return bool(aws.boto("secretsmanager").list_secrets()["SecretList"])


def test_another_process_writes_and_is_recorded(aws: Aws):
    assert run(aws).wait(60) == 0
    assert aws.server.names() == ["CreateSecret"]
    assert aws.secret_text("shop") == "one"


@pytest.mark.parametrize(("when", "landed"), [("before", False), ("after", True)])
def test_a_process_dies_before_or_after_a_write_lands(aws: Aws, when: Any, landed: bool):
    started: list[subprocess.Popen[bytes]] = []

    def kill(_: Operation) -> Answer:
        started[0].kill()
        return Answer(code=None)

    aws.server.do("CreateSecret", kill, when=when)
    started.append(run(aws))
    assert started[0].wait(60) == -9
    assert exists(aws) is landed


def test_the_nth_request_fails_and_the_next_does_not(aws: Aws):
    aws.server.fail("ListSecrets", Answer("ThrottlingException"), nth=2)
    client = aws.boto("secretsmanager")
    client.list_secrets()
    with pytest.raises(ClientError, match="ThrottlingException"):
        client.list_secrets()
    client.list_secrets()
    assert aws.server.count("ListSecrets") == 3


def test_every_test_begins_with_an_empty_aws(aws: Aws):
    assert not exists(aws)
    assert aws.server.names() == ["ListSecrets"]
