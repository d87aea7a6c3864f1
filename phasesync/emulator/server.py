"""
The server: reads a request, keeps it, applies faults, checks it as AWS does, and has it carried out.

`dispatch.py` answers Secrets Manager and what IAM knows of users, on moto's objects. moto itself answers the rest of
IAM and the other services (KMS, STS), after the checks of keys, rights and sessions.
"""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from types import TracebackType
from typing import ClassVar, Self
from uuid import uuid4
from xml.sax.saxutils import escape

from phasesync.emulator.access import (
    QUERY,
    Access,
    Denial,
    check_assume_role,
    check_key,
    check_rights,
    check_session,
    note_session,
)
from phasesync.emulator.clock import EmulatorClock
from phasesync.emulator.context import Context, Limits, Throttling, Timing
from phasesync.emulator.dispatch import OPERATIONS, carry_out, carry_out_iam
from phasesync.emulator.errors import AwsError
from phasesync.emulator.faults import DROP, Answer, Faults, Handler, When
from phasesync.emulator.http import HOST, LoopbackServer, MotoApp, Reply
from phasesync.emulator.kms import Keys, check_state, with_key_id, with_key_usage
from phasesync.emulator.moto_state import MotoState
from phasesync.emulator.outsider import Outsider
from phasesync.emulator.request import SECRETS_MANAGER, Call, Operation, Principal, read_json, read_operation
from phasesync.errors import SettingsError

Hook = Callable[[When, Operation], Answer | None]

_REQUIRED = ("moto", "flask", "flask_cors")
"""What the extra `demo` brings."""
_JSON = "application/x-amz-json-1.1"
_XML = "text/xml"


def require_moto(purpose: str) -> None:
    """Refuse if the extra `phasesync[demo]` is not installed: SettingsError. `purpose`: what needs it."""
    for name in _REQUIRED:
        try:
            import_module(name)
        except ImportError:
            raise SettingsError(
                f"{purpose} needs an AWS emulator, which is not installed: {name} is missing",
                hint="pip install 'phasesync[demo]'",
            ) from None


