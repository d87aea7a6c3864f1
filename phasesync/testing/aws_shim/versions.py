"""
Versions of a secret: at most 100, of which those without a label go when they are a day old.

Sources: User Guide, quotas ("Versions per secret, 100"); API reference, PutSecretValue ("keeps 100 of the most recent
versions, but it keeps all secret versions created in the last 24 hours ... you will reach the quota"). AWS removes in
the background; here it happens when room is needed.
"""

from datetime import timedelta
from typing import Any, Final

from phasesync.testing.aws_shim.errors import limit_exceeded
from phasesync.testing.aws_shim.labels import attach, check_labels
from phasesync.testing.aws_shim.moto_world import Extras
from phasesync.testing.aws_shim.request import Call
from phasesync.testing.aws_shim.service import Service
from phasesync.testing.aws_shim.values import Value

KEPT_FOR: Final = timedelta(hours=24)


def make_room(service: Service, secret: Any, call: Call) -> None:
    """Remove what may go, oldest first; LimitExceededException where that is not enough for one more version."""
    oldest_kept = (call.now - KEPT_FOR).timestamp()
    extras = service.world.extras(secret)
    by_age = sorted(secret.versions.items(), key=lambda one: float(one[1]["createdate"]))
    for version_id, version in by_age:
        if len(secret.versions) < service.limits.versions:
            return
        if not version["version_stages"] and version["createdate"] < oldest_kept:
            _remove(secret, extras, version_id)
    if len(secret.versions) >= service.limits.versions:
        raise limit_exceeded(f"You can't create more than {service.limits.versions} versions of a secret.")


def add_version(service: Service, secret: Any, call: Call, version_id: str, value: Value, labels: list[str]) -> None:
    """Write a version under the secret's key and put labels on it; a version that waits for its value gets it."""
    if version_id not in secret.versions:
        make_room(service, secret, call)
    check_labels(service, secret, version_id, labels)
    key = service.keys.encrypt(call, secret, version_id)
    version = secret.versions.setdefault(version_id, {"version_id": version_id, "version_stages": []})
    version.update(createdate=call.now.timestamp(), **value.fields())
    extras = service.world.extras(secret)
    extras.version_keys[version_id] = {key}
    attach(secret, version_id, labels)
    service.world.touch(secret)


def _remove(secret: Any, extras: Extras, version_id: str) -> None:
    del secret.versions[version_id]
    extras.version_keys.pop(version_id, None)
    extras.version_accessed_on.pop(version_id, None)
