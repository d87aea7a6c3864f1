"""
The AWS of the tour: moto behind a server on a loopback port of its own choosing.

Two things are added to moto: every operation is written down, so that the tour can say what phasesync called; and a
role whose trust policy asks for an External ID is not assumed without it, as at AWS. Must not know phasesync.
"""

import io
import json
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import parse_qs

HOST: Final = "127.0.0.1"


class Emulator:
    """An AWS that lives until `close`."""

    def __init__(self) -> None:
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            """Keeps connections open as AWS does, and writes no log."""

            protocol_version = "HTTP/1.1"

            def log(self, type: str, message: str, *args: Any) -> None:
                pass

        self._lock = threading.Lock()
        self._calls: list[tuple[str, str]] = []
        self._after: dict[str, Callable[[], None]] = {}
        self._moto: Any = None
        self._server = make_server(HOST, 0, self._answer, threaded=True, request_handler=Quiet)
        self.url = f"http://{HOST}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._serve, name="emulator", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Serve no more."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()

    def calls(self, *, except_by: Iterable[str]) -> Counter[str]:
        """Return operation -> how often it was called by others than these access keys."""
        others = set(except_by)
        with self._lock:
            return Counter(operation for operation, access_key in self._calls if access_key not in others)

    def after_next(self, operation: str, act: Callable[[], None]) -> None:
        """Run something once the next such operation has been carried out, before it is answered."""
        with self._lock:
            self._after[operation] = act

    def _serve(self) -> None:
        """Serve; requests that come while moto is imported, which takes a second, wait for it."""
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server.serve_forever()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        operation, form = _operation_of(environ, body)
        with self._lock:
            self._calls.append((operation, _access_key_of(environ)))
            act = self._after.pop(operation, None)
        if operation == "AssumeRole" and not _is_trusted(form):
            return _deny(start_response)
        answer: Iterable[bytes] = self._moto(environ, start_response)
        if act is not None:
            answer = list(answer)
            act()
        return answer


def _operation_of(environ: dict[str, Any], body: bytes) -> tuple[str, dict[str, str]]:
    """Tell the operation: JSON services name it in a header, STS and IAM in a form, which is returned as well."""
    if target := environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]:
        return target, {}
    form = {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
    return form.get("Action", environ.get("PATH_INFO", "")), form


def _access_key_of(environ: dict[str, Any]) -> str:
    return str(environ.get("HTTP_AUTHORIZATION", "")).partition("Credential=")[2].partition("/")[0]


def _is_trusted(form: dict[str, str]) -> bool:
    """Return whether the External ID is the one that the role's trust policy waits for, if it waits for one."""
    from moto.iam.models import iam_backends

    arn = form.get("RoleArn", "")
    account, _, name = arn.removeprefix("arn:aws:iam::").partition(":role/")
    for role in iam_backends[account]["aws"].roles.values():
        if role.name == name:
            statements = json.loads(role.assume_role_policy_document)["Statement"]
            wanted = [one.get("Condition", {}).get("StringEquals", {}).get("sts:ExternalId") for one in statements]
            return any(one is None or one == form.get("ExternalId") for one in wanted)
    return True  # moto lets everybody in; the tour itself comes in like this, to set the scene.


def _deny(start_response: Any) -> Iterable[bytes]:
    answer = (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
        "<Code>AccessDenied</Code><Message>not authorized to perform: sts:AssumeRole</Message></Error>"
        f"<RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>"
    ).encode()
    start_response("403 Forbidden", [("Content-Type", "text/xml"), ("Content-Length", str(len(answer)))])
    return [answer]
