"""How a sync stands now: what its operator set, what is under way and what the newest run left behind."""

from phasesync.core.model import CredentialStatus, Sync
from phasesync.core.status import SyncStatus

_OVERTAKEN_BY_EDITS = (SyncStatus.IN_SYNC, SyncStatus.HELD, SyncStatus.HALTED)


def status_of(sync: Sync, credential: CredentialStatus) -> SyncStatus:
    """Return the status word of a sync that uses a credential of this status."""
    if sync.paused is not None:
        return SyncStatus.PAUSED
    if credential is CredentialStatus.INCOMPLETE:
        return SyncStatus.INCOMPLETE
    if sync.running:
        return SyncStatus.RUNNING
    if sync.pending and sync.settled_status in _OVERTAKEN_BY_EDITS:
        return SyncStatus.PENDING
    return sync.settled_status
