"""
Root keys in files: 32 bytes as base64, plain or in an age file.

Reads, makes and replaces such files. Never logs a key, and never puts it into an error. A key is never overwritten: the
next one lies beside the current one until it takes its place, and the former one is kept beside it.
"""

import base64
import binascii
import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from phasesync.adapters.root_keys.age import decrypt_age, encrypt_age, is_age_file
from phasesync.errors import (
    AlreadyExistsError,
    HostUnavailableError,
    IllegalTransitionError,
    InvalidInputError,
    KeyUnavailableError,
    SettingsError,
)
from phasesync.host_files import (
    MOUNTS,
    UnusableFileError,
    file_exists,
    is_passing,
    make_private_folder,
    mount_of,
    read_regular_file,
)
from phasesync.store.key_ring import KEY_BYTES, RootKey, malformed_root_key

FILE: Final = "file"
AGE: Final = "age"

_MAX_BYTES: Final = 4096
"""A key file has 45 bytes, an age file some hundred for each recipient."""

_PRIVATE: Final = 0o600

_FORMER: Final = re.compile(r"\.former-[0-9a-f]{12}$")

_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK})
"""How file systems say that a file cannot have a second name."""


def home_of(path: Path) -> Path:
    """Return the file whose former key a file is, or else the file itself: a backup from before may be in use again."""
    return path.with_name(_FORMER.sub("", path.name))


def next_file_of(path: Path) -> Path:
    """Return where the key lies that is going to take the place of the one in a file."""
    home = home_of(path)
    return home.with_name(f"{home.name}.next")


def former_file_of(path: Path, root_key_id: str) -> Path:
    """Return where a key is kept that was in a file before."""
    home = home_of(path)
    return home.with_name(f"{home.name}.former-{root_key_id}")


def read_key_file(path: Path, *, identity_file: Path | None = None, mounts: Path = MOUNTS) -> RootKey:
    """
    Return the root key in a file.

    Args:
        path: a plain file or an age file.
        identity_file: has the identity for age files; None if the settings name none.
        mounts: the kernel's list of mounts.

    Raises:
        KeyUnavailableError: it cannot be read or opened, or holds no root key.
        SettingsError: all users may read or replace the file; or it is an age file, and that cannot be opened here.
        HostUnavailableError: it cannot be read now.
    """
    data, status = read_file(path)
    warnings = _check_mode(path, stat.S_IMODE(status.st_mode), mounts)
    kind = FILE
    if is_age_file(data):
        data, kind = decrypt_age(data, identity_file, str(path)), AGE
    return RootKey(material=parse_key(data, str(path)), source=str(path), kind=kind, warnings=warnings)


def parse_key(text: bytes, source: str, *, hint: str | None = None) -> bytes:
    """Return the bytes of a root key in its text form. KeyUnavailableError, with a hint of its own if need be."""
    try:
        material = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise malformed_root_key(source, hint=hint) from None
    if len(material) != KEY_BYTES:
        raise malformed_root_key(source, hint=hint)
    return material


def key_text(root_key: RootKey) -> bytes:
    """Return a root key in its text form, as a file holds it."""
    return base64.b64encode(root_key.material) + b"\n"


def age_file_of(root_key: RootKey, recipients: Sequence[str]) -> bytes:
    """Return a root key as the content of an age file. InvalidInputError, SettingsError: as `write_next_root_key`."""
    content = encrypt_age(key_text(root_key), recipients)
    if len(content) > _MAX_BYTES:
        raise InvalidInputError(
            f"{len(recipients)} recipients are too many: a root key file has {_MAX_BYTES:,} bytes at most"
        )
    return content


def write_new_root_key(path: Path) -> RootKey:
    """
    Create a root key and write it to a new file of mode 0600; it is on disk when this returns.

    Raises:
        AlreadyExistsError: the path exists already; it is left alone.
        SettingsError: it cannot be written.
    """
    key = _new_key(path, FILE)
    _write_new_file(path, key_text(key))
    return key


def write_next_root_key(path: Path, *, recipients: Sequence[str] = ()) -> RootKey:
    """
    Create the root key that is going to take the place of the one in a file, and write it beside that.

    Its owner and mode are those of the file: who reads the one has to read the other.

    Args:
        path: the file that has the current key; it may be missing.
        recipients: write an age file that each of these public keys opens; none: a plain file.

    Raises:
        AlreadyExistsError: there is a next key already; it is left alone.
        InvalidInputError: a recipient is no public key, or there are more than a key file has room for.
        SettingsError: it cannot be written.
    """
    key = _new_key(next_file_of(path), AGE if recipients else FILE)
    content = age_file_of(key, recipients) if recipients else key_text(key)
    like = None
    with suppress(FileNotFoundError):
        like = path.stat()
    _write_new_file(next_file_of(path), content, like=like)
    return key


