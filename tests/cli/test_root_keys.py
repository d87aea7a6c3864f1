"""`phasesync keys`: root keys in files, variables and at AWS KMS; replacing and escrowing them; dying at any step."""

from __future__ import annotations

import base64
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from phasesync.adapters.root_keys import age
from phasesync.bootstrap import open_application
from phasesync.bootstrap.root_key_changes import rotate_root
from phasesync.settings import load_settings
from phasesync.store import read_wrapped_keys, tables
from phasesync.store.database import Database
from phasesync.store.db_time import now
from phasesync.store.key_ring import KeyRing
from tests.cli.conftest import CommandLine
from tests.support.aws import REGION, Aws
from tests.support.stores import ROOT_KEY

NEW_KEY = base64.b64encode(bytes(range(100, 132))).decode()


def current(phasesync: CommandLine) -> dict[str, Any]:
    """Return the root key in use."""
    (found,) = [one for one in phasesync.json("keys", "status")["root_keys"] if one["status"] == "current"]
    return dict(found)


def ids(phasesync: CommandLine) -> dict[str, str]:
    """Return root key id -> status."""
    return {one["id"]: one["status"] for one in phasesync.json("keys", "status")["root_keys"]}


def value(phasesync: CommandLine) -> str:
    return phasesync.done("secrets", "get", "shop/prod", "URL", "--reveal").stdout


@pytest.fixture
def filled(shop: CommandLine) -> CommandLine:
    """An installation with a secret."""
    shop.done("secrets", "set", "shop/prod", "URL", "-", stdin="postgres://first")
    return shop


# --- files


