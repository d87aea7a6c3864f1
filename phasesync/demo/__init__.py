"""
The tour and the sandbox: the real daemon beside an AWS emulator in this process. They leave nothing behind.

Needs the extra `phasesync[demo]`; call `require_emulator` before anything else is imported from here.
"""


def require_emulator(purpose: str) -> None:
    """Refuse if the extra `phasesync[demo]` is not installed: SettingsError. `purpose`: what needs it."""
    from phasesync.emulator import require_moto

    require_moto(purpose)
