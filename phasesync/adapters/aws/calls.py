"""
One call of AWS: watches what the SDK's own repeats did, and raises our errors in place of botocore's.

Must not repeat, log or decide anything.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from phasesync.adapters.aws.deadlines import end_call_at, own_deadline
from phasesync.adapters.aws.errors import asks_for_fewer, may_have_landed, translate
from phasesync.adapters.aws.origin import NotOfAwsError, check_whole, is_of_aws

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
    watched = False
    """A call is under way."""
    quotable = False
    """Nothing in the request is secret, so that AWS's text about it may be shown."""
    ends_at = 0.0
    """When it has to be over, in seconds of the monotonic clock; known from its first attempt on."""

    def begin(self) -> None:
        self.sent, self.open, self.landed, self.throttled = 0, False, False, False
        self.watched, self.quotable = True, False

    def end(self) -> None:
        self.watched = False

    def verdict(self) -> bool | None:
        """Return whether anything may have been carried out; None when no attempt was seen."""
        return (self.landed or self.open) if self.sent else None


_attempts = _Attempts()


_SECRET: Final = frozenset(
    [
        "SecretString",
        "SecretBinary",
        "ExternalId",
        "WebIdentityToken",
        "TokenCode",
        "ResourcePolicy",
        "PolicyDocument",
        "Policy",
    ]
)
"""Arguments that AWS's texts may repeat and nobody is to read: values, and documents that people write values into."""


class CallOverdueError(Exception):
    """A call has reached its deadline before this attempt was sent."""


def watch(client: "BaseClient", *, call_s: float) -> None:
    """
    Have a client report its attempts to `invoke`, and begin none when the call should be over.

    Without this, the last of three attempts hides the others: a refused connection after a lost answer would look as if
    nothing had been sent.

    Args:
        client: a new one.
        call_s: seconds for a whole call.
    """

    def on_send(**_: object) -> None:
        if _attempts.watched and not _attempts.sent:
            _attempts.ends_at = time.monotonic() + call_s
            end_call_at(_attempts.ends_at)
        elif _attempts.watched and time.monotonic() >= _attempts.ends_at:
            raise CallOverdueError
        _attempts.sent += 1
        _attempts.open = True

    client.meta.events.register("before-parameter-build", _on_request)
    client.meta.events.register("before-send", on_send)
    client.meta.events.register("before-parse", _on_answer)
    client.meta.events.register("needs-retry", _on_end)


def _on_request(*, params: Mapping[str, Any], **_: object) -> None:
    _attempts.quotable = not _SECRET.intersection(params)


def _on_answer(*, operation_model: Any, response_dict: Mapping[str, Any], **_: object) -> None:
    check_whole(
        response_dict["body"],
        response_dict["headers"],
        status=response_dict["status_code"],
        is_json=operation_model.service_model.resolved_protocol == "json",
    )


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
        with own_deadline():
            answer = call()
        if not is_of_aws(answer):
            raise NotOfAwsError
        return answer
    except Exception as exc:  # noqa: BLE001 -- parser errors of botocore share no base class with its others
        error = translate(exc, action=action, write=write, landed=_attempts.verdict(), quotable=_attempts.quotable)
    finally:
        _attempts.end()
        if _attempts.throttled:
            throttled()
    raise error
