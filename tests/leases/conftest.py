"""Worlds with a dynamic secret, on each database: see `tests/support/lease_world.py`."""

from tests.support.lease_world import lease_emulator, make_lease_world, world

__all__ = ["lease_emulator", "make_lease_world", "world"]
