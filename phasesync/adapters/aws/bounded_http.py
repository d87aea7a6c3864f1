"""
Limits for one call of AWS that the SDK does not have: a deadline for the whole call, the lookup of a name included, a
size limit for a response, and no proxy in front of an address on this machine.

The read time-out of the SDK starts again with every byte, so a server that sends one byte every few seconds holds a
thread for as long as it likes. The SDK also reads a response of any size into memory. Both limits are checked here as
bytes arrive: status line, headers, chunk sizes and body alike. botocore is imported when the first session is bounded.
"""

import http.client
import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

from phasesync.adapters.aws.endpoint import is_loopback
from phasesync.host_files import out_of_descriptors
from phasesync.name_lookup import LOOKUP_WITHIN_S, look_up


class _Deadline(threading.local):
    at: float | None = None
    """In seconds of the monotonic clock; None if there is no limit."""


_deadline = _Deadline()


def deadline() -> float | None:
    """Return when the call of this thread ends, in seconds of the monotonic clock; None if it has no deadline."""
    return _deadline.at


def end_call_at(at: float) -> None:
    """Let the call of this thread end at `at`, or at an earlier deadline that is set. Inside of `own_deadline`."""
    _deadline.at = at if _deadline.at is None else min(at, _deadline.at)


@contextmanager
def own_deadline(at: float | None = None) -> Iterator[None]:
    """Restore the former deadline after the block; `at` = a deadline for the whole block."""
    former = _deadline.at
    if at is not None:
        end_call_at(at)
    try:
        yield
    finally:
        _deadline.at = former


MAX_RESPONSE_BYTES: Final = 8 * 1024 * 1024
"""
More than any response to our calls. The largest is a page of ListSecrets: 100 secrets with 50 tags of 128 and 256
characters and a description of 2,048 characters (Secrets Manager and IAM quotas): 2.3 MB, or 7 MB if each character
takes three bytes. A value has 64 KiB, a page of 1,000 IAM users less than 1 MB.
"""


NO_DEBUG: Final = 0
"""
Set on our own classes of connections: with `http.client.HTTPConnection.debuglevel = 1`, which holds for all others,
http.client prints each request to stdout, with the values in it.
"""


class ResponseTooLargeError(Exception):
    """The response is larger than any that AWS sends."""


class LookupTimeoutError(Exception):
    """The name servers did not answer in time."""


class OutOfDescriptorsError(Exception):
    """This process, or its host, can open no further socket."""


class BoundedReader(io.RawIOBase):
    """The bytes of one response as they arrive from a socket, until the deadline of this thread's call."""

    def __init__(self, sock: socket.socket, most_bytes: int = MAX_RESPONSE_BYTES) -> None:
        self._sock = sock
        self._raw: Any = sock.makefile("rb", buffering=0)  # Keeps the socket open until it is closed itself.
        self._read_timeout_s = sock.gettimeout()
        self._deadline = deadline()
        self._most_bytes = self._left_bytes = most_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._deadline is not None:
            left_s = self._deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("the call has reached its deadline")
            self._sock.settimeout(left_s if self._read_timeout_s is None else min(left_s, self._read_timeout_s))
        count: int | None = self._raw.readinto(buffer)
        self._left_bytes -= count or 0
        if self._left_bytes < 0:
            raise ResponseTooLargeError(f"a response of more than {self._most_bytes:,} bytes")
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _Source:
    """Takes the place of the socket from which http.client reads a response."""

    def __init__(self, sock: socket.socket, most_bytes: int) -> None:
        self._sock = sock
        self._most_bytes = most_bytes

    def makefile(self, *_: object, **__: object) -> io.BufferedReader:
        return io.BufferedReader(BoundedReader(self._sock, self._most_bytes))


class BoundedResponse(http.client.HTTPResponse):
    """A response of http.client that is read within the deadline of this thread's call."""

    most_bytes = MAX_RESPONSE_BYTES

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(_Source(sock, self.most_bytes), *args, **kwargs)  # type: ignore[arg-type]


def _lookup_within_s() -> float:
    """Return how long a lookup may take now."""
    at = deadline()
    return LOOKUP_WITHIN_S if at is None else min(LOOKUP_WITHIN_S, at - time.monotonic())


@cache
def _pool_classes() -> dict[str, type]:
    """Return the connection pools of botocore, by scheme, with responses that are bounded."""
    from botocore.awsrequest import (
        AWSHTTPConnection,
        AWSHTTPConnectionPool,
        AWSHTTPSConnection,
        AWSHTTPSConnectionPool,
    )
    from urllib3.connection import HTTPConnection
    from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

    def connect(self: Any) -> socket.socket:
        """Connect to one address of the host after the other, as urllib3 does, after a lookup that has a limit."""
        name: str = self._dns_host
        try:
            addresses = look_up(name.strip("[]"), self.port, within_s=_lookup_within_s())
        except socket.gaierror as error:
            raise NameResolutionError(name, self, error) from None
        except TimeoutError:
            raise LookupTimeoutError from None
        except OSError:
            raise NewConnectionError(self, f"{name} cannot be looked up now") from None
        failure: Exception | None = None
        try:
            for address in addresses:
                self._dns_host = address[4][0]
                try:
                    return HTTPConnection._new_conn(self)
                except (ConnectTimeoutError, NewConnectionError) as error:
                    failure = error
        finally:
            self._dns_host = name  # TLS and the header Host have the name.
        if isinstance(failure, NewConnectionError) and out_of_descriptors():
            raise OutOfDescriptorsError
        raise failure or NewConnectionError(self, f"{name} has no address")

    class HttpConnection(AWSHTTPConnection):
        response_class = BoundedResponse  # type: ignore[assignment]  # botocore starts from http.client's as well.
        debuglevel = NO_DEBUG
        _new_conn = connect

    class HttpsConnection(AWSHTTPSConnection):
        response_class = BoundedResponse  # type: ignore[assignment]  # botocore starts from http.client's as well.
        debuglevel = NO_DEBUG
        _new_conn = connect

    class HttpPool(AWSHTTPConnectionPool):
        ConnectionCls = HttpConnection

    class HttpsPool(AWSHTTPSConnectionPool):
        ConnectionCls = HttpsConnection

    return {"http": HttpPool, "https": HttpsPool}


def _skip_proxies_on_loopback(proxies: Any) -> None:
    """
    Have a proxy configuration of botocore name no proxy for addresses on this machine.

    Over plain http a proxy reads every value, and its loopback address is another machine than ours. botocore has
    applied NO_PROXY and the like already.
    """
    proxy_url_for = proxies.proxy_url_for
    proxies.proxy_url_for = lambda url: None if is_loopback(url) else proxy_url_for(url)


def bound(http_session: Any) -> None:
    """
    Apply the deadline of the thread and the size limit to an HTTP session of botocore (`URLLib3Session`).

    Args:
        http_session: has made no connection yet.
    """
    _skip_proxies_on_loopback(http_session._proxy_config)
    # Its pool managers, those for proxies included, share this one mapping.
    http_session._pool_classes_by_scheme.update(_pool_classes())


def bound_client(client: Any) -> None:
    """Do the same for the HTTP session of a client that has made no call yet."""
    bound(client._endpoint.http_session)
