"""
Looks without a claim: the database and AWS are read one after the other, and a run may write in between.

What AWS shows is then newer than what the database said, which looks like a database that is older than AWS, or like a
value that somebody else wrote. Whoever writes notes that in the database before the call. So a doubtful finding counts
only where the database says the same before and after the look; else everything is read anew.
"""

import time
from collections.abc import Callable
from typing import Final, TypeVar

from phasesync.errors import StalePlanError

S = TypeVar("S")
T = TypeVar("T")

PAUSES_S: Final = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Between looks that met a write; edits that follow each other are coalesced, so that there is time in between."""


def look_steadily(
    first: S,
    again: Callable[[], S],
    look: Callable[[S], T],
    *,
    doubtful: Callable[[T], bool],
    moved: Callable[[S, S], bool],
) -> T:
    """
    Look until what is found is beyond doubt, or the database stood still during the look.

    Args:
        first: what the database says.
        again: reads that anew.
        look: looks at AWS.
        doubtful: whether a write in between may have made what was found.
        moved: whether the database says another thing than before.

    Raises:
        StalePlanError: it moved during every look.
    """
    state = first
    for pause_s in PAUSES_S:
        found = look(state)
        if not doubtful(found):
            return found
        latest = again()
        if not moved(state, latest):
            return found
        state = latest
        time.sleep(pause_s)
    raise StalePlanError(
        "the sync was written to during every look at it, so nothing is known for certain",
        hint="try it again in a moment, or stop the writing meanwhile: phasesync syncs pause NAME",
    )
