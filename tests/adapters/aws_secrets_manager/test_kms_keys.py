"""KMS keys: which are fit for a secret, and what is made of KMS's refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest

from phasesync.adapters.aws.session import AwsClients
from phasesync.adapters.aws_secrets_manager.kms_keys import resolve_key
from phasesync.demo.canary import CANARY_VALUE, assert_absent
from phasesync.emulator import DROP, Answer, AwsEmulator, garbled
from phasesync.errors import (
    CredentialRejectedError,
    DestinationRejectedError,
    DestinationUnavailableError,
    InvalidInputError,
    PermissionDeniedError,
    PhasesyncError,
    ThrottledError,
)
from tests.support.aws import OTHER_ACCOUNT, REGION
from tests.support.aws_builders import access_key_credential, role_credential

KEY_ID = "1234abcd-12ab-34cd-56ef-1234567890ab"
ARN = f"arn:aws:kms:{REGION}:123456789012:key/{KEY_ID}"


def resolve(clients: AwsClients, key: str = KEY_ID) -> str:
    return resolve_key(clients, access_key_credential(), REGION, key)


def described(**changes: Any) -> Answer:
    """An answer of DescribeKey about a key that is fit; one thing of it changed."""
    key = {
        "KeyId": KEY_ID,
        "Arn": ARN,
        "KeyManager": "CUSTOMER",
        "KeyState": "Enabled",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "KeyUsage": "ENCRYPT_DECRYPT",
        **changes,
    }
    return garbled(json.dumps({"KeyMetadata": key}).encode())


def test_a_fit_key_is_returned_as_its_arn(emulator: AwsEmulator, emulator_clients: AwsClients):
    emulator.fail("DescribeKey", described())
    assert resolve(emulator_clients) == ARN


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"KeyState": "Disabled"}, "Disabled"),
        ({"KeyState": "PendingDeletion"}, "PendingDeletion"),
        ({"KeyState": "PendingImport"}, "PendingImport"),
        ({"KeyState": None}, "not reported"),
        ({"KeyState": f"<{CANARY_VALUE}>"}, "not reported"),
        ({"KeySpec": "RSA_2048"}, "RSA_2048"),
        ({"KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"}, "GENERATE_VERIFY_MAC"),
        ({"KeyManager": "AWS"}, "AWS manages"),
        ({"Arn": ARN.replace(REGION, "us-east-1")}, "us-east-1"),
    ],
)
def test_a_key_that_is_not_fit_is_refused(
    emulator: AwsEmulator, emulator_clients: AwsClients, changes: dict[str, Any], said: str
):
    emulator.fail("DescribeKey", described(**changes))
    with pytest.raises(InvalidInputError, match=said) as caught:
        resolve(emulator_clients)
    assert caught.value.hint
    assert_absent(repr(vars(caught.value)), [CANARY_VALUE])


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer("NotFoundException", CANARY_VALUE), InvalidInputError),
        (Answer("InvalidArnException", CANARY_VALUE), InvalidInputError),
        (Answer("ValidationException", CANARY_VALUE), InvalidInputError),
        (Answer("AccessDeniedException", CANARY_VALUE), PermissionDeniedError),
        (Answer("ThrottlingException"), ThrottledError),
        (Answer("UnrecognizedClientException"), CredentialRejectedError),
        (Answer("DependencyTimeoutException"), DestinationUnavailableError),
        (Answer("KMSInternalException", status=500), DestinationUnavailableError),
        (Answer("BrandNewException"), DestinationRejectedError),
        (DROP, DestinationUnavailableError),
        (garbled(b"{}"), DestinationUnavailableError),
    ],
    ids=lambda value: str(value.code) if isinstance(value, Answer) else value.__name__,
)
def test_what_kms_says_becomes_a_class_of_ours(
    emulator: AwsEmulator, emulator_clients: AwsClients, answer: Answer, expected: type[PhasesyncError]
):
    emulator.fail("DescribeKey", answer, times=10)
    with pytest.raises(PhasesyncError) as caught:
        resolve(emulator_clients, "alias/shop")
    assert type(caught.value) is expected
    assert_absent(repr(vars(caught.value)), [CANARY_VALUE])


@pytest.mark.parametrize("key", [ARN, ARN.replace(KEY_ID, "mrk-" + "0" * 32)])
def test_only_a_denial_has_an_arn_taken_unseen(emulator: AwsEmulator, emulator_clients: AwsClients, key: str):
    emulator.fail("DescribeKey", Answer("AccessDeniedException"), times=10)
    assert resolve(emulator_clients, key) == key
    emulator.faults.clear()
    emulator.fail("DescribeKey", Answer("ThrottlingException"), times=10)
    with pytest.raises(ThrottledError):
        resolve(emulator_clients, key)


def test_a_denial_names_the_action_and_the_way_out(emulator: AwsEmulator, emulator_clients: AwsClients):
    emulator.deny("kms:DescribeKey")
    with pytest.raises(PermissionDeniedError, match="kms:DescribeKey") as caught:
        resolve(emulator_clients, "alias/shop")
    assert caught.value.action == "kms:DescribeKey"
    assert "full ARN of the key" in str(caught.value.hint)
    assert caught.value.__context__ is None


def test_what_needs_no_answer_is_not_asked(emulator: AwsEmulator, emulator_clients: AwsClients):
    assert resolve(emulator_clients, "default") == resolve(emulator_clients, "alias/aws/secretsmanager") == "default"
    for key in ("shop", ARN.replace(REGION, "us-east-1"), f"arn:aws:kms:us-east-1:{OTHER_ACCOUNT}:alias/shop"):
        with pytest.raises(InvalidInputError):
            resolve(emulator_clients, key)
    assert emulator.count("DescribeKey") == 0


def test_a_session_that_has_ended_is_opened_anew(emulator: AwsEmulator, emulator_clients: AwsClients):
    role = role_credential(f"arn:aws:iam::{OTHER_ACCOUNT}:role/phasesync")
    arn = emulator.outside.at(account=OTHER_ACCOUNT).create_key()
    assert resolve_key(emulator_clients, role, REGION, arn) == arn
    emulator.end_sessions()
    assert resolve_key(emulator_clients, role, REGION, arn) == arn
    assert emulator.count("AssumeRole") == 2
