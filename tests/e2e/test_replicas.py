"""
Three daemons on one PostgreSQL under load, while each of the bad things happens to them and to their database.

The same with and without a queue that distributes the work (`daemon.dispatch`): the claim excludes either way.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from phasesync.emulator import DROP, Answer, Operation
from phasesync.errors import StoreUnavailableError
from tests.support.aws import ACCOUNT, REGION, Aws
from tests.support.daemon import Daemon
from tests.support.databases import migrate_template
from tests.support.installation import Installation, edit
from tests.support.postgres import PostgresServer, start_server
from tests.support.waiting import HANG_GUARD_S, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NAMES = tuple(f"sync-{number}" for number in range(20))
EDIT_EVERY_S = 0.1
"""In turn, so that a sync is edited every two seconds: phasesync writes at most 30 versions of a secret at once."""


class Replicas:
    """Daemons that can be told apart at the database, and somebody who edits all the time."""

    def __init__(self, server: PostgresServer, installation: Installation, aws: Aws) -> None:
        self.server = server
        self.installation = installation
        self.aws = aws
        self.committed = dict.fromkeys(NAMES, 0)
        """Sync -> the newest number that its environment has for certain. The numbers of a sync grow."""
        self._stopped = threading.Event()
        self._editor = threading.Thread(target=self._edit_all_the_time)

    # --- daemons

    def start(self, count: int) -> list[Daemon]:
        """Start daemons; return them when they are ready."""
        started = []
        for _ in range(count):
            name = f"replica-{len(self.installation.daemons) + 1}"
            url = f"{self.installation.database_url}&application_name={name}"
            started.append(self.installation.start_daemon(ready=False, PHASESYNC_DATABASE_URL=url))
        for daemon in started:
            daemon.wait_until_ready()
        return started

    def name_of(self, daemon: Daemon) -> str:
        return f"replica-{self.installation.daemons.index(daemon) + 1}"

    def writer_of(self, operation: Operation) -> Daemon:
        """Return the daemon that has the claim for a request about a secret, which is named by its ARN."""
        name = str(operation.secret_id).partition("shop/")[2].rsplit("-", 1)[0]
        owner = self.installation.claim_owner(name)
        return next(one for one in self.installation.daemons if f"-{one.pid}-" in owner)

    def at_the_server(self, statement: str, daemon: Daemon) -> list[Any]:
        with self.server.connect() as connection:
            return connection.execute(statement, [self.name_of(daemon)]).fetchall()

    def freeze_apart_from_locks(self, daemon: Daemon) -> None:
        """Freeze a daemon outside of any transaction: with a row lock it would hold up everyone, for a minute."""
        open_transactions = "SELECT 1 FROM pg_stat_activity WHERE application_name = %s AND xact_start IS NOT NULL"
        while True:
            daemon.freeze()
            if not any(self._look_later(open_transactions, daemon) for _ in range(5)):
                return
            daemon.thaw()

    def _look_later(self, statement: str, daemon: Daemon) -> list[Any]:
        """Ask the server after a moment: what a daemon sent just before it froze may not have begun yet."""
        time.sleep(0.02)
        return self.at_the_server(statement, daemon)

    def cut_off(self, daemon: Daemon) -> None:
        """End every connection of a daemon, once it has some."""
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"
        wait_until(lambda: self.at_the_server(cut, daemon), what="connections to cut")

    # --- edits

    def begin_to_edit(self) -> None:
        self._editor.start()

    def stop_editing(self) -> None:
        self._stopped.set()
        if self._editor.ident is not None:
            self._editor.join(HANG_GUARD_S)

    def _edit_all_the_time(self) -> None:
        number = 0
        with self.installation.application() as application:
            while not self._stopped.is_set():
                number += 1
                name = NAMES[number % len(NAMES)]
                try:
                    edit(application, name, {"N": str(number)})
                    self.committed[name] = number
                except StoreUnavailableError:
                    pass  # The database is away; it may have been stored nevertheless.
                time.sleep(EDIT_EVERY_S)

    # --- what readers see

    def numbers_of(self, name: str) -> list[int]:
        """Return the number in each version of a secret, in the order in which they were made."""
        state = self.aws.server.state
        with state.lock:
            (secret,) = [one for one in state.secrets(ACCOUNT, REGION) if one.name == f"shop/{name}"]
            texts = [str(version["secret_string"]) for version in secret.versions.values()]
        return [int(json.loads(text)["N"]) for text in texts]

    def current_number_of(self, name: str) -> int:
        return int(json.loads(self.aws.secret_text(f"shop/{name}"))["N"])

    def wait_for_every_sync(self, what: str) -> None:
        """Return when readers see of every sync what it has now, or something newer: no sync is starved."""
        goals = dict(self.committed)

        def arrived() -> bool:
            for name in [name for name, goal in goals.items() if self.current_number_of(name) >= goal]:
                del goals[name]
            return not goals

        wait_until(arrived, what=f"the newest values {what}")


@pytest.fixture
def replicas(dispatch: str, tmp_path: Path, aws: Aws) -> Iterator[Replicas]:
    """An installation on a server of its own, which can be restarted, with all syncs in it."""
    with start_server() as server:
        server.create_database("replicas")
        migrate_template(server.url("replicas"))
        installation = Installation(tmp_path, server.url("replicas"), aws.environ)
        installation.initialise()
        installation.configure(
            daemon__dispatch=dispatch, daemon__claim_ttl_s=6, daemon__coalesce_ms=50, daemon__workers=4
        )
        installation.in_process = True
        installation.done("db", "migrate")
        installation.add_syncs(*NAMES, values={"N": "0"})
        made = Replicas(server, installation, aws)
        yield made
        made.stop_editing()
        installation.close()


@pytest.mark.parametrize("dispatch", ["threads", "procrastinate"])
def test_whatever_happens_every_edit_arrives_once_and_in_order(replicas: Replicas, aws: Aws) -> None:
    installation = replicas.installation
    first, second, third = replicas.start(3)
    installation.wait_for(*NAMES)
    replicas.begin_to_edit()
    replicas.wait_for_every_sync("before anything happens")

    # kill -9, with a write that was carried out and whose answer nobody hears
    killed: list[Daemon] = []

    def kill(operation: Operation) -> Answer:
        killed.append(replicas.writer_of(operation))
        killed[0].kill()
        return DROP

    aws.server.do("PutSecretValue", kill, when="after")
    wait_until(lambda: killed and killed[0].ended, what="the kill")
    replicas.wait_for_every_sync("after a kill")
    (fourth,) = replicas.start(1)

    # SIGSTOP with a write on its way, until others have taken over its claims, and SIGCONT
    stopped: list[Daemon] = []

    def freeze(operation: Operation) -> None:
        writer = replicas.writer_of(operation)
        replicas.freeze_apart_from_locks(writer)
        stopped.append(writer)

    aws.server.do("PutSecretValue", freeze)
    wait_until(lambda: stopped, what="the freeze")
    (frozen,) = stopped
    replicas.wait_for_every_sync("while one is frozen")
    frozen.thaw()
    replicas.wait_for_every_sync("after it woke")
    cut, other = [one for one in (first, second, third, fourth) if one not in (killed[0], frozen)]

    replicas.server.restart()
    replicas.wait_for_every_sync("after a restart of the server")

    replicas.cut_off(cut)
    replicas.wait_for_every_sync("after connections were cut")
    living = (frozen, cut, other)
    before = [len(daemon.find("run finished")) for daemon in living]
    wait_until(
        lambda: all(len(daemon.find("run finished")) > runs for daemon, runs in zip(living, before, strict=True)),
        what="work for each of them",
    )

    replicas.stop_editing()
    installation.wait_for(*NAMES)
    for name in NAMES:
        numbers = replicas.numbers_of(name)
        assert numbers == sorted(set(numbers)), f"{name}: written twice, or an older value on top of a newer one"
        assert numbers[-1] == replicas.current_number_of(name) >= replicas.committed[name], name
    wait_until(lambda: left_in_the_queue(installation) == 0, what="a queue without entries of the dead")
    for daemon in living:
        assert daemon.wait_until_ready() == "active"
        daemon.signal(signal.SIGTERM)
    assert [daemon.ends() for daemon in living] == [0, 0, 0]
    with installation.application() as application:
        assert application.store.daemons.alive() == []


def left_in_the_queue(installation: Installation) -> int:
    with installation.database() as connection:
        if not sa.inspect(connection).has_table("procrastinate_jobs"):
            return 0
        return connection.scalar(sa.text("SELECT count(*) FROM procrastinate_jobs")) or 0
