"""How a sync stands now: what its operator set, what is under way and what the newest run left behind."""

from phasesync.core.credential import CredentialStatus
from phasesync.core.sync import Sync, SyncStatus

_OVERTAKEN = (SyncStatus.IN_SYNC, SyncStatus.HELD, SyncStatus.HALTED)
"""What these say holds until an edit, a change of the sync or a request that no run has answered yet."""

NEEDS_A_PERSON = frozenset({SyncStatus.HELD, SyncStatus.HALTED, SyncStatus.PAUSED, SyncStatus.INCOMPLETE})
"""
What a sync does not leave by itself: `status_of` gives these only where no edit, request or run is under way that may
change it. Only a pause may have an end.
"""


def status_of(sync: Sync, credential: CredentialStatus) -> SyncStatus:
    """Return the status word of a sync that uses a credential of this status."""
    if sync.paused is not None:
        return SyncStatus.PAUSED
    if credential is CredentialStatus.INCOMPLETE:
        return SyncStatus.INCOMPLETE
    if sync.running:
        return SyncStatus.RUNNING
    if (sync.pending or sync.requested is not None) and sync.settled_status in _OVERTAKEN:
        return SyncStatus.PENDING
    return sync.settled_status
