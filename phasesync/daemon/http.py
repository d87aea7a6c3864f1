"""
Health and readiness over HTTP, for Kubernetes and monitoring: GET /healthz and /readyz, JSON, 200 or 503.

Runs in threads that never keep the process alive. Must not decide what healthy means, and must not log requests. A
request has a deadline for the whole of it, and where there are too many connections the oldest is cut: slow clients
never keep a probe from its answer.

Brings the health server up, and goes on trying where its address is not to be had yet.

Keeping AWS in step does not wait for it. At boot an address may not be there yet, or the port belongs to a process that
is about to end: a daemon that gave up then would never be started again. A standby on the host of the daemon that works
has the same settings and so the same address; it waits for it as long as it stands by, and has it when it takes over.
"""

import errno
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Final

from phasesync.adapters.telemetry.logging import get_logger
from phasesync.errors import HostUnavailableError, PhasesyncError, SettingsError
from phasesync.host_files import is_passing

CONNECTION_LIFE_S: Final = 5.0
"""A connection is cut after that, however busy its client keeps it: for request and response together."""
CLIENT_PAUSE_S: Final = 5.0
"""A client that sends nothing, or takes nothing, for that long is cut off."""
MAX_CONNECTIONS: Final = 64
_NO_DESCRIPTOR_PAUSE_S: Final = 0.2
_NOT_NOW: Final = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.ENODEV, errno.ENXIO)
_NAME_NOT_NOW: Final = (socket.EAI_AGAIN, socket.EAI_MEMORY, socket.EAI_SYSTEM)
"""The resolver's own codes, for a name whose server does not answer yet."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """
    An answer to a probe.

    Attributes:
        ok: 200 or 503.
        detail: for the operator; becomes JSON as it is.
    """

    ok: bool
    detail: Mapping[str, object] = field(default_factory=dict)


Probe = Callable[[], Report]


class HealthServer:
    """Answers probes from `start` to `stop`."""

    def __init__(self, *, host: str, port: int, health: Probe, ready: Probe) -> None:
        """
        Args:
            host: address or name; empty = every address.
            port: 0 = any free one.
            health: should this process be left alone (True) or restarted?
            ready: does it do its work, or stand by for it?
        """
        self._host = host
        self._port = port
        self._probes = {"/healthz": health, "/readyz": ready}
        self._server: _Server | None = None

    @property
    def address(self) -> str:
        """HOST:PORT it listens on, with the port that port 0 became."""
        if self._server is None:
            raise RuntimeError("the server was not started")
        host, port = self._server.server_address[:2]
        return _joined(str(host), int(port))

    def start(self) -> None:
        """
        Listen, and answer in a thread.

        Raises:
            HostUnavailableError: the address is in use, is none of this machine now, or cannot be found out now.
            SettingsError: it is one that this process will never have.
        """
        try:
            self._server = _Server(_bind_address(self._host, self._port), self._probes)
        except (OSError, UnicodeError) as error:  # the latter for a name that no DNS could hold
            raise _refused(_joined(self._host, self._port), error) from None
        thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, name="http", daemon=True
        )
        thread.start()

    def stop(self) -> None:
        """Listen no more; connections in hand end by themselves or with the process."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # A request under way must not keep the process.
    request_queue_size = 32

    def __init__(self, address: tuple[socket.AddressFamily, tuple[Any, ...]], probes: Mapping[str, Probe]) -> None:
        self.address_family, place = address
        self.probes = probes
        self._open: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        super().__init__(place, _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Take a connection. It stays in the queue where no file can be opened, and the next poll comes at once."""
        try:
            return super().get_request()
        except OSError as error:
            if is_passing(error):
                time.sleep(_NO_DESCRIPTOR_PAUSE_S)
            raise

    def server_bind(self) -> None:
        # HTTPServer's asks the DNS for its own name here, which may hang.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Take every connection; one too many costs the oldest, which has had the most time."""
        with self._lock:
            surplus = list(self._open)[: max(0, len(self._open) + 1 - MAX_CONNECTIONS)]
            for oldest in surplus:
                del self._open[oldest]
            self._open[request] = time.monotonic()
        _cut(surplus)
        return True

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Cut connections that have lived too long; called between two polls."""
        oldest = time.monotonic() - CONNECTION_LIFE_S
        with self._lock:
            late = [connection for connection, since in self._open.items() if since < oldest]
        _cut(late)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nobody's error; socketserver would print a traceback."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = CLIENT_PAUSE_S
    server_version = "phasesync"
    sys_version = ""

    def do_GET(self) -> None:
        probe = self.server.probes.get(self.path.partition("?")[0])
        if probe is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            report = probe()
        except Exception as error:  # noqa: BLE001 -- a probe that fails is an answer too
            report = Report(ok=False, detail={"reason": f"the check itself failed ({type(error).__name__})"})
        status = HTTPStatus.OK if report.ok else HTTPStatus.SERVICE_UNAVAILABLE
        self._answer(status, {"ok": report.ok, **report.detail})

    do_HEAD = do_GET

    def _refuse(self) -> None:
        self.send_error(HTTPStatus.METHOD_NOT_ALLOWED)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = _refuse

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer with an error as JSON, without what the client sent."""
        status = HTTPStatus(code)
        if status is HTTPStatus.NOT_IMPLEMENTED:  # a method that nobody knows
            status = HTTPStatus.METHOD_NOT_ALLOWED
        headers = {"Allow": "GET, HEAD"} if status is HTTPStatus.METHOD_NOT_ALLOWED else {}
        self._answer(status, {"error": status.phrase}, headers)

    def _answer(self, status: HTTPStatus, body: Mapping[str, object], headers: Mapping[str, str] | None = None) -> None:
        content = json.dumps(body, default=str).encode() + b"\n"
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Probes come every few seconds; nobody wants to read that."""


def _cut(connections: Iterable[socket.socket]) -> None:
    """End connections; the threads that serve them notice at once."""
    for connection in connections:
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue  # It ended by itself meanwhile.


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _bind_address(host: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, place = found[0]
    return family, place


def _refused(address: str, error: OSError | UnicodeError) -> HostUnavailableError | SettingsError:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return HostUnavailableError(
            f"http.listen: {address} is in use by another process",
            hint="choose another port with PHASESYNC_HTTP__LISTEN; port 0 takes a free one",
        )
    message = f"http.listen: cannot listen on {address}: {_reason(error)}"
    hint = "PHASESYNC_HTTP__LISTEN takes HOST:PORT with an address of this machine, such as 127.0.0.1:8787"
    if isinstance(error, socket.gaierror):
        passing = error.errno in _NAME_NOT_NOW
    else:
        passing = isinstance(error, OSError) and (error.errno in _NOT_NOW or is_passing(error))
    return HostUnavailableError(message, hint=hint) if passing else SettingsError(message, hint=hint)


def _reason(error: OSError | UnicodeError) -> str:
    if isinstance(error, socket.gaierror) and error.errno in _NAME_NOT_NOW:
        return "the name cannot be looked up now"
    if isinstance(error, socket.gaierror | UnicodeError) or not error.errno:
        return "the name is not known"
    return os.strerror(error.errno)


PATIENCE: Final = timedelta(seconds=60)
"""How long it is tried by a daemon that does not stand by. systemd starts the daemon anew after it."""
AGAIN_S: Final = 1.0


class Listening:
    """Has a server listen from `start` to `stop`, as far as that can be had."""

    def __init__(self, server: HealthServer, *, stands_by: Callable[[], bool], patience: timedelta = PATIENCE) -> None:
        """
        Args:
            server: is started once, and stopped at the end.
            stands_by: whether this daemon waits for another one to end.
            patience: how long it is tried while it does not stand by.
        """
        self._server = server
        self._stands_by = stands_by
        self._patience = patience
        self._log = get_logger("phasesync.daemon")
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.problem: str | None = None
        """Why nobody can ask for health now; None = the server listens."""
        self.fatal: PhasesyncError | None = None
        """What ends the daemon: the address was not to be had for too long."""

    def start(self) -> None:
        """Listen, or begin to try. SettingsError: waiting is no use."""
        try:
            self._server.start()
        except HostUnavailableError as error:
            self.problem = error.message
            self._log.warning(
                "no health and readiness yet; it is tried again",
                reason=error.message,
                within_s=round(self._patience.total_seconds()),
            )
            threading.Thread(target=self._try_again, name="listening", daemon=True).start()

    def stop(self) -> None:
        """Listen no more, and try no more."""
        self._closed.set()
        with self._lock:
            self._server.stop()

    def _try_again(self) -> None:
        began = time.monotonic()
        told_standby = False
        while not self._closed.wait(AGAIN_S):
            if self._stands_by():
                began = time.monotonic()
                if not told_standby:
                    told_standby = True
                    self._log.info("standing by without an address; it is taken with the work", reason=self.problem)
            try:
                with self._lock:
                    if self._closed.is_set():
                        return
                    self._server.start()
            except PhasesyncError as error:
                self.problem = error.message
                if not isinstance(error, HostUnavailableError):
                    self.fatal = error
                    return
                if (tried_s := time.monotonic() - began) >= self._patience.total_seconds():
                    self.fatal = HostUnavailableError(
                        f"{error.message}; it was tried for {round(tried_s)} s", hint=error.hint
                    )
                    return
            else:
                self.problem = None
                self._log.info("listening", address=self._server.address)
                return
