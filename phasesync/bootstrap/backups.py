"""Settings -> backups: making one, proving one, trying one out, and restoring one."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from phasesync.adapters.clock import SystemClock
from phasesync.bootstrap.app import Application, call_limits
from phasesync.bootstrap.open import keys_by, open_application
from phasesync.core.backup_schedule import parse_object
from phasesync.core.regions import REGION_VARIABLES
from phasesync.errors import CiphertextError, InvalidInputError, PhasesyncError
from phasesync.settings.model import Settings
from phasesync.store.migrate import open_migrated

if TYPE_CHECKING:
    from phasesync.adapters.aws.session import AwsClients
    from phasesync.core.credential import Credential
    from phasesync.store.backup_check import VerifiedBackup
    from phasesync.store.backup_manifest import Manifest
    from phasesync.store.backup_schedules import Listed
    from phasesync.store.restore import Consent, Restored, RestorePreview


def back_up_database(settings: Settings, file: Path) -> "Manifest":
    """
    Copy the database to a new file; see `store.backup.backup`.

    Without the root key that works as well; then nothing proves the manifest.
    """
    from phasesync.store.backup import backup, keys_if_possible

    return backup(settings.database_url, file, open_keys=keys_if_possible(lambda database: keys_by(settings)(database)))


@contextmanager
def backup_at_hand(
    settings: Settings, text: str, *, credential: str | None = None, region: str | None = None
) -> Iterator[Path]:
    """
    Yield the file of a backup. One in Amazon S3 is copied to the data directory, and removed at the end.

    Args:
        settings: say where the data directory is, and the database of `credential`.
        text: a file, or s3://BUCKET/KEY.
        credential: name of the one in the database that reads S3; None: the identity of this process, for which no
            database is needed.
        region: of the bucket; None: that of the credential or of the environment.

    Raises:
        InvalidInputError: nothing says in which Region the bucket is, or a file has a Region.
        NotFoundError: there is no such object.
    """
    found = parse_object(text)
    if found is None:
        if credential is not None or region is not None:
            raise InvalidInputError("a file needs no credential and no Region", hint="s3://BUCKET/KEY")
        with _hint_for_a_backup():
            yield Path(text)
        return
    from phasesync.adapters.backup_storage.bucket import BucketStorage
    from phasesync.adapters.backup_storage.fetched import fetched
    from phasesync.store.backup_manifest import SUFFIX

    place, name = found
    with ExitStack() as files:
        with _clients_of(settings, credential, region) as (clients, who, where):
            storage = BucketStorage(clients, who, place, where)
            file = files.enter_context(fetched(storage.fetch, name, suffix=SUFFIX, parent=settings.data_dir))
        try:
            with _hint_for_a_backup():
                yield file
        except PhasesyncError as error:
            error.message = error.message.replace(str(file), text)
            raise


@contextmanager
def _hint_for_a_backup() -> Iterator[None]:
    """An altered row of a database says to restore a backup; one of a backup needs another one."""
    try:
        yield
    except CiphertextError as error:
        if (error.hint or "").startswith("restore a backup"):
            error.hint = "take another backup; docs/backup.md says what to do if there is none"
        raise


@contextmanager
def _clients_of(
    settings: Settings, name: str | None, region: str | None
) -> "Iterator[tuple[AwsClients, Credential, str]]":
    """Yield clients of AWS, who calls, and in which Region."""
    from phasesync.adapters.aws.session import AwsClients
    from phasesync.core.credential import daemon_identity

    if name is not None:
        with open_application(settings) as application:
            credential = application.store.credentials.get(name)
            yield application.clients, credential, region or credential.region
        return
    where = region or next((value for name in REGION_VARIABLES if (value := os.environ.get(name))), None)
    if where is None:
        raise InvalidInputError("in which Region is the bucket?", hint="--region eu-central-1, or AWS_REGION")
    identity = replace(daemon_identity(where), name="the identity of this shell")
    clients = AwsClients(
        source_of=lambda _: identity, clock=SystemClock(), instance_id="", limits=call_limits(settings)
    )
    with closing(clients):
        yield clients, identity, where


def verify_backup(settings: Settings, file: Path, *, without_manifest: bool) -> "VerifiedBackup":
    """Prove a backup with the root key; see `store.backup_check.opened_copy`."""
    from phasesync.store.backup_check import verify_backup as verify

    return verify(file, open_keys=keys_by(settings), without_manifest=without_manifest)


@contextmanager
def drill_backup(
    settings: Settings, file: Path, *, without_manifest: bool
) -> "Iterator[tuple[VerifiedBackup, Application]]":
    """
    Yield a backup that was proved, and an installation on a private copy of it. The copy has no restore mark, so that
    plans tell the syncs that are behind AWS from others.

    The copy is removed at the end; the database of the settings is not opened. Raises as `verify_backup`.
    """
    from phasesync.store.backup_check import opened_copy
    from phasesync.store.database_url import sqlite_url

    open_keys = keys_by(settings)
    with (
        opened_copy(file, open_keys=open_keys, without_manifest=without_manifest) as (copy, verified),
        open_application(settings.model_copy(update={"database_url": sqlite_url(copy)})) as application,
    ):
        yield verified, application


@dataclass(frozen=True, kw_only=True)
class Schedules:
    """
    The schedules of backups.

    Attributes:
        listed: the schedules.
        credentials: id of a credential -> its name.
    """

    listed: "Listed"
    credentials: Mapping[str, str]


def read_backup_schedules(settings: Settings) -> Schedules | None:
    """Return the schedules; None if there are none: that needs no root key. Raises as `open_application`."""
    from phasesync.store.backup_schedules import has_schedules

    with closing(open_migrated(settings.database_url)) as database:
        if not has_schedules(database):
            return None
    with open_application(settings) as application:
        return Schedules(
            listed=application.store.backup_schedules.list_all(),
            credentials={one.id: one.name for one in application.store.credentials.list_all()},
        )


def restore_database(settings: Settings, file: Path, consent: "Consent") -> "Restored":
    """
    Replace the database by a backup; see `store.restore.restore`.

    Raises:
        KeyUnavailableError: the root key of the settings does not open the backup. Nothing was changed.
    """
    from phasesync.store.restore import restore

    return restore(
        settings.database_url,
        file,
        open_keys=keys_by(settings),
        at=SystemClock().now(),
        keep_in=settings.data_dir,
        consent=consent,
    )


def preview_restoration(settings: Settings, file: Path, consent: "Consent") -> "RestorePreview":
    """Return what `restore_database` would do. Raises as that does."""
    from phasesync.store.restore import preview_restore

    return preview_restore(
        settings.database_url,
        file,
        open_keys=keys_by(settings),
        at=SystemClock().now(),
        keep_in=settings.data_dir,
        consent=consent,
    )
