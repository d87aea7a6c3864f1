"""
Translates what a call of AWS raised into the classes of `phasesync.errors`. The table is in `error_codes.py`.

Must not pass on the text of an exception: botocore repeats arguments, secrets included. A message here is made of
codes, class names, IAM actions and numbers. AWS's own message is shown only if the request has no secret argument;
otherwise it is only searched for fixed phrases.
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from phasesync.adapters.aws.error_codes import OUT_OF_DESCRIPTORS, TLS_FAILED, class_of_code, row_of_exception
from phasesync.adapters.aws.response_check import is_from_aws, may_have_reached_aws
from phasesync.errors import (
    CredentialRejectedError,
    DestinationRejectedError,
    DestinationUnavailableError,
    Hint,
    OutcomeUnknownError,
    PermissionDeniedError,
    PhasesyncError,
    QuotaExceededError,
    RemoteChangedError,
    ThrottledError,
)

_UNREACHABLE_HINT: Final = "check the Region's name, the network, the proxy and AWS_ENDPOINT_URL"
_TLS_HINT: Final = (
    "behind a proxy that opens TLS, or with an endpoint of your own, name the file with its CA: AWS_CA_BUNDLE, "
    "ca_bundle in ~/.aws/config, or REQUESTS_CA_BUNDLE; else check that the file named there exists"
)
_HINTS: Final = {
    TLS_FAILED: _TLS_HINT,
    OUT_OF_DESCRIPTORS: "raise the limit: LimitNOFILE in the systemd unit, or ulimit -n; or lower daemon.workers",
}
"""What happened -> a hint."""
_IN_BETWEEN_HINT: Final = (
    "check the proxy (HTTPS_PROXY, NO_PROXY), the firewall and AWS_ENDPOINT_URL: a page of theirs came instead of "
    "AWS's answer"
)
_PROXY_AUTHENTICATION_HINT: Final = (
    "the proxy asks for a sign-in: write user and password into HTTPS_PROXY, or correct them"
)
_PROXY_AUTHENTICATION: Final = 407
_TOO_MANY_REQUESTS: Final = 429
_CLOCK_HINT: Final = "check this machine's clock: AWS refuses requests that are more than 5 minutes off"
_CREDENTIAL_HINTS: Final[Mapping[str, str]] = {
    "RegionDisabledException": "enable the Region in the AWS account, or use another one",
    "OptInRequired": "enable the Region or the service in the AWS account",
    "SubscriptionRequiredException": "enable the Region or the service in the AWS account",
    "UnrecognizedClientException": "check the access key, and that the Region is enabled in the AWS account",
    "InvalidClientTokenId": "check the access key, and that the Region is enabled in the AWS account",
    "RequestExpired": _CLOCK_HINT,
    "RequestTimeTooSkewed": _CLOCK_HINT,
    "RequestInTheFuture": _CLOCK_HINT,
}
_CODE: Final = re.compile(r"[A-Za-z0-9._:-]{1,80}")
_SESSION_TOO_LONG: Final = re.compile(r"DurationSeconds exceeds the (MaxSessionDuration|1 hour session limit)")
_SESSION_TOO_LONG_HINT: Final = (
    "a shorter --ttl; or a role that allows longer ones: aws iam update-role --role-name ROLE --max-session-duration "
    "SECONDS. A role that another role assumes has sessions of an hour at most"
)
_EXPLAINED_BY_AWS: Final = (DestinationRejectedError, QuotaExceededError, RemoteChangedError)
"""Classes of errors about which AWS's message says more than its code."""
_LONG_ARGUMENT: Final = re.compile(r"'[^']{41,}'")
"""AWS repeats a value that failed a constraint in single quotes. A tag is short; a longer text is not repeated."""
_MAX_QUOTED_CHARACTERS: Final = 400
_ALREADY_EXISTS: Final = ("ResourceExistsException", "EntityAlreadyExists")


def translate(
    exc: Exception, *, action: str, write: bool, landed: bool | None = None, quotable: bool = False
) -> PhasesyncError:
    """
    Return the error to raise in place of what a call of AWS raised.

    Args:
        exc: what a botocore client raised.
        action: IAM action of the call, such as `secretsmanager:PutSecretValue`.
        write: the call changes something, so that a lost response is an OutcomeUnknownError.
        landed: whether AWS may have carried out any attempt, retries of the SDK included; None if the attempts were not
            observed: then anything that is not certain counts as may-have-landed.
        quotable: the request has no secret argument, so that AWS's own message may be shown.

    Returns:
        An error without cause; the caller raises it outside of the `except` block, so that it has no context either.
    """
    response = getattr(exc, "response", None)
    if isinstance(response, Mapping) and not is_from_aws(response):
        return _of_other_sender(response, action=action, write=write, landed=landed)
    if isinstance(response, Mapping) and "Error" in response:
        return _of_response(response, action=action, write=write, landed=landed, quotable=quotable)
    return _of_exception(exc, action=action, write=write, landed=landed)


