"""
Resource policies: checked, refused where they are malformed or let everybody in, worded anew. Part of `FakeRemote`.

Rules: User Guide, resource-based policies and quotas; API reference, ValidateResourcePolicy and PutResourcePolicy.
"""

from collections.abc import Iterator
from typing import Final

from phasesync.core.canonical_json import Json, canonical_json, parse_json_document
from phasesync.errors import DestinationRejectedError, InvalidInputError
from tests.fakes.objects import (
    ACCOUNT,
    REGION,
    FakeObject,
    FakeObjects,
    in_the_way,
    missing,
    rejected,
    writable,
)

MAX_CHARACTERS: Final = 20_480


class FakePolicies(FakeObjects):
    """What GetResourcePolicy, ValidateResourcePolicy and PutResourcePolicy do."""

    def policy_of(self, found: FakeObject | None) -> str | None:
        """GetResourcePolicy; AWS refuses it while a deletion is scheduled."""
        if found is None:
            raise missing("GetResourcePolicy")
        if found.deleted_at is not None:
            raise in_the_way("GetResourcePolicy")
        return found.resource_policy

    def put_policy(self, found: FakeObject | None, policy: str) -> None:
        """ValidateResourcePolicy, then PutResourcePolicy with BlockPublicPolicy."""
        there = writable(found, "PutResourcePolicy")
        if not 1 <= len(policy) <= MAX_CHARACTERS:
            raise rejected("PutResourcePolicy")
        statements = _statements(policy)
        if any(_lets_everybody_in(statement) for statement in statements):
            raise DestinationRejectedError("the resource policy fails the check: public access")
        there.resource_policy = _as_stored(policy)
        self.changed(there)

    def outside_policy(self, name: str, policy: str | None, *, account: str = ACCOUNT, region: str = REGION) -> None:
        """Somebody sets the resource policy, unchecked, or takes it off."""
        there = self.object(name, account=account, region=region)
        there.resource_policy = None if policy is None else _as_stored(policy)
        self.changed(there)


def _statements(policy: str) -> list[dict[str, Json]]:
    """Return the statements of a policy; DestinationRejectedError where it is none."""
    try:
        document = parse_json_document(policy.encode())
    except InvalidInputError:
        raise _malformed() from None
    if not isinstance(document, dict) or "Statement" not in document:
        raise _malformed()
    found = document["Statement"]
    statements = found if isinstance(found, list) else [found]
    wanted = {"Effect", "Principal", "Action", "Resource"}
    checked = [each for each in statements if isinstance(each, dict) and wanted <= set(each)]
    if len(checked) != len(statements) or not checked:
        raise _malformed()
    return checked


def _malformed() -> DestinationRejectedError:
    return rejected("the resource policy", "MalformedPolicyDocumentException")


def _lets_everybody_in(statement: dict[str, Json]) -> bool:
    """Say whether an Allow names everybody and no condition narrows it."""
    return (
        statement["Effect"] == "Allow" and "*" in _principals(statement["Principal"]) and "Condition" not in statement
    )


def _principals(principal: Json) -> Iterator[Json]:
    for named in principal.values() if isinstance(principal, dict) else [principal]:
        yield from named if isinstance(named, list) else [named]


def _as_stored(policy: str) -> str:
    """Return a policy as AWS gives it back: an account's number as principal has become the account's ARN."""
    document = parse_json_document(policy.encode())
    if isinstance(document, dict):
        found = document.get("Statement")
        for statement in found if isinstance(found, list) else [found]:
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
