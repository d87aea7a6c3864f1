"""
Rehearses a change of the store: finds out what it would do, there and at AWS, and leaves nothing.

The change is carried out by the same code as ever, in a transaction that is rolled back. Before that, the syncs that it
affects are read as it would leave them. AWS is asked afterwards, when nothing is locked any more.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from phasesync.core.credential import CredentialStatus
from phasesync.core.pages import PAGE_SIZE
from phasesync.core.sync_claim import SyncState
from phasesync.engine.approvals import rehearsing
from phasesync.engine.context import Context
from phasesync.engine.source import Source, read_sources


@dataclass(frozen=True, kw_only=True)
class AffectedSync:
    """
    A sync as a change would leave it.

    Attributes:
        source: what it would read; None if that cannot be read, which its plan reports.
    """

    state: SyncState
    source: Source | None

    @property
    def idle_because(self) -> str | None:
        """Why no run would follow, None if one would."""
        sync = self.state.sync
        if sync.paused is not None:
            return f"it is paused by {sync.paused.by}"
        if self.state.credential.status is CredentialStatus.INCOMPLETE:
            return f"the credential {self.state.credential.name} has no role yet"
        return None


@dataclass
class Rehearsal:
    """
    What a change would affect; filled in when the block ends.

    Attributes:
        affected: the syncs that would be reconciled because of it, by name.
        protected: labels of the protected environments for which somebody else would have to approve the change.
    """

    affected: list[AffectedSync] = field(default_factory=list)
    protected: tuple[str, ...] = ()


@contextmanager
def rehearse(context: Context) -> Iterator[Rehearsal]:
    """
    Rehearse the changes that a block makes in the store: at its end they are rolled back.

    The block must not write to AWS, and what it asks AWS should come before its first change of the store.
    """
    rehearsal = Rehearsal()
    before = context.store.sync_states.inputs()
    with context.store.database.rehearsal():
        with rehearsing() as met:
            yield rehearsal
        rehearsal.protected = tuple(met.values())
        after = context.store.sync_states.inputs()
        changed = [sync_id for sync_id, numbers in after.items() if before.get(sync_id) != numbers]
        for n in range(0, len(changed), PAGE_SIZE):
            states = context.store.sync_states.states_by_id(changed[n : n + PAGE_SIZE])
            sources = read_sources(context.store.secrets, [state.sync for state in states])
            rehearsal.affected += [AffectedSync(state=state, source=sources.get(state.sync.id)) for state in states]
    rehearsal.affected.sort(key=lambda affected: affected.state.sync.name.lower())
