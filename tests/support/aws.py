"""Fixtures: an AWS on loopback for tests of adapters, of the command line and of daemons.

    def test_something(aws): ...
        aws.server.operations               what arrived, in order
        aws.server.fail("PutSecretValue")   the connection drops before it is carried out
        aws.server.outside.put("shop", "…") somebody else writes
        aws.boto("secretsmanager")          a plain client, to set the scene and to look at the result
        aws.environ                         what a subprocess needs in its environment

The process's own environment points there as well, with no AWS configuration files and no metadata service.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from phasesync.emulator import AwsEmulator
from tests.support.reads import LOOKS_AROUND

REGION = "eu-west-1"
ACCOUNT = "123456789012"
"""The account of moto for keys that it does not know."""
OTHER_ACCOUNT = "222222222222"


@dataclass(frozen=True)
class Aws:
    """An AWS, empty at the start of every test."""

    server: AwsEmulator
    environ: dict[str, str]

    def boto(self, service: str, *, region: str = REGION, **keys: str) -> Any:
        """Return a plain boto3 client; `keys` are aws_access_key_id and so on, the default is the environment's."""
        import boto3.session
        from botocore.config import Config

        # Its connections close after each call, so that a client that a test drops leaves no socket behind.
        config = Config(retries={"total_max_attempts": 1}, max_pool_connections=1, user_agent=LOOKS_AROUND)
        make: Any = boto3.session.Session().client
        return make(service, region_name=region, endpoint_url=self.server.url, config=config, **keys)

    def secret_text(self, name: str, *, region: str = REGION) -> str:
        """Return the current value of a secret of the default account."""
        return self.server.outside.at(region=region).text(name)

    def role(self, name: str = "phasesync", *, account: str = OTHER_ACCOUNT) -> str:
        """Return the ARN of a role that is not there, so everyone may assume it; its calls land in that account."""
        return f"arn:aws:iam::{account}:role/{name}"


@pytest.fixture(scope="session")
def aws_server() -> Iterator[AwsEmulator]:
    """One server for the tests of this process."""
    with AwsEmulator() as server:
        yield server


@pytest.fixture
def aws(aws_server: AwsEmulator, monkeypatch: pytest.MonkeyPatch) -> Aws:
    """An empty AWS that this process and its children talk to."""
    aws_server.reset()
    keys = {"AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST", "AWS_SECRET_ACCESS_KEY": "test-secret-access-key"}
    environ = environ_of(aws_server.url) | keys
    move_to(environ, monkeypatch)
    return Aws(server=aws_server, environ=environ)


def environ_of(url: str) -> dict[str, str]:
    """What a process needs in its environment to reach this AWS and no other; keys are still missing."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": "/nonexistent/aws-config",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent/aws-credentials",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


def move_to(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it the environment of this process as far as AWS is concerned."""
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    for unwanted in (*keys, "AWS_PROFILE", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(unwanted, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
