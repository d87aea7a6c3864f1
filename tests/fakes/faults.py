"""
Failures of a fake, asked for by a test, and its hook at every step. Knows names of calls, not what they do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from phasesync.errors import DestinationUnavailableError, OutcomeUnknownError, PhasesyncError

When = Literal["before", "after"]


@dataclass
class _Fault:
    call: str
    when: When
    error: PhasesyncError
    times: int


class FakeFaults:
    """What goes wrong, and who watches. `log` has the names of all calls, in order."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.on_call: Callable[[When, str], None] | None = None
        self._faults: list[_Fault] = []

    def fail(self, call: str, *, when: When = "before", error: PhasesyncError | None = None, times: int = 1) -> None:
        """
        Have the next calls fail.

        Args:
            call: name of a method of `Destination`, or `resolve_key`.
            when: before = nothing happens; after = it happens, and then the error is raised.
            error: None = what such a failure is in life: unavailable before, unknown after.
            times: how many calls fail.
        """
        default = DestinationUnavailableError("no connection") if when == "before" else OutcomeUnknownError("no answer")
        self._faults.append(_Fault(call, when, error or default, times))

    def reach(self, when: When, call: str) -> None:
        """Go past one point of a call: tell the test, then raise what it asked for."""
        if self.on_call is not None:
            self.on_call(when, call)
        for fault in self._faults:
            if (fault.call, fault.when) == (call, when) and fault.times > 0:
                fault.times -= 1
                raise fault.error
