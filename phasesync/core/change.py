"""What a plan is made of: one change of one remote object, all changes together, and what the decision depends on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from phasesync.core.remote import Action, Desired, JournalEntry, Lifetime, Observed
from phasesync.core.sync import Adopt, Layout, OnRemove

ORDER = (
    Action.REFUSE,
    Action.CONFLICT,
    Action.RESTORE,
    Action.CREATE,
    Action.RETAG,
    Action.SET_DESCRIPTION,
    Action.SET_POLICY,
    Action.REKEY,
    Action.PUT,
    Action.REPLICATE,
    Action.DELETE,
    Action.NOOP,
)
"""The order in which the changes of one object are carried out."""

VALUE_WRITES = frozenset({Action.CREATE, Action.PUT, Action.REKEY})
"""Actions that write a payload."""


class DecisionRow(StrEnum):
    """
    The row of the decision table that led to a change; the first row that matches decides.

    The tables are in `planning/plan.py` (wanted objects) and `planning/deletion.py` (all others).
    """

    NOT_WRITABLE = "not to be written"
    """An AWS service or a partner manages the object, or it is a copy of another one."""
    NEVER_WRITTEN = "absent, never written"
    MISSING = "absent, written before"
    NOT_OURS = "not proven ours"
    DELETION_SCHEDULED = "ours, scheduled for deletion"
    WRITE_OPEN = "ours, an earlier write may still land"
    NO_CURRENT_VERSION = "ours, no current version"
    CHANGED_OUTSIDE = "ours, current version is not the one that was written last"
    VALUE_DIFFERS = "ours, the wanted value is another one"
    VALUE_AS_WANTED = "ours, value as wanted"
    NO_LONGER_WANTED = "no longer wanted"


@dataclass(frozen=True, kw_only=True)
class KeyDiff:
    """
    Names of keys that a write adds, changes and removes, compared with the payload that we wrote last.

    Attributes:
        emptied: the changed keys that lose their value.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    emptied: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Change:
    """
    One step on one remote object, with both sides.

    Attributes:
        row: the row of the decision table that led to it.
        reason: one line for the operator; names no secret key.
        drift: someone else changed the object.
        source_empty: the first write of an object from a source without keys: probably a mistyped path.
        adopts: takes over an object that is not ours.
        moves: the sync wrote to another name, account or Region before, and that object stays behind.
        deletes: deletes the object, or prepares its deletion.
        add_replicas: Region -> KMS key there, for a change that replicates.
        remove_replicas: Regions to remove the copy from, for a change that replicates or prepares a deletion.
        failed_replicas: Regions in `add_replicas` that had a copy which failed.
        due_at: when a noop becomes a deletion, None if it does not.
        hint: for conflict and refuse: what to do about it.
        approved: the guard held it, and a person approved it.
    """

    action: Action
    remote_name: str
    row: DecisionRow
    reason: str
    desired: Desired | None = field(default=None, repr=False)
    observed: Observed | None = field(default=None, repr=False)
    entry: JournalEntry | None = field(default=None, repr=False)
    keys: KeyDiff = KeyDiff()
    drift: bool = False
    source_empty: bool = False
    adopts: bool = False
    moves: bool = False
    deletes: bool = False
    add_replicas: Mapping[str, str] = field(default_factory=dict)
    remove_replicas: tuple[str, ...] = ()
    failed_replicas: tuple[str, ...] = ()
    due_at: datetime | None = None
    hint: str | None = None
    approved: bool = False

    @property
    def payload_bytes(self) -> int:
        """Size of the payload that it writes, 0 if it writes none."""
        if self.action not in VALUE_WRITES or self.desired is None:
            return 0
        return len(self.desired.payload.value)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """
    All changes of a sync, sorted by remote name and then by the order in which they are carried out.

    Attributes:
        objects: how many remote objects the sync has written and not deleted: those it wants, and those it could
            delete. Objects that it left behind elsewhere do not count: they would make a deletion look small.
        undescribed: how many of these are unwanted and could not be described, so that they have no change.
        lifetimes: of the objects that were created or deleted lately.
    """

    changes: tuple[Change, ...]
    objects: int = 0
    undescribed: int = 0
    lifetimes: tuple[Lifetime, ...] = ()

    @property
    def drifted(self) -> bool:
        """Whether someone else changed an object of ours."""
        return any(change.drift for change in self.changes)


@dataclass(frozen=True, kw_only=True)
class PlanContext:
    """
    What the decision depends on besides the objects: our identity, the destination, settings and consent.

    Attributes:
        adopt_versions: remote name -> version that the operator saw when consenting. A consent to overwrite is for
            these names, whatever their version, and for every name if there are none.
        now: the time, for grace periods.
    """

    instance_id: str
    account: str
    region: str
    now: datetime
    layout: Layout = Layout.JSON
    adopt: Adopt | None = None
    adopt_versions: Mapping[str, str] = field(default_factory=dict)
    on_remove: OnRemove = OnRemove.RETAIN
    grace: timedelta = timedelta(hours=1)
