"""What the service is given: its view of the engine, and the working parts that `phasesync.bootstrap` builds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from phasesync.core.daemons import Load, MemberRole
from phasesync.core.sync_state import Claim
from phasesync.errors import PhasesyncError
from phasesync.settings.model import Settings


class Schema(Protocol):
    """How the database's schema stands."""

    @property
    def current(self) -> str | None:
        """Its revision; None = there are no tables yet."""
        ...

    @property
    def expected(self) -> str:
        """The revision that this release works with."""
        ...

    @property
    def is_current(self) -> bool:
        """Whether this release can work with it."""
        ...


class Chores(Protocol):
    """
    What runs in rounds: `engine.scheduler.Scheduler`. Each returns whether it succeeded; failures of the database are
    told as events, not raised.
    """

    @property
    def role(self) -> MemberRole | None:
        """What this daemon does; None until the first beat came through, and once that is too long ago."""
        ...

    @property
    def heartbeat_failure(self) -> PhasesyncError | None:
        """How the newest heartbeat failed, None where it did not."""
        ...

    def poll(self) -> bool:
        """Claim what is pending and hand it on; nothing on a standby."""
        ...

    def beat(self) -> bool:
        """Say that we are alive, learn the role, renew claims."""
        ...

    def reap(self) -> bool:
        """Free syncs whose holder died."""
        ...

    def sweep(self) -> bool:
        """Check many objects at once, by lists."""
        ...

    def expire_leases(self) -> bool:
        """Take back the leases that are due."""
        ...

    def reap_users(self) -> bool:
        """Remove users at AWS that belong to no live lease."""
        ...

    def keep_house(self) -> bool:
        """Delete old runs and leases."""
        ...

    def stop(self) -> None:
        """Claim nothing more; returns when no poll is under way."""
        ...

    def leave(self, unfinished: list[Claim]) -> None:
        """Give claims back and sign off."""
        ...


class Keeper(Protocol):
    """`engine.claims.ClaimKeeper`, as far as the service goes."""

    def stop(self) -> None:
        """Permit no further write; calls in hand end."""
        ...


class Draining(Protocol):
    """A dispatcher, as far as its load and its end go."""

    def load(self) -> Load:
        """Return how busy its threads are."""
        ...

    def drain(self, timeout: timedelta) -> bool:
        """Take no more work and wait; return whether all was done in time."""
        ...


class Work(Draining, Protocol):
    """The dispatcher of syncs, as far as the service goes."""

    def running(self) -> Sequence[Claim]:
        """Return the claims that are being worked on."""
        ...


def _nothing() -> None:
    """Close nothing."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """
    The working parts of one daemon.

    Attributes:
        scheduler: its rounds.
        keeper: permits writes.
        dispatcher: does the work.
        also_draining: dispatchers of other work, whose calls in hand are waited for likewise.
        close: called at the end, when nothing runs any more.
        live: names of settings that the parts read anew through `current` whenever they need them, such as
            `retention.runs_days`; a change of any other one takes a restart.
        warnings: for the operator, one line each; logged at the start.
    """

    scheduler: Chores
    keeper: Keeper
    dispatcher: Work
    also_draining: Sequence[Draining] = ()
    close: Callable[[], None] = _nothing
    live: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()


Current = Callable[[], Settings]
"""Returns the settings that are in effect now."""

Build = Callable[[Current], Parts]
"""Builds the parts of a database whose schema is right. PhasesyncError: what ends the start."""
