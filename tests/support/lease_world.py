"""
Leases of one dynamic secret on the AWS emulator: the real store, engine, issuers and clients; rounds by hand.

    world.issue(); world.sweep()          as `leases issue` does it, and as a daemon takes back what is due
    world.users()                         the users that IAM has under our path
    world.wanted()                        the names of those of live leases that were issued
    world.let_time_pass(minutes=10)       for leases in the database, and for the clock of the orphan scan
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import boto3.session
import pytest
import sqlalchemy as sa
from botocore.config import Config

from phasesync.adapters.aws.rate_limiter import RateLimiter
from phasesync.adapters.aws.sdk import CallLimits
from phasesync.adapters.aws.session import AwsClients
from phasesync.adapters.issuers import RegisteredIssuers, eventual_consistency
from phasesync.adapters.issuers import iam_client as iam_caller
from phasesync.core.credential import CredentialDraft, CredentialType
from phasesync.core.dynamic import DynamicConfig, DynamicDraft, DynamicSecret
from phasesync.core.events import Event
from phasesync.core.lease import Lease, LeaseStatus
from phasesync.core.lease_claim import ClaimedLease
from phasesync.core.lease_users import DEFAULT_TEMPLATE, RANDOM, RANDOM_ALPHABET
from phasesync.emulator import AwsEmulator, EmulatorClock, Operation
from phasesync.emulator.access import Denial
from phasesync.engine.dynamic_admin import DynamicAdmin
from phasesync.engine.leases.expiry import LeaseExpiry
from phasesync.engine.leases.issuance import IssuedLease
from phasesync.engine.leases.operations import LeaseOperations
from phasesync.engine.leases.orphan_users import OrphanCollector
from phasesync.engine.leases.revocation import LeaseRevoker, Revocation
from phasesync.store import Store
from phasesync.store.tables import leases as lease_rows
from tests.support.context import context_of
from tests.support.databases import copy_of_filled
from tests.support.stores import ACTOR, EXPIRED, open_test_store
from tests.support.vouching import set_restore_mark, vouch_for_leases
from tests.support.world import MovableClock

ACCOUNT = "123456789012"
"""The account of moto for keys that it does not know."""
ACCESS_KEY_ID = "AKIATESTTESTTESTTEST"
_LOOKER = "AKIALOOKSFORTHETEST1"
"""Which calls are phasesync's, and which are the test's own."""
REGION = "eu-west-1"
OUR_PATH = "/phasesync/shop/production/"
NAME = "ci"
INLINE = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:ListAllMyBuckets","Resource":"*"}]}'
GROUP = "deployers"
TTL, MAX_TTL = timedelta(hours=1), timedelta(hours=8)


def policy_arn(name: str) -> str:
    """ARN of a customer's policy of the account."""
    return f"arn:aws:iam::{ACCOUNT}:policy/{name}"


BOUNDARY = policy_arn("boundary")
POLICIES = (policy_arn("read"), policy_arn("write"))


_hours = itertools.count(0.0, 3600.0)
"""The time of our quotas: they are tried elsewhere, and no one waits for them here."""


@cache
def _session() -> Any:
    """One for all tests: it keeps the models of the services."""
    return boto3.session.Session()


@cache
def _looker_at(url: str) -> Any:
    """A client with which all tests look around: to make one takes as long as a test."""
    config = Config(retries={"total_max_attempts": 1}, max_pool_connections=1)
    keys = {"aws_access_key_id": _LOOKER, "aws_secret_access_key": "the-secret-of-the-test"}
    return _session().client("iam", region_name=REGION, endpoint_url=url, config=config, **keys)


class LeaseProcess:
    """One process of phasesync: what it needs to issue and revoke, and to remove orphan users."""

    def __init__(self, store: Store, url: str, *, owner: str, claim_ttl: timedelta = EXPIRED) -> None:
        """
        Args:
            store: the database.
            url: of the AWS.
            owner: names it in claims.
            claim_ttl: of its claims; a claim that is over already can be taken over at once, and is good until then.
        """
        self.store = store
        self.clock = MovableClock()
        self.events: list[Event] = []
        self.clients = AwsClients(
            source_of=store.credentials.get_by_id,
            clock=self.clock,
            instance_id=store.instance_id,
            endpoint_url=url,
            limits=CallLimits(attempts=1),
            rate_limiter=RateLimiter(_hours.__next__),
        )
        self.context = context_of(
            store,
            issuers=RegisteredIssuers(self.clients),
            clock=self.clock,
            events=self,
            owner=owner,
            ttl=claim_ttl,
            random=lambda: 0.0,
        )
        self.leases = self.context.leases
        self.issuers = self.context.issuers
        self.revoker = LeaseRevoker(self.context)
        self.operations = LeaseOperations(
            self.context,
            random_text=lambda: "".join(secrets.choice(RANDOM_ALPHABET) for _ in range(RANDOM)),
            sleep=lambda _seconds: None,
        )
        self.expiry = LeaseExpiry(self.context)
        self.orphan_users = OrphanCollector(self.context)
        self.configuration = DynamicAdmin(self.context)

    def emit(self, event: Event) -> None:
        """Take an event."""
        self.events.append(event)

    def issue(self, **how: Any) -> IssuedLease:
        """Issue a lease of the dynamic secret, without waiting until its key is known."""
        return self.operations.issue(NAME, actor=ACTOR, **{"probe_for": None, **how})

    def sweep(self) -> None:
        """Do a round of a daemon: revoke all that is due."""
        self.expiry.dispatch_due(AtOnce(self.expiry.work))


