"""Settings and a database -> the root keys at hand, and the key ring that they open."""

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from phasesync.adapters.root_keys import find_root_key, key_file_exists, load_next_root_keys, load_root_key
from phasesync.adapters.root_keys.files import former_file_of, read_key_file
from phasesync.core.fingerprint import Digests
from phasesync.errors import KeyUnavailableError, PhasesyncError, SettingsError
from phasesync.settings.model import Settings
from phasesync.store import Database, read_wrapped_keys
from phasesync.store.key_ring import FORMER, KeyRing, RootKey, read_root_statuses
from phasesync.store.tables import instance

if TYPE_CHECKING:
    from phasesync.store.root_keys import KmsRootKey


def open_key_ring(settings: Settings, database: Database) -> KeyRing:
    """
    Return the key ring of a database. It is not verified.

    Raises:
        KeyUnavailableError, SettingsError, HostUnavailableError: there is no usable root key.
        DestinationError: AWS KMS has it, and cannot be asked or refuses.
    """
    return key_ring_of(settings, database, load_root_keys(settings, database))


def key_ring_of(settings: Settings, database: Database, roots: Sequence[RootKey]) -> KeyRing:
    """Return the key ring of a database with root keys that are loaded; it loads others by itself if it needs them."""
    return KeyRing(
        roots,
        partial(read_wrapped_keys, database),
        load_roots=partial(_load_missing_root_keys, settings, database),
        read_statuses=partial(read_root_statuses, database),
        read_current=partial(_read_current_root, database),
        hint_for=partial(_where_it_is, settings, database),
    )


def verified_keys(settings: Settings, database: Database) -> KeyRing:
    """Return the keys of a database. KeyUnavailableError: the root key does not open them. See `open_key_ring`."""
    keys = open_key_ring(settings, database)
    keys.verify()
    return keys


def load_root_keys(settings: Settings, database: Database) -> list[RootKey]:
    """
    Return the root keys at hand: the present one first, then those that are to take its place.

    Args:
        settings: say where they are.
        database: has those that AWS KMS encrypted.

    What is not in use yet, and cannot be loaded, is a warning at the first one: an installation opens without it. The
    same is true of a file or variable beside a root key at AWS KMS: it may belong to another installation.

    Raises:
        As `open_key_ring`.
    """
    others, problems = _load([partial(_next_root_keys, settings), *_from_kms(settings, database, ())])
    needed, told = not others, list[str]()
    try:
        placed = find_placed_root_key(settings, needed=needed and not problems)
    except (KeyUnavailableError, SettingsError) as error:
        if needed:
            raise _kept_by_kms(settings, database) or error from None
        placed, told = None, [f"the root key beside the one in use is not loaded: {error.message}"]
    roots = others if placed is None else [placed, *others]
    if not roots:
        raise problems[-1]
    told += [f"the next root key is not loaded: {error.message}" for error in problems]
    if not told:
        return roots
    return [replace(roots[0], warnings=(*roots[0].warnings, *told)), *roots[1:]]


def _load_missing_root_keys(settings: Settings, database: Database, known: Collection[str]) -> list[RootKey]:
    """
    Return root keys that a database names, and that were not loaded so far: they came since, or lie in another place.

    The place that counts most may still hold a root key that was replaced. And a command of a former release that was
    at work during the switch may have left a data key under one: `rotate-root` wraps it anew.

    Args:
        settings: say where they are.
        database: names them, and has those that AWS KMS encrypted.
        known: ids of those that are loaded.

    Raises:
        As `open_key_ring`, if one of them cannot be loaded.
    """
    statuses = read_root_statuses(database)
    in_use = {key.root_key_id for key in read_wrapped_keys(database)}
    missing = (in_use | {root for root, status in statuses.items() if status != FORMER}) - set(known)
    file, identity_file = settings.default_root_key_file, settings.age_identity_file
    kept = [] if file is None else [former_file_of(file, root) for root in missing if statuses.get(root) == FORMER]
    found, problems = _load(
        [
            partial(_next_root_keys, settings),
            *_from_kms(settings, database, known),
            *_placed_root_keys(settings),
            *(partial(_root_keys_in, path, identity_file) for path in kept),
        ]
    )
    if problems and not missing <= {root.id for root in found}:
        raise problems[0]
    return [root for root in found if root.id in missing]


def _load(loads: Sequence[Callable[[], Sequence[RootKey]]]) -> tuple[list[RootKey], list[PhasesyncError]]:
    """Return what was loaded, and why something was not."""
    found: list[RootKey] = []
    problems: list[PhasesyncError] = []
    for load in loads:
        try:
            found += load()
        except PhasesyncError as error:
            problems.append(error)
    return found, problems


def _root_keys_in(path: Path, identity_file: Path | None) -> list[RootKey]:
    return [read_key_file(path, identity_file=identity_file)] if key_file_exists(path) else []


