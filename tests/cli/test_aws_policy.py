"""`phasesync aws policy`: which document is printed, and what is said beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from phasesync.core.iam.document import MANAGED_POLICY_CHARACTERS, size_of
from tests.cli.conftest import CommandLine
from tests.support.iam import allows

ROLE = "arn:aws:iam::111122223333:role/writer"
KEY = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.fixture
def synced(shop: CommandLine) -> CommandLine:
    """Two credentials with a sync each; AWS was never asked."""
    shop.done("credentials", "add", "role", "--type", "assume-role", "--region", "eu-central-1", "--role-arn", ROLE)
    shop.done("credentials", "add", "host", "--type", "ambient", "--region", "us-east-1")
    add(shop, "web", "role", "shop/web")
    add(shop, "jobs", "host", "shop/jobs")
    return shop


def add(phasesync: CommandLine, name: str, credential: str, secret: str, *options: str) -> None:
    where = ("--env", "shop/prod", "--credential", credential, "--secret-name", secret)
    phasesync.done("syncs", "add", name, *where, "--no-verify", *options)


def document(phasesync: CommandLine, *args: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(phasesync.done("aws", "policy", *args).stdout)
    return found


def actions(policy: dict[str, Any]) -> set[str]:
    return {action for statement in policy["Statement"] for action in statement["Action"]}


def looks_at(policy: dict[str, Any]) -> list[str]:
    return [arn for one in policy["Statement"] if one["Sid"].startswith("Look") for arn in one["Resource"]]


def changes(policy: dict[str, Any]) -> list[str]:
    return [arn for one in policy["Statement"] if one["Sid"].startswith("Change") for arn in one["Resource"]]


def test_the_policy_of_a_sync_is_pinned_to_its_name_and_account(synced: CommandLine):
    web = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:shop/web"
    assert looks_at(document(synced, "web")) == [web, f"{web}-??????"]
    assert changes(document(synced, "web")) == [f"{web}-??????"]
    assert changes(document(synced, "jobs")) == ["arn:aws:secretsmanager:us-east-1:*:secret:shop/jobs-??????"]


@pytest.mark.parametrize("output", ["table", "json"])
def test_it_is_the_bare_document_whatever_the_output(synced: CommandLine, output: str):
    done = synced.done("aws", "policy", "web", "-o", output)
    assert set(json.loads(done.stdout)) == {"Version", "Statement"}
    assert done.stderr == ""


def test_it_asks_for_the_tag_of_this_installation(synced: CommandLine):
    def change(tags: dict[str, str]) -> bool:
        secret = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:shop/web-Ab12Cd"
        return allows(policy, "secretsmanager:PutSecretValue", secret, tags)

    policy = document(synced, "web")
    (ours,) = (
        one["Condition"]["StringEquals"]
        for one in policy["Statement"]
        if "secretsmanager:PutSecretValue" in one["Action"]
    )
    assert change(ours)
    assert not change(dict.fromkeys(ours, "another"))


def test_flags_add_reading_and_take_listing(synced: CommandLine):
    assert actions(document(synced, "web", "--with-import")) - actions(document(synced, "web")) == {
        "secretsmanager:GetSecretValue"
    }
    assert actions(document(synced, "web")) - actions(document(synced, "web", "--no-sweep")) == {
        "secretsmanager:ListSecrets"
    }


def test_a_key_that_no_sync_names_can_be_added(synced: CommandLine):
    assert "kms:GenerateDataKey" in actions(document(synced, "web", "--kms-key", KEY))
    refused = synced("aws", "policy", "jobs", "--kms-key", KEY)
    assert refused.exit_code == 2
    assert "eu-central-1" in refused.stderr


def test_all_syncs_of_a_credential_are_one_document(synced: CommandLine):
    add(synced, "api", "role", "shop/api", "--description", "the API")
    policy = document(synced, "--all", "--credential", "role")
    assert {arn.rpartition(":")[2] for arn in looks_at(policy)} == {
        *("shop/api", "shop/api-??????"),
        *("shop/web", "shop/web-??????"),
    }


def test_credentials_are_not_mixed(synced: CommandLine):
    refused = synced("aws", "policy", "--all")
    assert refused.exit_code == 2
    assert "host, role" in refused.stderr
    assert "phasesync aws policy --all --credential host" in refused.stderr


def test_a_credential_need_not_be_named_where_there_is_one(shop: CommandLine):
    shop.done("credentials", "add", "host", "--type", "ambient", "--region", "us-east-1")
    add(shop, "web", "host", "shop/web")
    assert changes(document(shop, "--all")) == ["arn:aws:secretsmanager:us-east-1:*:secret:shop/web-??????"]


@pytest.mark.parametrize("args", [("--all",), ("nobody",)])
def test_without_syncs_there_is_nothing_to_print(shop: CommandLine, args: tuple[str, ...]):
    assert shop("aws", "policy", *args).exit_code == 5


def test_a_large_policy_says_so_and_comes_in_parts(shop: CommandLine):
    shop.done("credentials", "add", "host", "--type", "ambient", "--region", "us-east-1")
    for number in range(5):
        add(shop, f"sync-{number}", "host", f"shop/{number:0400}")

    done = shop.done("aws", "policy", "--all")
    whole = json.loads(done.stdout)
    assert size_of(whole) > MANAGED_POLICY_CHARACTERS
    assert "a managed policy takes 6,144" in done.stderr
    assert "--part 1 to --part 3" in done.stderr

    parts = [document(shop, "--all", "--part", number) for number in "123"]
    assert all(size_of(part) <= MANAGED_POLICY_CHARACTERS for part in parts)
    assert set().union(*(looks_at(part) for part in parts)) == set(looks_at(whole))
    assert shop("aws", "policy", "--all", "--part", "4").exit_code == 2


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("web", "--all"),
        ("web", "--starter", "sync"),
        ("--all", "--starter", "sync"),
        ("web", "--region", "eu-west-1"),
        ("web", "--credential", "role"),
        ("--starter", "dynamic", "--no-sweep"),
        ("--starter", "sync", "--part", "1"),
    ],
)
def test_options_that_do_not_go_together(phasesync: CommandLine, args: tuple[str, ...]):
    refused = phasesync("aws", "policy", *args)
    assert refused.exit_code == 2
    assert refused.stdout == ""


def test_the_starter_policy_needs_no_installation(phasesync: CommandLine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PHASESYNC_DATA_DIR", "/nonexistent")
    policy = document(phasesync, "--starter", "sync", "--region", "cn-north-1")
    assert policy["Statement"][0]["Resource"] == ["arn:aws-cn:secretsmanager:cn-north-1:*:secret:*"]
    assert "secretsmanager:GetSecretValue" not in actions(policy)


@pytest.fixture
def anywhere(phasesync: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """A shell without a Region in its environment."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    return phasesync


