"""`phasesync keys rotate-data`: what it says, and how it ends."""

from __future__ import annotations

import json

from phasesync.store import tables
from tests.cli.conftest import CommandLine
from tests.support.stores import LONG, alter, open_test_store


def furnish(phasesync: CommandLine) -> None:
    """Two environments, one with two versions of a secret."""
    phasesync.done("apps", "add", "shop")
    for name in ("prod", "stage"):
        phasesync.done("envs", "add", f"shop/{name}")
    for value in ("one", "two"):
        phasesync.done("secrets", "set", "shop/prod", "URL", "-", stdin=value)


def url_of(phasesync: CommandLine) -> str:
    return f"sqlite:///{phasesync.directory / 'data' / 'phasesync.db'}"


def test_every_key_is_replaced_and_values_stay(phasesync: CommandLine) -> None:
    furnish(phasesync)
    document = phasesync.json("keys", "rotate-data")
    assert document["replaced"] == ["audit", "credentials", "shop/prod", "shop/stage"]
    assert (document["removed"], document["kept"], document["went_on"]) == (4, 0, False)
    assert phasesync.json("secrets", "get", "shop/prod", "URL", "--reveal")["value"] == "two"
    assert len(phasesync.items("secrets", "history", "shop/prod", "URL")) == 2


def test_one_environment_alone(phasesync: CommandLine) -> None:
    furnish(phasesync)
    said = phasesync.done("keys", "rotate-data", "shop/prod").stderr
    assert said == "replaced 1 data key, encrypted 3 rows anew, removed 1 old key\n"


def test_a_dry_run_says_how_much_it_would_be(phasesync: CommandLine) -> None:
    furnish(phasesync)
    document = phasesync.json("keys", "rotate-data", "shop/prod", "--dry-run")
    assert document["would"] == {"keys": ["shop/prod"], "rows": 3, "old_keys": 0}


def test_an_environment_that_does_not_exist(phasesync: CommandLine) -> None:
    furnish(phasesync)
    refused = phasesync("keys", "rotate-data", "shop/nothing")
    assert refused.exit_code == 5
    assert "prod, stage" in refused.stderr


def test_old_keys_that_a_daemon_of_a_former_release_may_use_are_kept_and_named(phasesync: CommandLine) -> None:
    furnish(phasesync)
    store = open_test_store(url_of(phasesync))
    store.daemons.beat("daemon-1", host="web-1", pid=7, ttl=LONG)
    alter(store, tables.daemons, release=None)
    held = phasesync("keys", "rotate-data", "shop/prod")
    assert held.exit_code == 4
    assert "a daemon of a former release is at work on web-1" in held.stderr
    assert "then repeat: phasesync keys rotate-data shop/prod" in held.stderr
    store.daemons.deregister("daemon-1")
    store.close()
    again = phasesync.done("keys", "rotate-data", "shop/prod").stderr
    assert again.splitlines() == [
        "went on with a rotation that was interrupted",
        "replaced 0 data keys, encrypted 0 rows anew, removed 1 old key",
    ]


def test_what_does_not_authenticate_is_named_and_ends_with_exit_6(phasesync: CommandLine) -> None:
    furnish(phasesync)
    store = open_test_store(url_of(phasesync))
    with store.database.write() as connection:
        connection.exec_driver_sql(
            "UPDATE secret_versions SET value = CAST(substr(value, 1, 19) || zeroblob(30) AS BLOB)"
        )
    store.close()
    ended = phasesync("keys", "rotate-data", "-o", "json")
    assert ended.exit_code == 6
    assert "rows in secret_versions do not authenticate" in ended.stderr
    assert json.loads(ended.stdout)["unread"] == ["secret_versions"]
