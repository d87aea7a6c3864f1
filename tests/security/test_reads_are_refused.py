"""What the whole suite leans on: in a test nobody may read a value at AWS, and who tries makes the test fail."""

from __future__ import annotations

from typing import Any

import boto3.session
import pytest
from botocore.exceptions import ClientError

from phasesync.errors import PermissionDeniedError
from tests.fakes.destination import FakeDestinations
from tests.fakes.remote import REGION, FakeRemote
from tests.support.aws import Aws
from tests.support.aws_builders import INSTANCE, role_credential
from tests.support.reads import READERS, READS, reads

READ: dict[str, dict[str, Any]] = {
    "GetSecretValue": {"SecretId": "shop"},
    "BatchGetSecretValue": {"SecretIdList": ["shop"]},
    "AssociateCrossAccountReplica": {
        "SecretId": "shop",
        "CrossAccountReplicaARN": "arn:aws:secretsmanager:eu-west-1:222222222222:secret:copy-Ab12Cd",
    },
    "RotateSecret": {"SecretId": "shop"},
}


def test_nothing_is_left_out() -> None:
    assert READ.keys() == READS


@pytest.mark.parametrize("operation", sorted(READ))
def test_any_client_but_that_of_the_tests_is_refused(aws: Aws, operation: str) -> None:
    """A client as phasesync might make one somewhere, without our name, with keys that may do everything."""
    aws.server.outside.create("shop", "theirs")
    client: Any = boto3.session.Session().client("secretsmanager", endpoint_url=aws.server.url)
    try:
        with pytest.raises(ClientError) as caught:
            client._make_api_call(operation, READ[operation])
    finally:
        client.close()

    assert caught.value.response["Error"]["Code"] == "AccessDeniedException"
    assert reads.take_attempts() == [operation], "this would have made the test fail"
    assert aws.boto("secretsmanager").get_secret_value(SecretId="shop")["SecretString"] == "theirs"


def test_a_fake_refuses_as_well() -> None:
    remote = FakeRemote()
    remote.outside_create("shop", "theirs")
    credential = role_credential("arn:aws:iam::111122223333:role/phasesync")
    destination = FakeDestinations(remote, instance_id=INSTANCE).open("aws-secrets-manager", credential, REGION)

    with pytest.raises(PermissionDeniedError, match="secretsmanager:GetSecretValue"):
        destination.read_value("shop")

    assert reads.take_attempts() == ["GetSecretValue"]


def test_only_tests_of_commands_that_read_have_the_right(request: pytest.FixtureRequest) -> None:
    asked = [
        (item.path.parent.name, marker.args[0])
        for item in request.session.items
        for marker in item.iter_markers("reads_values")
    ]

    assert {command for _, command in asked} <= READERS
    assert {folder for folder, _ in asked}.isdisjoint({"leases", "durability", "daemon", "hostile", "incidents"})
