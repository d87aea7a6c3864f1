"""
What AWS refuses for want of a permission: which action, by which kind of policy, and where that is put right.

The text of AWS is only searched for its fixed phrases: it may repeat arguments.

From what AWS and botocore raise to the classes of `phasesync.errors`; the table itself is in `codes.py`.

Must not let another's text through: botocore repeats arguments, secrets included, so a message here is made of codes,
class names, IAM actions and numbers. The text of AWS is shown where the request had nothing secret in it; else it is
only searched for fixed phrases.
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from phasesync.adapters.aws.error_codes import TLS_FAILED, class_of_code, row_of_exception
from phasesync.adapters.aws.origin import is_of_aws, was_passed_on
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

_KMS_HINT: Final = Hint(
    "check that the KMS key is enabled and that the policies of the role and of the key allow kms:GenerateDataKey, "
    "kms:Decrypt and kms:Encrypt through Secrets Manager: phasesync aws policy {policy_for} prints what a sync needs, "
    "with --kms-key ARN where it leaves the key alone"
)
_KMS_CODES: Final[Mapping[str, str]] = {
    # Secrets Manager encrypts with GenerateDataKey; it decrypts an older version to compare it (guide, KMS page).
    "EncryptionFailure": "kms:GenerateDataKey",
    "DecryptionFailure": "kms:Decrypt",
    "DisabledException": "kms:GenerateDataKey",
    "KMSInvalidStateException": "kms:GenerateDataKey",
    "KeyUnavailableException": "kms:GenerateDataKey",
}
_OF_ROLES: Final = ("sts:AssumeRole", "sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity")
"""What the trust policy of a role has to allow (IAM User Guide, session tags; source identity)."""
_TRUST: Final = "has to be in the trust policy of the role"
_TRUST_HINT: Final = (
    f"{{action}} {_TRUST} (phasesync aws trust-policy {{credential}} prints one) and in the policy of who assumes it"
)
_SESSION_TAGS: Final = "; the session of who assumes it has tags that go on, as those of EKS Pod Identity have"

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
_PLACES: Final[Mapping[str, str]] = {
    "service control policy": _ORGANIZATION.format(kind="service control policy", filter="SERVICE_CONTROL_POLICY"),
    "resource control policy": _ORGANIZATION.format(kind="resource control policy", filter="RESOURCE_CONTROL_POLICY"),
    "permissions boundary": "{action} has to be allowed by the permissions boundary of the role or user, too: "
    "aws iam get-role --role-name ROLE --query Role.PermissionsBoundary names it",
    "VPC endpoint policy": "{action} has to be allowed by the policy of the VPC endpoint that this host calls AWS "
    "through: aws ec2 describe-vpc-endpoints shows it, aws ec2 modify-vpc-endpoint --policy-document changes it",
    "session policy": "{action} has to be allowed by the session policy as well, which whoever began the session gave "
    "along with it: give the session more rights, or begin it without one",
}
"""Kind of policy -> what puts it right, whether it denies or does not allow."""
_DENYING: Final[Mapping[str, str]] = {
    "identity-based policy": "a statement with Deny in a policy of the role or user has to go; allowing {action} does "
    "not help against it",
    "resource-based policy": "a statement with Deny in the policy of the secret or KMS key has to go: "
    "aws secretsmanager get-resource-policy --secret-id NAME, aws kms get-key-policy --key-id KEY",
    "role trust policy": "a statement with Deny in the trust policy of the role has to go: aws iam get-role",
}


def denied(code: str, text: str, *, action: str, request_id: str | None) -> PhasesyncError:
    """
    Return the error for a refusal: the action that was refused is the one that AWS names, else the call's own.

    Args:
        code: AWS's error code, one of those without permission.
        text: AWS's message.
        action: of the call.
        request_id: AWS's request id.
    """
    named = _PERFORM.search(text)
    refused = named.group(1) if named else _KMS_CODES.get(code, action)
    reason, hint = _reason(text), place_of(text, refused)
    if refused in _OF_ROLES:
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


def names_another_policy(hint: str | None) -> bool:
    """Return whether a hint of `denied` is about another policy than a trust policy or the caller's own."""
    return hint not in (None, CredentialRejectedError.default_hint) and _TRUST not in str(hint)


def refused_tags(code: str, text: str, *, action: str, request_id: str | None) -> PermissionDeniedError | None:
    """Return the error for tags that a tag policy of the organization refuses, None where that is not what AWS says."""
    if _TAG_POLICY.search(text) is None:
        return None
    what = "dynamic" if action.startswith("iam:") else "syncs"
    return PermissionDeniedError(
        f"a tag policy of the AWS organization does not allow the tags of {action} ({code})",
        action=action,
        hint=Hint(
            "give the tags values that it allows: aws organizations describe-effective-policy --policy-type "
            f"TAG_POLICY shows them, phasesync {what} update {{name}} --tag KEY=VALUE sets one"
        ),
        code=code,
        request_id=request_id,
    )


