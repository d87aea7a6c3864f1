"""Time, events, threads for claimed work, and the test of a credential."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol, TypeVar

from phasesync.core.credential import Credential, CredentialReport, Principal
from phasesync.core.events import Event
from phasesync.core.sync_claim import Claim, DueSync


class Clock(Protocol):
    """Time."""

    def now(self) -> datetime:
        """Return the wall clock's time, aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never jump."""
        ...


class EventSink(Protocol):
    """Receives events and turns them into logs and metrics."""

    def emit(self, event: Event) -> None:
        """Receive an event. Never raises, never blocks for long."""
        ...


Work = TypeVar("Work")


class Dispatcher(Protocol[Work]):
    """Runs claimed work in threads. The claim provides exclusion, so that a dead worker never blocks anything."""

    @property
    def free(self) -> int:
        """How many more claims can start at once."""
        ...

    def submit(self, work: Work) -> bool:
        """Start the work soon. Return False if no more work is accepted; then nothing is done."""
        ...

    def running(self) -> Sequence[Work]:
        """Return the work that is under way."""
        ...


class SyncDispatcher(Dispatcher[Claim], Protocol):
    """Runs claimed syncs."""

    @property
    def free_for_large(self) -> int:
        """How many of the free threads large syncs may use; 0 or less means none, so that small syncs need not wait."""
        ...


class SyncQueue(Protocol):
    """
    Distributes due syncs among the daemons. A daemon that gets one claims it before it runs it.

    The queue excludes nobody: an entry of a daemon that died or froze keeps no other daemon from its sync.
    """

    @property
    def most(self) -> int:
        """How many entries of small syncs may wait in the queue, and how many of large ones."""
        ...

    def share(self, position: int, daemons: int) -> None:
        """Set which of how many daemons this one is, from 0: so that each of them puts other syncs into the queue."""
        ...

    def put(self, due: Sequence[DueSync]) -> None:
        """
        Put due syncs into the queue; one that is there already stays as it is.

        Raises:
            StoreUnavailableError, SchemaMismatchError: the queue cannot be used now, even if nothing is due.
        """
        ...

    def clear(self) -> int:
        """Remove the entries that daemons left which died or froze; return how many. Raises as `put` does."""
        ...


class CredentialTester(Protocol):
    """Asks AWS about a credential."""

    def test(self, credential: Credential) -> CredentialReport:
        """
        Ask AWS for the identity of the credential.

        Raises:
            CredentialRejectedError: names what the trust policy lacks, found by AssumeRole with and without the
                External ID.
        """
        ...

    def principal(self, credential: Credential) -> Principal:
        """Return the principal that the trust policy of the credential's role should name. CredentialRejectedError."""
        ...
