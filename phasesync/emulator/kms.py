"""
KMS keys: which ones a secret may have, and how Secrets Manager uses them with the caller's rights.

Sources: User Guide, encryption ("only symmetric encryption KMS keys"; which calls each operation makes; the validation
call when a key is set; the AWS-managed key is open to everyone in the account), changing the encryption key (what is
encrypted again, that the former key keeps opening it), rotation troubleshooting ("Access to KMS is not allowed"). API
reference, CreateSecret, KmsKeyId (key id, ARN, alias), UpdateSecret, KmsKeyId ("" = AWS-managed key; without
kms:Encrypt nothing is encrypted again), DescribeSecret, KmsKeyId ("the key ID or alias ARN"; absent for the AWS-managed
key: so a key id or ARN is shown as it was set, an alias as its ARN), EncryptionFailure and DecryptionFailure (key
disabled or in an invalid state). An unusable key: InvalidParameterException, "The operation failed because
of an invalid KMS key" (public: terraform-provider-aws pull request 13303).
"""

import base64
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from phasesync.emulator.access import Access
from phasesync.emulator.errors import AwsError, invalid_parameter
from phasesync.emulator.moto_state import MotoState
from phasesync.emulator.request import Call, Operation, read_json

MANAGED_ALIAS: Final = "alias/aws/secretsmanager"
_SYMMETRIC: Final = "SYMMETRIC_DEFAULT"
_USAGE: Final = "ENCRYPT_DECRYPT"
_ARN: Final = re.compile(r"arn:[a-z-]+:kms:([a-z0-9-]+):(\d{12}):(key/.+|alias/.+)")
_REENCRYPTED_LABELS: Final = frozenset({"AWSCURRENT", "AWSPENDING", "AWSPREVIOUS"})


@dataclass(frozen=True)
class KeyUse:
    """One call of KMS that Secrets Manager made with a caller's rights."""

    action: str
    key_arn: str | None
    """None means the AWS-managed key."""
    principal_arn: str
    secret_arn: str | None
    """None if there is no secret yet: the check of a key that is being set."""
    version_id: str


