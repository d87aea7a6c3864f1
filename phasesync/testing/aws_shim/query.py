"""
Requests to IAM as its API model names and nests them, and answers in its XML.

Source: the service model of IAM that botocore carries, and its protocol `query`: a form with members of lists as
`Tags.member.1.Key`, answers as `<CreateUserResponse><CreateUserResult>...`. Knows no rule of IAM.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4
from xml.sax.saxutils import escape

from phasesync.testing.aws_shim.errors import AwsError
from phasesync.testing.aws_shim.http import Reply


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


@cache
def iam_model() -> Any:
    """Return the service model of IAM (`botocore.model.ServiceModel`)."""
    import botocore.session
    from botocore.model import ServiceModel

    data = botocore.session.get_session().get_data("iam/2010-05-08/service-2")
    return ServiceModel(data, "iam")


# --- reading


def _structure(shape: Any, form: Mapping[str, str], prefix: str) -> dict[str, Any]:
    found = {name: _value(member, form, prefix + name) for name, member in shape.members.items()}
    return {name: value for name, value in found.items() if value is not None}


def _value(shape: Any, form: Mapping[str, str], where: str) -> Any:
    """Return what a form says of a parameter; None = nothing."""
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
    found: list[Any] = []
    while (value := _value(shape.member, form, f"{where}.member.{len(found) + 1}")) is not None:
        found.append(value)
    return found if found or where in form else None


# --- writing


def _content(shape: Any, value: Any) -> str:
    """Write what stands between the tags of an element."""
    if shape.type_name == "structure":
        given = ((name, member, value.get(name)) for name, member in shape.members.items())
        return "".join(f"<{name}>{_content(member, one)}</{name}>" for name, member, one in given if one is not None)
    if shape.type_name == "list":
        return "".join(f"<member>{_content(shape.member, one)}</member>" for one in value)
    if shape.type_name == "timestamp":
        return str(value.strftime("%Y-%m-%dT%H:%M:%SZ"))
    if shape.type_name == "boolean":
        return "true" if value else "false"
    return escape(str(value))