def test_a_new_file_takes_the_place_of_the_old_one_which_is_kept_and_refused(
    filled: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (filled.directory / "root.key").read_text()
    done = filled.json("keys", "rotate-root")
    assert done["former_id"] == ROOT_KEY.id
    kept = Path(done["former_kept"])
    assert (kept.name, kept.read_text()) == (f"root.key.former-{ROOT_KEY.id}", before)
    assert stat.S_IMODE((filled.directory / "root.key").stat().st_mode) == 0o600
    assert (filled.directory / "root.key").read_text() != before
    assert not (filled.directory / "root.key.next").exists()
    assert ids(filled) == {done["root_key_id"]: "current", ROOT_KEY.id: "former"}
    assert value(filled) == "postgres://first"

    monkeypatch.setenv("PHASESYNC_ROOT_KEY_FILE", str(kept))
    refused = filled("secrets", "list", "shop/prod")
    assert refused.exit_code == 6
    assert f"{ROOT_KEY.id} was replaced by {done['root_key_id']}" in refused.stderr


def test_it_can_be_done_again_and_again(filled: CommandLine) -> None:
    seen = [filled.json("keys", "rotate-root")["root_key_id"] for _ in range(3)]
    assert len({*seen, ROOT_KEY.id}) == 4
    assert list(ids(filled).values()) == ["current", "former", "former", "former"]
    assert value(filled) == "postgres://first"


def test_a_next_file_that_somebody_put_there_is_used(filled: CommandLine) -> None:
    beside = filled.directory / "root.key.next"
    beside.write_text(NEW_KEY)
    beside.chmod(0o600)
    filled.done("keys", "rotate-root")
    assert (filled.directory / "root.key").read_text() == NEW_KEY


def test_a_backup_from_before_is_opened_by_the_former_key(filled: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    filled.done("db", "backup", str(filled.directory / "backup.db"))
    kept = filled.json("keys", "rotate-root")["former_kept"]
    refused = filled("db", "restore", str(filled.directory / "backup.db"), "--dry-run")
    assert refused.exit_code == 6
    monkeypatch.setenv("PHASESYNC_ROOT_KEY_FILE", kept)
    filled.done("db", "restore", str(filled.directory / "backup.db"))
    assert value(filled) == "postgres://first"


def test_after_a_restore_from_before_a_new_key_comes_where_the_settings_look(
    filled: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/keys.md says it: the file with the former key stays what its name says."""
    filled.done("db", "backup", str(filled.directory / "backup.db"))
    between = filled.json("keys", "rotate-root")
    former = Path(between["former_kept"])
    text = former.read_text()
    with monkeypatch.context() as patch:
        patch.setenv("PHASESYNC_ROOT_KEY_FILE", str(former))
        filled.done("db", "restore", str(filled.directory / "backup.db"))
        done = filled.json("keys", "rotate-root")
    assert done["source"] == str(filled.directory / "root.key")
    assert done["to_do"][0].startswith(f"{former} was for a backup from before")
    assert current(filled)["id"] == done["root_key_id"]
    assert value(filled) == "postgres://first"
    assert former.read_text() == text
    assert {path.name for path in filled.directory.glob("root.key*")} == {
        "root.key",
        former.name,
        f"root.key.former-{between['root_key_id']}",
    }


def test_what_a_former_release_wrapped_during_the_switch_is_wrapped_anew(filled: CommandLine) -> None:
    with open_application(load_settings().settings) as application:
        database = application.store.database
        key = KeyRing([ROOT_KEY], partial(read_wrapped_keys, database)).new_data_key("environment")
    filled.done("keys", "rotate-root")
    with open_application(load_settings().settings) as application, application.store.database.write() as connection:
        values = {"id": key.id, "purpose": key.purpose, "root_key_id": key.root_key_id, "wrapped": key.wrapped}
        connection.execute(tables.data_keys.insert().values(**values, created_at=now()))

    status = filled.json("keys", "status")
    assert (status["replacing"], status["left_to_wrap"]) == (True, 1)
    done = filled.json("keys", "rotate-root")
    assert (done["went_on"], done["data_keys"]) == (True, 1)
    assert not filled.json("keys", "status")["replacing"]


def test_a_next_key_that_cannot_be_read_stops_no_start(filled: CommandLine) -> None:
    beside = filled.directory / "root.key.next"
    beside.write_text("half a k")
    beside.chmod(0o600)
    assert value(filled) == "postgres://first"
    warned = filled.done("secrets", "list", "shop/prod").stderr
    assert f"the next root key is not loaded: {beside} does not hold a root key" in warned
    refused = filled("keys", "rotate-root")
    assert refused.exit_code == 6
    assert str(beside) in refused.stderr
    assert ids(filled) == {ROOT_KEY.id: "current"}


def test_a_data_key_that_was_replaced_and_is_still_there_is_told(filled: CommandLine) -> None:
    """A rotation was interrupted; or somebody put a row back, which would encrypt again."""
    with open_application(load_settings().settings) as application, application.store.database.read() as connection:
        rows = connection.execute(tables.data_keys.select().where(tables.data_keys.c.purpose == "credentials")).all()
    filled.done("keys", "rotate-data")
    assert filled.json("keys", "status")["former_data_keys"] == 0
    with open_application(load_settings().settings) as application, application.store.database.write() as connection:
        connection.execute(tables.data_keys.insert().values(**(rows[0]._asdict() | {"created_at": now()})))
    assert filled.json("keys", "status")["former_data_keys"] == 1
    assert "1 data key that was replaced is still there" in filled.done("keys", "status").stderr
    filled.done("keys", "rotate-data")
    assert filled.json("keys", "status")["former_data_keys"] == 0


def test_a_dry_run_makes_no_key(filled: CommandLine) -> None:
    dry = filled.json("keys", "rotate-root", "--dry-run")
    assert dry["would"]["current"] == ROOT_KEY.id
    assert dry["would"]["kind"] == "file"
    assert not (filled.directory / "root.key.next").exists()
    assert ids(filled) == {ROOT_KEY.id: "current"}


def test_where_the_file_cannot_be_replaced_the_rest_is_done_and_the_operator_told(
    filled: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = filled.directory / "mounted.key"
    (filled.directory / "root.key").rename(mounted)
    (filled.directory / "root.key").symlink_to(mounted)
    beside = filled.directory / "root.key.next"
    beside.write_text(NEW_KEY)
    beside.chmod(0o600)
    done = filled.json("keys", "rotate-root")
    assert ["by hand" in line for line in done["to_do"]] == [False, True, False]
    assert value(filled) == "postgres://first"
    again = filled("keys", "rotate-root")
    assert (again.exit_code, "is a symlink" in again.stderr) == (6, True)
    mounted.write_text(NEW_KEY)
    beside.unlink()
    assert value(filled) == "postgres://first"
    assert current(filled)["id"] == done["root_key_id"]


def test_a_daemon_that_lacks_the_next_one_is_named_and_nothing_is_replaced(filled: CommandLine) -> None:
    settings = load_settings().settings
    with open_application(settings) as application:
        application.store.daemons.beat("d", host="node-2", pid=7, ttl=timedelta(hours=1), root_keys=[ROOT_KEY.id])
    refused = filled("keys", "rotate-root", "--wait", "0s")
    assert refused.exit_code == 4
    assert "node-2 (process 7)" in refused.stderr
    assert "docs/keys.md" in refused.stderr
    assert list(ids(filled).values()) == ["next", "current"]
    (lacking,) = filled.json("keys", "status")["lacking"]
    assert lacking["host"] == "node-2"
    assert "phasesync keys rotate-root" in filled.done("keys", "status").stderr

    with open_application(settings) as application:
        application.store.daemons.beat(
            "d", host="node-2", pid=7, ttl=timedelta(hours=1), root_keys=application.store.keys.root_key_ids
        )
    done = filled.json("keys", "rotate-root", "--wait", "0s")
    assert done["went_on"]
    assert any("node-2" in line for line in done["to_do"])


def test_a_daemon_of_a_former_release_is_named_at_once(filled: CommandLine) -> None:
    with open_application(load_settings().settings) as application:
        application.store.daemons.beat("d", host="node-2", pid=7, ttl=timedelta(hours=1))
    refused = filled("keys", "rotate-root", "--wait", "1h")
    assert refused.exit_code == 4
    assert "a daemon of a former release" in refused.stderr
    assert "install this release" in refused.stderr


def test_on_a_second_host_only_the_files_are_moved(filled: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    there = filled.directory / "there"
    there.mkdir()
    beside = filled.directory / "root.key.next"
    beside.write_text(NEW_KEY)
    beside.chmod(0o600)
    for name in ("root.key", "root.key.next"):
        shutil.copy2(filled.directory / name, there / name)
    made = filled.json("keys", "rotate-root")["root_key_id"]

    monkeypatch.setenv("PHASESYNC_ROOT_KEY_FILE", str(there / "root.key"))
    assert value(filled) == "postgres://first"
    assert filled.json("keys", "rotate-root", "--dry-run")["would"]["data_keys"] == 0
    done = filled.json("keys", "rotate-root")
    assert (done["root_key_id"], done["data_keys"]) == (made, 0)
    assert (there / "root.key").read_text() == NEW_KEY
    assert ids(filled) == {made: "current", ROOT_KEY.id: "former"}


def test_a_key_in_the_way_of_the_new_file_is_kept_whatever_hid_it(
    filled: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable counts, and the file belongs to something else."""
    monkeypatch.setenv("PHASESYNC_ROOT_KEY", (filled.directory / "root.key").read_text())
    monkeypatch.delenv("PHASESYNC_ROOT_KEY_FILE")
    monkeypatch.setenv("HOME", str(filled.directory / "home"))
    in_the_way = filled.directory / "home" / ".config" / "phasesync" / "root.key"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text(NEW_KEY)
    in_the_way.chmod(0o600)

    done = filled.json("keys", "rotate-root", "--to", "file")
    assert [one.read_text() for one in in_the_way.parent.glob("root.key.former-*")] == [NEW_KEY]
    assert any("remove PHASESYNC_ROOT_KEY, here" in line for line in done["to_do"])
    assert not any(f"root key {ROOT_KEY.id} (" in line for line in done["to_do"]), "that is in no file"
    assert current(filled)["source"] == str(in_the_way), "also while the variable still has the former one"
    monkeypatch.delenv("PHASESYNC_ROOT_KEY")
    assert value(filled) == "postgres://first"


def test_from_a_file_to_the_environment_and_the_file_may_stay(
    filled: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHASESYNC_ROOT_KEY_NEXT", NEW_KEY)
    done = filled.json("keys", "rotate-root", "--to", "environment")
    assert any(f"move {filled.directory / 'root.key'} to the backups from before" in line for line in done["to_do"])
    monkeypatch.delenv("PHASESYNC_ROOT_KEY_NEXT")
    monkeypatch.setenv("PHASESYNC_ROOT_KEY", NEW_KEY)
    assert value(filled) == "postgres://first"
    assert current(filled)["kind"] == "environment"


def test_what_another_rotation_put_in_place_meanwhile_is_kept(
    filled: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that was opened before begins after the other one has ended."""
    with open_application(load_settings().settings) as late:
        first = filled.json("keys", "rotate-root")
        second = rotate_root(late, kind=None, wait=timedelta(0), report=lambda _: None)
    assert second.kept is not None
    assert second.kept.name == f"root.key.former-{first['root_key_id']}"
    assert ids(filled) == {second.current: "current", first["root_key_id"]: "former", ROOT_KEY.id: "former"}
    assert {path.name for path in filled.directory.glob("root.key*")} == {
        "root.key",
        f"root.key.former-{ROOT_KEY.id}",
        second.kept.name,
    }


@pytest.mark.parametrize("content", ["half a k", "the present one"])
def test_a_next_file_that_is_of_no_use_is_named_with_what_to_do(content: str, filled: CommandLine) -> None:
    beside = filled.directory / "root.key.next"
    beside.write_text((filled.directory / "root.key").read_text() if content == "the present one" else content)
    beside.chmod(0o600)
    for options in ((), ("--dry-run",)) if content == "half a k" else ((),):
        refused = filled("keys", "rotate-root", *options)
        assert refused.exit_code == 6
        assert f"remove {beside}" in refused.stderr
    beside.unlink()
    beside.symlink_to(filled.directory / "nowhere")
    assert f"{beside} cannot be read" in filled("keys", "rotate-root").stderr


def test_a_backup_under_a_former_root_key_says_where_that_is(filled: CommandLine) -> None:
    filled.done("db", "backup", str(filled.directory / "backup.db"))
    kept = filled.json("keys", "rotate-root")["former_kept"]
    refused = filled("db", "verify", str(filled.directory / "backup.db"))
    assert refused.exit_code == 6
    assert f"PHASESYNC_ROOT_KEY_FILE={kept}" in refused.stderr


# --- a process that dies


class Killed(BaseException):
    """The process is dead."""


@contextmanager
def steps(hook: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Call a hook before and after each transaction that writes, and each change of a file's name."""
    with monkeypatch.context() as patch:
        begin = Database._write

        @contextmanager
        def write(database: Database) -> Iterator[Any]:
            hook("before a write")
            with begin(database) as connection:
                yield connection
            hook("after a write")

        patch.setattr(Database, "_write", write)
        for name in ("link", "replace", "fsync"):
            original = getattr(os, name)

            def call(*args: Any, name: str = name, original: Callable[..., Any] = original) -> Any:
                hook(f"before {name}")
                done = original(*args)
                hook(f"after {name}")
                return done

            patch.setattr(os, name, call)
        yield


def rotate() -> str:
    with open_application(load_settings().settings) as application:
        change = rotate_root(application, kind=None, wait=timedelta(0), report=lambda _: None)
        return change.current


def test_a_kill_at_any_step_loses_nothing_and_the_next_call_goes_on(
    filled: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started = {name: (filled.directory / name).read_bytes() for name in ("data/phasesync.db", "root.key")}
    seen: list[str] = []
    with steps(seen.append, monkeypatch):
        rotate()
    assert len(seen) > 16
    assert {"after replace", "before link", "after a write"} <= set(seen)

    for step in range(len(seen)):
        for left in (*filled.directory.glob("root.key*"), *filled.directory.glob(".root.key*")):
            left.unlink()
        for name in ("phasesync.db-wal", "phasesync.db-shm"):
            (filled.directory / "data" / name).unlink(missing_ok=True)
        for name, content in started.items():
            (filled.directory / name).write_bytes(content)
        (filled.directory / "root.key").chmod(0o600)

        count = iter(range(len(seen)))

        def die(_what: str, step: int = step, count: Iterator[int] = count) -> None:
            if next(count) == step:
                raise Killed

        with steps(die, monkeypatch), pytest.raises(Killed):
            rotate()
        with open_application(load_settings().settings) as application:
            application.store.apps.add_environment("shop", "made-meanwhile")
            (version,) = application.store.secrets.list_secrets("shop", "prod")
            assert version.value is not None
            assert version.value.reveal_text() == "postgres://first", seen[step]
        made = rotate()
        with open_application(load_settings().settings) as application:
            roots = application.store.root_keys.list_all()
            assert [root.id for root in roots if root.status == "current"] == [made]
            assert [root.id for root in roots if root.data_keys] == [made], seen[step]
            assert application.store.keys.root_key_ids == (made,), seen[step]
        assert (filled.directory / f"root.key.former-{ROOT_KEY.id}").exists()


# --- variables and credentials of systemd


def test_a_variable_is_replaced_by_its_next_one(filled: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    (filled.directory / "root.key").unlink()
    monkeypatch.delenv("PHASESYNC_ROOT_KEY_FILE")
    monkeypatch.setenv("PHASESYNC_ROOT_KEY", base64.b64encode(ROOT_KEY.material).decode())
    for options in ((), ("--dry-run",)):
        refused = filled("keys", "rotate-root", *options)
        assert refused.exit_code == 6
        assert "PHASESYNC_ROOT_KEY_NEXT" in refused.stderr
    monkeypatch.setenv("PHASESYNC_ROOT_KEY_NEXT", NEW_KEY)
    done = filled.json("keys", "rotate-root")
    assert "set PHASESYNC_ROOT_KEY to what PHASESYNC_ROOT_KEY_NEXT is" in done["to_do"][0]
    monkeypatch.delenv("PHASESYNC_ROOT_KEY_NEXT")
    assert filled("apps", "list").exit_code == 6
    monkeypatch.setenv("PHASESYNC_ROOT_KEY", NEW_KEY)
    assert value(filled) == "postgres://first"


def test_a_credential_of_systemd_is_replaced_by_its_next_one(
    filled: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = filled.directory / "credentials"
    credentials.mkdir()
    (filled.directory / "root.key").rename(credentials / "root_key")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert "LoadCredential=root_key_next" in filled("keys", "rotate-root").stderr
    (credentials / "root_key_next").write_text(NEW_KEY)
    done = filled.json("keys", "rotate-root")
    assert "have systemd give as root_key" in done["to_do"][0]
    assert current(filled)["kind"] == "systemd-credential"
    (credentials / "root_key_next").rename(credentials / "root_key")
    assert value(filled) == "postgres://first"


# --- age


def identity(folder: Path) -> tuple[Path, str]:
    """Make an age identity; return its file and its public key."""
    import pyrage

    made = pyrage.x25519.Identity.generate()
    file = folder / f"identity-{os.urandom(4).hex()}.txt"
    file.write_text(f"# created by a test\n{made}\n")
    file.chmod(0o600)
    return file, str(made.to_public())


def test_a_root_key_in_an_age_file_is_opened_by_its_identity_and_replaced_by_another(
    filled: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, recipient = identity(filled.directory)
    root_key = filled.directory / "root.key"
    root_key.write_bytes(age.encrypt_age(root_key.read_bytes(), [recipient]))
    refused = filled("apps", "list")
    assert refused.exit_code == 6
    assert "PHASESYNC_AGE_IDENTITY_FILE" in refused.stderr
    monkeypatch.setenv("PHASESYNC_AGE_IDENTITY_FILE", str(file))
    assert current(filled)["kind"] == "age"
    filled.done("keys", "rotate-root")
    assert age.is_age_file(root_key.read_bytes())
    assert value(filled) == "postgres://first"
    other, _ = identity(filled.directory)
    monkeypatch.setenv("PHASESYNC_AGE_IDENTITY_FILE", str(other))
    assert "no identity in" in filled("apps", "list").stderr


def test_without_the_package_an_error_names_it(filled: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyrage", None)
    refused = filled("keys", "escrow", "--recipient", "age1")
    assert refused.exit_code == 6
    assert "pip install 'phasesync[age]'" in refused.stderr


# --- escrow


def test_an_escrowed_key_is_recovered_by_each_recipient_and_opens_the_database(filled: CommandLine) -> None:
    first, second = identity(filled.directory), identity(filled.directory)
    printed = filled.done("keys", "escrow", "--recipient", first[1], "--recipient", second[1])
    assert printed.stdout.startswith("-----BEGIN AGE ENCRYPTED FILE-----\n")
    assert base64.b64encode(ROOT_KEY.material).decode() not in printed.stdout + printed.stderr
    file = filled.directory / "escrow.age"
    file.write_text(printed.stdout)
    for mine, _ in (first, second):
        done = filled.json("keys", "escrow", "--verify", str(file), "--identity", str(mine))
        assert done["root_key_id"] == ROOT_KEY.id

    stranger, _ = identity(filled.directory)
    refused = filled("keys", "escrow", "--verify", str(file), "--identity", str(stranger))
    assert refused.exit_code == 6
    assert "no identity in" in refused.stderr
    assert "PHASESYNC" not in refused.stderr, "what the settings name plays no part"
    missing = filled("keys", "escrow", "--verify", str(file) + ".nowhere", "--identity", str(first[0]))
    assert (missing.exit_code, "--verify takes a file" in missing.stderr) == (6, True)

    filled.done("keys", "rotate-root")
    refused = filled("keys", "escrow", "--verify", str(file), "--identity", str(first[0]))
    assert refused.exit_code == 6
    assert f"{file} holds the root key {ROOT_KEY.id}, which was replaced" in refused.stderr
    assert "phasesync keys escrow --recipient" in refused.stderr


def test_what_is_recovered_is_a_root_key_file(filled: CommandLine) -> None:
    file, recipient = identity(filled.directory)
    text = filled.json("keys", "escrow", "--recipient", recipient)["escrow"]
    recovered = age.decrypt_age(text.encode(), file, "the escrow")
    assert recovered == base64.b64encode(ROOT_KEY.material) + b"\n"


@pytest.mark.parametrize("recipient", ["age1", "AGE-SECRET-KEY-1CANARY", "ssh-ed25519 AAAA"])
def test_a_recipient_that_is_none_is_not_repeated(recipient: str, filled: CommandLine) -> None:
    refused = filled("keys", "escrow", "--recipient", recipient)
    assert refused.exit_code == 2
    assert "recipient 1 is not a public key of age" in refused.stderr
    assert "CANARY" not in refused.stderr


@pytest.mark.parametrize("arguments", [[], ["--verify", "x"], ["--recipient", "age1", "--identity", "x"]])
def test_escrow_says_which_options_belong_together(arguments: list[str], filled: CommandLine) -> None:
    refused = filled("keys", "escrow", *arguments)
    assert refused.exit_code == 2
    assert "--verify with --identity" in refused.stderr


# --- AWS KMS


def kms_key(aws: Aws) -> str:
    return str(aws.boto("kms").create_key(Description="root keys")["KeyMetadata"]["Arn"])


@pytest.fixture
def at_kms(phasesync: CommandLine, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> tuple[CommandLine, str]:
    """An installation whose root key AWS KMS has encrypted, and no file with a root key."""
    arn = kms_key(aws)
    (phasesync.directory / "root.key").unlink()
    (phasesync.directory / "data" / "phasesync.db").unlink()
    monkeypatch.setenv("PHASESYNC_ROOT_KEY_KMS_KEY", arn)
    assert phasesync.json("init")["root_key_made"]
    assert not phasesync.json("init")["root_key_made"]
    phasesync.done("apps", "add", "shop")
    phasesync.done("envs", "add", "shop/prod")
    phasesync.done("secrets", "set", "shop/prod", "URL", "-", stdin="postgres://first")
    return phasesync, arn


def test_init_says_that_kms_has_the_root_key(phasesync: CommandLine, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    arn = kms_key(aws)
    (phasesync.directory / "data" / "phasesync.db").unlink()
    monkeypatch.setenv("PHASESYNC_ROOT_KEY_KMS_KEY", arn)
    dry = phasesync.done("init", "--dry-run")
    assert f"a root key that the KMS key {arn} encrypts" in dry.stderr
    assert not [one for one in aws.server.operations if one.name == "GenerateDataKey"]
    made = phasesync.done("init")
    assert f"the KMS key {arn} has encrypted it" in made.stderr
    assert "keep a copy" not in made.stderr


def test_an_installation_with_its_root_key_at_kms_has_no_key_file(at_kms: tuple[CommandLine, str]) -> None:
    phasesync, arn = at_kms
    assert value(phasesync) == "postgres://first"
    in_use = current(phasesync)
    assert (in_use["kind"], in_use["kms_key"]) == ("aws-kms", arn)
    assert not list(phasesync.directory.glob("root.key*"))


def test_a_backup_and_the_right_to_decrypt_are_enough(at_kms: tuple[CommandLine, str]) -> None:
    phasesync, _ = at_kms
    backup = phasesync.directory / "backup.db"
    phasesync.done("db", "backup", str(backup))
    (phasesync.directory / "data" / "phasesync.db").unlink()
    phasesync.done("db", "restore", str(backup))
    assert value(phasesync) == "postgres://first"


def test_an_outage_of_kms_stops_starts_and_no_process_that_runs(at_kms: tuple[CommandLine, str], aws: Aws) -> None:
    phasesync, _ = at_kms
    with open_application(load_settings().settings) as application:
        aws.server.faults.fail("Decrypt", times=None)
        application.store.apps.add_environment("shop", "made-during-the-outage")
        (version,) = application.store.secrets.list_secrets("shop", "prod")
        assert version.value is not None
        refused = phasesync("secrets", "list", "shop/prod")
        assert refused.exit_code == 7
        assert "the root key cannot be opened now" in refused.stderr


def test_another_kms_key_than_that_of_the_settings_is_not_asked(
    at_kms: tuple[CommandLine, str], aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    phasesync, arn = at_kms
    monkeypatch.setenv("PHASESYNC_ROOT_KEY_KMS_KEY", kms_key(aws))
    refused = phasesync("secrets", "list", "shop/prod")
    assert refused.exit_code == 6
    assert arn in refused.stderr
    monkeypatch.delenv("PHASESYNC_ROOT_KEY_KMS_KEY")
    refused = phasesync("secrets", "list", "shop/prod")
    assert refused.exit_code == 6
    assert f"PHASESYNC_ROOT_KEY_KMS_KEY={arn}" in refused.stderr


def test_a_new_root_key_under_the_same_kms_key(at_kms: tuple[CommandLine, str]) -> None:
    phasesync, arn = at_kms
    before = current(phasesync)["id"]
    done = phasesync.json("keys", "rotate-root")
    assert done["former_id"] == before
    assert done["to_do"] == [], "the backups from before have their wrapped key in them"
    assert current(phasesync)["kms_key"] == arn
    assert value(phasesync) == "postgres://first"


def test_from_one_kms_key_to_another(
    at_kms: tuple[CommandLine, str], aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    phasesync, arn = at_kms
    other = kms_key(aws)
    monkeypatch.setenv("PHASESYNC_ROOT_KEY_KMS_KEY_NEXT", other)
    done = phasesync.json("keys", "rotate-root")
    assert f"set root_key_kms_key to {other}" in done["to_do"][0]
    assert f"keep the KMS key {arn}" in done["to_do"][1]
    monkeypatch.delenv("PHASESYNC_ROOT_KEY_KMS_KEY_NEXT")
    monkeypatch.setenv("PHASESYNC_ROOT_KEY_KMS_KEY", other)
    assert value(phasesync) == "postgres://first"
    assert current(phasesync)["kms_key"] == other


def test_from_a_file_to_kms_and_back(filled: CommandLine, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    arn = kms_key(aws)
    monkeypatch.setenv("PHASESYNC_ROOT_KEY_KMS_KEY", arn)
    filled.done("keys", "rotate-root")
    assert current(filled)["kms_key"] == arn
    (filled.directory / "root.key").rename(filled.directory / "old.key")
    assert value(filled) == "postgres://first"

    filled.done("db", "backup", str(filled.directory / "backup.db"))
    done = filled.json("keys", "rotate-root", "--to", "file")
    assert any("remove root_key_kms_key" in line for line in done["to_do"])
    monkeypatch.delenv("PHASESYNC_ROOT_KEY_KMS_KEY")
    refused = filled("db", "verify", str(filled.directory / "backup.db"))
    assert f"PHASESYNC_ROOT_KEY_KMS_KEY={arn}" in refused.stderr
    assert value(filled) == "postgres://first"
    assert current(filled)["source"] == str(filled.directory / "root.key")
    assert REGION in arn