class Keys:
    """The keys of all accounts, as Secrets Manager uses them."""

    def __init__(self, state: MotoState, access: Access) -> None:
        """
        Args:
            state: has the keys.
            access: says who may use them.
        """
        self._state = state
        self._access = access
        self.uses: list[KeyUse] = []
        """All calls of KMS, in order."""

    def choose(self, call: Call, key_id: str | None, *, region: str | None = None) -> str | None:
        """
        Try a key; return it as DescribeSecret will show it, None for the AWS-managed key.

        Args:
            call: sets the key.
            key_id: as the request carries it; None and empty = the AWS-managed key.
            region: of the secret; None means the Region of the call.
        """
        if not key_id or key_id == MANAGED_ALIAS or key_id.endswith(f":{MANAGED_ALIAS}"):
            return None
        where = region or call.region
        key = self._find(call.account, where, key_id)
        for action in ("kms:GenerateDataKey", "kms:Decrypt"):
            self._use(call, key.arn, action, None, "RequestToValidateKeyAccess")
        return f"arn:aws:kms:{where}:{call.account}:{key_id}" if key_id.startswith("alias/") else key_id

    def encrypt(self, call: Call, secret: Any, version_id: str) -> str | None:
        """Return the ARN of the key that a new version gets, None for the AWS-managed one; EncryptionFailure."""
        arn = self.arn_of(secret)
        self._use(call, arn, "kms:GenerateDataKey", secret.arn, version_id)
        return arn

    def decrypt(self, call: Call, secret: Any, version_id: str) -> None:
        """Open a version with any of the keys that it was encrypted with; DecryptionFailure."""
        if self._state.is_replica(secret):
            kms_key = self._state.replica_extras(secret).kms_key
            arns = {None if kms_key is None else self._find(call.account, secret.region, kms_key).arn}
        else:
            arns = self._state.extras(secret).version_keys.get(version_id) or {self.arn_of(secret)}
        failure: AwsError | None = None
        for arn in sorted(arns, key=str):
            try:
                self._use(call, arn, "kms:Decrypt", secret.arn, version_id)
            except AwsError as error:
                failure = error
            else:
                return
        if failure is not None:
            raise failure

    def encrypt_again(self, call: Call, secret: Any) -> None:
        """Encrypt the three labelled versions with the secret's new key as well, if the caller's rights allow it."""
        extras, arn = self._state.extras(secret), self.arn_of(secret)
        for version_id, version in secret.versions.items():
            if not _REENCRYPTED_LABELS & set(version["version_stages"]) or version_id not in extras.version_keys:
                continue
            try:
                self.decrypt(call, secret, version_id)
                self._use(call, arn, "kms:Encrypt", secret.arn, version_id)
            except AwsError:
                continue  # "Secrets Manager does not re-encrypt existing secret versions" (API reference)
            extras.version_keys[version_id].add(arn)

    def check_replica(self, call: Call, secret: Any, region: str, kms_key: str | None) -> None:
        """Try what a replica needs: decrypt the primary's versions, encrypt in the other Region."""
        for version_id in self._state.extras(secret).version_keys:
            self.decrypt(call, secret, version_id)
        arn = None if kms_key is None else self._find(call.account, region, kms_key).arn
        for action in ("kms:GenerateDataKey", "kms:Encrypt"):
            self._use(call, arn, action, secret.arn, "replica")

    def replicate(self, call: Call, primary: Any, replica: Any, version_id: str) -> None:
        """Open a version with the primary's key and encrypt it with the key of a copy in another account."""
        if version_id in primary.versions:
            self.decrypt(call, primary, version_id)
        self._use(call, self.arn_of(replica), "kms:Encrypt", replica.arn, version_id)

    def arn_of(self, secret: Any) -> str | None:
        """Return the ARN of a secret's key; an alias may have been moved since."""
        if secret.kms_key_id is None or secret.kms_key_id == MANAGED_ALIAS:
            return None
        return str(self._find(secret.account_id, secret.region, secret.kms_key_id).arn)

    def _find(self, account: str, region: str, key_id: str) -> Any:
        """Return a key by id, ARN, alias or alias ARN; InvalidParameterException for an unusable one."""
        name = key_id if key_id.startswith("alias/") else f"key/{key_id}"
        if key_id.startswith("arn:"):
            parts = _ARN.fullmatch(key_id)
            if parts is None:
                raise _invalid(f"Invalid arn {key_id}")
            if parts[1] != region:
                raise _invalid(f"Invalid arn {parts[1]}")
            account, name = parts[2], parts[3]
        if name.startswith("alias/"):
            key = self._state.key_of_alias(account, region, name)
            missing = f"Alias arn:aws:kms:{region}:{account}:{name} is not found."
        else:
            key = self._state.key(account, region, name.removeprefix("key/"))
            missing = f"Key 'arn:aws:kms:{region}:{account}:{name}' does not exist"
        if key is None:
            raise _invalid(missing)
        if (key.key_spec, key.key_usage) != (_SYMMETRIC, _USAGE):
            raise _invalid("You cannot generate a data key with an asymmetric CMK")
        return key

    def _use(self, call: Call, arn: str | None, action: str, secret_arn: str | None, version_id: str) -> None:
        """Use a key with the caller's rights; check the rights first, then the key's state."""
        managed = arn is None
        name = arn or f"arn:aws:kms:{call.region}:{call.account}:{MANAGED_ALIAS}"
        if not call.trusted and self._access.denial(call.principal, action, [name], explicit_only=managed):
            raise AwsError("AccessDeniedException", "Access to KMS is not allowed")
        self.uses.append(KeyUse(action, arn, call.principal.arn, secret_arn, version_id))
        if managed:
            return
        _, _, _, region, account, key_id = name.split(":", 5)
        key = self._state.key(account, region, key_id.removeprefix("key/"))
        if key is not None and key.key_state == "Enabled":
            return
        if action == "kms:Decrypt" and secret_arn is not None:
            raise AwsError(
                "DecryptionFailure",
                "Secrets Manager can't decrypt the protected secret text using the provided KMS key.",
            )
        raise AwsError(
            "EncryptionFailure",
            "Secrets Manager can't encrypt the protected secret text using the provided KMS key. "
            "Check that the KMS key is available, enabled, and not in an invalid state.",
        )


