"""
How large a policy is, and how to have it in parts that IAM takes. Pure.

A managed policy takes 6,144 characters without white space (IAM User Guide, quotas).
"""

import json
from typing import Any, Final

from phasesync.adapters.aws.least_privilege import numbered
from phasesync.adapters.aws.policies import VERSION, Document

MANAGED_POLICY_CHARACTERS: Final = 6_144
MANAGED_POLICIES: Final = 10
"""As many may be attached to a role or user, unless AWS has raised the quota (IAM User Guide, quotas)."""


def size_of(policy: Document) -> int:
    """Return the characters that IAM counts; nothing in our policies has white space of its own."""
    return len(json.dumps(policy, separators=(",", ":")))


def parts_of(policy: Document, limit: int = MANAGED_POLICY_CHARACTERS) -> list[Document]:
    """
    Return policies that allow together exactly what one does, each within a limit.

    Args:
        policy: every statement allows.
        limit: characters that IAM counts; a statement about one secret that is larger stays as it is.
    """
    if size_of(policy) <= limit:
        return [policy]
    parts: list[Document] = []
    for statement in (piece for whole in policy["Statement"] for piece in _pieces(whole, limit)):
        for position, part in enumerate(parts):
            grown = _with(part, statement)
            if size_of(grown) <= limit:
                parts[position] = grown
                break
        else:
            parts.append(_with({"Version": VERSION, "Statement": []}, statement))
    return parts


def _with(policy: Document, statement: Document) -> Document:
    return numbered(policy | {"Statement": [*policy["Statement"], statement]})


def _pieces(statement: Document, limit: int) -> list[Document]:
    """Cut a statement into halves, until each fits into a policy of its own."""
    if size_of(_with({"Version": VERSION, "Statement": []}, statement)) <= limit:
        return [statement]
    for path in (("Resource",), ("Condition", "StringLike", "kms:EncryptionContext:SecretARN")):
        values = _at(statement, path)
        if len(values) > 1:
            middle = len(values) // 2
            halves = [_put(statement, path, part) for part in (values[:middle], values[middle:])]
            return [piece for half in halves for piece in _pieces(half, limit)]
    return [statement]


def _at(document: Any, path: tuple[str, ...]) -> list[str]:
    """Return the list at a path, empty where there is none."""
    for name in path:
        document = document.get(name, {})
    return list(document)


def _put(document: Document, path: tuple[str, ...], value: list[str]) -> Document:
    """Return a document with another list at a path that it has."""
    name, *rest = path
    return document | {name: _put(document[name], tuple(rest), value) if rest else value}
