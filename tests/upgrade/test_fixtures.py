"""A database that any former release left, or the main branch before the first one, is opened by this release."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from phasesync.core.lease import LeaseStatus
from phasesync.core.model import ValueType
from phasesync.core.sync import SyncStatus
from phasesync.errors import SchemaMismatchError
from phasesync.store import Store, migrate
from phasesync.store.authenticity import authenticate_all
from phasesync.store.migration_check import check_migration
from tests.cli.conftest import CommandLine, phasesync  # noqa: F401 -- a fixture
from tests.support.stores import TTL, open_test_store, opens_with, put, write
from tests.upgrade import known
from tests.upgrade.conftest import unpacked
from tests.upgrade.origins import FIXTURES, ROOT, Origin, has_commit, origins, releases

each_origin = pytest.mark.parametrize("origin", origins(), ids=lambda origin: origin.name)


@each_origin
def test_it_is_opened_after_a_migration_with_all_that_was_in_it(
    origin: Origin, fixture_url: Callable[[Origin], str]
) -> None:
    url = fixture_url(origin)
    assert migrate.status(url).current == origin.schema
    with pytest.raises(SchemaMismatchError) as refused:
        migrate.open_migrated(url)
    assert refused.value.hint == "phasesync db migrate"

    migrate.upgrade(url, opens_with())

    store = open_test_store(url)
    try:
        assert_secrets_are_there(store)
        assert_syncs_are_there(store)
        if origin.schema >= "0002":
            leases = store.leases(ttl=TTL).list_leases(dynamic="ci", ended=True)
            assert sorted(lease.status for lease in leases) == [LeaseStatus.ACTIVE, LeaseStatus.REVOKED]
        if origin.schema >= "0005":
            (request,) = store.change_requests.list_requests(closed=True)
            assert (set(request.environments.values()), request.error) == ({"shop/guarded"}, None)
            assert [project.name for project in store.projects.list_projects()] == ["as-code"]
        if origin.schema >= "0006":
            assert [notification.name for notification in store.notifications.list_all()] == ["ops"]
        put(store, write("LATER", "by this release"))
        authenticate_all(store.database, opens_with()(store.database))
    finally:
        store.close()


def assert_secrets_are_there(store: Store) -> None:
    found = {(one.path, one.key): one.value for one in store.secrets.list_secrets("shop", "production")}
    texts = {name: value.reveal_text() for name, value in found.items() if value and value.type is ValueType.TEXT}
    assert texts == known.TEXTS
    levels, certificate = found["/", "LEVELS"], found["/", "CERTIFICATE"]
    assert levels is not None and (levels.type, levels.reveal_text()) == (ValueType.JSON, known.JSON)
    assert certificate is not None and certificate.reveal() == known.BINARY
    history = store.secrets.history("shop", "production", "/", "DATABASE_URL")
    values = {one.version: one.value.reveal_text() for one in history if one.value is not None}
    assert tuple(values[version] for version in (1, 2)) == known.FORMER
    (commented,) = [one for one in store.secrets.list_secrets("shop", "production") if one.key == "LEVELS"]
    assert commented.comment == known.COMMENT
    unset, was = store.secrets.history("shop", "production", "/", known.UNSET)
    assert unset.value is None and was.value is not None


def assert_syncs_are_there(store: Store) -> None:
    syncs = {sync.name: sync for sync in store.syncs.list_syncs()}
    assert set(syncs) == {"shop", "folder", "waits"}
    assert {syncs[name].settled_status for name in ("shop", "folder")} == {SyncStatus.IN_SYNC}
    paused = syncs["waits"].paused
    assert paused is not None and paused.reason == "not before the audit"
    written = {entry.remote_name for name in syncs for entry in store.sync_states.state_of(name).journal}
    assert written == {"shop/production", "shop/production/db/PASSWORD"}
    keys = store.credentials.get("keys")
    assert keys.access_key_id == known.ACCESS_KEY_ID


@each_origin
def test_a_check_says_which_migrations_it_lacks_and_who_goes_on(
    origin: Origin, fixture_url: Callable[[Origin], str]
) -> None:
    found = check_migration(fixture_url(origin), opens_with())

    assert [each.revision for each in found.pending] == [one for one in migrate.REVISIONS if one > origin.schema]
    assert found.former_goes_on is (origin.version is not None), "no schema before the first release has this fact"


@pytest.mark.parametrize("origin", releases(), ids=lambda origin: origin.name)
def test_a_backup_of_a_release_is_restored(
    origin: Origin,
    phasesync: CommandLine,  # noqa: F811
    tmp_path: Path,
) -> None:
    file = str(unpacked(origin, tmp_path))
    refused = phasesync("db", "restore", file)
    assert (refused.exit_code, "--without-manifest" in refused.stderr) == (6, True), "0.1.0 made no manifests"

    phasesync.done("db", "restore", file, "--without-manifest", "--other-installation")

    got = phasesync.json("secrets", "get", "shop/production", "DATABASE_URL", "--reveal")

    assert got["value"] == known.TEXTS["/", "DATABASE_URL"]


# --- nothing is forgotten


def test_each_origin_has_a_fixture_for_each_database() -> None:
    wanted = {f"{origin.name}{end}" for origin in origins() for end in (".db.xz", ".sql.xz")}

    assert {file.name for file in FIXTURES.iterdir()} == wanted


def test_every_former_release_of_the_changelog_has_fixtures() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    named = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)

    assert version in named
    assert {release.version for release in releases()} >= set(named) - {version}


def test_every_schema_before_this_one_has_a_fixture() -> None:
    assert {origin.schema for origin in origins()} >= set(migrate.REVISIONS[:-1])


@pytest.mark.skipif(not has_commit(releases()[0].commit), reason="this is no clone with all commits")
def test_every_tag_of_a_release_is_in_the_list_with_its_commit() -> None:
    """A fresh clone of a branch may have no tags; what it has must be right."""
    listed = ["git", "tag", "--list", "v*", "--format=%(refname:short) %(objectname) %(*objectname)"]
    tags = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    known_commits = {release.name: release.commit for release in releases()}
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    for name, *objects in (line.split() for line in tags):
        if name == f"v{version}":
            continue  # The release of this tree: it is former once the version is another one.
        assert objects[-1] == known_commits[name]


@pytest.mark.parametrize("origin", origins(), ids=lambda origin: origin.name)
def test_the_code_that_made_a_fixture_is_in_this_clone(origin: Origin) -> None:
    if not has_commit(releases()[0].commit):
        pytest.skip("this is no clone with all commits")
    listed = ["git", "ls-tree", "--name-only", origin.commit, "migrations/versions/"]
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()

    assert max(Path(file).name[:4] for file in files) == origin.schema


@pytest.mark.parametrize("origin", releases(), ids=lambda origin: origin.name)
def test_a_backup_can_be_made_before_the_migration(
    origin: Origin,
    fixture_url: Callable[[Origin], str],
    phasesync: CommandLine,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PHASESYNC_DATABASE_URL", fixture_url(origin))

    phasesync.done("db", "backup", str(tmp_path / "before.db"))

    assert migrate.status(f"sqlite:///{tmp_path / 'before.db'}").current == origin.schema
