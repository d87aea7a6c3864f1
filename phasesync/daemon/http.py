"""
Health, readiness and metrics over HTTP, for Kubernetes and monitoring: GET /healthz and /readyz, JSON, 200 or 503; and
GET /metrics.

Runs in threads that never keep the process alive. Must not decide what healthy means, and must not log requests. A
request as a whole has a deadline, and one connection too many cuts the oldest: slow clients never keep a probe from its
answer. A server without its address keeps trying while the daemon already works.
"""

import errno
import json
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import TCPServer
from typing import Any, Final

from phasesync.adapters.telemetry.logging import get_logger
from phasesync.errors import HostUnavailableError, PhasesyncError, SettingsError
from phasesync.host_files import is_passing
from phasesync.name_lookup import look_up

CONNECTION_LIFE_S: Final = 5.0
"""The life of a connection, for request and response together, however busy its client keeps it."""
CLIENT_PAUSE_S: Final = 5.0
"""A client is cut off after it has sent nothing, or taken nothing, for so long."""
MAX_CONNECTIONS: Final = 32
"""Each has a thread. Probes, scrapers and people together need a few."""
MAX_SCRAPES: Final = 4
"""Pages of metrics that are made at once: a storm of scrapers is not to keep probes from their answers."""
LISTEN_PATIENCE: Final = timedelta(seconds=60)
"""How long an active daemon tries to listen. Then it ends, and systemd starts it anew."""
RETRY_S: Final = 1.0
"""Pause between two attempts to listen."""
_NO_DESCRIPTOR_PAUSE_S: Final = 0.2
_TRANSIENT_ERRNOS: Final = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.ENODEV, errno.ENXIO)
_TRANSIENT_LOOKUP_ERRORS: Final = (socket.EAI_AGAIN, socket.EAI_MEMORY, socket.EAI_SYSTEM)
"""Codes of the resolver when the server of a name does not answer yet."""


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """
    The answer to a probe.

    Attributes:
        ok: 200 or 503.
        detail: for the operator; becomes JSON unchanged.
    """

    ok: bool
    detail: Mapping[str, object] = field(default_factory=dict)


Probe = Callable[[], ProbeResult]


@dataclass(frozen=True, kw_only=True)
class Page:
    """
    A document as it is sent.

    Attributes:
        headers: beside its type and length.
    """

    content_type: str
    content: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


Metrics = Callable[[str, str], Page]
"""Returns the metrics for the headers Accept and Accept-Encoding of a scrape; must answer in a few seconds."""


