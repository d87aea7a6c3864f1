"""
The HTTP side: a server on loopback with one thread a connection, kept open as AWS keeps them, and moto's application.

Knows nothing of AWS: it passes on method, path, headers and body, and sends the answer that it gets.
"""

import io
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RDWR
from typing import Any, Final
from urllib.parse import unquote


class MotoApp:
    """moto's own server application, for everything that the emulator does not answer itself."""

    def __init__(self) -> None:
        """Import moto; takes a second."""
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        app: Any = DomainDispatcherApplication(create_backend_app)
        # moto lists the folder of all its services for each request.
        app.get_backend_for_host = cache(app.get_backend_for_host)
        self._app = app

    def answer(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Return status, headers and body of moto's answer; `headers` have lower-case keys."""
        plain, _, query = path.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote(plain).encode().decode("latin-1"),
            "QUERY_STRING": query,
            "REQUEST_URI": path,
            "RAW_URI": path,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_LENGTH": str(len(body)),
            "CONTENT_TYPE": headers.get("content-type", ""),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in headers.items():
            if name not in ("content-type", "content-length"):
                environ["HTTP_" + name.upper().replace("-", "_")] = value
        started: list[Any] = []
        chunks = self._app(environ, lambda *arguments: started.append(arguments))
        try:
            answer = b"".join(chunks)
        finally:
            if hasattr(chunks, "close"):
                chunks.close()
        status, answer_headers = started[0][:2]
        return int(status.split()[0]), answer_headers, answer


HOST: Final = "127.0.0.1"
_HOP_BY_HOP: Final = frozenset({"connection", "content-length", "date", "server", "transfer-encoding", "keep-alive"})


@dataclass(frozen=True)
class Reply:
    """An answer. None in its place = the connection ends without one."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    """The head announces more than is sent; then the connection ends."""


Respond = Callable[[str, str, Mapping[str, str], bytes], Reply | None]


class LoopbackServer:
    """A server, on loopback unless another address is named."""

    def __init__(self, respond: Respond, *, port: int = 0, host: str = HOST) -> None:
        """
        Args:
            respond: called in a thread of the connection with method, path, headers (keys in lower case) and body.
            port: 0 = a free one.
            host: the address to listen on.
        """
        self._server = _Server((host, port), _handler(respond))
        self.url = f"http://{host}:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="aws-emulator", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Serve no more; connections that are open end."""
        self._server.shutdown()
        self._server.server_close()
        self._server.hang_up()
        self._thread.join(10)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._open: set[Any] = set()
        self._guard = threading.Lock()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._guard:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End the connections that clients keep open."""
        with self._guard:
            connections = list(self._open)
        for request in connections:
            _end(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what went wrong, unless a client went away, which is what tests do."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def _handler(respond: Respond) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body leave in one packet
        disable_nagle_algorithm = True
        server_version = "amazon.com"
        sys_version = ""

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = respond(self.command, self.path, headers, body)
            if reply is None:
                self._hang_up()
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body) + 64 * reply.cut))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)
            if reply.cut:
                self.wfile.flush()
                self._hang_up()

        def _hang_up(self) -> None:
            self.close_connection = True
            _end(self.connection)

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = _answer

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is written."""

    return Handler


def _end(connection: Any) -> None:
    try:
        connection.shutdown(SHUT_RDWR)
    except OSError:
        return  # the client was faster
