"""The root key at AWS KMS: it is asked when an installation is opened, and each of its refusals says what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from phasesync.adapters.aws.sdk import CallLimits
from phasesync.adapters.root_keys.kms import decrypt_root_key, generate_root_key
from phasesync.emulator import Answer
from phasesync.errors import (
    DestinationUnavailableError,
    Disposition,
    KeyUnavailableError,
    PermissionDeniedError,
    PhasesyncError,
    ThrottledError,
)
from tests.support.aws import REGION, Aws

LIMITS = CallLimits(attempts=1)
OURS = "instance-1"


def make_kms_key(aws: Aws) -> str:
    """Make a KMS key; return its ARN."""
    metadata: dict[str, Any] = aws.boto("kms").create_key(Description="root keys")["KeyMetadata"]
    return str(metadata["Arn"])


def refusal(call: Callable[[], object]) -> PhasesyncError:
    """Return the error that a call ends with."""
    with pytest.raises(PhasesyncError) as refused:
        call()
    assert refused.value.__cause__ is None
    return refused.value


def test_what_kms_made_it_opens_again_and_shows_nothing_of(aws: Aws) -> None:
    arn = make_kms_key(aws)
    made, wrapped = generate_root_key(arn, OURS, LIMITS)
    opened = decrypt_root_key(arn, wrapped, OURS, LIMITS)
    assert (opened.material, opened.id) == (made.material, made.id)
    assert made.material not in wrapped
    assert (opened.kind, opened.source) == ("aws-kms", f"the KMS key {arn}")
    assert repr(opened.material) not in repr(opened)


def test_a_wrapped_key_of_another_installation_is_refused(aws: Aws) -> None:
    arn = make_kms_key(aws)
    _, wrapped = generate_root_key(arn, OURS, LIMITS)
    error = refusal(lambda: decrypt_root_key(arn, wrapped, "instance-2", LIMITS))
    assert isinstance(error, KeyUnavailableError)
    assert "another installation" in error.message
    assert (error.exit_code, error.disposition) == (6, Disposition.HALT)


@pytest.mark.parametrize(
    ("code", "kind", "exit_code", "disposition", "says", "hint"),
    [
        ("ThrottlingException", ThrottledError, 7, Disposition.RETRY, "fewer calls", "repeat"),
        ("KMSInternalException", DestinationUnavailableError, 7, Disposition.RETRY, "could not carry out", "repeat"),
        ("KeyUnavailableException", DestinationUnavailableError, 7, Disposition.RETRY, "not available", "repeat"),
        ("DisabledException", KeyUnavailableError, 6, Disposition.HALT, "is disabled", "aws kms enable-key"),
        (
            "KMSInvalidStateException",
            KeyUnavailableError,
            6,
            Disposition.HALT,
            "about to be deleted",
            "aws kms cancel-key-deletion",
        ),
        ("NotFoundException", KeyUnavailableError, 6, Disposition.HALT, "does not exist", "names the KMS key"),
        ("IncorrectKeyException", KeyUnavailableError, 6, Disposition.HALT, "did not make it", "names the KMS key"),
        (
            "AccessDeniedException",
            PermissionDeniedError,
            7,
            Disposition.HALT,
            "may not call kms:Decrypt",
            "phasesync aws policy --root-key",
        ),
    ],
)
def test_each_refusal_says_what_is_wrong_and_what_to_do(
    code: str,
    kind: type[PhasesyncError],
    exit_code: int,
    disposition: Disposition,
    says: str,
    hint: str,
    aws: Aws,
) -> None:
    arn = make_kms_key(aws)
    _, wrapped = generate_root_key(arn, OURS, LIMITS)
    aws.server.faults.fail("Decrypt", Answer(code, status=500 if "Internal" in code else 400), times=None)
    error = refusal(lambda: decrypt_root_key(arn, wrapped, OURS, LIMITS))
    assert (type(error), error.exit_code, error.disposition) == (kind, exit_code, disposition)
    assert says in error.message
    assert "the root key cannot be opened" in error.message
    assert hint in (error.hint or "")


def test_an_outage_is_said_to_pass(aws: Aws) -> None:
    arn = make_kms_key(aws)
    aws.server.faults.fail("GenerateDataKey", times=None)
    error = refusal(lambda: generate_root_key(arn, OURS, LIMITS))
    assert (type(error), error.exit_code) == (DestinationUnavailableError, 7)


def test_without_credentials_the_identity_is_named(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    arn = f"arn:aws:kms:{REGION}:111122223333:key/1234"
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    error = refusal(lambda: decrypt_root_key(arn, b"wrapped", OURS, LIMITS))
    assert error.exit_code == 7
    assert error.hint is not None
    assert "get-caller-identity" in error.hint
