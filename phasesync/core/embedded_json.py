"""
A JSON object inside of a text, as tools that read secrets look for one.

Lenient on purpose, unlike `canonical.py`: it answers what other tools will see, never what is written.
"""

import json
from typing import Any


def object_in(text: str) -> dict[str, Any] | None:
    """Return the JSON object that a whole text is; None where it is something else, or nested too deeply to read."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
