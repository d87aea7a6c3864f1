"""Installations under hostile conditions, and what their daemons say of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from phasesync.emulator import AwsError
from tests.e2e.conftest import assert_no_value_was_read, installation, values_of, versions_of
from tests.support.aws import Aws
from tests.support.daemon import Daemon
from tests.support.hostile import small_disk
from tests.support.installation import Installation
from tests.support.metrics import scrape
from tests.support.waiting import wait_until

__all__ = ["installation"]


@pytest.fixture(autouse=True)
def _installed_commands(request: pytest.FixtureRequest) -> None:
    """Commands are programs of their own: only so are they given another clock."""
    if "installation" in request.fixturenames:
        request.getfixturevalue("installation").preloaded = False


@pytest.fixture
def small(tmp_path: Path, migrated_sqlite_template: Path, aws: Aws) -> Iterator[Installation]:
    """An installation with its database and the log of its daemon on a disk of 8 MB; `folder / "disk"` is it."""
    disk = tmp_path / "disk"
    with small_disk(disk, megabytes=8):
        file = disk / "phasesync.db"
        file.write_bytes(migrated_sqlite_template.read_bytes())
        file.chmod(0o600)
        made = Installation(tmp_path, f"sqlite:///{file}", aws.environ)
        (tmp_path / "daemon-1.log").symlink_to(disk / "daemon-1.log")
        made.initialise()
        yield made
        made.close()
    assert_no_value_was_read(aws)


def says(daemon: Daemon, *reasons: str, healthy: bool | None = True) -> dict[str, Any]:
    """
    Wait until readiness is refused for a reason, or for one that may have taken its place; return the answer.

    Health says the same, and is `healthy`; None: whatever it is.
    """
    answers: list[dict[str, Any]] = []

    def refused() -> bool:
        status, body = daemon.get("/readyz")
        answers.append(body)
        return status == 503 and any(reason in str(body.get("reason")) for reason in reasons)

    try:
        wait_until(refused, what=f"/readyz = 503 {' or '.join(reasons)}")
    except AssertionError as error:
        raise AssertionError(f"{error}; it said {answers[-1:]}") from None
    status, body = daemon.get("/healthz")
    assert healthy is None or (status == 200) is healthy, body
    return answers[-1]


def measures(daemon: Daemon, name: str, value: float, **labels: str) -> None:
    """Wait until a metric has a value, which is what an alert sees."""
    seen: list[float | None] = []

    def has_it() -> bool:
        seen.append(scrape(daemon.address).value(name, **labels))
        return seen[-1] == value

    try:
        wait_until(has_it, what=f"{name} {labels} = {value}")
    except AssertionError as error:
        raise AssertionError(f"{error}; it was {seen[-1:]}") from None


def counts(daemon: Daemon, name: str, **labels: str) -> None:
    """Wait until a counter with these labels, and others, has counted something."""
    wait_until(lambda: scrape(daemon.address).total(name, **labels) > 0, what=f"{name} {labels} > 0")


def arrives(aws: Aws, name: str, value: str) -> None:
    """Wait until readers of a secret get an edit; it may not be there yet."""

    def has_arrived() -> bool:
        try:
            return values_of(aws, name)["URL"] == value
        except AwsError as error:
            if error.code != "ResourceNotFoundException":
                raise
            return False

    wait_until(has_arrived, what=f"{value} at AWS")


def assert_versions(aws: Aws, name: str, count: int) -> None:
    """A secret had exactly so many versions, ever: no write was made twice."""
    assert len(versions_of(aws, name)) == count