def put_next_in_place(path: Path, current_id: str, *, identity_file: Path | None = None) -> Path | None:
    """
    Put the next key in the place of the one in a file; safe to repeat. There is a whole key at `path` at every moment.

    What is there counts, and not what was loaded before: another process may have replaced it. So what cannot be read
    stays where it is, and what can is kept.

    Args:
        path: the file of the root key; may be missing. For one with a former key: what it was a former key of.
        current_id: the root key in use, which has to be the next one.
        identity_file: has the identity for age files.

    Returns:
        Where the key is kept that was there; None if there was none, or it is the same one.

    Raises:
        SettingsError: the files cannot be changed here, as where they are mounted read-only; or the next one is another
            key, or something that is no key would be lost.
    """
    path, beside, kept = home_of(path), next_file_of(path), None
    try:
        if path.is_symlink():
            raise SettingsError(
                f"{path} is a symlink: whatever made it has to put the next key in its place",
                hint=f"put the content of {beside} where {path} comes from, and remove {beside}",
            )
        if _id_in(beside, identity_file) != current_id:
            raise SettingsError(
                f"{beside} does not hold the root key {current_id}, which is in use; nothing was moved",
                hint=f"phasesync keys status shows where that is; remove {beside} if it holds nothing that you need",
            )
        if os.path.lexists(path) and (there := _id_in(path, identity_file)) != current_id:
            if there is None:
                raise SettingsError(
                    f"{path} holds something that is no root key, or cannot be opened here; it was not replaced",
                    hint=f"move {path} away, and repeat the command: phasesync keys rotate-root",
                )
            kept = former_file_of(path, there)
            _keep(path, kept, there, identity_file)
            _sync_directory(path.parent)
        os.replace(beside, path)
        _sync_directory(path.parent)
    except OSError as error:
        raise unwritable(path, error) from None
    return kept


@contextmanager
def hold_key_files(path: Path) -> Iterator[None]:
    """
    Keep other processes of this host from replacing the key in the same file meanwhile.

    A file system that has no locks, and a folder that is not there yet, are not held.

    Raises:
        IllegalTransitionError: another process is doing that now.
    """
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield  # Whoever reads or writes a key there says what is wrong.
        return
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise IllegalTransitionError(
                    f"another phasesync keys rotate-root is at work on the key files in {path.parent}",
                    hint="wait for it; phasesync keys status shows how far it is",
                ) from None
        yield
    finally:
        os.close(folder)


def _id_in(path: Path, identity_file: Path | None) -> str | None:
    """Return the id of the root key in a file; None if there is none that can be read."""
    try:
        data, _ = read_file(path)
        if is_age_file(data):
            data = decrypt_age(data, identity_file, str(path))
        return RootKey(material=parse_key(data, str(path)), source=str(path)).id
    except (KeyUnavailableError, SettingsError):
        return None


def _keep(path: Path, kept: Path, root_key_id: str, identity_file: Path | None) -> None:
    """Have a second name for the key in a file. SettingsError if something else has that name."""
    try:
        _keep_copy(path, kept)
    except AlreadyExistsError:
        if _id_in(kept, identity_file) != root_key_id:
            raise SettingsError(
                f"{kept} exists, and does not hold the root key {root_key_id}, which is to be kept there; nothing was "
                "moved",
                hint=f"move {kept} away, and repeat the command: phasesync keys rotate-root",
            ) from None


def _keep_copy(path: Path, kept: Path) -> None:
    """Have a second name for a file, or a copy where the file system has no second names. AlreadyExistsError."""
    try:
        os.link(path, kept)
    except FileExistsError:
        raise _exists_already(kept) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _write_new_file(kept, path.read_bytes(), like=path.stat())


def _name_draft(draft: Path, path: Path) -> None:
    """Give a finished file its name, unless something has it. AlreadyExistsError."""
    try:
        os.link(draft, path)
    except FileExistsError:
        raise _exists_already(path) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.rename(draft, path)


