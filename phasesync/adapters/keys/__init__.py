"""The root key, and envelope encryption of columns under it."""

from phasesync.adapters.keys.key_ring import EnvelopeKeyRing
from phasesync.adapters.keys.root_key import RootKey, load_root_key, write_new_root_key

__all__ = ["EnvelopeKeyRing", "RootKey", "load_root_key", "write_new_root_key"]
