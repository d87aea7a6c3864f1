"""Time, where events go, who runs claimed work, and who tests a credential."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from phasesync.core.credential import Credential, CredentialReport, Principal
from phasesync.core.events import Event
from phasesync.core.remote import CallerIdentity
from phasesync.core.sync_state import Claim


class Clock(Protocol):
    """Time."""

    def now(self) -> datetime:
        """Return the wall clock's time, aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never jump."""
        ...


class EventSink(Protocol):
    """Takes what happened; turns it into logs and metrics."""

    def emit(self, event: Event) -> None:
        """Take an event. Never raises, never blocks for long."""
        ...


Work = TypeVar("Work")


class Dispatcher(Protocol[Work]):
    """
    Runs what was claimed. It distributes; exclusion is the claim's, so that a dead worker never blocks anything.
    """

    @property
    def free(self) -> int:
        """How many more claims can be started at once."""
        ...

    def submit(self, work: Work) -> bool:
        """Do it soon; return False where no more work is taken, and nothing is done."""
        ...

    def running(self) -> Sequence[Work]:
        """Return what is being worked on."""
        ...

    def drain(self, timeout: timedelta) -> bool:
        """Take no more work and wait; return whether all was done in time."""
        ...


class SyncDispatcher(Dispatcher[Claim], Protocol):
    """Runs claimed syncs."""

    @property
    def free_for_large(self) -> int:
        """How many of those that are free large syncs may have; 0 or less = none, so that small ones need not wait."""
        ...


class CredentialTester(Protocol):
    """Finds out what AWS says of a credential."""

    def test(self, credential: Credential) -> CredentialReport:
        """
        Ask AWS who the credential is.

        Raises:
            CredentialRejectedError: with what the trust policy lacks, told from AssumeRole with and without the
                External ID.
        """
        ...

    def base_identity(self, credential: Credential) -> CallerIdentity:
        """Return who would assume the credential's role: its source, or the default chain."""
        ...

    def principal(self, credential: Credential) -> Principal:
        """Return who the trust policy of the credential's role should name. CredentialRejectedError."""
        ...
