"""
What an identity policy allows, for the little of the language that our policies use: Allow, texts and ARNs compared.

Rules from the IAM User Guide: policy evaluation logic (what nothing allows is denied; all conditions of a statement
have to hold), condition operators (a key that is missing does not match, unless the operator ends in IfExists; one of
several values is enough), wildcards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

Context = Mapping[str, str]
"""Condition key -> value in the request."""


def allows(policy: Mapping[str, Any], action: str, resource: str, context: Context) -> bool:
    """Return whether a policy allows a request. `resource`: an ARN, `*` where the action takes none."""
    for statement in policy["Statement"]:
        unknown = set(statement) - {"Sid", "Effect", "Action", "Resource", "Condition"}
        if unknown or statement["Effect"] != "Allow":
            # A policy of ours that says more than this understands must not pass for one that allows less.
            raise NotImplementedError(f"{sorted(unknown)} {statement['Effect']}")
        if (
            any(like(pattern, action) for pattern in _list(statement["Action"]))
            and any(like(pattern, resource) for pattern in _list(statement["Resource"]))
            and _holds(statement.get("Condition", {}), context)
        ):
            return True
    return False


def like(pattern: str, text: str) -> bool:
    """Compare with `*` for any characters and `?` for one."""
    letters = (".*" if character == "*" else "." if character == "?" else re.escape(character) for character in pattern)
    return re.fullmatch("".join(letters), text, re.DOTALL) is not None


def _holds(condition: Mapping[str, Mapping[str, Any]], context: Context) -> bool:
    for operator, wanted in condition.items():
        plain = operator.removesuffix("IfExists")
        for key, values in wanted.items():
            actual = context.get(key)
            if actual is None and plain != operator:
                continue
            if actual is None or not _matches(plain, _list(values), actual):
                return False
    return True


def _list(values: str | list[str]) -> list[str]:
    return [values] if isinstance(values, str) else values


def _matches(operator: str, values: Iterable[str], actual: str) -> bool:
    if operator == "StringEquals":
        return actual in values
    if operator in ("StringLike", "ArnLike", "ArnEquals"):  # Of ARNs the two are the same; ours have no star alone.
        return any(like(value, actual) for value in values)
    raise NotImplementedError(operator)
