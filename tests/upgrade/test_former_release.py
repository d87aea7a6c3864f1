"""The release before this one works on with a database of this release, and the other way round."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from phasesync.emulator.errors import AwsError
from phasesync.store import migrate, open_database
from phasesync.store.authenticity import authenticate_all
from phasesync.store.key_ring import RootKey
from tests.e2e.conftest import values_of, versions_of
from tests.support.aws import REGION, Aws
from tests.support.installation import Installation
from tests.support.stores import opens_with, write_root_key
from tests.support.waiting import wait_until
from tests.upgrade.former import FormerCommands, install_release
from tests.upgrade.origins import has_commit, releases
from tests.upgrade.policies import called_actions, printed_actions

FORMER = releases()[-1]
NAME = "shop/production"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(not has_commit(FORMER.commit), reason="this is no clone with the commit of the former release"),
]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The former release, from its wheel."""
    return install_release(FORMER, tmp_path_factory.mktemp("former"))


@pytest.fixture
def installation(tmp_path: Path, database_url: str, aws: Aws) -> Iterator[Installation]:
    """An installation with an empty database; its commands are those of this release, in this process."""
    made = Installation(tmp_path, database_url, aws.environ)
    made.in_process = True
    write_root_key(tmp_path / "root.key")
    yield made
    made.close()


@pytest.fixture
def former(release: Path, installation: Installation) -> Iterator[FormerCommands]:
    """The command line of the former release, with the same settings."""
    with FormerCommands(release, installation.environ) as commands:
        assert commands.run("--version").split()[-1] == FORMER.version
        yield commands


def fill(run: Any, folder: Path) -> None:
    """Make a sync and a dynamic secret, with the commands of one of the two."""
    run("apps", "add", "shop")
    run("envs", "add", NAME)
    run("secrets", "set", NAME, "URL", "-", stdin=b"first")
    run("credentials", "add", "aws", "--type", "ambient", "--region", REGION)
    run("syncs", "add", "web", "--env", NAME, "--credential", "aws", "--secret-name", NAME)
    policy = folder / "policy.json"
    policy.write_text(
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:ListAllMyBuckets","Resource":"*"}]}'
    )
    recipe = ("--env", NAME, "--credential", "aws", "--inline-policy", str(policy))
    run("dynamic", "add", "ci", *recipe, "--default-ttl", "1h", "--max-ttl", "8h")


def test_the_former_release_works_with_a_database_of_this_one(
    former: FormerCommands, installation: Installation, aws: Aws, tmp_path: Path
) -> None:
    installation.done("init")
    fill(lambda *args, stdin=b"": installation.done(*args, stdin=stdin.decode()), tmp_path)
    installation.done("syncs", "run", "web")
    lease = installation.json("leases", "issue", "ci")
    installation.done("keys", "rotate-data")
    installation.done("keys", "rotate-root")

    # It reads what this release wrote, edits, writes it to AWS, and issues and revokes leases.
    assert former.json("db", "status")["is_current"] is True
    assert former.json("secrets", "get", NAME, "URL", "--reveal")["value"] == "first"
    assert former.json("syncs", "run", "web")["outcome"] == "unchanged"
    former.run("secrets", "set", NAME, "URL", "-", stdin=b"second")
    assert former.json("syncs", "run", "web")["outcome"] == "applied"
    assert values_of(aws, NAME) == {"URL": "second"}
    former.run("leases", "revoke", lease["id"])
    later = former.json("leases", "issue", "ci")
    assert [each["id"] for each in former.json("leases", "list")["items"]] == [later["id"]]

    # This release goes on with what the former one wrote.
    assert installation.json("secrets", "get", NAME, "URL", "--reveal")["value"] == "second"
    assert installation.json("syncs", "run", "web")["outcome"] == "unchanged"
    assert {each["id"]: each["status"] for each in installation.leases().values()} == {
        lease["id"]: "revoked",
        later["id"]: "active",
    }
    installation.done("secrets", "set", NAME, "URL", "-", stdin="third")
    assert installation.json("syncs", "run", "web")["outcome"] == "applied"
    installation.done("leases", "revoke", later["id"])
    assert len(versions_of(aws, NAME)) == 3, "one for each edit, and none because the release was another one"
    assert_all_authentic(installation)


