"""
The plan: what one run would do, as a value. Pure; `engine/apply.py` carries it out.

The first row that matches decides on one remote object:

    observed                             ownership   result
    -----------------------------------  ----------  -------------------------------------------------
    name with "!", or OwningService      any         refuse: a service manages it
    PrimaryRegion is not our Region      any         refuse: a replica; names the primary Region
    rotation on, or AWSPENDING pending   any         refuse: AWS rotates it
    absent, never written                -           create; held when the source is empty
    absent, written before               -           create: it is missing
    any                                  not proven  conflict, or take over with the operator's consent
    scheduled for deletion               ours        restore, then plan again
    a write may still land (intent)      ours        put, spending the same token
    no AWSCURRENT                        ours        put
    current id is not the journalled     ours        put: changed outside
    current id as journalled             ours        put where the fingerprint differs, else nothing
    present, no longer wanted            any         nothing: retained

Metadata (description, key, tags) is compared apart from the value; a dimension that is not set is left alone. A new
key always brings a fresh version, so that the current value is under the new key alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from phasesync.core.fingerprint import same
from phasesync.core.model import AWS_MANAGED_KEY, Adopt
from phasesync.core.ownership import Ownership, ownership_of
from phasesync.core.remote import CURRENT, PENDING, PREVIOUS, Action, Desired, JournalEntry, Observed

_ORDER = (
    Action.REFUSE,
    Action.CONFLICT,
    Action.RESTORE,
    Action.CREATE,
    Action.RETAG,
    Action.SET_DESCRIPTION,
    Action.REKEY,
    Action.PUT,
    Action.NOOP,
)
VALUE_WRITES = frozenset({Action.CREATE, Action.PUT, Action.REKEY})
"""Actions that write a payload."""


@dataclass(frozen=True, kw_only=True)
class KeyDiff:
    """Names of keys that a write adds, changes and removes, against the payload that we wrote last."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Change:
    """
    One step on one remote object, with both sides.

    Attributes:
        reason: one line for the operator; names no secret key.
        drift: somebody else changed the object.
        source_empty: the first write of an object whose source has no keys: probably a mistyped path.
        adopts: takes over an object that is not ours.
        moves: the sync wrote to another name, account or Region before, and that object stays behind.
        hint: for conflict and refuse: what mends it.
    """

    action: Action
    remote_name: str
    reason: str
    desired: Desired | None = field(default=None, repr=False)
    observed: Observed | None = field(default=None, repr=False)
    entry: JournalEntry | None = field(default=None, repr=False)
    keys: KeyDiff = KeyDiff()
    drift: bool = False
    source_empty: bool = False
    adopts: bool = False
    moves: bool = False
    hint: str | None = None

    @property
    def payload_bytes(self) -> int:
        """Size of the payload that it writes, 0 when it writes none."""
        if self.action not in VALUE_WRITES or self.desired is None:
            return 0
        return len(self.desired.payload.value)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All changes of a sync, sorted by remote name and then by the order in which they are carried out."""

    changes: tuple[Change, ...]

    @property
    def drifted(self) -> bool:
        """Whether somebody else changed an object of ours."""
        return any(change.drift for change in self.changes)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What the decision depends on besides the objects: who we are, where we write, and what was consented to."""

    instance_id: str
    region: str
    adopt: Adopt | None


def make_plan(
    desired: Iterable[Desired],
    observed: Mapping[str, Observed | None],
    journal: Mapping[str, JournalEntry],
    left_behind: Iterable[JournalEntry],
    policy: Policy,
) -> Plan:
    """
    Decide what to do.

    Args:
        desired: the wanted objects.
        observed: remote name -> what AWS reports, None = absent; has every desired name.
        journal: remote name -> journal entry for the account and Region that the sync writes to; has every desired
            name (an empty entry where nothing was written yet).
        left_behind: entries of objects that the sync wrote and no longer wants; they are retained.
        policy: the rest.
    """
    # A write whose answer was lost may have landed, so an open intent counts as an object that stays.
    stays = [entry for entry in left_behind if entry.written_before or entry.intent is not None]
    changes: list[Change] = []
    for wanted in desired:
        entry = journal[wanted.remote_name]
        changes += _decide(wanted, observed[wanted.remote_name], entry, moves=bool(stays), policy=policy)
    changes += [
        Change(action=Action.NOOP, remote_name=entry.remote_name, reason="no longer wanted: retained", entry=entry)
        for entry in stays
    ]
    return Plan(changes=tuple(sorted(changes, key=lambda change: (change.remote_name, _ORDER.index(change.action)))))


def _decide(
    wanted: Desired, seen: Observed | None, entry: JournalEntry, *, moves: bool, policy: Policy
) -> list[Change]:
    refusal = _refusal(wanted.remote_name, seen, policy.region)
    if refusal is not None:
        reason, hint = refusal
        return [Change(action=Action.REFUSE, remote_name=wanted.remote_name, reason=reason, observed=seen, hint=hint)]

    def change(action: Action, reason: str, *, drift: bool = False, adopts: bool = False) -> Change:
        return Change(
            action=action,
            remote_name=wanted.remote_name,
            reason=reason,
            desired=wanted,
            observed=seen,
            entry=entry,
            keys=key_diff(entry.keys, wanted.payload.keys) if action in VALUE_WRITES else KeyDiff(),
            drift=drift,
            source_empty=action in VALUE_WRITES and not wanted.payload.keys and not entry.written_before,
            adopts=adopts,
            moves=moves and not entry.written_before and action in VALUE_WRITES,
        )

    if seen is None:
        if entry.written_before:
            return [change(Action.CREATE, "missing: deleted outside phasesync", drift=True)]
        return [change(Action.CREATE, "does not exist yet")]

    ownership = ownership_of(seen, entry, policy.instance_id)
    if ownership is not Ownership.OURS:
        return _not_ours(wanted, seen, entry, ownership, change, policy)
    if seen.deleted_at is not None:
        return [change(Action.RESTORE, "scheduled for deletion", drift=True)]
    return _bring_in_step(wanted, seen, entry, change) or [change(Action.NOOP, "as wanted")]


