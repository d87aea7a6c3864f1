"""
Connections to receivers of messages: every step of one ends at the deadline of the call, and none leads to an address
at which clouds give out identities.

The deadline is that of the thread (`own_deadline` of `adapters/aws/bounded_http.py`), and holds for the lookup of a
name, too. No text of an exception is passed on: it may hold a URL.
"""

import errno
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Final

from phasesync.adapters.aws.bounded_http import ResponseTooLargeError, deadline
from phasesync.core.channels import is_metadata_address
from phasesync.name_lookup import LOOKUP_WITHIN_S, Address, look_up

MAX_ANSWER_BYTES: Final = 64 * 1024
"""More than any answer that says whether a message was taken."""

_CONNECT_S: Final = 5.0
"""For each address of a host, so that one that does not answer leaves time for the next one."""


class NotConnectedError(Exception):
    """
    There is no connection. Its text may be shown.

    Attributes:
        code: a word for it.
        refused: the address is one to which no message goes; another try will not help.
    """

    def __init__(self, reason: str, *, code: str, refused: bool = False) -> None:
        super().__init__(reason)
        self.code = code
        self.refused = refused


def left_s(most: float | None = None) -> float:
    """Return the seconds that this thread's call has left, `most` at most. TimeoutError if there are none."""
    at = deadline()
    left = _CONNECT_S if at is None else at - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left if most is None else min(left, most)


def open_connection(host: str, port: int) -> socket.socket:
    """
    Connect to a host; the addresses that its name has are tried in turn.

    Raises:
        NotConnectedError: no address answers, the name is not known, or one of its addresses gives out identities.
        TimeoutError: the deadline of the call has passed.
    """
    addresses = _addresses_of(host.strip("[]"), port)
    if any(is_metadata_address(str(address[0])) for *_, address in addresses):
        raise NotConnectedError(
            "its name leads to an address that gives out identities of hosts", code="forbidden-address", refused=True
        )
    code, reason = "unknown-host", "its name has no address"
    for family, kind, _, _, address in addresses:
        try:
            sock = socket.socket(family, kind)
        except OSError as error:
            code, reason = code_of(error), reason_of(error)
            continue
        try:
            sock.settimeout(left_s(_CONNECT_S))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(left_s())
        except OSError as error:
            sock.close()
            code, reason = code_of(error), reason_of(error)
        else:
            return sock
    raise NotConnectedError(f"no connection: {reason}", code=code)


def _addresses_of(host: str, port: int) -> list[Address]:
    """Return the addresses of a host within the deadline of the call."""
    try:
        return look_up(host, port, within_s=left_s(LOOKUP_WITHIN_S))
    except TimeoutError:
        code, reason = "timeout", "its name is not resolved in time: the DNS server does not answer"
    except (socket.gaierror, UnicodeError):
        code, reason = "unknown-host", "its name is not known to the DNS server"
    except OSError as error:
        code, reason = code_of(error), f"its name cannot be looked up now: {reason_of(error)}"
    raise NotConnectedError(reason, code=code)


# --- reasons

_CERTIFICATE: Final = {
    9: "its certificate is not valid yet",
    10: "its certificate has expired",
    18: "its certificate is signed by itself",
    19: "its certificate is signed by an authority that this host does not know",
    20: "its certificate is signed by an authority that this host does not know",
    21: "its certificate is signed by an authority that this host does not know",
    23: "its certificate is revoked",
    62: "its certificate is for another name",
    64: "its certificate is for another address",
}
"""Codes of X509_V_ERR_ (OpenSSL, x509_vfy.h)."""


def reason_of(error: BaseException) -> str:
    """Return in a few words why a connection or an answer failed; from classes and numbers, never from texts."""
    return _why(error)[1]


def code_of(error: BaseException) -> str:
    """Return the same as one of a few fixed words."""
    return _why(error)[0]


def _why(error: BaseException) -> tuple[str, str]:
    chain = list(_chain(error))
    for inner in chain:
        if isinstance(inner, NotConnectedError):
            return inner.code, str(inner)
        if isinstance(inner, ssl.SSLCertVerificationError):
            untrusted = f"its certificate is not trusted (code {inner.verify_code})"
            return "certificate", _CERTIFICATE.get(inner.verify_code, untrusted)
    for inner in chain:
        if isinstance(inner, ResponseTooLargeError):
            return "bad-answer", f"it answers more than {MAX_ANSWER_BYTES:,} bytes"
        if isinstance(inner, TimeoutError) or (isinstance(inner, OSError) and inner.errno == errno.ETIMEDOUT):
            return "timeout", "it does not answer in time"
        if isinstance(inner, ssl.SSLError):
            return "tls", "TLS fails"
        if isinstance(inner, ConnectionRefusedError):
            return "connection-refused", "the connection is refused"
        if isinstance(inner, (ConnectionError, EOFError)):
            return "connection-closed", "the connection was closed"
    for inner in chain:
        if isinstance(inner, OSError) and inner.errno is not None:
            return "no-connection", f"the connection fails ({errno.errorcode.get(inner.errno, inner.errno)})"
    return "bad-answer", f"its answer cannot be read ({type(chain[-1]).__name__})"


def is_refused(error: BaseException) -> bool:
    """Return whether a connection failed because no message goes to that address."""
    return any(isinstance(inner, NotConnectedError) and inner.refused for inner in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that it was made from: libraries put them into arguments and attributes."""
    visited: set[int] = set()
    queue: list[object] = [error]
    while queue:
        exception = queue.pop(0)
        if not isinstance(exception, BaseException) or id(exception) in visited:
            continue
        visited.add(id(exception))
        yield exception
        queue += [*exception.args, getattr(exception, "original_error", None), exception.__cause__]
        queue.append(exception.__context__)


def trust() -> ssl.SSLContext:
    """Return how servers are verified: by the certificates of the system, or those that SSL_CERT_FILE names."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