class AwsEmulator:
    """
    An AWS on loopback, about as strict as AWS.

        with AwsEmulator() as aws:
            client = boto3.client("secretsmanager", endpoint_url=aws.url, ...)
            aws.outside.put("shop", "theirs")
            aws.clock.advance(days=31)
            aws.fail("PutSecretValue", when="after")
            aws.count("PutSecretValue")

    moto's objects are one set per process: two of these in one process show the same secrets.
    """

    guard: ClassVar[Callable[[Operation], Answer | None] | None] = None
    """Asked before each request to any of these; what it returns replaces AWS's answer. `reset` leaves it alone."""

    def __init__(
        self,
        *,
        clock: EmulatorClock | None = None,
        throttling: bool = True,
        list_lag: timedelta = timedelta(),
        force_delete_takes: timedelta = timedelta(),
        replication_takes: timedelta = timedelta(),
        new_key_takes: timedelta = timedelta(),
        port: int = 0,
        host: str = HOST,
    ) -> None:
        """
        Args:
            clock: the time; None means the machine's time, which `clock.advance` moves forward.
            throttling: whether AWS's request rates hold.
            list_lag: how old the answers of ListSecrets are.
            force_delete_takes: how long a name stays taken after a deletion without recovery.
            replication_takes: until a replica is InSync.
            new_key_takes: until a new access key of a user is accepted.
            port: where to listen; 0 = a free port.
            host: the address to listen on.

        Raises:
            OSError: the port is in use, or there is no such address.
        """
        self.clock = clock or EmulatorClock()
        self.throttling = Throttling(self.clock, enabled=throttling)
        """May be switched off (`enabled`), and set to other figures (`rates`)."""
        self._timing = Timing(
            list_lag=list_lag,
            force_delete_takes=force_delete_takes,
            replication_takes=replication_takes,
            new_key_takes=new_key_takes,
        )
        self.faults = Faults()
        self.access = Access()
        self.state = MotoState(self.clock)
        self.keys = Keys(self.state, self.access)
        """`keys.uses` are the calls of KMS with callers' rights."""
        self.context = Context(self.state, self.access, self.keys, replace(self._timing))
        self.outside = Outsider(self.context)
        """Another actor who changes things out of band."""
        self.on_request: Hook | None = None
        """Called before and after every request; what it returns replaces AWS's answer, None keeps it."""
        self.operations: list[Operation] = []
        """Every request that arrived, in order."""
        self._throttled = throttling
        self._lock = threading.Lock()
        self._moto = MotoApp()
        self._server = LoopbackServer(self._respond, port=port, host=host)
        self.url = self._server.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop serving."""
        self.faults.stopped.set()
        self._server.close()

    def reset(self) -> None:
        """
        Remove objects, log, faults, denials and hooks; restore AWS's quotas and the constructor's durations.

        The clock returns to where it would be without `advance`.
        """
        with self.state.lock:
            self.state.reset()
            self.clock.rewind()
            self.faults.clear()
            self.access.clear()
            self.keys.uses.clear()
            self.throttling.refill()
            self.throttling.enabled = self._throttled
            self.context.timing = replace(self._timing)
            self.context.limits = Limits()
            self.context.lists.clear()
            self.context.sorting = "done"
            self.on_request = None
        with self._lock:
            self.operations.clear()

    # --- requests that arrived

    def count(self, name: str) -> int:
        """Return how many requests for an operation arrived."""
        with self._lock:
            return sum(operation.name == name for operation in self.operations)

    def names(self, service: str = SECRETS_MANAGER) -> list[str]:
        """Return the operations of a service in the order of their arrival."""
        with self._lock:
            return [operation.name for operation in self.operations if operation.service == service]

    def calls(self, *, except_by: Iterable[str] = ()) -> Counter[str]:
        """Return operation -> how often it was called by others than these access keys."""
        others = set(except_by)
        with self._lock:
            return Counter(each.name for each in self.operations if each.access_key_id not in others)

    # --- faults and denials

    @property
    def timing(self) -> Timing:
        """How long things take; may be changed, until `reset`."""
        return self.context.timing

    @property
    def limits(self) -> Limits:
        """Hard quotas; may be changed, until `reset`."""
        return self.context.limits

    def fail(
        self, operation: str, answer: Answer = DROP, *, when: When = "before", nth: int = 1, times: int | None = 1
    ) -> None:
        """Let requests fail; see `Faults.fail`."""
        self.faults.fail(operation, answer, when=when, nth=nth, times=times)

    def slow(
        self, operation: str, seconds: float, *, when: When = "before", nth: int = 1, times: int | None = 1
    ) -> None:
        """Let requests wait; see `Faults.slow`."""
        self.faults.slow(operation, seconds, when=when, nth=nth, times=times)

    def do(self, operation: str, act: Handler, *, when: When = "before", nth: int = 1, times: int | None = 1) -> None:
        """Run something at a request; see `Faults.do`."""
        self.faults.do(operation, act, when=when, nth=nth, times=times)

    def deny(
        self, action: str, *, caller: str | None = None, resource: str | None = None, explicit: bool = False
    ) -> Denial:
        """Deny an IAM action; see `Access.deny`. `access.allow` removes it."""
        return self.access.deny(action, caller=caller, resource=resource, explicit=explicit)

    def end_sessions(self, role_arn: str | None = None) -> None:
        """End the sessions of a role; None means all roles: their next request gets ExpiredTokenException."""
        self.state.end_sessions(role_arn)

    # --- carrying out a request

    def _respond(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply | None:
        operation = read_operation(headers, path, body)
        if operation.service == "":
            return self._answer_of_moto(method, path, headers, body)
        principal = self.state.principal(operation.access_key_id)
        operation = replace(operation, account=principal.account, at=self.clock.now())
        with self._lock:
            self.operations.append(operation)
        before, after = self.faults.due(operation.name)
        if self.on_request is not None:
            hook = self.on_request
            before.append(lambda request: hook("before", request))
            after.append(lambda request: hook("after", request))
        if (guard := type(self).guard) is not None:
            before.insert(0, guard)
        for act in before:
            if (injected := act(operation)) is not None:
                return _injected(injected, operation.service)
        try:
            reply = self._carry_out(operation, principal, method, path, headers)
        except AwsError as error:
            reply = _refused(error, operation.service)
        for act in after:
            if (injected := act(operation)) is not None:
                return _injected(injected, operation.service)
        return reply

    def _carry_out(
        self, operation: Operation, principal: Principal, method: str, path: str, headers: Mapping[str, str]
    ) -> Reply:
        check_key(self.state, principal, operation.service, self.timing.new_key_takes)
        check_session(self.state, principal, operation.service)
        if operation.service in QUERY:
            with self.state.lock:  # each request is whole
                return self._carry_out_query(operation, principal, method, path, headers)
        if operation.service != SECRETS_MANAGER:
            self._check_access(operation, principal)
            body = operation.body
            if operation.service == "kms":
                check_state(self.state, operation)
                body = with_key_usage(body) if operation.name == "CreateKey" else with_key_id(body)
            return self._answer_of_moto(method, path, headers, body)
        self.throttling.check(principal.account, operation.region, operation.name)
        if operation.name not in OPERATIONS:
            self.access.check(principal, f"{SECRETS_MANAGER}:{operation.name}", None)
            return self._answer_of_moto(method, path, headers, operation.body)
        arguments = read_json(operation.body)
        call = Call(operation.name, principal, operation.region, arguments, self.clock.now())
        answer = carry_out(self.context, call)
        return Reply(200, json.dumps(answer).encode(), {"Content-Type": _JSON, "x-amzn-RequestId": str(uuid4())})

    def _carry_out_query(
        self, operation: Operation, principal: Principal, method: str, path: str, headers: Mapping[str, str]
    ) -> Reply:
        def by_moto(body: bytes) -> Reply:
            return self._answer_of_moto(method, path, headers, body)

        if operation.service == "iam":
            return carry_out_iam(self.context, operation, principal, by_moto)
        check_rights(self.state, self.access, operation, principal)
        check_assume_role(self.state, principal, operation)
        reply = by_moto(operation.body)
        return replace(reply, body=note_session(self.state, operation, reply.body))

    def _check_access(self, operation: Operation, principal: Principal) -> None:
        """Refuse a denied call of KMS or of a service without rules."""
        resource = "*"
        if operation.service == "kms":
            resource = str(read_json(operation.body, strict=False).get("KeyId") or "*")
        self.access.check(principal, f"{operation.service}:{operation.name}", resource)

    def _answer_of_moto(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        status, answered, content = self._moto.answer(method, path, headers, body)
        return Reply(status, content, dict(answered))


def _refused(error: AwsError, service: str) -> Reply:
    """Write a refusal in the form of the service."""
    request_id = str(uuid4())
    if service in QUERY:
        fault = "Receiver" if error.status >= 500 else "Sender"
        text = (
            f"<ErrorResponse><Error><Type>{fault}</Type><Code>{escape(error.code)}</Code>"
            f"<Message>{escape(error.message)}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
        )
        return Reply(error.status, text.encode(), {"Content-Type": _XML, "x-amzn-RequestId": request_id})
    body = json.dumps({"__type": error.code, "message": error.message, "Message": error.message}).encode()
    return Reply(error.status, body, {"Content-Type": _JSON, "x-amzn-RequestId": request_id})


def _injected(answer: Answer, service: str) -> Reply | None:
    """Write an injected answer."""
    if answer.raw is not None:
        headers = {"Content-Type": _XML if service in QUERY else _JSON, "x-amzn-RequestId": str(uuid4())}
        return Reply(answer.status, answer.raw, headers, cut=answer.cut)
    if answer.code is None:
        return None
    return _refused(AwsError(answer.code, answer.message, status=answer.status), service)