def region_of_starter(phasesync: CommandLine, *args: str) -> tuple[str, str]:
    """Return the Region that the starter policy is for, and what is said beside it."""
    done = phasesync.done("aws", "policy", "--starter", "sync", *args)
    return json.loads(done.stdout)["Statement"][0]["Resource"][0].split(":")[3], done.stderr


def test_the_starter_policy_is_for_the_region_that_is_known(anywhere: CommandLine, monkeypatch: pytest.MonkeyPatch):
    region, said = region_of_starter(anywhere)
    assert (region, "for every Region" in said, "--region" in said) == ("*", True, True)

    monkeypatch.setenv("AWS_DEFAULT_REGION", "sa-east-1")
    assert region_of_starter(anywhere)[0] == "sa-east-1"
    monkeypatch.setenv("AWS_REGION", "ap-south-2")
    region, said = region_of_starter(anywhere)
    assert (region, "as AWS_REGION says" in said) == ("ap-south-2", True)

    anywhere.done("credentials", "add", "china", "--type", "ambient", "--region", "cn-north-1")
    assert region_of_starter(anywhere, "--credential", "china") == ("cn-north-1", "")
    assert region_of_starter(anywhere, "--kms-key", KEY)[0] == "eu-central-1"
    assert region_of_starter(anywhere, "--region", "us-west-1") == ("us-west-1", "")
    assert region_of_starter(anywhere, "--region", "cn-northwest-1", "--credential", "china")[0] == "cn-northwest-1"
    for credential, why in (("china", "is in the partition aws"), ("nope", "there is no credential nope")):
        refused = anywhere("aws", "policy", "--starter", "sync", "--credential", credential, "--region", "us-west-1")
        assert refused.exit_code == (5 if credential == "nope" else 2)
        assert why in refused.stderr


