"""Asking the daemon for a run, and waiting for its result."""

import pytest

from tests.cli.conftest import CommandLine


def test_a_trigger_that_no_daemon_hears_is_warned_of(shop: CommandLine) -> None:
    shop.done("credentials", "add", "host", "--type", "ambient", "--region", "eu-central-1")
    add_sync(shop, "host")

    done = shop.done("syncs", "trigger", "web")

    assert "warning: no daemon is running" in done.stderr
    assert "phasesync syncs run web" in done.stderr


def test_waiting_for_a_paused_sync_ends_at_once(shop: CommandLine) -> None:
    shop.done("credentials", "add", "host", "--type", "ambient", "--region", "eu-central-1")
    add_sync(shop, "host")
    shop.done("syncs", "pause", "web", "--reason", "a migration")

    ended = shop("syncs", "wait", "web", "--timeout", "1h")

    assert ended.exit_code == 4
    assert "the sync web is paused and will not be in-sync by itself" in ended.stderr
    assert "a migration" in ended.stderr
    assert "phasesync syncs resume web" in ended.stderr


def test_an_edit_that_a_sync_without_a_role_cannot_follow_is_not_waited_for(shop: CommandLine) -> None:
    shop.done("credentials", "add", "later", "--type", "assume-role", "--region", "eu-central-1")
    add_sync(shop, "later")

    ended = shop("secrets", "set", "shop/prod", "URL", "-", "--wait", "--timeout", "1h", stdin="postgres://db")

    assert ended.exit_code == 4
    assert "the sync web is incomplete" in ended.stderr
    assert "phasesync credentials update later --role-arn" in ended.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("syncs", "wait", "web"),
        ("syncs", "trigger", "web", "--wait"),
        ("secrets", "set", "shop/prod", "URL", "-", "--wait"),
    ],
    ids=" ".join,
)
def test_without_a_daemon_waiting_ends_at_once(
    shop: CommandLine, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 7 with both ways on, long before the time is over."""
    monkeypatch.setattr("phasesync.engine.sync_operations.STARTING_S", 0.0)
    shop.done("credentials", "add", "host", "--type", "ambient", "--region", "eu-central-1")
    add_sync(shop, "host")

    ended = shop(*words, "--timeout", "1h", stdin="postgres://db")

    assert ended.exit_code == 7
    assert "error: the sync web is pending, and no daemon is running that would make it in-sync" in ended.stderr
    assert "hint: start one: phasesync daemon; or run the sync here: phasesync syncs run web" in ended.stderr


def add_sync(phasesync: CommandLine, credential: str) -> None:
    """Add the sync `web` without asking AWS."""
    where = ("--env", "shop/prod", "--credential", credential, "--secret-name", "web", "--no-verify")
    phasesync.done("syncs", "add", "web", *where)
