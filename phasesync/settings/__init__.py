"""Settings: what can be set (`model.py`) and where it comes from (`load.py`)."""

from phasesync.settings.load import LoadedSettings, load_settings
from phasesync.settings.model import Settings

__all__ = ["LoadedSettings", "Settings", "load_settings"]
