"""`phasesync keys rotate-root`: dry runs, hints, which key is said to be replaced, and what is left to do by hand."""

from __future__ import annotations

import base64
import errno
import os
import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from phasesync.bootstrap import open_application
from phasesync.settings import load_settings
from phasesync.store.root_keys import RootKeyStore
from tests.cli.conftest import CommandLine
from tests.cli.test_root_keys import NEW_KEY, current, ids, kms_key
from tests.support.aws import Aws
from tests.support.stores import ROOT_KEY

PRESENT = base64.b64encode(ROOT_KEY.material).decode()


def put(file: Path, text: str) -> Path:
    """Write a file with a key."""
    file.write_text(text)
    file.chmod(0o600)
    return file


@pytest.fixture
def in_variable(shop: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """An installation whose root key is in the environment."""
    (shop.directory / "root.key").unlink()
    monkeypatch.delenv("PHASESYNC_ROOT_KEY_FILE")
    monkeypatch.setenv("PHASESYNC_ROOT_KEY", PRESENT)
    return shop


# --- from the environment to a file


def test_from_the_environment_to_a_file_that_is_named_and_not_there_yet(
    in_variable: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = in_variable.directory / "etc" / "root.key"
    monkeypatch.setenv("PHASESYNC_ROOT_KEY_FILE", str(file))
    assert current(in_variable)["source"] == "PHASESYNC_ROOT_KEY"
    done = in_variable.json("keys", "rotate-root", "--to", "file")
    assert done["source"] == str(file)
    assert any("remove PHASESYNC_ROOT_KEY, here" in line for line in done["to_do"])
    monkeypatch.delenv("PHASESYNC_ROOT_KEY")
    assert current(in_variable) | {"since": None} == {
        "id": done["root_key_id"],
        "status": "current",
        "kind": "file",
        "source": str(file),
        "kms_key": None,
        "since": None,
        "data_keys": current(in_variable)["data_keys"],
    }


@pytest.mark.parametrize("option", ["--dry-run", "--wait=0s"])
def test_a_place_that_can_have_no_file_is_named(
    option: str, in_variable: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(in_variable.directory / "in-the-way", "")
    monkeypatch.setenv("PHASESYNC_ROOT_KEY_FILE", str(in_variable.directory / "in-the-way" / "etc" / "root.key"))
    refused = in_variable("keys", "rotate-root", "--to", "file", option)
    assert refused.exit_code == 6
    assert "in-the-way/etc/root.key" in refused.stderr


def test_a_file_that_is_named_and_missing_is_an_error_if_no_place_has_a_key(shop: CommandLine) -> None:
    (shop.directory / "root.key").unlink()
    refused = shop("apps", "list")
    assert refused.exit_code == 6
    assert f"{shop.directory / 'root.key'} cannot be read" in refused.stderr


# --- a dry run


def test_a_dry_run_refuses_a_next_key_that_is_in_use_as_the_command_does(
    shop: CommandLine, in_variable: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHASESYNC_ROOT_KEY_NEXT", PRESENT)
    said = [shop("keys", "rotate-root", option) for option in ("--dry-run", "--wait=0s")]
    assert [one.exit_code for one in said] == [6, 6]
    assert all(f"holds the root key {ROOT_KEY.id}, which is in use already" in one.stderr for one in said)
    assert all(one.stderr.count("child processes") == 1 for one in said), "one warning for both variables"


def test_a_dry_run_refuses_a_key_that_was_replaced_as_the_command_does(shop: CommandLine) -> None:
    former = (shop.directory / "root.key").read_text()
    made = shop.json("keys", "rotate-root")["root_key_id"]
    put(shop.directory / "root.key.next", former)
    for option in ("--dry-run", "--wait=0s"):
        refused = shop("keys", "rotate-root", option)
        assert refused.exit_code == 4
        assert f"the root key {ROOT_KEY.id} cannot be the next one: it is former already" in refused.stderr
    assert current(shop)["id"] == made


def test_a_dry_run_names_the_next_key_that_is_there_and_none_that_is_gone(shop: CommandLine) -> None:
    with open_application(load_settings().settings) as application:
        application.store.daemons.beat("d", host="node-2", pid=7, ttl=timedelta(hours=1), root_keys=[ROOT_KEY.id])
    assert shop("keys", "rotate-root", "--wait", "0s").exit_code == 4
    (registered,) = [one for one, status in ids(shop).items() if status == "next"]
    assert shop.json("keys", "rotate-root", "--dry-run")["would"]["next"] == registered
    (shop.directory / "root.key.next").unlink()
    would = shop.json("keys", "rotate-root", "--dry-run")["would"]
    assert (would["next"], would["lacking"]) == (None, [])


def test_a_dry_run_refuses_beside_a_daemon_of_a_former_release_as_the_command_does(shop: CommandLine) -> None:
    with open_application(load_settings().settings) as application:
        application.store.daemons.beat("d", host="node-2", pid=7, ttl=timedelta(hours=1))
    for option in ("--dry-run", "--wait=0s"):
        refused = shop("keys", "rotate-root", option)
        assert (refused.exit_code, "a daemon of a former release" in refused.stderr) == (4, True)


# --- hints


@pytest.mark.parametrize("variable", ["PHASESYNC_ROOT_KEY", "PHASESYNC_ROOT_KEY_NEXT"])
def test_a_malformed_key_in_a_variable_has_a_hint_that_mends_it(
    variable: str, in_variable: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "junk")
    refused = in_variable("keys", "rotate-root")
    assert refused.exit_code == 6
    assert f"{variable} does not hold a root key" in refused.stderr
    assert "head -c 32 /dev/urandom | base64" in refused.stderr
    assert "PHASESYNC_ROOT_KEY_FILE" not in refused.stderr.partition("error:")[2]


def test_a_malformed_key_in_a_file_has_a_hint_that_mends_it(shop: CommandLine) -> None:
    put(shop.directory / "root.key", "junk")
    refused = shop("apps", "list")
    assert refused.exit_code == 6
    assert "put a copy of the root key in use there" in refused.stderr


def test_a_kms_key_that_only_the_database_names_is_not_simply_to_be_used(
    shop: CommandLine, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = kms_key(aws), f"{kms_key(aws)[:-4]}evil"
    with monkeypatch.context() as patch:
        patch.setenv("PHASESYNC_ROOT_KEY_KMS_KEY", ours)
        shop.done("keys", "rotate-root")
        (shop.directory / "root.key").unlink()
    with closing(sqlite3.connect(shop.directory / "data" / "phasesync.db")) as connection, connection:
        connection.execute("UPDATE root_keys SET wrapped_by = ? WHERE wrapped IS NOT NULL", [theirs])
    refused = shop("keys", "status")
    assert refused.exit_code == 6
    assert f"if that KMS key is yours, and not only the database says so: PHASESYNC_ROOT_KEY_KMS_KEY={theirs}" in (
        refused.stderr
    )


def test_a_full_disk_is_said_to_be_that(shop: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fchmod", full)
    refused = shop("keys", "rotate-root")
    assert refused.exit_code == 7
    assert "No space left on device" in refused.stderr
    assert "make room there" in refused.stderr
    assert ids(shop) == {ROOT_KEY.id: "current"}


# --- which one was replaced


def test_the_replaced_key_is_named_whatever_the_clock_says(shop: CommandLine) -> None:
    """Rows of former keys have instants of a clock that was set back since: the last one looks like the oldest."""
    second = shop.json("keys", "rotate-root")["root_key_id"]
    with closing(sqlite3.connect(shop.directory / "data" / "phasesync.db")) as connection, connection:
        connection.execute("UPDATE root_keys SET changed_at = changed_at + 864000000000")  # as of ten days ahead
    done = shop.json("keys", "rotate-root")
    kept = shop.directory / f"root.key.former-{second}"
    assert (done["former_id"], done["former_kept"]) == (second, str(kept))
    assert [line for line in done["to_do"] if "keep" in line] == [
        f"keep the former root key {second} ({kept}) as long as the backups from before, which it opens"
    ]
    assert shop.done("keys", "rotate-root").stderr.count(f"{done['root_key_id']} is refused from now on") == 1


def test_a_rotation_that_goes_on_names_the_key_that_it_replaces(
    shop: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = shop.json("keys", "rotate-root")["root_key_id"]
    with closing(sqlite3.connect(shop.directory / "data" / "phasesync.db")) as connection, connection:
        connection.execute("UPDATE root_keys SET changed_at = changed_at + 864000000000")
    with monkeypatch.context() as patch:
        patch.setattr("phasesync.store.root_keys.RootKeyStore.rewrap", _dies)
        with pytest.raises(_Killed):
            shop("keys", "rotate-root")
    assert shop.json("keys", "status")["replacing"]
    done = shop.json("keys", "rotate-root")
    assert (done["former_id"], done["went_on"]) == (second, True)


class _Killed(BaseException):
    """The process is dead."""


def _dies(*_args: Any, **_options: Any) -> int:
    raise _Killed


def test_a_former_key_at_kms_does_not_become_the_current_one_because_its_row_was_put_back(
    shop: CommandLine, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row of before, as the next one, is authentic: a copy of the database from the time of the rotation has it."""
    monkeypatch.setenv("PHASESYNC_ROOT_KEY_KMS_KEY", kms_key(aws))
    database = shop.directory / "data" / "phasesync.db"
    copied: list[tuple[Any, ...]] = []
    switch = RootKeyStore.switch

    def copy_and_switch(store: RootKeyStore, root_key_id: str) -> str:
        with closing(sqlite3.connect(database)) as connection:
            copied.extend(connection.execute("SELECT * FROM root_keys WHERE status = 'next'").fetchall())
        return switch(store, root_key_id)

    with monkeypatch.context() as patch:
        patch.setattr(RootKeyStore, "switch", copy_and_switch)
        leaked = shop.json("keys", "rotate-root")["root_key_id"]
    (row,) = copied
    shop.done("keys", "rotate-root")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DELETE FROM root_keys WHERE id = ?", [leaked])
        connection.execute(f"INSERT INTO root_keys VALUES ({','.join('?' * len(row))})", row)
    assert ids(shop)[leaked] == "next"
    assert shop.json("keys", "rotate-root", "--dry-run")["would"]["next"] is None
    assert shop.json("keys", "rotate-root")["root_key_id"] != leaked
    assert leaked not in ids(shop)


def test_a_row_that_somebody_wrote_does_not_say_where_the_next_root_key_is_kept(
    shop: CommandLine, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    arn = kms_key(aws)
    monkeypatch.setenv("PHASESYNC_ROOT_KEY_KMS_KEY", arn)
    shop.done("keys", "rotate-root")
    with closing(sqlite3.connect(shop.directory / "data" / "phasesync.db")) as connection, connection:
        connection.execute(
            "INSERT INTO root_keys (id, source, status, created_at, changed_at, mac) VALUES (?, ?, 'next', 0, 0, ?)",
            ["0123456789ab", "file", b"theirs"],
        )
    shop.done("keys", "rotate-root")
    assert (current(shop)["kind"], current(shop)["kms_key"]) == ("aws-kms", arn)


# --- what an operator does by hand


def test_a_symlink_has_its_former_key_copied_before_it_is_replaced_by_hand(shop: CommandLine) -> None:
    file, mounted = shop.directory / "root.key", shop.directory / "mounted.key"
    shutil.move(file, mounted)
    file.symlink_to(mounted)
    put(shop.directory / "root.key.next", NEW_KEY)
    assert f"would have to take the place of {file} by hand" in shop.done("keys", "rotate-root", "--dry-run").stderr
    to_do = shop.json("keys", "rotate-root")["to_do"]
    assert to_do[0].startswith(f"first copy the former root key {ROOT_KEY.id} away from {file}:")
    assert [number for number, line in enumerate(to_do) if "by hand" in line] == [1]
    assert mounted.read_text().strip() == PRESENT


def test_who_replaces_a_root_key_is_reminded_of_its_escrow(shop: CommandLine) -> None:
    done = shop.json("keys", "rotate-root")
    assert (
        f"if there is an escrow of {ROOT_KEY.id}, make one of {done['root_key_id']}: phasesync keys escrow --recipient "
        "age1…"
    ) in done["to_do"]
