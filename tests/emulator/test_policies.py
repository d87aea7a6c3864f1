"""Resource policies: form, size, whom they let in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from phasesync.emulator import AwsEmulator
from tests.emulator.conftest import code_of, passes, refuses


def policy(**changes: Any) -> str:
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::222222222222:root"},
        "Action": "secretsmanager:GetSecretValue",
        "Resource": "*",
        **changes,
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [{k: v for k, v in statement.items() if v is not None}]})


ORGANISATION = {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}
HTTPS = {"Bool": {"aws:SecureTransport": "true"}}


@pytest.fixture(autouse=True)
def shop(aws: AwsEmulator) -> None:
    aws.outside.create("shop")


@passes("form of policies", "public policies")
@pytest.mark.parametrize(
    "text",
    [policy(), policy(Principal="*", Effect="Deny"), policy(Principal={"AWS": "*"}, Condition=ORGANISATION)],
)
def test_takes_a_policy_and_tells_it(sm: Any, text: str):
    sm.put_resource_policy(SecretId="shop", ResourcePolicy=text, BlockPublicPolicy=True)
    assert sm.get_resource_policy(SecretId="shop")["ResourcePolicy"] == text
    assert sm.validate_resource_policy(SecretId="shop", ResourcePolicy=text)["PolicyValidationPassed"] is True
    sm.delete_resource_policy(SecretId="shop")
    assert "ResourcePolicy" not in sm.get_resource_policy(SecretId="shop")


@refuses("form of policies")
@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        "{}",
        policy(Effect="Perhaps"),
        policy(Principal=None),
        policy(Action=None),
        policy(Resource=None),
        policy(Whatever="x"),
        policy().replace("2012-10-17", "2020-01-01"),
    ],
)
def test_refuses_a_malformed_policy(sm: Any, text: str):
    malformed = "MalformedPolicyDocumentException"
    assert code_of(lambda: sm.put_resource_policy(SecretId="shop", ResourcePolicy=text)) == malformed
    assert code_of(lambda: sm.validate_resource_policy(ResourcePolicy=text)) == malformed


@refuses("public policies")
@pytest.mark.parametrize(
    "text",
    [
        policy(Principal="*"),
        policy(Principal={"AWS": "*"}),
        policy(Principal={"AWS": ["arn:aws:iam::222222222222:root", "*"]}),
        policy(Principal="*", Condition=HTTPS),
        policy(Principal=None, NotPrincipal={"AWS": "arn:aws:iam::222222222222:root"}),
    ],
)
def test_refuses_a_policy_that_lets_everybody_in_where_that_is_blocked(sm: Any, text: str):
    put = {"SecretId": "shop", "ResourcePolicy": text}
    assert code_of(lambda: sm.put_resource_policy(**put, BlockPublicPolicy=True)) == "PublicPolicyException"
    told = sm.validate_resource_policy(**put)
    assert told["PolicyValidationPassed"] is False
    assert told["ValidationErrors"]
    assert "ResourcePolicy" not in sm.get_resource_policy(SecretId="shop")


@passes("public policies")
def test_takes_a_policy_that_lets_everybody_in_where_that_is_not_blocked(sm: Any):
    sm.put_resource_policy(SecretId="shop", ResourcePolicy=policy(Principal="*"))
    assert "ResourcePolicy" in sm.get_resource_policy(SecretId="shop")


@refuses("API model")
def test_refuses_a_policy_that_is_too_long(sm: Any):
    longest = policy(Sid="x" * (20_480 - len(policy(Sid=""))))
    sm.put_resource_policy(SecretId="shop", ResourcePolicy=longest)
    put = {"SecretId": "shop", "ResourcePolicy": longest + " "}
    assert code_of(lambda: sm.put_resource_policy(**put)) == "ValidationException"
