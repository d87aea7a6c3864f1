"""The table of errors: all that is in it, what is not in it, and that nothing of AWS's text gets through."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import botocore.exceptions
import botocore.parsers
import botocore.session
import pytest
from botocore.exceptions import ClientError

from phasesync.adapters.aws import bounded_http, origin
from phasesync.adapters.aws import sdk as calls
from phasesync.adapters.aws.error_codes import CODES, EXCEPTIONS
from phasesync.adapters.aws.errors import may_have_landed, translate
from phasesync.adapters.aws.rate_limits import IAM
from phasesync.adapters.aws.sdk import invoke
from phasesync.demo.canary import CANARY_VALUE, assert_absent
from phasesync.errors import (
    CredentialRejectedError,
    DestinationRejectedError,
    DestinationUnavailableError,
    OutcomeUnknownError,
    PermissionDeniedError,
    PhasesyncError,
    QuotaExceededError,
    RemoteChangedError,
    SettingsError,
    ThrottledError,
)

READ: dict[str, Any] = {"action": "secretsmanager:DescribeSecret", "write": False}
WRITE: dict[str, Any] = {"action": "secretsmanager:PutSecretValue", "write": True}

# Operations that phasesync calls; every error that their API models name has to stand in the table.
USED = {
    "iam": tuple(action.removeprefix("iam:") for group in IAM for action in group.actions),
    "secretsmanager": (
        "CreateSecret",
        "DeleteSecret",
        "DescribeSecret",
        "GetResourcePolicy",
        "GetSecretValue",
        "ListSecrets",
        "PutResourcePolicy",
        "PutSecretValue",
        "RemoveRegionsFromReplication",
        "ReplicateSecretToRegions",
        "RestoreSecret",
        "TagResource",
        "UntagResource",
        "UpdateSecret",
        "ValidateResourcePolicy",
    ),
    "kms": ("DescribeKey",),
    "sts": ("AssumeRole", "GetCallerIdentity"),
}

# From the list of the User Guide on retries; LimitExceededException is a quota at Secrets Manager.
THROTTLING = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottledException",
    "TooManyRequestsException",
    "ProvisionedThroughputExceededException",
    "TransactionInProgressException",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "RequestThrottled",
    "SlowDown",
    "EC2ThrottledException",
]


def answered(code: str, text: str = "", *, status: int = 400, **metadata: Any) -> ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": text},
        "ResponseMetadata": {"HTTPStatusCode": status, "RequestId": "request-1", "RetryAttempts": 0, **metadata},
    }
    return ClientError(response, "Operation")


def raised(name: str) -> Exception:
    """An exception of botocore or of what watches it, made without its arguments."""
    modules = (botocore.exceptions, botocore.parsers, origin, calls, bounded_http)
    cls = next(getattr(module, name) for module in modules if hasattr(module, name))
    made = cls.__new__(cls)
    assert isinstance(made, Exception)
    return made


def test_every_code_becomes_its_class_when_reading():
    for code in CODES:
        error = translate(answered(code), **READ)
        expected = DestinationRejectedError if CODES[code] is RemoteChangedError else CODES[code]
        assert (type(error), error.code, error.request_id) == (expected, code, "request-1")
        assert code in error.message or isinstance(error, PermissionDeniedError)


def test_every_code_becomes_its_class_when_writing():
    for code in CODES:
        # A service that failed may have failed after the write.
        expected = OutcomeUnknownError if CODES[code] is DestinationUnavailableError else CODES[code]
        assert (type(translate(answered(code), **WRITE)), code) == (expected, code)


@pytest.mark.parametrize("how", [READ, WRITE])
def test_an_unknown_code_is_rejected_with_its_code(how: dict[str, Any]):
    error = translate(answered("BrandNewException"), **how)
    assert type(error) is DestinationRejectedError
    assert error.code == "BrandNewException"
    assert "BrandNewException" in error.message


def test_an_unknown_code_of_a_failing_service_is_no_refusal():
    assert type(translate(answered("BrandNew", status=500), **READ)) is DestinationUnavailableError
    assert type(translate(answered("BrandNew", status=500), **WRITE)) is OutcomeUnknownError


@pytest.mark.parametrize("service", sorted(USED))
def test_every_error_of_the_api_models_is_in_the_table(service: str):
    model = botocore.session.get_session().get_service_model(service)
    codes = {
        shape.metadata.get("error", {}).get("code") or shape.name
        for operation in USED[service]
        for shape in model.operation_model(operation).error_shapes
    }
    assert codes - set(CODES) == set()


def test_throttling_is_throttling():
    assert {code: CODES[code] for code in THROTTLING} == dict.fromkeys(THROTTLING, ThrottledError)


def test_a_quota_is_no_throttling():
    assert type(translate(answered("LimitExceededException"), **WRITE)) is QuotaExceededError


def test_throttling_carries_how_long_to_wait():
    error = translate(answered("ThrottlingException", HTTPHeaders={"retry-after": "7"}), **READ)
    assert isinstance(error, ThrottledError)
    assert error.retry_after == timedelta(seconds=7)


# --- which action was refused


@pytest.mark.parametrize(
    ("code", "text", "refused"),
    [
        (
            "AccessDeniedException",
            "User: arn:aws:sts::1:assumed-role/r/s is not authorized to perform: secretsmanager:TagResource on x",
            "secretsmanager:TagResource",
        ),
        ("AccessDeniedException", "no", "secretsmanager:PutSecretValue"),
        ("AccessDeniedException", "Access to KMS is not allowed", "kms:GenerateDataKey"),
        ("AccessDeniedException", "User: x is not authorized to perform: kms:Decrypt on resource: y", "kms:Decrypt"),
        ("EncryptionFailure", "", "kms:GenerateDataKey"),
        ("DecryptionFailure", "", "kms:Decrypt"),
    ],
)
def test_a_denial_names_the_refused_action(code: str, text: str, refused: str):
    error = translate(answered(code, text), **WRITE)
    assert isinstance(error, PermissionDeniedError)
    assert error.action == refused
    assert refused in error.message
    assert error.hint is not None
    assert ("kms-key" in error.hint) == refused.startswith("kms:")


def test_a_denial_says_which_kind_of_policy_it_was():
    text = "... is not authorized to perform: secretsmanager:CreateSecret on resource: x with an explicit deny in a "
    error = translate(answered("AccessDeniedException", text + "service control policy"), **WRITE)
    assert "service control policy" in error.message


def test_a_role_that_may_not_be_assumed_is_a_rejected_credential():
    text = "User: x is not authorized to perform: sts:AssumeRole on resource: y because no identity-based policy allows"
    error = translate(answered("AccessDenied", text, status=403), action="sts:AssumeRole", write=False)
    assert type(error) is CredentialRejectedError
    assert "no identity-based policy" in error.message


def test_a_clock_that_is_off_is_named():
    error = translate(answered("InvalidSignatureException", "Signature expired: 20300101 is now earlier than"), **READ)
    assert type(error) is CredentialRejectedError
    assert error.hint is not None
    assert "clock" in error.hint


# --- what never reached AWS, and what may have


def test_every_exception_of_botocore_becomes_its_class():
    for name, (cls, may_be_sent, _) in EXCEPTIONS.items():
        error = raised(name)
        assert may_have_landed(error, None) is may_be_sent, name
        assert type(translate(error, **READ)) is cls, name
        assert type(translate(error, **WRITE, landed=False)) is (OutcomeUnknownError if may_be_sent else cls), name
        assert type(translate(error, **WRITE, landed=True)) is OutcomeUnknownError, name


@pytest.mark.parametrize("name", ["EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError"])
def test_a_failure_to_connect_that_nobody_watched_may_hide_an_attempt_that_was_sent(name: str):
    assert type(translate(raised(name), **WRITE)) is OutcomeUnknownError
    assert type(translate(raised(name), **READ)) is DestinationUnavailableError


def test_a_refusal_after_a_lost_answer_is_unknown():
    error = translate(answered("ThrottlingException"), **WRITE, landed=True)
    assert type(error) is OutcomeUnknownError
    assert type(translate(answered("ThrottlingException", RetryAttempts=2), **WRITE)) is OutcomeUnknownError
    assert type(translate(answered("ThrottlingException", RetryAttempts=2), **WRITE, landed=False)) is ThrottledError


def test_a_spent_token_is_an_answer_even_after_a_lost_one():
    assert type(translate(answered("ResourceExistsException"), **WRITE, landed=True)) is RemoteChangedError


def test_an_exception_in_no_row_may_have_been_sent():
    assert type(translate(RuntimeError(CANARY_VALUE), **WRITE)) is OutcomeUnknownError
    assert type(translate(RuntimeError(CANARY_VALUE), **READ)) is DestinationUnavailableError


def test_a_subclass_follows_its_base():
    assert type(translate(raised("ResponseStreamingError"), **READ)) is DestinationUnavailableError
    assert type(translate(raised("UnauthorizedSSOTokenError"), **READ)) is CredentialRejectedError
    assert type(translate(raised("UnknownEndpointError"), **READ)) is SettingsError


# --- nothing gets through


@pytest.mark.parametrize("where", ["code", "text", "request id"])
def test_nothing_that_aws_says_is_repeated(where: str):
    error = translate(
        answered(
            CANARY_VALUE if where == "code" else "ValidationException",
            CANARY_VALUE if where == "text" else "",
            RequestId=CANARY_VALUE if where == "request id" else "request-1",
        ),
        **WRITE,
    )
    assert_absent(repr((error.args, error.message, error.hint, error.code, error.request_id)), [CANARY_VALUE])


def test_the_original_is_not_kept():
    def call() -> None:
        raise RuntimeError(CANARY_VALUE)

    with pytest.raises(PhasesyncError) as caught:
        invoke(call, **WRITE)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
