"""What every call of the adapter makes of a refusal: a class of ours, and never absence."""

from __future__ import annotations

from typing import Any

import pytest

from phasesync.adapters.aws_secrets_manager.destination import AwsSecretsManager
from phasesync.core.remote import ResourceExists, WriteResult
from phasesync.emulator import DROP, Answer, AwsEmulator, garbled
from phasesync.errors import (
    CredentialRejectedError,
    DestinationRejectedError,
    DestinationUnavailableError,
    OutcomeUnknownError,
    PermissionDeniedError,
    PhasesyncError,
    QuotaExceededError,
    RemoteChangedError,
    ThrottledError,
)
from tests.support.aws_builders import INSTANCE, payload, token

NAME = "shop/production"
POLICY = (
    '{"Statement":[{"Action":"secretsmanager:GetSecretValue","Effect":"Allow",'
    '"Principal":{"AWS":"arn:aws:iam::123456789012:root"},"Resource":"*"}],"Version":"2012-10-17"}'
)


def create(destination: AwsSecretsManager) -> WriteResult | ResourceExists:
    return destination.create("other", payload(), token=token(1), description=None, kms_key=None, tags={})


WRITES: dict[str, Any] = {
    "CreateSecret": create,
    "PutSecretValue": lambda destination: destination.put_value(NAME, payload(), token=token(2)),
    "UpdateSecret": lambda destination: destination.update_metadata(NAME, description="new"),
    "TagResource": lambda destination: destination.update_metadata(NAME, tags={"team": "shop"}),
    "UntagResource": lambda destination: destination.update_metadata(NAME, untag=["team"]),
    "RestoreSecret": lambda destination: destination.restore(NAME),
    "DeleteSecret": lambda destination: destination.delete(NAME, recovery_days=30),
    "ReplicateSecretToRegions": lambda destination: destination.replicate(NAME, {"us-east-1": "default"}),
    "RemoveRegionsFromReplication": lambda destination: destination.remove_replicas(NAME, ["us-east-1"]),
    "PutResourcePolicy": lambda destination: destination.put_resource_policy(NAME, POLICY),
}
READS: dict[str, Any] = {
    "DescribeSecret": lambda destination: destination.observe(NAME),
    "ListSecrets": lambda destination: destination.list_names(),
    "GetSecretValue": lambda destination: destination.read_value(NAME),
    "GetResourcePolicy": lambda destination: destination.resource_policy(NAME),
    "ValidateResourcePolicy": lambda destination: destination.put_resource_policy(NAME, POLICY),
}

REFUSED_READS = [
    (Answer("AccessDeniedException"), PermissionDeniedError),
    (Answer("ThrottlingException"), ThrottledError),
    (Answer("InternalServiceError", status=500), DestinationUnavailableError),
    (DROP, DestinationUnavailableError),
]


def shown(value: object) -> str:
    return str(value.code) if isinstance(value, Answer) else getattr(value, "__name__", str(value))


@pytest.fixture(autouse=True)
def an_object(emulator: AwsEmulator) -> None:
    emulator.outside.create(NAME)


# What each call makes of a refusal itself: absence, a conflict, a hint, the action that was denied, an unknown outcome.
OF_EACH_CALL = [
    (Answer("InvalidRequestException", "... scheduled for deletion"), RemoteChangedError),
    (Answer("InvalidParameterException"), DestinationRejectedError),
    (Answer("AccessDeniedException"), PermissionDeniedError),
    (DROP, OutcomeUnknownError),
]
# What the one table of errors makes of the rest; `tests/adapters/aws/test_errors.py` tries all of it.
OF_THE_TABLE = [
    (Answer("UnrecognizedClientException"), CredentialRejectedError),
    (Answer("LimitExceededException"), QuotaExceededError),
    (Answer("ThrottlingException"), ThrottledError),
    (Answer("InternalServiceError", status=500), OutcomeUnknownError),
    (Answer("BrandNewException"), DestinationRejectedError),
]


