"""The statements for dynamic secrets: together where they may be, in parts that fit, with keys that actions have."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from phasesync.core.dynamic import DynamicConfig
from phasesync.core.iam.document import MANAGED_POLICY_CHARACTERS, parts_of, size_of
from phasesync.core.iam.lease_policy import LeaseUse, LiveLease, lease_statements, starter_lease_policy
from phasesync.core.iam.sync_policy import policy_of_grants
from phasesync.core.lease import LeaseSpec
from phasesync.core.lease_users import TAG_DYNAMIC, user_owner_tags
from phasesync.core.remote import TAG_INSTANCE
from tests.support.iam import allows

ACCOUNT = "123456789012"
INSTANCE = "b0b4a2e2-0000-4000-8000-000000000000"
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/boundary"
INLINE = '{"Statement":[],"Version":"2012-10-17"}'
USERS = f"arn:aws:iam::{ACCOUNT}:user"
Policy = dict[str, Any]


def issuing(number: int = 0, *, path: str = "/phasesync/shop/production/", **config: Any) -> LeaseUse:
    given = {"permission_boundary": BOUNDARY, "inline_policy": INLINE, "groups": ("deployers",)} | config
    return LeaseUse(
        config=DynamicConfig(
            user_template="{{name}}-{{random}}",
            iam_path=path,
            default_ttl=timedelta(hours=1),
            max_ttl=timedelta(hours=8),
            **given,
        ),
        id=id_of(number),
        name=f"ci{number}",
        region="eu-west-1",
        account=ACCOUNT,
    )


def id_of(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"


def live(name: str, *, path: str = "/phasesync/shop/production/", groups: tuple[str, ...] = ()) -> LiveLease:
    spec = LeaseSpec(name=name, ttl=timedelta(hours=1), iam_path=path, groups=groups, tags=_marks(0))
    return LiveLease(spec=spec, region="eu-west-1", account=ACCOUNT)


def policy(*of: LeaseUse, live: Sequence[LiveLease] = ()) -> Policy:
    return policy_of_grants([], instance_id=INSTANCE, more=lease_statements(of, instance_id=INSTANCE, live=live))


def tags(where: str, number: int, instance: str = INSTANCE) -> dict[str, str]:
    return {f"aws:{where}Tag/{TAG_INSTANCE}": instance, f"aws:{where}Tag/{TAG_DYNAMIC}": id_of(number)}


def resources(of: Policy, action: str) -> list[str]:
    return [arn for one in of["Statement"] if action in one["Action"] for arn in one["Resource"]]


USER = f"{USERS}/phasesync/shop/production/ci0-abcdefghij012345"


@pytest.mark.parametrize("told", [{}, tags("Resource", 0)], ids=["no tags yet", "the tags to come"])
def test_a_user_is_made_with_its_tags_whatever_aws_says_of_one_that_is_being_made(told: dict[str, str]) -> None:
    request = {f"aws:RequestTag/{tag}": value for tag, value in _marks(0).items()}

    assert allows(policy(issuing()), "iam:TagUser", USER, request | told)
    bounded = request | told | {"iam:PermissionsBoundary": BOUNDARY}
    assert allows(policy(issuing()), "iam:CreateUser", USER, bounded)
    assert allows(
        starter_lease_policy(region="eu-west-1", boundary=BOUNDARY, instance_id=INSTANCE),
        "iam:TagUser",
        USER,
        request | told,
    )


def _marks(number: int) -> dict[str, str]:
    return user_owner_tags(
        INSTANCE, dynamic_id=id_of(number), lease_id="l", max_expires_at=datetime(2026, 1, 1, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    "theirs", [tags("Resource", 1), tags("Resource", 0, "another"), {f"aws:ResourceTag/{TAG_INSTANCE}": "another"}]
)
def test_no_mark_of_others_is_changed_into_ours(theirs: dict[str, str]) -> None:
    assert not allows(policy(issuing()), "iam:TagUser", USER, tags("Request", 0) | theirs)


def test_what_one_credential_serves_is_together() -> None:
    both = policy(issuing(0), issuing(1))

    assert len(both["Statement"]) == len(policy(issuing(0))["Statement"])
    for number in (0, 1):
        assert allows(both, "iam:CreateAccessKey", USER, tags("Resource", number))
    assert not allows(both, "iam:CreateAccessKey", USER, tags("Resource", 2))


def test_who_has_a_boundary_is_not_together_with_who_has_none() -> None:
    both = policy(issuing(0), issuing(1, permission_boundary=None))
    name = USER

    assert allows(both, "iam:CreateUser", name.replace("ci0", "ci1"), tags("Request", 1))
    assert not allows(both, "iam:CreateUser", name, tags("Request", 0))
    assert not allows(both, "iam:PutUserPolicy", name, tags("Resource", 0))


def test_many_dynamic_secrets_come_in_parts_that_iam_takes() -> None:
    many = [issuing(number, path=f"/phasesync/shop/{number}/") for number in range(100)]
    whole = policy(*many)

    parts = parts_of(whole)

    assert max(map(size_of, parts)) <= MANAGED_POLICY_CHARACTERS
    for number in (0, 60, 99):
        user = f"{USERS}/phasesync/shop/{number}/ci{number}-abcdefghij012345"
        assert any(allows(part, "iam:CreateAccessKey", user, tags("Resource", number)) for part in parts)
        assert any(allows(part, "iam:TagUser", user, tags("Request", number)) for part in parts)


def test_live_leases_that_are_like_their_dynamic_secret_add_nothing() -> None:
    alike = live("ci0-abcdefghij012345", groups=("deployers",))

    assert policy(issuing(), live=[alike]) == policy(issuing())


def test_live_leases_of_another_path_name_and_group_are_taken_back_and_no_more() -> None:
    other = policy(issuing(), live=[live("old-1", path="/old/", groups=("readers", "deployers"))])

    assert resources(other, "iam:DeleteUser") == [f"{USERS}/old/*", f"{USERS}/phasesync/shop/production/*"]
    assert f"{USERS}/old-1" in resources(other, "iam:GetUser")
    group = f"arn:aws:iam::{ACCOUNT}:group/readers"
    assert allows(other, "iam:RemoveUserFromGroup", group, {})
    assert not allows(other, "iam:AddUserToGroup", group, {})
    for action in ("iam:CreateUser", "iam:CreateAccessKey", "iam:PutUserPolicy"):
        assert not any("/old" in arn for arn in resources(other, action))


def test_live_leases_of_another_path_are_renewed_where_they_are_ours_already() -> None:
    other = policy(issuing(), live=[live("old-1", path="/old/")])

    user, ours = f"{USERS}/old/old-1", tags("Request", 0) | tags("Resource", 0)
    assert allows(other, "iam:TagUser", user, ours)
    assert not allows(other, "iam:TagUser", user, tags("Request", 0))
    assert not allows(other, "iam:TagUser", user, tags("Request", 0) | tags("Resource", 1))


def test_the_owner_of_a_key_is_asked_for_wherever_a_user_of_ours_is() -> None:
    moved, ours = f"{USERS}/elsewhere/renamed", tags("Resource", 0)

    assert allows(policy(issuing()), "iam:GetAccessKeyLastUsed", moved, ours)
    assert not allows(policy(issuing()), "iam:GetAccessKeyLastUsed", moved, {})
    assert not allows(policy(issuing()), "iam:DeleteUser", moved, ours)


KEYS_OF_USERS = {"aws:ResourceTag", "iam:ResourceTag"}
KEYS: dict[str, set[str]] = {
    "iam:CreateUser": {"aws:RequestTag", "aws:TagKeys", "iam:PermissionsBoundary"},
    "iam:TagUser": {"aws:RequestTag", "aws:TagKeys"},
    "iam:AttachUserPolicy": {"iam:PermissionsBoundary", "iam:PolicyARN"},
    "iam:DetachUserPolicy": {"iam:PermissionsBoundary", "iam:PolicyARN"},
    "iam:PutUserPolicy": {"iam:PermissionsBoundary"},
    "iam:DeleteUserPolicy": {"iam:PermissionsBoundary"},
}
"""Condition keys of actions, beside those of the resource user (Service Authorization Reference, IAM)."""


@pytest.mark.parametrize(
    "printed",
    [
        policy(issuing(policy_arns=("arn:aws:iam::aws:policy/ReadOnlyAccess",)), live=[live("x", path="/x/")]),
        starter_lease_policy(region="eu-west-1", boundary=None, instance_id=INSTANCE),
        starter_lease_policy(region="eu-west-1", boundary=None, instance_id=None),
    ],
)
def test_conditions_ask_for_what_their_actions_have(printed: Policy) -> None:
    for statement in printed["Statement"]:
        asked = {key.partition("/")[0] for keys in statement.get("Condition", {}).values() for key in keys}
        for action in statement["Action"]:
            assert asked <= KEYS.get(action, set()) | KEYS_OF_USERS, statement["Sid"]
