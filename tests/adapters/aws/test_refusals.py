"""Where a refusal is put right, and when AWS's own reason may be read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from phasesync.adapters.aws.errors import denied, refused_tags
from phasesync.adapters.aws.sdk import invoke
from phasesync.adapters.aws.session import AwsClients
from phasesync.demo.canary import CANARY_VALUE
from phasesync.emulator import Answer
from phasesync.errors import (
    CredentialRejectedError,
    DestinationRejectedError,
    PermissionDeniedError,
    PhasesyncError,
)
from tests.support.aws import REGION, Aws
from tests.support.aws_builders import INSTANCE, HandClock, access_key_credential, no_sources

ACTION = "secretsmanager:CreateSecret"
REFUSED = "User: x is not authorized to perform: {action} on resource: y"


def refusal(reason: str, action: str = ACTION) -> PhasesyncError:
    return denied("AccessDeniedException", f"{REFUSED.format(action=action)} {reason}", action=ACTION, request_id=None)


@pytest.mark.parametrize(
    ("reason", "place"),
    [
        ("with an explicit deny in a service control policy", "aws organizations list-policies"),
        ("because no service control policy allows the action", "SERVICE_CONTROL_POLICY"),
        ("with an explicit deny in a resource control policy", "RESOURCE_CONTROL_POLICY"),
        ("because no permissions boundary allows the action", "Role.PermissionsBoundary"),
        ("with an explicit deny in a permissions boundary", "Role.PermissionsBoundary"),
        ("because no VPC endpoint policy allows the action", "aws ec2 modify-vpc-endpoint"),
        ("because no session policy allows the action", "session policy"),
        ("with an explicit deny in a resource-based policy", "aws secretsmanager get-resource-policy"),
        ("with an explicit deny in an identity-based policy", "a statement with Deny in a policy of the role"),
    ],
)
@pytest.mark.parametrize("action", [ACTION, "kms:GenerateDataKey"])
def test_another_policy_in_the_way_is_named_in_the_hint(reason: str, place: str, action: str) -> None:
    error = refusal(reason, action)
    assert isinstance(error, PermissionDeniedError)
    assert error.action == action
    assert place in str(error.hint)
    assert "phasesync aws policy" not in str(error.hint)


@pytest.mark.parametrize(
    "reason",
    ["", "because no identity-based policy allows the action", "because no resource-based policy allows the action"],
)
def test_else_the_hint_is_the_policy_of_the_role(reason: str) -> None:
    assert "phasesync aws policy NAME" in str(refusal(reason).hint)


@pytest.mark.parametrize("action", ["sts:TagSession", "sts:SetSourceIdentity"])
def test_what_a_trust_policy_has_to_allow_is_sent_there(action: str) -> None:
    error = denied("AccessDenied", REFUSED.format(action=action), action="sts:AssumeRole", request_id=None)
    assert isinstance(error, CredentialRejectedError)
    assert action in error.message
    assert "phasesync aws trust-policy NAME" in str(error.hint)
    assert "--dynamic" not in str(error.hint)


@pytest.mark.parametrize(("action", "command"), [(ACTION, "syncs update"), ("iam:CreateUser", "dynamic update")])
def test_a_tag_policy_is_named_with_what_sets_a_tag(action: str, command: str) -> None:
    text = "The tag policy does not allow the specified value for the following tag key: 'team'."
    error = refused_tags("TagPolicyException", text, action=action, request_id=None)
    assert error is not None
    assert f"phasesync {command} NAME --tag" in str(error.hint)
    assert "describe-effective-policy" in str(error.hint)
    assert refused_tags("X", "The parameter is wrong.", action=action, request_id=None) is None


# --- AWS's own reason


@pytest.fixture
def client(aws: Aws) -> Iterator[Any]:
    clock = HandClock(datetime.now(UTC))
    clients = AwsClients(source_of=no_sources, clock=clock, instance_id=INSTANCE, endpoint_url=aws.server.url)
    yield clients.client(access_key_credential(), "secretsmanager", REGION)
    clients.close()


def rejected(aws: Aws, client: Any, operation: str, text: str, **arguments: Any) -> str:
    aws.server.fail(operation, Answer("InvalidParameterException", text), times=9)
    method = {"TagResource": "tag_resource", "CreateSecret": "create_secret", "PutSecretValue": "put_secret_value"}
    call = getattr(client, method[operation])
    with pytest.raises(DestinationRejectedError) as caught:
        invoke(lambda: call(**arguments), action=f"secretsmanager:{operation}", write=True)
    return caught.value.message


def test_the_reason_is_shown_where_the_request_has_nothing_secret(aws: Aws, client: Any) -> None:
    tags = [{"Key": "team", "Value": "R&D"}]
    message = rejected(aws, client, "TagResource", "Invalid\ntag\x1b value: R&D", SecretId="shop", Tags=tags)
    assert message.endswith("(InvalidParameterException): Invalid tag value: R&D")


def test_a_reason_without_end_is_cut(aws: Aws, client: Any) -> None:
    message = rejected(aws, client, "TagResource", "x" * 10_000, SecretId="shop", Tags=[])
    assert len(message) < 600


@pytest.mark.parametrize("secret", [{"SecretString": CANARY_VALUE}, {"SecretBinary": CANARY_VALUE.encode()}])
@pytest.mark.parametrize("operation", ["CreateSecret", "PutSecretValue"])
def test_no_reason_is_shown_where_the_request_has_a_value(
    aws: Aws, client: Any, operation: str, secret: dict[str, Any]
) -> None:
    name = {"Name": "shop"} if operation == "CreateSecret" else {"SecretId": "shop"}
    message = rejected(aws, client, operation, f"the value '{CANARY_VALUE}' is too short", **name, **secret)
    assert message == f"AWS rejected secretsmanager:{operation} (InvalidParameterException)"


def test_what_one_call_may_show_the_next_may_not(aws: Aws, client: Any) -> None:
    rejected(aws, client, "TagResource", "wrong tag", SecretId="shop", Tags=[])
    message = rejected(aws, client, "PutSecretValue", CANARY_VALUE, SecretId="shop", SecretString=CANARY_VALUE)
    assert CANARY_VALUE not in message
