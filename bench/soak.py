"""
Do daemons stay right, and as large as they are, while everything around them goes wrong?

    python -m bench.soak [--minutes 30] [--database sqlite] [--seed N] [--output soak-sqlite.json]

Real daemons: one and a standby on SQLite, three replicas on PostgreSQL. Some hundred syncs are edited all the time, by
the store and by commands; others change objects at AWS; leases are issued and expire. Meanwhile requests fail, AWS
throttles, refuses a key, hangs up or is silent, the database is stopped or locked, and daemons are killed, stopped and
frozen. One seed decides all of it. Then the faults end, and everything has to settle: AWS is the store, nothing was
written twice, every alert has ended and was reported once, and no process has grown. Exit code 1 where it is not so.

    python -m bench.table --from soak-sqlite.json soak-postgresql.json     puts what was written into docs/
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench.alerts import add_notifications, alerts_of
from bench.convergence import differing, journal_differences, leaked_users, lost_edits, wrong_versions
from bench.endpoint import Endpoint, Written
from bench.faults import Fault, Faults, Operator, Scene, approve_held, make_plan, test_credentials
from bench.figures import Figure, Section, document
from bench.ground import DATABASES, installed, print_figures
from bench.machine import Load, machine, watched
from bench.replicas import Replicas
from bench.samples import EVERY_S, Growth, Sampler, growths
from bench.webhook import Arrived, Receiver
from bench.workload import Workload, in_threads
from phasesync.bootstrap import Application
from phasesync.core.sync import Sync, SyncFilter, SyncStatus
from tests.support.installation import Installation
from tests.support.postgres import start_server

CHAOS: Final = 0.75
"""Share of the time in which something goes wrong; the rest is for settling."""
SHORT_S: Final = 600.0
"""A shorter soak ends before the checks that skip our own writes of the last six minutes: every sync is triggered."""
GROWTH_PERCENT: Final = 5.0
OTHERS: Final = 0.75
"""Share of the faulty time in which others change objects, and leases are issued. What a killed command may have left
at AWS is looked for over ten minutes, and what others changed beside our own writes is looked at after six."""
MORE_DESCRIPTORS: Final = 8.0
"""Each of the SDK's clients keeps up to ten connections: they come with the work, and stay."""
MORE_CONNECTIONS: Final = 1.0
REPLICAS: Final = {"sqlite": ("daemon-1", "daemon-2"), "postgresql": ("replica-1", "replica-2", "replica-3")}
_TICK_S: Final = 0.1
_FIRST_RUNS_S: Final = 300.0
_SETTLES_WITHIN_S: Final = 180.0
_LOOKED_AT_WITHIN_S: Final = 600.0
"""Checks of what others changed skip our own writes of the last six minutes."""


