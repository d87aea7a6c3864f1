"""
Each alert made to fire and to end: a real daemon, a real Prometheus with our rules, a receiver of notifications.

    python -m bench.alerting [--databases sqlite] [--factor 60] [--only PhasesyncSyncHeld ...]

The times of the rules are shortened by a factor: `for`, the ranges of rates, and the thresholds that are times. 15
minutes become 15 seconds. How far two clocks may differ and shares stay. What the daemon does is not shortened. Each
cause is what operators meet: a policy that denies, an edit that the guard holds, a lock on the database. Two clocks are
moved: that of AWS's answers, and, so that nobody has to wait for an hour, the time of the last full sweep.

For each alert it prints the metric before the cause, when the alert fires and after its end; how long both took; what
Prometheus says; and the notifications that came. The exit code is 1 where an alert did not fire, did not end, or the
notification that belongs to it did not come.
"""

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench import alert_causes as causes
from bench.alert_causes import Receiver, Stage
from bench.ground import installed
from bench.prometheus import EVALUATED_EVERY_S, Prometheus, shortened
from phasesync.emulator import AwsEmulator
from tests.support.waiting import wait_until

RULES: Final = Path(__file__).parents[1] / "deploy" / "prometheus" / "phasesync.rules.yaml"
PATIENCE_S: Final = 90.0
"""How long to wait for an alert to fire or to end."""


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
        cause=causes.slow_aws,
        alerts={"PhasesyncLagHigh": "job:phasesync_sync_lag_seconds:p95_10m"},
    ),
    Scene(cause=causes.stopped, alerts={"PhasesyncDaemonAbsent": "sum(up)"}),
    Scene(
        cause=causes.locked_database,
        alerts={
            "PhasesyncDatabaseUnavailable": "min(phasesync_database_up * phasesync_database_writable)",
            "PhasesyncDaemonNotReady": "min(phasesync_ready)",
        },
    ),
    Scene(cause=causes.other_schema, alerts={"PhasesyncSchemaWaiting": "phasesync_schema_current"}),
    Scene(cause=causes.wrong_clock, alerts={"PhasesyncClockSkew": 'phasesync_clock_skew_seconds{against="aws"}'}),
    Scene(
        cause=causes.full_disk_of_the_log, alerts={"PhasesyncLogLinesDropped": "sum(phasesync_log_lines_dropped_total)"}
    ),
    Scene(
        cause=causes.denied,
        alerts={
            "PhasesyncSyncStale": "max(phasesync_syncs_behind_longest_seconds)",
            "PhasesyncSyncFailing": 'max(phasesync_syncs_longest_in_status_seconds{status="failing"})',
        },
        notifications=("failing", "stale"),
    ),
    Scene(
        cause=causes.most_keys_gone,
        alerts={"PhasesyncSyncHeld": 'max(phasesync_syncs_longest_in_status_seconds{status="held"})'},
        notifications=("held",),
    ),
    Scene(
        cause=causes.reference_without_a_target,
        alerts={"PhasesyncSyncHalted": 'max(phasesync_syncs_longest_in_status_seconds{status="halted"})'},
        notifications=("halted",),
    ),
    Scene(cause=causes.edited_in_a_loop, alerts={"PhasesyncVersionBudgetLow": "min(phasesync_version_budget_left)"}),
    Scene(
        cause=causes.lost_tags,
        alerts={"PhasesyncDriftMissed": "sum(phasesync_drift_missed_total)"},
        notifications=("halted",),
    ),
    Scene(
        cause=causes.throttling,
        alerts={
            "PhasesyncThrottled": "sum(rate(phasesync_aws_throttles_total[10s]))"
            " / sum(rate(phasesync_aws_calls_total[10s]))"
        },
    ),
    Scene(
        cause=causes.denied_revocation,
        alerts={"PhasesyncRevocationOverdue": "max(phasesync_lease_overdue_longest_seconds)"},
        notifications=("lease-overdue",),
    ),
    Scene(
        cause=causes.refusing_channel,
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
        _await(
            lambda: (
                stage.receiver.refuses or all(stage.receiver.find(word, "first", told) for word in scene.notifications)
            )
        )
        undone = time.monotonic()
    _await(lambda: not set(prometheus.firing()) & set(scene.alerts), lambda: _note_ends(seen, prometheus, undone))
    _note_ends(seen, prometheus, undone)
    for alert, metric in scene.alerts.items():
        seen[alert].after = prometheus.value(metric)
    _await(lambda: all(stage.receiver.find(word, "recovered", told) for word in scene.notifications))
    return _print(scene, seen, stage.receiver.messages[told:], caused_s)


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


def _print(scene: Scene, seen: dict[str, Seen], messages: list[dict[str, Any]], caused_s: float) -> bool:
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
        for step in ("first", "recovered"):
            titles = [each["title"] for each in messages if (each["condition"], each["step"]) == (word, step)]
            print(f"  notification {word}, {step}: {titles[0] if titles else 'did NOT come'}")
            came = came and bool(titles)
    sys.stdout.flush()
    return came and all(each.fired_s is not None and each.ended_s is not None for each in seen.values())


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def main(args: list[str]) -> int:
    """Play the scenes on each database; exit code 1 where an alert or a notification did not come or did not end."""
    parser = argparse.ArgumentParser(prog="python -m bench.alerting")
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
