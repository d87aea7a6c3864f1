"""
What the audit log says: who did what to which object, when, and how it ended.

An entry is what somebody did; a row is an entry as the log holds it, with its number and its time. Names of secret keys
and of remote objects belong in `details`, which are stored encrypted, never in `object`. A value belongs nowhere.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Final

from phasesync.errors import InvalidInputError

NAMES_IN_LOG: Final = 1000
"""Names in the details of a row, of each kind; versions and runs have all of them."""


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
        actor: who did it; None = the caller of the store. The daemon works for whoever asked.
    """

    action: str
    object: str
    kind: AuditKind = AuditKind.CHANGE
    outcome: AuditOutcome = AuditOutcome.DONE
    details: Mapping[str, Any] = field(default_factory=dict)
    before: str | None = None
    after: str | None = None
    actor: str | None = None


@dataclass(frozen=True, kw_only=True)
class AuditRow:
    """
    A row of the audit log.

    Attributes:
        number: 1, 2, 3 and so on, without a gap.
        source: where it came from.
        entry: what was done, with its actor; None once retention has emptied the row.
        altered: the row does not authenticate; the entry is what stands there now.
        head: names this row and all before it.
    """

    number: int
    at: datetime
    kind: str
    source: str
    entry: AuditEntry | None
    altered: bool
    head: "AuditHead"


_HEAD: Final = re.compile(r"(-?[0-9]{1,19}):([0-9a-f]{32})")


@dataclass(frozen=True, kw_only=True)
class AuditHead:
    """
    A row of the chain and all before it: what has to be kept elsewhere, so that a cut tail is found.

    Attributes:
        number: of the row; 0 = before the first one.
        digest: keyed digest of that row and all before it, 32 hex digits.
    """

    number: int
    digest: str

    @classmethod
    def of(cls, number: int, chained: bytes) -> "AuditHead":
        """Return the head of a row and its MAC."""
        return cls(number=number, digest=chained.hex()[:32])

    @classmethod
    def parse(cls, text: str) -> "AuditHead":
        """Return the head that a text is, `NUMBER:DIGEST`. InvalidInputError, which does not repeat it."""
        match = _HEAD.fullmatch(text.strip())
        if match is None:
            raise InvalidInputError(
                "that is no head of the audit log: NUMBER:DIGEST with 32 hex digits is expected",
                hint="the daemon logs it each hour, and phasesync audit verify prints it",
            )
        return cls(number=int(match[1]), digest=match[2])

    def __str__(self) -> str:
        return f"{self.number}:{self.digest}"


class Tampering(Enum):
    """What can be wrong with the chain."""

    REMOVED = "removed"
    """Rows in the middle, or at the beginning, are missing."""
    ALTERED = "altered"
    """A row is not what was written."""
    REORDERED = "reordered"
    """A row stands in the place of another."""
    INSERTED = "inserted"
    """A row was never written by phasesync."""
    CUT = "cut"
    """The newest rows are missing."""
    HEAD = "head"
    """The row that says where the chain begins and ends was altered."""
    TRIGGER = "trigger"
    """Something was added to a table of the log that can keep rows out of it."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """
    Something that is wrong with rows of the audit log.

    Attributes:
        first: number of the first row.
        last: number of the last one.
        message: one line for the operator.
    """

    tampering: Tampering
    first: int
    last: int
    message: str


@dataclass(frozen=True, kw_only=True)
class Verification:
    """
    What `audit verify` found out.

    Attributes:
        rows: how many rows were read.
        emptied: how many of them retention has emptied.
        first: number of the first row that retention has left.
        head: where the chain ends; None if there is no log yet, or the head does not authenticate.
        findings: what is wrong; empty if nothing is.
        notes: what could not be checked, one line each.
    """

    rows: int
    emptied: int
    first: int
    head: AuditHead | None
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
