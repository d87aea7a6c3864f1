"""What `phasesync dynamic`, `leases` and their neighbours say when something is in the way, and what helps."""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
import sys
import time
from pathlib import Path

import click
import pytest

from phasesync.cli.main import cli
from tests.cli.conftest import CommandLine
from tests.support.aws import Aws
from tests.support.vouching import vouch_for_leases

LIVES = ("--default-ttl", "1h", "--max-ttl", "8h")
SESSIONS = ("--issuer", "aws-assume-role", "--default-ttl", "15m", "--max-ttl", "1h")


def add(shop: CommandLine, name: str, *options: str) -> None:
    shop.done("dynamic", "add", name, "--env", "shop/prod", "--credential", "host", *(options or LIVES))


@pytest.fixture
def ci(shop: CommandLine, aws: Aws) -> CommandLine:
    """A dynamic secret `ci` of shop/prod, on an AWS."""
    shop.done("credentials", "add", "host", "--type", "ambient", "--region", "eu-west-1")
    add(shop, "ci")
    return shop


@pytest.fixture
def ops(ci: CommandLine, aws: Aws) -> CommandLine:
    """Also a dynamic secret `ops` that issues sessions of a role."""
    add(ci, "ops", "--path", "/ops", "--role-arn", aws.role("ops"), *SESSIONS)
    return ci


def issue(ci: CommandLine, dynamic: str = "ci") -> str:
    return str(ci.json("leases", "issue", dynamic, "--no-probe")["id"])


def end(ci: CommandLine, *leases: str) -> None:
    """Have leases be past their end."""
    database = sqlite3.connect(ci.directory / "data" / "phasesync.db")
    with database:
        for lease in leases:
            database.execute("UPDATE leases SET expires_at = ? WHERE id = ?", (int((time.time() - 9) * 1e6), lease))
    database.close()
    vouch_for_leases(f"sqlite:///{ci.directory}/data/phasesync.db")


# --- a profile with credentials that come from phasesync


