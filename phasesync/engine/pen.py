"""Writes the journal for one run: under its claim, and remembering what was stored last."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from phasesync.core.remote import JournalEntry
from phasesync.ports import Claim, Clock, StateStore


class Pen:
    """The journal of one run."""

    def __init__(
        self,
        state: StateStore,
        claim: Claim,
        clock: Clock,
        *,
        reads: Mapping[str, int] | None = None,
        sync_version: int | None = None,
    ) -> None:
        """
        Args:
            state: keeps the journal.
            claim: the right to write it; every write carries its fence.
            clock: for what is noted.
            reads: environment id -> the revision that this run has read; noted with every entry.
            sync_version: the version of the sync that this run goes by; noted with every entry.
        """
        self._state = state
        self._claim = claim
        self._clock = clock
        self._reads = dict(reads or {})
        self._sync_version = sync_version
        self._saved: dict[str, JournalEntry] = {}

    def save(self, entry: JournalEntry) -> JournalEntry:
        """Store an entry and return it with its id. ClaimLostError."""
        noted = replace(
            entry,
            revisions={**entry.revisions, **self._reads},
            sync_version=self._sync_version or entry.sync_version,
        )
        stored = self._saved[entry.remote_name] = self._state.save_entry(self._claim, noted)
        return stored

    def latest(self, remote_name: str, entry: JournalEntry) -> JournalEntry:
        """Return an object's entry as it was stored last, `entry` where it was not: for after a change that raised."""
        return self._saved.get(remote_name, entry)

    def now(self) -> datetime:
        """Return the time."""
        return self._clock.now()
