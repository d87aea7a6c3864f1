"""`phasesync rebuild --from-aws`, typed in: the root key is lost, and everything goes on from what is at AWS."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import CommandLine
from tests.support.aws import REGION, Aws

pytestmark = pytest.mark.reads_values("rebuild")
SECRET = "postgres://hidden"
OTHER_REGION = "us-east-1"
KEY = '{"type": "service_account"}'


@dataclass(frozen=True)
class Installation:
    """An installation and its AWS."""

    phasesync: CommandLine
    aws: Aws

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.phasesync.directory / "data"

    def lose_the_root_key(self) -> str:
        """Move database and key away, and begin anew as the documentation says; return the former database's URL."""
        former = self.phasesync.directory / "lost"
        self.data.rename(former)
        (self.phasesync.directory / "root.key").unlink()
        self.phasesync.done("init")
        self.phasesync.done("credentials", "add", "host", "--type", "ambient", "--region", REGION)
        return f"sqlite:///{former / 'phasesync.db'}"

    def versions(self) -> dict[str, list[str]]:
        """Name -> ids of all versions at AWS."""
        client = self.aws.boto("secretsmanager")
        return {
            secret["Name"]: sorted(
                version["VersionId"]
                for version in client.list_secret_version_ids(SecretId=secret["Name"], IncludeDeprecated=True)[
                    "Versions"
                ]
            )
            for secret in client.list_secrets()["SecretList"]
        }

    def tags(self) -> dict[str, dict[str, str]]:
        """Name -> tags at AWS."""
        listed = self.aws.boto("secretsmanager").list_secrets()["SecretList"]
        return {secret["Name"]: {tag["Key"]: tag["Value"] for tag in secret.get("Tags", [])} for secret in listed}

    def values(self, environment: str, path: str = "/") -> Any:
        """What the store has in a folder, as AWS gets it."""
        options = ("--path", path, "--format", "json", "--resolve")
        return json.loads(self.phasesync.done("secrets", "export", environment, *options).stdout)

    def everything(self) -> tuple[list[str], bytes, list[str]]:
        """Rows of the database without the audit log, the root key, and the names of all files but SQLite's logs."""
        audit = ('INSERT INTO "audit" ', 'INSERT INTO "audit_head" ')
        with closing(sqlite3.connect(self.data / "phasesync.db")) as connection:
            rows = [line for line in connection.iterdump() if not line.startswith(audit)]
        files = {str(file) for file in self.phasesync.directory.rglob("*") if not file.name.endswith(("-wal", "-shm"))}
        return rows, (self.phasesync.directory / "root.key").read_bytes(), sorted(files)

    def run_all(self) -> list[str]:
        """Run every sync; return the outcomes."""
        names = [sync["name"] for sync in self.phasesync.items("syncs", "list")]
        return [self.phasesync.json("syncs", "run", name)["outcome"] for name in names]


@pytest.fixture
def lost(phasesync: CommandLine, aws: Aws) -> Installation:
    """One sync of each layout, in step: text with a reference sign, JSON, an empty value, a folder, a binary value."""
    (phasesync.directory / "data" / "phasesync.db").unlink()
    (phasesync.directory / "root.key").unlink()
    phasesync.done("init")
    for environment in ("shop/production", "shop/jobs"):
        phasesync.done("apps", "add", "shop") if environment == "shop/production" else None
        phasesync.done("envs", "add", environment)
    phasesync.done("credentials", "add", "aws", "--type", "ambient", "--region", REGION)
    texts = json.dumps({"URL": SECRET, "PRICE": "5 ${US}", "EMPTY": "", "LIMITS": {"cpu": 1.10}})
    phasesync.done("secrets", "import", "shop/production", "-", "--format", "json", "--yes", stdin=texts)
    keys = json.dumps({"TOKEN": "t-1", "ACCOUNT": KEY})
    phasesync.done("secrets", "import", "shop/jobs", "-", "--format", "json", "--path", "/night", "--yes", stdin=keys)
    phasesync.done(
        "secrets", "set", "shop/jobs", "BLOB", "-", "--type", "binary", "--path", "/night", stdin=b"\x00\xff"
    )
    given = ("--credential", "aws")
    phasesync.done("syncs", "add", "web", "--env", "shop/production", *given, "--secret-name", "shop/production")
    template = ("--path", "/night", "--name-template", "{app}/{env}/{path}/{key}")
    phasesync.done("syncs", "add", "jobs", "--env", "shop/jobs", *given, *template)
    installation = Installation(phasesync, aws)
    assert installation.run_all() == ["applied", "applied"]
    return installation


