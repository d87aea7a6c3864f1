"""`phasesync dynamic` and `phasesync leases`, typed in: what they print, what they refuse, and with which exit code."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import Result
from dotenv import dotenv_values

from tests.cli.conftest import LIVES, POLICY, CommandLine, users
from tests.support.aws import Aws

LEASE = {"id", "dynamic", "status", "issued_at", "expires_at", "max_expires_at", "principal"}
KEYS = {"AWS_IAM_USERNAME", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def issue(ci: CommandLine, *options: str) -> str:
    return str(ci.json("leases", "issue", "ci", "--no-probe", *options)["id"])


# --- dynamic


def test_a_former_credential_keeps_its_policy_while_its_leases_live(ci: CommandLine) -> None:
    lease = issue(ci)
    ci.done("credentials", "add", "two", "--type", "ambient", "--region", "eu-west-1")
    ci.done("dynamic", "update", "ci", "--credential", "two")

    former = json.loads(ci.done("aws", "policy", "--all", "--credential", "host").stdout)
    assert "iam:DeleteAccessKey" in {action for one in former["Statement"] for action in one["Action"]}
    assert ci("aws", "policy", "--all").exit_code == 2
    now = ci.done("aws", "policy", "--dynamic", "ci")
    assert "made with the credential host" in now.stderr
    assert "phasesync aws policy --all --credential host" in now.stderr

    ci.done("leases", "revoke", lease)
    assert ci("aws", "policy", "--all", "--credential", "host").exit_code == 5
    assert ci.done("aws", "policy", "--dynamic", "ci").stderr == ""


def test_a_dynamic_secret_is_shown_with_everything_that_was_set(ci: CommandLine) -> None:
    ci.done(
        *("dynamic", "update", "ci", "--group", "deployers,readers", "--tag", "team=shop", "--max-leases", "3"),
        *("--permission-boundary", "arn:aws:iam::123456789012:policy/b", "--key-map", "username=CI_USER"),
    )

    shown = ci.json("dynamic", "show", "ci")

    (listed,) = ci.items("dynamic", "list")
    assert shown == listed | {"owner": None}
    assert (shown["env"], shown["path"], shown["issuer"]) == ("shop/prod", "/", "aws-iam-user")
    assert (shown["default_ttl_s"], shown["max_ttl_s"], shown["max_leases"]) == (3600, 28800, 3)
    assert (shown["groups"], shown["tags"]) == (["deployers", "readers"], {"team": "shop"})
    assert shown["keys"]["username"] == "CI_USER"
    assert json.loads(shown["inline_policy"]) == json.loads(POLICY)
    assert shown["iam_path"] == "/phasesync/shop/prod/"


def test_an_empty_text_takes_a_setting_back(ci: CommandLine) -> None:
    ci.done("dynamic", "update", "ci", "--group", "deployers", "--tag", "team=shop")
    ci.done("dynamic", "update", "ci", "--group", "", "--tag", "", "--inline-policy", "", "--key-map", "")

    shown = ci.json("dynamic", "show", "ci")
    assert (shown["groups"], shown["tags"], shown["inline_policy"]) == ([], {}, None)
    assert set(shown["keys"].values()) == KEYS


@pytest.mark.parametrize(
    ("options", "exit_code", "said"),
    [
        ((), 2, "--default-ttl"),
        (("--default-ttl", "1h"), 2, "--max-ttl"),
        (("--default-ttl", "30s", "--max-ttl", "1h"), 2, "the shortest life is 1m"),
        (("--default-ttl", "forever", "--max-ttl", "1h"), 2, "is not a duration"),
        ((*LIVES, "--user-template", "ci"), 2, "has no {{random}}"),
        ((*LIVES, "--inline-policy", "/nonexistent"), 2, "cannot be read"),
        ((*LIVES, "--issuer", "vault"), 2, "issuers: aws-iam-user, aws-assume-role"),
        ((*LIVES, "--issuer", "aws-assume-role"), 2, "--role-arn ARN"),
        ((*LIVES, "--key-map", "username"), 2, "is not OUTPUT=NAME, such as username=CI_USER"),
        ((*LIVES, "--max-leases", "0"), 2, "--max-leases"),
        ((*LIVES, "--max-leases", "x"), 2, "'x' is not a whole number"),
        (
            ("--default-ttl", "1h", "--max-ttl", "10m"),
            2,
            "hint: --default-ttl 10m or shorter, or --max-ttl 1h or longer",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_what_mends_it(
    ci: CommandLine, options: tuple[str, ...], exit_code: int, said: str
) -> None:
    refused = ci("dynamic", "add", "ops", "--env", "shop/prod", "--path", "/o", "--credential", "host", *options)

    assert refused.exit_code == exit_code
    assert said in refused.stderr
    assert [one["name"] for one in ci.items("dynamic", "list")] == ["ci"]


def test_a_name_that_is_taken_or_unknown(ci: CommandLine) -> None:
    taken = ci("dynamic", "add", "CI", "--env", "shop/prod", "--path", "/o", "--credential", "host", *LIVES)
    unknown = ci("leases", "issue", "c")
    nothing = ci("dynamic", "update", "ci")

    assert (taken.exit_code, unknown.exit_code, nothing.exit_code) == (4, 5, 2)
    assert "there is: ci" in unknown.stderr


# --- issuing


def test_issue_prints_the_credentials_this_once(ci: CommandLine, aws: Aws) -> None:
    issued = ci.json("leases", "issue", "ci", "--ttl", "90s")

    assert set(issued) == {*LEASE, "credentials"}
    assert set(issued["credentials"]) == KEYS
    assert (issued["dynamic"], issued["status"]) == ("ci", "active")
    left = datetime.fromisoformat(issued["expires_at"]) - datetime.now(UTC)
    assert timedelta(seconds=60) < left <= timedelta(seconds=90)
    (listed,) = ci.items("leases", "list")
    assert set(listed) == LEASE
    assert listed == {name: issued[name] for name in LEASE}
    assert issued["credentials"]["AWS_SECRET_ACCESS_KEY"] not in ci.done("leases", "show", issued["id"]).stdout
    assert users(aws) == {issued["credentials"]["AWS_IAM_USERNAME"]}


def test_identity_and_warnings_are_on_stderr(ci: CommandLine) -> None:
    done = ci.done("leases", "issue", "ci")

    assert "identity: account 123456789012" in done.stderr
    assert "no daemon is running" in done.stderr
    assert "AWS_SECRET_ACCESS_KEY" in done.stdout and "identity" not in done.stdout


def test_dotenv_is_what_a_shell_can_read(ci: CommandLine, tmp_path: Path) -> None:
    done = ci.done("leases", "issue", "ci", "--no-probe", "--format", "dotenv")

    file = tmp_path / "lease.env"
    file.write_text(done.stdout)
    assert set(dotenv_values(file)) == KEYS


def test_credential_process_is_what_the_sdks_read(ci: CommandLine) -> None:
    first = json.loads(ci.done("leases", "issue", "ci", "--format", "credential-process", "--keep").stdout)
    second = json.loads(ci.done("leases", "issue", "ci", "--format", "credential-process", "--keep").stdout)
    third = json.loads(ci.done("leases", "issue", "ci", "--format", "credential-process").stdout)

    assert set(first) == {"Version", "AccessKeyId", "SecretAccessKey", "Expiration"}
    assert first["Version"] == 1
    assert datetime.fromisoformat(first["Expiration"]) > datetime.now(UTC)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", first["Expiration"]), "some readers refuse a fraction"
    assert second == first, "it is kept, and issued again"
    assert third["AccessKeyId"] != first["AccessKeyId"]


def test_formats_exclude_json(ci: CommandLine, aws: Aws) -> None:
    refused = ci("leases", "issue", "ci", "--format", "dotenv", "-o", "json")

    assert refused.exit_code == 2
    assert users(aws) == set()


@pytest.mark.parametrize(
    ("ttl", "said"),
    [
        ("59s", "59s is too short: leases of aws-iam-user live 1m at least"),
        ("9h", "longer than leases of ci may live: 8h"),
    ],
)
def test_a_life_out_of_bounds_makes_nothing(ci: CommandLine, aws: Aws, ttl: str, said: str) -> None:
    refused = ci("leases", "issue", "ci", "--ttl", ttl)

    assert refused.exit_code == 2
    assert said in refused.stderr
    assert users(aws) == set()


def test_what_aws_refuses_names_the_line_that_prints_the_policy(ci: CommandLine, aws: Aws) -> None:
    aws.server.deny("iam:CreateAccessKey")

    refused = ci("leases", "issue", "ci")

    assert refused.exit_code == 7
    assert "not allowed to call iam:CreateAccessKey" in refused.stderr
    assert "phasesync aws policy --dynamic ci" in refused.stderr
    assert users(aws) == set(), "undone at once"


# --- renewing, revoking


def test_renewing_counts_from_now(ci: CommandLine) -> None:
    lease = issue(ci, "--ttl", "60s")

    renewed = ci.json("leases", "renew", lease, "--ttl", "2h")
    too_long = ci("leases", "renew", lease, "--ttl", "9h")

    left = datetime.fromisoformat(renewed["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=119) < left <= timedelta(hours=2)
    assert (too_long.exit_code, "at the latest" in too_long.stderr) == (4, True)


def test_revoking_twice_is_fine_and_renewing_then_is_not(ci: CommandLine, aws: Aws) -> None:
    lease = issue(ci)

    first = ci.json("leases", "revoke", lease)
    again = ci.json("leases", "revoke", lease)

    assert (first["status"], again, users(aws)) == ("revoked", first, set())
    assert ci("leases", "renew", lease, "--ttl", "1h").exit_code == 4
    assert ci.items("leases", "list") == []
    assert [one["id"] for one in ci.items("leases", "list", "--all", "--dynamic", "ci")] == [lease]


def test_a_revocation_that_fails_says_when_it_is_tried_again(ci: CommandLine, aws: Aws) -> None:
    lease = issue(ci)
    denial = aws.server.deny("iam:DeleteAccessKey")

    failed = ci("leases", "revoke", lease)
    aws.server.access.allow(denial)
    mended = ci.json("leases", "revoke", lease)

    assert failed.exit_code == 7
    assert "tried again by itself, from " in failed.stderr
    assert (mended["status"], users(aws)) == ("revoked", set())


def test_a_lease_has_a_log_of_who_did_what(ci: CommandLine) -> None:
    lease = issue(ci)
    ci.done("--actor", "deploy-bot", "leases", "renew", lease, "--ttl", "1h")
    ci.done("leases", "revoke", lease)

    shown = ci.json("leases", "show", lease)

    assert [one["event"] for one in shown["log"]] == ["issued", "renewed", "revoked"]
    assert shown["log"][1]["actor"].endswith(" as deploy-bot")
    assert (shown["cause"], shown["account"]) == ("request", "123456789012")


@pytest.mark.parametrize("command", [("show",), ("revoke",), ("renew", "--ttl", "1h")])
def test_a_lease_that_does_not_exist(ci: CommandLine, command: tuple[str, ...]) -> None:
    refused = ci("leases", command[0], "0000000000000000", *command[1:])

    assert refused.exit_code == 5
    assert "there is no lease 0000000000000000" in refused.stderr


# --- removing what leases hang on


def remove_dynamic(ci: CommandLine, *options: str) -> Result:
    return ci("dynamic", "remove", "ci", "--yes", *options)


def remove_environment(ci: CommandLine, *options: str) -> Result:
    return ci("envs", "remove", "shop/prod", "--yes", *options)


def remove_credential(ci: CommandLine, *options: str) -> Result:
    return ci("credentials", "remove", "host", "--yes", *options)


@pytest.mark.parametrize("remove", [remove_dynamic, remove_environment, remove_credential])
def test_what_has_live_leases_is_not_removed_unless_they_are_revoked_first(
    ci: CommandLine, aws: Aws, remove: Callable[..., Result]
) -> None:
    issue(ci), issue(ci)

    refused = remove(ci)
    done = remove(ci, "--revoke")

    assert (refused.exit_code, "--revoke" in refused.stderr) == (4, True)
    assert done.exit_code == 0, done.stderr
    assert users(aws) == set()
    assert ci.items("dynamic", "list") == []


@pytest.mark.parametrize("remove", [remove_dynamic, remove_environment, remove_credential])
def test_what_cannot_be_revoked_keeps_everything(ci: CommandLine, aws: Aws, remove: Callable[..., Result]) -> None:
    issue(ci)
    aws.server.deny("iam:DeleteUser")

    refused = remove(ci, "--revoke")

    assert refused.exit_code == 7
    assert "could not be revoked, so nothing else is removed" in refused.stderr
    assert len(users(aws)) == 1
    assert [one["name"] for one in ci.items("dynamic", "list")] == ["ci"]
    assert ci.items("envs", "list") and ci.items("credentials", "list")


def test_without_leases_a_dynamic_secret_goes_at_once(ci: CommandLine) -> None:
    unasked = ci("dynamic", "remove", "ci")
    ci.done("dynamic", "remove", "ci", "--yes")

    assert unasked.exit_code == 2
    assert ci.items("dynamic", "list") == []
    assert "the dynamic secret" not in ci.done("credentials", "remove", "host", "--yes").stderr


# --- reaping


def lose(ci: CommandLine, aws: Aws) -> str:
    """Add a user with our marks and a past end, without a lease in the database."""
    instance = ci.json("status")["instance_id"]
    tags = {
        "phasesync:instance": instance,
        "phasesync:lease": "lost",
        "phasesync:max-expires-at": "2026-01-01T00:00:00Z",
    }
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    aws.boto("iam").create_user(UserName="ci-lost", Path="/phasesync/shop/prod/", Tags=listed)
    return "ci-lost"


def test_reaping_shows_first_and_acts_with_yes(ci: CommandLine, aws: Aws) -> None:
    issue(ci)
    live = users(aws)
    lost = lose(ci, aws)

    shown = ci("leases", "reap")
    assert (shown.exit_code, lost in shown.stdout) == (2, True)
    assert users(aws) == {lost, *live}

    document = ci.json("leases", "reap", "--yes")
    assert [(one["user"], one["fate"], one["result"]) for one in document["items"]] == [(lost, "overdue", "removed")]
    assert users(aws) == live


def test_reaping_asks_nothing_where_nothing_is_to_go(ci: CommandLine) -> None:
    assert ci.json("leases", "reap")["items"] == []


def test_reaping_with_a_credential_that_may_not_list_exits_so(ci: CommandLine, aws: Aws) -> None:
    aws.server.deny("iam:ListUsers")

    refused = ci("leases", "reap", "--yes")

    assert (refused.exit_code, "iam:ListUsers" in refused.stderr) == (7, True)


# --- what IAM does not find


def hide(aws: Aws, name: str, seconds: float = 3600) -> None:
    aws.server.state.users.hide("123456789012", name, timedelta(seconds=seconds))


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands look again at once."""
    monkeypatch.setattr("phasesync.engine.leases.operations._LOOK_AGAIN_S", (0.0, 0.0))


