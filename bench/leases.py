"""
Leases issued, expired and revoked: calls of AWS for each, beside the model product's way on the same endpoint.

    python -m bench.leases [--leases 500] [--model 50]

Each lease is a user of its own with two managed policies and a group, made through a role. They are issued one after
the other and revoked by a daemon's eight threads, all at once because all of them are overdue. Phase's sequence of
calls was read from its own code: 4 + P + G to make a user, 10 to revoke it with P = 2 policies and G = 1 group. Our
share of IAM's rates is off, or 500 leases would take as long as AWS lets them (16 changes a second); so are database
and log on Phase's side.
"""

import argparse
import itertools
import sys
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import boto3

from bench.endpoint import Endpoint
from bench.ground import databases_option, installed, table
from phasesync.adapters.aws.rate_limiter import RateLimiter
from phasesync.adapters.dispatch import ThreadDispatcher
from phasesync.bootstrap import Application
from phasesync.core.chores import Chore
from phasesync.core.credential import CredentialDraft, CredentialType
from phasesync.core.dynamic import DynamicConfig, DynamicDraft
from phasesync.core.events import Event
from phasesync.core.lease_users import DEFAULT_TEMPLATE
from phasesync.daemon.build import LEASE_THREADS
from phasesync.engine.leases.expiry import LeaseExpiry
from tests.support.installation import REGION, Installation

ACCOUNT: Final = "222222222222"
ROLE: Final = f"arn:aws:iam::{ACCOUNT}:role/phasesync"
POLICIES: Final = tuple(f"arn:aws:iam::{ACCOUNT}:policy/{name}" for name in ("read", "write"))
GROUP: Final = "deployers"
DOCUMENT: Final = (
    '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:ListAllMyBuckets","Resource":"*"}]}'
)
PATIENCE_S: Final = 600


class _Events:
    """Takes what happens; what counts is what is left."""

    def emit(self, event: Event) -> None:
        """Do nothing with an event."""


def main(args: list[str], endpoint: Endpoint) -> int:
    """Measure and print; exit code 1 where a user is left, or where we make more calls than the model product."""
    parser = argparse.ArgumentParser(prog="python -m bench.leases")
    parser.add_argument("--leases", type=int, default=500)
    parser.add_argument("--model", type=int, default=50, help="users made and removed the model product's way")
    databases_option(parser)
    options = parser.parse_args(args)
    rows, bad = [], False
    for database in options.databases:
        with installed(database, endpoint.empty().url) as installation:
            _furnish()
            with installation.application() as application:
                _add(application, options.leases)
                issued_row, left = _ours(application, installation, endpoint, options.leases)
        rows += [(f"{database}, issued", *issued_row), (f"{database}, expired and revoked", *left)]
    with installed("sqlite", endpoint.empty().url):
        _furnish()
        model_made, model_left = _models(endpoint, options.model)
    rows += [("Phase's way, made", *model_made), ("Phase's way, revoked", *model_left)]
    table(["P = 2 policies, G = 1 group", "leases", "AWS calls", "calls a lease", "users left", "ms a lease"], rows)
    for number, row in enumerate(rows[:-2]):
        bad |= row[3] > rows[-2 + number % 2][3]
    return int(bad or any(row[4] for row in rows[1:-2:2]))


Row = tuple[int, int, float, int, float]
"""Leases, calls, calls a lease, users left, milliseconds a lease."""


def _ours(application: Application, installation: Installation, endpoint: Endpoint, leases: int) -> tuple[Row, Row]:
    hours = itertools.count(0.0, 3600.0)
    application.clients.rate_limiter = RateLimiter(hours.__next__)
    operations = application.lease_operations
    before, began = _calls(endpoint), time.perf_counter()
    for _ in range(leases):
        operations.issue("ci", actor="bench", probe_for=None)
    issued_row = _row(leases, endpoint, before, began)
    for lease in application.context.leases.list_leases():
        application.context.leases.change(lease.id, lambda current, now: replace(current, expires_at=now))
    expiry = LeaseExpiry(application.context)
    threads = ThreadDispatcher(expiry.work, threads=LEASE_THREADS, events=_Events(), chore=Chore.LEASE)
    before, began = _calls(endpoint), time.perf_counter()
    while not _all_over(installation) and time.perf_counter() - began < PATIENCE_S:
        expiry.dispatch_due(threads)
        time.sleep(0.01)
    threads.drain(timedelta(seconds=30))
    return issued_row, _row(leases, endpoint, before, began)