def may_have_landed(caught: Exception | None, response: Mapping[str, Any] | None) -> bool:
    """
    Return whether AWS may have carried out one failed attempt all the same.

    Args:
        caught: what the HTTP layer raised; None if there was a response.
        response: the parsed response; None if there was none.
    """
    if caught is not None:
        return row_of_exception(caught)[1]
    if response is not None and not is_from_aws(response):
        return may_have_reached_aws(response) and _status_of(response) != _TOO_MANY_REQUESTS
    return _class_of(response) is DestinationUnavailableError


def is_throttled(response: Mapping[str, Any] | None) -> bool:
    """Return whether AWS throttled one attempt; `response` as in `may_have_landed`."""
    return _class_of(response) is ThrottledError


def _class_of(response: Mapping[str, Any] | None) -> type[PhasesyncError] | None:
    """Return the class of the error in a response; None if it has no error."""
    if response is None:
        return None
    if not is_from_aws(response):
        return ThrottledError if _status_of(response) == _TOO_MANY_REQUESTS else DestinationUnavailableError
    if "Error" not in response:
        return None
    return class_of_code(str(response["Error"].get("Code", "")), _status_of(response))


def _status_of(response: Mapping[str, Any]) -> int:
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status if isinstance(status, int) else 0


def _of_other_sender(
    response: Mapping[str, Any], *, action: str, write: bool, landed: bool | None
) -> DestinationUnavailableError | ThrottledError | OutcomeUnknownError:
    """Translate a response that something between us and AWS sent: it is no verdict of AWS."""
    metadata, status = response.get("ResponseMetadata", {}), _status_of(response)
    message = f"{action}: HTTP {status} from something on the way to AWS, not from AWS"
    hidden_attempts = landed is None and metadata.get("RetryAttempts", 0) > 0
    if write and (landed or hidden_attempts or (status != _TOO_MANY_REQUESTS and may_have_reached_aws(response))):
        return OutcomeUnknownError(f"{message}; it may have been carried out", code=str(status))
    if status == _TOO_MANY_REQUESTS:
        return ThrottledError(message, retry_after=_retry_after(metadata.get("HTTPHeaders", {})), code=str(status))
    hint = _PROXY_AUTHENTICATION_HINT if status == _PROXY_AUTHENTICATION else _IN_BETWEEN_HINT
    return DestinationUnavailableError(message, hint=hint, code=str(status))


def _of_response(
    response: Mapping[str, Any], *, action: str, write: bool, landed: bool | None, quotable: bool
) -> PhasesyncError:
    """Translate a response of AWS that has an error."""
    metadata = response.get("ResponseMetadata", {})
    raw_code, text = str(response["Error"].get("Code", "")), str(response["Error"].get("Message", ""))
    code = raw_code if _CODE.fullmatch(raw_code) else "unreadable code"
    request_id = _readable(metadata.get("RequestId"))
    cls = class_of_code(code, metadata.get("HTTPStatusCode", 0))
    if write and code not in _ALREADY_EXISTS:
        uncertain = cls is DestinationUnavailableError
        repeated = landed is None and metadata.get("RetryAttempts", 0) > 0
        if landed or uncertain or repeated:
            return OutcomeUnknownError(
                f"{action} failed ({code}) and may have been carried out all the same", code=code, request_id=request_id
            )
    if cls is ThrottledError:
        return ThrottledError(
            f"AWS asks for fewer calls of {action} ({code})",
            retry_after=_retry_after(metadata.get("HTTPHeaders", {})),
            code=code,
            request_id=request_id,
        )
    if cls is PermissionDeniedError:
        return denied(code, text, action=action, request_id=request_id)
    if cls is RemoteChangedError and not write:
        cls = DestinationRejectedError
    if cls is DestinationRejectedError:
        refused = refused_tags(code, text, action=action, request_id=request_id)
        if refused is not None:
            return refused
    message, hint = _message_and_hint(cls, code, text, action)
    if quotable and cls in _EXPLAINED_BY_AWS and (reason := _quoted(text)):
        message += f": {reason}"
    return cls(message, hint=hint, code=code, request_id=request_id)


