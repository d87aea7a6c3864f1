"""Settings -> an opened database with its key: opening, first set-up, migrations, and its copy to another one."""

import os
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from phasesync.adapters.root_keys import write_new_root_key
from phasesync.bootstrap.app import Application, call_limits
from phasesync.bootstrap.root_keys import (
    find_placed_root_key,
    key_ring_of,
    load_root_keys,
    read_instance_of,
    verified_keys,
)
from phasesync.core.audit import UNKNOWN_CALLER, Caller
from phasesync.errors import KeyUnavailableError, SchemaMismatchError, SettingsError
from phasesync.settings.model import Settings
from phasesync.store import Database, initialise, open_database, open_store, read_instance_id, read_wrapped_keys
from phasesync.store.base import new_id
from phasesync.store.key_ring import KeyRing, RootKey
from phasesync.store.migrate import open_migrated, preview_upgrade, status, upgrade

if TYPE_CHECKING:
    from phasesync.ports.runtime import EventSink
    from phasesync.ports.tracing import Tracer
    from phasesync.store.database_copy import CopiedDatabase, CopyPreview
    from phasesync.store.key_ring import WrappedKey
    from phasesync.store.migrate import SchemaStatus
    from phasesync.store.migration_check import MigrationCheck
    from phasesync.store.raw_rows import TableDigest
    from phasesync.store.retirement import Retirement
    from phasesync.store.root_keys import NewRootKey


def open_application(
    settings: Settings,
    *,
    events: "EventSink | None" = None,
    current: Callable[[], Settings] | None = None,
    tracer: "Tracer | None" = None,
    caller: Caller = UNKNOWN_CALLER,
) -> Application:
    """
    Open the database with its key; `caller` is who does that, for the audit log. See `Application` for the others.

    Raises:
        SchemaMismatchError, KeyUnavailableError, StoreUnavailableError, SettingsError: the hint says what to do.
    """
    database = open_migrated(settings.database_url)
    try:
        # Before the key: a daemon that starts beside `init` waits for it, and does not fail for want of a key.
        read_instance_id(database)
        roots = load_root_keys(settings, database)
        store = open_store(database, key_ring_of(settings, database, roots), caller=caller)
    except BaseException:
        database.close()
        raise
    return Application(
        settings,
        store,
        root_keys=[root for root in roots if root.id in store.keys.root_ids_in_use],
        events=events,
        current=current,
        tracer=tracer,
    )


def load_instance_id(settings: Settings) -> str:
    """Return the id of the installation that owns the database; needs no key. Raises as `open_application` does."""
    with closing(open_migrated(settings.database_url)) as database:
        return read_instance_id(database)


@dataclass(frozen=True, kw_only=True)
class InitResult:
    """
    What `init` found or made.

    Attributes:
        key_made: the root key is new.
        is_new: so is the installation.
        warnings: what could be better about key and database, one line each.
    """

    root_key: RootKey
    key_made: bool
    is_new: bool
    instance_id: str
    warnings: tuple[str, ...] = ()


def initialise_installation(settings: Settings) -> InitResult:
    """
    Make what is missing: root key, database at the newest migration, keys in it. Safe to repeat.

    Raises:
        KeyUnavailableError: the database has keys of another root key, or its root key is gone. No new one is made.
        SettingsError, StoreUnavailableError: directory, file or database are not usable.
    """
    migrate_database(settings)
    with closing(open_database(settings.database_url)) as database:
        is_new = not read_instance_of(database)
        found = _load_or_make_root_keys(settings, database)
        keys = key_ring_of(settings, database, found.roots)
        instance_id = initialise(database, keys, instance_id=found.instance_id, root=found.new)
        # Another process may have been first, with a root key that AWS KMS made for it.
        at_hand = [*found.roots, *load_root_keys(settings, database)]
        root_key = next((root for root in at_hand if root.id in keys.root_ids_in_use), at_hand[0])
    warnings = (*root_key.warnings, *database.warnings())
    made = found.made and root_key is at_hand[0]
    return InitResult(root_key=root_key, key_made=made, is_new=is_new, instance_id=instance_id, warnings=warnings)


