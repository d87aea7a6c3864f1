"""
Requests as the emulator reads them and keeps them, and the query protocol of IAM and STS.

An `Operation` keeps the body of its request for those who ask for it, and never shows it. The query protocol is that of
the service model of IAM in botocore: a form with members of lists as `Tags.member.1.Key`, answers as
`<CreateUserResponse><CreateUserResult>...`. Knows no rule of IAM.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qs, parse_qsl
from uuid import uuid4
from xml.sax.saxutils import escape

from phasesync.emulator.api_model import iam_model
from phasesync.emulator.errors import AwsError
from phasesync.emulator.http import Reply

SECRETS_MANAGER: Final = "secretsmanager"


@dataclass(frozen=True)
class Principal:
    """The caller."""

    access_key_id: str
    account: str
    arn: str
    """Of the user or of the assumed role's session, as GetCallerIdentity returns it."""
    role_arn: str | None = None
    expires_at: datetime | None = None
    """End of the session; None if the key does not end."""


@dataclass(frozen=True)
class Operation:
    """One request that reached the server; repeats of the SDK are requests of their own."""

    service: str
    name: str
    access_key_id: str
    body: bytes = field(repr=False)
    account: str = ""
    """The caller's."""
    region: str = ""
    secret_id: str | None = None
    """Name or ARN as it was asked for; None if the operation is not about one secret."""
    at: datetime | None = None
    """On the emulator's clock."""
    agent: str = ""
    """User-Agent: the program that asks, as it calls itself."""

    @property
    def form(self) -> dict[str, str]:
        """The arguments of a request to STS or IAM."""
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of a request to a JSON service."""
        arguments: dict[str, Any] = json.loads(self.body or b"{}")
        return arguments


@dataclass(frozen=True)
class Call:
    """A request to Secrets Manager or IAM, ready to be carried out."""

    operation: str
    principal: Principal
    region: str
    arguments: Mapping[str, Any] = field(repr=False)
    now: datetime
    trusted: bool = False
    """Made by the test itself as another actor: neither throttled nor denied."""

    @property
    def account(self) -> str:
        """The caller's account."""
        return self.principal.account

    def text(self, name: str) -> str | None:
        """Return a text argument; None if it was not given."""
        value = self.arguments.get(name)
        return None if value is None else str(value)

    def listed(self, name: str) -> list[Any]:
        """Return a list argument; empty if it was not given."""
        return list(self.arguments.get(name) or [])

    @property
    def secret_id(self) -> str:
        """Name or ARN of the secret that the call is about."""
        return str(self.arguments.get("SecretId") or self.arguments.get("Name") or "")


def read_operation(headers: Mapping[str, str], path: str, body: bytes) -> Operation:
    """
    Return what a request asks for: JSON services name the operation in a header, STS and IAM in the form.

    Args:
        headers: of the request, keys in lower case.
        path: of the request.
        body: of the request.
    """
    signed = headers.get("authorization", "").partition("Credential=")[2].partition(",")[0].split("/")
    target = headers.get("x-amz-target", "").rpartition(".")[2]
    service = signed[3] if len(signed) > 3 else ""
    name = target or parse_qs(body.decode("utf-8", "replace")).get("Action", [path])[0]
    secret_id = None
    if service == SECRETS_MANAGER and target:
        arguments = read_json(body, strict=False)
        secret_id = arguments.get("SecretId") or arguments.get("Name")
    return Operation(
        service=service,
        name=name,
        access_key_id=signed[0],
        body=body,
        region=signed[2] if len(signed) > 2 else "",
        secret_id=secret_id if isinstance(secret_id, str) else None,
        agent=headers.get("user-agent", ""),
    )


def read_json(body: bytes, *, strict: bool = True) -> dict[str, Any]:
    """Return the arguments in a body; SerializationException, as all JSON services of AWS answer, or empty."""
    try:
        document = json.loads(body or b"{}")
    except ValueError:
        document = None
    if isinstance(document, dict):
        return document
    if strict:
        raise AwsError("SerializationException", "the request is not a JSON object")
    return {}


def is_iam_operation(name: str) -> bool:
    """Return whether IAM has an operation."""
    return name in iam_model().operation_names


def has_argument(operation: str, name: str) -> bool:
    """Return whether an operation of IAM takes an argument."""
    shape = iam_model().operation_model(operation).input_shape
    return shape is not None and name in shape.members


def read_arguments(operation: str, body: bytes) -> dict[str, Any]:
    """Return the arguments in a form, those that are empty included; MalformedInput."""
    shape = iam_model().operation_model(operation).input_shape
    form = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    return {} if shape is None else _structure(shape, form, "")


def write_answer(operation: str, result: Mapping[str, Any]) -> Reply:
    """Write an answer; what the model does not name of a result is left out."""
    request_id = str(uuid4())
    shape = iam_model().operation_model(operation).output_shape
    content = "" if shape is None else f"<{operation}Result>{_content(shape, result)}</{operation}Result>"
    text = (
        f'<{operation}Response xmlns="{iam_model().metadata["xmlNamespace"]}">{content}'
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{operation}Response>"
    )
    return Reply(200, text.encode(), {"Content-Type": "text/xml", "x-amzn-RequestId": request_id})


# --- forms


def _structure(shape: Any, form: Mapping[str, str], prefix: str) -> dict[str, Any]:
    members = {name: _value(member, form, prefix + name) for name, member in shape.members.items()}
    return {name: value for name, value in members.items() if value is not None}


def _value(shape: Any, form: Mapping[str, str], where: str) -> Any:
    """Return the value of a parameter in a form, None if the form does not have it."""
    if shape.type_name == "structure":
        return _structure(shape, form, f"{where}.") or None
    if shape.type_name == "list":
        return _list(shape, form, where)
    text = form.get(where)
    if text is None or shape.type_name not in ("integer", "boolean"):
        return text
    if shape.type_name == "boolean":
        return text == "true"
    if not text.removeprefix("-").isdecimal():
        raise AwsError("MalformedInput", f"{where} is not a number")
    return int(text)


def _list(shape: Any, form: Mapping[str, str], where: str) -> list[Any] | None:
    items: list[Any] = []
    while (value := _value(shape.member, form, f"{where}.member.{len(items) + 1}")) is not None:
        items.append(value)
    return items if items or where in form else None


# --- XML


def _content(shape: Any, value: Any) -> str:
    """Write what stands between the tags of an element."""
    if shape.type_name == "structure":
        fields = ((name, member, value.get(name)) for name, member in shape.members.items())
        return "".join(
            f"<{name}>{_content(member, field)}</{name}>" for name, member, field in fields if field is not None
        )
    if shape.type_name == "list":
        return "".join(f"<member>{_content(shape.member, member)}</member>" for member in value)
    if shape.type_name == "timestamp":
        return str(value.strftime("%Y-%m-%dT%H:%M:%SZ"))
    if shape.type_name == "boolean":
        return "true" if value else "false"
    return escape(str(value))