def _message_and_hint(cls: type[PhasesyncError], code: str, text: str, action: str) -> tuple[str, str | None]:
    """Return message and hint; a hint of None stands for that of the class."""
    if cls is CredentialRejectedError:
        clock_is_off = "Signature expired" in text or "Signature not yet current" in text
        hint = _CLOCK_HINT if clock_is_off else _CREDENTIAL_HINTS.get(code)
        return f"AWS rejected the credential at {action} ({code})", hint
    if cls is DestinationUnavailableError:
        return f"AWS could not carry out {action} ({code})", None
    if cls is QuotaExceededError:
        return f"{action} would exceed a hard quota of AWS ({code})", None
    if _SESSION_TOO_LONG.search(text):
        return (
            f"AWS rejected {action}: the session would be longer than the role allows ({code})",
            _SESSION_TOO_LONG_HINT,
        )
    if cls is RemoteChangedError:
        return f"the remote object is not in a state that allows {action} ({code})", None
    return f"AWS rejected {action} ({code})", None


def _of_exception(exc: Exception, *, action: str, write: bool, landed: bool | None) -> PhasesyncError:
    """Translate what botocore raised without a response of AWS."""
    cls, maybe_sent, reason = row_of_exception(exc)
    if landed and cls is DestinationRejectedError:
        # It was sent, so the response could not be read.
        cls, reason = DestinationUnavailableError, "a garbled answer"
    # Only a failure to connect hides earlier attempts: any other error before sending happens at the first attempt.
    hides_attempts = landed is None and cls in (DestinationUnavailableError, ThrottledError)
    hint = _HINTS.get(reason)
    if write and (landed or maybe_sent or hides_attempts):
        return OutcomeUnknownError(f"{action}: {reason}; it may have been carried out", hint=hint)
    if cls is DestinationUnavailableError:
        return DestinationUnavailableError(f"{action}: {reason}", hint=hint or _UNREACHABLE_HINT)
    if cls is ThrottledError:
        return ThrottledError(f"{action}: {reason}")
    return cls(f"{action}: {reason}")


