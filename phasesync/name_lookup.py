"""
Looks up names of hosts within a time limit.

The resolver of the system cannot be interrupted. If name servers do not answer, it holds a thread for 10 s to minutes,
depending on /etc/resolv.conf (resolv.conf(5): timeout, attempts, search). So names are looked up in threads of their
own, and whoever asks waits no longer than the limit. All who ask for the same name wait for the same lookup; one that
takes longer than the limit gets a second thread beside it, which may be answered at once. A result that comes too late
for all who asked is kept for a moment: they ask again. Nothing else is kept: caching is the system's part.
"""

import socket
import threading
import time
from typing import Any, Final

LOOKUP_WITHIN_S: Final = 8.0
"""More than the 5 s after which the resolver asks another name server, so that one dead server of two is no failure."""
_KEPT_S: Final = 10.0
_MOST_THREADS: Final = 16
"""For one question. The resolver of glibc gives up before that, with its usual settings after the second."""

Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]
"""As `socket.getaddrinfo` returns it."""
_Question = tuple[str, int, int]
"""Host, port and flags."""


class _Lookup:
    """One question to the resolver, under way or answered."""

    def __init__(self, question: _Question) -> None:
        self.done = threading.Event()
        self.addresses: list[Address] = []
        self.error: OSError | UnicodeError | None = None
        self.taken = False
        """Somebody got the result in time."""
        self.ended_at = float("inf")
        self._question = question
        self._asked_at = float("-inf")
        self._threads = 0

    def ask(self, now: float) -> None:
        """Ask the resolver, unless that was done a moment ago. RuntimeError, MemoryError: no thread can be started."""
        if self.done.is_set() or now - self._asked_at < LOOKUP_WITHIN_S or self._threads >= _MOST_THREADS:
            return
        threading.Thread(target=self._ask, name="name-lookup", daemon=True).start()
        self._asked_at = now
        self._threads += 1

    def _ask(self) -> None:
        host, port, flags = self._question
        addresses: list[Address] = []
        error: OSError | UnicodeError | None = None
        try:
            addresses = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)  # type: ignore[assignment]  # no family without addresses
        except (OSError, UnicodeError) as failure:
            error = failure
        with _lock:
            if not self.done.is_set():
                self.addresses, self.error, self.ended_at = addresses, error, time.monotonic()
                self.done.set()


_lock: Final = threading.Lock()
_lookups: Final[dict[_Question, _Lookup]] = {}


def look_up(host: str, port: int, *, within_s: float = LOOKUP_WITHIN_S, flags: int = 0) -> list[Address]:
    """
    Return the addresses of a host for TCP connections, at least one.

    Args:
        host: name or address; empty = none, which only means something with `socket.AI_PASSIVE`.
        port: goes into each address.
        within_s: how long to wait.
        flags: of `socket.getaddrinfo`.

    Raises:
        TimeoutError: the name servers did not answer in time.
        OSError: the name is not known (socket.gaierror), or the host cannot ask now.
        UnicodeError: no DNS could hold the name.
    """
    try:
        return socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags | socket.AI_NUMERICHOST)  # type: ignore[return-value]  # see above
    except socket.gaierror:
        pass  # It is a name.
    lookup = _lookup_of((host, port, flags))
    if not lookup.done.wait(max(0.0, within_s)):
        raise TimeoutError("the name servers did not answer in time")
    lookup.taken = True
    if lookup.error is not None:
        # Several threads may get it, and each raises one of its own.
        raise type(lookup.error)(*lookup.error.args)
    return lookup.addresses


def _lookup_of(question: _Question) -> _Lookup:
    """Return the lookup that is under way, or that ended just now and helped nobody; otherwise begin one."""
    now = time.monotonic()
    with _lock:
        for old in [asked for asked, lookup in _lookups.items() if _is_over(lookup, now)]:
            del _lookups[old]
        lookup = _lookups.get(question)
        if lookup is None:
            lookup = _lookups[question] = _Lookup(question)
        lookup.ask(now)
    return lookup


def _is_over(lookup: _Lookup, now: float) -> bool:
    return lookup.done.is_set() and (lookup.taken or lookup.error is not None or now - lookup.ended_at > _KEPT_S)