def test_a_region_of_the_environment_that_is_none_is_named(anywhere: CommandLine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_REGION", "Frankfurt")
    refused = anywhere("aws", "policy", "--starter", "sync")
    assert (refused.exit_code, "AWS_REGION: 'Frankfurt'" in refused.stderr) == (2, True)


def test_the_starter_policy_allows_what_the_daemon_asks_for(anywhere: CommandLine):
    assert "secretsmanager:ListSecrets" in actions(document(anywhere, "--starter", "sync"))
    assert "secretsmanager:ListSecrets" not in actions(document(anywhere, "--starter", "sync", "--no-sweep"))


def test_the_starter_policy_of_dynamic_secrets_takes_its_partition_from_what_is_known(anywhere: CommandLine):
    def partition(*args: str) -> str:
        return str(document(anywhere, "--starter", "dynamic", *args)["Statement"][0]["Resource"][0].split(":")[1])

    assert partition() == "aws"
    assert partition("--region", "us-gov-west-1") == "aws-us-gov"
    assert partition("--permission-boundary", "arn:aws-cn:iam::111122223333:policy/boundary") == "aws-cn"


def test_the_starter_policy_of_dynamic_secrets_is_for_this_installation(phasesync: CommandLine):
    done = phasesync.done("aws", "policy", "--starter", "dynamic")
    conditions = {one["Sid"]: one.get("Condition") for one in json.loads(done.stdout)["Statement"]}
    instance = conditions["CreateKeys"]["StringEquals"]["aws:ResourceTag/phasesync:instance"]

    assert instance
    assert conditions["TakeBack"] == conditions["CreateKeys"]
    assert conditions["TagUsers"] == {
        "StringEquals": {"aws:RequestTag/phasesync:instance": instance},
        "StringEqualsIfExists": {"aws:ResourceTag/phasesync:instance": instance},
    }
    assert "other installations" not in done.stderr


def test_without_an_installation_it_says_whose_keys_it_gives(phasesync: CommandLine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PHASESYNC_DATA_DIR", "/nonexistent")
    done = phasesync.done("aws", "policy", "--starter", "dynamic")

    assert "keys of every user under /phasesync/, other installations' too" in done.stderr
    assert "print it again after phasesync init" in done.stderr
    assert {"Sid": "CreateKeys"}.items() <= json.loads(done.stdout)["Statement"][3].items()


def test_a_boundary_of_another_partition_is_refused(phasesync: CommandLine):
    boundary = ("--permission-boundary", "arn:aws:iam::111122223333:policy/boundary")
    refused = phasesync("aws", "policy", "--starter", "dynamic", "--region", "cn-north-1", *boundary)
    assert refused.exit_code == 2
    assert "arn:aws-cn:iam::111122223333:policy/boundary" in refused.stderr


def test_an_empty_path_is_the_usual_one_in_the_policy_too(shop: CommandLine):
    def users() -> list[str]:
        keys = (one for one in document(shop, "--dynamic", "ci")["Statement"] if one["Sid"] == "CreateKeys")
        return [arn.rpartition(":user")[2] for one in keys for arn in one["Resource"]]

    shop.done("credentials", "add", "host", "--type", "ambient", "--region", "us-east-1")
    recipe = ("--env", "shop/prod", "--credential", "host", "--default-ttl", "1h", "--max-ttl", "8h")
    shop.done("dynamic", "add", "ci", *recipe, "--iam-path", "/teams/")
    assert users() == ["/teams/*"]

    shop.done("dynamic", "update", "ci", "--iam-path", "")

    assert users() == ["/phasesync/shop/prod/*"]
    for path, mend in (("/", "--iam-path /ci/shop/"), ("/a*/", "leave out * ? and $")):
        refused = shop("dynamic", "update", "ci", "--iam-path", path)
        assert refused.exit_code == 2
        assert mend in refused.stderr


def test_help_says_who_needs_the_right_to_read(phasesync: CommandLine):
    assert "imports and syncs verify need it" in " ".join(phasesync.done("aws", "policy", "--help").stdout.split())


# --- copies in other accounts

COPY_KEY = KEY.replace("111122223333", "222222222222")


def test_the_key_of_a_copy_in_another_account_is_added_for_encryption(synced: CommandLine):
    context = {
        "kms:ViaService": "secretsmanager.eu-central-1.amazonaws.com",
        "kms:EncryptionContext:SecretARN": "arn:aws:secretsmanager:eu-central-1:222222222222:secret:shop/web-AbCdEf",
    }
    assert allows(document(synced, "web", "--copy-key", COPY_KEY), "kms:Encrypt", COPY_KEY, context)
    assert not allows(document(synced, "web"), "kms:Encrypt", COPY_KEY, context)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("web", "--copy-key", KEY), "is a key of the account that web writes to"),
        (("jobs", "--copy-key", COPY_KEY), "no sync of this policy writes there"),
        (("web", "--copy-key", "alias/shop"), "is not the ARN of a KMS key"),
        (("--starter", "sync", "--copy-key", COPY_KEY), "not for the starter policy"),
    ],
)
def test_a_key_that_is_no_key_of_a_copy_is_refused(synced: CommandLine, args: tuple[str, ...], said: str):
    done = synced("aws", "policy", *args)
    assert done.exit_code == 2
    assert said in done.stderr


