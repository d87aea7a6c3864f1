"""Other processes talk to it, and die at a moment of the test's choice."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from phasesync.emulator import DROP, Answer, AwsEmulator, Operation
from tests.emulator.conftest import ACCESS_KEY
from tests.support.aws import environ_of

WRITE = "import boto3; boto3.client('secretsmanager').create_secret(Name='shop', SecretString='one')"


def start(aws: AwsEmulator) -> subprocess.Popen[bytes]:
    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": "test"}
    environ = os.environ | environ_of(aws.url) | keys
    return subprocess.Popen([sys.executable, "-c", WRITE], env=environ, stderr=subprocess.DEVNULL)


def test_another_process_writes_and_is_noted(aws: AwsEmulator):
    assert start(aws).wait(60) == 0
    assert aws.names() == ["CreateSecret"]
    assert aws.outside.text("shop") == "one"


@pytest.mark.parametrize(("when", "landed"), [("before", False), ("after", True)])
def test_a_process_dies_before_or_after_a_write_lands(aws: AwsEmulator, when: Any, landed: bool):
    started: list[subprocess.Popen[bytes]] = []

    def kill(_: Operation) -> Answer:
        started[0].kill()
        return DROP

    aws.do("CreateSecret", kill, when=when)
    started.append(start(aws))
    assert started[0].wait(60) == -9
    assert aws.outside.names() == (["shop"] if landed else [])
