"""Keys that AWS refuses, that change, or that come to belong to another account while phasesync runs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from phasesync.adapters.aws import login as logins
from phasesync.adapters.aws import single_flight
from phasesync.adapters.aws.ambient import find_keys
from phasesync.adapters.aws.session import AwsClients
from phasesync.adapters.aws_secrets_manager.destination import AwsSecretsManager
from phasesync.core.credential import Credential
from phasesync.emulator import Answer
from phasesync.errors import (
    AccountMismatchError,
    CredentialRejectedError,
    DestinationUnavailableError,
    PermissionDeniedError,
)
from tests.support.aws import OTHER_ACCOUNT, REGION, Aws
from tests.support.aws_builders import (
    INSTANCE,
    HandClock,
    access_key_credential,
    ambient_credential,
    no_sources,
    payload,
    role_credential,
)
from tests.support.waiting import HANG_GUARD_S

TOKEN = "0" * 36
THIRD_ACCOUNT = "333333333333"


class World:
    """A host with its identity in a profile."""

    def __init__(self, aws: Aws, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.aws = aws
        self.clock = HandClock(datetime.now(UTC))
        self.file = folder / "credentials"
        self.asked = threading.Event()
        """The default chain was asked, and hangs."""
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(self.file))
        self.clients = AwsClients(
            source_of=no_sources, clock=self.clock, instance_id=INSTANCE, endpoint_url=aws.server.url
        )

    def give(self, account: str) -> str:
        """Write keys of an account into the profile; return the access key id."""
        base = {"aws_access_key_id": "AKIABASEBASEBASEBASE", "aws_secret_access_key": "base"}
        keys = self.aws.boto("sts", **base).assume_role(
            RoleArn=self.aws.role("host", account=account), RoleSessionName="somebody"
        )["Credentials"]
        self.write(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])
        return str(keys["AccessKeyId"])

    def write(self, key_id: str, secret: str, token: str) -> None:
        """Write keys into the profile, as another tool does: a new file takes the place of the old one."""
        new = self.file.with_name("new")
        new.write_text(
            f"[default]\naws_access_key_id = {key_id}\naws_secret_access_key = {secret}\naws_session_token = {token}\n"
        )
        os.replace(new, self.file)

    def start_to_ask(self) -> threading.Thread:
        """Ask the default chain, which hangs, in a thread, in vain; it has begun to when this returns."""

        def ask() -> None:
            with pytest.raises(CredentialRejectedError):
                self.clients.keys_of(ambient_credential())

        thread = threading.Thread(target=ask)
        thread.start()
        assert self.asked.wait(HANG_GUARD_S)
        return thread

    def open(self, credential: Credential) -> AwsSecretsManager:
        """Begin a run."""
        return AwsSecretsManager(self.clients, credential, REGION, instance_id=INSTANCE)

    def callers(self, operation: str) -> list[str | None]:
        """Return the access keys that an operation came from."""
        return [call.access_key_id for call in self.aws.server.operations if call.name == operation]

    def writes(self) -> list[str]:
        """Return the accounts that something was written to."""
        return [call.account for call in self.aws.server.operations if call.name in ("CreateSecret", "PutSecretValue")]


@pytest.fixture
def world(aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    host = World(aws, tmp_path, monkeypatch)
    yield host
    host.clients.close()


def create(destination: AwsSecretsManager, name: str = "shop") -> Any:
    return destination.create(name, payload(), token=TOKEN, description=None, kms_key=None, tags={})


# --- nothing that failed is kept


def test_a_profile_that_comes_later_is_found(world: World):
    with pytest.raises(CredentialRejectedError):
        world.clients.identity_of(ambient_credential())
    world.give(OTHER_ACCOUNT)
    assert world.clients.identity_of(ambient_credential()).account == OTHER_ACCOUNT


def test_an_sts_that_failed_is_asked_again(world: World, aws: Aws):
    world.give(OTHER_ACCOUNT)
    aws.server.fail("GetCallerIdentity", times=3)
    with pytest.raises(DestinationUnavailableError):
        world.clients.identity_of(ambient_credential())
    world.clients.forget(ambient_credential())
    assert world.clients.identity_of(ambient_credential()).account == OTHER_ACCOUNT


# --- nothing that was found outlives what it was found in


def test_keys_that_another_tool_writes_are_noticed(world: World):
    first = world.give(OTHER_ACCOUNT)
    destination = world.open(ambient_credential())
    destination.observe("shop")
    second = world.give(OTHER_ACCOUNT)
    destination.observe("shop")
    assert world.callers("DescribeSecret") == [first, second]


def test_keys_are_gone_with_their_file(world: World):
    world.give(OTHER_ACCOUNT)
    world.clients.keys_of(ambient_credential())
    world.file.unlink()
    with pytest.raises(CredentialRejectedError):
        world.clients.keys_of(ambient_credential())


def test_keys_without_an_end_are_asked_for_again_now_and_then(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAFIRSTFIRSTFIRST0")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "first")
    world.clients.keys_of(ambient_credential())
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIASECONDSECOND0000")
    assert world.clients.keys_of(ambient_credential()).access_key_id == "AKIAFIRSTFIRSTFIRST0"
    world.clock.turn(logins.RESOLVE_KEYS_WITHOUT_END_AFTER)
    assert world.clients.keys_of(ambient_credential()).access_key_id == "AKIASECONDSECOND0000"


def test_a_refused_session_of_a_role_is_opened_again_at_once(world: World, aws: Aws):
    world.give(OTHER_ACCOUNT)
    destination = world.open(role_credential(aws.role()))
    assert create(destination).arn
    aws.server.end_sessions(aws.role())
    destination.put_value("shop", payload("other"), token="1" * 36)
    assert len(set(world.callers("PutSecretValue"))) == 2


@pytest.mark.parametrize("code", ["ExpiredTokenException", "UnrecognizedClientException", "InvalidSignatureException"])
def test_whatever_says_that_keys_are_no_good_has_them_found_again(code: str, world: World, aws: Aws):
    world.give(OTHER_ACCOUNT)
    destination = world.open(role_credential(aws.role()))
    destination.account_id()
    aws.server.fail("CreateSecret", Answer(code, status=400))
    assert create(destination).arn
    assert world.writes() == [OTHER_ACCOUNT, OTHER_ACCOUNT]
    assert len(set(world.callers("CreateSecret"))) == 2


def test_a_revoked_session_is_denied_and_replaced(world: World, aws: Aws):
    """Revoking denies everything to former sessions: only a new session distinguishes that from missing rights."""
    world.give(OTHER_ACCOUNT)
    destination = world.open(role_credential(aws.role()))
    destination.account_id()
    aws.server.fail("CreateSecret", Answer("AccessDeniedException", status=400))
    assert create(destination).arn


def test_a_lack_of_rights_opens_no_session_after_the_other(world: World, aws: Aws):
    world.give(OTHER_ACCOUNT)
    aws.server.fail("CreateSecret", Answer("AccessDeniedException", status=400), times=None)
    before = aws.server.count("AssumeRole")
    for _ in range(5):
        with pytest.raises(PermissionDeniedError):
            create(world.open(role_credential(aws.role())))
    assert aws.server.count("AssumeRole") - before == 2


def test_a_session_whose_base_has_ended_is_opened_with_the_new_base(world: World, aws: Aws):
    world.give(OTHER_ACCOUNT)
    world.clients.keys_of(ambient_credential())
    aws.server.fail("AssumeRole", Answer("ExpiredToken", status=403))
    with pytest.raises(CredentialRejectedError):  # The same keys again: nothing new to try with.
        world.clients.keys_of(role_credential(aws.role()))
    world.give(OTHER_ACCOUNT)
    assert world.clients.keys_of(role_credential(aws.role())).session_token


def test_refused_keys_of_a_credential_have_no_others(world: World, aws: Aws):
    aws.server.fail("CreateSecret", Answer("UnrecognizedClientException", status=400))
    with pytest.raises(CredentialRejectedError):
        create(world.open(access_key_credential()))
    assert aws.server.count("CreateSecret") == 1


# --- one account


def test_keys_of_another_account_write_nothing(world: World):
    world.give(OTHER_ACCOUNT)
    destination = world.open(ambient_credential())
    assert destination.account_id() == OTHER_ACCOUNT
    assert destination.observe("shop") is None
    world.give(THIRD_ACCOUNT)
    with pytest.raises(AccountMismatchError, match=THIRD_ACCOUNT):
        create(destination)
    assert world.writes() == []


def test_keys_of_another_account_do_not_say_what_is_missing(world: World):
    world.give(OTHER_ACCOUNT)
    destination = world.open(ambient_credential())
    destination.account_id()
    world.give(THIRD_ACCOUNT)
    with pytest.raises(AccountMismatchError):
        destination.observe("shop")
    assert world.callers("DescribeSecret") == []


def test_the_pinned_account_of_a_credential_counts_where_nobody_asked(world: World):
    world.give(THIRD_ACCOUNT)
    with pytest.raises(AccountMismatchError, match=OTHER_ACCOUNT):
        create(world.open(ambient_credential(account=OTHER_ACCOUNT)))
    assert world.writes() == []


def test_an_account_that_is_right_again_is_not_refused_any_more(world: World):
    world.give(THIRD_ACCOUNT)
    destination = world.open(ambient_credential(account=OTHER_ACCOUNT))
    with pytest.raises(AccountMismatchError):
        destination.observe("shop")
    world.give(OTHER_ACCOUNT)
    assert destination.observe("shop") is None
    assert create(destination).arn
    assert world.writes() == [OTHER_ACCOUNT]


# --- one that hangs


@pytest.fixture
def hanging(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """The default chain hangs until what is returned is called; short limits."""
    monkeypatch.setattr(single_flight, "FOLLOWER_WAIT_S", 0.2)
    released = threading.Event()

    def hang(*_: object, **__: object) -> None:
        world.asked.set()
        released.wait(20)
        raise CredentialRejectedError("credential_process: it did not end")

    monkeypatch.setattr("phasesync.adapters.aws.session.find_keys", hang)
    yield released.set
    released.set()


def test_a_chain_that_hangs_stops_nobody_else(world: World, hanging: Callable[[], None]):
    stuck = world.start_to_ask()
    began = time.monotonic()
    assert create(world.open(access_key_credential())).arn
    assert time.monotonic() - began < 5
    assert stuck.is_alive()
    hanging()
    stuck.join(5)
    assert not stuck.is_alive()


def test_a_chain_that_hangs_holds_one_thread_and_not_all(world: World, hanging: Callable[[], None]):
    ended: list[float] = []

    def ask() -> None:
        with pytest.raises(CredentialRejectedError):
            world.clients.keys_of(ambient_credential())
        ended.append(time.monotonic())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 5
    while len(ended) < 7 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(ended) == 7
    began = time.monotonic()
    ask()  # By now it is known to be slow: no one waits for it any more.
    assert time.monotonic() - began < 0.15
    hanging()
    for thread in threads:
        thread.join(5)


def test_a_file_that_is_corrected_does_not_wait_for_what_hangs(
    world: World, hanging: Callable[[], None], monkeypatch: pytest.MonkeyPatch
):
    stuck = world.start_to_ask()
    monkeypatch.setattr("phasesync.adapters.aws.session.find_keys", find_keys)
    key_id = world.give(OTHER_ACCOUNT)
    assert world.clients.keys_of(ambient_credential()).access_key_id == key_id
    hanging()
    stuck.join(5)
    assert world.clients.keys_of(ambient_credential()).access_key_id == key_id


def test_a_call_past_its_deadline_is_told(world: World, monkeypatch: pytest.MonkeyPatch):
    with world.clients.calling("sync-1"):
        assert world.clients.overdue() == set()
        later = time.monotonic() + timedelta(minutes=2).total_seconds()
        monkeypatch.setattr(time, "monotonic", lambda: later)
        assert world.clients.overdue() == {"sync-1"}
    assert world.clients.overdue() == set()
