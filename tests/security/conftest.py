"""An AWS that enforces who may do what, two empty accounts of it for each test, and phasesync as their clients."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from phasesync.adapters.aws.session import AwsClients
from phasesync.adapters.destinations import RegisteredDestinations
from phasesync.core.credential import Credential
from phasesync.core.iam.role_setup import principal_of, trust_policy
from phasesync.core.iam.sync_policy import starter_sync_policy
from phasesync.core.model import SecretValue
from phasesync.ports.destination import Destination
from tests.support.accounts import REGION, Account, Key, allow
from tests.support.aws import environ_of, move_to
from tests.support.aws_builders import EXTERNAL_ID, INSTANCE, HandClock, access_key_credential, role_credential
from tests.support.ministack import Ministack, start_ministack

_numbers = itertools.count(100000000001)
"""No two tests of a process share an account, so that none has to clean up."""


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ministack]:
    """One for the tests of this process."""
    with start_ministack(tmp_path_factory.mktemp("ministack")) as started:
        yield started


@pytest.fixture
def home(ministack: Ministack, monkeypatch: pytest.MonkeyPatch) -> Account:
    """The account that phasesync runs in. This process reaches ministack, and has no key until a test gives it one."""
    move_to(environ_of(ministack.url), monkeypatch)
    return Account(ministack, str(next(_numbers)))


@pytest.fixture
def target(ministack: Ministack) -> Account:
    """The account that the secrets are in."""
    return Account(ministack, str(next(_numbers)))


@pytest.fixture
def host(home: Account, monkeypatch: pytest.MonkeyPatch) -> Key:
    """Who phasesync runs as: may assume roles and do nothing else. It is the default chain of this process."""
    key = home.add_user("host", allow("sts:AssumeRole"))
    for name, value in key.environ().items():
        monkeypatch.setenv(name, value)
    return key


@pytest.fixture
def sources() -> dict[str, Credential]:
    """Credential id -> credential that others name as their source."""
    return {}


@pytest.fixture
def clock() -> HandClock:
    """An hour slow: a session that ends at AWS still looks good to us."""
    return HandClock(datetime.now(UTC) - timedelta(hours=1))


@pytest.fixture
def clients(home: Account, sources: dict[str, Credential], clock: HandClock) -> Iterator[AwsClients]:
    """The clients of one phasesync."""
    made = AwsClients(source_of=sources.__getitem__, clock=clock, instance_id=INSTANCE, endpoint_url=home.ministack.url)
    yield made
    made.close()


@pytest.fixture
def open_as(clients: AwsClients) -> Callable[..., Destination]:
    """Open the destination as a credential."""
    destinations = RegisteredDestinations(clients, instance_id=INSTANCE)

    def open_as(credential: Credential, region: str = REGION) -> Destination:
        return destinations.open("aws-secrets-manager", credential, region)

    return open_as


def credential_of(key: Key) -> Credential:
    """A credential of type access-key."""
    return access_key_credential(access_key_id=key.id, secret_access_key=SecretValue(key.secret))


def add_trusting_role(target: Account, trusted_arn: str, *, external_id: str | None = EXTERNAL_ID) -> Credential:
    """Add a role that may do what syncs do, and that lets someone in; return a credential for it."""
    trust = trust_policy(principal_arn=principal_of(trusted_arn), external_id=external_id)
    return role_credential(target.add_role("phasesync", trust, starter_sync_policy(region=REGION)))