class HealthServer:
    """Answers probes from `start` to `stop`."""

    def __init__(self, *, host: str, port: int, health: Probe, ready: Probe, metrics: Metrics | None = None) -> None:
        """
        Args:
            host: address or name; empty = every address.
            port: 0 = any free one.
            health: asks whether the process is healthy; otherwise a restart would help.
            ready: asks whether it does its work, or stands by for it.
            metrics: None = there is no such page.
        """
        self._host = host
        self._port = port
        self._probes = {"/healthz": health, "/readyz": ready}
        self._metrics = metrics
        self._server: _Server | None = None

    @property
    def address(self) -> str:
        """HOST:PORT that it listens on, with the actual port in place of port 0."""
        if self._server is None:
            raise RuntimeError("the server was not started")
        host, port = self._server.server_address[:2]
        return _host_port(str(host), int(port))

    def start(self) -> None:
        """
        Listen, and answer in a thread.

        Raises:
            HostUnavailableError: the address is in use, or is not there yet, or its name cannot be looked up now.
            SettingsError: this process can never have the address.
        """
        try:
            self._server = _Server(_bind_address(self._host, self._port), self._probes, self._metrics)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that no DNS could hold
            raise _listen_error(_host_port(self._host, self._port), error) from None
        thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, name="http", daemon=True
        )
        thread.start()

    def stop(self) -> None:
        """Listen no more. Open connections end by themselves or with the process."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()


class RetryingListener:
    """
    Starts a health server, and keeps trying while its address is not available.

    Reconciling does not wait for it. At boot an address may not be there yet, or the port belongs to a process that is
    about to end: a daemon that gave up then would never be started again. A standby on the host of the active daemon
    has the same settings and so the same address. It waits for the address as long as it stands by, and gets it when it
    takes over.
    """

    def __init__(
        self, server: HealthServer, *, stands_by: Callable[[], bool], patience: timedelta = LISTEN_PATIENCE
    ) -> None:
        """
        Args:
            server: is started once, and stopped at the end.
            stands_by: returns whether this daemon is a standby.
            patience: how long to try while it is active.
        """
        self._server = server
        self._stands_by = stands_by
        self._patience = patience
        self._log = get_logger("phasesync.daemon")
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.problem: str | None = None
        """Why the server does not listen; None if it does."""
        self.fatal: PhasesyncError | None = None
        """What ends the daemon: the address was not available for too long."""

    def start(self) -> None:
        """Listen, or begin to try. SettingsError: trying does not help."""
        try:
            self._server.start()
        except HostUnavailableError as error:
            self.problem = error.message
            self._log.warning(
                "no health and readiness yet; it is tried again",
                reason=error.message,
                within_s=round(self._patience.total_seconds()),
            )
            threading.Thread(target=self._retry, name="listening", daemon=True).start()

    def stop(self) -> None:
        """Listen no more, and try no more."""
        self._stopped.set()
        with self._lock:
            self._server.stop()

    def _retry(self) -> None:
        began = time.monotonic()
        standby_logged = False
        while not self._stopped.wait(RETRY_S):
            if self._stands_by():
                began = time.monotonic()
                if not standby_logged:
                    standby_logged = True
                    self._log.info("standing by without an address; it is taken with the work", reason=self.problem)
            try:
                with self._lock:
                    if self._stopped.is_set():
                        return
                    self._server.start()
            except PhasesyncError as error:
                self.problem = error.message
                if self._give_up(error, tried_s=time.monotonic() - began):
                    return
            else:
                self.problem = None
                self._log.info("listening", address=self._server.address)
                return

    def _give_up(self, error: PhasesyncError, *, tried_s: float) -> bool:
        """Return whether to end the daemon because of an error."""
        if not isinstance(error, HostUnavailableError):
            self.fatal = error
        elif tried_s >= self._patience.total_seconds():
            self.fatal = HostUnavailableError(f"{error.message}; it was tried for {round(tried_s)} s", hint=error.hint)
        return self.fatal is not None


class _Server(HTTPServer):
    """
    Has a thread for each connection that may be open, all of them from the start.

    Where memory or the number of threads is limited, none could be started later, and Python may wait for ever for one
    that began and died. Whatever else the limit does, probes get their answer.
    """

    request_queue_size = 32

    def __init__(
        self,
        address: tuple[socket.AddressFamily, tuple[Any, ...]],
        probes: Mapping[str, Probe],
        metrics: Metrics | None,
    ) -> None:
        self.address_family, socket_address = address
        self.probes = probes
        self.metrics = metrics
        self.scrapes = threading.BoundedSemaphore(MAX_SCRAPES)
        self._open: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        self._spare = _SpareDescriptor()
        self._requests: queue.SimpleQueue[tuple[Any, Any] | None] = queue.SimpleQueue()
        self._threads = MAX_CONNECTIONS
        super().__init__(socket_address, _Handler)
        for _ in range(self._threads):
            # None of them keeps the process: a request under way must not.
            threading.Thread(target=self._serve_requests, name="http-request", daemon=True).start()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Have a thread serve a connection."""
        self._requests.put((request, client_address))

    def _serve_requests(self) -> None:
        while (taken := self._requests.get()) is not None:
            with suppress(Exception):  # Without memory, even the end of a request may fail.
                self._serve_request(*taken)

    def _serve_request(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except Exception:  # noqa: BLE001 -- a client that went away, most of the time
            self.handle_error(request, client_address)
        finally:
            self.shutdown_request(request)

    def get_request(self) -> tuple[socket.socket, Any]:
        """
        Take a connection. Without a free file descriptor it takes the place of the one that is kept for that; a second
        connection stays in the queue, and the next poll comes at once.
        """
        try:
            return super().get_request()
        except OSError as error:
            if not is_passing(error):
                raise
            if self._spare.give_up():
                with suppress(OSError):  # Something else was quicker.
                    return super().get_request()
            time.sleep(_NO_DESCRIPTOR_PAUSE_S)
            raise

    def server_bind(self) -> None:
        # HTTPServer asks the DNS for its own name here, which may hang.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Take every connection. One too many cuts the oldest, which has had the most time."""
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
        self._spare.take()

    def server_close(self) -> None:
        super().server_close()
        self._spare.close()
        for _ in range(self._threads):
            self._requests.put(None)

    def service_actions(self) -> None:
        """Cut connections that have lived too long; called between two polls."""
        self._spare.take()
        oldest = time.monotonic() - CONNECTION_LIFE_S
        with self._lock:
            late = [connection for connection, since in self._open.items() if since < oldest]
        _cut(late)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that went away; socketserver would print a traceback."""


class _SpareDescriptor:
    """A file descriptor that is kept for the moment in which there is no other one. For several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._closed = False
        self.take()

    def take(self) -> None:
        """Have one again, if there is one."""
        with self._lock:
            if self._descriptor is None and not self._closed:
                with suppress(OSError):  # There is none yet: the next end of a request tries again.
                    self._descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def give_up(self) -> bool:
        """Give it to whoever opens something next; return whether there was one."""
        with self._lock:
            if self._descriptor is None:
                return False
            os.close(self._descriptor)
            self._descriptor = None
            return True

    def close(self) -> None:
        """Need none any more."""
        with self._lock:
            self._closed = True
        self.give_up()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = CLIENT_PAUSE_S
    server_version = "phasesync"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics" and self.server.metrics is not None:
            self._answer_metrics(self.server.metrics)
            return
        probe = self.server.probes.get(path)
        if probe is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            report = probe()
        except Exception as error:  # noqa: BLE001 -- a probe that fails is also an answer
            report = ProbeResult(ok=False, detail={"reason": f"the check itself failed ({type(error).__name__})"})
        status = HTTPStatus.OK if report.ok else HTTPStatus.SERVICE_UNAVAILABLE
        self._answer(status, {"ok": report.ok, **report.detail})

    do_HEAD = do_GET

    def _answer_metrics(self, metrics: Metrics) -> None:
        if not self.server.scrapes.acquire(blocking=False):
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "too many scrapes at once"}, {"Retry-After": "1"})
            return
        try:
            page = metrics(self.headers.get("Accept", ""), self.headers.get("Accept-Encoding", ""))
        except Exception as error:  # noqa: BLE001 -- a scraper that gets no metrics is to see that, and the log why
            get_logger("phasesync.daemon").error("no metrics for a scrape", exc_info=error)
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)
            return
        finally:
            self.server.scrapes.release()
        self._send(HTTPStatus.OK, page)

    def _refuse(self) -> None:
        self.send_error(HTTPStatus.METHOD_NOT_ALLOWED)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = _refuse

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer with an error as JSON that repeats nothing from the client."""
        status = HTTPStatus(code)
        if status is HTTPStatus.NOT_IMPLEMENTED:  # an unknown method
            status = HTTPStatus.METHOD_NOT_ALLOWED
        headers = {"Allow": "GET, HEAD"} if status is HTTPStatus.METHOD_NOT_ALLOWED else {}
        self._answer(status, {"error": status.phrase}, headers)

    def _answer(self, status: HTTPStatus, body: Mapping[str, object], headers: Mapping[str, str] | None = None) -> None:
        content = json.dumps(body, default=str).encode() + b"\n"
        self._send(status, Page(content_type="application/json", content=content, headers=headers or {}))

    def _send(self, status: HTTPStatus, page: Page) -> None:
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.content)))
        self.send_header("Cache-Control", "no-store")
        for name, value in page.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.content)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: probes come every few seconds."""


