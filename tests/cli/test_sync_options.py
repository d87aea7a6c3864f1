"""What can be set on a sync, given when it is added and changed afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import CommandLine

KEY = "arn:aws:kms:eu-west-1:111122223333:key/12345678-1234-1234-1234-123456789012"
THERE = KEY.replace("eu-west-1", "us-east-1")


@pytest.fixture
def syncs(shop: CommandLine) -> CommandLine:
    """A command line with a credential that no one has asked AWS about, and an environment of two keys."""
    shop.done("credentials", "add", "host", "--type", "ambient", "--region", "eu-west-1")
    shop.done("secrets", "import", "shop/prod", "-", "--yes", stdin="URL=postgres://db\nUSER=shop\n")
    return shop


def add(syncs: CommandLine, *options: str) -> Any:
    """Add the sync `web` without asking AWS; return it."""
    given = ("--env", "shop/prod", "--credential", "host", "--no-verify")
    return syncs.json("syncs", "add", "web", *given, *(options or ("--secret-name", "shop/web")))


def update(syncs: CommandLine, *options: str) -> Any:
    """Change it; return it."""
    return syncs.json("syncs", "update", "web", *options)


def test_a_template_means_one_secret_a_key(syncs: CommandLine) -> None:
    """No --layout is needed, nor a name."""
    added = add(syncs, "--name-template", "{app}/{env}/{key}")

    assert added["destination"] == {
        "kind": "aws-secrets-manager",
        "account": None,
        "region": "eu-west-1",
        "credential": "host",
        "remote_name": None,
        "name_template": "{app}/{env}/{key}",
        "layout": "per-key",
    }


def test_a_name_switches_to_one_secret_and_a_template_back(syncs: CommandLine) -> None:
    add(syncs)

    there = update(syncs, "--name-template", "{env}/{key}")["destination"]
    back = update(syncs, "--secret-name", "shop/other")["destination"]

    assert (there["layout"], there["remote_name"], there["name_template"]) == ("per-key", None, "{env}/{key}")
    assert (back["layout"], back["remote_name"], back["name_template"]) == ("json", "shop/other", None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "--secret-name"),
        (("--layout", "per-key"), "--name-template"),
        (("--secret-name", "a", "--name-template", "{key}"), "exclude each other"),
        (("--secret-name", "a", "--layout", "per-key"), "name template"),
        (("--name-template", "{key}", "--layout", "json"), "one name"),
        (("--name-template", "fixed"), "{key}"),
        (("--secret-name", "a", "--replica", "none,us-east-1"), "stand alone"),
        (("--secret-name", "a", "--replica", "us-east-1", "--replica", f"us-east-1={THERE}"), "twice"),
        (("--secret-name", "a", "--replica", "eu-west-1"), "own Region"),
        (("--secret-name", "a", "--resource-policy", "/nonexistent/policy.json"), "cannot be read"),
        (("--secret-name", "a", "--kms-key", "alias/shop"), "ARN"),
        (("--secret-name", "a", "--recovery-days", "3"), "not between 7 and 30"),
    ],
)
def test_what_does_not_fit_is_wrong_usage(syncs: CommandLine, options: tuple[str, ...], said: str) -> None:
    """Exit 2, and the line says what is missing."""
    refused = syncs(
        "syncs", "add", "web", "--env", "shop/prod", "--credential", "host", "--no-verify", *options, "-o", "table"
    )

    assert refused.exit_code == 2
    assert said in refused.stderr


def test_every_setting_is_kept_and_shown(syncs: CommandLine, tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text('{"Version": "2012-10-17",\n "Statement": []}')

    shown = add(
        syncs,
        *("--name-template", "{key}", "--kms-key", KEY, "--description", "of the shop", "--tag", "team=shop"),
        *("--replica", "us-east-2", "--replica", f"us-east-1={THERE}", "--resource-policy", str(policy)),
        *("--on-drift", "hold", "--on-remove", "delete", "--grace", "2h", "--recovery-days", "7"),
        *("--delete-limit-percent", "30", "--delete-limit-objects", "5", "--interval", "10m"),
        *("--guard-window", "2h"),
    )

    assert {name: shown[name] for name in shown if name in EXPECTED} == EXPECTED
    assert update(syncs, "--interval", "1m") | {"interval_s": 600.0} == shown | {"next_due_at": shown["next_due_at"]}


EXPECTED = {
    "kms_key": KEY,
    "description": "of the shop",
    "tags": {"team": "shop"},
    "replicas": {"us-east-1": THERE, "us-east-2": "default"},
    "resource_policy": '{"Statement":[],"Version":"2012-10-17"}',
    "on_drift": "hold",
    "on_remove": "delete",
    "grace_s": 7200.0,
    "recovery_days": 7,
    "interval_s": 600.0,
    "delete_limit_percent": 30,
    "delete_limit_objects": 5,
    "guard_window_s": 7200.0,
}


@pytest.mark.parametrize(("window", "exit_code"), [("59m", 2), ("1h", 0), ("7d", 0), ("8d", 2)])
def test_the_guard_s_window_is_an_hour_to_a_week(syncs: CommandLine, window: str, exit_code: int) -> None:
    """Shorter ones would let everything go out in small steps; longer ones are not kept."""
    add(syncs, "--secret-name", "shop/web")

    assert syncs("syncs", "update", "web", "--guard-window", window).exit_code == exit_code


def test_no_replicas_is_another_wish_than_none_of_our_business(syncs: CommandLine) -> None:
    """`none` has copies removed, an empty text leaves them alone; both come after a list of Regions."""
    add(syncs, "--secret-name", "shop/web", "--replica", "us-east-1")

    assert update(syncs, "--replica", "none")["replicas"] == {}
    assert update(syncs, "--replica", "")["replicas"] is None


def test_an_empty_text_takes_a_setting_back(syncs: CommandLine, tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text('{"Statement": []}')
    add(syncs, "--secret-name", "w", "--kms-key", "default", "--description", "x", "--resource-policy", str(policy))

    back = update(syncs, "--kms-key", "", "--description", "", "--resource-policy", "")

    assert (back["kms_key"], back["description"], back["resource_policy"]) == (None, None, None)


def test_an_update_warns_of_what_would_bite_readers(syncs: CommandLine) -> None:
    """As an add does."""
    add(syncs)

    assert (
        "warning: shop/web-abcdef ends in"
        in syncs.done("syncs", "update", "web", "--secret-name", "shop/web-abcdef").stderr
    )


def test_an_update_with_no_verify_does_not_ask_aws(
    syncs: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Only a new key makes it ask. Nobody answers here."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("PHASESYNC_AWS__MAX_ATTEMPTS", "1")
    add(syncs, "--secret-name", "w")
    assert syncs("syncs", "update", "web", "--kms-key", KEY).exit_code == 7
    assert update(syncs, "--kms-key", KEY, "--no-verify")["kms_key"] == KEY
    refused = syncs("syncs", "update", "web", "--kms-key", "alias/shop", "--no-verify")
    assert (refused.exit_code, "leave --no-verify out" in refused.stderr) == (2, True)
    alone = syncs("syncs", "update", "web", "--no-verify")
    assert (alone.exit_code, "there is nothing to change" in alone.stderr) == (2, True)


def test_an_update_without_options_is_wrong_usage(syncs: CommandLine) -> None:
    add(syncs)

    assert syncs("syncs", "update", "web").exit_code == 2


def test_a_list_shows_the_template_where_there_is_no_name(syncs: CommandLine) -> None:
    add(syncs, "--name-template", "{app}/{key}")

    assert "{app}/{key}" in syncs.done("syncs", "list").stdout
