"""
Tells rows that are authentic but older than what a run has already gone by: somebody put them back.

Every row is bound to its place and its MAC, which an older copy of it is too. The journal has noted, encrypted, which
revisions and which version of the sync its writes were made from. Whoever puts back the journal as well meets the
versions at AWS, which tell that (`restored.py`).
"""

from phasesync.engine.source import Source
from phasesync.errors import CiphertextError
from phasesync.ports import SyncState


def check_not_put_back(state: SyncState, source: Source) -> None:
    """Raise CiphertextError where an environment, or the sync itself, is older than what was written from it."""
    sync = state.sync
    for entry in state.journal:
        if (entry.sync_version or 0) > sync.version:
            raise _put_back(f"the sync {sync.name}", "version", sync.version, entry.sync_version or 0)
        for environment_id, revision in entry.revisions.items():
            found = source.reads.get(environment_id)
            if found is not None and found < revision:
                raise _put_back(f"the environment {source.labels[environment_id]}", "revision", found, revision)


def _put_back(what: str, word: str, found: int, known: int) -> CiphertextError:
    return CiphertextError(
        f"{what} is at {word} {found}, and {word} {known} of it was written to AWS: older rows were put back outside "
        "phasesync; nothing is planned or written",
        hint="restore a backup of the whole database: phasesync db restore FILE; or go on with what is there: "
        "phasesync db accept-restore",
    )
