"""Clients are made once and shared; a role is assumed once for each lifetime of its session."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from phasesync import __version__
from phasesync.adapters.aws.roles import session_name
from phasesync.adapters.aws.session import AwsClients
from phasesync.bootstrap.app import call_limits
from phasesync.core.credential import Credential
from phasesync.core.model import SecretValue
from phasesync.emulator import Answer
from phasesync.errors import (
    CredentialRejectedError,
    DestinationUnavailableError,
    SettingsError,
)
from phasesync.settings.model import DaemonSettings, Settings
from tests.support.aws import ACCOUNT, OTHER_ACCOUNT, REGION, Aws
from tests.support.aws_builders import (
    INSTANCE,
    HandClock,
    access_key_credential,
    ambient_credential,
    no_sources,
    role_credential,
)

Make = Callable[..., AwsClients]
PassTime = Callable[[timedelta], None]


@pytest.fixture
def clock() -> HandClock:
    return HandClock(datetime.now(UTC))


@pytest.fixture
def make(clock: HandClock) -> Iterator[Make]:
    opened: list[AwsClients] = []

    def make_clients(**changes: Any) -> AwsClients:
        arguments: dict[str, Any] = {"source_of": no_sources, "clock": clock, "instance_id": INSTANCE, **changes}
        opened.append(AwsClients(**arguments))
        return opened[-1]

    yield make_clients
    for clients in opened:
        clients.close()


@pytest.fixture
def clients(make: Make, aws: Aws) -> AwsClients:
    return make(endpoint_url=aws.server.url)


@pytest.fixture
def pass_time(aws: Aws, clock: HandClock) -> PassTime:
    """Lets time pass here and at AWS."""

    def slot(by: timedelta) -> None:
        clock.turn(by)
        aws.server.clock.advance(by)

    return slot


def sources(*credentials: Credential) -> Callable[[str], Credential]:
    by_id = {credential.id: credential for credential in credentials}
    return lambda credential_id: by_id[credential_id]


# --- one client, one session


def test_threads_that_ask_at_once_get_one_client_and_assume_the_role_once(aws: Aws, clients: AwsClients):
    credential = role_credential(aws.role())
    together = threading.Barrier(16)

    def ask(_: int) -> Any:
        together.wait()
        return clients.client(credential, "secretsmanager", REGION)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(16)))
    assert len({id(client) for client in answers}) == 1
    assert aws.server.count("AssumeRole") == 1


def test_a_session_serves_every_region_and_the_question_for_the_account(aws: Aws, clients: AwsClients):
    credential = role_credential(aws.role())
    clients.client(credential, "secretsmanager", "eu-west-1")
    clients.client(credential, "secretsmanager", "us-east-1")
    assert clients.identity_of(credential).account == OTHER_ACCOUNT
    assert aws.server.names("sts") == ["AssumeRole"]


def test_a_session_is_used_until_five_minutes_before_its_end(aws: Aws, clients: AwsClients, pass_time: PassTime):
    credential = role_credential(aws.role())
    first: Any = clients.client(credential, "secretsmanager", REGION)
    pass_time(timedelta(minutes=54))
    same: Any = clients.client(credential, "secretsmanager", REGION)
    assert same is first
    assert aws.server.count("AssumeRole") == 1
    pass_time(timedelta(minutes=2))
    renewed: Any = clients.client(credential, "secretsmanager", REGION)
    assert renewed is not first
    assert aws.server.count("AssumeRole") == 2
    renewed.list_secrets()
    keys = [operation.access_key_id for operation in aws.server.operations if operation.name == "ListSecrets"]
    first.list_secrets()
    assert aws.server.operations[-1].access_key_id not in keys


def test_threads_that_find_a_session_ending_renew_it_once(aws: Aws, clients: AwsClients, pass_time: PassTime):
    credential = role_credential(aws.role())
    clients.client(credential, "secretsmanager", REGION)
    pass_time(timedelta(minutes=56))
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: clients.client(credential, "secretsmanager", REGION), range(16)))
    assert len({id(client) for client in answers}) == 1
    assert aws.server.count("AssumeRole") == 2


def test_a_changed_credential_gets_a_client_of_its_own(aws: Aws, clients: AwsClients):
    before = access_key_credential()
    after = access_key_credential(version=2, access_key_id="AKIACHANGEDCHANGED00")
    clients.client(before, "secretsmanager", REGION)
    client: Any = clients.client(after, "secretsmanager", REGION)
    client.list_secrets()
    assert aws.server.operations[-1].access_key_id == "AKIACHANGEDCHANGED00"


def test_the_account_of_a_key_is_asked_once(aws: Aws, clients: AwsClients):
    credential = access_key_credential()
    for _ in range(3):
        assert clients.identity_of(credential).account == ACCOUNT
    assert aws.server.names("sts") == ["GetCallerIdentity"]


def test_the_default_chain_is_used_for_ambient(aws: Aws, clients: AwsClients, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAAMBIENTAMBIENT00")
    assert clients.identity_of(ambient_credential()).account == ACCOUNT
    assert aws.server.operations[-1].access_key_id == "AKIAAMBIENTAMBIENT00"


def test_clients_are_bounded(make: Make, aws: Aws):
    clients = make(endpoint_url=aws.server.url, max_clients=2)
    credential = access_key_credential()
    first = clients.client(credential, "secretsmanager", "eu-west-1")
    clients.client(credential, "secretsmanager", "eu-west-2")
    assert clients.client(credential, "secretsmanager", "eu-west-1") is first
    clients.client(credential, "secretsmanager", "eu-west-3")  # eu-west-2 was used least recently
    assert clients.client(credential, "secretsmanager", "eu-west-1") is first


def test_a_forgotten_session_is_opened_anew(aws: Aws, clients: AwsClients):
    credential = role_credential(aws.role())
    clients.client(credential, "secretsmanager", REGION)
    clients.forget(credential)
    clients.client(credential, "secretsmanager", REGION)
    assert aws.server.count("AssumeRole") == 2


def test_runs_that_are_asked_for_together_share_a_session(aws: Aws, clients: AwsClients):
    """Each would abandon what the others wait for."""
    credential = role_credential(aws.role())
    clients.client(credential, "secretsmanager", REGION)
    for _ in range(5):
        clients.forget(credential, unless_within_s=60)
        clients.client(credential, "secretsmanager", REGION)
    assert aws.server.count("AssumeRole") == 2


# --- assuming roles


def test_assumes_the_role_with_external_id_and_a_name_that_can_be_traced(aws: Aws, clients: AwsClients):
    clients.identity_of(role_credential(aws.role("writer")))
    form = aws.server.operations[-1].form
    assert form["ExternalId"] == "external-id-4f1b"
    assert form["RoleArn"] == f"arn:aws:iam::{OTHER_ACCOUNT}:role/writer"
    assert form["RoleSessionName"] == "phasesync-0f3c5a7e-production"
    assert form["DurationSeconds"] == "3600"


def test_a_role_is_assumed_by_its_source(make: Make, aws: Aws):
    source = access_key_credential(id="source", access_key_id="AKIASOURCESOURCE0000")
    middle = role_credential(aws.role("middle"), id="middle", source_id="source")
    last = role_credential(aws.role("last", account="333333333333"), id="last", source_id="middle")
    clients = make(source_of=sources(source, middle), endpoint_url=aws.server.url)
    assert clients.identity_of(last).account == "333333333333"
    first, second = aws.server.operations
    assert (first.access_key_id, first.form["RoleArn"]) == ("AKIASOURCESOURCE0000", middle.role_arn)
    assert second.form["RoleArn"] == last.role_arn
    assert second.access_key_id not in ("AKIASOURCESOURCE0000", first.access_key_id)


def test_sources_that_go_round_in_a_circle_are_refused(make: Make, aws: Aws):
    one = role_credential(aws.role("one"), id="one", name="first", source_id="two")
    two = role_credential(aws.role("two"), id="two", name="second", source_id="one")
    clients = make(source_of=sources(one, two), endpoint_url=aws.server.url)
    with pytest.raises(CredentialRejectedError, match="first -> second -> first"):
        clients.client(one, "secretsmanager", REGION)
    assert aws.server.operations == []


def test_a_refused_role_is_asked_for_again_the_next_time(aws: Aws, clients: AwsClients):
    credential = role_credential(aws.role())
    aws.server.fail("AssumeRole", Answer("AccessDenied", status=403))
    with pytest.raises(CredentialRejectedError) as caught:
        clients.client(credential, "secretsmanager", REGION)
    assert caught.value.code == "AccessDenied"
    clients.client(credential, "secretsmanager", REGION)


@pytest.mark.parametrize(
    "credential", [role_credential(None), access_key_credential(secret_access_key=None)], ids=["role", "key"]
)
def test_an_incomplete_credential_is_rejected_without_a_call(aws: Aws, clients: AwsClients, credential: Credential):
    with pytest.raises(CredentialRejectedError, match="incomplete"):
        clients.client(credential, "secretsmanager", REGION)
    assert aws.server.operations == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("production", "phasesync-0f3c5a7e-production"),
        ("größe/über all", "phasesync-0f3c5a7e-gr--e--ber-all"),
        ("x" * 100, "phasesync-0f3c5a7e-" + "x" * 45),
    ],
)
def test_session_names_stay_in_the_alphabet_and_length_of_aws(name: str, expected: str):
    actual = session_name(INSTANCE, name)
    assert actual == expected
    assert len(actual) <= 64


# --- how clients are set up


def test_clients_fail_fast_and_say_who_we_are(aws: Aws, clients: AwsClients):
    config: Any = clients.client(access_key_credential(), "secretsmanager", REGION).meta.config
    assert (config.connect_timeout, config.read_timeout, config.tcp_keepalive) == (3, 5, True)
    assert config.retries == {"mode": "standard", "total_max_attempts": 3}
    assert config.max_pool_connections == 10
    assert config.user_agent.startswith(f"phasesync/{__version__} Botocore/")


def test_as_many_threads_as_a_daemon_has_discard_no_connection_and_log_no_warning(
    aws: Aws, make: Make, caplog: pytest.LogCaptureFixture
):
    workers = 24
    settings = Settings(daemon=DaemonSettings(workers=workers))
    client: Any = make(endpoint_url=aws.server.url, limits=call_limits(settings)).client(
        access_key_credential(), "secretsmanager", REGION
    )
    together = threading.Barrier(workers)

    def ask(_: int) -> None:
        together.wait()
        for _ in range(3):
            client.list_secrets(MaxResults=1)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(ask, range(workers)))

    assert [record.getMessage() for record in caplog.records if record.name.startswith("urllib3")] == []


def test_sts_is_asked_in_the_region_of_the_credential(make: Make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAAMBIENTAMBIENT00")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-environment")
    clients = make()
    credential = access_key_credential(region="eu-central-1")
    assert (
        clients.client(credential, "sts", credential.region).meta.endpoint_url
        == "https://sts.eu-central-1.amazonaws.com"
    )
    base: Any = clients.call_as_base(role_credential("arn:aws:iam::1:role/r", region="eu-central-1"), lambda sts: sts)
    assert base.meta.endpoint_url == "https://sts.eu-central-1.amazonaws.com"


def test_the_host_of_the_guide_is_used_even_where_dual_stack_is_switched_on(
    make: Make, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")
    client = make().client(access_key_credential(), "secretsmanager", REGION)
    assert client.meta.endpoint_url == "https://secretsmanager.eu-west-1.amazonaws.com"


def test_an_endpoint_in_the_clear_is_refused(make: Make):
    with pytest.raises(SettingsError, match="set by endpoint_url"):
        make(endpoint_url="http://aws.example.com")


def test_an_endpoint_in_the_clear_from_anywhere_else_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://aws.example.com")
    with pytest.raises(SettingsError, match="AWS_ENDPOINT_URL_SECRETS_MANAGER"):
        make().client(access_key_credential(), "secretsmanager", REGION)


@pytest.mark.parametrize("region", ["not a region", "", "eu_west_1"])
def test_a_region_that_is_none_gives_a_clean_error(clients: AwsClients, region: str):
    with pytest.raises(SettingsError, match="Region"):
        clients.client(access_key_credential(), "secretsmanager", region)


def test_a_profile_that_does_not_exist_gives_a_clean_error(
    aws: Aws, clients: AwsClients, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(CredentialRejectedError, match=r"'nobody'.*AWS_PROFILE"):
        clients.client(ambient_credential(), "secretsmanager", REGION)


def test_no_credentials_at_all_give_a_clean_error(aws: Aws, clients: AwsClients, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(CredentialRejectedError, match="no AWS credentials"):
        clients.identity_of(ambient_credential())


def test_nobody_at_the_endpoint_gives_a_clean_error(make: Make):
    clients = make(endpoint_url="http://127.0.0.1:1")
    with pytest.raises(DestinationUnavailableError) as caught:
        clients.identity_of(access_key_credential())
    assert caught.value.hint is not None
    assert "Region" in caught.value.hint


# --- what must not leak


def test_loggers_of_the_sdk_do_not_fall_below_info(aws: Aws, clients: AwsClients, caplog: pytest.LogCaptureFixture):
    for name in ("", "botocore", "botocore.endpoint", "urllib3"):
        caplog.set_level(logging.DEBUG, logger=name)
    client: Any = clients.client(access_key_credential(), "secretsmanager", REGION)
    client.create_secret(Name="shop", SecretString="canary-value-2b61")
    assert "canary-value-2b61" not in caplog.text
    for name in ("boto3", "botocore", "botocore.endpoint", "botocore.parsers", "urllib3.connectionpool"):
        assert logging.getLogger(name).getEffectiveLevel() >= logging.INFO


def test_a_session_does_not_show_its_keys(aws: Aws, clients: AwsClients):
    session = clients.assume(role_credential(aws.role()))
    shown = repr(session)
    for secret in (session.access_key_id, session.secret_access_key, session.session_token):
        assert secret not in shown


@pytest.mark.parametrize("secret", [b"canary-\xff-value", b"canary\n", b"canary-value\r", b"canary value"])
def test_keys_of_the_wrong_type_do_not_show_in_the_error(secret: bytes, aws: Aws, clients: AwsClients):
    broken = access_key_credential(secret_access_key=SecretValue(secret))
    with pytest.raises(CredentialRejectedError) as caught:
        clients.client(broken, "secretsmanager", REGION)
    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None