@pytest.fixture
def profile(ci: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A profile `ci` on `leases issue`, and no other identity; the file counts how often it was started."""
    started, command = ci.directory / "started", ci.directory / "credentials.sh"
    # Where nothing else ends it, the third start does.
    command.write_text(
        f"echo >> {started}; test $(wc -l < {started}) -lt 3 || exit 9\n"
        f"exec {shlex.quote(sys.executable)} -m phasesync leases issue ci --format credential-process --keep\n"
    )
    config = ci.directory / "aws-config"
    config.write_text(f"[profile ci]\ncredential_process = sh {command}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "ci")
    return started


def test_a_profile_that_leads_back_to_phasesync_ends_at_the_first_re_entry(ci: CommandLine, profile: Path) -> None:
    refused = ci("leases", "issue", "ci", "--format", "credential-process", "--keep")

    assert refused.exit_code == 6
    assert refused.stderr.splitlines() == [
        "error: the AWS profile that phasesync takes its identity from gets its credentials from phasesync itself",
        "hint: choose the profile with --profile ci, not with AWS_PROFILE nor as [default]; or give phasesync an "
        "identity of its own: credential_process = env AWS_PROFILE=host phasesync leases issue ci …",
    ]
    assert profile.read_text().count("\n") == 1, "started once by the SDK"
    assert "PHASESYNC_ISSUING" not in os.environ


def test_a_marked_process_refuses_its_own_dynamic_secret_only(
    ops: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHASESYNC_ISSUING", "host,ci")

    refused = ops("leases", "issue", "CI", "-o", "json")
    other = ops.done("leases", "issue", "ops")

    error = json.loads(refused.stderr)["error"]
    assert (refused.exit_code, error["class"]) == (6, "SettingsError")
    assert error["hint"].endswith("phasesync leases issue CI …")
    assert "PHASESYNC_ISSUING is not a setting" not in other.stderr
    assert os.environ["PHASESYNC_ISSUING"] == "host,ci"


# --- adding and changing


def test_all_keys_that_collide_are_named_at_once(ci: CommandLine) -> None:
    ci.done("secrets", "set", "shop/prod", "OPS_TOKEN", "-", stdin="x")
    options = ("--role-arn", "arn:aws:iam::123456789012:role/ops", "--key-map", "session_token=OPS_TOKEN", *SESSIONS)

    taken = ci("dynamic", "add", "ops", "--env", "shop/prod", "--credential", "host", *options)
    add(ci, "ops", "--path", "/ops", *options)

    assert taken.exit_code == 4
    assert taken.stderr.splitlines() == [
        "error: OPS_TOKEN is a secret of shop/prod / already; AWS_IAM_USERNAME, AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY of shop/prod / are issued by ci already",
        "hint: choose other names: --key-map username=NAME,access_key_id=NAME,secret_access_key=NAME,session_token=NAME"
        ", or put it into a folder of its own: --path /ops",
    ]


def test_an_update_cannot_change_the_folder(ci: CommandLine) -> None:
    ci.done("secrets", "set", "shop/prod", "CI_USER", "-", stdin="x")

    taken = ci("dynamic", "update", "ci", "--key-map", "username=CI_USER")

    assert taken.exit_code == 4
    assert taken.stderr.endswith("hint: choose other names: --key-map username=NAME\n")
    assert "Environment, folder and issuer cannot change" in " ".join(
        ci.done("dynamic", "update", "--help").stdout.split()
    )


def test_the_examples_of_the_help_can_be_typed_one_after_the_other(ci: CommandLine) -> None:
    assert "dynamic add ops --env shop/production --path /ops" in ci.done("dynamic", "add", "--help").stdout


def test_an_incomplete_credential_is_warned_about(shop: CommandLine, aws: Aws) -> None:
    shop.done("credentials", "add", "role", "--type", "assume-role", "--region", "eu-west-1")

    added = shop.done("dynamic", "add", "ci", "--env", "shop/prod", "--credential", "role", "-o", "json", *LIVES)

    assert "phasesync credentials update role --role-arn ARN" in added.stderr


def test_an_unknown_dynamic_secret_is_told_where_to_look(ci: CommandLine) -> None:
    assert "hint: phasesync dynamic list" in ci("leases", "issue", "other").stderr


def test_options_that_can_be_taken_back_say_so() -> None:
    update = cli.get_command(click.Context(cli), "dynamic").get_command(click.Context(cli), "update")  # type: ignore[union-attr]
    helps = {option.opts[0]: option.help for option in update.params if isinstance(option, click.Option)}

    for option in ("--permission-boundary", "--inline-policy", "--session-policy"):
        assert str(helps[option]).endswith("which '' restores: none."), option


# --- status


def test_a_lease_that_nobody_takes_back_is_in_status(ops: CommandLine) -> None:
    lease = issue(ops)
    session, other = issue(ops, "ops"), issue(ops)
    assert ops.json("status")["leases_overdue"] == []
    end(ops, lease, session)

    one = ops.done("status").stderr
    listed = ops.json("status")["leases_overdue"]
    end(ops, other)
    two = ops.done("status").stderr

    assert [(found["lease"], found["dynamic"]) for found in listed] == [(lease, "ci")]
    assert "warning: 1 lease is past its end and its key still works: no daemon is running to revoke it" in one
    assert "phasesync daemon" in one
    assert f"phasesync leases revoke {lease}" in one
    assert "2 leases are past their end and their keys still work" in two


def test_what_could_not_be_revoked_is_tried_again_once_the_credential_works(ci: CommandLine, aws: Aws) -> None:
    lease = issue(ci)
    denial = aws.server.deny("iam:DeleteAccessKey")

    refused = ci("leases", "revoke", lease)
    told = ci.done("status").stderr
    waits = ci.json("leases", "show", lease)["retry_at"]
    aws.server.access.allow(denial)
    ci.done("credentials", "test", "host")

    assert (refused.exit_code, "phasesync aws policy --dynamic ci" in refused.stderr) == (7, True)
    assert f"at once: phasesync leases revoke {lease}" in told
    assert waits is not None
    assert ci.json("leases", "show", lease)["retry_at"] is None


# --- removing


@pytest.mark.parametrize(
    "what", [("dynamic", "remove", "ci"), ("envs", "remove", "shop/prod"), ("credentials", "remove", "host")]
)
def test_what_is_revoked_with_something_is_told(ci: CommandLine, what: tuple[str, ...]) -> None:
    leases = {issue(ci), issue(ci)}

    asked = ci(*what, "--revoke")
    done = ci.done(*what, "--revoke", "--yes", "-o", "json")

    assert "after revoking its 2 live leases" in asked.stderr
    assert "identity: account 123456789012" in done.stderr
    assert "revoked 2 leases" in done.stderr
    assert set(json.loads(done.stdout)["revoked"]) == leases


def test_what_aws_refuses_there_names_the_dynamic_secret(ci: CommandLine, aws: Aws) -> None:
    issue(ci)
    aws.server.deny("iam:DeleteUser")

    refused = ci("dynamic", "remove", "ci", "--revoke", "--yes")

    assert (refused.exit_code, "phasesync aws policy --dynamic ci" in refused.stderr) == (7, True)


def test_removing_an_environment_names_its_dynamic_secrets(ops: CommandLine) -> None:
    asked = ops("envs", "remove", "shop/prod")

    assert "remove shop/prod with 0 secrets and their history, and its dynamic secrets (ci, ops)" in asked.stderr


def test_sessions_of_a_role_cannot_be_revoked(ops: CommandLine) -> None:
    session = issue(ops, "ops")
    until = ops.json("leases", "show", session)["expires_at"][:19].replace("T", " ")

    refused = ops("dynamic", "remove", "ops", "--yes")
    asked = ops("dynamic", "remove", "ops", "--revoke")
    done = ops.done("dynamic", "remove", "ops", "--revoke", "--yes")

    assert refused.exit_code == 4
    assert f"sessions of a role cannot be revoked; AWS ends these by {until} UTC" in refused.stderr
    assert f"after letting go of 1 session of a role that AWS ends by {until} UTC" in asked.stderr
    assert "revoked" not in done.stderr


# --- reaping


def test_reaping_shows_as_json_what_it_asks_about(ci: CommandLine, aws: Aws) -> None:
    tags = {
        "phasesync:instance": ci.json("status")["instance_id"],
        "phasesync:lease": "lost",
        "phasesync:max-expires-at": "2026-01-01T00:00:00Z",
    }
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    aws.boto("iam").create_user(UserName="lost", Path="/phasesync/shop/prod/", Tags=listed)

    asked = ci("leases", "reap", "-o", "json")

    assert asked.exit_code == 2
    assert [(one["user"], one["result"]) for one in json.loads(asked.stdout)["items"]] == [("lost", None)]
    assert json.loads(asked.stderr.splitlines()[-1])["error"]["class"] == "ConfirmationRequiredError"


def test_reaping_says_once_that_there_is_nothing(ci: CommandLine) -> None:
    lines = ci.done("leases", "reap").stderr.splitlines()

    assert [line for line in lines if not line.startswith("identity:")] == [
        "nothing to remove: no user at AWS is left of a lease that is over"
    ]


# --- phasesync run


def test_run_names_what_there_is_in_the_place_of_an_environment(shop: CommandLine) -> None:
    refused = shop("run", "--env", "shop/production", "--", "true")

    assert refused.exit_code == 5
    assert "there is no environment shop/production; shop has: prod" in refused.stderr


def test_run_refuses_keys_that_meet_as_everything_else_does(ops: CommandLine) -> None:
    refused = ops("run", "--env", "shop/prod", "--dynamic", "ci,ops", "--", "true")

    assert (refused.exit_code, "is a key of ci and of ops" in refused.stderr) == (4, True)


# --- phasesync aws policy, credentials add


def test_a_dynamic_secret_in_the_place_of_a_sync(ci: CommandLine) -> None:
    refused = ci("aws", "policy", "ci")

    assert (refused.exit_code, "phasesync aws policy --dynamic ci" in refused.stderr) == (5, True)


@pytest.mark.parametrize("option", [("--with-import",), ("--kms-key", "arn:aws:kms:eu-west-1:123456789012:key/k")])
def test_the_starter_for_dynamic_secrets_takes_nothing_of_syncs(shop: CommandLine, option: tuple[str, ...]) -> None:
    refused = shop("aws", "policy", "--starter", "dynamic", *option)

    assert (refused.exit_code, refused.stdout, "--starter sync" in refused.stderr) == (2, "", True)


def test_a_new_role_gets_the_line_for_dynamic_secrets(shop: CommandLine, aws: Aws) -> None:
    added = shop.done("credentials", "add", "aws", "--type", "assume-role", "--region", "eu-west-1")

    assert (
        "other rights as well: aws iam put-role-policy --role-name phasesync-aws --policy-name phasesync-leases "
        "--policy-document "
        '"$(phasesync aws policy --starter dynamic --region eu-west-1)"' in added.stderr
    )