def _refusal(name: str, seen: Observed | None, region: str) -> tuple[str, str] | None:
    """Return reason and hint where nobody but AWS may write, whoever owns the object."""
    if seen is None:
        return ("the name belongs to an AWS service", "choose a name without '!'") if "!" in name else None
    if "!" in seen.name or seen.owning_service:
        return f"managed by {seen.owning_service or 'an AWS service'}", "choose another name: phasesync syncs update"
    if seen.primary_region is not None and seen.primary_region != region:
        return (
            f"a replica; its primary is in {seen.primary_region}",
            f"phasesync syncs update NAME --region {seen.primary_region}",
        )
    rotating = any(PENDING in labels and not labels & {CURRENT, PREVIOUS} for labels in seen.versions.values())
    if seen.rotation_enabled or rotating:
        return "AWS rotates it", "turn rotation off (aws secretsmanager cancel-rotate-secret) or choose another name"
    return None


_NOT_OURS = {
    Ownership.FOREIGN: "exists and was not made by phasesync",
    Ownership.OTHER_SYNC: "belongs to another sync",
    Ownership.UNPROVEN: "carries our tags, but this database never wrote it",
    Ownership.UNMARKED: "our owner tags were taken off",
}


def _not_ours(
    wanted: Desired,
    seen: Observed,
    entry: JournalEntry,
    ownership: Ownership,
    change: "_MakeChange",
    policy: Policy,
) -> list[Change]:
    def conflict(reason: str, hint: str | None) -> list[Change]:
        return [Change(action=Action.CONFLICT, remote_name=wanted.remote_name, reason=reason, observed=seen, hint=hint)]

    if policy.adopt is None:
        return conflict(_NOT_OURS[ownership], None)
    if seen.deleted_at is not None:
        return conflict(
            "not ours, and scheduled for deletion",
            f"aws secretsmanager restore-secret --secret-id {wanted.remote_name}, then adopt it",
        )
    taken_over = "taken over with the operator's consent"
    write = Action.REKEY if key_differs(wanted, seen) else Action.PUT
    changes = [change(Action.RETAG, taken_over, adopts=True), change(write, taken_over, adopts=True)]
    if _description_differs(wanted, seen):
        changes.append(change(Action.SET_DESCRIPTION, "description differs", adopts=True))
    # Tags and description wait with the value: what is held must not mark somebody else's object already.
    return [replace(one, source_empty=changes[1].source_empty, moves=changes[1].moves) for one in changes]


def _bring_in_step(wanted: Desired, seen: Observed, entry: JournalEntry, change: "_MakeChange") -> list[Change]:
    changes: list[Change] = []
    missing_tags = {key: value for key, value in wanted.tags.items() if seen.tags.get(key) != value}
    if missing_tags or any(key in seen.tags for key in wanted.unwanted_tags):
        changes.append(change(Action.RETAG, "tags differ"))
    if _description_differs(wanted, seen):
        changes.append(change(Action.SET_DESCRIPTION, "description differs"))

    reason, drift = _value_reason(wanted, seen, entry)
    if key_differs(wanted, seen) or (entry.intent is not None and entry.intent.action is Action.REKEY):
        changes.append(
            change(Action.REKEY, "KMS key differs; older versions stay readable with the old key", drift=drift)
        )
    elif reason is not None:
        changes.append(change(Action.PUT, reason, drift=drift))
    return changes


def _value_reason(wanted: Desired, seen: Observed, entry: JournalEntry) -> tuple[str | None, bool]:
    """Return why the value has to be written (None = it has not), and whether somebody else is the cause."""
    if entry.intent is not None and entry.intent.action in VALUE_WRITES:
        return "an earlier write may still land", False
    if seen.current_version is None:
        return "has no current value", True
    if seen.current_version != entry.version_id:
        return "changed outside phasesync", True
    if entry.fingerprint is None or not same(entry.fingerprint, wanted.payload.fingerprint):
        return "the environment changed", False
    return None, False


def key_diff(before: Mapping[str, str], after: Mapping[str, str]) -> KeyDiff:
    """Compare two maps of key name -> keyed digest of its value."""
    return KeyDiff(
        added=tuple(sorted(after.keys() - before.keys())),
        changed=tuple(sorted(key for key in after.keys() & before.keys() if not same(after[key], before[key]))),
        removed=tuple(sorted(before.keys() - after.keys())),
    )


def _description_differs(wanted: Desired, seen: Observed) -> bool:
    return wanted.description is not None and wanted.description != seen.description


def key_differs(wanted: Desired, seen: Observed) -> bool:
    """
    Return whether the KMS key has to be changed.

    AWS reports no key where the AWS-managed one is in use, and may report a key's id in place of its ARN.
    """
    if wanted.kms_key is None:
        return False
    if wanted.kms_key == AWS_MANAGED_KEY:
        return seen.kms_key is not None
    return seen.kms_key is None or wanted.kms_key.rpartition("/")[2] != seen.kms_key.rpartition("/")[2]


class _MakeChange(Protocol):
    """The closure that fills in both sides of a change."""

    def __call__(self, action: Action, reason: str, *, drift: bool = False, adopts: bool = False) -> Change: ...
