"""
Signatures of webhooks, as the Standard Webhooks specification (1.0) has them, so that its libraries check them. Pure.

The header `webhook-signature` holds `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`. The secret is written
as `whsec_` and the base64 of its 24 to 64 bytes.
"""

import base64
import binascii
import hmac
from datetime import datetime
from typing import Final

from phasesync.core.model import SecretValue
from phasesync.errors import InvalidInputError

_PREFIX: Final = "whsec_"
_BYTES: Final = range(24, 65)
NEW_BYTES: Final = 32
"""How many random bytes a new secret has."""


def new_signing_secret(random: bytes) -> SecretValue:
    """Return a secret made of random bytes, `NEW_BYTES` of them."""
    return SecretValue(_PREFIX + base64.b64encode(random).decode("ascii"))


def check_signing_secret(secret: SecretValue) -> SecretValue:
    """Return a secret as it is. InvalidInputError: it has not the form that receivers expect."""
    _key(secret)
    return secret


def signature_headers(secret: SecretValue | None, *, id: str, at: datetime, body: bytes) -> dict[str, str]:
    """
    Return the headers of a webhook.

    Args:
        secret: None: there is no signature among them.
        id: of the message: the same each time that it is sent.
        at: the time of this attempt, since receivers refuse what is older than some minutes.
        body: exactly as it is sent.
    """
    timestamp = str(int(at.timestamp()))
    headers = {"webhook-id": id, "webhook-timestamp": timestamp}
    if secret is not None:
        digest = hmac.digest(_key(secret), f"{id}.{timestamp}.".encode() + body, "sha256")
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode('ascii')}"
    return headers


def _key(secret: SecretValue) -> bytes:
    try:
        text = secret.reveal_text()
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (UnicodeDecodeError, binascii.Error, ValueError):
        text, key = "", b""
    if not text.startswith(_PREFIX) or len(key) not in _BYTES:
        raise InvalidInputError(
            "that is not the signing secret of a webhook",
            hint=f"{_PREFIX} and the base64 of 24 to 64 random bytes: echo {_PREFIX}$(openssl rand -base64 32)",
        )
    return key
