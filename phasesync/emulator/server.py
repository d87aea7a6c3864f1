"""
The server: takes a request, writes it down, lets faults have their say, checks it as AWS does, has it carried out.

Secrets Manager is answered by `operations.py` on moto's objects, what IAM knows of users by `iam.py`; all else of IAM,
and the other services (KMS, STS), by moto itself, after the checks of keys, rights and sessions.
"""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import Self
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
from phasesync.emulator.errors import AwsError
from phasesync.emulator.faults import DROP, Answer, Faults, Handler, When
from phasesync.emulator.http import LoopbackServer, MotoApp, Reply
from phasesync.emulator.iam import carry_out_iam
from phasesync.emulator.kms import Keys, with_key_usage
from phasesync.emulator.operations import OPERATIONS, carry_out
from phasesync.emulator.outsider import Outsider
from phasesync.emulator.request import SECRETS_MANAGER, Call, Operation, Principal, read_json, read_operation
from phasesync.emulator.service import Limits, Service, Timing
from phasesync.emulator.throttling import Throttling
from phasesync.emulator.world import World

Hook = Callable[[When, Operation], Answer | None]

_JSON = "application/x-amz-json-1.1"
_XML = "text/xml"


class AwsEmulator:
    """
    An AWS on loopback that is as strict as AWS.

        with AwsEmulator() as aws:
            client = boto3.client("secretsmanager", endpoint_url=aws.url, ...)
            aws.outside.put("shop", "theirs")
            aws.clock.advance(days=31)
            aws.fail("PutSecretValue", when="after")
            aws.count("PutSecretValue")

    moto's objects are one set per process: two of these in one process show the same secrets.
    """

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
    ) -> None:
        """
        Args:
            clock: the time; None = the machine's, which `clock.advance` moves on.
            throttling: whether AWS's request rates hold.
            list_lag: how old the answers of ListSecrets are.
            force_delete_takes: how long a name stays taken after a deletion without recovery.
            replication_takes: until a replica is InSync.
            new_key_takes: until a new access key of a user is known.
            port: where to listen; 0 = a free port.
        """
        self.clock = clock or EmulatorClock()
        self.throttling = Throttling(self.clock, enabled=throttling)
        """May be switched off (`enabled`), and set to other figures (`rates`)."""
        self._timing = Timing(list_lag, force_delete_takes, replication_takes, new_key_takes)
        self.faults = Faults()
        self.access = Access()
        self.world = World(self.clock)
        self.keys = Keys(self.world, self.access)
        """`keys.uses` are the calls of KMS in callers' names."""
        self.service = Service(self.world, self.access, self.keys, replace(self._timing))
        self.outside = Outsider(self.service)
        """Somebody else who changes things."""
        self.on_request: Hook | None = None
        """Called before and after every request; what it returns is the answer in place of AWS's, None = AWS's."""
        self.operations: list[Operation] = []
        """Every request that arrived, in order."""
        self._throttled = throttling
        self._lock = threading.Lock()
        self._moto = MotoApp()
        self._server = LoopbackServer(self._respond, port=port)
        self.url = self._server.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Serve no more."""
        self.faults.stopped.set()
        self._server.close()

    def reset(self) -> None:
        """
        Forget objects, log, faults, denials and hooks; take AWS's figures and the constructor's durations again.

        The clock goes back by what it was moved on.
        """
        with self.world.lock:
            self.world.reset()
            self.clock.rewind()
            self.faults.clear()
            self.access.clear()
            self.keys.uses.clear()
            self.throttling.refill()
            self.throttling.enabled = self._throttled
            self.service.timing = replace(self._timing)
            self.service.limits = Limits()
            self.service.lists.clear()
            self.on_request = None
        with self._lock:
            self.operations.clear()

    # --- what was asked

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
            return Counter(one.name for one in self.operations if one.access_key_id not in others)

    # --- what goes wrong, and what is not allowed

    @property
    def timing(self) -> Timing:
        """How long things take; may be changed, until `reset`."""
        return self.service.timing

    @property
    def limits(self) -> Limits:
        """Hard quotas; may be changed, until `reset`."""
        return self.service.limits

    def fail(
        self, operation: str, answer: Answer = DROP, *, when: When = "before", nth: int = 1, times: int | None = 1
    ) -> None:
        """Have requests answered wrongly; see `Faults.fail`."""
        self.faults.fail(operation, answer, when=when, nth=nth, times=times)

    def slow(
        self, operation: str, seconds: float, *, when: When = "before", nth: int = 1, times: int | None = 1
    ) -> None:
        """Have requests wait; see `Faults.slow`."""
        self.faults.slow(operation, seconds, when=when, nth=nth, times=times)

    def do(self, operation: str, act: Handler, *, when: When = "before", nth: int = 1, times: int | None = 1) -> None:
        """Run something at a request; see `Faults.do`."""
        self.faults.do(operation, act, when=when, nth=nth, times=times)

    def deny(
        self, action: str, *, caller: str | None = None, resource: str | None = None, explicit: bool = False
    ) -> Denial:
        """Deny an IAM action; see `Access.deny`. `access.allow` takes it back."""
        return self.access.deny(action, caller=caller, resource=resource, explicit=explicit)

    def end_sessions(self, role_arn: str | None = None) -> None:
        """End the sessions of a role, None = of all roles: their next request gets ExpiredTokenException."""
        self.world.end_sessions(role_arn)

    # --- a request

    def _respond(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply | None:
        operation = read_operation(headers, path, body)
        if operation.service == "":
            return self._of_moto(method, path, headers, body)
        principal = self.world.principal(operation.access_key_id)
        operation = replace(operation, account=principal.account, at=self.clock.now())
        with self._lock:
            self.operations.append(operation)
        before, after = self.faults.due(operation.name)
        if self.on_request is not None:
            hook = self.on_request
            before.append(lambda one: hook("before", one))
            after.append(lambda one: hook("after", one))
        for act in before:
            if (wrong := act(operation)) is not None:
                return _injected(wrong, operation.service)
        try:
            reply = self._carry_out(operation, principal, method, path, headers)
        except AwsError as error:
            reply = _refused(error, operation.service)
        for act in after:
            if (wrong := act(operation)) is not None:
                return _injected(wrong, operation.service)
        return reply

    def _carry_out(
        self, operation: Operation, principal: Principal, method: str, path: str, headers: Mapping[str, str]
    ) -> Reply:
        check_key(self.world, principal, operation.service, self.timing.new_key_takes)
        check_session(self.world, principal, operation.service)
        if operation.service in QUERY:
            with self.world.lock:  # each request is whole
                return self._of_query(operation, principal, method, path, headers)
        if operation.service != SECRETS_MANAGER:
            self._check_access(operation, principal)
            body = with_key_usage(operation.body) if operation.name == "CreateKey" else operation.body
            return self._of_moto(method, path, headers, body)
        self.throttling.check(principal.account, operation.region, operation.name)
        if operation.name not in OPERATIONS:
            self.access.check(principal, f"{SECRETS_MANAGER}:{operation.name}", None)
            return self._of_moto(method, path, headers, operation.body)
        arguments = read_json(operation.body)
        call = Call(operation.name, principal, operation.region, arguments, self.clock.now())
        answer = carry_out(self.service, call)
        return Reply(200, json.dumps(answer).encode(), {"Content-Type": _JSON, "x-amzn-RequestId": str(uuid4())})

    def _of_query(
        self, operation: Operation, principal: Principal, method: str, path: str, headers: Mapping[str, str]
    ) -> Reply:
        def by_moto(body: bytes) -> Reply:
            return self._of_moto(method, path, headers, body)

        if operation.service == "iam":
            return carry_out_iam(self.service, operation, principal, by_moto)
        check_rights(self.world, self.access, operation, principal)
        check_assume_role(self.world, principal, operation)
        reply = by_moto(operation.body)
        return replace(reply, body=note_session(self.world, operation, reply.body))

    def _check_access(self, operation: Operation, principal: Principal) -> None:
        """Refuse a call of KMS, or of a service of which nothing is known, that is denied."""
        resource = "*"
        if operation.service == "kms":
            resource = str(read_json(operation.body, strict=False).get("KeyId") or "*")
        self.access.check(principal, f"{operation.service}:{operation.name}", resource)

    def _of_moto(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
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
    """Write an answer that a test asked for."""
    if answer.raw is not None:
        headers = {"Content-Type": _XML if service in QUERY else _JSON, "x-amzn-RequestId": str(uuid4())}
        return Reply(answer.status, answer.raw, headers, cut=answer.cut)
    if answer.code is None:
        return None
    return _refused(AwsError(answer.code, answer.message, status=answer.status), service)
