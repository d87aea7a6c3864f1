"""An installation for each test, and a look at AWS that the daemon's own calls can be told from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support.aws import Aws
from tests.support.installation import ACCESS_KEY_ID, Installation

READS = frozenset({"GetSecretValue", "BatchGetSecretValue"})
"""What the daemon's role has no right to, because the daemon never does it."""


@pytest.fixture
def installation(tmp_path: Path, migrated_database_url: str, aws: Aws) -> Iterator[Installation]:
    """
    A database with keys and nothing in it. At the end no daemon is left, and none has read a value from AWS.

    Its commands begin after their imports: test_main_job.py and test_start.py show the installed command.
    """
    made = Installation(tmp_path, migrated_database_url, aws.environ)
    made.preloaded = True
    made.initialise()
    yield made
    made.close()
    assert_no_value_was_read(aws)


def assert_no_value_was_read(aws: Aws) -> None:
    """No GetSecretValue ever came from phasesync."""
    asked = {one.name for one in aws.server.operations if one.access_key_id == ACCESS_KEY_ID}
    assert not asked & READS


def versions_of(aws: Aws, name: str) -> list[str]:
    """Return the ids of all versions that a secret ever had."""
    answer = aws.server.outside.call("ListSecretVersionIds", SecretId=name, IncludeDeprecated=True)
    return [version["VersionId"] for version in answer["Versions"]]


def values_of(aws: Aws, name: str) -> dict[str, str]:
    """Return what readers of a secret get."""
    found: dict[str, str] = json.loads(aws.secret_text(name))
    return found


def dump(database_url: str) -> Iterator[tuple[str, bytes]]:
    """Yield every table of a PostgreSQL database as JSON; BYTEA is hexadecimal there. Both forms are searched for."""
    engine = sa.create_engine(database_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        tables = sa.inspect(engine).get_table_names()
        assert len(tables) > 10
        for table in tables:
            rows = connection.exec_driver_sql(f'SELECT to_jsonb("{table}")::text FROM "{table}"').scalars()
            yield table, "\n".join(rows).encode()
