"""The engine is tried on SQLite; `tests/contracts` shows that the store does the same on PostgreSQL."""

import pytest


@pytest.fixture
def database_backend(request: pytest.FixtureRequest) -> str:
    """SQLite, unless a test asks for another or for both (`on_each_database`)."""
    return str(getattr(request, "param", "sqlite"))