def _all_over(installation: Installation) -> bool:
    with installation.database() as connection:
        return connection.exec_driver_sql("SELECT count(*) FROM leases WHERE status <> 'expired'").scalar() == 0


def _models(endpoint: Endpoint, leases: int) -> tuple[Row, Row]:
    """Go the model product's way: a session of the role for each user, made and again for its removal."""
    names = [f"phase-{number}" for number in range(leases)]
    before, began = _calls(endpoint), time.perf_counter()
    for name in names:
        iam = _in_role()
        iam.create_user(UserName=name, Path="/phase/")
        iam.tag_user(UserName=name, Tags=[{"Key": "CreatedBy", "Value": "bench"}])
        for arn in POLICIES:
            iam.attach_user_policy(UserName=name, PolicyArn=arn)
        iam.add_user_to_group(UserName=name, GroupName=GROUP)
        iam.create_access_key(UserName=name)
    issued_row = _row(leases, endpoint, before, began)
    before, began = _calls(endpoint), time.perf_counter()
    for name in names:
        iam = _in_role()
        for key in iam.list_access_keys(UserName=name)["AccessKeyMetadata"]:
            iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
        for policy in iam.list_attached_user_policies(UserName=name)["AttachedPolicies"]:
            iam.detach_user_policy(UserName=name, PolicyArn=policy["PolicyArn"])
        iam.list_user_policies(UserName=name)
        for group in iam.list_groups_for_user(UserName=name)["Groups"]:
            iam.remove_user_from_group(UserName=name, GroupName=group["GroupName"])
        iam.delete_user(UserName=name)
    return issued_row, _row(leases, endpoint, before, began)


def _row(leases: int, endpoint: Endpoint, before: int, began: float) -> Row:
    ms = (time.perf_counter() - began) * 1000 / leases
    calls = _calls(endpoint) - before
    return leases, calls, calls / leases, _users(), ms


def _calls(endpoint: Endpoint) -> int:
    """Return how many calls arrived, but for the benchmark's own lists."""
    return sum(number for name, number in endpoint.seen().counts.items() if name != "ListUsers")


def _users() -> int:
    """Return how many users there are; as a user would who is not in the way of the count."""
    pages = _admin().get_paginator("list_users").paginate()
    return sum(len(page["Users"]) for page in pages)


_session = boto3.session.Session()
_admins: list[Any] = []


def _admin() -> Any:
    """A client of IAM in the account, made once: it is not what is measured."""
    if not _admins:
        _admins.append(_in_role())
    return _admins[0]


def _in_role() -> Any:
    """Assume the role, as the model product does before each piece of work; return a client of IAM."""
    sts = _session.client("sts", region_name=REGION)
    keys = sts.assume_role(RoleArn=ROLE, RoleSessionName="bench")["Credentials"]
    return _session.client(
        "iam",
        region_name=REGION,
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )


def _furnish() -> None:
    """Make what users are given, in an empty account."""
    _admins.clear()
    iam = _admin()
    for arn in POLICIES:
        iam.create_policy(PolicyName=arn.rpartition("/")[2], PolicyDocument=DOCUMENT)
    iam.create_group(GroupName=GROUP)


def _add(application: Application, leases: int) -> None:
    application.store.apps.add_app("shop")
    application.store.apps.add_environment("shop", "production")
    role = CredentialDraft(type=CredentialType.ASSUME_ROLE, region=REGION, role_arn=ROLE)
    application.store.credentials.add("aws", role)
    config = DynamicConfig(
        user_template=DEFAULT_TEMPLATE,
        policy_arns=POLICIES,
        groups=(GROUP,),
        default_ttl=timedelta(hours=1),
        max_ttl=timedelta(hours=8),
        max_leases=leases,
    )
    draft = DynamicDraft(
        name="ci",
        app="shop",
        environment="production",
        path="/",
        credential="aws",
        issuer="aws-iam-user",
        config=config,
    )
    application.dynamic_configuration.add(draft)


if __name__ == "__main__":
    with Endpoint() as started:
        sys.exit(main(sys.argv[1:], started))
