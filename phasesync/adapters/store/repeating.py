"""
Repeats what the database gave up because other transactions stood in its way.

PostgreSQL ends one of two transactions that wait for each other (40P01), and one whose snapshot does not fit what
others committed (40001). Nothing of it was stored, and the same work goes through a moment later. Rows are locked in
the order of their ids, so that this is rare; foreign keys, indexes and cascades take locks in orders of their own.
"""

import inspect
import secrets
import time
from collections.abc import Callable
from functools import wraps
from typing import Final, ParamSpec, TypeVar

from phasesync.adapters.store.failures import CONFLICTS
from phasesync.errors import StoreUnavailableError

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound=type)

ATTEMPTS: Final = 6

_FIRST_PAUSE_S: Final = 0.02


def repeated(work: Callable[P, T]) -> Callable[P, T]:
    """Return a function that does its work again, after a short random pause, when the database gave it up."""

    @wraps(work)
    def repeating(*args: P.args, **kwargs: P.kwargs) -> T:
        for attempt in range(1, ATTEMPTS):
            try:
                return work(*args, **kwargs)
            except StoreUnavailableError as error:
                if error.code not in CONFLICTS:
                    raise
                # At random, so that two that met do not meet again.
                time.sleep(_FIRST_PAUSE_S * 2**attempt * secrets.SystemRandom().random())
        return work(*args, **kwargs)

    return repeating


def repeat_methods(cls: C) -> C:
    """
    Have every public method of a class repeated that the database gave up.

    Each of them is one piece of work on the database: nothing that it did before the error is stored, or storing it
    twice makes no difference.
    """
    for name, member in vars(cls).copy().items():
        if not name.startswith("_") and inspect.isfunction(member) and not inspect.isgeneratorfunction(member):
            setattr(cls, name, repeated(member))
    return cls