def test_every_sync_is_in_step_again_and_nothing_is_written_at_aws(lost: Installation) -> None:
    """From names, tags and values alone: environments, journal and ownership."""
    values = lost.values("shop/production"), lost.values("shop/jobs", "/night")
    lost.lose_the_root_key()
    versions, tags = lost.versions(), lost.tags()

    rebuilt = lost.phasesync.json("rebuild", "--from-aws", "--credential", "host", "--yes")

    assert rebuilt["environments"] == ["shop/jobs", "shop/production"]
    assert [(sync["name"], sync["objects"], sync["writes"]) for sync in rebuilt["syncs"]] == [
        ("shop-jobs-night", 3, []),
        ("shop-production", 1, []),
    ]
    assert (lost.values("shop/production"), lost.values("shop/jobs", "/night")) == values
    assert lost.run_all() == ["unchanged", "unchanged"]
    assert (lost.versions(), lost.tags()) == (versions, tags)
    assert {sync["status"] for sync in lost.phasesync.items("syncs", "list")} == {"in-sync"}


def test_what_is_rebuilt_goes_on_as_ever(lost: Installation) -> None:
    """An edit is one version more, and drift is found: the objects are ours."""
    lost.lose_the_root_key()
    lost.phasesync.done("rebuild", "--from-aws", "--credential", "host", "--yes")
    lost.run_all()
    before = len(lost.versions()["shop/production"])

    lost.phasesync.done("secrets", "set", "shop/production", "URL", "-", stdin="postgres://new")
    assert lost.phasesync.json("syncs", "run", "shop-production")["outcome"] == "applied"

    assert json.loads(lost.aws.secret_text("shop/production"))["URL"] == "postgres://new"
    assert len(lost.versions()["shop/production"]) == before + 1
    lost.aws.server.outside.put("shop/jobs/night/TOKEN", "theirs")
    assert lost.phasesync.json("syncs", "run", "shop-jobs-night")["outcome"] == "applied"
    assert lost.aws.secret_text("shop/jobs/night/TOKEN") == "t-1"


def test_the_former_database_tells_names_and_settings(lost: Installation) -> None:
    """They are in the clear there, so the syncs are as they were, names that tell nothing included."""
    given = (
        "--env",
        "shop/production",
        "--credential",
        "aws",
        "--secret-name",
        "legacy",
        "--description",
        "of the shop",
    )
    lost.phasesync.done("syncs", "add", "legacy", *given, "--on-drift", "hold", "--interval", "15m")
    lost.phasesync.done("syncs", "run", "legacy")
    url = lost.lose_the_root_key()
    versions = lost.versions()

    lost.phasesync.done("rebuild", "--from-aws", "--credential", "host", "--former-database", url, "--yes")

    assert [sync["name"] for sync in lost.phasesync.items("syncs", "list")] == ["jobs", "legacy", "web"]
    shown = lost.phasesync.json("syncs", "show", "legacy")
    assert (shown["on_drift"], shown["description"]) == ("hold", "of the shop")
    assert lost.run_all() == ["unchanged"] * 3
    assert lost.versions() == versions


def test_a_mapping_says_what_names_do_not(lost: Installation) -> None:
    """The problem names the sync; the mapping has the form of the plan."""
    given = ("--env", "shop/jobs", "--path", "/night", "--credential", "aws", "--secret-name", "legacy")
    lost.phasesync.done("syncs", "add", "legacy", *given)
    lost.phasesync.done("syncs", "run", "legacy")
    lost.lose_the_root_key()
    versions = lost.versions()

    refused = lost.phasesync("rebuild", "--from-aws", "--credential", "host", "--yes")
    sync_id = lost.tags()["legacy"]["phasesync:sync"]
    assert refused.exit_code == 4
    why = 'its names do not tell the app and the environment; say its "env" in the file of --mapping'
    assert f"the sync {sync_id} (legacy in {REGION}) cannot be rebuilt: {why}" in refused.stderr
    assert lost.phasesync.items("syncs", "list") == []

    file = lost.phasesync.directory / "mapping.json"
    said = {"id": sync_id, "name": "legacy", "env": "old/production", "path": "/"}
    file.write_text(json.dumps({"syncs": [said], "skip": [lost.tags()["shop/production"]["phasesync:sync"]]}))
    lost.phasesync.done("rebuild", "--from-aws", "--credential", "host", "--mapping", str(file), "--yes")

    assert [sync["name"] for sync in lost.phasesync.items("syncs", "list")] == ["legacy", "shop-jobs-night"]
    assert lost.run_all() == ["unchanged", "unchanged"]
    assert lost.versions() == versions


