"""
Resolves KMS keys that are given by id, alias or ARN, and checks that they can encrypt a secret.

Must not use a key, and must not pass on the messages of KMS.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from phasesync.adapters.aws.client import AwsClient, Response
from phasesync.adapters.aws.session import AwsClients
from phasesync.adapters.aws_secrets_manager.responses import INVALID_PARAMETER, MANAGED_ALIAS, NOT_FOUND, text_of
from phasesync.core.arns import check_key_arn, check_partition
from phasesync.core.credential import Credential
from phasesync.core.iam.sync_policy import KEY_ACTIONS
from phasesync.core.sync import AWS_MANAGED_KEY
from phasesync.errors import (
    DestinationRejectedError,
    DestinationUnavailableError,
    Hint,
    InvalidInputError,
    PermissionDeniedError,
)

_ACTION: Final = KEY_ACTIONS[0]
_DENIED: Final = ("AccessDenied", "AccessDeniedException")
_NO_SUCH_KEY: Final = ("NotFoundException", "InvalidArnException", "ValidationException")
_ALIAS: Final = re.compile(r"(?:arn:[a-z0-9-]+:kms:(?P<region>[a-z0-9-]+):\d{12}:)?alias/[A-Za-z0-9/_-]{1,250}")
_ID: Final = re.compile(r"mrk-[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_WORD: Final = re.compile(r"[A-Za-z0-9_]{1,40}")
_KEY_HINT: Final = Hint(
    "check that the key exists, is symmetric (SYMMETRIC_DEFAULT) and is in the secret's Region; "
    "phasesync syncs update {name} --kms-key ARN sets another one"
)
_FULL_ARN_HINT: Final = (
    'give the full ARN of the key, which is taken without asking, or add "kms:DescribeKey" to the policy of the role '
    "or user"
)


def resolve_key(clients: AwsClients, credential: Credential, region: str, key: str) -> str:
    """
    Return the ARN of a KMS key that can encrypt secrets in a Region.

    Args:
        clients: shared clients.
        credential: who calls KMS.
        region: of the secret; its key has to be there (User Guide, change the encryption key).
        key: id, alias (name or ARN) or ARN. AWS_MANAGED_KEY and the alias of that key return AWS_MANAGED_KEY.

    Raises:
        InvalidInputError: it has not the form of a key, does not exist there, is not enabled, is not for symmetric
            encryption, or belongs to another service of AWS.
        PermissionDeniedError: the credential may not call kms:DescribeKey. The ARN of a key is returned unchecked then.
        CredentialRejectedError, DestinationUnavailableError, ThrottledError: KMS could not be called.
    """
    if key == AWS_MANAGED_KEY:
        return AWS_MANAGED_KEY
    is_key_arn = _check_form(key, region)
    if key.rpartition(":")[2] == MANAGED_ALIAS:
        return AWS_MANAGED_KEY
    try:
        response = AwsClient(clients, credential, "kms", region).call("DescribeKey", KeyId=key)
    except PermissionDeniedError as error:
        if error.code not in _DENIED:
            raise
        if is_key_arn:
            return key
        denied = PermissionDeniedError(
            action=_ACTION, hint=_FULL_ARN_HINT, code=error.code, request_id=error.request_id
        )
    except DestinationRejectedError as error:
        if error.code not in _NO_SUCH_KEY:
            raise
        raise InvalidInputError(
            f"there is no KMS key {key!r} in {region} ({error.code})",
            hint="a secret's key has to be in the secret's Region; aws kms list-aliases prints what is there",
        ) from None
    else:
        return _checked_arn(response, region, key)
    raise denied


def _check_form(key: str, region: str) -> bool:
    """Return whether this is the full ARN of a key. InvalidInputError if it has none of the forms."""
    alias = _ALIAS.fullmatch(key)
    if alias is not None:
        if alias["region"] not in (None, region):
            raise InvalidInputError(
                f"the KMS alias is in {alias['region']}, the secret in {region}",
                hint="a secret's key has to be in the secret's Region",
            )
        if key.startswith("arn:"):
            check_partition(key, region)
        return False
    if key.startswith("arn:"):
        check_key_arn(key, region)
        return True
    if _ID.fullmatch(key) is None:
        raise InvalidInputError(
            f"{key!r} is not a KMS key",
            hint="give the ARN or id of a key, an alias as alias/name, or 'default' for the AWS-managed key",
        )
    return False


def _checked_arn(response: Response, region: str, name: str) -> str:
    """Return the ARN of the key in a response of DescribeKey. InvalidInputError if it cannot encrypt a secret there."""
    key: Mapping[str, Any] = response.get("KeyMetadata") or {}
    arn = text_of(key, "Arn")
    if arn is None:
        raise DestinationUnavailableError(f"{_ACTION}: a garbled answer")
    if key.get("KeyManager") == "AWS":
        raise InvalidInputError(
            f"the KMS key {name!r} is one that AWS manages for a service",
            hint="'default' asks for the AWS-managed key of Secrets Manager; or give a key of your own",
        )
    if key.get("KeyState") != "Enabled":
        raise InvalidInputError(
            f"the KMS key {name!r} is not enabled: its state is {_word(key, 'KeyState')}",
            hint="enable it (aws kms enable-key, or cancel-key-deletion first), or give another key",
        )
    if (key.get("KeySpec"), key.get("KeyUsage")) != ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"):
        raise InvalidInputError(
            f"the KMS key {name!r} is not for symmetric encryption: it is {_word(key, 'KeySpec')}, for "
            f"{_word(key, 'KeyUsage')}",
            hint="Secrets Manager takes keys of SYMMETRIC_DEFAULT, for ENCRYPT_DECRYPT",
        )
    return check_key_arn(arn, region)


def _word(key: Mapping[str, Any], name: str) -> str:
    """Return a word of a response of KMS; other text is not repeated."""
    value = text_of(key, name) or ""
    return value if _WORD.fullmatch(value) else "not reported"


def suspect_key(refusal: DestinationRejectedError, key_id: str | None) -> DestinationRejectedError:
    """
    Return a refusal of Secrets Manager that names the key as its likely cause, if AWS may have meant the key.

    Secrets Manager answers a key that does not exist, is in another Region or is asymmetric with the code of all wrong
    arguments: "The operation failed because of an invalid KMS key" (public, terraform-provider-aws pull request 13303).

    Args:
        refusal: of a call that sets a key.
        key_id: the key that was sent; empty or None means the AWS-managed key.
    """
    if refusal.code not in (INVALID_PARAMETER, NOT_FOUND) or not key_id:
        return refusal
    return DestinationRejectedError(
        f"{refusal.message}: most likely it does not accept the KMS key",
        hint=_KEY_HINT,
        code=refusal.code,
        request_id=refusal.request_id,
    )
