"""Where the daemon puts backups: a folder, or a bucket of Amazon S3."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from phasesync.core.backup_schedule import BackupSchedule, Folder
from phasesync.core.credential import daemon_identity
from phasesync.errors import SettingsError
from phasesync.ports.backups import BackupStorage

if TYPE_CHECKING:
    from phasesync.adapters.aws.session import AwsClients
    from phasesync.core.credential import Credential


def open_storage(
    schedule: BackupSchedule, *, clients: "Callable[[], AwsClients]", credential_of: "Callable[[str], Credential]"
) -> BackupStorage:
    """
    Return the place of a schedule.

    Args:
        schedule: says where.
        clients: returns shared clients of AWS; called for a bucket only.
        credential_of: returns a credential of the store by id.
    """
    if isinstance(schedule.place, Folder):
        from phasesync.adapters.backup_storage.folder import FolderStorage

        return FolderStorage(schedule.place)
    from phasesync.adapters.backup_storage.bucket import BucketStorage

    if schedule.credential_id is not None:
        credential = credential_of(schedule.credential_id)
    elif schedule.region is not None:
        credential = daemon_identity(schedule.region)
    else:
        raise SettingsError(
            "the Region of the bucket is not known", hint="phasesync db backup --every 6h --to s3://..."
        )
    return BucketStorage(clients(), credential, schedule.place, schedule.region or credential.region)
