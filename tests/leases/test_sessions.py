"""The second issuer: sessions of a role, which AWS ends by itself and nobody takes back."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from phasesync.core.credential import CredentialDraft, CredentialType
from phasesync.core.dynamic import DynamicConfig
from phasesync.core.lease import LeaseStatus
from phasesync.core.lease_claim import LeaseEvent
from phasesync.core.lease_users import DEFAULT_TEMPLATE
from phasesync.emulator import Answer
from phasesync.engine.leases.issuance import IssuedLease
from phasesync.errors import CredentialRejectedError, IllegalTransitionError, InvalidInputError
from tests.support.databases import on_each_database
from tests.support.lease_world import REGION, LeaseWorld
from tests.support.stores import ACTOR

ROLE = "arn:aws:iam::222222222222:role/ops"
NAME = "ops"
KEYS = {
    "username": "OPS_SESSION",
    "access_key_id": "OPS_ID",
    "secret_access_key": "OPS_SECRET",
    "session_token": "OPS_TOKEN",
}
READ = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}'
QUARTER = timedelta(minutes=15)


def recipe(**changes: Any) -> DynamicConfig:
    given: dict[str, Any] = {
        "user_template": DEFAULT_TEMPLATE,
        "role_arn": ROLE,
        "default_ttl": QUARTER,
        "max_ttl": timedelta(hours=1),
        "keys": KEYS,
    }
    return DynamicConfig(**(given | changes))


def add(world: LeaseWorld, credential: str = "aws", **changes: Any) -> None:
    """Add a dynamic secret that issues sessions."""
    world.add(NAME, issuer="aws-assume-role", credential=credential, config=recipe(**changes))


def issue(world: LeaseWorld, **how: Any) -> IssuedLease:
    return world.operations.issue(NAME, actor=ACTOR, **how)


@on_each_database
def test_a_session_is_handed_out_with_its_token_and_ends_when_aws_says(world: LeaseWorld) -> None:
    add(world, policy_arns=("arn:aws:iam::aws:policy/ReadOnlyAccess",), session_policy=READ)

    issued = issue(world)

    handed_out = {key: value.reveal_text() for key, value in issued.credentials.items()}
    (asked,) = [one for one in world.aws.operations if one.name == "AssumeRole"]
    assert set(handed_out) == set(KEYS.values())
    assert asked.form["RoleArn"] == ROLE
    assert asked.form["DurationSeconds"] == "900"
    assert json.loads(asked.form["Policy"]) == json.loads(READ)
    assert asked.form["PolicyArns.member.1.arn"] == "arn:aws:iam::aws:policy/ReadOnlyAccess"
    assert asked.form["RoleSessionName"] == handed_out["OPS_SESSION"] == issued.lease.spec.name
    assert issued.lease.expires_at == issued.lease.max_expires_at
    assert issued.lease.principal == f"arn:aws:sts::222222222222:assumed-role/ops/{issued.lease.spec.name}"
    assert world.users() == set()


def test_its_end_costs_no_call(world: LeaseWorld) -> None:
    add(world)
    lease = issue(world).lease
    before = len(world.aws.operations)

    world.let_time_pass(minutes=16)
    world.sweep()

    assert world.lease(lease.id).status is LeaseStatus.EXPIRED
    assert len(world.aws.operations) == before
    assert [one.event for one in world.leases.records(lease.id)] == [LeaseEvent.ISSUED, LeaseEvent.EXPIRED]


def test_it_is_neither_renewed_nor_revoked(world: LeaseWorld) -> None:
    add(world)
    lease = issue(world).lease

    with pytest.raises(IllegalTransitionError, match="never prolongs"):
        world.operations.renew(lease.id, QUARTER, actor=ACTOR)
    with pytest.raises(IllegalTransitionError, match="it cannot be ended before"):
        world.revoke(lease.id)

    assert world.lease(lease.id) == lease


@on_each_database
def test_what_is_removed_lets_go_of_its_sessions(world: LeaseWorld) -> None:
    add(world)
    lease = issue(world).lease

    (done,) = world.operations.revoke_all([lease], actor=ACTOR)
    world.store.dynamics.remove(NAME)

    assert done.lease.status is LeaseStatus.REVOKED
    assert "ends it by itself" in str(done.lease.reason)
    assert [one.name for one in world.store.dynamics.list_all()] == ["ci"]


def test_a_role_that_may_not_be_assumed_leaves_nothing(world: LeaseWorld) -> None:
    add(world)
    world.deny("sts:AssumeRole")

    with pytest.raises(CredentialRejectedError, match="may not assume arn:aws:iam::222222222222:role/ops"):
        issue(world)

    (lease,) = world.leases.list_leases(dynamic=NAME, ended=True)
    assert lease.status is LeaseStatus.REVOKED, "it counts against no cap"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("perform: sts:TagSession on resource: y", "AWS refuses sts:TagSession", "phasesync credentials test aws"),
        (
            "perform: sts:AssumeRole on resource: y with an explicit deny in a service control policy",
            "denied by a policy (service control policy)",
            "aws organizations list-policies",
        ),
    ],
)
def test_a_refused_session_says_which_action_and_policy_it_was(
    world: LeaseWorld, text: str, message: str, hint: str
) -> None:
    add(world)
    refusal = Answer("AccessDenied", f"User: x is not authorized to {text}", status=403)
    world.aws.do("AssumeRole", lambda one: refusal if one.form["RoleArn"] == ROLE else None, times=9)

    with pytest.raises(CredentialRejectedError) as caught:
        issue(world)

    assert message in caught.value.message
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"default_ttl": timedelta(minutes=14)}, "the shortest life is 15m"),
        ({"max_ttl": timedelta(hours=13)}, "the longest life is 12h"),
        ({"default_ttl": timedelta(hours=2)}, "longer than --max-ttl"),
        ({"role_arn": None}, "needs a role"),
        ({"role_arn": "arn:aws:iam::222222222222:user/ops"}, "not the ARN of an IAM role"),
        ({"groups": ("deployers",)}, "--group is not for the issuer aws-assume-role"),
        ({"permission_boundary": "arn:aws:iam::222222222222:policy/b"}, "--permission-boundary is not for"),
        ({"iam_path": "/ops/"}, "--iam-path is not for"),
        ({"session_policy": "not JSON"}, "not an IAM policy"),
        ({"session_policy": READ.replace("s3:GetObject", "s3:" + "x" * 2048)}, "IAM takes 2,048"),
    ],
)
@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_what_sts_would_not_take_is_refused_when_it_is_set(
    world: LeaseWorld, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(InvalidInputError, match=why):
        add(world, **changes)

    assert [one.name for one in world.store.dynamics.list_all()] == ["ci"]


@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_a_role_that_a_role_assumes_lives_for_an_hour_at_most(world: LeaseWorld) -> None:
    role = CredentialDraft(
        type=CredentialType.ASSUME_ROLE, region=REGION, role_arn="arn:aws:iam::222222222222:role/phasesync"
    )
    world.store.credentials.add("role", role)

    with pytest.raises(InvalidInputError, match="an hour at most"):
        add(world, credential="role", max_ttl=timedelta(hours=2))
    add(world, credential="role")

    assert issue(world, ttl=timedelta(hours=1)).lease.spec.ttl == timedelta(hours=1)