def place_of(text: str, action: str) -> str | None:
    """Return what puts a refusal right where AWS says that another policy than the role's own is in the way."""
    found = _REASON.search(text)
    if found is None:
        return None
    denies, kind = found[1] != "because no", found[2]
    place = _PLACES.get(kind) or (_DENYING.get(kind) if denies else None)
    return None if place is None else place.format(action=action)


def _reason(text: str) -> str:
    """Return which kind of policy refused, where AWS says so in one of its fixed phrases; empty where it does not."""
    found = _REASON.search(text)
    if found is None:
        return ""
    return f": no {found[2]} allows it" if found[1] == "because no" else f": denied by a policy ({found[2]})"


_UNREACHABLE_HINT: Final = "check the Region's name, the network, the proxy and AWS_ENDPOINT_URL"
_TLS_HINT: Final = (
    "behind a proxy that opens TLS, or with an endpoint of your own, name the file with its CA: AWS_CA_BUNDLE, "
    "ca_bundle in ~/.aws/config, or REQUESTS_CA_BUNDLE; else check that the file named there exists"
)
_ON_THE_WAY_HINT: Final = (
    "check the proxy (HTTPS_PROXY, NO_PROXY), the firewall and AWS_ENDPOINT_URL: a page of theirs came instead of "
    "AWS's answer"
)
_PROXY_SIGN_IN_HINT: Final = "the proxy asks for a sign-in: write user and password into HTTPS_PROXY, or correct them"
_PROXY_SIGN_IN: Final = 407
_TOO_MANY: Final = 429
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
_TOO_LONG: Final = re.compile(r"DurationSeconds exceeds the (MaxSessionDuration|1 hour session limit)")
_TOO_LONG_HINT: Final = (
    "a shorter --ttl; or a role that allows longer ones: aws iam update-role --role-name ROLE --max-session-duration "
    "SECONDS. A role that a role assumes is assumed for an hour at most"
)
_REASONED: Final = (DestinationRejectedError, QuotaExceededError, RemoteChangedError)
"""What AWS's own text says more of than its code does."""
_LONG_ARGUMENT: Final = re.compile(r"'[^']{41,}'")
"""AWS repeats what failed a constraint in single quotes; a tag is short, a text is not worth reading again."""
_MOST_QUOTED: Final = 400
"""Characters."""
_ALREADY_THERE: Final = ("ResourceExistsException", "EntityAlreadyExists")


def translate(
    exc: Exception, *, action: str, write: bool, landed: bool | None = None, quotable: bool = False
) -> PhasesyncError:
    """
    Return the error to raise in place of what a call of AWS raised.

    Args:
        exc: whatever came out of a botocore client.
        action: IAM action of the call, such as `secretsmanager:PutSecretValue`.
        write: the call changes something, so that a lost answer is an OutcomeUnknownError.
        landed: whether any attempt, those that the SDK repeated by itself included, may have reached AWS and been
            carried out; None = not watched: then everything that cannot be told counts as may-have-landed.
        quotable: the request has nothing secret in it, so that AWS's own text may be shown.

    Returns:
        An error without cause; the caller raises it outside of the `except` block, so that it has no context either.
    """
    response = getattr(exc, "response", None)
    if isinstance(response, Mapping) and not is_of_aws(response):
        return _of_another(response, action=action, write=write, landed=landed)
    if isinstance(response, Mapping) and "Error" in response:
        return _of_answer(response, action=action, write=write, landed=landed, quotable=quotable)
    return _of_exception(exc, action=action, write=write, landed=landed)


def may_have_landed(caught: Exception | None, answer: Mapping[str, Any] | None) -> bool:
    """
    Return whether one failed attempt may have been carried out by AWS all the same.

    Args:
        caught: what the HTTP layer raised, None when there was an answer.
        answer: the parsed answer, None when there was none.
    """
    if caught is not None:
        return row_of_exception(caught)[1]
    if answer is not None and not is_of_aws(answer):
        return was_passed_on(answer) and _status_of(answer) != _TOO_MANY
    return _class_of(answer) is DestinationUnavailableError


def asks_for_fewer(answer: Mapping[str, Any] | None) -> bool:
    """Return whether AWS refused one attempt because there were too many calls; `answer` as in `may_have_landed`."""
    return _class_of(answer) is ThrottledError


def _class_of(answer: Mapping[str, Any] | None) -> type[PhasesyncError] | None:
    """Return the class of an answer, None where it tells of no error."""
    if answer is None:
        return None
    if not is_of_aws(answer):
        return ThrottledError if _status_of(answer) == _TOO_MANY else DestinationUnavailableError
    return class_of_code(str(answer["Error"].get("Code", "")), _status_of(answer)) if "Error" in answer else None


