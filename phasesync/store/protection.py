"""
Protected environments: every write that changes one asks here first, in its own transaction.

Without a permit such a write is refused, and the error carries the change as a proposal, which `engine/approvals.py`
files as a request. A permit exists only for an approved request: `permitted` is called there and nowhere else. It is
for one digest, and the store computes the digest of what it is about to write anew. So whatever is not exactly what was
approved, or starts from another state, is refused too.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from phasesync.errors import ApprovalNeededError, ProposalMovedError
from phasesync.store.key_ring import KeyRing
from phasesync.store.serialization import to_json

if TYPE_CHECKING:
    from phasesync.core.change_request import Proposal, Seen

DIGEST_DIGITS: Final = 16
"""Hex digits of a digest, as of a plan."""


@dataclass(frozen=True, kw_only=True)
class Permit:
    """
    What an approved request lets through in this thread.

    Attributes:
        environments: ids of the environments.
        digest: of the one change it is for; None: any change of these environments, where the use case has compared
            the digest itself.
        seen: what that change starts from.
        approvals: how many people approved it. An environment that asks for more by now is not let through.
        approved_by: who approved it, for the history.
        met: None: a change of any other protected environment is refused. A mapping: it goes on and is noted here, as
            id -> label, and whoever opened the transaction rolls it back.
    """

    environments: frozenset[str]
    digest: str | None
    seen: "Mapping[str, Seen]" = field(default_factory=dict)
    approvals: int
    approved_by: str = ""
    met: dict[str, str] | None = None


_current: Final[ContextVar[Permit | None]] = ContextVar("phasesync_permit", default=None)


@contextmanager
def permitted(permit: Permit) -> Iterator[None]:
    """Let the writes of this thread through that a permit is for. Only `engine/approvals.py` calls this."""
    token = _current.set(permit)
    try:
        yield
    finally:
        _current.reset(token)


def require_approval(keys: KeyRing, rows: Iterable[sa.Row[Any]], propose: "Callable[[], Proposal]") -> str | None:
    """
    Return who approved a change of environments; None if none of them is protected.

    A change that is carried out is compared with what was approved also where no environment is protected (any more):
    a name of it may lead to another environment by now.

    Args:
        keys: makes the digest of the change.
        rows: of the environments, with `app`; authenticated, unless the change only removes something.
        propose: describes the change; called only where an environment is protected.

    Raises:
        ApprovalNeededError: nobody has approved the change; nothing may be written.
        ProposalMovedError: what was approved starts from another state.
    """
    permit = _current.get()
    needed = {row.id: row for row in rows if row.approvers is not None}
    protected = {key: f"{row.app}/{row.name}" for key, row in needed.items()}
    if permit is None:
        if protected:
            raise ApprovalNeededError(environments=protected, proposal=propose())
        return None
    others = {key: label for key, label in protected.items() if key not in permit.environments}
    short = {key: protected[key] for key, row in needed.items() if _approvers_of(row) > permit.approvals}
    if permit.met is not None:
        permit.met.update(others | short)
    elif others:
        raise ProposalMovedError(f"the change concerns {', '.join(others.values())} too, which was not so before")
    elif permit.digest is not None:
        _check_same(keys, permit, propose)
    if short and permit.met is None:
        raise ApprovalNeededError(environments=protected, proposal=propose())
    return permit.approved_by or None if protected else None


def _approvers_of(row: sa.Row[Any]) -> int:
    # SQLite stores a value of any type in any column; where that matters, the row was authenticated.
    return row.approvers if isinstance(row.approvers, int) else 0


def _check_same(keys: KeyRing, permit: Permit, propose: "Callable[[], Proposal]") -> None:
    """Raise ProposalMovedError if a change is not the one that a permit is for."""
    proposal = propose()
    if digest_of(keys, proposal) != permit.digest:
        from phasesync.core.change_request import moved

        raise ProposalMovedError(
            f"what the request starts from, or leads to, has changed since: {moved(permit.seen, proposal.seen)}"
        )


def collecting() -> Permit | None:
    """Return the permit of this thread if it lets everything through for a rehearsal, or for a plan; else None."""
    permit = _current.get()
    return permit if permit is not None and permit.met is not None else None


def digest_of(keys: KeyRing, proposal: "Proposal") -> str:
    """Return the keyed digest that names a proposal. It does not help to guess the values in it."""
    if proposal.digest is not None:
        return proposal.digest
    content = to_json({"action": proposal.action, "arguments": proposal.arguments, "seen": proposal.seen})
    return keys.digests.digest("change-request", content.encode("utf-8", "surrogatepass")).hex()[:DIGEST_DIGITS]
