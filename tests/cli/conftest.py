"""A command line with a database of its own."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from phasesync.cli.main import cli
from tests.support.aws import Aws
from tests.support.stores import open_test_store, write_root_key

LIVES = ("--default-ttl", "1h", "--max-ttl", "8h")
POLICY = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:ListAllMyBuckets","Resource":"*"}]}'


@dataclass(frozen=True)
class CommandLine:
    """Types commands."""

    directory: Path

    def __call__(self, *args: str, stdin: bytes | str | None = None) -> Result:
        """Run a command; the result has exit_code, stdout and stderr."""
        done = CliRunner().invoke(cli, args, input=stdin, prog_name="phasesync")
        assert "bug in phasesync" not in done.stderr, done.stderr
        return done

    def done(self, *args: str, stdin: bytes | str | None = None) -> Result:
        """Run a command that succeeds."""
        result = self(*args, stdin=stdin)
        assert result.exit_code == 0, result.stderr
        return result

    def json(self, *args: str, stdin: bytes | str | None = None) -> Any:
        """Run a command that succeeds and prints one JSON document."""
        return json.loads(self.done(*args, "-o", "json", stdin=stdin).stdout)

    def items(self, *args: str) -> list[Any]:
        """Run a command that lists something."""
        document = self.json(*args)
        assert document["next"] is None
        items: list[Any] = document["items"]
        return items


@pytest.fixture
def phasesync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, migrated_sqlite_template: Path) -> CommandLine:
    """A command line with an initialised, empty database in a directory of its own."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    shutil.copyfile(migrated_sqlite_template, data / "phasesync.db")
    (data / "phasesync.db").chmod(0o600)
    write_root_key(tmp_path / "root.key")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PHASESYNC_DATA_DIR", str(data))
    monkeypatch.setenv("PHASESYNC_ROOT_KEY_FILE", str(tmp_path / "root.key"))
    return CommandLine(tmp_path)


@pytest.fixture(scope="session")
def shop_template(tmp_path_factory: pytest.TempPathFactory, migrated_sqlite_template: Path) -> Path:
    """A database with the app `shop` and its environment `prod`, to copy; each process makes its own."""
    file = tmp_path_factory.mktemp("shop") / "phasesync.db"
    shutil.copyfile(migrated_sqlite_template, file)
    store = open_test_store(f"sqlite:///{file}")
    store.apps.add_app("shop")
    store.apps.add_environment("shop", "prod")
    store.close()
    assert not file.with_name("phasesync.db-wal").exists(), "the file alone is the database"
    return file


@pytest.fixture
def shop(phasesync: CommandLine, shop_template: Path) -> CommandLine:
    """The same, with the app `shop` and its environment `prod`."""
    shutil.copyfile(shop_template, phasesync.directory / "data" / "phasesync.db")
    return phasesync


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it to have a terminal, where someone can answer; see `test_secret_prompt.py` for a real one."""

    def answering() -> None:
        monkeypatch.setattr("phasesync.cli.input.is_terminal", lambda: True)
        monkeypatch.setattr("phasesync.cli.input.ask_secret", typed)

    return answering


def typed(what: str, *, max_bytes: int, otherwise: str) -> bytes:
    """What stands for a prompt at a terminal: the next line of stdin."""
    click.echo(f"{what}: ", err=True, nl=False)
    return sys.stdin.readline().removesuffix("\n").encode()[:max_bytes]


def add_dynamic(shop: CommandLine, name: str, *options: str) -> None:
    """Add a dynamic secret of shop/prod."""
    shop.done("dynamic", "add", name, "--env", "shop/prod", "--credential", "host", *LIVES, *options)


@pytest.fixture
def ci(shop: CommandLine, aws: Aws) -> CommandLine:
    """A dynamic secret `ci` of shop/prod, on an AWS."""
    policy = shop.directory / "policy.json"
    policy.write_text(POLICY)
    shop.done("credentials", "add", "host", "--type", "ambient", "--region", "eu-west-1")
    add_dynamic(shop, "ci", "--inline-policy", str(policy))
    return shop


def users(aws: Aws) -> set[str]:
    """The names of the users that IAM has under our path."""
    return {user["UserName"] for user in aws.boto("iam").list_users(PathPrefix="/phasesync/")["Users"]}
