"""
What makes each alert fire, on a real daemon, and what ends it: for `bench.alerting`.

A cause is a context manager: entering it brings the fault about, leaving it is what an operator does about it.
"""

import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Self
from unittest.mock import patch

import sqlalchemy as sa

from bench.prometheus import free_port
from phasesync.core.sync import Trigger
from phasesync.emulator import Answer, AwsEmulator, Operation
from tests.support.daemon import Daemon
from tests.support.installation import Installation
from tests.support.stores import TTL
from tests.support.waiting import wait_until

QUICK: Final = tuple(f"quick-{number}" for number in range(12))
"""Syncs that are edited in turn where traffic is needed: each has 30 versions to write."""
VALUES: Final = {"A": "one", "B": "two", "C": "three", "D": "four"}
CONDITIONS: Final = "held,halted,failing,drift,contested,lease-overdue,recovered"


# --- what receives notifications


class Receiver:
    """A webhook. It keeps what it takes; it can refuse."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.refuses = False
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if not receiver.refuses:
                    receiver.messages.append(json.loads(body)["data"])
                self.send_response(503 if receiver.refuses else 204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def find(self, condition: str, step: str, since: int) -> dict[str, Any] | None:
        """Return the first message of a condition and a step after the first `since` messages."""
        found = (each for each in self.messages[since:] if (each["condition"], each["step"]) == (condition, step))
        return next(found, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


# --- the stage


class Stage:
    """What the causes act on."""

    def __init__(self, installation: Installation, aws: AwsEmulator, receiver: Receiver) -> None:
        self.installation = installation
        self.aws = aws
        self.receiver = receiver
        self.port = free_port()
        self.slow_s = 0.0
        self.throttled = 0.0
        """Share of the requests that AWS throttles."""
        self._turn = 0
        aws.on_request = self._at_request
        installation.in_process = True
        installation.configure(
            http__listen=f"127.0.0.1:{self.port}",
            daemon__coalesce_ms=0,
            daemon__sweep_interval_s=5,
            daemon__claim_ttl_s=6,
            aws__rate_percent=10_000,
        )

    def prepare(self) -> None:
        """Add everything, have it in step, and start a daemon."""
        self.installation.add_syncs("stuck", "held", "halted", "busy", "drifting", *QUICK, values=VALUES)
        self.installation.reconcile("drifting")
        self._age("drifting")
        run = self.installation.done
        policy = self.installation.folder / "policy.json"
        allow = {"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"}
        policy.write_text(json.dumps({"Version": "2012-10-17", "Statement": [allow]}))
        run("envs", "add", "shop/leases")
        lives = ("--default-ttl", "1h", "--max-ttl", "8h", "--inline-policy", str(policy))
        run("dynamic", "add", "ci", "--env", "shop/leases", "--credential", "aws", *lives)

        run("notifications", "add", "team", "--to", self.receiver.url, "--on", CONDITIONS)
        run("notifications", "add", "owners", "--to", self.receiver.url, "--on", "stale,recovered", "--after", "15s")
        self.daemon = self.start()
        self.installation.wait_for("stuck", "held", "halted", "busy", "drifting", *QUICK)

    def start(self) -> Daemon:
        """Start the daemon, where Prometheus looks for it."""
        return self.installation.start_daemon()

    def edit_in_turn(self) -> None:
        """Commit an edit of the next quick sync."""
        self._turn += 1
        self.installation.edit(QUICK[self._turn % len(QUICK)], A=f"edit {self._turn}")

    @contextmanager
    def edits(self, every_s: float) -> Iterator[None]:
        """Edit quick syncs all the time."""
        ended = threading.Event()

        def keep_editing() -> None:
            while not ended.wait(every_s):
                self.edit_in_turn()

        thread = threading.Thread(target=keep_editing)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _at_request(self, when: str, operation: Operation) -> Answer | None:
        if when == "before" and operation.service == "secretsmanager":
            time.sleep(self.slow_s)
            if random.random() < self.throttled:
                return Answer("ThrottlingException")
        return None

    def _age(self, name: str) -> None:
        """Have a sync written an hour ago: what was written just now is not compared with lists."""
        with self.installation.application() as application:
            store = application.store
            sync = store.syncs.get_sync(name)
            claim = store.claims.claim(sync.id, "bench", trigger=Trigger.MANUAL, actor="bench", ttl=TTL)
            for entry in store.sync_states.load(claim).journal:
                if entry.touched_at is not None:
                    aged = replace(entry, touched_at=entry.touched_at - timedelta(hours=1))
                    store.journal.save_entry(claim, aged)
            store.claims.release(claim)


# --- the causes: each is undone at its end


@contextmanager
def slow_aws(stage: Stage) -> Iterator[None]:
    """AWS takes 0.8 s for each answer, while people edit."""
    stage.slow_s = 0.8
    with stage.edits(every_s=0.6):
        yield
        stage.slow_s = 0.0
        time.sleep(5)  # These edits are quick again.


@contextmanager
def stopped(stage: Stage) -> Iterator[None]:
    """The daemon was stopped; then it is started."""
    stage.daemon.stop()
    yield
    stage.daemon = stage.start()


@contextmanager
def locked_database(stage: Stage) -> Iterator[None]:
    """Another process holds a lock that keeps the daemon from writing."""
    engine = sa.create_engine(stage.installation.database_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN EXCLUSIVE")
        else:
            connection.exec_driver_sql("LOCK TABLE daemons, chores, syncs IN ACCESS EXCLUSIVE MODE")
        yield
        connection.rollback()


@contextmanager
def other_schema(stage: Stage) -> Iterator[None]:
    """The database has the schema of another release; then it is migrated."""
    with stage.installation.database() as connection:
        current = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0001'"))
    yield
    with stage.installation.database() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :current"), {"current": current})


@contextmanager
def wrong_clock(stage: Stage) -> Iterator[None]:
    """AWS's clock is an hour ahead of the host's: as far as anybody can see, the host is an hour behind."""

    def an_hour_ahead(_handler: BaseHTTPRequestHandler, timestamp: float | None = None) -> str:
        return formatdate((timestamp or time.time()) + 3600, usegmt=True)

    with patch.object(BaseHTTPRequestHandler, "date_time_string", an_hour_ahead):
        yield


@contextmanager
def full_disk_of_the_log(stage: Stage) -> Iterator[None]:
    """The disk of the log is full: a daemon whose stderr is /dev/full. Then one with a log takes its place."""
    stage.daemon.stop()
    daemon = Daemon(stage.installation.environ, Path("/dev/full"))
    daemon.log = stage.installation.folder / "nothing.log"  # /dev/full has no end when it is read.
    daemon.log.touch()
    stage.installation.daemons.append(daemon)
    with stage.edits(every_s=1.0):
        yield
    daemon.stop()
    stage.daemon = stage.start()


@contextmanager
def denied(stage: Stage) -> Iterator[None]:
    """A policy denies the write of one secret that was edited; then it allows it, and the credential is tested."""
    denial = stage.aws.deny("secretsmanager:PutSecretValue", resource="arn:aws:secretsmanager:*:secret:shop/stuck-*")
    stage.installation.edit("stuck", A="another value")
    yield
    stage.aws.access.allow(denial)
    stage.installation.done("credentials", "test", "aws")


@contextmanager
def most_keys_gone(stage: Stage) -> Iterator[None]:
    """Three of four keys are unset: the guard holds that; then somebody approves it."""
    stage.installation.edit("held", A=None, B=None, C=None)
    yield
    digest = stage.installation.json("syncs", "plan", "held")["digest"]
    stage.installation.done("syncs", "approve", "held", "--plan", digest)


@contextmanager
def reference_without_a_target(stage: Stage) -> Iterator[None]:
    """A value refers to a key that does not exist; then it is another value."""
    stage.installation.edit("halted", A="${MISSING}")
    yield
    stage.installation.edit("halted", A="without a reference")


@contextmanager
def edited_in_a_loop(stage: Stage) -> Iterator[None]:
    """A program edits one secret 27 times; then the sync is given up."""
    for number in range(27):
        stage.installation.edit("busy", A=f"loop {number}")
        stage.installation.wait_for("busy")
    yield
    stage.installation.done("syncs", "remove", "busy", "--remote", "keep", "--yes")


@contextmanager
def lost_tags(stage: Stage) -> Iterator[None]:
    """Somebody removes our tags of a secret, so that no list shows it, and the full sweep is due; they come back."""
    tags = {tag["Key"]: tag["Value"] for tag in stage.aws.outside.describe("shop/drifting")["Tags"]}
    stage.aws.outside.untag("shop/drifting", *tags)
    with stage.installation.database() as connection:
        connection.execute(sa.text("UPDATE sweeps SET full_at = full_at - 7200000000"))
        connection.execute(
            sa.text("UPDATE chores SET claimed_at = claimed_at - 7200000000 WHERE name LIKE 'full-sweep%'")
        )
    yield
    stage.aws.outside.tag("shop/drifting", tags)
    stage.installation.done("syncs", "run", "drifting")


@contextmanager
def throttling(stage: Stage) -> Iterator[None]:
    """AWS throttles a third of the requests, while people edit."""
    stage.throttled = 0.33
    with stage.edits(every_s=0.5):
        yield
        stage.throttled = 0.0


@contextmanager
def denied_revocation(stage: Stage) -> Iterator[None]:
    """A policy denies the removal of the keys of a lease whose time is over; then it allows it."""
    lease = stage.installation.json("leases", "issue", "ci", "--ttl", "10m")["id"]
    denial = stage.aws.deny("iam:DeleteAccessKey")
    stage.installation.ends_in(lease, seconds=-1)
    yield
    stage.aws.access.allow(denial)
    stage.installation.done("leases", "revoke", lease)


@contextmanager
def refusing_channel(stage: Stage) -> Iterator[None]:
    """The receiver of notifications answers 503 while there is something to tell; then it takes it."""
    stage.receiver.refuses = True
    told = len(stage.receiver.messages)
    with reference_without_a_target(stage):
        yield
        stage.receiver.refuses = False
        wait_until(lambda: stage.receiver.find("halted", "first", told), within_s=120, what="the message")
