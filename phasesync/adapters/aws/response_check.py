"""
Checks whether a response is complete, and whether AWS sent it or something in between: a proxy, a firewall, a captive
portal.

Judges by status, request id and form, never by text. The result decides whether a refusal counts as one of AWS.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

_STATUSES_IN_BETWEEN: Final = frozenset({407, 408, 421, 425})
"""Proxy authentication, request time-out, misdirected request, too early: none of them is a verdict of a service."""
_STATUSES_NOT_FORWARDED: Final = frozenset({407, 421, 425})
"""Statuses that mean that nothing was done with the request (RFC 9110, RFC 8470)."""
_MEDIA_TYPES: Final = ("application/x-amz-json-", "application/cbor", "text/xml", "application/xml")
"""Media types of the protocols of the services that are called here."""

_XML_RESPONSE: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?<(?:\w+:)?\w+(?:Response|Result)[\s>/]")
"""How a response in XML begins: its root has the name of the operation; S3 calls some of them a result."""


class NotFromAwsError(Exception):
    """A successful response does not come from AWS."""


class IncompleteResponseError(Exception):
    """A response is shorter than its length says, or not a valid document."""


def check_complete(body: bytes, headers: Mapping[str, str], *, status: int, is_json: bool) -> None:
    """
    Make sure that a response arrived complete. botocore takes half a document for one without fields: an empty list.

    Raises:
        IncompleteResponseError: it did not.
        NotFromAwsError: it is a document of another kind, such as a web page.
    """
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) != len(body):
        raise IncompleteResponseError
    if is_json and status < 300 and body:
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise IncompleteResponseError
    if not is_json and status < 300 and body and _XML_RESPONSE.match(body) is None:
        raise NotFromAwsError


def is_from_aws(response: Any) -> bool:
    """
    Return whether a response, as botocore has parsed it, comes from AWS.

    AWS gives each response a request id and one of its own media types, and each error a code that is a word. If
    botocore finds no code in an error, it puts the status in its place.
    """
    metadata = response.get("ResponseMetadata") if isinstance(response, Mapping) else None
    if not isinstance(metadata, Mapping):
        return True  # Not a response over HTTP.
    status = metadata.get("HTTPStatusCode", 0)
    if 300 <= status < 400 or status in _STATUSES_IN_BETWEEN:
        return False
    if status >= 300 and "Error" not in response:
        return False
    if "Error" in response:
        code = str(response["Error"].get("Code", ""))
        if not code or code.isdecimal():
            return False
    headers = metadata.get("HTTPHeaders")
    if metadata.get("RequestId") or not isinstance(headers, Mapping):
        return True
    return str(headers.get("content-type", "")).lower().startswith(_MEDIA_TYPES)


def may_have_reached_aws(response: Mapping[str, Any]) -> bool:
    """Return whether AWS may have received a request that something in between has answered."""
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return not (300 <= status < 400 or status in _STATUSES_NOT_FORWARDED)
