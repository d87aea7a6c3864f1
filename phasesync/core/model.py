"""Apps, environments and secrets, as frozen values. Objects at AWS are in `remote.py`."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NoReturn


class ValueType(StrEnum):
    """How to read the bytes of a secret value."""

    TEXT = "text"
    """UTF-8 text."""
    JSON = "json"
    """A JSON document, embedded as JSON in layout `json`."""
    BINARY = "binary"
    """Any bytes."""


class SecretValue:
    """
    A plaintext that hides itself: repr, str, format, pickle and JSON never show it.

    Only `reveal` and `reveal_text` return it. They have few, named call sites.
    """

    __slots__ = ("_data", "type")

    def __init__(self, data: bytes | str, type: ValueType = ValueType.TEXT) -> None:
        """
        Args:
            data: the bytes, or text that is stored as UTF-8.
            type: how to read them.
        """
        self._data = data.encode("utf-8") if isinstance(data, str) else data
        self.type = type

    def reveal(self) -> bytes:
        """Return the plaintext bytes."""
        return self._data

    def reveal_text(self) -> str:
        """Return the plaintext as text. UnicodeDecodeError if it is not UTF-8."""
        return self._data.decode("utf-8")

    def __len__(self) -> int:
        return len(self._data)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretValue):
            return NotImplemented
        return self.type == other.type and hmac.compare_digest(self._data, other._data)

    def __hash__(self) -> int:
        raise TypeError("a secret value is not hashable: its hash would reveal it")

    def __repr__(self) -> str:
        return "SecretValue(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret value cannot be pickled")


@dataclass(frozen=True, kw_only=True)
class App:
    """A named set of environments. `windows`: canonical texts of the maintenance windows of its syncs."""

    id: str
    name: str
    description: str
    created_at: datetime
    windows: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Environment:
    """
    One environment of an app.

    Attributes:
        revision: grows by one with every committed edit; 0 = never edited.
        keys: how many secrets it has now, in all folders.
        approvers: how many others have to approve a change; None: it is not protected.
    """

    id: str
    app_id: str
    app: str
    name: str
    revision: int
    keys: int
    approvers: int | None = None
    created_at: datetime

    @property
    def label(self) -> str:
        """`app/environment`, as the command line writes it."""
        return f"{self.app}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class SecretVersion:
    """One committed state of a secret key. `value` is None if the key was unset."""

    path: str
    key: str
    version: int
    value: SecretValue | None = field(repr=False)
    comment: str = field(repr=False)
    changed_at: datetime
    changed_by: str
    origin: str
    """The command that made it: set, unset, import, rollback, generate."""
    approved_by: str | None = None
    """Who approved it; None if its environment was not protected."""

    @property
    def type(self) -> ValueType | None:
        """Type of the value, None if the key was unset."""
        return None if self.value is None else self.value.type


@dataclass(frozen=True, kw_only=True)
class EnvironmentSnapshot:
    """
    All secrets of one environment at one revision.

    Attributes:
        secrets: (path, key) -> value.
    """

    environment_id: str
    app: str
    name: str
    revision: int
    secrets: Mapping[tuple[str, str], SecretValue] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class SecretWrite:
    """One key to set in an edit."""

    path: str
    key: str
    value: SecretValue
    comment: str | None = None
    """None keeps the comment it has."""
