"""
Notifies systemd of readiness, status lines, reloads, the stop, and signs of life.

The protocol is a datagram to a socket named in the environment (sd_notify(3)). Without that socket nothing happens, and
a failure is never an error: the daemon works without a manager as well. Must not decide whether the daemon is healthy.
"""

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta

_SEND_TIMEOUT_S = 1.0


class Notifier:
    """Notifies the service manager that started this process, if one did."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        """
        Args:
            environ: has NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID; None means the environment of the process.
        """
        environ = os.environ if environ is None else environ
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._sender: socket.socket | None = None
        """Kept from the start, so that a process without a file descriptor left can still give signs of life."""
        if self._address is not None:
            with suppress(OSError):
                self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._sender.settimeout(_SEND_TIMEOUT_S)
        self._sent_status: str | None = None
        self.watchdog_every = _half_of_timeout(environ) if self._address else None
        """How often to call `watchdog`: half of what systemd waits (sd_watchdog_enabled(3)); None means never."""

    def ready(self, status: str) -> None:
        """Notify that the daemon is up, or that a reload is done."""
        self._sent_status = status
        self._send(f"READY=1\nSTATUS={_one_line(status)}")

    def status(self, text: str) -> None:
        """Send one line that says what the daemon does, unless it is the last one sent. `systemctl status` shows it."""
        if text != self._sent_status:
            self._sent_status = text
            self._send(f"STATUS={_one_line(text)}")

    def reloading(self) -> None:
        """Notify that a reload of the settings begins; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Notify that the daemon stops."""
        self._send("STOPPING=1\nSTATUS=stopping")

    def watchdog(self) -> None:
        """Send a sign of life."""
        self._send("WATCHDOG=1")

    def close(self) -> None:
        """Notify of nothing more."""
        if self._sender is not None:
            self._sender.close()
            self._sender = None

    def _send(self, message: str) -> None:
        if self._address is None or self._sender is None:
            return
        with suppress(OSError):  # The manager is gone or busy; it finds out by its watchdog.
            self._sender.sendto(message.encode(), self._address)


def _address(text: str) -> bytes | None:
    """Return the address of a local socket; None for an empty text, or for another kind of socket (vsock)."""
    if text.startswith("@"):
        return b"\0" + os.fsencode(text[1:])  # the abstract namespace of Linux
    return os.fsencode(text) if text.startswith("/") else None


def _half_of_timeout(environ: Mapping[str, str]) -> timedelta | None:
    try:
        timeout_us = int(environ["WATCHDOG_USEC"])
        watched_pid = int(environ.get("WATCHDOG_PID", os.getpid()))
    except (KeyError, ValueError):
        return None
    if timeout_us <= 0 or watched_pid != os.getpid():
        return None
    return timedelta(microseconds=timeout_us) / 2


def _one_line(text: str) -> str:
    return " ".join(text.split())