@pytest.mark.parametrize(
    ("operation", "answer", "expected"),
    [
        *((operation, *refused) for operation in sorted(WRITES) for refused in OF_EACH_CALL),
        *(("PutSecretValue", *refused) for refused in OF_THE_TABLE),
    ],
    ids=shown,
)
def test_a_refused_write_becomes_its_class(
    emulator: AwsEmulator,
    on_emulator: AwsSecretsManager,
    operation: str,
    answer: Answer,
    expected: type[PhasesyncError],
):
    emulator.fail(operation, answer, times=10)
    with pytest.raises(PhasesyncError) as caught:
        WRITES[operation](on_emulator)
    assert type(caught.value) is expected
    if isinstance(caught.value, PermissionDeniedError):
        assert caught.value.action == f"secretsmanager:{operation}"


@pytest.mark.reads_values("port")
@pytest.mark.parametrize("operation", sorted(READS))
@pytest.mark.parametrize(("answer", "expected"), REFUSED_READS, ids=shown)
def test_a_refused_read_is_never_taken_for_absence(
    emulator: AwsEmulator,
    on_emulator: AwsSecretsManager,
    operation: str,
    answer: Answer,
    expected: type[PhasesyncError],
):
    emulator.fail(operation, answer, times=10)
    with pytest.raises(PhasesyncError) as caught:
        READS[operation](on_emulator)
    assert type(caught.value) is expected
    if isinstance(caught.value, PermissionDeniedError):
        assert caught.value.action == f"secretsmanager:{operation}"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [*REFUSED_READS, (Answer("InvalidNextTokenException"), DestinationRejectedError)],
    ids=shown,
)
def test_a_sweep_that_fails_on_its_way_does_not_end_as_if_it_were_whole(
    emulator: AwsEmulator, on_emulator: AwsSecretsManager, answer: Answer, expected: type[PhasesyncError]
):
    emulator.fail("ListSecrets", garbled(b'{"SecretList": [], "NextToken": "more"}'))
    emulator.fail("ListSecrets", answer, nth=2, times=10)
    with pytest.raises(PhasesyncError) as caught:
        list(on_emulator.sweep(INSTANCE))
    assert type(caught.value) is expected


@pytest.mark.parametrize("operation", sorted(set(WRITES) - {"CreateSecret"}))
def test_a_write_to_what_is_gone_says_that_it_changed(
    emulator: AwsEmulator, on_emulator: AwsSecretsManager, operation: str
):
    emulator.fail(operation, Answer("ResourceNotFoundException"))
    with pytest.raises(RemoteChangedError):
        WRITES[operation](on_emulator)


@pytest.mark.parametrize("code", ["ResourceNotFoundException", "InvalidRequestException"])
@pytest.mark.parametrize("operation", ["GetResourcePolicy", "ValidateResourcePolicy"])
def test_the_policy_of_what_is_gone_is_not_taken_for_none(
    emulator: AwsEmulator, on_emulator: AwsSecretsManager, operation: str, code: str
):
    emulator.fail(operation, Answer(code))
    with pytest.raises(RemoteChangedError) as caught:
        READS[operation](on_emulator)
    assert caught.value.code == code
    assert caught.value.__context__ is None


@pytest.mark.parametrize("operation", ["DeleteSecret", "ReplicateSecretToRegions", "PutResourcePolicy"])
def test_a_write_whose_answer_is_lost_may_have_landed(
    emulator: AwsEmulator, on_emulator: AwsSecretsManager, operation: str
):
    emulator.fail(operation, when="after", times=3)
    with pytest.raises(OutcomeUnknownError):
        WRITES[operation](on_emulator)
    landed = {
        "DeleteSecret": lambda: "DeletedDate" in emulator.outside.describe(NAME),
        "ReplicateSecretToRegions": lambda: "ReplicationStatus" in emulator.outside.describe(NAME),
        "PutResourcePolicy": lambda: on_emulator.resource_policy(NAME) == POLICY,
    }
    assert landed[operation]()
