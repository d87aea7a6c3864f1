"""One digest over the held plans of several syncs: what one approval of all of them names. Pure."""

import hashlib
import json
from collections.abc import Mapping


def bulk_digest(held: Mapping[str, str]) -> str | None:
    """
    Return 16 hex digits; None if nothing is held.

    It is never the digest of a single plan. If another sync is held, or one no longer is, it is another.

    Args:
        held: id of a sync -> digest of its held changes.
    """
    if not held:
        return None
    text = json.dumps(["syncs", sorted(held.items())], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
