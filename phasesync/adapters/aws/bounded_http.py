"""
When the call that a thread makes now has to be over, whatever still comes in. Knows no call and no socket.

Limits for one call of AWS that the SDK does not have: a deadline for the whole call, a size for an answer, and no proxy
on the way to this machine itself.

The SDK's read time-out starts again with every byte, so a server that sends one byte every few seconds holds a thread
for as long as it likes; and the SDK reads an answer of any size into memory. Both are checked here where the bytes come
in: status line, headers, chunk sizes and body alike. Must not be imported before the SDK is needed.
"""

import http.client
import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)
from botocore.httpsession import ProxyConfiguration

from phasesync.adapters.aws.endpoint import is_loopback


class _Deadline(threading.local):
    at: float | None = None
    """In seconds of the monotonic clock; None = no limit."""


_deadline = _Deadline()


def deadline() -> float | None:
    """Return when this thread's call ends, in seconds of the monotonic clock; None = nothing ends it."""
    return _deadline.at


def end_call_at(at: float) -> None:
    """Let this thread's call end at `at`, or sooner where a sooner end is set. Inside of `own_deadline`."""
    _deadline.at = at if _deadline.at is None else min(at, _deadline.at)


@contextmanager
def own_deadline(at: float | None = None) -> Iterator[None]:
    """Let what is set within the block end with it; `at` = an end that is known already."""
    former = _deadline.at
    if at is not None:
        end_call_at(at)
    try:
        yield
    finally:
        _deadline.at = former


MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
"""
More than any answer that is asked for. The largest is a page of ListSecrets: 100 secrets with 50 tags of 128 and 256
characters and a description of 2,048 characters (Secrets Manager and IAM quotas): 2.3 MB, 7 MB where each character
takes three bytes. A value has 64 KiB, a page of 1,000 IAM users under 1 MB.
"""


class AnswerTooLargeError(Exception):
    """The answer is larger than any that AWS gives."""


class _BoundedReader(io.RawIOBase):
    """The bytes of one answer as they come from a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._raw: Any = sock.makefile("rb", buffering=0)  # Keeps the socket open until it is closed itself.
        self._pause_s = sock.gettimeout()
        self._deadline = deadline()
        self._left_bytes = MAX_ANSWER_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._deadline is not None:
            left_s = self._deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("the call has reached its deadline")
            self._sock.settimeout(left_s if self._pause_s is None else min(left_s, self._pause_s))
        count: int | None = self._raw.readinto(buffer)
        self._left_bytes -= count or 0
        if self._left_bytes < 0:
            raise AnswerTooLargeError(f"an answer of more than {MAX_ANSWER_BYTES:,} bytes")
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _Source:
    """What http.client takes an answer from, in place of the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def makefile(self, *_: object, **__: object) -> io.BufferedReader:
        return io.BufferedReader(_BoundedReader(self._sock))


class _BoundedResponse(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(_Source(sock), *args, **kwargs)  # type: ignore[arg-type]


class _HttpConnection(AWSHTTPConnection):
    response_class = _BoundedResponse  # type: ignore[assignment]  # botocore starts from http.client's as well.


class _HttpsConnection(AWSHTTPSConnection):
    response_class = _BoundedResponse  # type: ignore[assignment]  # botocore starts from http.client's as well.


class _HttpPool(AWSHTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(AWSHTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


class _Proxies(ProxyConfiguration):
    """
    The proxies of an HTTP session, for what is not on this machine.

    Over plain http a proxy reads every value, and what it calls loopback is another machine than ours. NO_PROXY and the
    like have been heeded before.
    """

    def __init__(self, found: Any) -> None:
        super().__init__(found._proxies, found._proxies_settings)

    def proxy_url_for(self, url: str) -> Any:
        return None if is_loopback(url) else super().proxy_url_for(url)


def bound(http_session: Any) -> None:
    """
    Have an HTTP session of botocore (`URLLib3Session`) heed the deadline of its thread and the size limit.

    Args:
        http_session: one that has made no connection yet.
    """
    http_session._proxy_config = _Proxies(http_session._proxy_config)
    # Its pool managers, those for proxies included, share this one mapping.
    http_session._pool_classes_by_scheme.update(http=_HttpPool, https=_HttpsPool)


def bound_client(client: Any) -> None:
    """The same for the session of a client that has made no call yet."""
    bound(client._endpoint.http_session)