def _exists_already(path: Path) -> AlreadyExistsError:
    return AlreadyExistsError(f"{path} exists already; a root key is never overwritten")


def _new_key(path: Path, kind: str) -> RootKey:
    return RootKey(material=secrets.token_bytes(KEY_BYTES), source=str(path), kind=kind)


def _write_new_file(path: Path, content: bytes, *, like: os.stat_result | None = None) -> None:
    """Write a file that does not exist yet; `like`: whose owner and mode it gets, None: ours alone."""
    try:
        make_private_folder(path.parent)
        if path.is_symlink() or path.exists():
            raise _exists_already(path)
        # Whoever dies while writing leaves no half key under the name: it would look like a damaged one.
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _PRIVATE)
    except OSError as error:
        raise unwritable(path, error) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), _PRIVATE)  # regardless of the umask and of ACLs
            if like is not None:
                if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(file.fileno(), like.st_uid, like.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(like.st_mode) & ~stat.S_IRWXO)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _name_draft(draft, path)
        _sync_directory(path.parent)
    except OSError as error:
        raise unwritable(path, error) from None
    finally:
        draft.unlink(missing_ok=True)


def _check_mode(path: Path, mode: int, mounts: Path) -> tuple[str, ...]:
    """
    Refuse a file that all users may read or replace; return warnings about a mode that is wider than necessary.

    A mode for the group is not refused: Kubernetes uses it to give a secret volume to a pod that is not root (fsGroup
    makes it 0440). The file itself counts, not the symlink that Kubernetes puts in front of it. If an orchestrator
    mounted it for this program, the program cannot change the mode, and the mount decides
    who sees it: docs/security.md.
    """
    if mode & stat.S_IRWXO and _is_mounted_for_us(path, mounts):
        who = "everyone who sees its mount"
        return (f"the root key file {path} may be read by {who} (mode {mode:04o}); {_MODE_OF_MOUNTS}",)
    if mode & stat.S_IRWXO:
        raise SettingsError(
            f"the root key file {path} may be used by everyone on this machine (mode {mode:04o})",
            hint=f"chmod 600 {path}; if it is mounted: {_MODE_OF_MOUNTS}",
        )
    if mode & stat.S_IRWXG:
        return (f"the root key file {path} may be used by its group (mode {mode:04o}); 0600 or 0400 is safer",)
    return ()


_MODE_OF_MOUNTS: Final = (
    "in Kubernetes set fsGroup for the pod and defaultMode: 0440 on the secret volume (filePermission: '0440' with a "
    "CSI driver that applies fsGroup), in Docker uid and mode: 0400 on the secret"
)


def _is_mounted_for_us(path: Path, mounts: Path) -> bool:
    """
    Return whether an orchestrator mounted this file for one program: read-only, and in memory or as a single file.

    Kubernetes, CSI drivers and Swarm mount secrets in memory; Compose mounts the file alone. A read-only disk does not
    count: all users of the machine may read it, as in the store of NixOS.
    """
    mount = mount_of(path, mounts)
    if mount is None or not mount.read_only or mount.point == "/":
        return False
    return mount.kind in ("tmpfs", "ramfs") or mount.point == os.path.realpath(path)


def key_file_exists(path: Path) -> bool:
    """Return whether there is a file. KeyUnavailableError, HostUnavailableError."""
    try:
        return file_exists(path)
    except UnusableFileError as error:
        raise _unreadable(path, error) from None


def read_file(path: Path) -> tuple[bytes, os.stat_result]:
    """Return the content and the status of a small file. KeyUnavailableError, HostUnavailableError."""
    try:
        return read_regular_file(path, most_bytes=_MAX_BYTES)
    except UnusableFileError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: UnusableFileError) -> HostUnavailableError | KeyUnavailableError:
    message = f"the root key file {path} cannot be read: {error.reason}"
    return HostUnavailableError(message) if error.passing else KeyUnavailableError(message)


def unwritable(path: Path, error: OSError) -> HostUnavailableError | SettingsError:
    """Return the error for a root key that cannot be written."""
    message = f"the root key cannot be written to {path}: {error.strerror}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HostUnavailableError(message, hint="make room there, and repeat the command")
    if is_passing(error):
        return HostUnavailableError(message)
    return SettingsError(
        message,
        hint="choose another place with PHASESYNC_ROOT_KEY_FILE, or correct the permissions",
    )


def _sync_directory(path: Path) -> None:
    """Have the new directory entry survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
