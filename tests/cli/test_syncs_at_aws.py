"""The operator's side of syncs, typed in, on AWS on loopback: adopt, release, remove, why, verify, force-delete."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.conftest import CommandLine
from tests.support.aws import Aws
from tests.support.waiting import wait_until

NAME = "shop/web"
SECRET = "postgres://theirs"


@pytest.fixture
def syncs(shop: CommandLine, aws: Aws) -> CommandLine:
    """A command line with a credential, an environment of two keys, and an empty AWS."""
    shop.done("credentials", "add", "host", "--type", "ambient", "--region", "eu-west-1")
    shop.done("secrets", "import", "shop/prod", "-", "--yes", stdin="URL=postgres://db\nUSER=shop\n")
    return shop


def add(syncs: CommandLine, *options: str) -> Any:
    """Add the sync `web`; return it."""
    given = ("--env", "shop/prod", "--credential", "host")
    return syncs.json("syncs", "add", "web", *given, *(options or ("--secret-name", NAME)))


def per_key(syncs: CommandLine, *options: str) -> Any:
    """Add it with one secret a key."""
    return add(syncs, "--name-template", "shop/{key}", *options)


def their_secret(aws: Aws, value: str = json.dumps({"URL": SECRET, "PORT": 5432}), name: str = NAME) -> str:
    """Someone makes a secret; return its ARN."""
    tags = [{"Key": "team", "Value": "other"}]
    made = aws.boto("secretsmanager").create_secret(Name=name, SecretString=value, Tags=tags)
    return str(made["ARN"])


def tags_of(aws: Aws, name: str = NAME) -> dict[str, str]:
    """The tags of a secret."""
    listed = aws.boto("secretsmanager").describe_secret(SecretId=name).get("Tags", [])
    return {tag["Key"]: tag["Value"] for tag in listed}


def values(syncs: CommandLine) -> Any:
    """What the store has."""
    return json.loads(syncs.done("secrets", "export", "shop/prod", "--format", "json").stdout)


# --- plan


def test_a_plan_for_one_secret_a_key_counts_calls_and_versions(syncs: CommandLine) -> None:
    added = per_key(syncs)
    assert added["destination"]["name_template"] == "shop/{key}"

    plan = syncs.json("syncs", "plan", "web")
    run = syncs.json("syncs", "run", "web")

    assert [(one["action"], one["remote_name"]) for one in plan["changes"]] == [
        ("create", "shop/URL"),
        ("create", "shop/USER"),
    ]
    assert (
        plan["estimate"] == {"calls": run["aws_calls"], "writes": run["versions_written"]} == {"calls": 4, "writes": 2}
    )
    assert syncs.json("syncs", "plan", "web")["estimate"] == {"calls": 2, "writes": 0}


def test_a_plan_says_which_secret_aws_does_not_describe(syncs: CommandLine, aws: Aws) -> None:
    """Silence would read as: nothing to do."""
    per_key(syncs)
    aws.server.deny("secretsmanager:DescribeSecret")

    told = syncs("syncs", "plan", "web", "--detailed-exitcode")
    plan = json.loads(syncs("syncs", "plan", "web", "-o", "json").stdout)

    assert told.exit_code == 7
    assert "error: shop/URL: the credential is not allowed to call secretsmanager:DescribeSecret" in told.stderr
    assert told.stderr.count("phasesync aws policy web prints the whole policy") == 1
    assert [(one["remote_name"], one["class"]) for one in plan["problems"]] == [
        ("shop/URL", "PermissionDeniedError"),
        ("shop/USER", "PermissionDeniedError"),
    ]


def test_a_plan_says_which_value_cannot_be_written(syncs: CommandLine) -> None:
    """The others are planned as ever."""
    per_key(syncs)
    syncs.done("secrets", "set", "shop/prod", "URL", "-", stdin="x" * 70_000)

    told = syncs("syncs", "plan", "web")

    assert told.exit_code == 1
    assert "error: shop/URL: the payload has 70,000 bytes" in told.stderr
    assert "create          shop/USER" in told.stdout


def test_a_plan_names_what_ends_a_conflict(syncs: CommandLine, aws: Aws) -> None:
    """The secret of someone else is in the way."""
    their_secret(aws)
    add(syncs)

    told = syncs.done("syncs", "plan", "web")

    assert "conflict" in told.stdout
    assert "hint: phasesync syncs adopt web takes it over" in told.stderr


# --- add and update


def test_after_adding_a_sync_whose_secret_is_not_ours_the_adoption_is_next(syncs: CommandLine, aws: Aws) -> None:
    """A run would only refuse it."""
    their_secret(aws)

    told = syncs.done("syncs", "add", "web", "--env", "shop/prod", "--credential", "host", "--secret-name", NAME)

    assert told.stderr.splitlines()[-1] == "added the sync web; next: phasesync syncs adopt web"


def test_a_sync_that_is_added_twice_is_said_to_exist(syncs: CommandLine) -> None:
    """Not that it is in its own way."""
    add(syncs)
    again = syncs("syncs", "add", "web", "--env", "shop/prod", "--credential", "host", "--secret-name", NAME)
    assert again.exit_code == 4
    assert again.stderr == "error: the sync web exists already\nhint: to change it: phasesync syncs update web\n"


def test_a_copy_that_is_there_keeps_its_key_and_that_is_said(syncs: CommandLine, aws: Aws) -> None:
    """AWS takes a key for a copy only when it makes it."""
    add(syncs, "--secret-name", NAME, "--replica", "us-east-1")
    key = aws.server.outside.at(region="us-east-1").create_key()
    told = syncs.done("syncs", "update", "web", "--replica", f"us-east-1={key}")
    assert "warning: the copy in us-east-1 keeps its key" in told.stderr
    assert "keeps its key" not in syncs.done("syncs", "update", "web", "--replica", "eu-central-1").stderr


def test_a_resource_policy_that_is_no_json_is_called_that(syncs: CommandLine) -> None:
    """The file, not some value."""
    file = syncs.directory / "policy.json"
    file.write_text('{"Statement": [')
    refused = syncs(
        "syncs", "add", "web", "--env", "shop/prod", "--credential", "host", "--secret-name", NAME,
        "--resource-policy", str(file),
    )  # fmt: skip
    assert refused.exit_code == 2
    assert "the resource policy is not valid JSON at line 1" in refused.stderr


# --- pause, and waiting in vain


def test_a_pause_says_when_it_ends(syncs: CommandLine) -> None:
    """One that replaces it may have no end."""
    add(syncs)
    assert re.search(
        r"paused web until \d{4}-\d\d-\d\d [\d:]+Z", syncs.done("syncs", "pause", "web", "--until", "2h").stderr
    )
    assert syncs.done("syncs", "pause", "web").stderr.strip() == "paused web"


def test_what_mends_a_sync_that_fails_is_said_by_why(syncs: CommandLine, aws: Aws) -> None:
    """Waiting for it points there: a daemon is not what it lacks."""
    add(syncs)
    aws.server.deny("secretsmanager:CreateSecret")
    assert syncs("syncs", "run", "web").exit_code == 7

    waited = syncs("syncs", "wait", "web", "--timeout", "0s")
    told = syncs.done("syncs", "why", "web")

    assert waited.exit_code == 4
    assert "hint: phasesync syncs why web" in waited.stderr
    assert 'hint: allow "secretsmanager:CreateSecret"' in told.stdout
    assert "CreateSecret" in syncs.json("syncs", "why", "web")["last_run"]["error"]["hint"]


def test_a_test_that_aws_accepts_wakes_what_failed_and_says_what_it_did_not_try(syncs: CommandLine, aws: Aws) -> None:
    """An identity without any right is accepted too: that alone must not look as if all were fine."""
    add(syncs)
    aws.server.deny("secretsmanager:CreateSecret")
    assert syncs("syncs", "run", "web").exit_code == 7

    told = syncs.done("credentials", "test", "host").stderr
    tested = syncs.json("credentials", "test", "host")

    assert "AWS accepts the credential host (tried: sts:GetCallerIdentity). Not tried: rights on secrets" in told
    assert "phasesync syncs plan web" in told
    assert (tested["tried"], tested["not_tried"]) == (
        ["sts:GetCallerIdentity"],
        "rights on secrets, KMS keys and IAM users",
    )
    assert syncs.json("syncs", "show", "web")["status"] == "failing"
    assert "a run was asked for (change)" in syncs.json("syncs", "why", "web")["reasons"]


def test_why_and_status_name_the_command_that_tries_at_once(syncs: CommandLine, aws: Aws) -> None:
    add(syncs)
    aws.server.deny("secretsmanager:CreateSecret")
    assert syncs("syncs", "run", "web").exit_code == 7

    line = "once the cause is fixed, to try at once: phasesync syncs trigger web"
    assert line in syncs.done("syncs", "why", "web").stdout
    assert line in syncs.done("status").stderr


# --- what is shown


def test_a_sync_says_when_it_was_last_in_sync_and_durations_as_they_are_typed(syncs: CommandLine, aws: Aws) -> None:
    added = add(syncs)
    assert (added["interval_s"], added["last_synced_at"]) == (300, None)
    assert isinstance(added["interval_s"], int)
    run = syncs.json("syncs", "run", "web")
    aws.server.deny("secretsmanager:DescribeSecret")
    assert syncs("syncs", "run", "web").exit_code == 7

    shown = syncs.json("syncs", "show", "web")
    assert shown["last_synced_at"] == run["ended_at"]
    assert shown["retry_at"] > shown["last_synced_at"]
    table = syncs.done("syncs", "show", "web").stdout
    assert re.search(r"^interval +5m$", table, re.MULTILINE)
    assert re.search(r"^guard_window +1d$", table, re.MULTILINE)


def test_a_run_names_the_keys_that_it_wrote_and_no_value(syncs: CommandLine) -> None:
    add(syncs)
    assert syncs.done("syncs", "run", "web").stdout.count("+ URL") == 1
    syncs.done("secrets", "set", "shop/prod", "URL", "-", stdin="postgres://new")
    syncs.done("secrets", "unset", "shop/prod", "USER")
    run = syncs.json("syncs", "run", "web")

    shown = syncs.json("runs", "show", run["id"])["changes"][0]["keys"]
    assert (shown["added"], shown["changed"], shown["removed"]) == ([], ["URL"], ["USER"])
    table = syncs.done("runs", "show", run["id"]).stdout
    assert "~ URL" in table and "- USER" in table
    assert "postgres" not in table


def test_a_run_that_could_not_look_does_not_say_noop(syncs: CommandLine, aws: Aws) -> None:
    add(syncs)
    aws.server.deny("secretsmanager:DescribeSecret")
    assert syncs("syncs", "run", "web").exit_code == 7

    listed = syncs.done("runs", "list").stdout
    assert "failed:1" in listed
    assert "noop" not in listed
    assert "noop" not in syncs.done("runs", "show", syncs.items("runs", "list")[0]["id"]).stdout.splitlines()[-1]


def test_a_retry_that_is_over_says_nothing_any_more(syncs: CommandLine) -> None:
    """Edits gather for two seconds after a write; after that the instant means nothing."""
    add(syncs)
    syncs.done("syncs", "run", "web")
    wait_until(lambda: syncs.json("syncs", "show", "web")["retry_at"] is None, what="the end of the pause")


def test_the_beginning_of_a_run_id_is_enough(syncs: CommandLine) -> None:
    add(syncs)
    first, second = (syncs.json("syncs", "run", "web")["id"] for _ in range(2))
    short = next(second[:n] for n in range(4, len(second)) if second[:n] != first[:n])

    assert syncs.json("runs", "show", short)["id"] == second
    several = syncs("runs", "show", first[:4])
    assert several.exit_code == 2
    assert f"several runs begin with {first[:4]}: {first}, {second}" in several.stderr
    assert syncs("runs", "show", "0%").exit_code == 5, "what a pattern would mean is no pattern here"
    assert "too short for the id of a run" in syncs("runs", "show", second[:2]).stderr


# --- adopt and release


def test_adopting_shows_what_is_there_asks_and_gives_back(
    syncs: CommandLine, aws: Aws, answer: Callable[[], None]
) -> None:
    """ARN, tags, versions and owner are shown, a value never; a no changes nothing."""
    arn = their_secret(aws)
    add(syncs)

    answer()
    refused = syncs("syncs", "adopt", "web", stdin="n\n")
    assert refused.exit_code == 1
    for part in (arn, "team=other", "versions: 1", "exists and was not made by phasesync", "last changed 20"):
        assert part in refused.stderr
    assert SECRET not in refused.stderr + refused.stdout
    assert syncs.json("syncs", "show", "web")["adopt"] is None

    syncs.done("syncs", "adopt", "web", stdin="y\n")
    syncs.done("syncs", "run", "web")
    assert json.loads(aws.secret_text(NAME)) == {"URL": "postgres://db", "USER": "shop"}
    assert tags_of(aws)["team"] == "other"
    assert "nothing to take over" in syncs.done("syncs", "adopt", "web").stderr

    released = syncs.json("syncs", "release", "web")
    assert (released["released"], released["kept"], released["status"]) == ([NAME], {}, "paused")
    assert released["paused"]["reason"] == "released"
    assert tags_of(aws) == {"team": "other"}
    assert syncs("syncs", "run", "web").exit_code == 4


def test_adopting_asks_nobody_where_nobody_is(syncs: CommandLine, aws: Aws) -> None:
    their_secret(aws)
    add(syncs)

    for command in (("adopt", "web"), ("remove", "web", "--remote", "delete")):
        assert syncs("syncs", *command).exit_code == 2


def test_releasing_asks_nobody_and_takes_the_options_of_those_that_do(syncs: CommandLine) -> None:
    """It writes no value and deletes nothing, and adopting takes the secrets back."""
    add(syncs)
    syncs.done("syncs", "run", "web")

    assert syncs.json("syncs", "release", "web", "--yes", "--no-input")["released"] == [NAME]


@pytest.mark.reads_values("syncs adopt --import")
@pytest.mark.parametrize(("prefer", "url"), [("prefer-store", "postgres://db"), ("prefer-aws", SECRET)])
def test_adopting_with_an_import_merges_first(syncs: CommandLine, aws: Aws, prefer: str, url: str) -> None:
    their_secret(aws)
    add(syncs)

    adopted = syncs.json("syncs", "adopt", "web", "--import", prefer, "--yes")

    assert adopted["imported"]["added"] == ["PORT"]
    assert adopted["imported"]["changed" if prefer == "prefer-aws" else "kept"] == ["URL"]
    assert values(syncs) == {"PORT": 5432, "URL": url, "USER": "shop"}
    syncs.done("syncs", "run", "web")
    assert json.loads(aws.secret_text(NAME)) == values(syncs)


@pytest.mark.reads_values("syncs adopt --import")
def test_a_sync_can_be_added_with_an_import(syncs: CommandLine, aws: Aws) -> None:
    """With --dry-run nothing is imported."""
    their_secret(aws)
    given = ("--secret-name", NAME, "--adopt", "prefer-aws")

    add(syncs, *given, "--dry-run")
    assert values(syncs)["URL"] == "postgres://db"

    assert add(syncs, *given)["imported"]["changed"] == ["URL"]
    assert values(syncs)["URL"] == SECRET
    syncs.done("syncs", "run", "web")
    assert syncs.json("syncs", "show", "web")["status"] == "in-sync"


@pytest.mark.reads_values("syncs adopt --import")
def test_an_import_of_a_secret_a_key_finds_those_that_the_store_does_not_have(syncs: CommandLine, aws: Aws) -> None:
    their_secret(aws, "theirs", "shop/EXTRA")
    their_secret(aws, "theirs", "other/EXTRA")
    per_key(syncs)

    syncs.done("syncs", "adopt", "web", "--import", "prefer-store", "--yes")

    assert values(syncs) == {"EXTRA": "theirs", "URL": "postgres://db", "USER": "shop"}


# --- remove


def test_removing_a_sync_with_its_secrets_schedules_their_deletion(syncs: CommandLine, aws: Aws) -> None:
    """What is not ours stays as it is."""
    their_secret(aws, name="shop/URL")
    per_key(syncs, "--recovery-days", "7")
    assert syncs("syncs", "run", "web").exit_code == 4

    removed = syncs.json("syncs", "remove", "web", "--remote", "delete", "--yes")

    assert (removed["scheduled"], removed["left_alone"]) == (["shop/USER"], {})
    describe = aws.boto("secretsmanager").describe_secret
    assert "DeletedDate" in describe(SecretId="shop/USER")
    assert "DeletedDate" not in describe(SecretId="shop/URL")
    assert syncs.items("syncs", "list") == []


def test_the_question_of_a_removal_names_the_number(syncs: CommandLine, answer: Callable[[], None]) -> None:
    per_key(syncs)
    syncs.done("syncs", "run", "web")
    answer()

    asked = syncs("syncs", "remove", "web", "--remote", "delete", stdin="n\n")

    assert "schedule the deletion of 2 AWS secrets (gone for good after 30 days)" in asked.stderr
    assert len(syncs.items("syncs", "list")) == 1


# --- why and verify


def test_why_explains_a_conflict(syncs: CommandLine, aws: Aws) -> None:
    their_secret(aws)
    add(syncs)
    syncs("syncs", "run", "web")

    found = syncs.json("syncs", "why", "web")

    assert (found["sync"], found["status"]) == ("web", "halted")
    (one,) = found["objects"]
    assert (one["remote_name"], one["ownership"], one["decision"], one["held"]) == (NAME, "foreign", "conflict", None)
    assert "the tag phasesync:instance is missing" in one["evidence"]
    assert one["budget"] == {"used_24h": 0, "left": 30, "next_at": None}
    printed = syncs.done("syncs", "why", "web").stdout
    assert "not proven ours" in printed
    assert SECRET not in printed + json.dumps(found)


def test_why_explains_what_the_guard_holds(syncs: CommandLine) -> None:
    add(syncs)
    syncs.done("syncs", "run", "web")
    syncs.done("secrets", "unset", "shop/prod", "URL")
    syncs.done("secrets", "unset", "shop/prod", "USER")

    (one,) = syncs.json("syncs", "why", "web")["objects"]

    assert (one["held"], one["decision"]) == ("emptying", "put")
    assert "it has 2 keys, the source has none" in one["held_reason"]
    digest = syncs.json("syncs", "plan", "web")["digest"]
    assert "emptying" in syncs.done("syncs", "approve", "web", "--plan", digest).stderr
    assert "approved already" in syncs.done("syncs", "approve", "web", "--plan", digest).stderr
    assert syncs.json("syncs", "plan", "web")["digest"] is None


@pytest.mark.reads_values("syncs verify")
def test_verify_says_what_differs_and_shows_no_value(syncs: CommandLine, aws: Aws) -> None:
    per_key(syncs)
    missing = syncs("syncs", "verify", "web", "-o", "json")
    assert (missing.exit_code, {one["result"] for one in json.loads(missing.stdout)["objects"]}) == (1, {"missing"})

    syncs.done("syncs", "run", "web")
    assert [one["result"] for one in syncs.json("syncs", "verify", "web")["objects"]] == ["same", "same"]

    aws.boto("secretsmanager").put_secret_value(SecretId="shop/URL", SecretString=SECRET)
    differs = syncs("syncs", "verify", "web")
    assert differs.exit_code == 1
    assert "differs" in differs.stdout
    assert not any(text in differs.stdout + differs.stderr for text in (SECRET, "postgres://db"))


# --- force-delete


def test_a_secret_of_ours_can_be_deleted_for_good(syncs: CommandLine, aws: Aws, answer: Callable[[], None]) -> None:
    """After its name was typed; another name changes nothing."""
    add(syncs)
    syncs.done("syncs", "run", "web")
    command = ("aws", "force-delete", NAME, "--credential", "host")

    assert syncs(*command).exit_code == 2
    answer()
    assert syncs(*command, stdin="shop/we\n").exit_code == 1
    assert aws.secret_text(NAME)

    syncs.done(*command, stdin=f"{NAME}\n")

    assert aws.boto("secretsmanager").list_secrets(IncludePlannedDeletion=True)["SecretList"] == []
    run = syncs.json("syncs", "run", "web")
    assert (run["counts"], run["error"]) == ({"create": 1}, None)


def test_a_secret_of_others_cannot(syncs: CommandLine, aws: Aws) -> None:
    their_secret(aws)

    refused = syncs("aws", "force-delete", NAME, "--credential", "host", "--yes")

    assert refused.exit_code == 4
    assert "does not carry the tags of this phasesync" in refused.stderr
    assert aws.secret_text(NAME)
