"""
Worlds with a dynamic secret: see `tests/support/lease_world.py`.

On SQLite; `tests/contracts` shows that the store does the same on PostgreSQL.
"""

import pytest

from tests.support.lease_world import lease_emulator, lease_store, make_lease_world, world

__all__ = ["lease_emulator", "lease_store", "make_lease_world", "world"]


@pytest.fixture
def database_backend(request: pytest.FixtureRequest) -> str:
    """SQLite, unless a test asks for another or for both (`on_each_database`)."""
    return str(getattr(request, "param", "sqlite"))
