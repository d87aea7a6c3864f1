"""The adapter on the emulator, whose waiting is cut short."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from phasesync.adapters.aws.session import AwsClients
from phasesync.adapters.aws_secrets_manager.destination import AwsSecretsManager
from phasesync.emulator import AwsEmulator
from tests.support.aws import REGION, Aws
from tests.support.aws_builders import INSTANCE, HandClock, access_key_credential, no_sources


@pytest.fixture
def emulator(aws: Aws) -> AwsEmulator:
    """An empty AWS. Tests are refused for other reasons than for the number of their calls."""
    aws.server.throttling.enabled = False
    return aws.server


@pytest.fixture
def emulator_clients(emulator: AwsEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsClients]:
    """Clients that reach it. The SDK does not wait between its attempts."""
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))
    shared = AwsClients(
        source_of=no_sources, clock=HandClock(datetime.now(UTC)), instance_id=INSTANCE, endpoint_url=emulator.url
    )
    yield shared
    shared.close()


@pytest.fixture
def on_emulator(emulator_clients: AwsClients) -> AwsSecretsManager:
    """The adapter."""
    return AwsSecretsManager(emulator_clients, access_key_credential(), REGION, instance_id=INSTANCE)
