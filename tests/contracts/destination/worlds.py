"""
The remote side as the suite sees it: who else writes there, what is there, and what goes wrong.

There are two: the fake in memory, and the real adapter on the emulator.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, Protocol

import boto3.session
from botocore.config import Config

from phasesync.adapters.aws.session import AwsClients
from phasesync.adapters.destinations import RegisteredDestinations
from phasesync.core.credential import Credential
from phasesync.core.remote import TAG_INSTANCE, WriteResult
from phasesync.emulator import AwsEmulator
from phasesync.ports.destination import Destination, Destinations
from tests.fakes.destination import FakeDestinations
from tests.fakes.remote import ACCOUNT as FAKE_ACCOUNT
from tests.fakes.remote import START, FakeRemote
from tests.support.aws import ACCOUNT, REGION
from tests.support.aws_builders import INSTANCE, HandClock, access_key_credential, no_sources, payload, token
from tests.support.reads import LOOKS_AROUND

KIND = "aws-secrets-manager"
NAME = "shop/production"
OURS = {TAG_INSTANCE: INSTANCE}
ELSEWHERE = "us-east-1"
THEIR_ACCOUNT = "222222222222"
"""Another account, in the same Region."""
THIRD = "ap-south-1"

WORLDS = ("fake", "emulator")

OPERATIONS: Mapping[str, str] = {
    "observe": "DescribeSecret",
    "create": "CreateSecret",
    "put_value": "PutSecretValue",
    "restore": "RestoreSecret",
    "delete": "DeleteSecret",
    "replicate": "ReplicateSecretToRegions",
    "remove_replicas": "RemoveRegionsFromReplication",
    "resource_policy": "GetResourcePolicy",
    "put_resource_policy": "PutResourcePolicy",
    "sweep": "ListSecrets",
    "sweep_newest": "ListSecrets",
    "list_names": "ListSecrets",
    "read_value": "GetSecretValue",
}
"""Method of the port -> the call of Secrets Manager that it ends in."""


class World(Protocol):
    """What others do, what there is to see, and what goes wrong."""

    account: str

    def destinations(self) -> Destinations: ...

    # what someone else does
    def outside_create(self, name: str, value: str, *, tags: Mapping[str, str] | None = None) -> str: ...
    def outside_delete(self, name: str, *, for_good: bool = False) -> None: ...
    def outside_describe(self, name: str, description: str) -> None: ...
    def outside_policy(self, name: str, policy: str) -> None: ...
    def outside_read(self, name: str) -> None: ...
    def outside_create_in(self, region: str, name: str, value: str) -> None: ...
    def outside_external(self, name: str, kind: str) -> None: ...
    def outside_copy(self, name: str) -> str: ...
    def outside_copy_here(self, name: str) -> tuple[str, str]: ...
    def outside_end_copies(self, name: str) -> None: ...

    # keys
    def key(
        self,
        *,
        region: str = REGION,
        alias: str | None = None,
        enabled: bool = True,
        symmetric: bool = True,
    ) -> str: ...

    # what there is to see
    def text(self, name: str, *, region: str = REGION) -> str: ...
    def text_there(self, name: str) -> str: ...

    # time, rights and failures
    def now(self) -> datetime: ...
    def pass_time(self, by: timedelta) -> None: ...
    def let_lists_lag(self, by: timedelta) -> None: ...
    def let_lists_be_sorted(self, how: Literal["done", "refused", "ignored"]) -> None: ...
    def settle_replication(self) -> None: ...
    def slow_replication(self, takes: timedelta) -> None: ...
    def deny_keys(self) -> None: ...
    def lose_next_answer(self, call: str) -> None: ...


class FakeWorld:
    """The fake."""

    account = FAKE_ACCOUNT

    def __init__(self) -> None:
        self.clock = HandClock(START)
        self.remote = FakeRemote(now=self.clock.now)
        self._destinations = FakeDestinations(self.remote, instance_id=INSTANCE)

    def destinations(self) -> Destinations:
        return self._destinations

    def outside_create(self, name: str, value: str, *, tags: Mapping[str, str] | None = None) -> str:
        return self.remote.outside_create(name, value, tags=tags).arn

    def outside_create_in(self, region: str, name: str, value: str) -> None:
        self.remote.outside_create(name, value, region=region)

    def outside_delete(self, name: str, *, for_good: bool = False) -> None:
        self.remote.outside_delete(name, recovery_days=None if for_good else 30)

    def outside_describe(self, name: str, description: str) -> None:
        self.remote.outside_describe(name, description=description)

    def outside_policy(self, name: str, policy: str) -> None:
        self.remote.outside_policy(name, policy)

    def outside_read(self, name: str) -> None:
        self.remote.outside_read(name)

    def key(
        self, *, region: str = REGION, alias: str | None = None, enabled: bool = True, symmetric: bool = True
    ) -> str:
        return self.remote.keys.add(
            alias or "1234abcd-12ab-34cd-56ef-1234567890ab",
            account=self.account,
            region=region,
            state="Enabled" if enabled else "Disabled",
            spec="SYMMETRIC_DEFAULT" if symmetric else "RSA_2048",
        )

    def text(self, name: str, *, region: str = REGION) -> str:
        return self.remote.object(name, region=region).text()

    def settle_replication(self) -> None:
        self.remote.settle_replication()

    def lose_next_answer(self, call: str) -> None:
        self._destinations.fail(call, when="after")

    def now(self) -> datetime:
        return self.clock.now()

    def pass_time(self, by: timedelta) -> None:
        self.clock.turn(by)

    def let_lists_be_sorted(self, how: Literal["done", "refused", "ignored"]) -> None:
        self.remote.sorting = how

    def let_lists_lag(self, by: timedelta) -> None:
        self.remote.lag = by

    def slow_replication(self, takes: timedelta) -> None:
        """It is slow by itself."""

    def deny_keys(self) -> None:
        self.remote.keys.denied = True

    def outside_external(self, name: str, kind: str) -> None:
        self.remote.outside_external(name, kind)

    def outside_copy(self, name: str) -> str:
        return self.remote.outside_copy(name, account=THEIR_ACCOUNT).arn

    def outside_copy_here(self, name: str) -> tuple[str, str]:
        primary = self.remote.outside_create(name, "theirs", account=THEIR_ACCOUNT)
        return primary.arn, self.remote.outside_copy(name, account=self.account, primary_account=THEIR_ACCOUNT).arn

    def outside_end_copies(self, name: str) -> None:
        self.remote.outside_end_copies(name)

    def text_there(self, name: str) -> str:
        return self.remote.object(name, account=THEIR_ACCOUNT).text()


class EmulatorWorld:
    """The real adapter on the emulator."""

    account = ACCOUNT

    def __init__(self, emulator: AwsEmulator) -> None:
        self.emulator = emulator
        self._boto: dict[tuple[str, str], Any] = {}
        self.clients = AwsClients(
            source_of=no_sources, clock=HandClock(datetime.now(UTC)), instance_id=INSTANCE, endpoint_url=emulator.url
        )

    def close(self) -> None:
        """Close every connection."""
        self.clients.close()
        for client in self._boto.values():
            client.close()

    def boto(self, service: str = "secretsmanager", region: str = REGION) -> Any:
        """Return someone else's client."""
        if (service, region) not in self._boto:
            self._boto[service, region] = plain_client(service, region, self.emulator.url)
        return self._boto[service, region]

    def destinations(self) -> Destinations:
        return RegisteredDestinations(self.clients, instance_id=INSTANCE)

    def outside_create(self, name: str, value: str, *, tags: Mapping[str, str] | None = None) -> str:
        # Others would be throttled as well, and some tests make a hundred objects.
        return self.emulator.outside.create(name, value, tags=tags)

    def outside_create_in(self, region: str, name: str, value: str) -> None:
        self.boto(region=region).create_secret(Name=name, SecretString=value)

    def outside_delete(self, name: str, *, for_good: bool = False) -> None:
        how = {"ForceDeleteWithoutRecovery": True} if for_good else {"RecoveryWindowInDays": 30}
        self.boto().delete_secret(SecretId=name, **how)

    def outside_describe(self, name: str, description: str) -> None:
        self.boto().update_secret(SecretId=name, Description=description)

    def outside_policy(self, name: str, policy: str) -> None:
        self.boto().put_resource_policy(SecretId=name, ResourcePolicy=policy)

    def outside_read(self, name: str) -> None:
        self.boto().get_secret_value(SecretId=name)

    def key(
        self, *, region: str = REGION, alias: str | None = None, enabled: bool = True, symmetric: bool = True
    ) -> str:
        kms = self.boto("kms", region)
        spec = "SYMMETRIC_DEFAULT" if symmetric else "RSA_2048"
        made = kms.create_key(KeySpec=spec, KeyUsage="ENCRYPT_DECRYPT")["KeyMetadata"]
        if alias is not None:
            kms.create_alias(AliasName=alias, TargetKeyId=made["KeyId"])
        if not enabled:
            kms.disable_key(KeyId=made["KeyId"])
        return str(made["Arn"])

    def text(self, name: str, *, region: str = REGION) -> str:
        return str(self.boto(region=region).get_secret_value(SecretId=name)["SecretString"])

    def settle_replication(self) -> None:
        self.emulator.clock.advance(self.emulator.timing.replication_takes)

    def lose_next_answer(self, call: str) -> None:
        self.emulator.fail(OPERATIONS[call], when="after", times=3)

    def now(self) -> datetime:
        return self.emulator.clock.now()

    def pass_time(self, by: timedelta) -> None:
        self.emulator.clock.advance(by)

    def let_lists_be_sorted(self, how: Literal["done", "refused", "ignored"]) -> None:
        self.emulator.context.sorting = how

    def let_lists_lag(self, by: timedelta) -> None:
        self.emulator.timing.list_lag = by

    def slow_replication(self, takes: timedelta) -> None:
        self.emulator.timing.replication_takes = takes

    def deny_keys(self) -> None:
        self.emulator.deny("kms:DescribeKey")

    def outside_external(self, name: str, kind: str) -> None:
        self.emulator.outside.call("UpdateSecret", SecretId=name, Type=kind)

    def outside_copy(self, name: str) -> str:
        return self.emulator.outside.copy_to(THEIR_ACCOUNT, name)

    def outside_copy_here(self, name: str) -> tuple[str, str]:
        theirs = self.emulator.outside.at(account=THEIR_ACCOUNT)
        return theirs.create(name, "theirs"), theirs.copy_to(self.account, name)

    def outside_end_copies(self, name: str) -> None:
        self.emulator.outside.end_copies(name)

    def text_there(self, name: str) -> str:
        return self.emulator.outside.at(account=THEIR_ACCOUNT).text(name)