def main(args: list[str]) -> int:
    """Soak, print and write; exit code 1 where a property does not hold."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    parser.add_argument("--syncs", type=int, default=240)
    parser.add_argument("--edits", type=float, default=1.2, help="edits a second, on average")
    parser.add_argument(
        "--leases", action=argparse.BooleanOptionalAction, default=True, help="whether leases are issued"
    )
    parser.add_argument("--preloaded", action="store_true", help="daemons that begin after their imports: for tests")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--output", type=Path, help="file for what was found, as JSON")
    options = parser.parse_args(args)
    print(f"seed {options.seed}: --minutes {options.minutes:g} --database {options.database}", flush=True)
    about, began = machine(), time.monotonic()
    with watched() as load:
        soaked = Soak(options).run()
    section = _section(soaked, options, load, time.monotonic() - began)
    if options.output is not None:
        options.output.write_text(json.dumps(_document(soaked, options, about, section), ensure_ascii=False) + "\n")
    code = print_figures(section.figures)
    for line in soaked.wrong:
        print(f"wrong: {line}")
    return int(bool(code or soaked.wrong))


@dataclass(kw_only=True)
class Soaked:
    """What a soak found; `wrong`: what does not hold, as lines."""

    figures: list[Figure]
    wrong: list[str]
    plan: Sequence[Fault]
    sampler: Sampler
    arrived: Sequence[Arrived]


class Soak:
    """One soak on one database."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._database: str = options.database
        self._seconds: float = options.minutes * 60
        self._began = time.monotonic()

    def run(self) -> Soaked:
        """Carry it out."""
        seed = self._options.seed
        names = REPLICAS[self._database]
        plan = make_plan(seed, seconds=self._seconds * CHAOS, replicas=names)
        server = start_server() if self._database == "postgresql" else None
        try:
            with (
                Endpoint(seed=seed) as endpoint,
                Receiver() as receiver,
                installed(self._database, endpoint.url, server=server) as installation,
            ):
                installation.configure(daemon__sweep_interval_s=10, daemon__full_sweep_interval_s=300)
                workload = Workload(installation, endpoint, seed)
                workload.furnish(self._options.syncs, leases=self._options.leases)
                add_notifications(installation, receiver.url)
                replicas = Replicas(installation, names, preloaded=self._options.preloaded)
                for name in names:
                    replicas.start(name, ready=True)
                with installation.application() as application:
                    scene = Scene(
                        replicas=replicas,
                        endpoint=endpoint,
                        workload=workload,
                        receiver=receiver,
                        application=application,
                        server=server,
                    )
                    return self._soak(installation, scene, plan)
        finally:
            if server is not None:
                server.stop()

    def _soak(self, installation: Installation, scene: Scene, plan: Sequence[Fault]) -> Soaked:
        workload = scene.workload
        self._wait_for_first_runs(scene)
        self._began = time.monotonic()
        every_s = min(EVERY_S, self._seconds / 10)
        with Sampler(scene.replicas, installation.database_url, self._began, every_s=every_s) as sampler:
            operator = Operator(scene, every_s=min(45.0, self._seconds / 10))
            seconds = self._seconds * CHAOS
            until = self._began + seconds * OTHERS
            works = [
                lambda ended: workload.edit_steadily(ended, self._options.edits),
                lambda ended: workload.change_outside(ended, min(8.0, self._seconds / 10), until=until),
                operator.work,
            ]
            if self._options.leases:
                works.append(lambda ended: workload.issue_leases(ended, 10.0, until=until))
            with in_threads(*works) as work:
                faults = Faults(plan, scene, self._tell)
                while not work.failed and (passed := time.monotonic() - self._began) < seconds:
                    due = faults.carry_out(passed)
                    time.sleep(min(_TICK_S, max(0.0, (due if due is not None else seconds) - passed)))
                faults.carry_out(seconds)
                self._tell("the faults end")
                work.end()
            settled_after = self._settle(installation, scene)
            while time.monotonic() - self._began < self._seconds:
                time.sleep(1)
        return self._judge(installation, scene, operator, plan, sampler, settled_after)

    def _wait_for_first_runs(self, scene: Scene) -> None:
        deadline = time.monotonic() + _FIRST_RUNS_S
        while in_sync(scene.application) < len(scene.workload.syncs):
            if time.monotonic() > deadline:
                raise AssertionError(f"the first runs did not end: {scene.application.store.syncs.count_by_status()}")
            time.sleep(0.5)

    def _settle(self, installation: Installation, scene: Scene) -> float | None:
        """Return how many seconds after the faults everything was settled; None if it was not in time."""
        began = time.monotonic()
        short = self._seconds < SHORT_S
        deadline = began + (_SETTLES_WITHIN_S if short else _LOOKED_AT_WITHIN_S)
        test_credentials(scene)
        if short:
            for name in scene.workload.syncs:
                scene.application.operations.trigger(name, actor="bench")
        while time.monotonic() < deadline:
            scene.replicas.look()
            approve_held(scene)
            if _is_settled(installation, scene):
                return time.monotonic() - began
            time.sleep(min(5.0, self._seconds / 100))
        return None

    def _tell(self, line: str) -> None:
        print(f"{time.monotonic() - self._began:6.0f} s  {line}", flush=True)

    # --- what came of it

    def _judge(
        self,
        installation: Installation,
        scene: Scene,
        operator: Operator,
        plan: Sequence[Fault],
        sampler: Sampler,
        settled_after: float | None,
    ) -> Soaked:
        workload, written = scene.workload, scene.endpoint.written()
        seen, account = scene.endpoint.seen(), scene.receiver.account()
        alerts = alerts_of(installation, account)
        grown = list(growths(sampler.samples))
        wrong: list[str] = []

        def none_of(key: str, what: str, found: Sequence[str]) -> Figure:
            wrong.extend(f"{what}: {line}" for line in found[:10])
            return self._figure(key, what, len(found), goal=0)

        figures = [
            self._figure("edits", "edits committed", workload.edits),
            self._figure("edits_by_command", "of them by commands", workload.by_command),
            self._figure("outside", "changes at AWS by others", sum(workload.outside.values())),
            self._figure("faults", "faults", len(plan)),
            self._figure("processes", "processes of daemons", len(scene.replicas.lives)),
            self._figure("leases", "leases issued by commands", workload.leases["issued"]),
            self._figure("calls", "requests that arrived at AWS", len(seen.arrivals)),
            self._figure("failed", "of them failed on purpose, by dice", seen.failed),
            self._figure("versions", "versions written by phasesync", _ours(written)),
            self._figure("approvals", "approvals by the operator", operator.approved),
        ]
        if settled_after is None:
            counts = scene.application.store.syncs.count_by_status()
            wrong.append(f"it did not settle: { ({str(status): count for status, count in counts.items()}) }")
            wrong += [line for sync in _unsettled(scene) for line in (f"{sync.name}: {sync.status_reason}",)][:10]
        else:
            figures.append(self._figure("settled_s", "settled after the last fault", settled_after, unit="s"))
        figures += [
            none_of("differing", "objects that differ from the store", differing(workload)),
            none_of("lost", "edits that are lost", lost_edits(scene.application, workload)),
            none_of("doubled", "versions that are wrong or written twice", wrong_versions(workload, written)),
            none_of("journal", "objects that the journal miscounts", journal_differences(installation, written)),
            none_of("users", "users left at AWS", leaked_users()),
            none_of("problems", "ends of daemons that were not as they must be", scene.replicas.problems),
            none_of("unanswered", "looks at /metrics that nothing answered", ["no answer"] * sampler.unanswered),
            *(
                self._figure(f"fired_{condition}", f"alerts that fired: {condition}", count)
                for condition, count in alerts.fired.items()
            ),
            none_of("alerts_open", "alerts that have not ended", alerts.open),
            self._figure("messages", "messages that arrived", len(account.ids)),
            self._figure("again", "messages that arrived again after they were taken", account.again),
            self._figure("messages_unsent", "messages that were not sent", alerts.unsent, goal=0),
            none_of("messages_lost", "messages or alerts that only one side knows", alerts.wrong),
            none_of("messages_wrong", "reports that are not once first, once recovered", account.wrong),
            none_of("reports_open", "reports without their recovery", account.open),
            *(figure for growth in grown for figure in self._growth_figures(growth, wrong)),
        ]
        return Soaked(figures=figures, wrong=wrong, plan=plan, sampler=sampler, arrived=scene.receiver.arrived)

    def _growth_figures(self, growth: Growth, wrong: list[str]) -> Iterator[Figure]:
        """Yield the figures of one process. Those of a short life have no goal, and are left out of a long soak."""
        if not growth.judged and self._seconds >= SHORT_S:
            return
        minutes = growth.seconds / 60
        who = f"{growth.replica}, {minutes:.0f} min after its warm-up" if growth.judged else f"{growth.replica}, short"
        key = f"{growth.replica}_{growth.pid}"

        def figure(name: str, what: str, value: float, unit: str = "", goal: float | None = None) -> Figure:
            if goal is not None and growth.judged and value > goal:
                wrong.append(f"{who}: {what} {value:+.1f} {unit}, the goal is {goal:g}")
            return self._figure(f"{key}_{name}", f"{who}: {what}", value, unit, goal if growth.judged else None)

        yield figure("rss", "memory", growth.last["rss_mb"], "MB")
        yield figure("rss_grown", "memory grown by", growth.percent("rss_mb"), "%", GROWTH_PERCENT)
        yield figure("pss_grown", "its own part grown by", growth.percent("pss_mb"), "%")
        yield figure("descriptors", "more descriptors", growth.more("descriptors"), goal=MORE_DESCRIPTORS)
        yield figure("threads", "more threads", growth.more("threads"))
        yield figure("connections", "more database connections", growth.more("connections"), goal=MORE_CONNECTIONS)
        yield figure("series", "more series of metrics", growth.more("series"))

    def _figure(self, key: str, what: str, value: float, unit: str = "", goal: float | None = None) -> Figure:
        return Figure(key=key, what=what, database=self._database, value=value, unit=unit, goal=goal)


