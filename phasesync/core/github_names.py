"""
Environment variables that the GitHub action aws-secretsmanager-get-secrets (v2) makes of secrets.

Read in its source, `injectSecret` and `transformToValidEnvName`, and in the User Guide, secrets in GitHub jobs. A name
is taken once: the step fails at the second.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from phasesync.core.embedded_json import object_in
from phasesync.core.model import SecretValue, ValueType

_NOT_ALLOWED: Final = re.compile(r"[^A-Za-z0-9_]")
_DEEPEST: Final = 100
"""Deeper members are not followed; nobody reads them as variables."""


class Taken:
    """Who takes which name."""

    def __init__(self) -> None:
        self._owners: dict[str, list[str]] = {}

    def take(self, name: str, owner: str) -> str:
        """Note that a name goes to an owner; return the name."""
        self._owners.setdefault(name, []).append(owner)
        return name

    def all(self) -> Iterator[tuple[str, str]]:
        """Yield every (name, owner)."""
        return ((name, owner) for name, owners in self._owners.items() for owner in owners)

    def doubles(self) -> Iterator[tuple[str, list[str]]]:
        """Yield the names that are taken more than once, with who takes them."""
        return ((name, sorted(owners)) for name, owners in sorted(self._owners.items()) if len(owners) > 1)


def variable_name(text: str) -> str:
    """Return the variable that a name becomes: what is no ASCII letter, digit or _ is _, all in upper case."""
    if text[:1] in set("0123456789"):
        text = f"_{text}"
    return _NOT_ALLOWED.sub("_", text).upper()


def variables_of(name: str, content: Mapping[str, SecretValue] | SecretValue) -> list[tuple[str, str]] | None:
    """
    Return (variable, owner) of a secret under parse-json-secrets; a variable that it makes twice is in two pairs.

    Args:
        name: the remote name.
        content: key -> value of the JSON object that it is; or its one value, where we make no object of it.

    Returns:
        As owner, the key, or the remote name where there is none: a member of a value is a part of the value. None
        where the value is no JSON object, so that the whole secret becomes `variable_name(name)`.
    """
    beginning = variable_name(name)
    if isinstance(content, SecretValue):
        members = object_in(_text_of(content))
        return None if members is None else [(variable, name) for variable in _expand(beginning, members)]
    return [
        (variable, key)
        for key, value in content.items()
        for variable in _expand(f"{beginning}_{variable_name(key)}", _text_of(value))
    ]


def _expand(beginning: str, value: Any) -> Iterator[str]:
    """Follow JSON objects, and texts that are JSON objects, down to what is neither."""
    waiting: list[tuple[str, Any, int]] = [(beginning, value, 0)]
    while waiting:
        variable, node, depth = waiting.pop()
        members = object_in(node) if isinstance(node, str) else node
        if not isinstance(members, dict) or depth >= _DEEPEST:
            yield variable
            continue
        waiting += [(f"{variable}_{variable_name(key)}", member, depth + 1) for key, member in members.items()]


def _text_of(value: SecretValue) -> str:
    """Return a value as the action meets it, empty for bytes."""
    return "" if value.type is ValueType.BINARY else value.reveal().decode("utf-8", "replace")
