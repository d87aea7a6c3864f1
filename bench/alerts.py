"""
Each alert made to fire and to end: a real daemon, a real Prometheus with our rules, a receiver of notifications.

    python -m bench.alerts [--databases sqlite] [--factor 60] [--only PhasesyncSyncHeld ...]

The times of the rules are shortened by a factor: `for`, the ranges of rates, and the thresholds that are times. 15
minutes become 15 seconds. How far two clocks may differ and shares stay. What the daemon does is not shortened. Each
cause is what operators meet: a policy that denies, an edit that the guard holds, a lock on the database. Two clocks are
moved: that of AWS's answers, and, so that nobody has to wait for an hour, the time of the last full sweep.

For each alert it prints the metric before the cause, when the alert fires and after its end; how long both took; what
Prometheus says; and the notifications that came. The exit code is 1 where an alert did not fire, did not end, or the
notification that belongs to it did not come.
"""

import argparse
import json
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Self
from unittest.mock import patch

import sqlalchemy as sa

from bench.ground import installed
from bench.prometheus import EVALUATED_EVERY_S, Prometheus, free_port, shortened
from phasesync.core.sync import Trigger
from phasesync.emulator import Answer, AwsEmulator, Operation
from tests.support.daemon import Daemon
from tests.support.installation import Installation
from tests.support.stores import TTL
from tests.support.waiting import wait_until

RULES: Final = Path(__file__).parents[1] / "deploy" / "prometheus" / "phasesync.rules.yaml"
PATIENCE_S: Final = 90.0
"""How long to wait for an alert to fire or to end."""
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
    """A value refers to a key that does not exist; then it does."""
    stage.installation.edit("halted", A="${MISSING}")
    yield
    stage.installation.edit("halted", MISSING="found")


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
    """Somebody removes our tags of a secret, so that no list shows it; the full sweep is due an hour later, at once."""
    tags = [tag["Key"] for tag in stage.aws.outside.describe("shop/drifting")["Tags"]]
    stage.aws.outside.untag("shop/drifting", *tags)
    with stage.installation.database() as connection:
        connection.execute(sa.text("UPDATE sweeps SET full_at = full_at - 7200000000"))
    yield


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
    with reference_without_a_target(stage):
        yield
        stage.receiver.refuses = False


@dataclass(frozen=True, kw_only=True)
class Scene:
    """
    A cause, the alerts that follow from it, and what is to be seen.

    Attributes:
        alerts: name -> an expression that shows what it is about.
        notifications: the conditions that notifications report, and report to be over.
    """

    cause: Callable[[Stage], Any]
    alerts: dict[str, str]
    notifications: tuple[str, ...] = ()


SCENES: Final = (
    Scene(
        cause=slow_aws,
        alerts={"PhasesyncLagHigh": "job:phasesync_sync_lag_seconds:p95_10m"},
    ),
    Scene(cause=stopped, alerts={"PhasesyncDaemonAbsent": "sum(up)"}),
    Scene(
        cause=locked_database,
        alerts={"PhasesyncDatabaseUnavailable": "min(phasesync_database_up * phasesync_database_writable)"},
    ),
    Scene(cause=other_schema, alerts={"PhasesyncSchemaWaiting": "phasesync_schema_current"}),
    Scene(cause=wrong_clock, alerts={"PhasesyncClockSkew": 'phasesync_clock_skew_seconds{against="aws"}'}),
    Scene(cause=full_disk_of_the_log, alerts={"PhasesyncLogLinesDropped": "sum(phasesync_log_lines_dropped_total)"}),
    Scene(
        cause=denied,
        alerts={
            "PhasesyncSyncStale": "max(phasesync_syncs_behind_longest_seconds)",
            "PhasesyncSyncFailing": 'max(phasesync_syncs_longest_in_status_seconds{status="failing"})',
        },
        notifications=("failing", "stale"),
    ),
    Scene(
        cause=most_keys_gone,
        alerts={"PhasesyncSyncHeld": 'max(phasesync_syncs_longest_in_status_seconds{status="held"})'},
        notifications=("held",),
    ),
    Scene(
        cause=reference_without_a_target,
        alerts={"PhasesyncSyncHalted": 'max(phasesync_syncs_longest_in_status_seconds{status="halted"})'},
        notifications=("halted",),
    ),
    Scene(cause=edited_in_a_loop, alerts={"PhasesyncVersionBudgetLow": "min(phasesync_version_budget_left)"}),
    Scene(
        cause=lost_tags,
        alerts={"PhasesyncDriftMissed": "sum(phasesync_drift_missed_total)"},
        notifications=("drift",),
    ),
    Scene(
        cause=throttling,
        alerts={
            "PhasesyncThrottled": "sum(rate(phasesync_aws_throttles_total[10s])) / sum(rate(phasesync_aws_calls_total[10s]))"
        },
    ),
    Scene(
        cause=denied_revocation,
        alerts={"PhasesyncRevocationOverdue": "max(phasesync_lease_overdue_longest_seconds)"},
        notifications=("lease-overdue",),
    ),
    Scene(
        cause=refusing_channel,
        alerts={"PhasesyncMessagesPending": "max(phasesync_messages_oldest_pending_seconds)"},
        notifications=("halted",),
    ),
)


# --- what happens


@dataclass(kw_only=True)
class Seen:
    """What was seen of one alert. Times in seconds: from the cause, and from its end."""

    before: float | None
    at: float | None = None
    after: float | None = None
    fired_s: float | None = None
    ended_s: float | None = None
    said: str = ""


