"""`phasesync aws policy` where there may be no installation yet: to begin with, of the root key, of backups."""

import os
from typing import TYPE_CHECKING

from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, print_document
from phasesync.errors import InvalidInputError, PhasesyncError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.core.credential import Credential
    from phasesync.core.iam.starter_region import StarterRegion


def print_starter_for_syncs(
    region: str | None,
    credential: str | None,
    *,
    kms_key: str | None,
    with_import: bool,
    sweep: bool,
    out: Output,
) -> None:
    """Print the policy to begin with, for syncs."""
    from phasesync.core.arns import check_key_arn
    from phasesync.core.iam.sync_policy import starter_sync_policy

    where = _starter_region(region, credential, kms_key)
    if kms_key is not None and where.region is not None:
        check_key_arn(kms_key, where.region)
    print_document(starter_sync_policy(region=where.region, kms_key_arn=kms_key, with_import=with_import, sweep=sweep))
    if where.note is not None:
        out.say(where.note)


def print_starter_for_leases(region: str | None, credential: str | None, boundary: str | None, out: Output) -> None:
    """Print the policy to begin with, for leases."""
    from phasesync.core.arns import check_partition, check_policy_arn
    from phasesync.core.iam.lease_policy import STARTER_BOUNDARY, starter_lease_policy
    from phasesync.core.lease_users import OUR_PATH

    where = _starter_region(region, credential, None)
    if boundary is not None:
        check_policy_arn(boundary)
        if where.region is not None:
            check_partition(boundary, where.region)
    instance_id, why_not = _instance_id()
    print_document(starter_lease_policy(region=where.region, boundary=boundary, instance_id=instance_id))
    if why_not is not None:
        out.warn(
            f"it is not known which installation this is for, since {why_not}: the policy gives whoever holds the role "
            f"keys of every user under {OUR_PATH}, other installations' too; print it again after phasesync init"
        )
    if boundary is None:
        out.say(
            f"every user needs the permission boundary {STARTER_BOUNDARY}: a policy of yours that says what such users "
            "may do at most. Give another one with --permission-boundary ARN"
        )
    if where.region is None and boundary is None:
        out.say("it is for the partition aws; for China, GovCloud and others name a Region of theirs with --region")
    out.say("groups are not in it; once there is a dynamic secret: phasesync aws policy --dynamic NAME")


def print_for_root_key(kms_key: str | None, out: Output) -> None:
    """Print the policy for the KMS keys that encrypt the root key."""
    from phasesync.core.arns import region_of_key
    from phasesync.core.iam.root_key_policy import root_key_policy

    settings = invocation().settings().settings
    named = [kms_key] if kms_key is not None else [settings.root_key_kms_key, settings.root_key_kms_key_next]
    kms_keys = list(dict.fromkeys(arn for arn in named if arn is not None))
    if not kms_keys:
        raise InvalidInputError(
            "nothing says which KMS key encrypts the root key",
            hint="name it with --kms-key ARN, or as phasesync itself gets it: PHASESYNC_ROOT_KEY_KMS_KEY=ARN",
        )
    for arn in kms_keys:
        region_of_key(arn)
    instance_id, why_not = _instance_id()
    print_document(root_key_policy(kms_keys, instance_id=instance_id))
    if why_not is not None:
        out.warn(
            f"it is not known which installation this is for, since {why_not}: the policy is for the root keys "
            "of every installation that the KMS key encrypts; print it again after phasesync init"
        )
    out.say(
        "MakeRootKeys is for whoever runs phasesync init and phasesync keys rotate-root: a daemon does without that "
        "statement"
    )


def print_for_backups(place: str, region: str | None, kms_key: str | None, out: Output) -> None:
    """Print the policy for a place of backups in Amazon S3."""
    from phasesync.core.arns import check_partition, region_of_key
    from phasesync.core.backup_schedule import Bucket, parse_place
    from phasesync.core.iam.backup_policy import backup_policy

    bucket = parse_place(place)
    if not isinstance(bucket, Bucket):
        raise InvalidInputError("a folder needs no policy of AWS", hint="--backups s3://BUCKET/PREFIX")
    if kms_key is not None:
        region_of_key(kms_key)
        if region is not None:
            check_partition(kms_key, region)
    print_document(backup_policy(bucket, region=region, kms_key=kms_key))
    out.say(
        "RemoveOldBackups is for --keep: leave that statement out where nothing may be removed, and let a lifecycle "
        "rule or Object Lock decide"
    )


def _starter_region(region: str | None, credential: str | None, kms_key: str | None) -> "StarterRegion":
    """Find the Region of a starter policy; needs a database only if a credential is named."""
    from phasesync.core.iam.starter_region import starter_region

    loaded = None if credential is None else _credential(credential)
    return starter_region(region, credential=loaded, kms_key=kms_key, environ=os.environ)


@with_application
def _credential(application: "Application", name: str) -> "Credential":
    return application.store.credentials.get(name)


def _instance_id() -> tuple[str | None, str | None]:
    """Return the id of this installation, and why it is not known if no database gives it."""
    from phasesync.bootstrap import load_instance_id

    try:
        return load_instance_id(invocation().settings().settings), None
    except PhasesyncError as error:
        return None, error.message
