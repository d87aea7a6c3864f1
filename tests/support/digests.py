"""Keyed digests with a key of the test's choice."""

from __future__ import annotations

import hmac


class FixedDigests:
    """Real digests under a key that is made from a name."""

    def __init__(self, key_id: str = "k1") -> None:
        self.key_id = key_id
        self._key = key_id.encode().ljust(32, b"\0")

    def digest(self, purpose: str, *parts: bytes) -> bytes:
        message = b"".join(len(part).to_bytes(8) + part for part in (purpose.encode(), *parts))
        return hmac.digest(self._key, message, "sha256")