def test_the_printed_plan_is_a_mapping_and_keeps_the_settings_of_the_former_database(lost: Installation) -> None:
    lost.phasesync.done("syncs", "update", "web", "--description", "of the shop")
    rebuild = ("rebuild", "--from-aws", "--credential", "host", "--former-database", lost.lose_the_root_key())
    printed = lost.phasesync.json(*rebuild, "--dry-run")
    file = lost.phasesync.directory / "plan.json"
    next(sync for sync in printed["would"]["syncs"] if sync["name"] == "web")["name"] = "website"
    for document in (printed, printed["would"]):
        file.write_text(json.dumps(document))
        again = lost.phasesync.json(*rebuild, "--mapping", str(file), "--dry-run")["would"]
        assert "website" in [sync["name"] for sync in again["syncs"]]
    lost.phasesync.done(*rebuild, "--mapping", str(file), "--yes")
    assert lost.phasesync.json("syncs", "show", "website")["description"] == "of the shop"


@pytest.mark.parametrize(
    ("mapping", "why"),
    [
        ({"sync": []}, "it has sync beside skip, syncs"),
        (
            {"syncs": [{"id": "a", "enviroment": "x"}]},
            "enviroment is not one of env, id, layout, name, names, path, region",
        ),
        ({"syncs": [{"id": "a", "path": 7}]}, "path of a sync is a text"),
        ({"syncs": [{"name": "a"}]}, 'is an object with an "id"'),
        ([], 'it is an object with "syncs" and "skip"'),
        ({"syncs": [{"id": "a"}, {"id": "a", "name": "b"}]}, "it has several of 'a' under \"syncs\""),
    ],
)
def test_what_is_wrong_in_a_mapping_is_named(phasesync: CommandLine, mapping: Any, why: str) -> None:
    phasesync.done("credentials", "add", "host", "--type", "ambient", "--region", REGION)
    file = phasesync.directory / "mapping.json"
    file.write_text(json.dumps(mapping))
    refused = phasesync("rebuild", "--from-aws", "--credential", "host", "--mapping", str(file), "--dry-run")
    assert (refused.exit_code, why in refused.stderr) == (2, True)


def test_a_plan_first_and_exactly_that_plan(lost: Installation) -> None:
    """A dry run shows it, writes nothing, and shows no value; a plan that is no longer true is refused."""
    lost.lose_the_root_key()
    lost.aws.server.operations.clear()

    shown = lost.phasesync.done("rebuild", "--from-aws", "--credential", "host", "--dry-run")
    digest = lost.phasesync.json("rebuild", "--from-aws", "--credential", "host", "--dry-run")["would"]["digest"]

    assert SECRET not in shown.output
    assert lost.phasesync.items("apps", "list") == []
    assert not {one.name for one in lost.aws.server.operations} & {"PutSecretValue", "CreateSecret", "TagResource"}
    lost.aws.server.outside.put("shop/jobs/night/TOKEN", "theirs")
    moved = lost.phasesync("rebuild", "--from-aws", "--credential", "host", "--plan", digest, "--yes")
    assert moved.exit_code == 4
    assert lost.phasesync.items("apps", "list") == []
    new = lost.phasesync.json("rebuild", "--from-aws", "--credential", "host", "--dry-run")["would"]["digest"]
    lost.phasesync.done("rebuild", "--from-aws", "--credential", "host", "--plan", new, "--yes")
    assert lost.values("shop/jobs", "/night")["TOKEN"] == "theirs"


def test_a_database_in_use_is_refused(lost: Installation) -> None:
    """Also one that was rebuilt already."""
    lost.lose_the_root_key()
    done = lost.phasesync.done("rebuild", "--from-aws", "--credential", "host", "--yes")
    assert "each sync gets the credential host" in done.stderr

    again = lost.phasesync("rebuild", "--from-aws", "--credential", "host", "--yes")

    assert again.exit_code == 4
    assert "this database is in use" in again.stderr


