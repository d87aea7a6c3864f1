"""
Replacing root keys: the places of the settings, the use case of the engine, and the files at the end.

A root key itself is handled here and in the adapters below, and nowhere else.
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from phasesync.adapters.root_keys.age import other_recipients, recipients_of
from phasesync.adapters.root_keys.files import (
    AGE,
    FILE,
    age_file_of,
    hold_key_files,
    home_of,
    next_file_of,
    put_next_in_place,
    read_file,
    read_key_file,
    unwritable,
    write_next_root_key,
)
from phasesync.adapters.root_keys.sources import (
    CREDENTIAL,
    CREDENTIAL_NAME,
    ENVIRONMENT,
    NEXT_CREDENTIAL_NAME,
    NEXT_VARIABLE,
    VARIABLE,
    load_next_root_keys,
)
from phasesync.bootstrap.app import Application, call_limits
from phasesync.bootstrap.root_keys import replaced_root_keys_in_use
from phasesync.core.counted import counted
from phasesync.engine.root_key_rotation import (
    RootKeysInUse,
    RotatedRootKey,
    refuse_former_releases,
    root_keys_in_use,
    rotate_root_key,
)
from phasesync.errors import InvalidInputError, KeyUnavailableError, PhasesyncError, SettingsError
from phasesync.host_files import make_private_folder
from phasesync.settings.model import Settings
from phasesync.store.key_ring import KEY_BYTES, NEW_KEY_COMMAND, RootKey

if TYPE_CHECKING:
    from phasesync.store.root_keys import NewRootKey

AWS_KMS: Final = "aws-kms"
KINDS: Final = (FILE, AGE, ENVIRONMENT, CREDENTIAL, AWS_KMS)
"""Where a root key may be kept."""

_PUT_IT_THERE: Final = f"put a new key there as the present one got there; {NEW_KEY_COMMAND} prints one"


@dataclass(frozen=True, kw_only=True)
class RootKeyChange:
    """
    What `rotate_root` did.

    Attributes:
        rotated: what was done in the database; None if only the file had to be put in place.
        current: id of the root key in use now.
        source: where it is kept.
        kept: where the former key is; None if nothing was moved.
        to_do: what an operator has to do by hand now, one line each.
    """

    rotated: RotatedRootKey | None
    current: str
    source: str
    kept: Path | None
    to_do: tuple[str, ...]


def rotate_root(
    application: Application,
    *,
    kind: str | None,
    recipients: Sequence[str] = (),
    wait: timedelta,
    report: Callable[[str], object],
) -> RootKeyChange:
    """
    Replace the root key, or go on with that; see `engine.root_key_rotation`.

    Args:
        application: opened with the present root key.
        kind: where the next one is kept; None: where the present one is, or at the KMS key that the settings name.
        recipients: public keys of age that open the next one too, beside the identities of the settings.
        wait: how long to wait for daemons.
        report: takes a line for the operator at each step.

    Raises:
        SettingsError: there is no next root key, and none can be made there.
        InvalidInputError: some who open the present one could not open the next one, and no recipients are given; or
            those that are given cannot be used.
        PhasesyncError: as `rotate_root_key`, and as AWS KMS.
    """
    file = application.settings.default_root_key_file
    if file is not None and kind in (FILE, AGE):
        try:
            make_private_folder(file.parent)
        except OSError as error:
            raise unwritable(file, error) from None
    with nullcontext() if file is None else hold_key_files(file):
        known, rotated = root_keys_in_use(application.context), None
        if application.store.keys.place_of(known.current.id) is None:
            application.store.keys.reload_roots()  # Another process has replaced it since this one was opened.
        _refuse_late_recipients(application, known, recipients)
        left_out = recipients_left_out(application, known, recipients)
        if not waits_for_its_place(application, known):
            rotated = rotate_root_key(
                application.context,
                find_next=lambda known: _find_next(application, known, next_kind(application, known, kind), recipients),
                kind_of=lambda root: (application.store.keys.place_of(root) or (FILE, ""))[0],
                wait=wait,
                report=report,
                pause=lambda pause: time.sleep(pause.total_seconds()),
            )
            known = root_keys_in_use(application.context)
        change = _put_in_place(application, known, rotated)
        return change if left_out is None else replace(change, to_do=(*change.to_do, left_out))


def recipients_left_out(application: Application, known: RootKeysInUse, recipients: Sequence[str]) -> str | None:
    """Return a line for the operator if the next age file is to have fewer recipients than the present one."""
    identity_file = application.settings.age_identity_file
    present, source = application.store.keys.place_of(known.current.id) or ("", "")
    if not recipients or present != AGE or identity_file is None:
        return None
    others = other_recipients(read_file(Path(source))[0], identity_file)
    given = len({recipient.strip() for recipient in recipients} - set(recipients_of(identity_file)))
    if given >= others:
        return None
    return (
        f"{source} was encrypted to {counted(others, 'recipient')} beside the identities in {identity_file}, and the "
        f"next root key to {given}: the others cannot open it"
    )


def waits_for_its_place(application: Application, known: RootKeysInUse) -> bool:
    """Return whether the root key in use lies in the file of the next one: only the files have to be moved."""
    file = application.settings.default_root_key_file
    if known.next is not None or known.left or file is None:
        return False
    _, source = application.store.keys.place_of(known.current.id) or ("", "")
    return source == str(next_file_of(file))


def next_kind(application: Application, known: RootKeysInUse, kind: str | None) -> str:
    """Return where the next root key is to be kept."""
    if kind is not None:
        return kind
    if known.next is not None and known.next.kind is not None and known.next.authentic:
        return known.next.kind
    settings = application.settings
    present, _ = application.store.keys.place_of(known.current.id) or (known.current.kind or FILE, "")
    if settings.root_key_kms_key_next is not None or settings.root_key_kms_key is not None:
        return AWS_KMS
    return present


def _find_next(application: Application, known: RootKeysInUse, kind: str, recipients: Sequence[str]) -> "NewRootKey":
    """Return the root key that is to become the current one; make it where it can be made."""
    from phasesync.store.root_keys import NewRootKey

    made_for = _next_recipients(application, known, kind, recipients)
    if kind == AWS_KMS:
        return _make_at_kms(application)
    root = _given(application.settings, kind) or _make_beside(application.settings, made_for)
    _refuse_used(root, known, kind)
    application.store.keys.add_root(root)
    return NewRootKey(id=root.id, kind=root.kind, recipients=made_for)


def check_next(application: Application, known: RootKeysInUse, kind: str, recipients: Sequence[str]) -> str | None:
    """
    Return the id of the next root key; None if it is to be made, or none is needed to finish a replacement.

    Raises as `rotate_root` would, as far as that can be seen without making it.
    """
    settings = application.settings
    _refuse_late_recipients(application, known, recipients)
    if waits_for_its_place(application, known) or known.left:
        return None
    made_for = _next_recipients(application, known, kind, recipients)
    root = None
    if kind == AWS_KMS:
        _next_kms_key(settings)
    elif (root := _given(settings, kind)) is not None:
        _refuse_used(root, known, kind)
    else:
        if made_for:
            age_file_of(RootKey(material=bytes(KEY_BYTES), source="no key"), made_for)
        file = _key_file(settings)
        folder = next(parent for parent in file.absolute().parents if os.path.lexists(parent))
        if not (folder.is_dir() and os.access(folder, os.W_OK, effective_ids=True)):
            raise SettingsError(f"the next root key cannot be written to {next_file_of(file)}", hint=_PUT_IT_THERE)
    refuse_former_releases(application.context)
    return None if root is None else root.id


def _given(settings: Settings, kind: str) -> RootKey | None:
    """Return the next root key that is there already; None if it is to be made: a file. SettingsError."""
    if kind == ENVIRONMENT:
        return _in_variable(settings)
    if kind == CREDENTIAL:
        return _given_by_systemd()
    beside = next_file_of(_key_file(settings))
    if not os.path.lexists(beside):
        return None
    try:
        return read_key_file(beside, identity_file=settings.age_identity_file)
    except KeyUnavailableError as error:
        hint = f"remove {beside}, or put a new key there: {NEW_KEY_COMMAND} prints one"
        raise KeyUnavailableError(error.message, hint=hint) from None


def _refuse_used(root: RootKey, known: RootKeysInUse, kind: str) -> None:
    """Refuse a next root key that is in use, or was."""
    from phasesync.store.root_keys import used_already

    if root.id == known.current.id:
        raise SettingsError(
            f"{root.source} holds the root key {root.id}, which is in use already; nothing was replaced",
            hint=f"remove {root.source}, and repeat the command: it makes a new one"
            if kind in (FILE, AGE)
            else f"a next one has to be another key: {NEW_KEY_COMMAND} prints one",
        )
    for former in known.former:
        if former.id == root.id:
            raise used_already(former)


def placed_by_hand(settings: Settings, kind: str) -> str | None:
    """Return what an operator is going to have to do with the next key file; None if it is moved into its place."""
    file = settings.default_root_key_file
    if kind not in (FILE, AGE) or file is None or not home_of(file).is_symlink():
        return None
    return f"{next_file_of(file)} would have to take the place of {home_of(file)} by hand, which is a symlink"


def _in_variable(settings: Settings) -> RootKey:
    value = settings.root_key_next.get_secret_value() if settings.root_key_next else None
    for root in load_next_root_keys(value=value, environ={}):
        return root
    raise SettingsError(
        f"there is no next root key: {NEXT_VARIABLE} is not set",
        hint=f"set it to a new key, here and for each daemon, beside {VARIABLE}: {NEW_KEY_COMMAND} prints one",
    )


def _given_by_systemd() -> RootKey:
    for root in load_next_root_keys():
        return root
    raise SettingsError(
        f"there is no next root key: systemd gives no credential {NEXT_CREDENTIAL_NAME}",
        hint=f"LoadCredential={NEXT_CREDENTIAL_NAME}:FILE in the unit; or name the file of the present key with "
        "PHASESYNC_ROOT_KEY_FILE here, and the next one is made beside it",
    )


def _key_file(settings: Settings) -> Path:
    if settings.default_root_key_file is None:
        raise SettingsError(
            "the root key would be in the home directory, and this user has none",
            hint="name another place: PHASESYNC_ROOT_KEY_FILE=/etc/phasesync/root.key",
        )
    return settings.default_root_key_file


def _make_beside(settings: Settings, recipients: Sequence[str]) -> RootKey:
    try:
        return write_next_root_key(_key_file(settings), recipients=recipients)
    except SettingsError as error:
        raise SettingsError(error.message, hint=_PUT_IT_THERE) from None


def _next_recipients(
    application: Application, known: RootKeysInUse, kind: str, given: Sequence[str]
) -> tuple[str, ...]:
    """Return the public keys that are to open the next root key; none if it is no age file, or is there already."""
    if kind != AGE:
        if given:
            raise InvalidInputError(
                f"--recipient is for an age file, and the next root key is kept elsewhere: {kind}",
                hint="add --to age, or leave --recipient out",
            )
        return ()
    if os.path.lexists(next_file_of(_key_file(application.settings))):
        return ()
    identity_file = application.settings.age_identity_file
    if identity_file is None:
        raise SettingsError(
            "nothing says for which age identity the next root key is to be encrypted",
            hint="name the file with the identity: PHASESYNC_AGE_IDENTITY_FILE",
        )
    mine = recipients_of(identity_file)
    present, source = application.store.keys.place_of(known.current.id) or ("", "")
    others = 0 if given or present != AGE else other_recipients(read_file(Path(source))[0], identity_file)
    if others:
        raise InvalidInputError(
            f"{source} is encrypted to {counted(others, 'recipient')} beside the identities in {identity_file}, who "
            "could not open the next root key",
            hint="give the public key of each, which age-keygen -y IDENTITY_FILE prints: phasesync keys rotate-root "
            f"--recipient age1…; if nobody else is to open it, give that of {identity_file}",
        )
    return tuple(dict.fromkeys((*given, *mine)))


def _refuse_late_recipients(application: Application, known: RootKeysInUse, recipients: Sequence[str]) -> None:
    """Refuse recipients of a next root key that is made already: nobody can be added to an age file."""
    file = application.settings.default_root_key_file
    is_there = file is not None and os.path.lexists(next_file_of(file))
    if recipients and (is_there or known.left):
        which = f" ({next_file_of(file)})" if file is not None and is_there else ""
        raise InvalidInputError(
            f"the next root key is there already{which}, and who opens it was decided when it was made",
            hint="leave --recipient out to go on with it; or remove it before, if phasesync keys status does not show "
            "it as current",
        )


def _make_at_kms(application: Application) -> "NewRootKey":
    """
    Have AWS KMS make the next root key.

    One that is registered already is not used: its row may be a copy from before that somebody put back, and the key
    may have been replaced since because it leaked.
    """
    from phasesync.adapters.root_keys.kms import generate_root_key
    from phasesync.store.root_keys import NewRootKey

    kms_key = _next_kms_key(application.settings)
    root, wrapped = generate_root_key(kms_key, application.store.instance_id, call_limits(application.settings))
    application.store.keys.add_root(root)
    return NewRootKey(id=root.id, kind=AWS_KMS, wrapped=wrapped, wrapped_by=kms_key)


def _next_kms_key(settings: Settings) -> str:
    kms_key = settings.root_key_kms_key_next or settings.root_key_kms_key
    if kms_key is None:
        raise SettingsError(
            "nothing says which KMS key is to encrypt the next root key",
            hint="name it, here and for each daemon: PHASESYNC_ROOT_KEY_KMS_KEY=ARN",
        )
    return kms_key


def _put_in_place(application: Application, known: RootKeysInUse, rotated: RotatedRootKey | None) -> RootKeyChange:
    settings, keys, current = application.settings, application.store.keys, known.current.id
    if keys.place_of(current) is None:
        keys.reload_roots()
    kind, source = keys.place_of(current) or (known.current.kind or FILE, "no place that this command looks at")
    kept, moved, to_do = None, True, list[str]()
    file = settings.default_root_key_file
    if file is not None and source == str(next_file_of(file)):
        try:
            kept = put_next_in_place(file, current, identity_file=settings.age_identity_file)
            source = str(home := home_of(file))
            if home != file:
                to_do.append(f"{file} was for a backup from before: root_key_file has to name {home} again, everywhere")
        except PhasesyncError as error:
            if rotated is None:
                raise
            moved = False
            why = "; ".join(part for part in (error.message, error.hint) if part)
            to_do.append(f"{source} is still to take the place of {file}, by hand: {why}")
        to_do += _other_hosts(application)
    elif kind == ENVIRONMENT and source == NEXT_VARIABLE:
        to_do.append(f"set {VARIABLE} to what {NEXT_VARIABLE} is, here and for each daemon; remove {NEXT_VARIABLE}")
    elif kind == CREDENTIAL and Path(source).name == NEXT_CREDENTIAL_NAME:
        to_do.append(f"have systemd give as root_key what {NEXT_CREDENTIAL_NAME} is, and remove {NEXT_CREDENTIAL_NAME}")
    elif kind == AWS_KMS and settings.root_key_kms_key_next is not None:
        to_do.append(f"set root_key_kms_key to {settings.root_key_kms_key_next}, and remove root_key_kms_key_next")
    if kind != AWS_KMS and settings.root_key_kms_key is not None:
        to_do.append("remove root_key_kms_key from the settings of each daemon: the root key is elsewhere now")
    to_do += [
        f"{_away(root)}, here and for each daemon: that is the root key {root.id}, which was replaced"
        for root in replaced_root_keys_in_use(settings, {one.id for one in known.former})
        if root.kind != kind and not (root.kind in (FILE, AGE) and kind in (FILE, AGE))
    ]
    to_keep = _to_keep(application, known, rotated, kept, moved=moved)
    to_do = [*to_do, *to_keep] if moved else [*to_keep, *to_do]
    if to_keep and rotated is not None:
        to_do.append(
            f"if there is an escrow of {rotated.former}, make one of {current}: phasesync keys escrow --recipient age1…"
        )
    return RootKeyChange(rotated=rotated, current=current, source=source, kept=kept, to_do=tuple(to_do))


def _away(root: RootKey) -> str:
    """Return what takes a root key from where one in use belongs."""
    if root.kind == ENVIRONMENT:
        return f"remove {VARIABLE}"
    if root.kind == CREDENTIAL:
        return f"have systemd give no credential {CREDENTIAL_NAME}"
    return f"move {root.source} to the backups from before, and remove root_key_file if it is set"


def _to_keep(
    application: Application,
    known: RootKeysInUse,
    rotated: RotatedRootKey | None,
    kept: Path | None,
    *,
    moved: bool,
) -> list[str]:
    """Return what has to be kept for backups from before; `moved`: the new key file is in its place."""
    lines = []
    former = next((one for one in known.former if rotated is not None and one.id == rotated.former), None)
    here = former is not None and kept is not None and kept.name.endswith(f"-{former.id}")
    if kept is not None and not here:
        lines.append(f"{kept} has the key that was in the place of the new one; keep it if you need it")
    if former is None or (former.wrapped_by is not None and former.wrapped_by == known.current.wrapped_by):
        return lines
    if former.wrapped_by is not None:
        return [*lines, f"keep the KMS key {former.wrapped_by} as long as the backups from before, which it opens"]
    kind, place = (application.store.keys.place_of(former.id) if kept is None else None) or ("", "")
    where = f" ({kept})" if here else f" ({place})" if kind in (FILE, AGE) and os.path.lexists(place) else ""
    if where and not moved:
        return [f"first copy the former root key {former.id} away from {place}: it opens the backups from before"]
    return [*lines, f"keep the former root key {former.id}{where} as long as the backups from before, which it opens"]


def _other_hosts(application: Application) -> list[str]:
    here = os.uname().nodename
    hosts = sorted({one.host for one in application.store.root_keys.daemons()} - {here})
    if not hosts:
        return []
    return [
        f"put the next root key in place on {', '.join(hosts)} too: phasesync keys rotate-root there moves the files"
    ]