def _quoted(text: str) -> str:
    """Return AWS's own message on one line, with a limit on its length."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    line = _LONG_ARGUMENT.sub("'…'", line)
    return line if len(line) <= _MAX_QUOTED_CHARACTERS else f"{line[:_MAX_QUOTED_CHARACTERS]}…"


def _readable(value: object) -> str | None:
    return value if isinstance(value, str) and _CODE.fullmatch(value) else None


def _retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """Read the header Retry-After if it has seconds; None if it is absent or a date."""
    value = headers.get("retry-after", "")
    return timedelta(seconds=int(value)) if value.isdecimal() and len(value) < 6 else None


# --- denied permissions: which action, by which kind of policy, and who has to change it
#
# AWS's message is only searched for its fixed phrases: it may repeat arguments.

_KMS_HINT: Final = Hint(
    "check that the KMS key is enabled and that the policies of the role and of the key allow kms:GenerateDataKey, "
    "kms:Decrypt and kms:Encrypt through Secrets Manager: phasesync aws policy {policy_for} prints what a sync needs, "
    "with --kms-key ARN if it leaves the key alone"
)
_KMS_CODES: Final[Mapping[str, str]] = {
    # Secrets Manager encrypts with GenerateDataKey; it decrypts an older version to compare it (guide, KMS page).
    "EncryptionFailure": "kms:GenerateDataKey",
    "DecryptionFailure": "kms:Decrypt",
    "DisabledException": "kms:GenerateDataKey",
    "KMSInvalidStateException": "kms:GenerateDataKey",
    "KeyUnavailableException": "kms:GenerateDataKey",
}
_ROLE_ACTIONS: Final = ("sts:AssumeRole", "sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity")
"""What the trust policy of a role has to allow (IAM User Guide, session tags; source identity)."""
_IN_TRUST_POLICY: Final = "has to be in the trust policy of the role"
_TRUST_HINT: Final = (
    f"{{action}} {_IN_TRUST_POLICY} (phasesync aws trust-policy {{credential}} prints one) and in the policy of the "
    "identity that assumes it"
)
_SESSION_TAGS: Final = "; the assuming session has tags that are passed on, as in EKS Pod Identity"

_PERFORM: Final = re.compile(r"perform: ([a-z0-9-]+:[A-Za-z]+)")
_REASON: Final = re.compile(
    r"(because no|explicit deny in an?) (identity-based policy|resource-based policy|permissions boundary|"
    r"session policy|service control policy|resource control policy|VPC endpoint policy|role trust policy)"
)
"""Kinds of policy as AWS names them (IAM User Guide, access denied error messages)."""
_TAG_POLICY: Final = re.compile(r"\btag polic(y|ies)\b", re.IGNORECASE)
"""Organizations User Guide, tag policies: "The tag policy does not allow the specified value for ... tag key"."""

_ORGANIZATION: Final = (
    "an administrator of the AWS organization has to change the {kind} that applies to this account; the policy of the "
    "role or user does not help: aws organizations list-policies --filter {filter}, in the management account"
)
_OTHER_POLICIES: Final[Mapping[str, str]] = {
    "service control policy": _ORGANIZATION.format(kind="service control policy", filter="SERVICE_CONTROL_POLICY"),
    "resource control policy": _ORGANIZATION.format(kind="resource control policy", filter="RESOURCE_CONTROL_POLICY"),
    "permissions boundary": "{action} has to be allowed by the permissions boundary of the role or user, too: "
    "aws iam get-role --role-name ROLE --query Role.PermissionsBoundary names it",
    "VPC endpoint policy": "{action} has to be allowed by the policy of the VPC endpoint that this host calls AWS "
    "through: aws ec2 describe-vpc-endpoints shows it, aws ec2 modify-vpc-endpoint --policy-document changes it",
    "session policy": "{action} has to be allowed by the session policy as well, which whoever began the session gave "
    "along with it: give the session more rights, or begin it without one",
}
"""Kind of policy -> who has to change it, whether it denies or does not allow."""
_DENY_STATEMENTS: Final[Mapping[str, str]] = {
    "identity-based policy": "a statement with Deny in a policy of the role or user has to go; allowing {action} does "
    "not help against it",
    "resource-based policy": "a statement with Deny in the policy of the secret or KMS key has to go: "
    "aws secretsmanager get-resource-policy --secret-id NAME, aws kms get-key-policy --key-id KEY",
    "role trust policy": "a statement with Deny in the trust policy of the role has to go: aws iam get-role",
}


def denied(code: str, text: str, *, action: str, request_id: str | None) -> PhasesyncError:
    """
    Return the error for a denied call. It names the action that AWS names, or else the action of the call.

    Args:
        code: AWS's error code, one of those for a missing permission.
        text: AWS's message.
        action: of the call.
        request_id: AWS's request id.
    """
    named = _PERFORM.search(text)
    refused = named.group(1) if named else _KMS_CODES.get(code, action)
    reason, hint = _reason(text), hint_for_other_policy(text, refused)
    if refused in _ROLE_ACTIONS:
        more = _SESSION_TAGS if refused == "sts:TagSession" else ""
        hint = hint or (Hint(_TRUST_HINT + more, action=refused) if refused != "sts:AssumeRole" else None)
        message = f"AWS refuses {refused} ({code}){reason}"
        return CredentialRejectedError(message, hint=hint, code=code, request_id=request_id)
    # Secrets Manager says "Access to KMS is not allowed" without naming the action.
    if not named and "KMS" in text and code not in _KMS_CODES:
        refused = "kms:Decrypt" if action.endswith("GetSecretValue") else "kms:GenerateDataKey"
    if not refused.startswith("kms:"):
        message = f"the credential is not allowed to call {refused}{reason}"
        return PermissionDeniedError(message, action=refused, hint=hint, code=code, request_id=request_id)
    return PermissionDeniedError(
        f"the KMS key cannot be used for {action}: {refused} is not allowed or the key is not usable ({code}){reason}",
        action=refused,
        hint=hint or _KMS_HINT,
        code=code,
        request_id=request_id,
    )


def is_about_other_policy(hint: str | None) -> bool:
    """Return whether a hint of `denied` is about a policy that is neither a trust policy nor that of the caller."""
    return hint not in (None, CredentialRejectedError.default_hint) and _IN_TRUST_POLICY not in str(hint)


def refused_tags(code: str, text: str, *, action: str, request_id: str | None) -> PermissionDeniedError | None:
    """Return the error for tags that a tag policy of the organization refuses; None if AWS refuses something else."""
    if _TAG_POLICY.search(text) is None:
        return None
    command = "dynamic" if action.startswith("iam:") else "syncs"
    return PermissionDeniedError(
        f"a tag policy of the AWS organization does not allow the tags of {action} ({code})",
        action=action,
        hint=Hint(
            "give the tags values that it allows: aws organizations describe-effective-policy --policy-type "
            f"TAG_POLICY shows them, phasesync {command} update {{name}} --tag KEY=VALUE sets one"
        ),
        code=code,
        request_id=request_id,
    )


def hint_for_other_policy(text: str, action: str) -> str | None:
    """Return the hint for a denial by another policy than that of the role or user; None if AWS names none."""
    match = _REASON.search(text)
    if match is None:
        return None
    denies, kind = match[1] != "because no", match[2]
    hint = _OTHER_POLICIES.get(kind) or (_DENY_STATEMENTS.get(kind) if denies else None)
    return None if hint is None else hint.format(action=action)


def _reason(text: str) -> str:
    """Return which kind of policy denied the call, if AWS names it in one of its fixed phrases; else an empty text."""
    match = _REASON.search(text)
    if match is None:
        return ""
    return f": no {match[2]} allows it" if match[1] == "because no" else f": denied by a policy ({match[2]})"
