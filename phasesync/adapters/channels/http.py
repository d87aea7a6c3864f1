"""
Posts a message over HTTP, once: no retry, no redirect, a deadline for the whole call, a limit for the answer.

Proxies come from the standard variables (HTTPS_PROXY, NO_PROXY), as botocore reads them; never for addresses of this
machine. Errors name the host at most: paths and queries are secrets.
"""

import email.utils
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from phasesync import __version__
from phasesync.adapters.aws.bounded_http import NO_DEBUG, BoundedResponse
from phasesync.adapters.aws.endpoint import is_loopback
from phasesync.adapters.aws.sdk import quiet_sdk_loggers
from phasesync.adapters.channels.connection import (
    MAX_ANSWER_BYTES,
    code_of,
    is_refused,
    left_s,
    open_connection,
    reason_of,
    trust,
)
from phasesync.core.model import SecretValue
from phasesync.errors import ChannelRejectedError, ChannelUnavailableError, PhasesyncError

if TYPE_CHECKING:
    import socket

LONGEST_RETRY_AFTER: Final = timedelta(hours=1)
"""A receiver may not silence its channel for longer."""
_FIRST_BYTES: Final = 1_024
_TOO_LARGE: Final = 413
_GONE: Final = 410
_PROXY_AUTHENTICATION: Final = 407
_LATER: Final = frozenset({408, 421, 425, 429})
"""Time-out, misdirected, too early, too many requests: the same message may be taken later."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """
    What a receiver answered.

    Attributes:
        start: the first bytes of the body of a refusal. It may repeat anything, so it must not be shown.
        retry_after: how long it asks to wait, an hour at most; None if it does not say.
    """

    status: int
    start: bytes
    retry_after: timedelta | None


class _Response(BoundedResponse):
    most_bytes = MAX_ANSWER_BYTES


class _Connection(HTTPConnection):
    debuglevel = NO_DEBUG
    response_class = _Response

    def _new_conn(self) -> "socket.socket":
        return open_connection(self._dns_host, self.port or 80)


class _TlsConnection(HTTPSConnection):
    debuglevel = NO_DEBUG
    response_class = _Response

    def _new_conn(self) -> "socket.socket":
        return open_connection(self._dns_host, self.port or 443)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def post(url: SecretValue, body: bytes, headers: Mapping[str, str], *, to: str) -> Answer:
    """
    Post a message and return what the receiver answered. Inside of `own_deadline`.

    Args:
        url: where.
        body: the message.
        headers: beside those that HTTP needs.
        to: what to call the receiver in errors.

    Raises:
        ChannelUnavailableError: it cannot be reached, or gives no answer of HTTP in time.
        ChannelRejectedError: no message goes to its address.
    """
    quiet_sdk_loggers()
    target = url.reveal_text()
    proxy = _proxy_for(target)
    try:
        manager = _manager(proxy)
        try:
            response = manager.urlopen(
                "POST",
                target,
                body=body,
                headers={"user-agent": f"phasesync/{__version__}", **headers},
                retries=False,
                redirect=False,
                preload_content=False,
                timeout=left_s(),
            )
            return Answer(
                status=response.status,
                start=_start_of(response),
                retry_after=_retry_after(response.headers),
            )
        finally:
            manager.clear()
    except Exception as error:  # noqa: BLE001 -- urllib3, http.client and ssl share no base class; texts hold the URL
        problem = _problem(error, to=to, proxied=proxy is not None)
    raise problem


def _problem(error: Exception, *, to: str, proxied: bool) -> PhasesyncError:
    if is_refused(error):
        return ChannelRejectedError(
            f"{to}: {reason_of(error)}", hint="name the address of the receiver", code=code_of(error)
        )
    reason = reason_of(error)
    hint = "check the name of the host and the network"
    if "certificate" in reason or "TLS" in reason:
        hint = "correct the certificate; SSL_CERT_FILE names a file with the authorities that this host trusts"
    elif proxied:
        hint = "check the proxy (HTTPS_PROXY, NO_PROXY)"
    through = " (through a proxy)" if proxied else ""
    return ChannelUnavailableError(f"{to}: {reason}{through}", hint=hint, code=code_of(error))


def check(answer: Answer, *, to: str, fixes: Mapping[int, str]) -> None:
    """
    Make sure that a receiver has taken a message.

    Args:
        answer: of the receiver.
        to: what to call it in errors.
        fixes: status -> what a person can do about it, where that depends on the kind of receiver.

    Raises:
        ChannelUnavailableError: it cannot take the message now.
        ChannelRejectedError: it refuses the message.
    """
    status = answer.status
    if 200 <= status < 300:
        return
    code = str(status)
    if status in _LATER or 500 <= status < 600:
        raise ChannelUnavailableError(
            f"{to} takes no message now (HTTP {status})", retry_after=answer.retry_after, code=code
        )
    if 300 <= status < 400:
        raise ChannelRejectedError(
            f"{to} answers with a redirect (HTTP {status}), which is not followed",
            hint="write the URL that it leads to",
            code=code,
        )
    if status == _GONE:
        raise ChannelRejectedError(
            f"{to} wants no more messages (HTTP 410, gone)",
            hint=fixes.get(status, "give the notification another channel, or remove it"),
            code=code,
        )
    if status == _PROXY_AUTHENTICATION:
        raise ChannelUnavailableError(
            "the proxy asks for a sign-in (HTTP 407)", hint="write user and password into HTTPS_PROXY", code=code
        )
    if status < 200 or status >= 600:
        raise ChannelUnavailableError(f"{to} gives no answer of HTTP (status {status})", code=code)
    what = "finds the message too large" if status == _TOO_LARGE else "refuses the message"
    hint = fixes.get(status, "check the URL of the channel, and what the receiver logs")
    raise ChannelRejectedError(f"{to} {what} (HTTP {status})", hint=hint, code=code)


def _manager(proxy: str | None) -> urllib3.PoolManager:
    context, manager = trust(), urllib3.PoolManager
    common: dict[str, Any] = {"ssl_context": context, "num_pools": 1}
    if proxy is None:
        made = manager(**common)
    else:
        parts = urlsplit(proxy)
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
        made = urllib3.ProxyManager(
            proxy,
            proxy_headers=urllib3.make_headers(proxy_basic_auth=login) if login else None,
            proxy_ssl_context=context,
            **common,
        )
    made.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
    return made


def _proxy_for(url: str) -> str | None:
    """Return the proxy of a URL by the standard variables; None if it needs none."""
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme)
    if not proxy or is_loopback(url) or proxy_bypass(parts.netloc):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _start_of(response: urllib3.BaseHTTPResponse) -> bytes:
    """Return the first bytes of a refusal's body; what cannot be read does not matter, since the status has arrived."""
    if response.status < 300:
        return b""
    try:
        return response.read(_FIRST_BYTES, decode_content=False)
    except Exception:  # noqa: BLE001 -- as in `post`
        return b""


def _retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """Read Retry-After: seconds, or a date that is compared with the date of the answer (RFC 9110, 10.2.3)."""
    value = headers.get("retry-after", "").strip()
    if value.isdecimal() and value.isascii():
        return min(timedelta(seconds=int(value[:9])), LONGEST_RETRY_AFTER)
    until, now = _date(value), _date(headers.get("date", ""))
    if until is None:
        return None
    wait = until - (now or datetime.now(UTC))
    return min(max(wait, timedelta()), LONGEST_RETRY_AFTER)


def _date(text: str) -> datetime | None:
    try:
        at = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at
