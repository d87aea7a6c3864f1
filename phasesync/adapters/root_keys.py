"""
The root key: 32 bytes as base64, from a file, a systemd credential or the environment.

Loads, checks and creates it. Never logs it, and never puts it into an error. The store's key ring uses it.
"""

import base64
import binascii
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from phasesync.errors import AlreadyExistsError, HostUnavailableError, KeyUnavailableError, SettingsError
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

CREDENTIAL_NAME: Final = "root_key"
"""Name in the unit file: `LoadCredential=root_key:/etc/phasesync/root.key`."""

_MAX_BYTES: Final = 4096
"""A key file has 45 bytes."""


def load_root_key(
    *,
    file: Path | None = None,
    value: str | None = None,
    default_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    mounts: Path = MOUNTS,
) -> RootKey:
    """
    Return the root key from the first of: the systemd credential, `file`, `value`, `default_file`.

    Args:
        file: from the settings; must exist.
        value: base64 from PHASESYNC_ROOT_KEY; accepted with a warning.
        default_file: where `init` writes it; may be missing.
        environ: has CREDENTIALS_DIRECTORY; None means the environment of the process.
        mounts: the kernel's list of mounts.

    Raises:
        KeyUnavailableError: there is no root key, or it is malformed.
        SettingsError: all users may read or replace the file.
        HostUnavailableError: the file cannot be read now.
    """
    directory = (os.environ if environ is None else environ).get("CREDENTIALS_DIRECTORY")
    if directory and _exists(credential := Path(directory, CREDENTIAL_NAME)):
        # systemd keeps the directory to the service; the mode of a file in it says nothing (ACLs widen it).
        return RootKey(material=_parse(_read(credential)[0], str(credential)), source=str(credential))
    if file is not None:
        return _from_file(file, mounts)
    if value:
        return RootKey(
            material=_parse(value.encode("utf-8", "replace"), "PHASESYNC_ROOT_KEY"),
            source="PHASESYNC_ROOT_KEY",
            warnings=(
                "the root key comes from an environment variable, which child processes and crash reports see; "
                "PHASESYNC_ROOT_KEY_FILE is safer",
            ),
        )
    if default_file is not None and _exists(default_file):
        return _from_file(default_file, mounts)
    raise KeyUnavailableError(
        "there is no root key",
        hint="phasesync init makes one; or set PHASESYNC_ROOT_KEY_FILE to the file that has it",
    )


def write_new_root_key(path: Path) -> RootKey:
    """
    Create a root key and write it to a new file of mode 0600; it is on disk when this returns.

    Raises:
        AlreadyExistsError: the path exists already; it is left alone.
        SettingsError: it cannot be written.
    """
    key = RootKey(material=secrets.token_bytes(KEY_BYTES), source=str(path))
    try:
        make_private_folder(path.parent)
        if path.is_symlink() or path.exists():
            raise AlreadyExistsError(f"{path} exists already; a root key is never overwritten")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)  # regardless of the umask and of ACLs
            file.write(base64.b64encode(key.material) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        _sync_directory(path.parent)
    except OSError as error:
        path.unlink(missing_ok=True)  # half a key would look like a damaged one
        raise _unwritable(path, error) from None
    return key


def _from_file(path: Path, mounts: Path) -> RootKey:
    data, status = _read(path)
    warnings = _check_mode(path, stat.S_IMODE(status.st_mode), mounts)
    return RootKey(material=_parse(data, str(path)), source=str(path), warnings=warnings)


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


def _exists(path: Path) -> bool:
    try:
        return file_exists(path)
    except UnusableFileError as error:
        raise _unreadable(path, error) from None


def _read(path: Path) -> tuple[bytes, os.stat_result]:
    try:
        return read_regular_file(path, most_bytes=_MAX_BYTES)
    except UnusableFileError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: UnusableFileError) -> HostUnavailableError | KeyUnavailableError:
    message = f"the root key file {path} cannot be read: {error.reason}"
    return HostUnavailableError(message) if error.passing else KeyUnavailableError(message)


def _parse(text: bytes, source: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise malformed_root_key(source) from None


def _unwritable(path: Path, error: OSError) -> HostUnavailableError | SettingsError:
    message = f"the root key cannot be written to {path}: {error.strerror}"
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
