"""Settings read again while the daemon works: which ones take effect at once and which ones need a restart."""

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

from phasesync.settings.model import Settings, setting_names


@dataclass(frozen=True, kw_only=True)
class Reloaded:
    """
    The outcome of reading settings again.

    Attributes:
        settings: what is in effect from now on.
        applied: names of the settings that changed.
        needs_restart: names of those that differ from what is in effect, and stay so until a restart.
    """

    settings: Settings
    applied: tuple[str, ...]
    needs_restart: tuple[str, ...]


def take_over(in_effect: Settings, new: Settings, *, live: Set[str]) -> Reloaded:
    """
    Bring settings into effect as far as that goes.

    Args:
        in_effect: the settings so far.
        new: as they were read just now.
        live: names of the settings that may change at once.
    """
    different = [name for name, _ in setting_names() if _value(in_effect, name) != _value(new, name)]
    applied = tuple(name for name in different if name in live)
    settings = in_effect
    for name in applied:
        settings = _with(settings, name, _value(new, name))
    return Reloaded(
        settings=settings, applied=applied, needs_restart=tuple(name for name in different if name not in live)
    )


def _value(settings: Settings, name: str) -> Any:
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _with(settings: Settings, name: str, value: object) -> Settings:
    group, _, inner = name.partition(".")
    if not inner:
        return settings.model_copy(update={name: value})
    changed = getattr(settings, group).model_copy(update={inner: value})
    return settings.model_copy(update={group: changed})