def in_sync(application: Application) -> int:
    """Return how many syncs are in step."""
    return application.store.syncs.count_by_status().get(SyncStatus.IN_SYNC, 0)


def _is_settled(installation: Installation, scene: Scene) -> bool:
    if in_sync(scene.application) < len(scene.workload.syncs) or differing(scene.workload) or leaked_users():
        return False
    account = scene.receiver.account()
    alerts = alerts_of(installation, account)
    return not (alerts.open or alerts.unsent or alerts.to_come or account.open)


def _unsettled(scene: Scene) -> list[Sync]:
    others = frozenset(SyncStatus) - {SyncStatus.IN_SYNC}
    return scene.application.store.syncs.list_syncs(SyncFilter(statuses=others))


def _ours(written: Mapping[str, list[Written]]) -> int:
    return sum(not version.by_others for versions in written.values() for version in versions)


def _section(soaked: Soaked, options: argparse.Namespace, load: Load, seconds: float) -> Section:
    return Section(
        name="soak",
        title="A soak with faults",
        command=f"python -m bench.soak --minutes {options.minutes:g} --database {options.database}",
        figures=soaked.figures,
        load_before=load.before,
        load_during=load.during,
        seconds=seconds,
        measured_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )


def _document(
    soaked: Soaked, options: argparse.Namespace, about: dict[str, object], section: Section
) -> dict[str, object]:
    """Return what `bench.table --from` reads: a document of figures, and what the chart is drawn from."""
    written: dict[str, object] = json.loads(document(about, [section]))
    return written | {
        "database": options.database,
        "seed": options.seed,
        "minutes": options.minutes,
        "chaos_minutes": options.minutes * CHAOS,
        "wrong": soaked.wrong,
        "faults": [asdict(fault) for fault in soaked.plan],
        "messages": [asdict(each) for each in soaked.arrived],
        "samples": [asdict(sample) for sample in soaked.sampler.samples],
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
