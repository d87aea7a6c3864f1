"""What a notification says, as a value: which objects, what is wrong with them, since when, and what fixes it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Condition(StrEnum):
    """What a notification reports. The values are words of the command line."""

    HELD = "held"
    """A sync waits for an approval."""
    HALTED = "halted"
    """A sync waits for a fix by a person."""
    FAILING = "failing"
    """A sync fails, and is tried again."""
    STALE = "stale"
    """A sync has not been in step for too long, whatever its status says."""
    DRIFT = "drift"
    """Somebody else changed a remote object."""
    CONTESTED = "contested"
    """Somebody else keeps changing a remote object back."""
    LEASE_OVERDUE = "lease-overdue"
    """A lease has not ended at its time: what it gave out still works."""


class Step(StrEnum):
    """Where in its course a condition is."""

    FIRST = "first"
    STILL = "still"
    RECOVERED = "recovered"
    TEST = "test"
    """Sent by `phasesync notifications test`."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """
    One object that a message is about.

    Attributes:
        kind: sync or lease.
        alert: id of what is wrong with it: the same in the first message, in reminders and in the recovery.
        name: of the sync; of the dynamic secret and the id of the lease.
        since: since when it is in the condition.
        reason: what is known of the cause; never a value, a key name or a remote name.
        fix: the command or step that fixes it.
    """

    kind: str
    alert: str
    name: str
    since: datetime
    reason: str
    fix: str


@dataclass(frozen=True, kw_only=True)
class Message:
    """
    One message to one channel.

    Attributes:
        id: stays the same when the message is sent again, so that receivers can drop the second one.
        notification: name of the notification that sends it.
        condition: None for a test.
        at: when it was made.
        subjects: one; several in a digest; none in a test.
        more: how many further objects a digest counts without naming them.
        cause: what the objects of a digest have in common, such as a credential; None otherwise.
        title: one line.
        text: everything, in lines, for people.
    """

    id: str
    notification: str
    step: Step
    condition: Condition | None
    at: datetime
    subjects: tuple[Subject, ...]
    more: int = 0
    cause: str | None = None
    title: str
    text: str
