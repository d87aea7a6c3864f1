"""
Names of remote objects: one name in layout json, a template in layout per-key.

It knows no destination. Each destination checks names by its own rules.
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
    Make sure that a template gives each key of an environment its own name.

    Raises:
        InvalidInputError: it has no {key}, an unknown placeholder, or a brace on its own.
    """
    placeholders = _PLACEHOLDER.findall(template)
    unknown = [name for name in placeholders if name not in PLACEHOLDERS]
    if unknown or "{" in _PLACEHOLDER.sub("", template) or "}" in _PLACEHOLDER.sub("", template):
        raise InvalidInputError(
            f"the name template {template!r} has a placeholder that does not exist",
            hint="placeholders: " + ", ".join(f"{{{name}}}" for name in PLACEHOLDERS),
        )
    if "key" not in placeholders:
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
        path: `/` or `/db/x`; its outer slashes are dropped.
        key: the secret key.

    Returns:
        The name. For the root folder, {path} is dropped together with its slash.
    """
    words = {"app": app, "env": environment, "path": path.strip("/"), "key": key}
    if not words["path"]:
        template = template.replace("{path}/", "").replace("/{path}", "")
    return _PLACEHOLDER.sub(lambda match: words[match[1]], template)


def key_of_name(template: str, name: str, *, app: str, environment: str, path: str) -> str | None:
    """
    Return the key that a template gives a remote name to; it finds foreign objects under the names of a template.

    None if the template does not make that name, or if the key would have a slash. Also None for every name if the
    template has nothing before {key}: then no name can be attributed to it.
    """
    first, *rest = render_name(template, app=app, environment=environment, path=path, key=_MARK).split(_MARK)
    if not first or not rest:
        return None
    again = r"\1".join(map(re.escape, rest))
    match = re.fullmatch(f"{re.escape(first)}([^/]+){again}", name)
    return match[1] if match else None


def beginning_of_names(names: str, *, app: str, environment: str, path: str) -> str:
    """Return how all remote names of a sync begin. `names`: its remote name, or its template."""
    if "{key}" not in names:
        return names
    return render_name(names, app=app, environment=environment, path=path, key=_MARK).partition(_MARK)[0]


_MARK: Final = "\0"
"""Takes the place of the key while a template is inverted; no key contains it."""


def name_of_key(config: SyncConfig, *, app: str, environment: str, path: str, key: str) -> str:
    """Return the name of the remote object that has a key of a sync, by the sync's layout."""
    if config.layout is Layout.PER_KEY:
        return render_name(config.names, app=app, environment=environment, path=path, key=key)
    return config.names


def clashes(names: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """
    Return the keys that would get the same remote name.

    Args:
        names: key -> remote name.

    Returns:
        Remote name in lower case -> the keys (two or more) with this name, or with names that differ in case only.
    """
    by_name: dict[str, list[str]] = {}
    for key, name in sorted(names.items()):
        by_name.setdefault(name.lower(), []).append(key)
    return {name: tuple(keys) for name, keys in by_name.items() if len(keys) > 1}


def names_taken(names: Iterable[str], others: Mapping[str, str]) -> dict[str, str]:
    """
    Return the names that another sync already writes to.

    Args:
        names: remote names.
        others: remote name in lower case -> name of the sync that has it, for the same account and Region.
    """
    return {name: others[name.lower()] for name in names if name.lower() in others}
