"""
Asks the daemon of these settings how it is, over its own HTTP address.

For container health checks: quick, of few imports, and straight to the address. No proxy stands between a program and
its own host, whatever HTTP_PROXY says.
"""

import json
import socket
import time
from dataclasses import dataclass, field
from typing import Any, Final

from phasesync.errors import SettingsError, UnhealthyError

WITHIN_S: Final = 4.0
"""For the whole probe: what starts it mostly waits for 5 s."""
_MOST_BYTES: Final = 65_536
_EVERY_ADDRESS: Final = {"": ("127.0.0.1", "::1"), "0.0.0.0": ("127.0.0.1",), "::": ("::1", "127.0.0.1")}  # noqa: S104
"""What a daemon listens on -> where it is reached from its own host, in this order."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the daemon answered to /healthz: its status code, and what it said."""

    status: int
    detail: dict[str, Any] = field(default_factory=dict)


def probe(host: str, port: int, *, within_s: float = WITHIN_S) -> Answer:
    """
    Return the answer of the daemon that listens there, when it says that it is healthy.

    Args:
        host: as in the settings; empty = every address.
        port: as in the settings.
        within_s: for everything.

    Raises:
        SettingsError: port 0, a free one that only the daemon knows.
        UnhealthyError: it says that it is not healthy, or nothing answers as a daemon does.
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
            answer = _parsed(_ask(address, port, deadline))
        except (OSError, UnicodeError) as error:
            refused = _unreachable(address, port, error)
            continue
        if answer.status != 200:
            reason = str(answer.detail.get("reason", f"status {answer.status}"))
            raise UnhealthyError(f"the daemon at {_joined(address, port)} is not healthy: {reason}")
        return answer
    raise refused


def _ask(address: str, port: int, deadline: float) -> bytes:
    """Return the whole response to a GET of /healthz."""
    request = f"GET /healthz HTTP/1.0\r\nHost: {_joined(address, port)}\r\n\r\n"
    response = b""
    with socket.create_connection((address, port), timeout=_left(deadline)) as connection:
        connection.sendall(request.encode("ascii"))
        while len(response) < _MOST_BYTES:
            connection.settimeout(_left(deadline))
            data = connection.recv(4096)
            if not data:
                break
            response += data
    return response


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _parsed(response: bytes) -> Answer:
    """Return what a response says; status 0 where it is none of a daemon's."""
    head, _, body = response.partition(b"\r\n\r\n")
    words = head.split(maxsplit=2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        return Answer(status=0, detail={"reason": "what listens there does not speak HTTP"})
    try:
        detail = json.loads(body)
    except ValueError:
        detail = None
    if not isinstance(detail, dict) or "ok" not in detail:
        return Answer(status=0, detail={"reason": "what listens there is no phasesync daemon"})
    return Answer(status=int(words[1]), detail=detail)


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
