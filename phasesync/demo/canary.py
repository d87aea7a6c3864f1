"""
Canaries: values and names that no other text contains, and a search for them in what phasesync leaves behind.

A search knows the forms in which a value leaks: as it is, base64 (at any offset), percent-encoded, JSON-escaped, hex.
Must not print a canary: what it returns says where and in which form, not what.
"""

import base64
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, quote_plus

CANARY_VALUE: Final = 'cnry-V4lue"7f3a/\\ü+=&-9d21'
"""A secret value with a character for every encoding to trip over."""
CANARY_KEY: Final = "CNRY_KEY_5be1c9"
"""The name of a secret key; may appear in plans and messages, not in the database as plain text."""
CANARY_COMMENT: Final = "cnry-c0mment-83aa10"
CANARY_ACCESS_KEY_ID: Final = "AKIACNRY7Q2M4XWZ5TLP"
CANARY_SECRET_ACCESS_KEY: Final = "cnry/S3cretAccessKey+0123456789abcdefXYZ"

_SHORTEST_PIECE: Final = 12
"""A base64 piece shorter than this could stand somewhere by chance."""


@dataclass(frozen=True)
class Sighting:
    """Where a canary was found: the place, the number of the canary in the call's order, and its form."""

    where: str
    canary: int
    form: str


def forms_of(canary: str) -> dict[str, bytes]:
    """Return form -> bytes to search for; forms that look like the plain one are left out."""
    plain = canary.encode()
    forms = {
        "plain": plain,
        "percent": quote(canary, safe="").encode(),
        "percent, slashes kept": quote(canary).encode(),
        "form": quote_plus(canary).encode(),
        "json": json.dumps(canary)[1:-1].encode(),
        "json, utf-8": json.dumps(canary, ensure_ascii=False)[1:-1].encode(),
        "json in json": json.dumps(json.dumps(canary)[1:-1])[1:-1].encode(),
        # So a payload stands in the body of a request to AWS.
        "json, utf-8 in json": json.dumps(json.dumps(canary, ensure_ascii=False)[1:-1])[1:-1].encode(),
        "repr": repr(canary)[1:-1].encode(),
        "bytes repr": repr(plain)[2:-1].encode(),
        "hex": plain.hex().encode(),
        "HEX": plain.hex().upper().encode(),
        "utf-16": canary.encode("utf-16-le"),
    }
    # Inside of a longer text base64 depends on the offset; what surrounds the value spoils the first and last letters.
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + plain)
        piece = encoded[(0, 2, 3)[offset] : (len(plain) + offset) * 8 // 6]
        if len(piece) >= _SHORTEST_PIECE:
            forms[f"base64 at {offset}"] = piece
            forms[f"base64url at {offset}"] = piece.replace(b"+", b"-").replace(b"/", b"_")
    distinct: dict[bytes, str] = {}
    for form, needle in forms.items():
        distinct.setdefault(needle, form)
    return {form: needle for needle, form in distinct.items()}


def find(data: bytes | str, canaries: Iterable[str], *, where: str = "the text") -> list[Sighting]:
    """
    Search bytes or text.

    Args:
        data: what to search.
        canaries: what to look for.
        where: a name for the place.

    Returns:
        Every form of every canary that occurs; empty = clean.
    """
    haystack = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
    return [
        Sighting(where, number, form)
        for number, canary in enumerate(canaries)
        for form, needle in forms_of(canary).items()
        if needle in haystack
    ]


def find_in_tree(folder: Path, canaries: Iterable[str]) -> list[Sighting]:
    """Search the names and the contents of all files under a folder; a file that vanishes meanwhile is clean."""
    wanted = tuple(canaries)
    sightings: list[Sighting] = []
    for path in _files(folder):
        sightings += find(os.fsencode(path), wanted, where=f"name of {path.parent}")
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue
        sightings += find(content, wanted, where=str(path))
    return sightings


def assert_absent(data: bytes | str, canaries: Iterable[str], *, where: str = "the text") -> None:
    """Raise AssertionError, which names place and form but not the value, if a canary occurs."""
    sightings = find(data, canaries, where=where)
    if sightings:
        raise AssertionError(f"a secret leaked: {sightings}")


def _files(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        yield from (Path(root, name) for name in sorted(names))
