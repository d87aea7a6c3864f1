"""
Deletion: the recovery window, deletion without one (which ends late), restoring, and secrets that a service owns.

Sources: API reference, DeleteSecret (window 7 to 30 days, default 30, not together with force; force "does not return
ResourceNotFoundException" for what is missing; it is asynchronous, a create right after it needs retries; primaries
with replicas cannot be deleted), RestoreSecret; User Guide, deleting a secret. Texts: public, LocalStack's
snapshots of AWS ("already scheduled for deletion"), aws-nuke issue 1127 ("that still has replica regions"), moto.
"""

from datetime import timedelta
from typing import Any, Final

from phasesync.emulator.context import Context, Result
from phasesync.emulator.errors import AwsError, invalid_parameter, invalid_request, not_found
from phasesync.emulator.request import Call
from phasesync.emulator.secret_replication import refuse_deletion

_DEFAULT_DAYS: Final = 30
_DAYS: Final = range(7, 31)


def refuse_if_owned(secret: Any) -> None:
    """
    Refuse a write to a secret that an AWS service owns, which only that service changes: InvalidRequestException.

    Sources: User Guide, "Secrets managed by other AWS services" and troubleshooting ("This secret is managed by an AWS
    service, and you must use that service to update it"); API reference, InvalidRequestException, last cause. Tags stay
    free: the owning services say nothing against them.
    """
    if secret.owning_service is not None:
        raise invalid_request("This secret is managed by an AWS service, and you must use that service to update it.")


def name_is_blocked() -> AwsError:
    """Return the refusal of a name that belongs to a secret which is scheduled for deletion."""
    return invalid_request(
        "You can't create this secret because a secret with this name is already scheduled for deletion."
    )


def delete_secret(context: Context, call: Call) -> Result:
    """Schedule a deletion, or delete without recovery."""
    force = bool(call.arguments.get("ForceDeleteWithoutRecovery"))
    days = call.arguments.get("RecoveryWindowInDays")
    if force and days is not None:
        raise invalid_parameter("You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.")
    if days is not None and days not in _DAYS:
        raise invalid_parameter("RecoveryWindowInDays value must be between 7 and 30 days (inclusive).")
    if force and context.state.find(call.account, call.region, call.secret_id) is None:
        return _deleted_already(call)
    secret = context.secret(call, marked=True)
    refuse_if_owned(secret)
    refuse_deletion(context, secret)
    if secret.replicas:
        regions = ", ".join(replica.region for replica in secret.replicas)
        raise invalid_parameter(f"You can't delete secret {secret.arn} that still has replica regions [{regions}].")
    extras = context.state.extras(secret)
    if extras.gone_at is not None and not force:
        raise invalid_request("You tried to perform the operation on a secret that's currently marked deleted.")
    due_at = call.now if force else call.now + timedelta(days=days or _DEFAULT_DAYS)
    extras.gone_at = call.now + context.timing.force_delete_takes if force else due_at
    extras.for_good = force
    secret.deleted_date = due_at.timestamp()
    context.state.touch(secret)
    if extras.gone_at <= call.now:
        context.state.remove(secret)
    return {"ARN": secret.arn, "Name": secret.name, "DeletionDate": due_at.timestamp()}


def restore_secret(context: Context, call: Call) -> Result:
    """Cancel a scheduled deletion; a secret that is not scheduled for deletion stays as it is."""
    secret = context.secret(call, marked=True)
    extras = context.state.extras(secret)
    if extras.for_good:
        raise not_found()  # "You lose the secret permanently" (API reference, ForceDeleteWithoutRecovery)
    if extras.gone_at is not None:
        extras.gone_at = secret.deleted_date = None
        context.state.touch(secret)
    return {"ARN": secret.arn, "Name": secret.name}


def deleted_date(secret: Any) -> float | None:
    """Return when a secret is due for deletion, None if it is not."""
    return getattr(secret, "deleted_date", None)


def _deleted_already(call: Call) -> Result:
    arn = call.secret_id
    if not arn.startswith("arn:"):
        arn = f"arn:aws:secretsmanager:{call.region}:{call.account}:secret:{call.secret_id}-000000"
    name = arn.partition(":secret:")[2].rpartition("-")[0]
    return {"ARN": arn, "Name": name, "DeletionDate": call.now.timestamp()}