@pytest.mark.usefixtures("no_pauses")
def test_a_user_that_iam_does_not_find_is_not_said_to_be_revoked(ci: CommandLine, aws: Aws) -> None:
    lease = issue(ci)
    (name,) = users(aws)
    hide(aws, name)

    revoked = ci("leases", "revoke", lease)
    shown = ci.json("leases", "show", lease)

    assert revoked.exit_code == 7
    assert f"IAM does not find the user of the lease {lease}" in revoked.stderr
    assert "its key may work until then; the daemon looks again, first at 2" in revoked.stderr
    assert f"phasesync leases revoke {lease}" in revoked.stderr
    assert (shown["status"], shown["ended_at"]) == ("revoking", None)
    assert shown["missing_since"] is not None and shown["retry_at"] is not None
    assert [one["event"] for one in shown["log"]] == ["issued", "missing"]


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("remove", [remove_dynamic, remove_environment, remove_credential])
def test_what_a_lease_hangs_on_stays_while_its_user_is_not_found(
    ci: CommandLine, aws: Aws, remove: Callable[..., Result]
) -> None:
    issue(ci)
    (name,) = users(aws)
    hide(aws, name)

    refused = remove(ci, "--revoke")

    assert refused.exit_code == 7
    assert "counts as revoked once that has been so for some minutes" in refused.stderr
    assert [one["name"] for one in ci.items("dynamic", "list")] == ["ci"]


