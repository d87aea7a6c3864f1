"""
Servers on loopback that answer with bytes of the test's own: what no AWS would say.

    with RawServer(page(302, "moved")) as server:
        clients = AwsClients(endpoint_url=server.url, …)
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Self

Script = Callable[[], Iterator[bytes]]
"""Yields what is sent, piece by piece."""


@contextmanager
def port_that_refuses() -> Iterator[int]:
    """Yield a port of loopback that refuses connections. It is taken: no one else can listen there meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def page(status: int, text: str = "<html><body>words of it</body></html>", **headers: str) -> Script:
    """Return an answer of something that is not AWS; `headers` with _ in place of -."""
    body = text.encode()
    lines = {"Content-Type": "text/html", "Content-Length": str(len(body))}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return lambda: iter([f"HTTP/1.1 {status} Whatever\r\n{head}\r\n".encode() + body])


class TcpServer:
    """Runs a script for each connection, in a thread of its own; ends when the test does."""

    def __init__(self, script: Callable[[socket.socket], None]) -> None:
        self._serve_connection = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.append(connection)
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            self._serve_connection(connection)


class RawServer(TcpServer):
    """Gives the same answer to every request."""

    def __init__(self, script: Script) -> None:
        super().__init__(self._answer)
        self.script = script
        self.requests = 0
        self._lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.port}"

    def _answer(self, connection: socket.socket) -> None:
        while read_request(connection):
            with self._lock:
                self.requests += 1
            for piece in self.script():
                connection.sendall(piece)


def read_request(connection: socket.socket) -> bool:
    """Read one request, body included; return whether there was one."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65_536)
        if not chunk:
            return False
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        chunk = connection.recv(65_536)
        if not chunk:
            return False
        body += chunk
    return True
