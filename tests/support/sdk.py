"""
The AWS SDK in tests: the models of its services are read once for a process.

Each session of the SDK reads them anew, some megabytes of JSON, and thousands of sessions are made here.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import botocore.loaders

_read_model = botocore.loaders.JSONFileLoader.load_file


@cache
def _read_once(path: str) -> Any:
    return _read_model(botocore.loaders.JSONFileLoader(), path)


def _from_memory(_self: botocore.loaders.JSONFileLoader, file_path: str) -> Any:
    return _read_once(file_path)


def keep_models() -> None:
    """Keep every model from now on."""
    botocore.loaders.JSONFileLoader.load_file = _from_memory  # type: ignore[method-assign, assignment]
