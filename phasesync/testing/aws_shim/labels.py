"""
Staging labels: which version is current, and how labels wander.

Sources: API reference, PutSecretValue (VersionStages), UpdateSecretVersionStage (all parameters); User Guide, "What's
in a secret?", versions (one label on one version; AWSPREVIOUS follows AWSCURRENT by itself), and quotas (20 labels over
all versions). moto forgets custom labels of the former version, and reads on from it after a label was moved.
"""

from collections.abc import Iterable
from typing import Any, Final

from phasesync.testing.aws_shim.cross_account import refuse_value_of_replica
from phasesync.testing.aws_shim.errors import invalid_parameter, limit_exceeded
from phasesync.testing.aws_shim.moto_world import CURRENT
from phasesync.testing.aws_shim.owning import refuse_if_owned
from phasesync.testing.aws_shim.request import Call
from phasesync.testing.aws_shim.service import Result, Service

PREVIOUS: Final = "AWSPREVIOUS"
PENDING: Final = "AWSPENDING"


def holder(secret: Any, label: str) -> str | None:
    """Return the id of the version that carries a label; None = none does."""
    return next((one for one, version in secret.versions.items() if label in version["version_stages"]), None)


def check_labels(service: Service, secret: Any, version_id: str, labels: Iterable[str]) -> None:
    """Refuse labels that would exceed the quota: LimitExceededException."""
    carried = {label for version in secret.versions.values() for label in version["version_stages"]}
    wanted = carried | set(labels)
    if CURRENT in wanted and holder(secret, CURRENT) not in (None, version_id) and CURRENT in labels:
        wanted.add(PREVIOUS)
    if len(wanted) > service.limits.labels:
        raise limit_exceeded(f"You can attach at most {service.limits.labels} staging labels to a secret.")


def attach(secret: Any, version_id: str, labels: Iterable[str]) -> None:
    """Put labels on a version, and take them from the versions that carried them."""
    labels = list(labels)
    former = holder(secret, CURRENT)
    for label in labels:
        _detach(secret, label)
        secret.versions[version_id]["version_stages"].append(label)
    if CURRENT in labels and former not in (None, version_id):
        _detach(secret, PREVIOUS)
        secret.versions[former]["version_stages"].append(PREVIOUS)
    secret.set_default_version_id(holder(secret, CURRENT))


def _detach(secret: Any, label: str) -> None:
    for version in secret.versions.values():
        if label in version["version_stages"]:
            version["version_stages"].remove(label)


def update_secret_version_stage(service: Service, call: Call) -> Result:
    """Move, add or remove a label."""
    secret = service.secret(call)
    refuse_if_owned(secret)
    refuse_value_of_replica(service, secret)
    label, source, target = (call.text(one) for one in ("VersionStage", "RemoveFromVersionId", "MoveToVersionId"))
    label = label or ""
    for version_id in (source, target):
        if version_id is not None and version_id not in secret.versions:
            raise invalid_parameter(f"Not a valid version: {version_id}")
    carrier = holder(secret, label)
    if source is not None and carrier != source:
        raise invalid_parameter(f"Version stage {label} not found in version {source}")
    if source is None and carrier is not None and carrier != target:
        raise invalid_parameter(
            "The parameter RemoveFromVersionId can't be empty. "
            f"Staging label {label} is currently attached to version {carrier}, "
            "so you must explicitly reference that version in RemoveFromVersionId."
        )
    if target is None:
        if label == CURRENT:
            raise invalid_parameter(f"You can't remove {CURRENT} from a version without moving it to another one.")
        _detach(secret, label)
    else:
        check_labels(service, secret, target, [label])
        attach(secret, target, [label])
        if label == CURRENT and PREVIOUS in secret.versions[target]["version_stages"]:
            secret.versions[target]["version_stages"].remove(PREVIOUS)
    service.world.touch(secret)
    return {"ARN": secret.arn, "Name": secret.name}
