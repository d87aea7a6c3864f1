"""
Keyed digests that leave the store: fingerprints of payloads and tokens of writes.

They show whether two payloads differ without revealing them. The key stays behind the `Digests` protocol.
"""

import hmac
import uuid
from collections.abc import Collection, Hashable, Iterable, Iterator
from typing import Protocol

from phasesync.core.model import SecretValue, ValueType

FORMAT = "v1"
"""Format of a fingerprint. Fingerprints of different formats are never equal."""


class Digests(Hashable, Protocol):
    """Keyed digests with the instance's digest key: fingerprints, lookups, tokens. Useless without the key."""

    @property
    def key_id(self) -> str:
        """Short name of the digest key; part of every fingerprint."""
        ...

    def digest(self, purpose: str, *parts: bytes) -> bytes:
        """Return 32 bytes; purpose and parts are separated, so different inputs never have the same encoding."""
        ...


def fingerprint(digests: Digests, value: SecretValue) -> str:
    """Return `v1:<digest key id>:<64 hex digits>` of a payload's bytes and of whether they are text or binary."""
    kind = b"binary" if value.type is ValueType.BINARY else b"string"
    return f"{FORMAT}:{digests.key_id}:{digests.digest('payload', kind, value.reveal()).hex()}"


def key_digest(digests: Digests, remote_name: str, key: str, rendered: bytes) -> str:
    """
    Return 64 hex digits of one key's value as it stands in a payload.

    The names are part of it, so that two keys with the same value have different digests.
    """
    return digests.digest("payload-key", remote_name.encode(), key.encode(), rendered).hex()


def same(a: str | None, b: str | None) -> bool:
    """Compare two fingerprints in constant time; None (not known) equals nothing."""
    if a is None or b is None:
        return False
    return hmac.compare_digest(a.encode(), b.encode())


def write_token(digests: Digests, instance_id: str, sync_id: str, remote_name: str, generation: int) -> str:
    """
    Return the token of one write; AWS makes it the version id.

    Args:
        digests: the keyed digests.
        instance_id: of our instance.
        sync_id: the sync that writes.
        remote_name: the object that is written.
        generation: number of the write; the same content written again later gets another token.

    Returns:
        36 characters in the form of a UUID. AWS recommends this form and accepts 32 to 64 characters
        (PutSecretValue, ClientRequestToken).
    """
    digest = digests.digest(
        "write-token", instance_id.encode(), sync_id.encode(), remote_name.encode(), str(generation).encode()
    )
    return _token_of(digest)


def tokens_among(
    texts: Collection[str],
    digests: Digests,
    instance_id: str,
    sync_id: str,
    remote_name: str,
    generations: Iterable[int],
) -> Iterator[str]:
    """
    Yield those of some texts that are tokens of these writes.

    Args:
        texts: such as ids of versions.
        digests, instance_id, sync_id, remote_name: as in `write_token`.
        generations: numbers of the writes.
    """
    parts = (instance_id.encode(), sync_id.encode(), remote_name.encode())
    # Most tokens differ in their first digits, which a digest shows before it is made a token.
    heads = {text[:8] for text in texts}
    for generation in generations:
        digest = digests.digest("write-token", *parts, str(generation).encode())
        if digest[:4].hex() in heads and (token := _token_of(digest)) in texts:
            yield token


def _token_of(digest: bytes) -> str:
    # Version 4, as AWS's own version ids have: a token does not reveal who made it.
    return str(uuid.UUID(bytes=digest[:16], version=4))
