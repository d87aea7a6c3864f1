"""
Asks the daemon of these settings over its own HTTP address: for health checks and for metrics.

Connects directly: no proxy stands between a program and its own host, whatever HTTP_PROXY says. Has few imports.
"""

import math
import re
import socket
import time
from dataclasses import dataclass
from typing import Final

from phasesync.errors import SettingsError, UnhealthyError

_EVERY_ADDRESS: Final = {"": ("127.0.0.1", "::1"), "0.0.0.0": ("127.0.0.1",), "::": ("::1", "127.0.0.1")}  # noqa: S104
"""Address that a daemon listens on -> addresses to reach it from its own host, in this order."""
_CONTENT_LENGTH: Final = re.compile(rb"(?i)\r\nContent-Length:[ \t]*([0-9]{1,12})[ \t]*(?:\r\n|$)")


@dataclass(frozen=True, kw_only=True)
class Response:
    """
    What listens at an address has answered.

    Attributes:
        address: HOST:PORT that was asked.
        status: the status code; 0 if it does not speak HTTP.
    """

    address: str
    status: int
    body: bytes


def ask_daemon(host: str, port: int, path: str, *, within_s: float, most_bytes: int) -> Response:
    """
    Return the answer of what listens at an address.

    Args:
        host: as in the settings; empty: every address.
        port: as in the settings.
        path: to GET.
        within_s: time for everything.
        most_bytes: of the answer; the rest is not read.

    Raises:
        SettingsError: port 0, which means a free port that only the daemon knows.
        UnhealthyError: nothing answers.
    """
    if port == 0:
        raise SettingsError(
            "http.listen has port 0, so only the daemon knows its port",
            hint="choose a port with PHASESYNC_HTTP__LISTEN, such as 127.0.0.1:8787",
        )
    deadline = time.monotonic() + within_s
    refused = UnhealthyError("no daemon answers")
    for address in _EVERY_ADDRESS.get(host, (host,)):
        try:
            response = _get(address, port, path, deadline, most_bytes)
        except (OSError, UnicodeError) as error:
            refused = _unreachable(address, port, error)
            continue
        head, _, body = response.partition(b"\r\n\r\n")
        words = head.split(maxsplit=2)
        speaks_http = len(words) >= 2 and words[0].startswith(b"HTTP/1.") and words[1].isdigit()
        return Response(address=_joined(address, port), status=int(words[1]) if speaks_http else 0, body=body)
    raise refused


def _get(address: str, port: int, path: str, deadline: float, most_bytes: int) -> bytes:
    """Return the whole response to a GET."""
    request = f"GET {path} HTTP/1.0\r\nHost: {_joined(address, port)}\r\n\r\n"
    response = bytearray()
    with socket.create_connection((address, port), timeout=_left(deadline)) as connection:
        connection.sendall(request.encode("ascii"))
        while len(response) < min(most_bytes, _length(response)):
            connection.settimeout(_left(deadline))
            data = connection.recv(65_536)
            if not data:
                break
            response += data
    return bytes(response)


def _length(response: bytearray) -> float:
    """Return how long a response will be; infinite as long as it does not say so."""
    head, end, _ = response.partition(b"\r\n\r\n")
    match = _CONTENT_LENGTH.search(head) if end else None
    return math.inf if match is None else len(head) + len(end) + int(match[1])


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _unreachable(address: str, port: int, error: OSError | UnicodeError) -> UnhealthyError:
    if isinstance(error, TimeoutError):
        why = "it does not answer in time"
    elif isinstance(error, ConnectionRefusedError):
        why = "nothing listens there"
    else:
        why = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
    return UnhealthyError(
        f"the daemon at {_joined(address, port)} cannot be reached: {why}",
        hint="phasesync daemon starts one; http.listen in the settings says where it listens",
    )


def _joined(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