def assert_all_authentic(installation: Installation) -> None:
    key = RootKey(material=base64.b64decode((installation.folder / "root.key").read_bytes()), source="a test")
    with closing(open_database(installation.database_url)) as database:
        authenticate_all(database, opens_with(key)(database))
    installation.done("audit", "verify")


def test_daemons_are_replaced_one_after_the_other(
    former: FormerCommands, release: Path, installation: Installation, aws: Aws, tmp_path: Path
) -> None:
    """Daemons of the former release are at work while the database is migrated, and beside daemons of this one."""
    former.run("init")
    fill(former.run, tmp_path)
    old = installation.start_daemon(installed=True, PYTHONPATH=str(release))
    wait_until(lambda: at_aws(aws) == {"URL": "first"}, what="the first value at AWS")
    assert migrate.status(installation.database_url).current == FORMER.schema

    checked = installation.run("db", "migrate", "--check", "-o", "json")
    assert (checked.exit_code, json.loads(checked.stdout)["former_daemons"]) == (3, "go on")
    installation.done("db", "migrate")

    installation.done("secrets", "set", NAME, "URL", "-", stdin="second")
    wait_until(lambda: at_aws(aws) == {"URL": "second"}, what="this release's edit, written by the former daemon")
    assert old.get("/readyz")[0] == 200
    new = installation.start_daemon()
    assert old.stop() == 0
    former.run("secrets", "set", NAME, "URL", "-", stdin=b"third")
    wait_until(lambda: at_aws(aws) == {"URL": "third"}, what="the former release's edit, written by this daemon")
    assert new.stop() == 0
    assert len(versions_of(aws, NAME)) == 3
    assert_all_authentic(installation)


def at_aws(aws: Aws) -> dict[str, str] | None:
    """Return what readers get; None while there is nothing."""
    try:
        return values_of(aws, NAME)
    except AwsError:
        return None


@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_a_pod_of_the_former_release_starts_without_its_init_container(
    former: FormerCommands, release: Path, installation: Installation, aws: Aws, tmp_path: Path
) -> None:
    """The way back on Kubernetes, as docs/upgrade.md has it: its `init` is refused, its daemon not."""
    installation.done("init")
    fill(lambda *args, stdin=b"": installation.done(*args, stdin=stdin.decode()), tmp_path)
    former.run("init", exit_code=6)

    daemon = installation.start_daemon(installed=True, PYTHONPATH=str(release))

    wait_until(lambda: at_aws(aws) == {"URL": "first"}, what="the value at AWS, written by the former daemon")
    assert daemon.stop() == 0


@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_the_former_release_restores_the_backup_that_was_made_before_the_migration(
    former: FormerCommands, installation: Installation, tmp_path: Path
) -> None:
    """The way back where a new schema does not work with the former release."""
    former.run("init")
    fill(former.run, tmp_path)
    backup = tmp_path / "before.db"
    former.run("db", "backup", str(backup))
    installation.done("db", "migrate")
    installation.done("secrets", "set", NAME, "URL", "-", stdin="after the migration")

    former.run("db", "restore", str(backup))

    assert migrate.status(installation.database_url).current == FORMER.schema
    assert former.json("secrets", "get", NAME, "URL", "--reveal")["value"] == "first"


@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_the_lists_of_its_iam_actions_are_right(
    former: FormerCommands, release: Path, installation: Installation, tmp_path: Path
) -> None:
    """What its policies ask for, and what it calls: the notes of the next release are compared with them."""
    former.run("init")

    assert printed_actions(former.run, tmp_path) == FORMER.actions
    assert called_actions(installation.environ | {"PYTHONPATH": str(release)}) == FORMER.calls
