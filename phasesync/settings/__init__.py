"""Settings: their names, defaults and bounds (`model.py`), and how they are read (`load.py`)."""

from phasesync.settings.plugins import without_plugins

with without_plugins():
    from phasesync.settings.load import LoadedSettings, load_settings
    from phasesync.settings.model import Settings

__all__ = ["LoadedSettings", "Settings", "load_settings"]
