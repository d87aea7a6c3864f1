"""
The manifest of a backup: what the file holds, and a keyed digest that proves it. It lies beside the file as
`FILE.manifest.json`.

MACs in a database prove its rows. They do not prove that a file is whole, or the one that was made at a certain time:
the manifest does. It holds no names of what is in the database, and nothing that is encrypted there.
"""

import hmac
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from phasesync.errors import CiphertextError, SettingsError
from phasesync.host_files import UnusableFileError, file_exists, read_regular_file
from phasesync.store.key_ring import KeyRing

FORMAT: Final = "phasesync-backup-1"
SUFFIX: Final = ".manifest.json"
MOST_BYTES: Final = 1024 * 1024
"""A manifest has a line for each table."""

_PURPOSE: Final = "backup manifest"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """
    What a backup holds.

    Attributes:
        instance_id: the installation.
        schema: revision of the file's schema.
        release: that made the backup.
        source: kind of the database that it is of: `sqlite` or `postgresql`.
        made_at: by the clock of that database.
        root_key_ids: the root keys that its data keys are wrapped under.
        size: bytes of the file.
        sha256: of the file, in hex.
        rows: table -> how many rows.
        digests: table -> digest of its rows, the same on every database; none if the schema is not the release's own.
        mac: keyed digest of all of this, in hex; None: it was made without the root key.
    """

    instance_id: str
    schema: str
    release: str
    source: str
    made_at: datetime
    root_key_ids: tuple[str, ...]
    size: int
    sha256: str
    rows: Mapping[str, int]
    digests: Mapping[str, str] = field(default_factory=dict)
    mac: str | None = None


def manifest_of(file: Path) -> Path:
    """Return where the manifest of a backup lies."""
    return file.with_name(file.name + SUFFIX)


def mac_of(manifest: Manifest, keys: KeyRing) -> str:
    """Return the keyed digest of a manifest."""
    return keys.digests.digest(_PURPOSE, _canonical(manifest)).hex()


def check_mac(manifest: Manifest, keys: KeyRing) -> bool:
    """Return whether a manifest has a MAC. CiphertextError if that is not the one of this installation."""
    if manifest.mac is None:
        return False
    if not hmac.compare_digest(manifest.mac, mac_of(manifest, keys)):
        raise CiphertextError(
            "the manifest of the backup does not authenticate: it was altered, or belongs to another installation",
            hint="take another backup, with the manifest that was made with it",
        )
    return True


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return a manifest as it lies beside a backup."""
    return (json.dumps(_document(manifest) | {"mac": manifest.mac}, indent=2) + "\n").encode()


def parse_manifest(data: bytes, *, name: str) -> Manifest:
    """Read a manifest; it is not authenticated. SettingsError names it."""
    try:
        document = json.loads(data)
        if document["format"] != FORMAT:
            raise SettingsError(
                f"{name} has another form than this release of phasesync knows",
                hint="use the release that made the backup, or a newer one",
            )
        file, tables = document["file"], document["tables"]
        return Manifest(
            instance_id=_text(document["instance_id"]),
            schema=_text(document["schema"]),
            release=_text(document["release"]),
            source=_text(document["source"]),
            made_at=datetime.fromisoformat(_text(document["made_at"])).astimezone(UTC),
            root_key_ids=tuple(map(_text, document["root_key_ids"])),
            size=int(file["bytes"]),
            sha256=_text(file["sha256"]),
            rows={_text(table["table"]): int(table["rows"]) for table in tables},
            digests={_text(table["table"]): _text(table["digest"]) for table in tables if table["digest"] is not None},
            mac=None if document["mac"] is None else _text(document["mac"]),
        )
    except (KeyError, TypeError, ValueError):
        raise SettingsError(
            f"{name} is no manifest of a backup",
            hint="bring the one that was made with the backup, or move this one away",
        ) from None


def read_manifest(file: Path) -> Manifest | None:
    """Return the manifest beside a backup; None if there is none. SettingsError."""
    path = manifest_of(file)
    try:
        if not file_exists(path):
            return None
        data, _ = read_regular_file(path, most_bytes=MOST_BYTES)
    except UnusableFileError as error:
        raise SettingsError(f"{path} cannot be read: {error.reason}") from None
    return parse_manifest(data, name=str(path))


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write a manifest with mode 0600, whole or not at all; it is on disk when this returns. OSError."""
    partial = path.with_name(f".{path.name}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(manifest_bytes(manifest))
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _document(manifest: Manifest) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "instance_id": manifest.instance_id,
        "schema": manifest.schema,
        "release": manifest.release,
        "source": manifest.source,
        "made_at": manifest.made_at.astimezone(UTC).isoformat(),
        "root_key_ids": list(manifest.root_key_ids),
        "file": {"bytes": manifest.size, "sha256": manifest.sha256},
        "tables": [
            {"table": table, "rows": rows, "digest": manifest.digests.get(table)}
            for table, rows in sorted(manifest.rows.items())
        ],
    }


def _canonical(manifest: Manifest) -> bytes:
    return json.dumps(_document(manifest), sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
