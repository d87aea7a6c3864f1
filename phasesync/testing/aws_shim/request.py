"""
A request as the shim sees it, and the record that is kept of it.

Must not keep values: the record holds the body for those who ask for it, and never shows it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qs

from phasesync.testing.aws_shim.errors import AwsError

SECRETS_MANAGER: Final = "secretsmanager"


@dataclass(frozen=True)
class Principal:
    """Who calls."""

    access_key_id: str
    account: str
    arn: str
    """Of the user or of the assumed role's session, as GetCallerIdentity tells it."""
    role_arn: str | None = None
    expires_at: datetime | None = None
    """End of the session; None = the key does not end."""


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
    """Name or ARN as it was asked for; None where the operation is not about one secret."""
    at: datetime | None = None
    """On the shim's clock."""

    @property
    def form(self) -> dict[str, str]:
        """The arguments of a request to STS or IAM."""
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of a request to a JSON service."""
        found: dict[str, Any] = json.loads(self.body or b"{}")
        return found


@dataclass(frozen=True)
class Call:
    """A request to Secrets Manager, ready to be carried out."""

    operation: str
    principal: Principal
    region: str
    arguments: Mapping[str, Any] = field(repr=False)
    now: datetime
    trusted: bool = False
    """Made by the test itself in somebody's name: neither throttled nor denied."""

    @property
    def account(self) -> str:
        """The caller's account."""
        return self.principal.account

    def text(self, name: str) -> str | None:
        """Return a text argument; None = it was not given."""
        value = self.arguments.get(name)
        return None if value is None else str(value)

    def listed(self, name: str) -> list[Any]:
        """Return a list argument, empty where it was not given."""
        return list(self.arguments.get(name) or [])

    @property
    def secret_id(self) -> str:
        """Name or ARN of the secret that the call is about."""
        return str(self.arguments.get("SecretId") or self.arguments.get("Name") or "")


def read_operation(headers: Mapping[str, str], path: str, body: bytes) -> Operation:
    """
    Tell what a request asks for: JSON services name the operation in a header, STS and IAM in the form.

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
    )


def read_json(body: bytes, *, strict: bool = True) -> dict[str, Any]:
    """Return the arguments in a body; SerializationException, as all JSON services of AWS answer, or empty."""
    try:
        found = json.loads(body or b"{}")
    except ValueError:
        found = None
    if isinstance(found, dict):
        return found
    if strict:
        raise AwsError("SerializationException", "the request is not a JSON object")
    return {}