# --- the root key

OTHER_KEY = "arn:aws:kms:eu-central-1:111122223333:key/4321dcba-21ba-43dc-65fe-0987654321ba"


def test_the_policy_of_the_root_key_is_for_this_installation_and_its_kms_keys(
    phasesync: CommandLine, monkeypatch: pytest.MonkeyPatch
):
    """Without the right to use it, too: the id of the installation needs no key."""
    context = {"kms:EncryptionContext:phasesync:instance": phasesync.json("init")["instance_id"]}
    monkeypatch.setenv("PHASESYNC_ROOT_KEY_KMS_KEY", KEY)
    monkeypatch.setenv("PHASESYNC_ROOT_KEY_KMS_KEY_NEXT", OTHER_KEY)
    (phasesync.directory / "root.key").unlink()

    policy = document(phasesync, "--root-key")

    for key in (KEY, OTHER_KEY):
        for action in ("kms:Decrypt", "kms:GenerateDataKey"):
            assert allows(policy, action, key, context)
            assert not allows(policy, action, key, dict.fromkeys(context, "another"))
            assert not allows(policy, action, key, {})
    assert actions(policy) == {"kms:Decrypt", "kms:GenerateDataKey"}
    assert document(phasesync, "--root-key", "--kms-key", OTHER_KEY)["Statement"][0]["Resource"] == [OTHER_KEY]


