"""The table of errors: all that is in it, what is not in it, and that nothing of AWS's text gets through."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.exceptions
import botocore.parsers
import botocore.session
import pytest
import urllib3.exceptions
from botocore.exceptions import ClientError

from phasesync.adapters.aws import bounded_http, response_check
from phasesync.adapters.aws import sdk as calls
from phasesync.adapters.aws.error_codes import CODES, EXCEPTIONS
from phasesync.adapters.aws.errors import denied, may_have_landed, refused_tags, translate
from phasesync.adapters.aws.rate_limits import IAM
from phasesync.adapters.aws.sdk import invoke
from phasesync.adapters.aws.session import AwsClients
from phasesync.demo.canary import CANARY_VALUE, assert_absent
from phasesync.emulator import Answer
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
from tests.support.aws import REGION, Aws
from tests.support.aws_builders import INSTANCE, HandClock, access_key_credential, no_sources

READ: dict[str, Any] = {"action": "secretsmanager:DescribeSecret", "write": False}
WRITE: dict[str, Any] = {"action": "secretsmanager:PutSecretValue", "write": True}

# Operations that phasesync calls; every error that their API models name has to stand in the table.
USED = {
    "sns": ("Publish",),
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

# Codes of each class, written out: those that phasesync meets in practice. Lists of the User Guide on retries, of the
# API models and of AWS's common errors.
IMPORTANT: dict[type[PhasesyncError], tuple[str, ...]] = {
    RemoteChangedError: (
        "InvalidRequestException",
        "ResourceExistsException",
        "ResourceNotFoundException",
        "NoSuchEntity",
        "EntityAlreadyExists",
        "DeleteConflict",
        "ConcurrentModification",
        "EntityTemporarilyUnmodifiable",
    ),
    # A quota at Secrets Manager and IAM, although SDKs retry the first as throttling.
    QuotaExceededError: ("LimitExceededException", "LimitExceeded"),
    PermissionDeniedError: (
        "AccessDenied",
        "AccessDeniedException",
        "UnauthorizedOperation",
        "EncryptionFailure",
        "DecryptionFailure",
        "DisabledException",
        "KMSInvalidStateException",
        "KeyUnavailableException",
    ),
    CredentialRejectedError: (
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "OptInRequired",
        "RegionDisabledException",
        "InvalidIdentityToken",
        "MissingAuthenticationToken",
    ),
    ThrottledError: (
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
    ),
    DestinationUnavailableError: (
        "InternalServiceError",
        "InternalFailure",
        "InternalServerError",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "RequestTimeout",
        "KMSInternalException",
        "DependencyTimeoutException",
        "ServiceFailure",
    ),
    DestinationRejectedError: (
        "InvalidParameterException",
        "ValidationException",
        "ValidationError",
        "MalformedPolicyDocumentException",
        "PublicPolicyException",
        "MalformedPolicyDocument",
        "PackedPolicyTooLarge",
        "NotFoundException",
        "InvalidInput",
        "UnmodifiableEntity",
    ),
}


def answered(code: str, text: str = "", *, status: int = 400, **metadata: Any) -> ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": text},
        "ResponseMetadata": {"HTTPStatusCode": status, "RequestId": "request-1", "RetryAttempts": 0, **metadata},
    }
    return ClientError(response, "Operation")


def raised(name: str) -> Exception:
    """An exception of botocore or of what watches it, made without its arguments."""
    modules = (botocore.exceptions, botocore.parsers, urllib3.exceptions, response_check, calls, bounded_http)
    cls = next(getattr(module, name) for module in modules if hasattr(module, name))
    exception = cls.__new__(cls)
    assert isinstance(exception, Exception)
    return exception


@pytest.mark.parametrize("expected", list(IMPORTANT), ids=lambda cls: cls.__name__)
def test_important_codes_become_their_class(expected: type[PhasesyncError]):
    for code in IMPORTANT[expected]:
        # In a read nothing changed that a new plan could observe.
        reading = DestinationRejectedError if expected is RemoteChangedError else expected
        assert type(translate(answered(code), **READ)) is reading, code
        # A service that failed may have failed after the write.
        writing = OutcomeUnknownError if expected is DestinationUnavailableError else expected
        assert type(translate(answered(code), **WRITE)) is writing, code


def test_every_row_of_the_table_is_translated():
    """Codes that are not written out above follow the same rules."""
    assert set(CODES.values()) == set(IMPORTANT)
    for code, cls in CODES.items():
        error = translate(answered(code), **READ)
        assert type(error) is (DestinationRejectedError if cls is RemoteChangedError else cls), code
        assert (error.code, error.request_id) == (code, "request-1")
        assert code in error.message or isinstance(error, PermissionDeniedError), code
        error = translate(answered(code), **WRITE)
        assert type(error) is (OutcomeUnknownError if cls is DestinationUnavailableError else cls), code


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


@pytest.mark.parametrize(
    ("name", "reading", "may_be_sent"),
    [
        ("EndpointConnectionError", DestinationUnavailableError, False),
        ("ConnectTimeoutError", DestinationUnavailableError, False),
        ("ProxyConnectionError", DestinationUnavailableError, False),
        ("CallOverdueError", DestinationUnavailableError, False),
        ("SSLError", DestinationUnavailableError, True),
        ("ReadTimeoutError", DestinationUnavailableError, True),
        ("ConnectionClosedError", DestinationUnavailableError, True),
        ("HTTPClientError", DestinationUnavailableError, True),
        ("NotFromAwsError", DestinationUnavailableError, True),
        ("IncompleteResponseError", DestinationUnavailableError, True),
        ("ResponseTooLargeError", DestinationUnavailableError, True),
        ("ResponseParserError", DestinationUnavailableError, True),
        ("NoCredentialsError", CredentialRejectedError, False),
        ("ProfileNotFound", CredentialRejectedError, False),
        ("ParamValidationError", DestinationRejectedError, False),
        ("NoRegionError", SettingsError, False),
    ],
)
def test_important_exceptions_become_their_class(name: str, reading: type[PhasesyncError], may_be_sent: bool):
    error = raised(name)
    assert may_have_landed(error, None) is may_be_sent
    assert type(translate(error, **READ)) is reading
    assert type(translate(error, **WRITE, landed=False)) is (OutcomeUnknownError if may_be_sent else reading)
    assert type(translate(error, **WRITE, landed=True)) is OutcomeUnknownError


def test_every_exception_of_the_table_is_translated():
    """Each row is an exception that exists. Only one that comes from the network may have been sent."""
    for name, (cls, may_be_sent, reason) in EXCEPTIONS.items():
        error = raised(name)
        assert cls is DestinationUnavailableError or not may_be_sent, name
        assert may_have_landed(error, None) is may_be_sent, name
        read = translate(error, **READ)
        assert (type(read), reason in read.message) == (cls, True), name
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


# --- which policy has to change, and when AWS's own reason may be shown

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
