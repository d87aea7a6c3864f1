"""
Which of the places that may have a root key is used: the systemd credential, the file, the environment.

AWS KMS is not among them: its wrapped key lies in the database, so whoever opens the database asks `kms.py`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from phasesync.adapters.root_keys.files import key_file_exists, next_file_of, parse_key, read_file, read_key_file
from phasesync.errors import KeyUnavailableError
from phasesync.host_files import MOUNTS
from phasesync.store.key_ring import RootKey

CREDENTIAL_NAME: Final = "root_key"
"""Name in the unit file: `LoadCredential=root_key:/etc/phasesync/root.key`."""

NEXT_CREDENTIAL_NAME: Final = "root_key_next"
"""Name of the credential with the key that is going to take the place of `root_key`."""

VARIABLE: Final = "PHASESYNC_ROOT_KEY"
NEXT_VARIABLE: Final = "PHASESYNC_ROOT_KEY_NEXT"

CREDENTIAL: Final = "systemd-credential"
ENVIRONMENT: Final = "environment"


def load_root_key(
    *,
    file: Path | None = None,
    value: str | None = None,
    default_file: Path | None = None,
    identity_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    mounts: Path = MOUNTS,
) -> RootKey:
    """
    Return the root key from the first of these that has one: the systemd credential, `file`, `value`, `default_file`.

    Args:
        file: from the settings; may be missing if another place has the key, as before it is moved into the file.
        value: base64 from PHASESYNC_ROOT_KEY; accepted with a warning.
        default_file: where `init` writes it; may be missing.
        identity_file: has the identity for age files.
        environ: has CREDENTIALS_DIRECTORY; None means the environment of the process.
        mounts: the kernel's list of mounts.

    Raises:
        KeyUnavailableError: there is no root key, or it is malformed.
        SettingsError: all users may read or replace the file.
        HostUnavailableError: the file cannot be read now.
    """
    found = find_root_key(
        file=file, value=value, default_file=default_file, identity_file=identity_file, environ=environ, mounts=mounts
    )
    if found is not None:
        return found
    if file is not None:
        return read_key_file(file, identity_file=identity_file, mounts=mounts)  # It says why it cannot be read.
    raise KeyUnavailableError(
        "there is no root key",
        hint="phasesync init makes one; or set PHASESYNC_ROOT_KEY_FILE to the file that has it",
    )


def find_root_key(
    *,
    file: Path | None = None,
    value: str | None = None,
    default_file: Path | None = None,
    identity_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    mounts: Path = MOUNTS,
) -> RootKey | None:
    """Return the root key as `load_root_key` does, or None if no place has one."""
    if (from_systemd := _credential(CREDENTIAL_NAME, environ)) is not None:
        return from_systemd
    if file is not None and key_file_exists(file):
        return read_key_file(file, identity_file=identity_file, mounts=mounts)
    if value:
        return _from_variable(value, VARIABLE)
    if default_file is not None and key_file_exists(default_file):
        return read_key_file(default_file, identity_file=identity_file, mounts=mounts)
    return None


def load_next_root_keys(
    *,
    file: Path | None = None,
    value: str | None = None,
    identity_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    mounts: Path = MOUNTS,
) -> list[RootKey]:
    """
    Return the root keys that are going to take the place of the current one, from every place that has one.

    Args:
        file: where the current key is, or would be; the next one lies beside it.
        value: base64 from PHASESYNC_ROOT_KEY_NEXT.

    The others, and Raises: as for `load_root_key`; a place may be empty.
    """
    found = []
    if (from_systemd := _credential(NEXT_CREDENTIAL_NAME, environ)) is not None:
        found.append(from_systemd)
    if file is not None and key_file_exists(beside := next_file_of(file)):
        found.append(read_key_file(beside, identity_file=identity_file, mounts=mounts))
    if value:
        found.append(_from_variable(value, NEXT_VARIABLE))
    return found


def _credential(name: str, environ: Mapping[str, str] | None) -> RootKey | None:
    directory = (os.environ if environ is None else environ).get("CREDENTIALS_DIRECTORY")
    if not directory or not key_file_exists(credential := Path(directory, name)):
        return None
    # systemd keeps the directory to the service; the mode of a file in it says nothing (ACLs widen it).
    material = parse_key(read_file(credential)[0], str(credential))
    return RootKey(material=material, source=str(credential), kind=CREDENTIAL)


def _from_variable(value: str, variable: str) -> RootKey:
    return RootKey(
        material=parse_key(value.encode("utf-8", "replace"), variable),
        source=variable,
        kind=ENVIRONMENT,
        warnings=(
            "the root key comes from an environment variable, which child processes and crash reports see; "
            "PHASESYNC_ROOT_KEY_FILE is safer",
        ),
    )