def test_before_there_is_an_installation_it_is_for_every_one_and_says_so(
    phasesync: CommandLine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PHASESYNC_DATA_DIR", "/nonexistent")
    done = phasesync.done("aws", "policy", "--root-key", "--kms-key", KEY)

    assert not any("Condition" in statement for statement in json.loads(done.stdout)["Statement"])
    assert "print it again after phasesync init" in done.stderr
    assert "a daemon does without that statement" in done.stderr


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ((), "PHASESYNC_ROOT_KEY_KMS_KEY=ARN"),
        (("--kms-key", "alias/root-keys"), "is not the ARN of a KMS key"),
        (("--kms-key", KEY, "--with-import"), "only --kms-key is for --root-key"),
        (("--kms-key", KEY, "--permission-boundary", KEY), "--permission-boundary is for --starter dynamic"),
        (("web",), "with exactly one of"),
    ],
)
def test_the_policy_of_the_root_key_needs_a_kms_key_and_nothing_else(
    phasesync: CommandLine, args: tuple[str, ...], why: str
):
    refused = phasesync("aws", "policy", "--root-key", *args)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert why in refused.stderr


# --- backups


def test_the_policy_of_backups_is_for_one_place(phasesync: CommandLine, monkeypatch: pytest.MonkeyPatch):
    """Without an installation, too: it is needed before the first backup, and after everything was lost."""
    monkeypatch.setenv("PHASESYNC_DATA_DIR", "/nonexistent")
    policy = document(phasesync, "--backups", "s3://acme-backups/prod/db/")

    ours = "arn:aws:s3:::acme-backups/prod/db/phasesync-0123456789ab-20300102T030405Z.db"
    for action in ("s3:PutObject", "s3:GetObject", "s3:DeleteObject", "s3:AbortMultipartUpload"):
        assert allows(policy, action, ours, {})
        assert not allows(policy, action, "arn:aws:s3:::acme-backups/prod/db/theirs", {})
        assert not allows(policy, action, "arn:aws:s3:::acme-backups/phasesync-of-others", {})
    bucket = "arn:aws:s3:::acme-backups"
    assert allows(policy, "s3:ListBucket", bucket, {"s3:prefix": "prod/db/"})
    assert not allows(policy, "s3:ListBucket", bucket, {"s3:prefix": ""})


def test_the_policy_of_backups_is_the_one_of_the_document(phasesync: CommandLine):
    page = (Path(__file__).parents[2] / "docs" / "backup.md").read_text()
    shown = page.split("phasesync aws policy --backups s3://acme-backups/phasesync\n")[1].split("```json\n")[1]
    assert document(phasesync, "--backups", "s3://acme-backups/phasesync") == json.loads(shown.split("```")[0])


def test_the_policy_of_backups_knows_partitions_and_the_key_of_the_bucket(phasesync: CommandLine):
    there = document(phasesync, "--backups", "s3://acme-backups", "--region", "cn-north-1")
    assert there["Statement"][0]["Resource"] == ["arn:aws-cn:s3:::acme-backups/phasesync-*"]

    encrypted = document(phasesync, "--backups", "s3://acme-backups", "--kms-key", KEY)
    through = {"kms:ViaService": f"s3.{KEY.split(':')[3]}.amazonaws.com"}
    for action in ("kms:GenerateDataKey", "kms:Decrypt"):
        assert allows(encrypted, action, KEY, through)
        assert not allows(encrypted, action, KEY, {})


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (("--backups", "/var/backups"), "a folder needs no policy"),
        (("--backups", "s3://No"), "is not the name of a bucket"),
        (("--backups", "s3://acme-backups", "--no-sweep"), "only --kms-key and --region are for --backups"),
        (("--backups", "s3://acme-backups", "--kms-key", "alias/x"), "is not the ARN of a KMS key"),
        (("--backups", "s3://acme-backups", "--kms-key", KEY, "--region", "cn-north-1"), "partition"),
        (("--backups", "s3://acme-backups", "--root-key"), "with exactly one of"),
    ],
)
def test_a_policy_of_backups_for_something_else_is_refused(phasesync: CommandLine, args: tuple[str, ...], why: str):
    refused = phasesync("aws", "policy", *args)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert why in refused.stderr
