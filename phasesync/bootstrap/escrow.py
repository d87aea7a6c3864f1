"""
Escrow: the root key in use, encrypted to recovery keys, and the proof that it can be recovered.

A root key itself is handled here and in the adapters below, and nowhere else.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from phasesync.adapters.root_keys.age import decrypt_age, encrypt_age, is_age_file
from phasesync.adapters.root_keys.files import AGE, key_text, parse_key
from phasesync.bootstrap.app import Application
from phasesync.bootstrap.root_keys import key_ring_of, load_root_keys
from phasesync.errors import KeyUnavailableError, SettingsError
from phasesync.host_files import UnusableFileError, read_regular_file
from phasesync.settings.model import Settings
from phasesync.store import read_instance_id, read_wrapped_keys
from phasesync.store.key_ring import CURRENT, FORMER, KeyRing, RootKey, read_root_statuses
from phasesync.store.migrate import open_migrated

if TYPE_CHECKING:
    from phasesync.store import Database

_MAKE_ONE: Final = "phasesync keys escrow --recipient age1…"
_MOST_BYTES: Final = 65_536
"""Of an escrow: it has some hundred bytes for each recipient."""


@dataclass(frozen=True, kw_only=True)
class Escrow:
    """
    A root key for safekeeping.

    Attributes:
        root_key_id: its id.
        text: an age file in its text form.
    """

    root_key_id: str
    text: str


def escrow_root_key(application: Application, recipients: Sequence[str]) -> Escrow:
    """
    Return the root key in use, encrypted so that any one of the recipients opens it.

    Raises:
        InvalidInputError: a recipient is no public key of age.
        SettingsError: the package for age is not installed.
    """
    root = _current_root_key(application.settings, application.store.database)
    return Escrow(root_key_id=root.id, text=encrypt_age(key_text(root), recipients).decode("ascii"))


def _current_root_key(settings: Settings, database: "Database") -> RootKey:
    roots = load_root_keys(settings, database)
    keys = key_ring_of(settings, database, roots)
    keys.verify()
    current = [root for root, status in read_root_statuses(database).items() if status == CURRENT]
    in_use = current[0] if current else next(iter(keys.root_ids_in_use))
    for root in roots:
        if root.id == in_use:
            return root
    raise KeyUnavailableError(f"the root key {in_use} is not at hand")


def verify_escrow(settings: Settings, file: Path, identity_file: Path) -> str:
    """
    Recover a root key from escrow, and open this database with it and with nothing else; return its id.

    Raises:
        KeyUnavailableError: the identity does not open the file, or what is in it is not the root key of this database.
        SettingsError: the file is no age file, or the package for age is not installed.
    """
    try:
        data, _ = read_regular_file(file, most_bytes=_MOST_BYTES)
    except UnusableFileError as error:
        raise SettingsError(
            f"the escrow {file} cannot be read: {error.reason}", hint=f"--verify takes a file: {_MAKE_ONE} prints one"
        ) from None
    if not is_age_file(data):
        raise SettingsError(f"{file} is not an age file", hint=f"{_MAKE_ONE} prints one; keep it as it is")
    source = str(file)
    text = decrypt_age(data, identity_file, source)
    root = RootKey(material=parse_key(text, source, hint=f"{_MAKE_ONE} prints an escrow"), source=source, kind=AGE)
    with closing(open_migrated(settings.database_url)) as database:
        read_instance_id(database)
        keys = KeyRing(
            [root],
            partial(read_wrapped_keys, database),
            read_statuses=partial(read_root_statuses, database),
            hint_for=lambda _: f"it is the escrow of another installation; for one of this: {_MAKE_ONE}",
        )
        if read_root_statuses(database).get(root.id) == FORMER:
            raise KeyUnavailableError(
                f"{file} holds the root key {root.id}, which was replaced: it opens backups of its time alone",
                hint=f"keep it as long as those, and make an escrow of the root key in use: {_MAKE_ONE}",
            )
        keys.verify()
    return root.id
