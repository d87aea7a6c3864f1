"""
What the audit log says: who did what to which object, when, and how it ended.

An entry is what somebody did; a row is an entry as the log holds it, with its number and its time. Names of secret keys
and of remote objects belong in `details`, which are stored encrypted, never in `object`. A value belongs nowhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any


class AuditKind(Enum):
    """Kinds of rows; each has a retention of its own."""

    CHANGE = "change"
    """Something was changed, here or at AWS."""
    REVEAL = "reveal"
    """Somebody was given plaintext."""
    LEASE = "lease"
    """A lease was issued, renewed or ended."""
    APPROVAL = "approval"
    """Somebody asked for an approval, gave one, or refused it."""
    ACCESS = "access"
    """Somebody took what is encrypted, or evidence: a backup, an escrowed key, an export of this log."""
    REFUSAL = "refusal"
    """Somebody tried what was refused, or what failed."""


class AuditOutcome(Enum):
    """How it ended."""

    DONE = "done"
    HELD = "held"
    """It waits for an approval."""
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Caller:
    """
    Who works with the store.

    Attributes:
        actor: the user of the operating system and whom that user claims to act for, a token, or the daemon.
        source: where from: program, host and, where it is known, an address.
    """

    actor: str
    source: str


UNKNOWN_CALLER = Caller(actor="unknown", source="unknown")
"""The caller where nobody said who it is: programs that open the store by themselves."""


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """
    What somebody did.

    Attributes:
        action: noun and verb as on the command line: `secret.set`, `sync.approve`.
        object: label or name of what it was done to; no key of a secret, no remote name.
        details: more about it: names of keys, counts, the class of an error. Stored encrypted.
        before: keyed digest of the configuration of the object before; None = there was none, or it did not change.
        after: the same of the configuration after.
        caller: who did it; None = the caller of the store.
    """

    action: str
    object: str
    kind: AuditKind = AuditKind.CHANGE
    outcome: AuditOutcome = AuditOutcome.DONE
    details: Mapping[str, Any] = field(default_factory=dict)
    before: str | None = None
    after: str | None = None
    caller: Caller | None = None


@dataclass(frozen=True, kw_only=True)
class AuditRow:
    """
    A row of the audit log.

    Attributes:
        number: 1, 2, 3 and so on, without a gap.
        entry: what was done and by whom; None once retention has emptied the row.
        chained: keyed digest of this row and all before it, in hex.
    """

    number: int
    at: datetime
    kind: AuditKind
    entry: AuditEntry | None
    chained: str


@dataclass(frozen=True, kw_only=True)
class AuditHead:
    """
    Where the chain ends: what has to be kept elsewhere, so that a cut tail is found.

    Attributes:
        number: of the newest row; 0 = there is none.
        digest: keyed digest of that row and all before it, 32 hex digits.
    """

    number: int
    digest: str

    def __str__(self) -> str:
        return f"{self.number}:{self.digest}"
