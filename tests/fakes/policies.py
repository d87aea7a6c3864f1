"""
Resource policies of the fake: checked, refused if malformed or public, stored in AWS's form.

Rules: User Guide, resource-based policies and quotas; API reference, ValidateResourcePolicy and PutResourcePolicy.
"""

from collections.abc import Iterator
from typing import Final

from phasesync.core.canonical_json import Json, canonical_json, parse_json_document
from phasesync.errors import DestinationRejectedError, InvalidInputError
from tests.fakes.objects import rejected

MAX_CHARACTERS: Final = 20_480


def check_policy(policy: str) -> None:
    """ValidateResourcePolicy: DestinationRejectedError for a malformed policy, and for one that is public."""
    if any(_is_public(statement) for statement in _statements(policy)):
        raise DestinationRejectedError("the resource policy fails the check: public access")


def _statements(policy: str) -> list[dict[str, Json]]:
    """Return the statements of a policy; DestinationRejectedError if it has none."""
    try:
        document = parse_json_document(policy.encode())
    except InvalidInputError:
        raise _malformed() from None
    if not isinstance(document, dict) or "Statement" not in document:
        raise _malformed()
    statement_or_list = document["Statement"]
    statements = statement_or_list if isinstance(statement_or_list, list) else [statement_or_list]
    wanted = {"Effect", "Principal", "Action", "Resource"}
    checked = [each for each in statements if isinstance(each, dict) and wanted <= set(each)]
    if len(checked) != len(statements) or not checked:
        raise _malformed()
    return checked


def _malformed() -> DestinationRejectedError:
    return rejected("the resource policy", "MalformedPolicyDocumentException")


def _is_public(statement: dict[str, Json]) -> bool:
    """Say whether an Allow names everyone and no condition narrows it."""
    return (
        statement["Effect"] == "Allow" and "*" in _principals(statement["Principal"]) and "Condition" not in statement
    )


def _principals(principal: Json) -> Iterator[Json]:
    for named in principal.values() if isinstance(principal, dict) else [principal]:
        yield from named if isinstance(named, list) else [named]


def as_stored(policy: str) -> str:
    """Return a policy as AWS gives it back: an account's number as principal has become the account's ARN."""
    document = parse_json_document(policy.encode())
    if isinstance(document, dict):
        statement_or_list = document.get("Statement")
        for statement in statement_or_list if isinstance(statement_or_list, list) else [statement_or_list]:
            if isinstance(statement, dict) and isinstance(statement.get("Principal"), dict):
                principal = statement["Principal"]
                if isinstance(principal, dict) and "AWS" in principal:
                    principal["AWS"] = _worded(principal["AWS"])
    return canonical_json(document)


def _worded(principal: Json) -> Json:
    if isinstance(principal, list):
        return [_worded(each) for each in principal]
    if isinstance(principal, str) and len(principal) == 12 and principal.isdecimal():
        return f"arn:aws:iam::{principal}:root"
    return principal
