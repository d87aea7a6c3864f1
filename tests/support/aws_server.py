"""An AWS on loopback: moto behind a layer that records every operation and can fail it before or after moto acts.

It is a real HTTP server in a thread of the test's process, so that subprocesses reach it too, while the
test reads `operations` and sets faults directly.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from socket import SHUT_RDWR
from typing import Any, Literal
from urllib.parse import parse_qs

When = Literal["before", "after"]
Handler = Callable[["Operation"], "Answer | None"]


@dataclass(frozen=True)
class Operation:
    """One request that reached the server; repeats of the SDK are requests of their own."""

    service: str
    name: str
    access_key_id: str
    body: bytes = field(repr=False)

    @property
    def form(self) -> dict[str, str]:
        """The arguments of a request to STS or IAM."""
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}


@dataclass(frozen=True)
class Answer:
    """What to answer in place of moto. `code` None drops the connection without an answer."""

    code: str | None
    message: str = "injected"
    status: int = 400


DROP = Answer(code=None)
"""The connection ends without an answer."""


@dataclass
class _Fault:
    operation: str
    when: When
    nth: int
    times: int
    act: Handler
    seen: int = 0


class AwsServer:
    """The server, what it saw, and what it shall do wrong."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            """Serves HTTP/1.1, so that a client keeps its connection as it does with AWS; writes no log."""

            protocol_version = "HTTP/1.1"

            def log(self, type: str, message: str, *args: Any) -> None:
                pass

        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True, request_handler=Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self._lock = threading.Lock()
        self._faults: list[_Fault] = []
        self.operations: list[Operation] = []
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def reset(self) -> None:
        """Forget everything: moto's objects, what was recorded, and the faults."""
        from moto.moto_api._internal.models import moto_api_backend

        moto_api_backend.reset()
        with self._lock:
            self._faults.clear()
            self.operations.clear()

    def count(self, name: str) -> int:
        """Return how many requests for an operation arrived."""
        with self._lock:
            return sum(operation.name == name for operation in self.operations)

    def names(self, service: str = "secretsmanager") -> list[str]:
        """Return the operations of a service in the order of their arrival."""
        with self._lock:
            return [operation.name for operation in self.operations if operation.service == service]

    def fail(
        self,
        operation: str,
        answer: Answer = DROP,
        *,
        when: When = "before",
        nth: int = 1,
        times: int = 1,
    ) -> None:
        """
        Have requests for an operation answered wrongly.

        Args:
            operation: such as `PutSecretValue`.
            answer: the wrong answer; the default drops the connection.
            when: before = moto never sees the request; after = moto carries it out, and its answer is replaced.
            nth: the first request that is concerned, counted from now on.
            times: how many in a row are; the SDK makes three attempts by itself.
        """
        self.do(operation, lambda _: answer, when=when, nth=nth, times=times)

    def do(self, operation: str, act: Handler, *, when: When = "before", nth: int = 1, times: int = 1) -> None:
        """
        Run something at a request: kill a process, wait for an event, write as an outsider.

        It gets the operation, and what it returns is the answer in place of moto's; None = moto's.
        """
        with self._lock:
            self._faults.append(_Fault(operation, when, nth, times, act))

    def _serve(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = _Replay(body)
        operation = _operation_of(environ, body)
        with self._lock:
            self.operations.append(operation)
            before, after = self._due(operation.name, "before"), self._due(operation.name, "after")
        for act in before:
            if (wrong := act(operation)) is not None:
                return _answer(wrong, operation, environ, start_response)
        if not after:
            answer: Iterable[bytes] = self._moto(environ, start_response)
            return answer
        kept: list[Any] = []
        chunks = list(self._moto(environ, lambda *arguments: kept.append(arguments)))
        for act in after:
            if (wrong := act(operation)) is not None:
                return _answer(wrong, operation, environ, start_response)
        start_response(*kept[0])
        return chunks

    def _due(self, name: str, when: When) -> list[Handler]:
        """Count one request against the faults; return what is due. The lock is held."""
        due = []
        for fault in self._faults:
            if fault.operation == name and fault.when == when:
                fault.seen += 1
                if fault.nth <= fault.seen < fault.nth + fault.times:
                    due.append(fault.act)
        return due


class _Replay:
    """A request body that was read already."""

    def __init__(self, body: bytes) -> None:
        self._rest = body

    def read(self, size: int | None = -1) -> bytes:
        size = len(self._rest) if size is None or size < 0 else size
        part, self._rest = self._rest[:size], self._rest[size:]
        return part

    def readline(self, size: int | None = -1) -> bytes:
        end = self._rest.find(b"\n") + 1
        return self.read(end or None)


def _operation_of(environ: dict[str, Any], body: bytes) -> Operation:
    """Tell the operation: JSON services name it in a header, STS and IAM in the form."""
    signed = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].split("/")
    service = signed[3] if len(signed) > 3 else ""
    target = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
    name = target or parse_qs(body.decode("utf-8", "replace")).get("Action", [environ.get("PATH_INFO", "")])[0]
    return Operation(service=service, name=name, access_key_id=signed[0], body=body)


def _answer(wrong: Answer, operation: Operation, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    if wrong.code is None:
        environ["werkzeug.socket"].shutdown(SHUT_RDWR)
        return []
    if operation.service in ("sts", "iam"):
        kind = "text/xml"
        body = (
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{wrong.code}</Code><Message>{wrong.message}</Message>"
            f"</Error><RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>"
        ).encode()
    else:
        kind = "application/x-amz-json-1.1"
        body = json.dumps({"__type": wrong.code, "message": wrong.message}).encode()
    headers = [("Content-Type", kind), ("Content-Length", str(len(body))), ("x-amzn-RequestId", str(uuid.uuid4()))]
    start_response(f"{wrong.status} Injected", headers)
    return [body]
