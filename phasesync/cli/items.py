"""How the store's nouns look as JSON objects, and so in tables. Values appear only where they were asked for."""

import base64

from phasesync.core.model import App, Environment, SecretValue, SecretVersion, ValueType


def app_item(app: App) -> dict[str, object]:
    """Return an app."""
    return {"name": app.name, "description": app.description, "created_at": app.created_at}


def environment_item(environment: Environment) -> dict[str, object]:
    """Return an environment."""
    return {
        "env": environment.label,
        "app": environment.app,
        "name": environment.name,
        "revision": environment.revision,
        "keys": environment.keys,
        "created_at": environment.created_at,
    }


def secret_item(secret: SecretVersion) -> dict[str, object]:
    """Return one version of a secret, without its value. `type` is null where the key was unset."""
    return {
        "key": secret.key,
        "path": secret.path,
        "type": secret.type,
        "version": secret.version,
        "comment": secret.comment,
        "changed_at": secret.changed_at,
        "changed_by": secret.changed_by,
        "origin": secret.origin,
    }


def revealed(value: SecretValue) -> dict[str, object]:
    """Return a value for JSON: as text, or as base64 where it is binary."""
    if value.type is ValueType.BINARY:
        return {"value": base64.b64encode(value.reveal()).decode("ascii"), "encoding": "base64"}
    return {"value": value.reveal_text(), "encoding": "text"}