def play(scene: Scene, stage: Stage, prometheus: Prometheus) -> bool:
    """Have the alerts of a scene fire and end; print what was seen; return whether all did, and notifications came."""
    told = len(stage.receiver.messages)
    seen = {alert: Seen(before=prometheus.value(metric)) for alert, metric in scene.alerts.items()}
    began = time.monotonic()
    with scene.cause(stage):
        caused_s = time.monotonic() - began
        _watch(seen, prometheus, lambda: all(each.fired_s is not None for each in seen.values()), scene, began)
        _await(lambda: all(stage.receiver.find(word, "first", told) for word in scene.notifications))
        undone = time.monotonic()
    _await(lambda: not set(prometheus.firing()) & set(scene.alerts), lambda: _note_ends(seen, prometheus, undone))
    _note_ends(seen, prometheus, undone)
    for alert, metric in scene.alerts.items():
        seen[alert].after = prometheus.value(metric)
    ends = [word for word in scene.notifications if word != "drift"]  # Drift is over when it is found.
    _await(lambda: all(stage.receiver.find(word, "recovered", told) for word in ends))
    return _print(scene, seen, stage.receiver.messages[told:], ends, caused_s)


def _watch(seen: dict[str, Seen], prometheus: Prometheus, done: Callable[[], bool], scene: Scene, began: float) -> None:
    def note() -> None:
        for name, alert in prometheus.firing().items():
            if name in seen and seen[name].fired_s is None:
                seen[name].fired_s = time.monotonic() - began
                seen[name].at = prometheus.value(scene.alerts[name])
                seen[name].said = alert.description

    _await(done, note)


def _note_ends(seen: dict[str, Seen], prometheus: Prometheus, undone: float) -> None:
    firing = prometheus.firing()
    for name, each in seen.items():
        if each.fired_s is not None and each.ended_s is None and name not in firing:
            each.ended_s = time.monotonic() - undone


def _await(done: Callable[[], object], meanwhile: Callable[[], None] = lambda: None) -> None:
    """Return when something holds, or when it has taken too long: that is printed, and the others go on."""
    until = time.monotonic() + PATIENCE_S
    while not done() and time.monotonic() < until:
        meanwhile()
        time.sleep(EVALUATED_EVERY_S / 2)
    meanwhile()


def _print(
    scene: Scene, seen: dict[str, Seen], messages: list[dict[str, Any]], ends: list[str], caused_s: float
) -> bool:
    print(f"\n{scene.cause.__doc__}")
    for alert, each in seen.items():
        print(f"  {alert}")
        print(f"    {scene.alerts[alert]}")
        print(f"    before {_number(each.before)}, when it fired {_number(each.at)}, afterwards {_number(each.after)}")
        fired = "did NOT fire" if each.fired_s is None else f"fired {each.fired_s:.1f} s after the cause began"
        print(f"    {fired}" + (f" ({caused_s:.1f} s to cause it)" if caused_s > 1 else ""))
        print(
            "    did NOT end" if each.ended_s is None else f"    ended {each.ended_s:.1f} s after the cause was undone"
        )
        print(f"    said: {each.said}")
    came = True
    for word in scene.notifications:
        for step in ("first", *(["recovered"] if word in ends else [])):
            titles = [each["title"] for each in messages if (each["condition"], each["step"]) == (word, step)]
            print(f"  notification {word}, {step}: {titles[0] if titles else 'did NOT come'}")
            came = came and bool(titles)
    sys.stdout.flush()
    return came and all(each.fired_s is not None and each.ended_s is not None for each in seen.values())


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def main(args: list[str]) -> int:
    """Play the scenes on each database; exit code 1 where an alert or a notification did not come or did not end."""
    parser = argparse.ArgumentParser(prog="python -m bench.alerts")
    parser.add_argument("--databases", nargs="+", default=["sqlite"], choices=("sqlite", "postgresql"))
    parser.add_argument("--factor", type=int, default=60, help="how many times as fast the times of the rules pass")
    parser.add_argument("--only", nargs="+", metavar="ALERT", help="only scenes with one of these alerts")
    options = parser.parse_args(args)
    rules = shortened(RULES.read_text(), options.factor)
    scenes = [scene for scene in SCENES if not options.only or set(scene.alerts) & set(options.only)]
    worst = 0
    for database in options.databases:
        print(f"\n== {database}; times of the rules divided by {options.factor}")
        with ExitStack() as stack:
            aws = stack.enter_context(AwsEmulator(throttling=False))
            receiver = stack.enter_context(Receiver())
            installation = stack.enter_context(installed(database, aws.url))
            stage = Stage(installation, aws, receiver)
            stage.prepare()
            target = f"127.0.0.1:{stage.port}"
            folder = installation.folder / "prometheus"
            prometheus = stack.enter_context(Prometheus(folder, target=target, rules=rules))
            wait_until(lambda: prometheus.value("up") == 1, what="the first scrape")  # noqa: B023
            failed = [scene for scene in scenes if not play(scene, stage, prometheus)]
            print(f"\nexemplars of run ids in Prometheus: {prometheus.exemplars('phasesync_sync_lag_seconds_bucket')}")
            fired = sum(len(scene.alerts) for scene in scenes if scene not in failed)
            print(f"alerts that fired and ended: {fired} of {sum(len(scene.alerts) for scene in scenes)}")
            worst = max(worst, int(bool(failed)))
            stage.daemon.stop()
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
