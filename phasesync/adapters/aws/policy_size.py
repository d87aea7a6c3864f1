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

_EMPTY: Final[Document] = {"Version": VERSION, "Statement": []}
_CONTEXT: Final = "kms:EncryptionContext:SecretARN"


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
    rest = list(policy["Statement"])
    while rest:
        statement = rest.pop(0)
        for position, part in enumerate(parts):
            if (taken := _most_that_fits(part, statement, limit)) is not None:
                parts[position] = _with(part, taken[0])
                rest[:0] = taken[1]
                break
        else:
            fits = _most_that_fits(_EMPTY, statement, limit)
            first, others = fits or _cut(statement, 1)
            if fits is None and others:
                rest[:0] = [first, *others]  # Even one secret is too much for all of its lists: those are cut next.
            else:
                parts.append(_with(_EMPTY, first))
                rest[:0] = others
    return parts


def _with(policy: Document, statement: Document) -> Document:
    return numbered(policy | {"Statement": [*policy["Statement"], statement]})


def _most_that_fits(part: Document, statement: Document, limit: int) -> tuple[Document, list[Document]] | None:
    """Return as much of a statement as a policy still has room for, and the rest; None = not even one secret."""

    def fits(count: int) -> bool:
        return size_of(_with(part, _cut(statement, count)[0])) <= limit

    if not fits(1):
        return None
    least, most = 1, max(1, len(_at(statement, _list_to_cut(statement))))
    while least < most:  # The largest count that fits lies from `least` to `most`.
        middle = (least + most + 1) // 2
        least, most = (middle, most) if fits(middle) else (least, middle - 1)
    return _cut(statement, least)


def _cut(statement: Document, count: int) -> tuple[Document, list[Document]]:
    """Return a statement with the first so many of what it is about, and one with the others where there are some."""
    path = _list_to_cut(statement)
    values = _at(statement, path)
    if len(values) <= count:
        return statement, []
    return _put(statement, path, values[:count]), [_put(statement, path, values[count:])]


def _list_to_cut(statement: Document) -> tuple[str, ...]:
    """Return which list of a statement is cut: its resources, and where it has one, the secrets that a key is for."""
    return ("Resource",) if len(statement["Resource"]) > 1 else ("Condition", "StringLike", _CONTEXT)


def _at(document: Any, path: tuple[str, ...]) -> list[str]:
    """Return the list at a path, empty where there is none."""
    for name in path:
        document = document.get(name, {})
    return list(document)


def _put(document: Document, path: tuple[str, ...], value: list[str]) -> Document:
    """Return a document with another list at a path that it has."""
    name, *rest = path
    return document | {name: _put(document[name], tuple(rest), value) if rest else value}
