"""
The table of errors: error codes of AWS and exceptions of botocore, with the class of ours for each.

Data only. Exceptions of botocore are given by name, so that a command that never calls AWS need not import it.
"""

from collections.abc import Mapping
from typing import Final

from phasesync.errors import (
    CredentialRejectedError,
    DestinationRejectedError,
    DestinationUnavailableError,
    PermissionDeniedError,
    PhasesyncError,
    QuotaExceededError,
    RemoteChangedError,
    SettingsError,
    ThrottledError,
)

_BY_CLASS: Final[Mapping[type[PhasesyncError], str]] = {
    # Errors of Secrets Manager and IAM (their API models) that mean: the object is gone, or not in the expected state.
    RemoteChangedError: (
        "InvalidRequestException ResourceExistsException ResourceNotFoundException"
        " NoSuchEntity EntityAlreadyExists DeleteConflict ConcurrentModification EntityTemporarilyUnmodifiable"
    ),
    # A hard quota at Secrets Manager (versions, labels, secrets), although SDKs retry this code as throttling; at IAM.
    QuotaExceededError: "LimitExceededException LimitExceeded",
    PermissionDeniedError: (
        "AccessDenied AccessDeniedException UnauthorizedOperation NotAuthorized UnauthorizedAccess"
        # The state of a KMS key or our permissions on it: a person has to correct it, so retries are slow.
        " EncryptionFailure DecryptionFailure DisabledException KMSInvalidStateException KeyUnavailableException"
        # S3.
        " AllAccessDisabled"
        # SNS.
        " AuthorizationError KMSAccessDenied KMSDisabled KMSInvalidState KMSNotFound"
    ),
    CredentialRejectedError: (
        "UnrecognizedClientException InvalidClientTokenId InvalidAccessKeyId InvalidToken AuthFailure"
        " SignatureDoesNotMatch InvalidSignatureException IncompleteSignature IncompleteSignatureException"
        " MissingAuthenticationToken MissingAuthenticationTokenException InvalidSecurity TokenRefreshRequired"
        " ExpiredToken ExpiredTokenException OptInRequired SubscriptionRequiredException"
        " RequestExpired RequestTimeTooSkewed RequestInTheFuture"
        " AccountProblem NotSignedUp RegionDisabledException InvalidIdentityToken IDPRejectedClaim"
        " ExpiredTradeInTokenException OutboundWebIdentityFederationDisabledException"
        " SessionDurationEscalationException KMSOptInRequired"
    ),
    # The lists of the guide's page on retries and of botocore's standard mode, without LimitExceededException.
    ThrottledError: (
        "Throttling ThrottlingException ThrottledException RequestThrottledException TooManyRequestsException"
        " ProvisionedThroughputExceededException TransactionInProgressException RequestLimitExceeded"
        " BandwidthLimitExceeded RequestThrottled SlowDown EC2ThrottledException PriorRequestNotComplete"
        " Throttled KMSThrottling"
    ),
    DestinationUnavailableError: (
        "InternalServiceError InternalServiceErrorException InternalFailure InternalServerError"
        " InternalServerException InternalError InternalErrorException ServiceUnavailable"
        " ServiceUnavailableException ServiceUnavailableError Unavailable RequestTimeout RequestTimeoutException"
        " ConnectionError HTTPClientError IDPCommunicationError KMSInternalException DependencyTimeoutException"
        " ServiceFailure"
    ),
    DestinationRejectedError: (
        "InvalidParameterException InvalidNextTokenException MalformedPolicyDocumentException"
        " PublicPolicyException PreconditionNotMetException MalformedPolicyDocument PackedPolicyTooLarge"
        " JWTPayloadSizeExceededException InvalidAuthorizationMessageException NotFoundException"
        " InvalidArnException InvalidKeyUsageException InvalidGrantTokenException InvalidCiphertextException"
        " IncorrectKeyException DryRunOperationException UnsupportedOperationException ValidationError"
        " ValidationException InvalidAction InvalidParameterCombination InvalidParameterValue"
        " InvalidQueryParameter MalformedQueryString MissingAction MissingParameter SerializationException"
        " UnknownOperationException RequestEntityTooLarge RequestEntityTooLargeException"
        " InvalidInput PolicyNotAttachable UnmodifiableEntity NotSupportedService"
        " InvalidParameter ParameterValueInvalid NotFound EndpointDisabled PlatformApplicationDisabled"
        # S3.
        " NoSuchBucket NoSuchKey NoSuchUpload PermanentRedirect AuthorizationHeaderMalformed InvalidBucketName"
        " BadDigest InvalidDigest XAmzContentSHA256Mismatch EntityTooLarge EntityTooSmall InvalidPart InvalidPartOrder"
        " PreconditionFailed InvalidRequest MalformedXML InvalidObjectState"
    ),
}

