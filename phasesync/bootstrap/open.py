"""Settings -> an opened database with its key: opening, first set-up, and putting a backup in its place."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from phasesync.adapters.clock import SystemClock
from phasesync.adapters.root_keys import load_root_key, write_new_root_key
from phasesync.bootstrap.app import Application
from phasesync.errors import KeyUnavailableError, SettingsError
from phasesync.ports.runtime import EventSink
from phasesync.settings.model import Settings
from phasesync.store import Database, initialise, open_database, open_store, read_instance_id, read_wrapped_keys
from phasesync.store.keys import KeyRing, RootKey
from phasesync.store.migrate import check, upgrade


def open_application(
    settings: Settings, *, events: EventSink | None = None, current: Callable[[], Settings] | None = None
) -> Application:
    """
    Open the database with its key; see `Application` for the arguments.

    Raises:
        SchemaMismatchError, KeyUnavailableError, StoreUnavailableError, SettingsError: with what mends it.
    """
    check(settings.database_url)
    database = open_database(settings.database_url)
    try:
        # Asked for before the key: a daemon that starts beside `init` waits for it and does not miss a key yet to come.
        read_instance_id(database)
        root_key = find_root_key(settings)
        store = open_store(database, KeyRing([root_key], partial(read_wrapped_keys, database)))
    except BaseException:
        database.close()
        raise
    return Application(settings, store, root_key=root_key, events=events, current=current)


def find_instance_id(settings: Settings) -> str:
    """Return the id of the installation whose database this is; needs no key. Raises as `open_application` does."""
    check(settings.database_url)
    database = open_database(settings.database_url)
    try:
        return read_instance_id(database)
    finally:
        database.close()


def find_root_key(settings: Settings, environ: Mapping[str, str] = os.environ) -> RootKey:
    """Return the root key that the settings lead to. KeyUnavailableError, SettingsError."""
    return load_root_key(
        file=settings.named_root_key_file,
        value=settings.root_key.get_secret_value() if settings.root_key else None,
        default_file=settings.default_root_key_file,
        environ=environ,
    )


@dataclass(frozen=True, kw_only=True)
class Initialised:
    """What `init` made or found."""

    root_key: RootKey
    key_made: bool
    instance_id: str
    warnings: tuple[str, ...] = ()
    """What should be better about key and database, one line each."""


def initialise_application(settings: Settings) -> Initialised:
    """
    Make what is missing: root key, database at the newest migration, keys in it. Safe to repeat.

    Raises:
        KeyUnavailableError: the database has keys of another root key, or its root key is gone: no new one is made.
        SettingsError, StoreUnavailableError: directory, file or database are not usable.
    """
    migrate_application(settings)
    database = open_database(settings.database_url)
    try:
        made = False
        try:
            root_key = find_root_key(settings)
        except KeyUnavailableError as error:
            key_file = settings.default_root_key_file
            if settings.root_key is not None or (key_file is not None and os.path.lexists(key_file)):
                raise
            wrapped = read_wrapped_keys(database)
            if wrapped:
                raise KeyUnavailableError(
                    f"the root key is missing: this database was made with the key {wrapped[0].root_key_id}; "
                    "no new one is made",
                    hint=f"bring the key file back to {settings.root_key_file}, or set PHASESYNC_ROOT_KEY_FILE",
                ) from error
            if key_file is None:
                raise SettingsError(
                    "the root key would be in the home directory, and this user has none",
                    hint="name another place: PHASESYNC_ROOT_KEY_FILE=/etc/phasesync/root.key",
                ) from error
            root_key, made = write_new_root_key(key_file), True
        instance_id = initialise(database, KeyRing([root_key], partial(read_wrapped_keys, database)))
    finally:
        database.close()
    warnings = (*root_key.warnings, *database.warnings())
    return Initialised(root_key=root_key, key_made=made, instance_id=instance_id, warnings=warnings)


def restore_application(settings: Settings, file: Path) -> Path | None:
    """
    Put a backup in the place of the database; see `adapters.store.restore`.

    Returns:
        Where the former database was kept, None where there was none.

    Raises:
        KeyUnavailableError: the root key of the settings does not open the backup. Nothing was changed.
    """
    from phasesync.store.backup import restore

    root_key = find_root_key(settings)

    return restore(settings.database_url, file, open_keys=_keys_of(lambda: root_key), at=SystemClock().now())


def migrate_application(settings: Settings) -> None:
    """
    Bring the database to the newest migration; see `adapters.store.migrate`.

    Raises:
        KeyUnavailableError: a migration needs the root key, and the settings lead to none or to another one. Nothing
            was changed.
    """
    upgrade(settings.database_url, _keys_of(lambda: find_root_key(settings)))


def _keys_of(find: Callable[[], RootKey]) -> Callable[[Database], KeyRing]:
    """Return what opens the keys of a database, with a root key that is looked for when it is needed."""

    def open_keys(database: Database) -> KeyRing:
        keys = KeyRing([find()], partial(read_wrapped_keys, database))
        keys.verify()
        return keys

    return open_keys
