"""
Recognises secrets that look like key material. AWS advises to keep such material elsewhere (User Guide, what is Secrets
Manager).

It uses the name of a key and the form of its value. It returns kinds only: no part of a value leaves this module.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final

from phasesync.core.model import SecretValue, ValueType


def object_in(text: str) -> dict[str, Any] | None:
    """
    Return the JSON object in a text, as tools that read secrets parse it; None if the whole text is not a JSON object.

    It is lenient on purpose, unlike `canonical_json.py`: other tools accept more than phasesync writes.
    """
    if not text.lstrip().startswith("{"):
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


class KeyMaterial(StrEnum):
    """A kind of key material that AWS has another service for."""

    AWS_CREDENTIAL = "aws-credential"
    SSH_KEY = "ssh-key"
    CERTIFICATE = "certificate"
    """A private key or a certificate in PEM form."""
    ENCRYPTION_KEY = "encryption-key"


ADVICE: Final = {
    KeyMaterial.AWS_CREDENTIAL: (
        "looks like an AWS credential: whoever reads the secret can act as its owner until somebody rotates it. AWS "
        "advises IAM roles in place of stored keys"
    ),
    KeyMaterial.SSH_KEY: (
        "looks like an SSH private key: whoever reads the secret can log in until the key is taken off every host. AWS "
        "advises EC2 Instance Connect"
    ),
    KeyMaterial.CERTIFICATE: (
        "looks like a private key or a certificate: nobody renews it here before it expires. AWS advises AWS "
        "Certificate Manager"
    ),
    KeyMaterial.ENCRYPTION_KEY: (
        "looks like a raw encryption key: whoever reads the secret can decrypt for ever, and unseen. AWS advises AWS "
        "KMS, which does not give keys away"
    ),
}
"""The second half of a warning, after the name of the secret."""

_ACCESS_KEY_ID: Final = re.compile(r"(?<![A-Za-z0-9])(AKIA|ASIA)[A-Z2-7]{16}(?![A-Za-z0-9])")
"""Long-lived and temporary access keys (IAM User Guide, unique identifiers)."""
_AWS_NAMES: Final = ("AWSACCESSKEYID", "AWSSECRETACCESSKEY", "AWSSECRETKEY", "AWSSESSIONTOKEN", "AWSSECURITYTOKEN")
_SSH_NAME: Final = re.compile(r"(^|_)(SSH|ID_(RSA|DSA|ECDSA|ED25519))(_|$)")
_ENCRYPTION_NAME: Final = re.compile(
    r"(^|_)(((EN|DE)CRYPT(ION)?|CRYPTO|CIPHER|AES(_?(128|192|256))?|FERNET|MASTER|WRAPPING|DATA)_?KEY|KEK|DEK|CMK)(_|$)"
)
_PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,40})-----")
_PUTTY: Final = "PuTTY-User-Key-File-"
_PEM_IN_BASE64: Final = "LS0tLS1CRUdJTi"
"""Base64 of the beginning of a PEM block."""
_HEX: Final = re.compile(r"([0-9A-Fa-f]{2})+")
_RAW_BYTES: Final = (16, 24, 32, 48, 64)
"""Lengths of raw symmetric keys, alone or together with a key for authentication."""
_LONGEST_NAME: Final = 1_000


def materials_in(key: str, value: SecretValue) -> frozenset[KeyMaterial]:
    """
    Return the kinds of key material that a secret, or a member of a JSON object in it, looks like.

    Args:
        key: name of the secret.
        value: its plaintext.
    """
    if value.type is ValueType.BINARY:
        raw = value.reveal()
        kinds = set(_of_text(key, raw.decode("latin-1")))
        if _means_encryption(key) and len(raw) in _RAW_BYTES:
            kinds.add(KeyMaterial.ENCRYPTION_KEY)
        return frozenset(kinds)
    text = value.reveal().decode("utf-8", "replace")
    return frozenset(kind for name, leaf in _leaves(key, text) for kind in _of_text(name, leaf))


def _leaves(key: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield (name, text) of every text in a value: the value itself, or the members of the JSON object in it."""
    document = object_in(text)
    if document is None:
        yield key, text
        return
    waiting: list[tuple[str, Any]] = [(key, document)]
    while waiting:
        name, node = waiting.pop()
        if isinstance(node, dict):
            # The end of the path is enough; whole paths would grow with the square of the depth.
            waiting += [(f"{name}_{member}"[-_LONGEST_NAME:], child) for member, child in node.items()]
        elif isinstance(node, list):
            waiting += [(name, child) for child in node]
        elif isinstance(node, str):
            yield name, node


def _of_text(key: str, text: str) -> Iterator[KeyMaterial]:
    name = _words(key)
    squeezed = name.replace("_", "")
    if _ACCESS_KEY_ID.search(text) or any(known in squeezed for known in _AWS_NAMES):
        yield KeyMaterial.AWS_CREDENTIAL
    if text.startswith(_PEM_IN_BASE64):
        text = _decoded_beginning(text)
    label = _PEM.search(text)
    if text.startswith(_PUTTY):
        yield KeyMaterial.SSH_KEY
    elif label is not None:
        block = label[1]
        private = block.endswith("PRIVATE KEY")
        if block.startswith("OPENSSH") or (private and _SSH_NAME.search(name)):
            yield KeyMaterial.SSH_KEY
        elif private or block.endswith("CERTIFICATE"):
            yield KeyMaterial.CERTIFICATE
    elif _means_encryption(key) and _is_raw_key(text.strip()):
        yield KeyMaterial.ENCRYPTION_KEY


def _words(key: str) -> str:
    """Return a name in upper case with underscores between its words: `aesKey` -> `AES_KEY`."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key)
    return re.sub(r"[^A-Z0-9]+", "_", parted.upper())


def _means_encryption(key: str) -> bool:
    return _ENCRYPTION_NAME.search(_words(key)) is not None


def _is_raw_key(text: str) -> bool:
    """Return whether a text is a raw symmetric key in hex or base64."""
    if _HEX.fullmatch(text) and len(text) // 2 in _RAW_BYTES:
        return True
    try:
        decoded = base64.b64decode(text.translate(str.maketrans("-_", "+/")) + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(decoded) in _RAW_BYTES


def _decoded_beginning(text: str) -> str:
    """Return the first bytes of base64 text, enough to see what kind of PEM block it is."""
    letters = re.sub(r"[^A-Za-z0-9+/]", "", text[:120])
    return base64.b64decode(letters[: len(letters) // 4 * 4]).decode("latin-1")