def test_a_root_key_that_kms_has_encrypted_for_another_id_is_refused(
    lost: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would not open under the id that is taken over."""
    lost.phasesync.directory.joinpath("data", "phasesync.db").unlink()
    key = lost.aws.boto("kms").create_key(Description="root keys")["KeyMetadata"]["Arn"]
    monkeypatch.setenv("PHASESYNC_ROOT_KEY_KMS_KEY", key)
    lost.phasesync.done("init")
    lost.phasesync.done("credentials", "add", "host", "--type", "ambient", "--region", REGION)

    refused = lost.phasesync("rebuild", "--from-aws", "--credential", "host", "--yes")

    assert refused.exit_code == 4
    assert "rotate-root --to aws-kms" in refused.stderr
    assert lost.phasesync.items("apps", "list") == []


def test_without_the_right_to_read_nothing_is_made(lost: Installation) -> None:
    """The error names the action."""
    lost.lose_the_root_key()
    lost.aws.server.deny("secretsmanager:GetSecretValue")

    denied = lost.phasesync("rebuild", "--from-aws", "--credential", "host", "--yes")

    assert denied.exit_code == 7
    assert "secretsmanager:GetSecretValue" in denied.stderr
    assert lost.phasesync.items("apps", "list") == []


def test_several_installations_in_one_account_are_told_apart(lost: Installation) -> None:
    """The tags name them; without --instance nothing is guessed."""
    mine = lost.tags()["shop/production"]["phasesync:instance"]
    other = [{"Key": "phasesync:instance", "Value": "f" * 32}, {"Key": "phasesync:sync", "Value": "e" * 32}]
    lost.aws.boto("secretsmanager").create_secret(Name="other/production", SecretString="{}", Tags=other)
    lost.lose_the_root_key()

    unclear = lost.phasesync("rebuild", "--from-aws", "--credential", "host", "--yes")
    lost.phasesync.done("rebuild", "--from-aws", "--credential", "host", "--instance", mine, "--yes")

    assert unclear.exit_code == 2
    assert "several installations have objects here" in unclear.stderr
    assert [sync["env"] for sync in lost.phasesync.items("syncs", "list")] == ["shop/jobs", "shop/production"]


def test_a_json_value_in_both_layouts_is_rebuilt_as_it_was(lost: Installation) -> None:
    """`12` and {"J":12} are one value; so are bytes and their base64 text."""
    lost.phasesync.done("secrets", "set", "shop/jobs", "J", "-", "--type", "json", "--path", "/night", stdin="12")
    given = ("--env", "shop/jobs", "--path", "/night", "--credential", "aws", "--secret-name", "shop/all")
    lost.phasesync.done("syncs", "add", "all", *given)
    lost.run_all()
    assert json.loads(lost.aws.secret_text("shop/all"))["J"] == 12
    assert lost.aws.secret_text("shop/jobs/night/J") == "12"
    url = lost.lose_the_root_key()
    versions = lost.versions()
    rebuild = ("rebuild", "--from-aws", "--credential", "host", "--former-database", url)

    lost.phasesync.done(*rebuild, "--dry-run")
    rebuilt = lost.phasesync.json(*rebuild, "--yes")

    assert [sync["writes"] for sync in rebuilt["syncs"]] == [[], [], []]
    types = {
        one["key"]: one["type"] for one in lost.phasesync.items("secrets", "list", "shop/jobs", "--path", "/night")
    }
    assert (types["J"], types["BLOB"], types["TOKEN"]) == ("json", "binary", "text")
    assert lost.run_all() == ["unchanged"] * 3
    assert lost.versions() == versions


@pytest.mark.parametrize("members", [{"skip": ["nope"]}, {"syncs": [{"id": "zz"}]}])
def test_an_id_that_no_aws_secret_has_is_refused_before_a_value_is_read(
    lost: Installation, members: dict[str, Any]
) -> None:
    """A mistyped id under skip would have its values read."""
    lost.lose_the_root_key()
    lost.aws.server.operations.clear()
    file = lost.phasesync.directory / "mapping.json"
    file.write_text(json.dumps(members))

    refused = lost.phasesync("rebuild", "--from-aws", "--credential", "host", "--mapping", str(file), "--yes")

    assert refused.exit_code == 2
    assert ("'nope'" in refused.stderr) or ("'zz'" in refused.stderr)
    assert "GetSecretValue" not in {one.name for one in lost.aws.server.operations}
    assert lost.phasesync.items("apps", "list") == []


@pytest.mark.parametrize("other", ["missing", "no database", "the new one"])
def test_a_wrong_former_database_is_told_with_the_option_to_correct(lost: Installation, other: str) -> None:
    """Neither init nor restore would help, and nothing is made where it was looked for."""
    lost.lose_the_root_key()
    folder = lost.phasesync.directory / "elsewhere"
    folder.mkdir()
    file = {"missing": folder / "former.db", "no database": folder / "text"}.get(other, lost.data / "phasesync.db")
    (folder / "text").write_text("text")

    refused = lost.phasesync(
        "rebuild", "--from-aws", "--credential", "host", "--former-database", f"sqlite:///{file}", "--dry-run"
    )

    assert refused.exit_code == 6
    assert "error: the former database: " in refused.stderr
    assert "hint: correct the URL of --former-database" in refused.stderr
    assert not {"init", "restore"} & set(refused.stderr.split())
    assert [one.name for one in folder.iterdir()] == ["text"]


def test_settings_of_the_former_database_that_no_sync_may_have_are_a_problem(lost: Installation) -> None:
    """Nobody vouches for them. A row that cannot be read at all counts as none."""
    url = lost.lose_the_root_key()
    former = url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(former)) as connection, connection:
        (text,) = connection.execute("SELECT config FROM syncs WHERE name = 'web'").fetchone()
        config = json.loads(text) | {"recovery_days": 400}
        connection.execute("UPDATE syncs SET config = ? WHERE name = 'web'", [json.dumps(config)])
        connection.execute("UPDATE syncs SET config = '[]' WHERE name = 'jobs'")
    rebuild = ("rebuild", "--from-aws", "--credential", "host", "--former-database", url)

    shown = lost.phasesync(*rebuild, "--dry-run", "-o", "json")
    told = lost.phasesync(*rebuild, "--yes")

    assert (shown.exit_code, told.exit_code) == (4, 4)
    would = json.loads(shown.stdout)["would"]
    assert [sync["name"] for sync in would["syncs"]] == ["shop-jobs-night"]
    (problem,) = would["problems"]
    assert problem["objects"] == [{"remote_name": "shop/production", "region": REGION}]
    assert "recovery windows of 7 to 30 days" in problem["reason"]
    assert "--former-database" in problem["hint"]
    assert f"(shop/production in {REGION}) cannot be rebuilt: AWS takes recovery windows" in told.stderr


def test_the_former_database_tells_the_region_of_a_sync_that_was_moved(lost: Installation) -> None:
    """What it left behind in the former Region stays as it is."""
    lost.phasesync.done("syncs", "update", "web", "--region", OTHER_REGION)
    lost.phasesync("syncs", "run", "web")
    digest = lost.phasesync.json("syncs", "plan", "web")["digest"]
    lost.phasesync.done("syncs", "approve", "web", "--plan", digest)
    assert lost.phasesync.json("syncs", "run", "web")["outcome"] == "applied"
    url = lost.lose_the_root_key()
    given = ("rebuild", "--from-aws", "--credential", "host", "--region", f"{REGION},{OTHER_REGION}")

    partial = lost.phasesync(*given[:-1], REGION, "--former-database", url, "--dry-run")
    without = lost.phasesync(*given, "--yes")
    rebuilt = lost.phasesync.json(*given, "--former-database", url, "--yes")

    assert (partial.exit_code, f"none of its AWS secrets is in {OTHER_REGION}" in partial.stderr) == (4, True)
    assert "it has AWS secrets in several Regions" in without.stderr
    (web,) = [sync for sync in rebuilt["syncs"] if sync["name"] == "web"]
    assert (web["region"], web["left_behind"]) == (
        OTHER_REGION,
        [{"remote_name": "shop/production", "region": REGION}],
    )
    assert lost.run_all() == ["unchanged", "unchanged"]


def test_a_rebuild_that_is_refused_leaves_nothing(lost: Installation) -> None:
    """Neither in the database nor beside it; the key is the one that init made."""
    other = [{"Key": "phasesync:instance", "Value": lost.tags()["shop/production"]["phasesync:instance"]}]
    other.append({"Key": "phasesync:sync", "Value": "e" * 256})
    lost.aws.boto("secretsmanager").create_secret(Name="by/hand", SecretString="{}", Tags=other)
    lost.lose_the_root_key()
    before = lost.everything()

    shown = lost.phasesync("rebuild", "--from-aws", "--credential", "host", "--dry-run")
    refused = lost.phasesync("rebuild", "--from-aws", "--credential", "host", "--yes")

    assert (shown.exit_code, refused.exit_code) == (4, 4)
    assert f"(by/hand in {REGION}) cannot be rebuilt: its tag phasesync:sync was altered" in shown.stderr
    assert lost.everything() == before


def test_a_value_that_may_not_be_read_is_named_and_can_be_skipped(lost: Installation) -> None:
    """With its Region and its sync."""
    sync_id = lost.tags()["shop/production"]["phasesync:sync"]
    lost.lose_the_root_key()
    lost.aws.server.deny("secretsmanager:GetSecretValue", resource="*:secret:shop/production-??????")
    file = lost.phasesync.directory / "mapping.json"
    file.write_text(json.dumps({"skip": [sync_id]}))

    denied = lost.phasesync("rebuild", "--from-aws", "--credential", "host", "--yes")
    rebuilt = lost.phasesync.json("rebuild", "--from-aws", "--credential", "host", "--mapping", str(file), "--yes")

    assert denied.exit_code == 7
    assert f"error: shop/production in {REGION}, of the sync {sync_id}: the credential is not allowed" in denied.stderr
    assert [sync["name"] for sync in rebuilt["syncs"]] == ["shop-jobs-night"]


def test_what_is_left_out_is_named_with_its_region(lost: Installation) -> None:
    lost.aws.boto("secretsmanager").delete_secret(SecretId="shop/jobs/night/TOKEN")
    lost.lose_the_root_key()

    shown = lost.phasesync("rebuild", "--from-aws", "--credential", "host", "--dry-run")
    would = lost.phasesync.json("rebuild", "--from-aws", "--credential", "host", "--dry-run")["would"]

    assert f"shop/jobs/night/TOKEN in {REGION} is left out: it is scheduled for deletion" in shown.stderr
    left_out = {"remote_name": "shop/jobs/night/TOKEN", "region": REGION, "reason": "it is scheduled for deletion"}
    assert would["left_out"] == [left_out]


def test_the_former_database_tells_which_syncs_are_missing_and_which_were_removed(lost: Installation) -> None:
    """A Region that was not named, and tags that nobody could remove."""
    given = ("--env", "shop/production", "--credential", "aws", "--secret-name", "far", "--region", OTHER_REGION)
    lost.phasesync.done("syncs", "add", "far", *given)
    assert lost.phasesync.json("syncs", "run", "far")["outcome"] == "applied"
    (there,) = lost.aws.boto("secretsmanager", region=OTHER_REGION).list_secrets()["SecretList"]
    far = next(tag["Value"] for tag in there["Tags"] if tag["Key"] == "phasesync:sync")
    web = lost.tags()["shop/production"]["phasesync:sync"]
    denial = lost.aws.server.deny("secretsmanager:UntagResource")
    lost.phasesync.done("syncs", "remove", "web", "--remote", "keep", "--yes")
    lost.aws.server.access.allow(denial)
    rebuild = ("rebuild", "--from-aws", "--credential", "host", "--former-database", lost.lose_the_root_key())

    told = lost.phasesync.done(*rebuild, "--dry-run").stderr
    would = lost.phasesync.json(*rebuild, "--dry-run")["would"]

    assert "the sync far of the former database is not rebuilt: no AWS secret here has its tag" in told
    assert f"It wrote to {OTHER_REGION}: name that Region with --region" in told
    assert f"shop-production (shop/production in {REGION}) is not in the former database" in told
    assert (would["missing"], would["not_in_former"]) == ([{"id": far, "name": "far", "region": OTHER_REGION}], [web])
    both = lost.phasesync.json(*rebuild, "--region", f"{REGION},{OTHER_REGION}", "--dry-run")["would"]
    assert both["missing"] == []