@dataclass(frozen=True, kw_only=True)
class InitPreview:
    """
    What `init` would make.

    Attributes:
        root_key: the one that is there; None if one would be made.
        instance_id: None if there is no installation yet.
        revisions: of the schema that would be applied, oldest first.
        folder_made: the data directory would be made.
    """

    root_key: RootKey | None
    instance_id: str | None
    schema: "SchemaStatus"
    revisions: tuple[str, ...]
    folder_made: bool


def preview_installation(settings: Settings) -> InitPreview:
    """Return what `initialise_installation` would make; makes nothing. Raises as that does."""
    schema, revisions = preview_migration(settings)
    instance_id, wrapped_keys = None, []
    if schema.current is not None:
        with closing(open_database(settings.database_url)) as database:
            wrapped_keys = read_wrapped_keys(database)
            roots = _load_root_keys_for(settings, database, wrapped_keys)
            if roots:
                keys = key_ring_of(settings, database, roots)
                keys.verify()
                roots = [root for root in roots if root.id in keys.root_ids_in_use] or roots
            with suppress(SchemaMismatchError):  # Migrated, and never initialised.
                instance_id = read_instance_id(database)
    else:
        placed = None if settings.root_key_kms_key is not None else find_placed_root_key(settings, needed=False)
        roots = [] if placed is None else [placed]
    return InitPreview(
        root_key=roots[0] if roots else None,
        instance_id=instance_id,
        schema=schema,
        revisions=revisions,
        folder_made=schema.current is None and not settings.data_dir.exists(),
    )


def schema_status(settings: Settings) -> "SchemaStatus":
    """
    Return how the schema of the database stands, with the queue if the settings ask for one; creates nothing.

    Raises:
        SettingsError: the settings ask for a queue where there can be none, or the URL is not usable.
        StoreUnavailableError: the database cannot be reached.
    """
    if settings.daemon.queued:
        _require_queue(settings)
    return status(settings.database_url, queued=settings.daemon.queued)


def migrate_database(settings: Settings) -> None:
    """
    Bring the database to the newest migration; see `store.migrate.upgrade`. So with a queue that the settings ask for.

    Raises:
        SettingsError: the settings ask for a queue where there can be none. Nothing was changed.
        KeyUnavailableError: a migration needs the root key, and it is missing or not the one of this database. Nothing
            was changed.
    """
    if settings.daemon.queued:
        _require_queue(settings)
    # The root key is loaded only if a migration needs it.
    upgrade(settings.database_url, partial(verified_keys, settings))
    if settings.daemon.queued:
        from phasesync.store.queue_schema import upgrade_queue

        with closing(open_database(settings.database_url)) as database:
            upgrade_queue(database)


def preview_migration(settings: Settings) -> tuple["SchemaStatus", tuple[str, ...]]:
    """
    Return how the schema stands and the revisions that `migrate_database` would apply; changes and creates nothing.

    Raises as that does.
    """
    schema = schema_status(settings)
    revisions = preview_upgrade(settings.database_url, partial(verified_keys, settings))
    return schema, revisions


def check_migration(settings: Settings) -> "MigrationCheck":
    """Return what `migrate_database` would do, for how long and beside whom. Raises as that does."""
    from phasesync.store.migration_check import check_migration as check

    if settings.daemon.queued:
        _require_queue(settings)
    return check(
        settings.database_url,
        partial(verified_keys, settings),
        queued=settings.daemon.queued,
    )


def _require_queue(settings: Settings) -> None:
    # Imported here, so that a command that needs no queue does not pay for it.
    from phasesync.store.queue_schema import require_queue

    require_queue(settings.database_url)


def keys_by(settings: Settings) -> Callable[[Database], KeyRing]:
    """Return what opens the keys of a database. KeyUnavailableError at once if no place has a root key."""
    if settings.root_key_kms_key is None:
        find_placed_root_key(settings, needed=True)
    return partial(verified_keys, settings)


