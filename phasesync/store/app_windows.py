"""The maintenance windows of an app, in `apps.windows`: canonical texts, encrypted so that none is forged."""

from collections.abc import Sequence
from typing import Any

from phasesync.store.key_ring import CREDENTIALS_KEY, UNVERSIONED, KeyRing


def encrypt_windows(keys: KeyRing, app_id: str, windows: Sequence[str]) -> bytes | None:
    """Return what the column holds; None if there are no windows."""
    if not windows:
        return None
    return keys.encrypt_json(keys.data_key(CREDENTIALS_KEY), windows_context(app_id), list(windows))


def decrypt_windows(keys: KeyRing, app_id: str, ciphertext: Any) -> tuple[str, ...]:
    """Return the texts in the column. CiphertextError."""
    if ciphertext is None:
        return ()
    if not isinstance(ciphertext, bytes):  # SQLite stores a value of any type in any column.
        return keys.decrypt_json(tuple[str, ...], windows_context(app_id), ciphertext)
    return keys.decrypt_json_once(tuple[str, ...], windows_context(app_id), ciphertext)


def windows_context(app_id: str) -> tuple[str, ...]:
    """Return what the windows of an app are bound to."""
    return ("apps", app_id, "windows", UNVERSIONED)