def test_a_kept_key_that_somebody_revoked_by_hand_is_not_handed_out(ci: CommandLine, aws: Aws) -> None:
    kept = ("leases", "issue", "ci", "--format", "credential-process", "--keep")
    first = json.loads(ci.done(*kept).stdout)
    (name,) = users(aws)
    aws.boto("iam").delete_access_key(UserName=name, AccessKeyId=first["AccessKeyId"])

    second = json.loads(ci.done(*kept).stdout)

    assert second["AccessKeyId"] != first["AccessKeyId"]
    assert len(users(aws) - {name}) == 1


def test_a_restored_backup_hands_out_no_key(ci: CommandLine, aws: Aws, tmp_path: Path) -> None:
    kept = ("leases", "issue", "ci", "--format", "credential-process", "--keep")
    first = json.loads(ci.done(*kept).stdout)
    ci.done("db", "backup", str(tmp_path / "backup.db"))
    ci.done("db", "restore", str(tmp_path / "backup.db"), "--yes")

    second = json.loads(ci.done(*kept).stdout)
    third = json.loads(ci.done(*kept).stdout)

    assert second["AccessKeyId"] != first["AccessKeyId"]
    assert third == second


def test_renewing_says_as_whom_and_tells_the_user(ci: CommandLine, aws: Aws) -> None:
    lease = issue(ci)

    done = ci.done("leases", "renew", lease, "--ttl", "2h")

    assert "identity: account 123456789012" in done.stderr
    (name,) = users(aws)
    tags = {one["Key"]: one["Value"] for one in aws.boto("iam").get_user(UserName=name)["User"]["Tags"]}
    assert tags["phasesync:renewed"].startswith("1 2")


def test_the_beginning_of_a_lease_id_is_enough(ci: CommandLine, aws: Aws) -> None:
    """For each command that takes one; what is printed has the whole id."""
    lease = issue(ci)

    assert ci.json("leases", "show", lease[:6])["id"] == lease
    assert lease in ci.done("leases", "renew", lease[:6], "--ttl", "1h").stderr
    assert lease in ci.done("leases", "revoke", lease[:6]).stderr
    assert users(aws) == set()
