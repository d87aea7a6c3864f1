"""
The root key: 32 bytes as base64, from a file, a systemd credential or the environment.

Finds, checks and makes it. Never logs it, never puts it into an error; what it unlocks is `key_ring.py`'s.
"""

import base64
import binascii
import hmac
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from phasesync.errors import AlreadyExistsError, KeyUnavailableError, SettingsError

KEY_BYTES: Final = 32
CREDENTIAL_NAME: Final = "root_key"
"""Name in the unit file: `LoadCredential=root_key:/etc/phasesync/root.key`."""

_READ_LIMIT_BYTES: Final = 4096
"""A key file has 45 bytes; a wrong path may lead to anything."""


@dataclass(frozen=True, kw_only=True)
class RootKey:
    """
    A root key and where it came from. Neither repr nor str shows it.

    Attributes:
        source: for the operator: a path or the name of a variable.
        warnings: what should be better about the source; empty = nothing.
    """

    material: bytes = field(repr=False)
    source: str
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.material) != KEY_BYTES:
            raise _malformed(self.source)

    @property
    def id(self) -> str:
        """Short keyed digest of the key: names it, tells nothing of it."""
        return hmac.digest(self.material, b"phasesync root key id", "sha256")[:6].hex()


def load_root_key(
    *,
    file: Path | None = None,
    value: str | None = None,
    default_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> RootKey:
    """
    Return the root key from the first of: the systemd credential, `file`, `value`, `default_file`.

    Args:
        file: where the settings say that it is; must exist.
        value: base64 from PHASESYNC_ROOT_KEY; works, with a warning.
        default_file: where `init` puts it; may be missing.
        environ: where CREDENTIALS_DIRECTORY is looked up; None = the process's environment.

    Raises:
        KeyUnavailableError: there is none, or what is there is no root key.
        SettingsError: the file may be read or replaced by everybody.
    """
    directory = (os.environ if environ is None else environ).get("CREDENTIALS_DIRECTORY")
    if directory and (credential := Path(directory, CREDENTIAL_NAME)).exists():
        # systemd keeps the directory to the service; the mode of a file in it says nothing (ACLs widen it).
        return RootKey(material=_parse(_read(credential), str(credential)), source=str(credential))
    if file is not None:
        return _from_file(file)
    if value:
        return RootKey(
            material=_parse(value.encode("utf-8", "replace"), "PHASESYNC_ROOT_KEY"),
            source="PHASESYNC_ROOT_KEY",
            warnings=(
                "the root key comes from an environment variable, which child processes and crash reports see; "
                "PHASESYNC_ROOT_KEY_FILE is safer",
            ),
        )
    if default_file is not None and default_file.exists():
        return _from_file(default_file)
    raise KeyUnavailableError(
        "there is no root key",
        hint="phasesync init makes one; or set PHASESYNC_ROOT_KEY_FILE to the file that has it",
    )


def write_new_root_key(path: Path) -> RootKey:
    """
    Make a root key and write it to a new file, mode 0600, on disk before this returns.

    Raises:
        AlreadyExistsError: something is there already; it is left alone.
        SettingsError: it cannot be written.
    """
    key = RootKey(material=secrets.token_bytes(KEY_BYTES), source=str(path))
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.is_symlink() or path.exists():
            raise AlreadyExistsError(f"{path} exists already; a root key is never overwritten")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)  # whatever the umask took away or an ACL added
            file.write(base64.b64encode(key.material) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        _sync_directory(path.parent)
    except OSError as error:
        path.unlink(missing_ok=True)  # half a key would be taken for a damaged one
        raise _unwritable(path, error) from None
    return key


def _from_file(path: Path) -> RootKey:
    data = _read(path)
    return RootKey(material=_parse(data, str(path)), source=str(path), warnings=_check_mode(path))


def _check_mode(path: Path) -> tuple[str, ...]:
    """
    Refuse a file that everybody may read or replace; return warnings for one that its group may.

    A group is how Kubernetes gives a secret volume to a pod that is not root (fsGroup makes it 0440), so it is not
    refused. The file itself counts, not the symlink that Kubernetes puts in front of it.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & stat.S_IRWXO:
        raise SettingsError(
            f"the root key file {path} may be used by everybody on this machine (mode {mode:04o})",
            hint=f"chmod 600 {path}; in Kubernetes set defaultMode: 0400 on the secret volume",
        )
    if mode & stat.S_IRWXG:
        return (f"the root key file {path} may be used by its group (mode {mode:04o}); 0600 or 0400 is safer",)
    return ()


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_READ_LIMIT_BYTES)
    except OSError as error:
        raise KeyUnavailableError(f"the root key file {path} cannot be read: {error.strerror}") from None


def _parse(text: bytes, source: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise _malformed(source) from None


def _unwritable(path: Path, error: OSError) -> SettingsError:
    return SettingsError(
        f"the root key cannot be written to {path}: {error.strerror}",
        hint="choose another place with PHASESYNC_ROOT_KEY_FILE, or correct the permissions",
    )


def _malformed(source: str) -> KeyUnavailableError:
    return KeyUnavailableError(f"{source} does not hold a root key: {KEY_BYTES} bytes as base64 are expected")


def _sync_directory(path: Path) -> None:
    """Make the new name itself survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