def _status_of(answer: Mapping[str, Any]) -> int:
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status if isinstance(status, int) else 0


def _of_another(
    response: Mapping[str, Any], *, action: str, write: bool, landed: bool | None
) -> DestinationUnavailableError | ThrottledError | OutcomeUnknownError:
    """Translate an answer that something on the way to AWS gave: it says nothing of what AWS would answer."""
    metadata, status = response.get("ResponseMetadata", {}), _status_of(response)
    what = f"{action}: HTTP {status} from something on the way to AWS, not from AWS"
    hidden = landed is None and metadata.get("RetryAttempts", 0) > 0
    if write and (landed or hidden or (status != _TOO_MANY and was_passed_on(response))):
        return OutcomeUnknownError(f"{what}; it may have been carried out", code=str(status))
    if status == _TOO_MANY:
        return ThrottledError(what, retry_after=_retry_after(metadata.get("HTTPHeaders", {})), code=str(status))
    hint = _PROXY_SIGN_IN_HINT if status == _PROXY_SIGN_IN else _ON_THE_WAY_HINT
    return DestinationUnavailableError(what, hint=hint, code=str(status))


def _of_answer(
    response: Mapping[str, Any], *, action: str, write: bool, landed: bool | None, quotable: bool
) -> PhasesyncError:
    """Translate an answer that carries an error."""
    metadata = response.get("ResponseMetadata", {})
    raw_code, text = str(response["Error"].get("Code", "")), str(response["Error"].get("Message", ""))
    code = raw_code if _CODE.fullmatch(raw_code) else "unreadable code"
    request_id = _readable(metadata.get("RequestId"))
    cls = class_of_code(code, metadata.get("HTTPStatusCode", 0))
    if write and code not in _ALREADY_THERE:
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
    if cls is DestinationRejectedError and (tags := refused_tags(code, text, action=action, request_id=request_id)):
        return tags
    message, hint = _words(cls, code, text, action)
    if quotable and cls in _REASONED and (reason := _quoted(text)):
        message += f": {reason}"
    return cls(message, hint=hint, code=code, request_id=request_id)


def _words(cls: type[PhasesyncError], code: str, text: str, action: str) -> tuple[str, str | None]:
    """Return message and hint; hint None takes the class's."""
    if cls is CredentialRejectedError:
        off = "Signature expired" in text or "Signature not yet current" in text
        return f"AWS rejected the credential at {action} ({code})", _CLOCK_HINT if off else _CREDENTIAL_HINTS.get(code)
    if cls is DestinationUnavailableError:
        return f"AWS could not carry out {action} ({code})", None
    if cls is QuotaExceededError:
        return f"{action} would exceed a hard quota of AWS ({code})", None
    if _TOO_LONG.search(text):
        return f"AWS rejected {action}: the session would be longer than the role allows ({code})", _TOO_LONG_HINT
    if cls is RemoteChangedError:
        return f"the remote object is not in a state that allows {action} ({code})", None
    return f"AWS rejected {action} ({code})", None


def _of_exception(exc: Exception, *, action: str, write: bool, landed: bool | None) -> PhasesyncError:
    """Translate what botocore raised without an answer of AWS."""
    cls, sent, what = row_of_exception(exc)
    if landed and cls is DestinationRejectedError:
        # It was sent, so what failed is the reading of the answer.
        cls, what = DestinationUnavailableError, "a garbled answer"
    # Only a failure to connect hides earlier attempts: everything else that is unsent failed before the first one.
    hides_attempts = landed is None and cls in (DestinationUnavailableError, ThrottledError)
    hint = _TLS_HINT if what == TLS_FAILED else None
    if write and (landed or sent or hides_attempts):
        return OutcomeUnknownError(f"{action}: {what}; it may have been carried out", hint=hint)
    if cls is DestinationUnavailableError:
        return DestinationUnavailableError(f"{action}: {what}", hint=hint or _UNREACHABLE_HINT)
    if cls is ThrottledError:
        return ThrottledError(f"{action}: {what}")
    return cls(f"{action}: {what}")


def _quoted(text: str) -> str:
    """Return AWS's own text on one line and not without end."""
    words = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    words = _LONG_ARGUMENT.sub("'…'", words)
    return words if len(words) <= _MOST_QUOTED else f"{words[:_MOST_QUOTED]}…"


def _readable(value: object) -> str | None:
    return value if isinstance(value, str) and _CODE.fullmatch(value) else None


def _retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """Read the header Retry-After in its form of seconds; None when it is absent or a date."""
    value = headers.get("retry-after", "")
    return timedelta(seconds=int(value)) if value.isdecimal() and len(value) < 6 else None