_USES: Final = frozenset(
    {
        "Decrypt",
        "Encrypt",
        "GenerateDataKey",
        "GenerateDataKeyPair",
        "GenerateDataKeyPairWithoutPlaintext",
        "GenerateDataKeyWithoutPlaintext",
        "GenerateMac",
        "ReEncrypt",
        "Sign",
        "Verify",
        "VerifyMac",
    }
)
"""Operations that need an enabled key (KMS Developer Guide, key states)."""
_NAMES_OF_KEYS: Final = ("KeyId", "DestinationKeyId", "SourceKeyId")
_ID_CHARACTERS: Final = 36
"""Of a key's id, with which moto begins each ciphertext."""


def check_state(state: MotoState, operation: Operation) -> None:
    """Refuse the use of a key that is disabled or that waits for its deletion: moto carries it out."""
    if operation.name not in _USES:
        return
    arguments = read_json(operation.body, strict=False)
    named = [str(arguments[name]) for name in _NAMES_OF_KEYS if arguments.get(name)]
    if (blob := arguments.get("CiphertextBlob")) is not None:
        with suppress(ValueError):  # No base64, or of another key: moto says so.
            named.append(base64.b64decode(str(blob))[:_ID_CHARACTERS].decode("ascii"))
    for name in named:
        region, account, last = _place_of(name, operation)
        if last.startswith("alias/"):
            key = state.key_of_alias(account, region, last)
        else:
            key = state.key(account, region, last.removeprefix("key/"))
        if key is None or key.key_state == "Enabled":
            continue
        if key.key_state == "Disabled":
            raise AwsError("DisabledException", f"{key.arn} is disabled.")
        raise AwsError("KMSInvalidStateException", f"{key.arn} is pending deletion.")


def with_key_id(body: bytes) -> bytes:
    """Return a request with the id of a key in place of its ARN, which not all operations of moto know."""
    arguments = read_json(body, strict=False)
    parts = _ARN.fullmatch(str(arguments.get("KeyId")))
    if parts is None or not parts[3].startswith("key/"):
        return body
    return json.dumps({**arguments, "KeyId": parts[3].removeprefix("key/")}).encode()


def _place_of(name: str, operation: Operation) -> tuple[str, str, str]:
    """Return Region, account and the last part of what names a key."""
    parts = _ARN.fullmatch(name)
    return (operation.region, operation.account, name) if parts is None else (parts[1], parts[2], parts[3])


def with_key_usage(body: bytes) -> bytes:
    """
    Return a CreateKey request with the default usage, which moto does not fill in.

    "The default value is ENCRYPT_DECRYPT. This parameter is optional when you are creating a symmetric encryption KMS
    key; otherwise, it is required" (API reference of KMS, CreateKey, KeyUsage).
    """
    arguments = read_json(body)
    spec = arguments.get("KeySpec") or arguments.get("CustomerMasterKeySpec") or _SYMMETRIC
    if arguments.get("KeyUsage"):
        return body
    if spec != _SYMMETRIC:
        raise AwsError("ValidationException", "You must specify a KeyUsage value for an asymmetric or HMAC KMS key.")
    return json.dumps({**arguments, "KeyUsage": _USAGE}).encode()


def _invalid(why: str) -> AwsError:
    return invalid_parameter(f"The operation failed because of an invalid KMS key: {why}")