def replaced_root_keys_in_use(settings: Settings, former: Collection[str]) -> list[RootKey]:
    """Return the root keys that were replaced and still lie where one in use belongs; AWS KMS is not asked."""
    found, _ = _load(_placed_root_keys(settings))
    return [root for root in found if root.id in former]


def _placed_root_keys(settings: Settings) -> list[Callable[[], Sequence[RootKey]]]:
    """Return what loads the root key of each place but AWS KMS, the one that counts most first."""
    value = settings.root_key.get_secret_value() if settings.root_key else None
    file, identity_file = settings.default_root_key_file, settings.age_identity_file

    def only(found: RootKey | None) -> list[RootKey]:
        return [] if found is None else [found]

    return [
        lambda: only(find_root_key()),
        lambda: [] if file is None else _root_keys_in(file, identity_file),
        lambda: only(find_root_key(value=value, environ={})),
    ]


def find_placed_root_key(settings: Settings, *, needed: bool) -> RootKey | None:
    """
    Return the root key that is a credential of systemd, in a file or in the environment.

    `needed`: raise KeyUnavailableError if there is none. Otherwise AWS KMS may have it, or only a next one is there.
    """
    places: dict[str, Any] = {
        "file": settings.named_root_key_file,
        "value": settings.root_key.get_secret_value() if settings.root_key else None,
        "default_file": settings.default_root_key_file,
        "identity_file": settings.age_identity_file,
    }
    return load_root_key(**places) if needed else find_root_key(**places)


def _next_root_keys(settings: Settings) -> list[RootKey]:
    return load_next_root_keys(
        file=settings.default_root_key_file,
        value=settings.root_key_next.get_secret_value() if settings.root_key_next else None,
        identity_file=settings.age_identity_file,
    )


def _read_current_root(database: Database, digests: Callable[[], Digests]) -> str | None:
    # Imported here: few commands make a data key.
    from phasesync.store.root_keys import read_current_root

    return read_current_root(database, digests)


def _where_it_is(settings: Settings, database: Database, root_key_id: str) -> str | None:
    """Return how to use a root key that is not at hand: AWS KMS has it, or `rotate-root` kept it. None: unknown."""
    from phasesync.store.root_keys import read_kms_root_keys

    for root in read_kms_root_keys(database):
        if root.id == root_key_id:
            return f"a KMS key has encrypted it; {_if_yours(root.wrapped_by)}"
    file = settings.default_root_key_file
    if file is None or not os.path.lexists(kept := former_file_of(file, root_key_id)):
        return None
    return f"it was replaced, and is kept in {kept}; for a backup of its time: PHASESYNC_ROOT_KEY_FILE={kept}"


def _from_kms(settings: Settings, database: Database, known: Collection[str]) -> list[Callable[[], Sequence[RootKey]]]:
    """Return what loads the root keys that AWS KMS encrypted and that are to be in use; those in use are loaded now."""
    allowed = _kms_keys(settings)
    if not allowed:
        return []
    # Imported here, so that an installation without KMS does not pay for it.
    from phasesync.adapters.root_keys.kms import decrypt_root_key
    from phasesync.bootstrap.app import call_limits
    from phasesync.store.root_keys import read_kms_root_keys

    # Which KMS keys may be asked is for the settings to say: whoever can write to the database has keys of their own.
    wrapped = [root for root in read_kms_root_keys(database) if root.id not in known and root.wrapped_by in allowed]
    if not wrapped:
        return []
    instance_id, limits = read_instance_of(database), call_limits(settings)

    def load(root: "KmsRootKey") -> list[RootKey]:
        return [decrypt_root_key(root.wrapped_by, root.wrapped, instance_id, limits)]

    in_use = [found for root in wrapped if root.in_use for found in load(root)]
    return [lambda: in_use, *(partial(load, root) for root in wrapped if not root.in_use)]


def _kms_keys(settings: Settings) -> set[str]:
    return {arn for arn in (settings.root_key_kms_key, settings.root_key_kms_key_next) if arn is not None}


def _kept_by_kms(settings: Settings, database: Database) -> KeyUnavailableError | None:
    """Return the error for a root key that AWS KMS has, where the settings do not say so; None if it has none."""
    from phasesync.store.root_keys import read_kms_root_keys

    for root in read_kms_root_keys(database):
        if root.in_use and root.wrapped_by not in _kms_keys(settings):
            return KeyUnavailableError(
                f"the root key {root.id} of this database is encrypted by the KMS key {root.wrapped_by}, which the "
                "settings do not name",
                hint=_if_yours(root.wrapped_by),
            )
    return None


def _if_yours(kms_key: str) -> str:
    """Return the hint for a KMS key of which only the database says that it is to be asked."""
    return f"if that KMS key is yours, and not only the database says so: PHASESYNC_ROOT_KEY_KMS_KEY={kms_key}"


def read_instance_of(database: Database) -> str:
    """Return the instance id as it stands in a database, also in a retired one or in a copy that is not complete."""
    with database.read() as connection:
        return str(connection.scalar(sa.select(instance.c.instance_id)) or "")
