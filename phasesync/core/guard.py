"""
What an unattended run may not do. A change that trips the guard waits until an operator approves its digest.

The digest covers the held changes alone, so that it lapses when they change and nothing else can make it lapse.
"""

import hashlib
import json
from dataclasses import dataclass

from phasesync.core.model import SyncConfig
from phasesync.core.plan import VALUE_WRITES, Change, Plan


@dataclass(frozen=True, kw_only=True)
class Guarded:
    """
    A plan after the guard.

    Attributes:
        go: changes that may be carried out now.
        held: change and why it waits, with numbers and limits.
        digest: what an approval names; None when nothing tripped the guard.
        approved: an approval covers what tripped the guard, so that it is in `go`.
    """

    go: tuple[Change, ...]
    held: tuple[tuple[Change, str], ...]
    digest: str | None
    approved: bool


def judge(plan: Plan, config: SyncConfig, approved_digest: str | None) -> Guarded:
    """Split a plan into what may go out unattended and what waits."""
    tripped = [(change, reason) for change in plan.changes if (reason := why_held(change, config)) is not None]
    if not tripped:
        return Guarded(go=plan.changes, held=(), digest=None, approved=False)
    digest = _digest(tripped)
    if digest == approved_digest:
        return Guarded(go=plan.changes, held=(), digest=digest, approved=True)
    held = {id(change) for change, _ in tripped}
    return Guarded(
        go=tuple(change for change in plan.changes if id(change) not in held),
        held=tuple(tripped),
        digest=digest,
        approved=False,
    )


def why_held(change: Change, config: SyncConfig) -> str | None:
    """Return why a change may not run unattended, None when it may."""
    if change.entry is None or change.desired is None:
        return None
    if change.source_empty:
        return "the source has no keys and this would be the first write: probably a mistyped path"
    if change.moves:
        return "the sync wrote to another name, account or Region before, and that object would stay behind"
    if change.action not in VALUE_WRITES:
        return None
    had = len(change.entry.keys)
    has = len(change.desired.payload.keys)
    dropped = len(change.keys.removed)
    if had and not has:
        return f"would empty the payload: it has {had} {'key' if had == 1 else 'keys'}, the source has none"
    share = config.shrink_limit_percent
    if dropped >= config.shrink_limit_keys and dropped * 100 > share * had:
        return f"would drop {dropped} of {had} keys; the limit is {share} % (from {config.shrink_limit_keys} keys on)"
    return None


def _digest(tripped: list[tuple[Change, str]]) -> str:
    """Return 16 hex digits; payloads enter as keyed fingerprints, so that the digest tells nothing."""
    facts = [
        [
            *((change.entry.account, change.entry.region) if change.entry else ()),
            change.remote_name,
            change.action,
            change.desired.payload.fingerprint if change.desired else "",
            reason,
        ]
        for change, reason in tripped
    ]
    text = json.dumps(facts, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
