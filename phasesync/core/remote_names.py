"""
Names of remote objects: the one name of layout json, the template of layout per-key.

Knows no destination; what a name may look like there is the destination's to say.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from phasesync.core.sync import Layout, SyncConfig
from phasesync.errors import InvalidInputError

PLACEHOLDERS: Final = ("app", "env", "path", "key")

_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")


def check_template(template: str) -> None:
    """
    Make sure that a template can tell the keys of an environment apart.

    Raises:
        InvalidInputError: no {key} in it, an unknown placeholder, or a brace on its own.
    """
    found = _PLACEHOLDER.findall(template)
    unknown = [name for name in found if name not in PLACEHOLDERS]
    if unknown or "{" in _PLACEHOLDER.sub("", template) or "}" in _PLACEHOLDER.sub("", template):
        raise InvalidInputError(
            f"the name template {template!r} has a placeholder that does not exist",
            hint="placeholders: " + ", ".join(f"{{{name}}}" for name in PLACEHOLDERS),
        )
    if "key" not in found:
        raise InvalidInputError(
            f"the name template {template!r} has no {{key}}: every key would get the same name",
            hint="such as --name-template '{app}/{env}/{key}'",
        )


def render_name(template: str, *, app: str, environment: str, path: str, key: str) -> str:
    """
    Return the remote name of one key.

    Args:
        template: as `check_template` passed it.
        app: name of the app.
        environment: name of the environment.
        path: `/` or `/db/x`; enters without its outer slashes.
        key: the secret key.

    Returns:
        The name; for the root folder {path} goes together with the slash that belongs to it.
    """
    words = {"app": app, "env": environment, "path": path.strip("/"), "key": key}
    if not words["path"]:
        template = template.replace("{path}/", "").replace("/{path}", "")
    return _PLACEHOLDER.sub(lambda match: words[match[1]], template)


def key_of_name(template: str, name: str, *, app: str, environment: str, path: str) -> str | None:
    """
    Return the key that a remote name stands for, to find what somebody else made under the names of a template.

    None where the template does not make that name, where the key would have a slash, and for every name where nothing
    comes before {key}: such a template says nothing of what belongs to it.
    """
    first, *rest = render_name(template, app=app, environment=environment, path=path, key=_MARK).split(_MARK)
    if not first or not rest:
        return None
    again = r"\1".join(map(re.escape, rest))
    found = re.fullmatch(f"{re.escape(first)}([^/]+){again}", name)
    return found[1] if found else None


_MARK: Final = "\0"
"""Stands for the key while a template is read backwards; no key has it."""


def name_of_key(config: SyncConfig, *, app: str, environment: str, path: str, key: str) -> str:
    """Return the remote name that a key of a sync has, or its part of the one object, by the sync's layout."""
    if config.layout is Layout.PER_KEY:
        return render_name(config.names, app=app, environment=environment, path=path, key=key)
    return config.names


def clashes(names: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """
    Return what may not stand side by side.

    Args:
        names: key -> remote name.

    Returns:
        Remote name in lower case -> the keys (two or more) whose names are the same, or differ in case only.
    """
    by_name: dict[str, list[str]] = {}
    for key, name in sorted(names.items()):
        by_name.setdefault(name.lower(), []).append(key)
    return {name: tuple(keys) for name, keys in by_name.items() if len(keys) > 1}


def names_taken(names: Iterable[str], others: Mapping[str, str]) -> dict[str, str]:
    """
    Return the names that another sync writes to already.

    Args:
        names: remote names.
        others: remote name in lower case -> name of the sync that has it, for the same account and Region.
    """
    return {name: others[name.lower()] for name in names if name.lower() in others}
