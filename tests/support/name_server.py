"""
A name server that knows one zone, or refuses, or never answers; and a daemon that asks no other one.

    with NameServer() as names:
        names.silent = True
        installation.start_daemon(first=asks(names.address, folder))
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from tests.support.hostile import needs

ADDRESS = f"127.53.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
"""Of loopback, and this process's alone: name servers are always asked at port 53."""
ZONE = "hostile.test"
_A, _NXDOMAIN = 1, 3


class NameServer:
    """Answers that every name of the zone is at 127.0.0.1, and that no other name exists."""

    def __init__(self) -> None:
        self.silent = False
        """Questions come, and no answer goes out."""
        self.refusing = False
        """No name exists."""
        self.questions = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind((ADDRESS, 53))
        except OSError:
            self._socket.close()
            needs(False, "right to listen on port 53 (root has it)")

    def __enter__(self) -> NameServer:
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(1)
        self._socket.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                question, client = self._socket.recvfrom(512)
                if not question:
                    return
                self.questions += 1
                if not self.silent:
                    self._socket.sendto(self._answer(question), client)

    def _answer(self, question: bytes) -> bytes:
        """Return the answer of RFC 1035 to a message with one question."""
        number, (name, end) = question[:2], _name(question)
        asked = question[12 : end + 4]
        (kind,) = struct.unpack_from(">H", question, end)
        known = name.endswith(ZONE) and not self.refusing
        addresses = [socket.inet_aton("127.0.0.1")] if known and kind == _A else []
        flags = 0x8180 if known else 0x8180 | _NXDOMAIN
        head = number + struct.pack(">HHHHH", flags, 1, len(addresses), 0, 0)
        answers = [struct.pack(">HHHIH", 0xC00C, _A, 1, 0, 4) + address for address in addresses]
        return head + asked + b"".join(answers)


def _name(message: bytes) -> tuple[str, int]:
    """Return the name that a message asks for, and the position after it."""
    labels, at = [], 12
    while length := message[at]:
        labels.append(message[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels), at + 1


def asks(folder: Path) -> str:
    """Return what a daemon runs first so that it asks this name server only, in a mount namespace of its own."""
    settings = folder / "resolv.conf"
    # A lookup that no one answers takes the system almost two minutes.
    settings.write_text(f"nameserver {ADDRESS}\noptions timeout:10 attempts:10\n")
    return f"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    if getattr(libc, name)(*arguments):
        raise OSError(ctypes.get_errno(), name)
call("unshare", 0x00020000)  # CLONE_NEWNS of <linux/sched.h>
call("mount", None, b"/", None, 0x44000, None)  # MS_REC | MS_PRIVATE of <linux/mount.h>
call("mount", {str(settings).encode()!r}, os.path.realpath("/etc/resolv.conf").encode(), None, 0x1000, None)  # MS_BIND
"""
