"""Applies settings that were read again while the daemon works: some take effect at once, others need a restart."""

from dataclasses import dataclass
from typing import Any, Final

from phasesync.settings.model import Settings, setting_names

LIVE_SETTINGS: Final = frozenset(
    {
        "log.level",
        "daemon.poll_interval_ms",
        "daemon.sweep_interval_s",
        "daemon.full_sweep_interval_s",
        "daemon.drain_s",
        "daemon.coalesce_ms",
        "daemon.windows",
        "metrics.per_sync",
        "notifications.mail_from",
        "notifications.smtp_password",
        "notifications.smtp_password_file",
        "notifications.smtp_url",
        "retention.runs_days",
        "retention.audit_change_days",
        "retention.audit_approval_days",
        "retention.audit_reveal_days",
        "retention.audit_lease_days",
        "retention.audit_access_days",
        "retention.audit_refusal_days",
    }
)
"""
The settings that take effect without a restart: the service sets the log level and the rhythms of polls and sweeps
anew, and the others are read whenever they are needed.
"""


@dataclass(frozen=True, kw_only=True)
class ReloadResult:
    """
    What a reload changed.

    Attributes:
        settings: those in effect from now on.
        applied: names of the settings that changed.
        needs_restart: names of the settings that differ from those in effect until a restart.
    """

    settings: Settings
    applied: tuple[str, ...]
    needs_restart: tuple[str, ...]


def apply_reload(in_effect: Settings, new: Settings) -> ReloadResult:
    """
    Return the settings in effect after a reload.

    Args:
        in_effect: the settings so far.
        new: the settings as they were just read.
    """
    different = [name for name, _ in setting_names() if _value(in_effect, name) != _value(new, name)]
    applied = tuple(name for name in different if name in LIVE_SETTINGS)
    settings = in_effect
    for name in applied:
        settings = _with(settings, name, _value(new, name))
    return ReloadResult(
        settings=settings, applied=applied, needs_restart=tuple(name for name in different if name not in LIVE_SETTINGS)
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
