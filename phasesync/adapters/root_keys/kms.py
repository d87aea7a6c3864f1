"""
Root keys that AWS KMS encrypts: it makes one and opens it again, and the encrypted form lies in the database.

The encryption context names the installation, so that a wrapped key of another one is refused, and CloudTrail shows
which installation asked. KMS is asked when an installation is opened, and never afterwards. The calls are made with the
identity of this process. Must not keep a key, and must not repeat a call beyond what the SDK does.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from phasesync.adapters.aws.ambient import find_keys
from phasesync.adapters.aws.sdk import CallLimits, Sdk, invoke
from phasesync.core.iam.root_key_policy import ROOT_KEY_CONTEXT
from phasesync.errors import (
    CredentialRejectedError,
    DestinationError,
    DestinationRejectedError,
    DestinationUnavailableError,
    KeyUnavailableError,
    PermissionDeniedError,
    PhasesyncError,
    RemoteChangedError,
    ThrottledError,
)
from phasesync.store.key_ring import RootKey

AWS_KMS: Final = "aws-kms"

_LATER: Final = "nothing else is wrong: repeat the command; daemons that run go on"
_POLICY: Final = (
    "phasesync aws policy --root-key prints the policy: kms:Decrypt and kms:GenerateDataKey on this key, for the "
    "identity that runs this"
)


def generate_root_key(key_arn: str, instance_id: str, limits: CallLimits) -> tuple[RootKey, bytes]:
    """
    Return a new root key, and what KMS made of it.

    Args:
        key_arn: the KMS key.
        instance_id: the installation that it is for.
        limits: of the call.

    Raises:
        As `decrypt_root_key`.
    """
    response = _call(
        "GenerateDataKey",
        key_arn,
        limits,
        lambda client: client.generate_data_key(
            KeyId=key_arn, KeySpec="AES_256", EncryptionContext=_context(instance_id)
        ),
    )
    return _root_key(response, key_arn), response["CiphertextBlob"]


def decrypt_root_key(key_arn: str, wrapped: bytes, instance_id: str, limits: CallLimits) -> RootKey:
    """
    Return a root key that KMS encrypted.

    Args:
        key_arn: the KMS key that did it; KMS refuses what another one encrypted.
        wrapped: the encrypted form.
        instance_id: the installation that it is for.
        limits: of the call.

    Raises:
        KeyUnavailableError: the KMS key is disabled, deleted or about to be, or the wrapped key is not one of this
            installation under this KMS key.
        PermissionDeniedError, CredentialRejectedError: the identity of this process may not use the key.
        ThrottledError, DestinationUnavailableError: KMS cannot answer now.
    """
    response = _call(
        "Decrypt",
        key_arn,
        limits,
        lambda client: client.decrypt(KeyId=key_arn, CiphertextBlob=wrapped, EncryptionContext=_context(instance_id)),
    )
    return _root_key(response, key_arn)


def _context(instance_id: str) -> dict[str, str]:
    return {ROOT_KEY_CONTEXT: instance_id}


def _root_key(response: Mapping[str, Any], key_arn: str) -> RootKey:
    return RootKey(material=response["Plaintext"], source=f"the KMS key {key_arn}", kind=AWS_KMS)


def _call(
    operation: str, key_arn: str, limits: CallLimits, call: Callable[[Any], Mapping[str, Any]]
) -> Mapping[str, Any]:
    region = key_arn.split(":")[3]
    action = f"kms:{operation}"
    try:
        sdk = Sdk(None, limits)
        keys = find_keys(region, sdk.config())
        client = sdk.client("kms", region, keys.arguments())
        try:
            # A lost answer does no harm: a key that nobody got wraps nothing.
            return invoke(lambda: call(client), action=action, write=False)
        finally:
            client.close()
    except DestinationError as error:
        failed = _explained(error, key_arn, action)
    raise failed


def _explained(error: PhasesyncError, key_arn: str, action: str) -> PhasesyncError:
    """Return the error of a call as one about the root key."""
    code, request_id = error.code, error.request_id
    if code == _NOT_AVAILABLE:
        error = DestinationUnavailableError(f"{action}: the KMS key is not available ({code})")
    key_id = key_arn.rpartition("/")[2]
    halted = _HALTED.get(code or "")
    if halted is not None:
        why, hint = halted
        return KeyUnavailableError(
            f"the root key cannot be opened: the KMS key {key_arn} {why} ({code})",
            hint=hint.format(key=key_id, region=key_arn.split(":")[3]),
            code=code,
            request_id=request_id,
        )
    match error:
        case PermissionDeniedError():
            return PermissionDeniedError(
                f"the root key cannot be opened: this identity may not call {action} on the KMS key {key_arn}",
                action=action,
                hint=_POLICY,
                code=code,
                request_id=request_id,
            )
        case ThrottledError():
            return ThrottledError(
                f"the root key cannot be opened now: KMS asks for fewer calls of {action} ({code})",
                retry_after=error.retry_after,
                hint=_LATER,
                code=code,
                request_id=request_id,
            )
        case DestinationUnavailableError():
            return DestinationUnavailableError(
                f"the root key cannot be opened now: {error.message}",
                hint=error.hint or _LATER,
                code=code,
                request_id=request_id,
            )
        case CredentialRejectedError():
            return CredentialRejectedError(
                f"the root key cannot be opened: {error.message}",
                hint="aws sts get-caller-identity as the same user shows whose keys are found",
                code=code,
                request_id=request_id,
            )
        case DestinationRejectedError() | RemoteChangedError():
            return KeyUnavailableError(
                f"the root key cannot be opened: AWS rejected {action} on the KMS key {key_arn} ({code})",
                hint="PHASESYNC_ROOT_KEY_KMS_KEY has to be the ARN of a symmetric key that encrypts and decrypts",
                code=code,
                request_id=request_id,
            )
    return error


_NOT_AVAILABLE: Final = "KeyUnavailableException"
"""The one state of a key in which KMS asks for another try (API reference, Decrypt)."""
_ENABLE: Final = "aws kms enable-key --region {region} --key-id {key}"
_OTHER_KEY: Final = (
    "PHASESYNC_ROOT_KEY_KMS_KEY names the KMS key that encrypted it; a backup is opened by the KMS key of its time"
)
_HALTED: Final[Mapping[str, tuple[str, str]]] = {
    # Error code of KMS -> what it says of the key, and what to do (API reference of KMS, Decrypt and GenerateDataKey).
    "DisabledException": ("is disabled", _ENABLE),
    "KMSInvalidStateException": (
        "is about to be deleted, or in another state that allows no use",
        f"aws kms cancel-key-deletion --region {{region}} --key-id {{key}}; then {_ENABLE}",
    ),
    "NotFoundException": ("does not exist, or is in another account or Region", _OTHER_KEY),
    "InvalidCiphertextException": (
        "did not make it, or made it for another installation",
        _OTHER_KEY,
    ),
    "IncorrectKeyException": ("did not make it", _OTHER_KEY),
    "InvalidKeyUsageException": ("is no key that encrypts and decrypts", _OTHER_KEY),
}