class AtOnce:
    """A dispatcher that does the work where it is handed over."""

    free = 100

    def __init__(self, work: Callable[[ClaimedLease], None]) -> None:
        self._work = work

    def submit(self, work: ClaimedLease) -> bool:
        self._work(work)
        return True

    def running(self) -> Sequence[ClaimedLease]:
        return []

    def drain(self, timeout: timedelta) -> bool:
        return True


class LeaseWorld(LeaseProcess):
    """
    The daemon of a database with one dynamic secret: two policies, a group, an inline policy and a boundary.

    `config` is set on it in place of these. `begun`: all that is in the store already, from another world without it.
    """

    def __init__(self, store: Store, aws: AwsEmulator, *, begun: bool = False, **config: Any) -> None:
        super().__init__(store, aws.url, owner="daemon-0")
        self.aws = aws
        self._owners = (f"process-{number}" for number in itertools.count(1))
        self._processes: list[LeaseProcess] = []
        self.iam = _looker_at(aws.url)
        for arn in (BOUNDARY, *POLICIES):
            self.iam.create_policy(PolicyName=arn.rpartition("/")[2], PolicyDocument=INLINE)
        self.iam.create_group(GroupName=GROUP)
        self.dynamic = store.dynamics.get(NAME) if begun else self._begin(config)

    def _begin(self, config: dict[str, Any]) -> DynamicSecret:
        self.store.apps.add_app("shop")
        self.store.apps.add_environment("shop", "production")
        self.store.credentials.add("aws", CredentialDraft(type=CredentialType.AMBIENT, region=REGION))
        settings = {
            "policy_arns": POLICIES,
            "groups": (GROUP,),
            "inline_policy": INLINE,
            "permission_boundary": BOUNDARY,
        } | config
        plain = DynamicConfig(user_template=DEFAULT_TEMPLATE, default_ttl=TTL, max_ttl=MAX_TTL)
        return self.add(NAME, config=replace(plain, **settings))

    def add(self, name: str, **changes: Any) -> DynamicSecret:
        """Add a dynamic secret of shop/production."""
        draft = DynamicDraft(
            name=name,
            app="shop",
            environment="production",
            path="/",
            credential="aws",
            issuer="aws-iam-user",
            config=DynamicConfig(user_template=DEFAULT_TEMPLATE, default_ttl=TTL, max_ttl=MAX_TTL),
        )
        return self.configuration.add(replace(draft, **changes)).dynamic

    def another_process(self, *, claim_ttl: timedelta = EXPIRED) -> LeaseProcess:
        """A process beside the daemon: a command of an operator, or another daemon."""
        process = LeaseProcess(self.store, self.aws.url, owner=next(self._owners), claim_ttl=claim_ttl)
        self._processes.append(process)
        return process

    def close(self) -> None:
        """Close the connections to AWS."""
        for process in (self, *self._processes):
            process.clients.close()

    def boto(self, service: str, **keys: str) -> Any:
        """A plain client; `keys` are aws_access_key_id and so on, the default is the environment's."""
        config = Config(retries={"total_max_attempts": 1}, max_pool_connections=1)
        return _session().client(service, region_name=REGION, endpoint_url=self.aws.url, config=config, **keys)

    # --- what there is

    def users(self) -> set[str]:
        """The names of the users under our IAM path."""
        pages = self.iam.get_paginator("list_users").paginate(PathPrefix="/phasesync/")
        return {user["UserName"] for page in pages for user in page["Users"]}

    def wanted(self) -> set[str]:
        """The names of the users of live leases that were issued."""
        return {lease.spec.name for lease in self.leases.list_leases() if lease.status is LeaseStatus.ACTIVE}

    def lease(self, lease_id: str) -> Lease:
        """A lease as it is now."""
        return self.leases.get(lease_id)

    def only_lease(self) -> Lease:
        """The one lease that there ever was."""
        (lease,) = self.leases.list_leases(ended=True)
        return lease

    def revoke(self, lease_id: str) -> Revocation:
        """Revoke a lease, as an operator does."""
        return self.operations.revoke(lease_id, actor=ACTOR)

    def delete_by_hand(self, name: str) -> None:
        """Have someone delete the user of a lease."""
        for key in self.iam.list_access_keys(UserName=name)["AccessKeyMetadata"]:
            self.iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
        for arn in POLICIES:
            self.iam.detach_user_policy(UserName=name, PolicyArn=arn)
        for group in self.dynamic.config.groups:
            self.iam.remove_user_from_group(UserName=name, GroupName=group)
        self.iam.delete_user_policy(UserName=name, PolicyName="phasesync")
        self.iam.delete_user(UserName=name)

    def calls(self) -> list[str]:
        """The operations of IAM that phasesync asked for, in order."""
        return [
            operation.name
            for operation in self.aws.operations
            if operation.service == "iam" and self.is_ours(operation)
        ]

    def is_ours(self, operation: Operation) -> bool:
        """Whether phasesync asked for it, and not the test."""
        return operation.access_key_id == ACCESS_KEY_ID

    def deny(self, action: str) -> Denial:
        """Have AWS refuse something to phasesync; `allow` takes it back."""
        return self.aws.deny(action, caller=ACCESS_KEY_ID)

    def allow(self, denial: Denial) -> None:
        """Take a denial back."""
        self.aws.access.allow(denial)

    # --- time

    def become_restored(self) -> None:
        """Have the database count as an older backup that was put in place of a later state."""
        set_restore_mark(self.store.database)

    def let_time_pass(self, **time: float) -> None:
        """Let time pass for all leases, but not for the ends that no renewal moves; they are sealed."""
        by = timedelta(**time)
        self.clock.passed += by
        shift = by // timedelta(microseconds=1)
        moved = ("expires_at", "retry_at", "claim_until")
        earlier = {name: sa.type_coerce(lease_rows.c[name], sa.BigInteger) - shift for name in moved}
        with self.store.database.write() as connection:
            connection.execute(lease_rows.update().values(earlier))
        vouch_for_leases(self.store.database)
        for lease in self.leases.list_leases():
            if lease.is_readable and (since := lease.missing_since) is not None:
                self.alter(lease.id, missing_since=since - by)

    def alter(self, lease_id: str, **members: Any) -> None:
        """Have a lease be another one, as if the database were of another time."""
        self.leases.change(lease_id, lambda lease, _now: replace(lease, **members))


