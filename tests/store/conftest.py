"""The store under test, on each database."""

from collections.abc import Iterator

import pytest

from phasesync.store import Store
from tests.support.stores import open_test_store


@pytest.fixture
def store(migrated_database_url: str) -> Iterator[Store]:
    """An initialised store on a database of its own."""
    opened = open_test_store(migrated_database_url)
    yield opened
    opened.close()
