"""Databases as former releases left them."""

from __future__ import annotations

import lzma
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.databases import fresh_postgres_database
from tests.support.postgres import PostgresServer
from tests.upgrade.origins import FIXTURES, Origin


@pytest.fixture
def fixture_url(
    database_backend: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[[Origin], str]]:
    """Return a function that gives the URL of a copy of the database that an origin left."""
    with ExitStack() as stack:

        def copy(origin: Origin) -> str:
            if database_backend == "sqlite":
                return f"sqlite:///{unpacked(origin, tmp_path)}"
            return stack.enter_context(_postgres_copy(origin, request))

        yield copy


def unpacked(origin: Origin, folder: Path) -> Path:
    """Write the SQLite file of an origin into a folder."""
    file = folder / f"{origin.name}.db"
    file.write_bytes(lzma.decompress((FIXTURES / f"{origin.name}.db.xz").read_bytes()))
    file.chmod(0o600)
    return file


@contextmanager
def _postgres_copy(origin: Origin, request: pytest.FixtureRequest) -> Iterator[str]:
    server: PostgresServer = request.getfixturevalue("postgres_server")
    for url in fresh_postgres_database(request, template=None):
        with server.connect(url.partition("@/")[2].partition("?")[0]) as connection:
            connection.execute(lzma.decompress((FIXTURES / f"{origin.name}.sql.xz").read_bytes()))
        yield url
