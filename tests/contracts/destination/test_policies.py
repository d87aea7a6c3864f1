"""Resource policies."""

from __future__ import annotations

import json
from typing import Any

import pytest

from phasesync.core.sync import AWS_MANAGED_KEY
from phasesync.errors import DestinationRejectedError, RemoteChangedError
from phasesync.ports.destination import Destination
from tests.contracts.destination.worlds import ELSEWHERE, NAME, World, create, open_in

READER = "arn:aws:iam::123456789012:root"


def policy(*, principal: Any = None, condition: dict[str, Any] | None = None) -> str:
    """A policy that lets someone read, as canonical JSON."""
    statement: dict[str, Any] = {
        "Action": "secretsmanager:GetSecretValue",
        "Effect": "Allow",
        "Principal": {"AWS": READER} if principal is None else principal,
        "Resource": "*",
    }
    if condition is not None:
        statement["Condition"] = condition
    document = {"Statement": [statement], "Version": "2012-10-17"}
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def test_an_object_without_a_policy_has_none(destination: Destination):
    assert destination.resource_policy(create(destination).arn) is None


def test_sets_a_policy_and_reads_it_back(destination: Destination):
    arn = create(destination).arn
    destination.put_resource_policy(arn, policy())
    assert destination.resource_policy(arn) == policy()


def test_a_policy_replaces_the_whole_one_before(destination: Destination):
    arn = create(destination).arn
    destination.put_resource_policy(arn, policy())
    narrowed = policy(condition={"StringEquals": {"aws:PrincipalOrgID": "o-1"}})
    destination.put_resource_policy(arn, narrowed)
    assert destination.resource_policy(arn) == narrowed


def test_a_policy_comes_back_in_canonical_form(destination: Destination, world: World):
    arn = world.outside_create(NAME, "theirs")
    world.outside_policy(NAME, json.dumps(json.loads(policy()), indent=4))
    assert destination.resource_policy(arn) == policy()


@pytest.mark.parametrize("principal", ["*", {"AWS": "*"}, {"AWS": [READER, "*"]}])
def test_a_policy_that_lets_everybody_in_is_refused_with_the_name_of_the_check(
    destination: Destination, principal: Any
):
    arn = create(destination).arn
    destination.put_resource_policy(arn, policy())
    with pytest.raises(DestinationRejectedError, match=r"check.*[Pp]ublic"):
        destination.put_resource_policy(arn, policy(principal=principal))
    assert destination.resource_policy(arn) == policy()


def test_everybody_within_an_organization_is_not_everybody(destination: Destination):
    arn = create(destination).arn
    narrowed = policy(principal="*", condition={"StringEquals": {"aws:PrincipalOrgID": "o-1"}})
    destination.put_resource_policy(arn, narrowed)
    assert destination.resource_policy(arn) == narrowed


@pytest.mark.parametrize(
    "text",
    ["no policy", "{}", "[]", '{"Statement":[],"Version":"2012-10-17"}', policy().replace('"Effect"', '"Efect"')],
    ids=["no JSON", "empty", "a list", "no statement", "misspelt"],
)
def test_a_malformed_policy_is_refused(destination: Destination, text: str):
    arn = create(destination).arn
    with pytest.raises(DestinationRejectedError) as caught:
        destination.put_resource_policy(arn, text)
    assert caught.value.code == "MalformedPolicyDocumentException"
    assert destination.resource_policy(arn) is None


def test_a_policy_over_the_limit_is_refused(destination: Destination):
    arn = create(destination).arn
    users = [f"arn:aws:iam::123456789012:user/{number:0>40}" for number in range(300)]
    with pytest.raises(DestinationRejectedError):
        destination.put_resource_policy(arn, policy(principal={"AWS": users}))
    assert destination.resource_policy(arn) is None


@pytest.mark.parametrize("for_good", [True, False])
def test_the_policy_of_what_is_gone_or_going_says_that_it_changed(
    destination: Destination, world: World, for_good: bool
):
    arn = create(destination).arn
    world.outside_delete(NAME, for_good=for_good)
    with pytest.raises(RemoteChangedError):
        destination.resource_policy(arn)
    with pytest.raises(RemoteChangedError):
        destination.put_resource_policy(arn, policy())


def test_a_policy_goes_with_its_object_to_copies_and_cannot_be_set_there(destination: Destination, world: World):
    arn = create(destination).arn
    destination.put_resource_policy(arn, policy())
    destination.replicate(arn, {ELSEWHERE: AWS_MANAGED_KEY})
    world.settle_replication()
    elsewhere = open_in(world, ELSEWHERE)
    assert elsewhere.resource_policy(NAME) == policy()
    with pytest.raises(DestinationRejectedError):
        elsewhere.put_resource_policy(NAME, policy(principal={"AWS": "arn:aws:iam::210987654321:root"}))
    assert elsewhere.resource_policy(NAME) == policy()
