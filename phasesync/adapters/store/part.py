"""What every part of the store stands on: the database, the key ring, and ids. Knows no table."""

import uuid

from phasesync.adapters.store.engine import Database
from phasesync.adapters.store.repeating import repeat_methods
from phasesync.adapters.store.sealing import Sealer
from phasesync.errors import IllegalTransitionError, NotFoundError
from phasesync.ports import KeyRing


class Part:
    """One part of the store; the stores are put together from several. Its public methods are repeated where needed."""

    def __init_subclass__(cls) -> None:
        repeat_methods(cls)

    def __init__(self, database: Database, keys: KeyRing) -> None:
        self._database = database
        self._keys = keys
        self._sealer = Sealer(keys)


def new_id() -> str:
    """Return a fresh id: 32 hex digits."""
    return uuid.uuid4().hex


def listed(names: list[str]) -> str:
    """Return names for a message: the first ten, and how many more there are."""
    shown = ", ".join(names[:10])
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown or "none"


def absent(what: str, name: str, names: list[str], group: str) -> NotFoundError:
    """
    Return the error for a name that nothing has; the hint is `list` where there is something to see.

    Args:
        what: the kind of thing.
        name: what was looked for.
        names: what there is.
        group: the group of commands for this kind.
    """
    if names:
        return NotFoundError(f"there is no {what} {name}; there is: {listed(names)}", hint=f"phasesync {group} list")
    return NotFoundError(f"there is no {what} {name}, and no other either", hint=f"phasesync {group} add --help")


def live_leases(what: str, live: int, command: str) -> IllegalTransitionError:
    """Return the error for the removal of something that has live leases."""
    counted = "1 live lease" if live == 1 else f"{live} live leases"
    return IllegalTransitionError(f"{what} has {counted}", hint=f"to revoke them first: {command}")
