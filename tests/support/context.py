"""What use cases work with, in tests: a real store, and AWS in memory or on the emulator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NoReturn

from phasesync.adapters.clock import SystemClock
from phasesync.core.events import Event
from phasesync.core.remote import JournalEntry
from phasesync.core.sync_claim import Claim
from phasesync.engine.context import Context
from phasesync.ports.destination import Destinations
from phasesync.ports.issuer import LeaseIssuers
from phasesync.ports.runtime import Clock, CredentialTester, EventSink
from phasesync.store import Store
from phasesync.store.journal import JournalStore
from phasesync.store.runs import RunStore
from tests.support.stores import TTL

Reach = Callable[[str, str], None]
"""Called at a step of a run: before or after, and what."""


class NoEvents:
    """No one listens."""

    def emit(self, event: Event) -> None:
        """Drop an event."""


def context_of(
    store: Store,
    *,
    destinations: Destinations | None = None,
    issuers: LeaseIssuers | None = None,
    tester: CredentialTester | None = None,
    clock: Clock | None = None,
    events: EventSink | None = None,
    owner: str = "cli",
    ttl: timedelta = TTL,
    random: Callable[[], float] = lambda: 0.5,
) -> Context:
    """A context on a store. AWS that is not given may not be asked for."""

    def given(value: Any) -> Callable[[], Any]:
        return _refuse if value is None else lambda: value

    return Context(
        store=store,
        clock=clock or SystemClock(),
        events=events or NoEvents(),
        owner=owner,
        claim_ttl=ttl,
        lease_claim_ttl=lambda: ttl,
        random=random,
        coalesce=lambda: timedelta(0),
        make_destinations=given(destinations),
        make_issuers=given(issuers),
        make_tester=given(tester),
    )


def watched(store: Store, reach: Reach) -> Store:
    """The same database, with a hook before and after every write of the journal and of a run's end."""

    class WatchedJournal(JournalStore):
        def save_entry(self, claim: Claim, entry: JournalEntry, also: Sequence[JournalEntry] = ()) -> JournalEntry:
            reach("before", "save_entry")
            stored = store.journal.save_entry(claim, entry, also)
            reach("after", "save_entry")
            return stored

    class WatchedRuns(RunStore):
        def finish(self, *args: Any) -> timedelta | None:
            reach("before", "finish")
            lag = store.runs.finish(*args)
            reach("after", "finish")
            return lag

    copy = Store(store.database, store.keys, instance_id=store.instance_id)
    copy.journal = WatchedJournal(store.database, store.keys)
    copy.runs = WatchedRuns(store.database, store.keys)
    return copy


def _refuse() -> NoReturn:
    raise AssertionError("this test has no AWS of that kind")
