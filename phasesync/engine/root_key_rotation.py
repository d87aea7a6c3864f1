"""
Replaces the root key while daemons and commands work.

    register the next one -> wait until every daemon has it -> it is the current one -> wrap every data key anew

Each step is a short transaction, and the database says which were done. Interrupted anywhere, the next call goes on. No
root key itself comes here: the store has its id, and its key ring wraps with it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from phasesync.core.counted import counted
from phasesync.engine.context import Context
from phasesync.errors import IllegalTransitionError
from phasesync.store.key_ring import CURRENT, FORMER, NEXT

if TYPE_CHECKING:
    from phasesync.store.root_keys import DaemonWithKeys, NewRootKey, RegisteredRootKey

BATCH: Final = 100
"""Data keys in one transaction: on SQLite a few milliseconds, in which nobody else writes."""
_LOOK_AGAIN: Final = timedelta(milliseconds=500)
"""Between two looks at which daemons have the next root key; a daemon loads it with a heartbeat."""


@dataclass(frozen=True, kw_only=True)
class RootKeysInUse:
    """
    The root keys of a database.

    Attributes:
        current: the one that wraps new data keys.
        next: the one that is registered to take its place; None if none is.
        former: those that were replaced, the newest first by the clock of the database, which may have been set back.
    """

    current: "RegisteredRootKey"
    next: "RegisteredRootKey | None"
    former: "Sequence[RegisteredRootKey]"

    @property
    def left(self) -> int:
        """How many data keys are still wrapped under another root key than the current one: a rotation is not done."""
        return sum(root.data_keys for root in self.former)


@dataclass(frozen=True, kw_only=True)
class RotatedRootKey:
    """
    What was done.

    Attributes:
        former: id of the root key that was replaced.
        current: id of the one in its place.
        data_keys: how many data keys this call wrapped anew.
        went_on: it went on with a call that was interrupted.
    """

    former: str
    current: str
    data_keys: int
    went_on: bool


def root_keys_in_use(context: Context) -> RootKeysInUse:
    """Return the root keys of the database. KeyUnavailableError if it has none."""
    known = context.store.root_keys.list_all()
    # One that is not registered at all wraps what a process of a former release made, or all that there is.
    registered = [root for root in known if root.status == CURRENT and root.since is not None]
    current = (registered or [root for root in known if root.status == CURRENT])[0]
    others = [root for root in known if root.id != current.id]
    return RootKeysInUse(
        current=current,
        next=next((root for root in others if root.status == NEXT), None),
        former=[root for root in others if root.status in (FORMER, CURRENT)],
    )


def rotate_root_key(
    context: Context,
    *,
    find_next: "Callable[[RootKeysInUse], NewRootKey]",
    kind_of: Callable[[str], str],
    wait: timedelta,
    report: Callable[[str], object],
    pause: Callable[[timedelta], object],
) -> RotatedRootKey:
    """
    Replace the root key, or go on with a replacement that was interrupted.

    Args:
        context: of an opened installation.
        find_next: returns the root key that is to become the current one, and makes it if need be; not called if the
            one before has taken its place already.
        kind_of: returns where the root key of an id is kept, as the table says it.
        wait: how long to wait for daemons that do not have it yet.
        report: takes a line that says what is done, or waited for.
        pause: sleeps.

    Raises:
        IllegalTransitionError: a daemon does not have the next root key, or does not say; nothing was replaced, and the
            next call goes on.
        KeyUnavailableError: a root key that wraps data keys is not at hand.
    """
    store = context.store.root_keys
    known = root_keys_in_use(context)
    went_on = known.next is not None or known.left > 0
    if known.left == 0:
        new = find_next(known)
        store.begin(new, kind_of_current=kind_of(known.current.id))
        report(f"the root key {new.id} is registered as the next one")
        _wait_for_daemons(context, new.id, wait=wait, report=report, pause=pause)
        former = store.switch(new.id)
        report(f"the root key {new.id} is the current one; {former} wraps nothing new any more")
    else:
        former = next(root.id for root in known.former if root.data_keys)
    count = 0
    while done := store.rewrap(most=BATCH):
        count += done
        report(f"{counted(count, 'data key')} wrapped anew")
    return RotatedRootKey(
        former=former,
        current=root_keys_in_use(context).current.id,
        data_keys=count,
        went_on=went_on,
    )


def _wait_for_daemons(
    context: Context,
    root_key_id: str,
    *,
    wait: timedelta,
    report: Callable[[str], object],
    pause: Callable[[timedelta], object],
) -> None:
    """Return once every live daemon has a root key. IllegalTransitionError."""
    until = context.clock.monotonic() + wait.total_seconds()
    said: list[str] = []
    while lacking := daemons_without(context, root_key_id):
        refuse_former_releases(context)
        if context.clock.monotonic() >= until:
            raise IllegalTransitionError(
                f"{_named(lacking)}: the daemon there does not have the root key {root_key_id}; nothing was replaced",
                hint="give it the next root key as docs/keys.md says, and repeat the command, which goes on: phasesync "
                "keys rotate-root",
            )
        if (owners := [one.owner for one in lacking]) != said:
            report(f"waiting until it has the root key {root_key_id}: {_named(lacking)}")
            said = owners
        pause(_LOOK_AGAIN)


def refuse_former_releases(context: Context) -> None:
    """Raise IllegalTransitionError if a live daemon does not say which root keys it has: it cannot get another."""
    silent = [one for one in context.store.root_keys.daemons() if one.root_keys is None]
    if silent:
        raise IllegalTransitionError(
            f"{_named(silent)}: a daemon of a former release is at work there, and cannot change to another root "
            "key; nothing was replaced",
            hint="install this release there, or stop it, and repeat the command: phasesync keys status shows it",
        )


def daemons_without(context: Context, root_key_id: str) -> "list[DaemonWithKeys]":
    """Return the live daemons that do not have a root key, or do not say."""
    return [one for one in context.store.root_keys.daemons() if root_key_id not in (one.root_keys or ())]


def _named(lacking: "Sequence[DaemonWithKeys]") -> str:
    return ", ".join(f"{one.host} (process {one.pid})" for one in lacking)
