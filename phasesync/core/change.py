"""What a plan is made of: one step on one remote object, all of them together, and what the decision depends on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

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
"""In which order the changes of one object are carried out."""

VALUE_WRITES = frozenset({Action.CREATE, Action.PUT, Action.REKEY})
"""Actions that write a payload."""


@dataclass(frozen=True, kw_only=True)
class KeyDiff:
    """
    Names of keys that a write adds, changes and removes, against the payload that we wrote last.

    Attributes:
        emptied: those of the changed ones whose value becomes nothing.
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
        reason: one line for the operator; names no secret key.
        drift: somebody else changed the object.
        source_empty: the first write of an object whose source has no keys: probably a mistyped path.
        adopts: takes over an object that is not ours.
        moves: the sync wrote to another name, account or Region before, and that object stays behind.
        deletes: it is on the way to the object's deletion.
        add_replicas: Region -> key there, for a change that replicates.
        remove_replicas: Regions whose copies go, for a change that replicates or prepares a deletion.
        failed_replicas: Regions in `add_replicas` whose copy was there and failed.
        due_at: for a noop that will be more than that: when.
        hint: for conflict and refuse: what mends it.
        approved: the guard held it, and a person approved it.
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
    deletes: bool = False
    add_replicas: Mapping[str, str] = field(default_factory=dict)
    remove_replicas: tuple[str, ...] = ()
    failed_replicas: tuple[str, ...] = ()
    due_at: datetime | None = None
    hint: str | None = None
    approved: bool = False

    @property
    def payload_bytes(self) -> int:
        """Size of the payload that it writes, 0 when it writes none."""
        if self.action not in VALUE_WRITES or self.desired is None:
            return 0
        return len(self.desired.payload.value)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """
    All changes of a sync, sorted by remote name and then by the order in which they are carried out.

    Attributes:
        objects: how many remote objects the sync has written and not deleted: those it wants, and those it could
            delete. What it left behind elsewhere stays for good and makes no deletion look small.
        unseen: how many of these are not wanted and could not be described, so that they are in no change.
        lives: objects that were made or deleted lately.
    """

    changes: tuple[Change, ...]
    objects: int = 0
    unseen: int = 0
    lives: tuple[Lifetime, ...] = ()

    @property
    def drifted(self) -> bool:
        """Whether somebody else changed an object of ours."""
        return any(change.drift for change in self.changes)


@dataclass(frozen=True, kw_only=True)
class PlanContext:
    """
    What the decision depends on besides the objects: who we are, where we write, what was set and consented to.

    Attributes:
        adopt_versions: remote name -> version that the operator saw when consenting; a consent to overwrite is for
            these names, whatever their version, and for every name where there are none.
        now: the time, for graces.
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