@pytest.fixture(scope="session")
def lease_emulator() -> Iterator[AwsEmulator]:
    """One emulator for the tests of this process; its clock stands still unless a test moves it."""
    with AwsEmulator(clock=EmulatorClock(frozen=True), throttling=False) as aws:
        yield aws


@pytest.fixture
def lease_store(
    request: pytest.FixtureRequest,
    database_backend: str,
    tmp_path: Path,
    lease_emulator: AwsEmulator,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Store]:
    """
    The store of a test, and the environment and the AWS for it.

    For `world` it is a copy of one that a world was begun in, unless the test wants the database too.
    """
    from tests.support.aws import environ_of, move_to

    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY_ID, "AWS_SECRET_ACCESS_KEY": "test-secret-access-key"}
    move_to(environ_of(lease_emulator.url) | keys, monkeypatch)
    # What AWS did not answer is asked once more after seconds; nothing else depends on how many.
    monkeypatch.setattr(iam_caller, "_PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(eventual_consistency, "_PAUSES_S", (0.0,) * 8)
    lease_emulator.reset()

    def begin(url: str) -> None:
        store = open_test_store(url)
        LeaseWorld(store, lease_emulator).close()
        store.close()
        lease_emulator.reset()

    if _is_begun(request):
        urls = copy_of_filled(request, database_backend, tmp_path, "lease_world", begin)
    else:
        urls = iter([request.getfixturevalue("migrated_database_url")])
    for url in urls:
        store = open_test_store(url)
        yield store
        store.close()


def _is_begun(request: pytest.FixtureRequest) -> bool:
    return "world" in request.fixturenames and "migrated_database_url" not in request.fixturenames


@pytest.fixture
def make_lease_world(
    request: pytest.FixtureRequest, lease_store: Store, lease_emulator: AwsEmulator
) -> Iterator[Callable[..., LeaseWorld]]:
    """Makes the world of a test; its arguments are set on the dynamic secret."""
    worlds: list[LeaseWorld] = []

    def make(**config: Any) -> LeaseWorld:
        worlds.append(LeaseWorld(lease_store, lease_emulator, begun=_is_begun(request) and not config, **config))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


@pytest.fixture
def world(make_lease_world: Callable[..., LeaseWorld]) -> LeaseWorld:
    """A world with the usual dynamic secret."""
    return make_lease_world()
