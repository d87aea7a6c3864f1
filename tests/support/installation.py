"""
A phasesync as an operator has it: a database with its root key, an environment, the command line as processes.

    installation.done("apps", "add", "shop")           a command, in a process of its own unless `in_process` is set
    with installation.application() as application:    the same store in this process: quick, to set the scene
    installation.start_daemon()                        a daemon of tests/support/daemon.py
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import sqlalchemy as sa
from click.testing import CliRunner

from phasesync.bootstrap import Application, open_application
from phasesync.cli.main import cli
from phasesync.core.credential import CredentialDraft, CredentialType
from phasesync.core.model import SecretValue, SecretWrite
from phasesync.core.sync import Sync, SyncConfig, SyncDraft
from phasesync.core.sync_status import status_of
from phasesync.settings import load_settings
from tests.support.daemon import PHASESYNC, Daemon
from tests.support.preloaded import PreloadedProcess
from tests.support.stores import open_test_store, write_root_key
from tests.support.vouching import vouch_for_leases
from tests.support.waiting import HANG_GUARD_S, wait_until

ACCESS_KEY_ID = "AKIAPHASESYNCDAEMON1"
"""The key of every sync: what arrives at AWS under another one is the test's own looking around."""
REGION = "eu-west-1"


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a command left."""

    exit_code: int
    stdout: str
    stderr: str


class Installation:
    """One database, one root key, and everything that works with them."""

    def __init__(self, folder: Path, database_url: str, environ: dict[str, str]) -> None:
        """
        Args:
            folder: home, settings file, data directory and logs go there.
            database_url: of a database at the newest migration, or of an empty one; `phasesync init` or `initialise`
                make its keys.
            environ: what processes need to reach AWS.
        """
        self.folder = folder
        self.database_url = database_url
        self.data_dir = folder / "data"
        self.data_dir.mkdir(mode=0o700, exist_ok=True)
        self.config = folder / "phasesync.toml"
        self.in_process = False
        """Carry out commands in this process: ten times as quick, and all but the start is the same."""
        self.preloaded = False
        """Commands begin after their imports (`preloaded.py`): a process each, for tests of anything but the start."""
        self.daemons: list[Daemon] = []
        self._commands: list[subprocess.Popen[bytes]] = []
        self.environ = environ | {
            "HOME": str(folder),
            "PATH": os.environ["PATH"],
            "PHASESYNC_DATA_DIR": str(self.data_dir),
            "PHASESYNC_DATABASE_URL": database_url,
            "PHASESYNC_ROOT_KEY_FILE": str(folder / "root.key"),
            "PHASESYNC_CONFIG": str(self.config),
        }
        self.configure()

    def initialise(self) -> None:
        """Give a migrated database its keys, as `phasesync init` does, in this process."""
        write_root_key(self.folder / "root.key")
        open_test_store(self.database_url).close()

    def configure(self, **settings: str | int) -> None:
        """Write the settings file; `daemon__claim_ttl_s=6` sets `daemon.claim_ttl_s`."""
        values = {"http__listen": "127.0.0.1:0", "log__format": "json", **settings}
        lines = [f"{name.replace('__', '.')} = {json.dumps(value)}\n" for name, value in values.items()]
        self.write_config("".join(lines))

    def write_config(self, text: str) -> None:
        """Write the settings file as it is."""
        self.config.write_text(text)
        self.config.chmod(0o600)

    # --- the command line

    def popen(self, *args: str) -> subprocess.Popen[bytes]:
        """Start a command in a process group of its own; `close` ends it if it is still there."""
        process = subprocess.Popen(
            [str(PHASESYNC), *args],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._commands.append(process)
        return process

    def run(self, *args: str, stdin: str = "", **environ: str) -> Done:
        """Run a command."""
        if self.in_process:
            result = CliRunner().invoke(cli, args, input=stdin.encode(), env=self.environ | environ)
            return Done(exit_code=result.exit_code, stdout=result.stdout, stderr=result.stderr)
        if self.preloaded:
            return _run_preloaded(args, self.environ | environ, stdin.encode())
        process = subprocess.run(
            [str(PHASESYNC), *args],
            env=self.environ | environ,
            input=stdin.encode(),
            capture_output=True,
            timeout=HANG_GUARD_S,
            check=False,
        )
        return Done(exit_code=process.returncode, stdout=process.stdout.decode(), stderr=process.stderr.decode())

    def done(self, *args: str, stdin: str = "") -> Done:
        """Run a command that succeeds."""
        result = self.run(*args, stdin=stdin)
        assert result.exit_code == 0, (args, result.stdout, result.stderr)
        return result

    def json(self, *args: str, stdin: str = "") -> Any:
        """Run a command that succeeds and prints one JSON document."""
        return json.loads(self.done(*args, "-o", "json", stdin=stdin).stdout)

    # --- daemons

    def start_daemon(
        self,
        *,
        ready: bool = True,
        installed: bool = False,
        first: str = "",
        environ: Mapping[str, str] | None = None,
        **more: str,
    ) -> Daemon:
        """
        Start a daemon; with `ready` it works or stands by when this returns.

        `installed` and `first` are those of `Daemon`; `environ` and `more` are added to its environment.
        """
        log = self.folder / f"daemon-{len(self.daemons) + 1}.log"
        daemon = Daemon(self.environ | dict(environ or {}) | more, log, installed=installed, first=first)
        self.daemons.append(daemon)
        if ready:
            daemon.wait_until_ready()
        return daemon

    def let_time_pass_for(self, dead: Daemon) -> None:
        """End the claims and the membership of a daemon that died, so that a test need not wait for their end."""
        with self.database() as connection:
            owners = sa.text("SELECT owner FROM daemons WHERE pid = :pid")
            for owner in list(connection.scalars(owners, {"pid": dead.pid})):
                connection.execute(
                    sa.text("UPDATE syncs SET claim_until = 1 WHERE claim_owner = :owner"), {"owner": owner}
                )
                connection.execute(
                    sa.text("UPDATE leases SET claim_until = 1 WHERE claim_owner = :owner"), {"owner": owner}
                )
                connection.execute(sa.text("UPDATE daemons SET until = 1 WHERE owner = :owner"), {"owner": owner})

    # --- leases

    def add_dynamic(self, name: str = "ci", *options: str) -> None:
        """Add a dynamic secret of shop/production, with the app and a credential `aws` of the environment's keys."""
        self.done("apps", "add", "shop")
        self.done("envs", "add", "shop/production")
        self.done("credentials", "add", "aws", "--type", "ambient", "--region", REGION)
        policy = self.folder / "inline.json"
        statement = {"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"}
        policy.write_text(json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
        lives = ("--default-ttl", "1h", "--max-ttl", "8h")
        recipe = ("--env", "shop/production", "--credential", "aws", "--inline-policy", str(policy), *lives, *options)
        self.done("dynamic", "add", name, *recipe)

    def leases(self) -> dict[str, dict[str, Any]]:
        """Return id -> every lease that there ever was, as `leases list` prints it."""
        return {lease["id"]: lease for lease in self.json("leases", "list", "--all")["items"]}

    def ends_in(self, lease_id: str, *, seconds: float) -> None:
        """Have a lease end so many seconds from now; negative = its time was over then."""
        ends_at = (time.time() + seconds) * 1_000_000
        with self.database() as connection:
            statement = sa.text("UPDATE leases SET expires_at = :at WHERE id = :id")
            assert connection.execute(statement, {"at": int(ends_at), "id": lease_id}).rowcount == 1
        vouch_for_leases(self.database_url)

    def claim_owner(self, name: str) -> str:
        """Return who has the claim of a sync; empty when no one has."""
        with self.database() as connection:
            statement = sa.text("SELECT claim_owner FROM syncs WHERE name = :name")
            return str(connection.scalar(statement, {"name": name}) or "")

    def nobody_holds_a_lock(self) -> bool:
        """Return whether a write of another process would go through at once."""
        engine = sa.create_engine(self.database_url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA busy_timeout = 0")
                try:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                except sa.exc.OperationalError:
                    return False
                return True
            idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL"
            return connection.scalar(sa.text(f"{idle} AND pid != pg_backend_pid()")) == 0

    @contextmanager
    def database(self) -> Iterator[sa.Connection]:
        """Open a transaction of our own on the database."""
        engine = sa.create_engine(self.database_url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            yield connection

    def close(self) -> None:
        """End every process that is left, and look for defects in the logs of the daemons."""
        for pid in (*(process.pid for process in self._commands), *(daemon.pid for daemon in self.daemons)):
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        for process in self._commands:
            process.communicate(timeout=HANG_GUARD_S)
        for daemon in self.daemons:
            daemon.clean_up()
        for daemon in self.daemons:
            daemon.assert_without_defects()

    # --- the same store in this process

    @contextmanager
    def application(self) -> Iterator[Application]:
        """Open the application as a command does."""
        loaded = load_settings(self.config, environ=self.environ)
        with open_application(loaded.settings) as application:
            yield application

    def add_syncs(self, *names: str, values: dict[str, str] | None = None, **config: Any) -> None:
        """Add syncs, pending, each with an environment of its own name in the app `shop`, for secrets `shop/NAME`."""
        with self.application() as application:
            if not application.store.apps.list_apps():
                application.store.apps.add_app("shop")
                application.store.credentials.add(
                    "aws",
                    CredentialDraft(
                        type=CredentialType.ACCESS_KEY,
                        region=REGION,
                        access_key_id=ACCESS_KEY_ID,
                        secret_access_key=SecretValue("not-a-real-secret-access-key"),
                    ),
                )
            for name in names:
                application.store.apps.add_environment("shop", name)
                edit(application, name, values or {"URL": "postgres://db", "USER": "shop"})
                application.configuration.add(_draft(name, **config), verify=False)

    def edit(self, name: str, **values: str | None) -> None:
        """Commit one revision of a sync's environment; None unsets a key."""
        with self.application() as application:
            edit(application, name, values)

    def configure_sync(self, name: str, **changes: Any) -> None:
        """Change what is set on a sync."""
        with self.application() as application:
            application.configuration.update(name, change=lambda config: replace(config, **changes))

    def reconcile(self, *names: str) -> None:
        """Bring syncs in step in this process."""
        with self.application() as application:
            for name in names:
                assert application.operations.run(name, actor="test").error is None

    def sync(self, name: str) -> Sync:
        """Return a sync as it stands."""
        with self.application() as application:
            return application.store.syncs.get_sync(name)

    def wait_for(self, *names: str, status: str = "in-sync", within_s: float = HANG_GUARD_S) -> None:
        """Return when all these syncs have a status."""
        with self.application() as application:
            credentials = {credential.id: credential.status for credential in application.store.credentials.list_all()}

            def reached() -> bool:
                syncs = [sync for sync in application.store.syncs.list_syncs() if sync.name in names]
                return all(str(status_of(sync, credentials[sync.credential_id])) == status for sync in syncs)

            wait_until(reached, within_s=within_s, what=f"{names} {status}")


def _run_preloaded(args: Sequence[str], environ: Mapping[str, str], stdin: bytes) -> Done:
    with TemporaryFile() as given, TemporaryFile() as stdout, TemporaryFile() as stderr:
        given.write(stdin)
        given.seek(0)
        process = PreloadedProcess(args, environ, (given.fileno(), stdout.fileno(), stderr.fileno()))
        try:
            code = process.wait(HANG_GUARD_S)
        finally:
            process.kill()
        # The process wrote at the end of the same open file.
        stdout.seek(0)
        stderr.seek(0)
        return Done(exit_code=code, stdout=stdout.read().decode(), stderr=stderr.read().decode())


def edit(application: Application, name: str, values: dict[str, str | None] | dict[str, str]) -> None:
    """Commit one revision of an environment of `shop`; None unsets a key."""
    application.store.secrets.edit(
        "shop",
        name,
        actor="test",
        origin="set",
        writes=[SecretWrite(path="/", key=key, value=SecretValue(text)) for key, text in values.items() if text],
        unsets=[("/", key) for key, text in values.items() if text is None],
    )


def _draft(name: str, **config: Any) -> SyncDraft:
    return SyncDraft(
        name=name,
        app="shop",
        environment=name,
        path="/",
        credential="aws",
        destination_kind="aws-secrets-manager",
        region=REGION,
        config=SyncConfig(**{"remote_name": f"shop/{name}", "interval": timedelta(minutes=5), **config}),
        account=None,
        adopt=None,
    )
