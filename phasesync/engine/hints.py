"""Hints of errors that end what an operator asked of one sync: NAME in them is that sync, or its credential."""

from collections.abc import Iterator
from contextlib import contextmanager

from phasesync.core.sync import Sync
from phasesync.engine.attempt import hint_of
from phasesync.errors import PhasesyncError


@contextmanager
def hints_for(sync: Sync) -> Iterator[None]:
    """Have the hints of errors that pass name this sync."""
    try:
        yield
    except PhasesyncError as error:
        error.hint = hint_of(error, sync)
        raise
