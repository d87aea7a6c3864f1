"""
An IAM policy as a plain value: its statements, its size, and splitting it into parts that IAM takes.

Every statement allows; nothing here writes one that denies.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

Document = dict[str, Any]
"""An IAM policy document, or a statement of one."""

VERSION: Final = "2012-10-17"
"""Of the policy language (IAM User Guide, policy elements)."""

MANAGED_POLICY_CHARACTERS: Final = 6_144
"""Most characters of a managed policy, without white space (IAM User Guide, quotas)."""
MANAGED_POLICIES: Final = 10
"""Most managed policies of a role or user, unless AWS has raised the quota (IAM User Guide, quotas)."""

_EMPTY: Final[Document] = {"Version": VERSION, "Statement": []}
_CONTEXT: Final = "kms:EncryptionContext:SecretARN"


def allow(
    sid: str, actions: Sequence[str], resources: Sequence[str], condition: Mapping[str, Any] | None = None
) -> Document:
    """Return a statement that allows actions on resources, under a condition if there is one."""
    statement: Document = {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": list(resources)}
    return statement if condition is None else statement | {"Condition": dict(condition)}


def numbered(policy: Document) -> Document:
    """Return the policy with a different Sid for each statement, which IAM requires."""
    uses: dict[str, int] = {}
    statements = []
    for statement in policy["Statement"]:
        sid = statement["Sid"].rstrip("0123456789")
        uses[sid] = uses.get(sid, 0) + 1
        statements.append(statement | {"Sid": sid if uses[sid] == 1 else f"{sid}{uses[sid]}"})
    return policy | {"Statement": statements}


def size_of(policy: Document) -> int:
    """Return the number of characters that IAM counts. No text in our policies contains white space."""
    return len(json.dumps(policy, separators=(",", ":")))


def parts_of(policy: Document, limit: int = MANAGED_POLICY_CHARACTERS) -> list[Document]:
    """
    Split a policy into policies within a size limit, which together allow exactly the same.

    Args:
        policy: the whole policy.
        limit: characters that IAM counts. A statement about one secret that is larger stays as it is.
    """
    if size_of(policy) <= limit:
        return [policy]
    parts: list[Document] = []
    rest = list(policy["Statement"])
    while rest:
        statement = rest.pop(0)
        for position, part in enumerate(parts):
            if (taken := _most_that_fits(part, statement, limit)) is not None:
                parts[position] = _add_statement(part, taken[0])
                rest[:0] = taken[1]
                break
        else:
            fits = _most_that_fits(_EMPTY, statement, limit)
            first, others = fits or _cut(statement, 1)
            if fits is None and others:
                rest[:0] = [first, *others]  # Even one secret is too large with all of its lists: they are cut next.
            else:
                parts.append(_add_statement(_EMPTY, first))
                rest[:0] = others
    return parts


def _add_statement(policy: Document, statement: Document) -> Document:
    return numbered(policy | {"Statement": [*policy["Statement"], statement]})


def _most_that_fits(part: Document, statement: Document, limit: int) -> tuple[Document, list[Document]] | None:
    """Return as much of a statement as still fits into a policy, and the rest; None if not even one secret fits."""

    def fits(count: int) -> bool:
        return size_of(_add_statement(part, _cut(statement, count)[0])) <= limit

    if not fits(1):
        return None
    least, most = 1, max(1, len(_list_at(statement, _list_to_cut(statement))))
    while least < most:  # The largest count that fits lies from `least` to `most`.
        middle = (least + most + 1) // 2
        least, most = (middle, most) if fits(middle) else (least, middle - 1)
    return _cut(statement, least)


def _cut(statement: Document, count: int) -> tuple[Document, list[Document]]:
    """Return the statement with the first `count` entries of its list, and a statement with the others, if any."""
    path = _list_to_cut(statement)
    values = _list_at(statement, path)
    if len(values) <= count:
        return statement, []
    return _replace_list(statement, path, values[:count]), [_replace_list(statement, path, values[count:])]


def _list_to_cut(statement: Document) -> tuple[str, ...]:
    """Return the list to cut: the resources, or with one resource, the secrets that a key may be used for."""
    return ("Resource",) if len(statement["Resource"]) > 1 else ("Condition", "StringLike", _CONTEXT)


def _list_at(document: Any, path: tuple[str, ...]) -> list[str]:
    """Return the list at a path; empty if there is none."""
    for name in path:
        document = document.get(name, {})
    return list(document)


def _replace_list(document: Document, path: tuple[str, ...], value: list[str]) -> Document:
    """Return the document with another list at an existing path."""
    name, *rest = path
    return document | {name: _replace_list(document[name], tuple(rest), value) if rest else value}
