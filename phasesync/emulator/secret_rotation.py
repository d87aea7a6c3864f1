"""
Rotation: its configuration, and the version that waits for a value. No Lambda function runs; a test plays it.

Sources: API reference, RotateSecret ("AWSPENDING ... attached to an empty version"; a rotation that is under way makes
the next one fail), CancelRotateSecret, InvalidRequestException (second cause: no function configured); User Guide,
rotation by Lambda function.
"""

from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

from phasesync.emulator.context import Context, Result
from phasesync.emulator.errors import invalid_request
from phasesync.emulator.moto_state import CURRENT
from phasesync.emulator.request import Call
from phasesync.emulator.secret_writes import PENDING, attach, check_labels, holder, make_room

_EXTERNAL: Final = ("ExternalSecretRotationMetadata", "ExternalSecretRotationRoleArn")


def rotate_secret(context: Context, call: Call) -> Result:
    """Set the rotation and begin one: an empty version with AWSPENDING appears."""
    secret = context.secret(call)
    arn = call.text("RotationLambdaARN") or secret.rotation_lambda_arn
    external = _external_rotation(context, secret, call)
    if not arn and secret.owning_service is None and "ExternalSecretRotationRoleArn" not in external:
        raise invalid_request(
            "You tried to enable rotation on a secret that doesn't already have a Lambda function ARN configured "
            "and you didn't include such an ARN as a parameter in this call."
        )
    pending = holder(secret, PENDING)
    if pending is not None and pending != holder(secret, CURRENT):
        raise invalid_request("A previous rotation isn't complete. That rotation will be reattempted.")
    _configure(secret, call, arn)
    context.state.extras(secret).external_rotation = external
    answer: Result = {"ARN": secret.arn, "Name": secret.name}
    if call.arguments.get("RotateImmediately", True):
        version_id = call.text("ClientRequestToken") or str(uuid4())
        begin_rotation(context, secret, call, version_id)
        answer["VersionId"] = version_id
    context.state.touch(secret)
    return answer


def cancel_rotate_secret(context: Context, call: Call) -> Result:
    """Turn rotation off; a version that waits keeps its label (API reference, CancelRotateSecret)."""
    secret = context.secret(call)
    if not secret.rotation_requested:
        raise invalid_request("You tried to cancel the rotation of a secret that has none configured.")
    secret.rotation_enabled, secret.next_rotation_date = False, None
    context.state.touch(secret)
    answer: Result = {"ARN": secret.arn, "Name": secret.name}
    if (pending := holder(secret, PENDING)) is not None:
        answer["VersionId"] = pending
    return answer


def begin_rotation(context: Context, secret: Any, call: Call, version_id: str) -> None:
    """Make the empty version that a rotation function is to fill."""
    make_room(context, secret, call)
    check_labels(context, secret, version_id, [PENDING])
    secret.versions[version_id] = {
        "version_id": version_id,
        "version_stages": [],
        "createdate": call.now.timestamp(),
    }
    attach(secret, version_id, [PENDING])


def finish_rotation(context: Context, secret: Any, call: Call) -> None:
    """Make the waiting version the current one, as a rotation function does at its end."""
    pending = holder(secret, PENDING)
    if pending is None:
        raise invalid_request("There is no rotation under way.")
    attach(secret, pending, [CURRENT])
    secret.versions[pending]["version_stages"].remove(PENDING)
    secret.last_rotation_date = call.now.timestamp()
    context.state.touch(secret)


def rotation_fields(secret: Any) -> dict[str, Any]:
    """Return the fields of DescribeSecret and ListSecrets; empty if rotation was never configured."""
    if not secret.rotation_requested:
        return {}
    rules = {"AutomaticallyAfterDays": secret.auto_rotate_after_days} if secret.auto_rotate_after_days else None
    return {
        "RotationEnabled": secret.rotation_enabled,
        "RotationLambdaARN": secret.rotation_lambda_arn or None,
        "RotationRules": rules,
        "LastRotatedDate": secret.last_rotation_date,
        "NextRotationDate": secret.next_rotation_date,
    }


def _external_rotation(context: Context, secret: Any, call: Call) -> dict[str, Any]:
    """
    Return how AWS rotates a managed external secret: with a role, and with what the partner asks for.

    No Lambda function is needed (User Guide, rotate managed external secrets).
    """
    extras = context.state.extras(secret)
    requested = {name: call.arguments[name] for name in _EXTERNAL if call.arguments.get(name)}
    if requested and extras.external_type is None:
        raise invalid_request("This secret isn't a managed external secret.")
    return {**extras.external_rotation, **requested}


def _configure(secret: Any, call: Call, lambda_arn: str) -> None:
    rules = call.arguments.get("RotationRules") or {}
    days = int(rules.get("AutomaticallyAfterDays") or secret.auto_rotate_after_days or 0)
    secret.rotation_requested = secret.rotation_enabled = True
    secret.rotation_lambda_arn, secret.auto_rotate_after_days = lambda_arn, days
    secret.next_rotation_date = (call.now + timedelta(days=days)).timestamp() if days else None
