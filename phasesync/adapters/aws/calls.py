"""
One call of AWS: watches what the SDK's own repeats did, and raises our errors in place of botocore's.

Must not repeat, log or decide anything.
"""

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from phasesync.adapters.aws.errors import asks_for_fewer, may_have_landed, translate

if TYPE_CHECKING:
    from botocore.client import BaseClient

T = TypeVar("T")


class _Attempts(threading.local):
    """What became of the attempts of the call that this thread makes now; botocore calls back in the same thread."""

    sent = 0
    open = False
    """The newest attempt was sent and nothing is known of its end."""
    landed = False
    """An attempt that failed may have been carried out."""
    throttled = False
    """An attempt was refused because there were too many calls."""

    def begin(self) -> None:
        self.sent, self.open, self.landed, self.throttled = 0, False, False, False

    def verdict(self) -> bool | None:
        """Return whether anything may have been carried out; None when no attempt was seen."""
        return (self.landed or self.open) if self.sent else None


_attempts = _Attempts()


def watch(client: "BaseClient") -> None:
    """
    Have a client report its attempts to `invoke`.

    Without this, the last of three attempts hides the others: a refused connection after a lost answer would look as if
    nothing had been sent.
    """
    client.meta.events.register("before-send", _on_send)
    client.meta.events.register("needs-retry", _on_end)


def _on_send(**_: object) -> None:
    _attempts.sent += 1
    _attempts.open = True


def _on_end(
    *,
    response: tuple[Any, Mapping[str, Any]] | None = None,
    caught_exception: Exception | None = None,
    **_: object,
) -> None:
    _attempts.open = False
    answer = None if response is None else response[1]
    if may_have_landed(caught_exception, answer):
        _attempts.landed = True
    if asks_for_fewer(answer):
        _attempts.throttled = True


def _nothing() -> None:
    """Nobody wants to know."""


def invoke(call: Callable[[], T], *, action: str, write: bool, throttled: Callable[[], None] = _nothing) -> T:
    """
    Make a call of a botocore client.

    Args:
        call: makes exactly one call of a client that is watched.
        action: its IAM action, such as `secretsmanager:PutSecretValue`.
        write: whether it changes something.
        throttled: called where AWS asked for fewer calls, even if one of the SDK's own repeats went through.

    Raises:
        PhasesyncError: what the table says, without cause and without context: the original repeats arguments.
    """
    _attempts.begin()
    try:
        return call()
    except Exception as exc:  # noqa: BLE001 -- parser errors of botocore share no base class with its others
        error = translate(exc, action=action, write=write, landed=_attempts.verdict())
    finally:
        if _attempts.throttled:
            throttled()
    raise error
