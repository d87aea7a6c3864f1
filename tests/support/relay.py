"""
Something on the way between a daemon and a server that it needs: passes bytes on, or does whatever a test wants.

    with Relay(aws.server.url) as relay:                 AWS, behind an address of the relay's own
        relay.answer(page(200))                          every request gets these bytes in place of AWS's
        relay.hold()                                     connections stay open, and nothing comes back
        relay.cut()                                      connections end at once
        relay.pass_on()                                  as if nothing had been
"""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from types import TracebackType
from urllib.parse import urlsplit

from tests.support.raw_http import Script, read_request

_BLOCK = 65_536


class Relay:
    """A server on loopback, with threads for each connection. Connections end when what it does changes."""

    def __init__(self, target: str, *, tls: ssl.SSLContext | None = None) -> None:
        """
        Args:
            target: `http://HOST:PORT`, or the path of a Unix socket.
            tls: what it shows its clients a certificate with; the target gets plain bytes.
        """
        self._target = target
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._answer: Script | None = None
        self._holding = self._cutting = False
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.requests = 0
        """How many requests were answered in place of the target, or connections held or cut."""

    def pass_on(self) -> None:
        """Pass every byte on."""
        self._change(None)

    def answer(self, script: Script) -> None:
        """Answer every request with bytes of the test's own."""
        self._change(script)

    def hold(self) -> None:
        """Take connections and what comes on them, and answer nothing."""
        self._change(None, holding=True)

    def cut(self) -> None:
        """End every connection at once."""
        self._change(None, cutting=True)

    def _change(self, answer: Script | None, *, holding: bool = False, cutting: bool = False) -> None:
        with self._lock:
            self._answer, self._holding, self._cutting, self.requests = answer, holding, cutting, 0
            connections = list(self._open)
        for connection in connections:
            _end(connection)

    def __enter__(self) -> Relay:
        threading.Thread(target=self._accept, name="relay", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _end(self._listener)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            with self._lock:
                self._open.add(connection)
                answer, holding, cutting = self._answer, self._holding, self._cutting
            try:
                if cutting:
                    self._count()
                    return
                if self._tls is not None:
                    connection = self._tls.wrap_socket(connection, server_side=True)
                    with self._lock:
                        self._open.add(connection)
                if holding:
                    self._count()
                    while connection.recv(_BLOCK):
                        """It is taken, and that is all."""
                elif answer is not None:
                    while read_request(connection):
                        self._count()
                        for piece in answer():
                            connection.sendall(piece)
                else:
                    self._pass_on(connection)
            finally:
                with self._lock:
                    self._open.discard(connection)
                connection.close()

    def _count(self) -> None:
        with self._lock:
            self.requests += 1

    def _pass_on(self, connection: socket.socket) -> None:
        with self._connect() as target:
            with self._lock:
                self._open.add(target)
            back = threading.Thread(target=_copy, args=(target, connection), daemon=True)
            back.start()
            try:
                _copy(connection, target)
                back.join()
            finally:
                with self._lock:
                    self._open.discard(target)

    def _connect(self) -> socket.socket:
        if self._target.startswith("/"):
            target = socket.socket(socket.AF_UNIX)
            target.connect(self._target)
            return target
        parts = urlsplit(self._target)
        return socket.create_connection((parts.hostname or "", parts.port or 80))


def _copy(source: socket.socket, sink: socket.socket) -> None:
    """Copy until one of them ends; then the other ends as well."""
    with suppress(OSError):
        while data := source.recv(_BLOCK):
            sink.sendall(data)
    _end(source)
    _end(sink)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
