"""
Whether an answer comes from AWS, or from something on the way: a proxy, a firewall, the page of a hotel's network.

Judges by status, request id and form, never by words. What it says of an answer decides whether a refusal is AWS's.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

_ON_THE_WAY: Final = frozenset({407, 408, 421, 425})
"""Proxy authentication, request time-out, misdirected request, too early: none of them is a verdict of a service."""
_NOT_PASSED_ON: Final = frozenset({407, 421, 425})
"""Statuses that say of themselves that nothing was done with the request (RFC 9110, RFC 8470)."""
_FORMS: Final = ("application/x-amz-json-", "application/cbor", "text/xml", "application/xml")
"""Media types of the protocols that the services here speak."""

_XML_ANSWER: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?<(?:\w+:)?\w+Response[\s>/]")
"""How an answer in XML begins: its root has the name of the operation. botocore trips over any other root."""


class NotOfAwsError(Exception):
    """An answer that says it went well does not come from AWS."""


class HalfAnswerError(Exception):
    """An answer is shorter than it says, or not the document that it should be."""


def check_whole(body: bytes, headers: Mapping[str, str], *, status: int, is_json: bool) -> None:
    """
    Make sure that an answer came whole. botocore takes half a document for one without fields: an empty list.

    Raises:
        HalfAnswerError: it did not.
        NotOfAwsError: it is a document of another kind, such as a page.
    """
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) != len(body):
        raise HalfAnswerError
    if is_json and status < 300 and body:
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise HalfAnswerError
    if not is_json and status < 300 and body and _XML_ANSWER.match(body) is None:
        raise NotOfAwsError


def is_of_aws(answer: Any) -> bool:
    """
    Return whether an answer, as botocore has parsed it, comes from AWS.

    AWS gives each answer a request id and one of its own forms; an error has a code that is a word. Where botocore
    finds no code in an error, the status stands in its place.
    """
    metadata = answer.get("ResponseMetadata") if isinstance(answer, Mapping) else None
    if not isinstance(metadata, Mapping):
        return True  # Not an answer over HTTP.
    status = metadata.get("HTTPStatusCode", 0)
    if 300 <= status < 400 or status in _ON_THE_WAY:
        return False
    if status >= 300 and "Error" not in answer:
        return False
    if "Error" in answer:
        code = str(answer["Error"].get("Code", ""))
        if not code or code.isdecimal():
            return False
    headers = metadata.get("HTTPHeaders")
    if metadata.get("RequestId") or not isinstance(headers, Mapping):
        return True
    return str(headers.get("content-type", "")).lower().startswith(_FORMS)


def was_passed_on(answer: Mapping[str, Any]) -> bool:
    """Return whether a request that something on the way has answered may have reached AWS all the same."""
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return not (300 <= status < 400 or status in _NOT_PASSED_ON)
