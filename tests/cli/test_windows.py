"""Maintenance windows of syncs, apps and all: how they are set, shown and refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cli.conftest import CommandLine

OFFICE = "deny: 08:00-18:00 Mon-Fri Europe/Berlin"
NIGHT = "allow: 22:00-04:00 Sat,Sun UTC"
ALWAYS = f"deny: 2020-01-01..{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d} UTC"
"""Closed now, whenever that is."""


@pytest.fixture
def syncs(shop: CommandLine) -> CommandLine:
    """A command line with a sync that no daemon has run."""
    shop.done("credentials", "add", "host", "--type", "ambient", "--region", "eu-west-1")
    given = ("--env", "shop/prod", "--credential", "host", "--no-verify", "--secret-name", "shop/web")
    shop.done("syncs", "add", "web", *given, "--window", "deny: 8:00-18:00 mon-fri Europe/Berlin")
    return shop


def shown(syncs: CommandLine) -> Any:
    return syncs.json("syncs", "show", "web")


def test_windows_of_a_sync_are_kept_replaced_and_dropped(syncs: CommandLine) -> None:
    assert shown(syncs)["windows"] == [OFFICE]

    assert syncs.json("syncs", "update", "web", "--description", "new")["windows"] == [OFFICE]
    both = syncs.json("syncs", "update", "web", "--window", NIGHT, "--window", OFFICE)
    assert both["windows"] == [NIGHT, OFFICE]
    assert syncs.json("syncs", "update", "web", "--window", f"{OFFICE}; {NIGHT}")["windows"] == [OFFICE, NIGHT]
    dropped = syncs.json("syncs", "update", "web", "--window", "")

    assert (dropped["windows"], dropped["window"]) == ([], None)


def test_a_sync_says_whether_its_window_is_closed(syncs: CommandLine) -> None:
    closed = syncs.json("syncs", "update", "web", "--window", ALWAYS)["window"]
    (listed,) = syncs.json("syncs", "list")["items"]

    assert (closed["closed"], closed["text"][:6]) == (True, "opens ")
    assert f"{ALWAYS}; of the sync web" in closed["text"]
    assert listed["window"] == closed
    assert f"pending, window opens {closed['opens_at'][:10]}" in syncs.done("syncs", "list").stdout
    assert syncs.json("syncs", "update", "web", "--window", "deny: 2020-01-01")["window"] == {
        "closed": False,
        "opens_at": None,
        "text": None,
    }


def test_windows_of_an_app_apply_to_its_syncs(syncs: CommandLine) -> None:
    assert syncs.json("apps", "add", "other", "--window", NIGHT)["windows"] == [NIGHT]
    assert syncs.json("apps", "update", "shop", "--window", ALWAYS)["windows"] == [ALWAYS]
    assert [app["windows"] for app in syncs.json("apps", "list")["items"]] == [[NIGHT], [ALWAYS]]
    assert ALWAYS in syncs.done("apps", "list").stdout

    assert shown(syncs)["app_windows"] == [ALWAYS]
    assert "of the app shop" in shown(syncs)["window"]["text"]
    assert syncs.json("apps", "update", "shop", "--name", "store")["windows"] == [ALWAYS]
    assert syncs.json("apps", "update", "store", "--window", "")["windows"] == []


def test_windows_of_all_syncs_come_from_the_settings(syncs: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHASESYNC_DAEMON__WINDOWS", f"{NIGHT}; {ALWAYS}")

    assert "of all syncs" in shown(syncs)["window"]["text"]
    refused = syncs("syncs", "update", "web", "--window", "deny: 00:00-24:00 Sat-Mon")

    assert refused.exit_code == 2
    assert f"{NIGHT} (of all syncs)" in refused.stderr


@pytest.mark.parametrize(
    ("windows", "said"),
    [
        (["deny: 08:00-18:00 Mno-Fri"], "has 'Mno', which is no day; did you mean Mon?"),
        (["deny: 00:00-24:00"], "nothing could be written within a year"),
        (["", OFFICE], "--window '' stands alone"),
    ],
)
@pytest.mark.parametrize("target", [("apps", "update", "shop"), ("syncs", "update", "web")])
def test_wrong_windows_change_nothing(
    syncs: CommandLine, target: tuple[str, ...], windows: list[str], said: str
) -> None:
    options = [argument for window in windows for argument in ("--window", window)]

    refused = syncs(*target, *options)

    assert (refused.exit_code, said in refused.stderr) == (2, True)
    assert (shown(syncs)["windows"], shown(syncs)["app_windows"]) == ([OFFICE], [])


def test_status_counts_what_waits(syncs: CommandLine) -> None:
    assert syncs.json("status")["waiting_for_window"] == {"syncs": 0, "next_opens_at": None}
