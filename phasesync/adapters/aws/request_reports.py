"""
Reports each request that a client sends to AWS, those included that the AWS SDK repeats by itself: for metrics.

The result is a word of this module, never a text of AWS. A report must not change what a call does.
"""

import threading
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from phasesync.adapters.aws.error_codes import class_of_code, row_of_exception
from phasesync.adapters.aws.response_check import is_from_aws
from phasesync.errors import (
    CredentialRejectedError,
    DestinationRejectedError,
    DestinationUnavailableError,
    PermissionDeniedError,
    PhasesyncError,
    QuotaExceededError,
    RemoteChangedError,
    SettingsError,
    ThrottledError,
)

if TYPE_CHECKING:
    from botocore.client import BaseClient

OK: Final = "ok"
NOT_FOUND: Final = "not-found"
UNKNOWN: Final = "unknown"
"""It may have been carried out: it was sent, and no answer came."""
_WORDS: Final[Mapping[type[PhasesyncError], str]] = {
    ThrottledError: "throttled",
    PermissionDeniedError: "denied",
    CredentialRejectedError: "credential",
    RemoteChangedError: "conflict",
    QuotaExceededError: "quota",
    DestinationRejectedError: "rejected",
    DestinationUnavailableError: "unavailable",
    SettingsError: "rejected",
}
RESULTS: Final = (OK, NOT_FOUND, UNKNOWN, *dict.fromkeys(_WORDS.values()))
"""Every result of a request."""
_NOT_FOUND_CODES: Final = ("ResourceNotFoundException", "NoSuchEntity")
_TOO_MANY_REQUESTS: Final = 429


def _ignore(*_: object) -> None:
    """The default for reports."""


class RequestReports:
    """Reports the requests of clients. Safe to share between threads."""

    def __init__(self) -> None:
        self.request: Callable[[str, str, str, float], None] = _ignore
        """Called at the end of a request with service and operation, as the SDK names them, result and seconds."""
        self.clock: Callable[[float], None] = _ignore
        """Called with the seconds by which this host's clock is ahead of AWS's, after each answer of AWS."""
        self._thread = _Thread()

    def watch(self, client: "BaseClient") -> None:
        """Report the requests of a client. To be called after `sdk.observe_attempts`, which may refuse to send one."""
        client.meta.events.register("before-send", self._on_send)
        client.meta.events.register("needs-retry", self._on_end)
        client.meta.events.register("after-call-error", partial(self._on_error, client.meta.service_model.service_name))

    def _on_send(self, **_: object) -> None:
        self._thread.sent_at = time.monotonic()

    def _on_end(
        self,
        *,
        operation: Any,
        response: tuple[Any, Mapping[str, Any]] | None = None,
        caught_exception: Exception | None = None,
        **_: object,
    ) -> None:
        sent_at, self._thread.sent_at = self._thread.sent_at, None
        if sent_at is None:
            return
        took_s = time.monotonic() - sent_at
        parsed = None if response is None else response[1]
        self.request(operation.service_model.service_name, operation.name, result_of(parsed, caught_exception), took_s)
        if parsed is not None and (ahead_s := _ahead_s(parsed, took_s)) is not None:
            self.clock(ahead_s)

    def _on_error(self, service: str, *, event_name: str, exception: Exception, **_: object) -> None:
        """Report a request whose response could not be read: botocore asks nobody then whether to repeat it."""
        sent_at, self._thread.sent_at = self._thread.sent_at, None
        if sent_at is not None:
            operation = event_name.rpartition(".")[2]
            self.request(service, operation, result_of(None, exception), time.monotonic() - sent_at)


class _Thread(threading.local):
    sent_at: float | None = None
    """When the request under way was sent; None if none is."""


def result_of(response: Mapping[str, Any] | None, caught: Exception | None) -> str:
    """Return the result of a request; `response` is what botocore parsed, `caught` what the HTTP layer raised."""
    if response is None:
        kind, may_have_arrived, _ = (
            (DestinationUnavailableError, True, "") if caught is None else row_of_exception(caught)
        )
        return UNKNOWN if may_have_arrived else _WORDS.get(kind, UNKNOWN)
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if not is_from_aws(response):
        return _WORDS[ThrottledError if status == _TOO_MANY_REQUESTS else DestinationUnavailableError]
    if "Error" not in response:
        return OK
    code = str(response["Error"].get("Code", ""))
    return NOT_FOUND if code in _NOT_FOUND_CODES else _WORDS.get(class_of_code(code, status), UNKNOWN)


def _ahead_s(response: Mapping[str, Any], took_s: float) -> float | None:
    """Return how far this host's clock is ahead of AWS's; None if the answer has no date, or is not AWS's."""
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders")
    if not isinstance(headers, Mapping) or not is_from_aws(response):
        return None
    try:
        date = parsedate_to_datetime(str(headers.get("date", ""))).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    # AWS wrote the date about when half of the time had passed, and left out the fraction of its second.
    return time.time() - took_s / 2 - (date + 0.5)