def plain_client(service: str, region: str, url: str) -> Any:
    """Return a client of boto3 that is none of ours."""
    config = Config(retries={"total_max_attempts": 1}, max_pool_connections=1, user_agent=LOOKS_AROUND)
    make: Any = _session().client
    return make(service, region_name=region, endpoint_url=url, config=config)


@lru_cache(maxsize=1)
def _session() -> boto3.session.Session:
    """One for all: a session takes 40 ms to make."""
    return boto3.session.Session(aws_access_key_id="AKIASOMEBODYELSE0000", aws_secret_access_key="somebody-else")


def open_in(world: World, region: str, credential: Credential | None = None) -> Destination:
    """A destination in a Region."""
    return world.destinations().open(KIND, credential or access_key_credential(), region)


def create(destination: Destination, value: str | bytes = "one", *, name: str = NAME, **changes: Any) -> WriteResult:
    """Create an object of ours; AssertionError where the name is taken."""
    arguments: dict[str, Any] = {"token": token(1), "description": None, "kms_key": None, "tags": OURS, **changes}
    answer = destination.create(name, payload(value), **arguments)
    assert isinstance(answer, WriteResult)
    return answer


def put(destination: Destination, arn: str, value: str | bytes, number: int) -> WriteResult:
    """Write a value; AssertionError where the token is spent."""
    answer = destination.put_value(arn, payload(value), token=token(number))
    assert isinstance(answer, WriteResult)
    return answer
