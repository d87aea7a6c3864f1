"""`phasesync db migrate` of a database that gets its MACs: with the root key alone."""

import base64
import json
from pathlib import Path

import pytest

from phasesync.store import migrate
from tests.cli.conftest import CommandLine
from tests.support.stores import OTHER_ROOT_KEY, open_test_store, put, write


@pytest.fixture
def former(phasesync: CommandLine, tmp_path: Path) -> str:
    """The URL of an installation's database, at the schema of the release before."""
    phasesync.done("init")
    (file,) = tmp_path.rglob("phasesync.db")
    url = f"sqlite:///{file}"
    store = open_test_store(url)
    put(store, write("URL", "kept"))
    store.close()
    migrate.downgrade(url, "0002")
    return url


def test_it_makes_the_macs_with_the_root_key(phasesync: CommandLine, former: str) -> None:
    refused = phasesync("secrets", "list", "shop/production")
    assert (refused.exit_code, "phasesync db migrate" in refused.stderr) == (6, True)
    phasesync.done("db", "migrate")
    phasesync.done("db", "migrate")
    got = phasesync.done("secrets", "get", "shop/production", "URL", "--reveal")
    assert "kept" in got.stdout


@pytest.mark.parametrize("key", ["none", "another"])
def test_without_the_root_key_it_changes_nothing_and_says_so(
    phasesync: CommandLine, former: str, key: str, tmp_path: Path
) -> None:
    file = tmp_path / "root.key"
    right = file.read_bytes()
    if key == "none":
        file.rename(tmp_path / "away")
    else:
        file.write_bytes(base64.b64encode(OTHER_ROOT_KEY.material))

    done = phasesync("db", "migrate")

    assert (done.exit_code, "root key" in done.stderr) == (6, True)
    assert migrate.status(former).current == "0002"
    file.write_bytes(right)
    file.chmod(0o600)
    phasesync.done("db", "migrate")
    assert migrate.status(former).is_current


def test_the_exit_code_of_a_check_says_whether_a_migration_is_needed(phasesync: CommandLine, tmp_path: Path) -> None:
    (file,) = tmp_path.rglob("phasesync.db")
    migrate.downgrade(f"sqlite:///{file}", "0006")

    needed = phasesync("db", "migrate", "--check", "-o", "json")
    document = json.loads(needed.stdout)
    assert (needed.exit_code, document["needed"], document["former_daemons"]) == (3, True, "go on")
    assert [each["revision"] for each in document["migrations"]] == ["0007"]
    told = phasesync("db", "migrate", "--check")
    assert (told.exit_code, "daemons of the release of schema 0006 go on" in told.stderr) == (3, True)
    page = (Path(__file__).parents[2] / "docs" / "upgrade.md").read_text()
    shown = [line.strip() for line in page.split("$ phasesync db migrate --check\n")[1].split("```")[0].splitlines()]
    assert [line.strip() for line in told.stdout.splitlines()] == shown[:2]
    assert migrate.status(f"sqlite:///{file}").current == "0006"

    phasesync.done("db", "migrate")
    assert phasesync.json("db", "migrate", "--check")["needed"] is False


def test_a_check_of_a_database_that_is_not_there_makes_none(phasesync: CommandLine, tmp_path: Path) -> None:
    (file,) = tmp_path.rglob("phasesync.db")
    file.unlink()

    asked = phasesync("db", "migrate", "--check", "-o", "json")

    assert (asked.exit_code, json.loads(asked.stdout)["current"]) == (3, None)
    assert list(tmp_path.rglob("*.db")) == []