def copy_database(
    settings: Settings, target_url: str, *, verify: bool, report: "Callable[[TableDigest], object]"
) -> "CopiedDatabase":
    """
    Copy the database to another one, and retire it; see `store.database_copy.copy_database`.

    `verify`: check also that the copy authenticates under the root key. KeyUnavailableError before anything is made or
    retired; CiphertextError.
    """
    # Imported here, so that other commands do not pay for it.
    from phasesync.store.authenticity import authenticate_all
    from phasesync.store.database_copy import copy_database as copy

    if not verify:
        return copy(settings.database_url, target_url, report=report)
    open_keys = keys_by(settings)
    return copy(
        settings.database_url,
        target_url,
        report=report,
        check=open_keys,
        verify=lambda target: authenticate_all(target, open_keys(target)),
    )


def preview_copy(settings: Settings, target_url: str, *, verify: bool) -> "CopyPreview":
    """Return what `copy_database` would copy; raises as it does, as far as that can be seen before."""
    from phasesync.store.database_copy import preview_copy as preview

    if not verify:
        return preview(settings.database_url, target_url)
    return preview(settings.database_url, target_url, check=keys_by(settings))


def unretire_database(settings: Settings, *, rehearse: bool = False) -> "Retirement":
    """
    Take a retired database back into use, also one of an older schema; see `store.retire.unretire`.

    `rehearse`: find out only whether that is possible.
    """
    from phasesync.store.retire import unretire

    with (
        closing(open_database(settings.database_url)) as database,
        database.rehearsal() if rehearse else nullcontext(),
    ):
        return unretire(database)


@dataclass(frozen=True, kw_only=True)
class _FoundRootKeys:
    """
    Root keys for `init`.

    Attributes:
        new: the first one, as it is to be registered if the installation is new.
        instance_id: the id of the installation that is to be made; None if it exists, or any will do.
        made: the first one is new.
    """

    roots: list[RootKey]
    new: "NewRootKey"
    instance_id: str | None = None
    made: bool


def _load_or_make_root_keys(settings: Settings, database: Database) -> _FoundRootKeys:
    """Return the root keys at hand, or a new one. A database with keys never gets a new one."""
    from phasesync.store.root_keys import NewRootKey

    roots = _load_root_keys_for(settings, database, read_wrapped_keys(database))
    if roots:
        return _FoundRootKeys(roots=roots, new=NewRootKey(id=roots[0].id, kind=roots[0].kind), made=False)
    if (kms_key := settings.root_key_kms_key) is not None:
        from phasesync.adapters.root_keys.kms import generate_root_key

        instance_id = new_id()
        root, wrapped = generate_root_key(kms_key, instance_id, call_limits(settings))
        new = NewRootKey(id=root.id, kind=root.kind, wrapped=wrapped, wrapped_by=kms_key)
        return _FoundRootKeys(roots=[root], new=new, instance_id=instance_id, made=True)
    root = write_new_root_key(settings.root_key_file)
    return _FoundRootKeys(roots=[root], new=NewRootKey(id=root.id, kind=root.kind), made=True)


def _load_root_keys_for(settings: Settings, database: Database, wrapped_keys: "Sequence[WrappedKey]") -> list[RootKey]:
    """
    Return the root keys at hand for a database; none if there is none yet, and one may be made.

    Args:
        settings: say where they are.
        database: the database.
        wrapped_keys: of the database. If it has some, no new root key may be made.

    Raises:
        KeyUnavailableError, SettingsError: none can be loaded, and none may be made.
    """
    if not wrapped_keys and settings.root_key_kms_key is not None:
        # A file at the default place is for another installation: this one is to have its key from AWS KMS.
        return []
    try:
        return load_root_keys(settings, database)
    except KeyUnavailableError as error:
        key_file = settings.default_root_key_file
        if settings.root_key is not None or (key_file is not None and os.path.lexists(key_file)):
            raise
        if wrapped_keys:
            raise KeyUnavailableError(
                f"the root key is missing: this database was made with the key {wrapped_keys[0].root_key_id}; "
                "no new one is made",
                hint=f"bring the key file back to {settings.root_key_file}, or set PHASESYNC_ROOT_KEY_FILE",
            ) from error
        if key_file is None:
            raise SettingsError(
                "the root key would be in the home directory, and this user has none",
                hint="name another place: PHASESYNC_ROOT_KEY_FILE=/etc/phasesync/root.key",
            ) from error
        return []