def _cut(connections: Iterable[socket.socket]) -> None:
    """End connections. The threads that serve them notice at once."""
    for connection in connections:
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue  # It has ended by itself meanwhile.


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _bind_address(host: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    family, _, _, _, socket_address = look_up(host, port, flags=socket.AI_PASSIVE)[0]
    return family, socket_address


def _listen_error(address: str, error: OSError | UnicodeError) -> HostUnavailableError | SettingsError:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return HostUnavailableError(
            f"http.listen: {address} is in use by another process",
            hint="choose another port with PHASESYNC_HTTP__LISTEN; port 0 takes a free one",
        )
    message = f"http.listen: cannot listen on {address}: {_reason(error)}"
    hint = "PHASESYNC_HTTP__LISTEN takes HOST:PORT with an address of this machine, such as 127.0.0.1:8787"
    if isinstance(error, TimeoutError):
        transient = True
    elif isinstance(error, socket.gaierror):
        transient = error.errno in _TRANSIENT_LOOKUP_ERRORS
    else:
        transient = isinstance(error, OSError) and (error.errno in _TRANSIENT_ERRNOS or is_passing(error))
    return HostUnavailableError(message, hint=hint) if transient else SettingsError(message, hint=hint)


def _reason(error: OSError | UnicodeError) -> str:
    lookup_failed = isinstance(error, socket.gaierror) and error.errno in _TRANSIENT_LOOKUP_ERRORS
    if lookup_failed or isinstance(error, TimeoutError):
        return "the name cannot be looked up now"
    if isinstance(error, socket.gaierror | UnicodeError) or not error.errno:
        return "the name is not known"
    return os.strerror(error.errno)