CODES: Final[Mapping[str, type[PhasesyncError]]] = {
    code: error for error, codes in _BY_CLASS.items() for code in codes.split()
}
"""AWS error code -> class. Sources: the API models of Secrets Manager, IAM, STS, KMS and SNS, the list of S3,
AWS's common errors, and status codes if a response has no code. A code that is not listed is a
DestinationRejectedError."""

TLS_FAILED: Final = "TLS failed"
OUT_OF_DESCRIPTORS: Final = "this process, or its host, has too many open files"

_UNSENT: Final = False
_MAYBE_SENT: Final = True

EXCEPTIONS: Final[Mapping[str, tuple[type[PhasesyncError], bool, str]]] = {
    # class of botocore -> our class, whether it may have reached AWS, what happened
    "EndpointConnectionError": (DestinationUnavailableError, _UNSENT, "no connection"),
    "ConnectTimeoutError": (DestinationUnavailableError, _UNSENT, "no connection within the time limit"),
    # Ours and urllib3's, which botocore wraps.
    "NameResolutionError": (DestinationUnavailableError, _UNSENT, "the DNS does not know the name of the host"),
    "LookupTimeoutError": (DestinationUnavailableError, _UNSENT, "the DNS does not answer"),
    "OutOfDescriptorsError": (DestinationUnavailableError, _UNSENT, OUT_OF_DESCRIPTORS),
    "ProxyConnectionError": (DestinationUnavailableError, _UNSENT, "no connection to the proxy"),
    # Most often the handshake; a broken stream looks the same.
    "SSLError": (DestinationUnavailableError, _MAYBE_SENT, TLS_FAILED),
    "ReadTimeoutError": (DestinationUnavailableError, _MAYBE_SENT, "no answer within the time limit"),
    "ConnectionClosedError": (DestinationUnavailableError, _MAYBE_SENT, "the connection was closed"),
    "ConnectionError": (DestinationUnavailableError, _MAYBE_SENT, "the connection failed"),
    "HTTPClientError": (DestinationUnavailableError, _MAYBE_SENT, "the connection failed"),
    "CallOverdueError": (DestinationUnavailableError, _UNSENT, "no answer within the time limit of the whole call"),
    "NotFromAwsError": (DestinationUnavailableError, _MAYBE_SENT, "an answer that is not AWS's"),
    "IncompleteResponseError": (DestinationUnavailableError, _MAYBE_SENT, "half an answer"),
    "ResponseTooLargeError": (DestinationUnavailableError, _MAYBE_SENT, "an answer larger than any of AWS's"),
    "IncompleteReadError": (DestinationUnavailableError, _MAYBE_SENT, "half an answer"),
    "ChecksumError": (DestinationUnavailableError, _MAYBE_SENT, "a garbled answer"),
    "ResponseParserError": (DestinationUnavailableError, _MAYBE_SENT, "a garbled answer"),
    "CapacityNotAvailableError": (ThrottledError, _UNSENT, "the SDK's own limiter is full"),
    "NoCredentialsError": (CredentialRejectedError, _UNSENT, "no AWS credentials were found"),
    "PartialCredentialsError": (CredentialRejectedError, _UNSENT, "the AWS credentials found are incomplete"),
    "CredentialRetrievalError": (CredentialRejectedError, _UNSENT, "the AWS credentials could not be fetched"),
    "MetadataRetrievalError": (CredentialRejectedError, _UNSENT, "the AWS credentials could not be fetched"),
    "TokenRetrievalError": (CredentialRejectedError, _UNSENT, "the AWS sign-in token could not be fetched"),
    "SSOError": (CredentialRejectedError, _UNSENT, "the AWS sign-in has ended or is not set up"),
    "LoginError": (CredentialRejectedError, _UNSENT, "the AWS sign-in has ended or is not set up"),
    "LoginInsufficientPermissions": (
        CredentialRejectedError,
        _UNSENT,
        "it lacks signin:CreateOAuth2Token",
    ),
    "RefreshWithMFAUnsupportedError": (CredentialRejectedError, _UNSENT, "the AWS credentials ask for an MFA code"),
    "NoAuthTokenError": (CredentialRejectedError, _UNSENT, "the AWS sign-in has ended or is not set up"),
    "MissingDependencyException": (
        CredentialRejectedError,
        _UNSENT,
        "a part of the AWS SDK is missing",
    ),
    "InfiniteLoopConfigError": (CredentialRejectedError, _UNSENT, "source_profile leads back to the same profile"),
    "UnknownCredentialError": (CredentialRejectedError, _UNSENT, "the AWS configuration names an unknown source"),
    "ParamValidationError": (DestinationRejectedError, _UNSENT, "the request does not have the form that AWS expects"),
    "ProfileNotFound": (CredentialRejectedError, _UNSENT, "AWS_PROFILE names a profile that does not exist"),
    "ConfigParseError": (CredentialRejectedError, _UNSENT, "the AWS configuration file cannot be read"),
    "ConfigNotFound": (CredentialRejectedError, _UNSENT, "the AWS configuration file does not exist"),
    "InvalidConfigError": (CredentialRejectedError, _UNSENT, "the AWS configuration file is not valid"),
    "InvalidProxiesConfigError": (SettingsError, _UNSENT, "the proxy settings are not valid"),
    "InvalidIMDSEndpointError": (SettingsError, _UNSENT, "the metadata endpoint is not valid"),
    "InvalidRegionError": (SettingsError, _UNSENT, "the Region is not written as AWS writes Regions"),
    "NoRegionError": (SettingsError, _UNSENT, "no Region is set"),
    "BaseEndpointResolverError": (SettingsError, _UNSENT, "the service has no endpoint in this Region"),
    "EndpointProviderError": (SettingsError, _UNSENT, "the service has no endpoint in this Region"),
}
"""Exceptions of botocore, and ours about a response, by the name of the class or of a base class."""


def class_of_code(code: str, status: int) -> type[PhasesyncError]:
    """
    Return the class for a response of AWS.

    Args:
        code: AWS's error code.
        status: the HTTP status; an unknown code with a 5xx status is a failure of the service, not a refusal.
    """
    return CODES.get(code, DestinationUnavailableError if status >= 500 else DestinationRejectedError)


def row_of_exception(exc: Exception) -> tuple[type[PhasesyncError], bool, str]:
    """
    Return the row of the nearest base class.

    An exception that is in no row may have happened after sending, and is no verdict of AWS: the SDK itself failed.
    """
    inner = getattr(exc, "kwargs", {}).get("error")  # An exception of ours that botocore has wrapped.
    if isinstance(inner, Exception) and type(inner).__name__ in EXCEPTIONS:
        return EXCEPTIONS[type(inner).__name__]
    for base in type(exc).__mro__:
        if base.__name__ in EXCEPTIONS:
            return EXCEPTIONS[base.__name__]
    return (DestinationUnavailableError, _MAYBE_SENT, f"the AWS SDK failed with {type(exc).__name__}")
