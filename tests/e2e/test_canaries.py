"""
Canaries go through the main job, with every library of the daemon in its debug mode, and are found nowhere but where
they were meant to be. With a leak planted at each place, the same search finds each of them.
"""

from __future__ import annotations

import pytest

from phasesync.demo.canary import (
    CANARY_ACCESS_KEY_ID,
    CANARY_COMMENT,
    CANARY_KEY,
    CANARY_SECRET_ACCESS_KEY,
    CANARY_VALUE,
    find,
    find_in_tree,
)
from phasesync.emulator import Answer
from tests.e2e.conftest import dump, values_of
from tests.support.aws import Aws
from tests.support.daemon import Daemon
from tests.support.installation import REGION, Done, Installation
from tests.support.leaks import LIBRARIES, TALKATIVE, all_debug, core_of, leaks, lines_of, plain_trace, process_files
from tests.support.metrics import scrape
from tests.support.receivers import HttpReceiver
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NAME = "cnry-remote-n4me-61f0"
PATH_OF_CHANNEL = "cnry-ch4nnel-2b7e90"
VALUES = [CANARY_VALUE, CANARY_SECRET_ACCESS_KEY]
ALL = [*VALUES, CANARY_KEY, CANARY_COMMENT]
"""Nothing of these is in the database or in the log of the daemon."""
UNWATCHED = [*ALL, NAME, PATH_OF_CHANNEL]
"""Nothing of these is in a metric, a span, a notification or a log line."""
KEY = ("--access-key-id", CANARY_ACCESS_KEY_ID, "--region", REGION)

WANTED = {
    "database": ALL,
    "write-ahead log": ALL,
    "backup": ALL,
    "audit export": UNWATCHED,
    "log": UNWATCHED,
    "stdout": UNWATCHED,
    "trace of libpq": ALL,
    "metrics": UNWATCHED,
    "spans": UNWATCHED,
    "notifications": UNWATCHED,
    "commands": VALUES,
    "environ": UNWATCHED,
    "cmdline": UNWATCHED,
    "core": VALUES,
    **{f"debug of {library}": UNWATCHED for library in LIBRARIES},
}
"""Place -> what may not be there."""


class Places:
    """What phasesync left, by place."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}

    def add(self, place: str, content: bytes | str) -> None:
        """Note what was left at a place; there has to be something, or nothing could be found."""
        data = content.encode() if isinstance(content, str) else content
        self.contents[place] = self.contents.get(place, b"") + b"\n" + data

    def where_something_is(self) -> list[str]:
        """Return the places at which something is that may not be there."""
        return sorted(place for place, content in self.contents.items() if find(content, WANTED[place], where=place))


def test_nothing_leaks(installation: Installation, aws: Aws) -> None:
    left = work_and_fail(installation, aws, all_debug(installation.folder, CANARY_VALUE))

    assert left.where_something_is() == []
    assert find_in_tree(installation.folder, ALL) == []
    arrived = b"".join(one.body for one in aws.server.operations)
    assert find(arrived, [CANARY_VALUE]) != [], "the search works"


def test_a_leak_is_found_at_each_place(installation: Installation, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each defence is taken away, or a leak is planted: what finds nothing above finds it."""
    monkeypatch.setattr("phasesync.adapters.aws.sdk._SECRET_ARGUMENTS", frozenset())
    program = all_debug(installation.folder, CANARY_VALUE) + leaks(CANARY_VALUE)
    left = work_and_fail(installation, aws, program, planted=True)

    assert left.where_something_is() == sorted(left.contents)


def work_and_fail(installation: Installation, aws: Aws, program: str, *, planted: bool = False) -> Places:
    """Have a daemon work, fail and report it; return what it and the commands left at each place."""
    on_postgresql = "postgresql" in installation.database_url
    installation.in_process = True
    dispatch = "procrastinate" if on_postgresql else "threads"
    installation.configure(log__level="debug", metrics__per_sync=True, daemon__dispatch=dispatch)
    installation.done("db", "migrate")
    left = Places()
    outputs = set_up(installation)
    with HttpReceiver() as receiver, HttpReceiver() as collector:
        channel = f"http://127.0.0.1:{receiver.port}/{PATH_OF_CHANNEL}"
        added = installation.done("notifications", "add", "ops", "--to", "-", stdin=channel)
        endpoint = f"http://127.0.0.1:{collector.port}"
        daemon = installation.start_daemon(first=program, environ=TALKATIVE, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
        installation.wait_for("web")
        assert values_of(aws, NAME) == {CANARY_KEY: CANARY_VALUE}, "otherwise there is nothing to find"
        outputs += fail(installation, aws, daemon, receiver)
        if planted:
            installation.done("--actor", CANARY_VALUE, "envs", "add", "shop/leak")
        else:
            outputs += get_it_wrong(installation)
        wait_until(lambda: collector.requests, what="the spans")
        metrics = scrape(daemon.address).text
        assert 'sync="web"' in metrics, "otherwise there is nothing to find"
        left.add("metrics", metrics)
        look_at_files(installation, left)
        look_at_processes(installation, daemon, left, planted=planted)
        left.add("notifications", b"".join(one.body for one in receiver.requests))
        left.add("spans", b"".join(one.body for one in collector.requests))
        assert {one.path for one in receiver.requests} == {f"/{PATH_OF_CHANNEL}"}, "otherwise there is nothing to find"
    left.add("commands", "".join(one.stdout + one.stderr for one in outputs))
    log = daemon.log.read_bytes()
    left.add("log", log)
    left.add("stdout", (installation.folder / "stdout").read_bytes())
    for library in LIBRARIES:
        lines = lines_of(log, library)
        assert lines.count(b"parameters: ") >= 2, f"{library} is not in its debug mode"
        left.add(f"debug of {library}", lines)
    if on_postgresql:
        left.add("trace of libpq", plain_trace((installation.folder / "libpq-trace").read_bytes()))
    assert_only_the_signing_secret_was_shown(installation, added, outputs)
    return left


def set_up(installation: Installation) -> list[Done]:
    """Make what the daemon works with."""
    where = ("--env", "shop/production", "--credential", "aws", "--secret-name", NAME)
    secret = ("secrets", "set", "shop/production", CANARY_KEY, "-", "--comment", CANARY_COMMENT)
    credential = ("credentials", "add", "aws", "--type", "access-key", *KEY)
    return [
        installation.done("apps", "add", "shop"),
        installation.done("envs", "add", "shop/production"),
        installation.done(*secret, stdin=CANARY_VALUE),
        installation.done(*credential, stdin=CANARY_SECRET_ACCESS_KEY),
        installation.done("syncs", "add", "web", *where),
    ]


def fail(installation: Installation, aws: Aws, daemon: Daemon, receiver: HttpReceiver) -> list[Done]:
    """A second version, writes that AWS refuses with a text that repeats the value, and drops in the middle."""
    refusal = Answer("InvalidParameterException", message=f"bad value: {CANARY_VALUE}")
    aws.server.fail("PutSecretValue", refusal, times=2)
    installation.done("secrets", "set", "shop/production", CANARY_KEY, "-", stdin=f"{CANARY_VALUE} again")
    daemon.wait_for_line("run finished", outcome="failed")
    wait_until(lambda: receiver.requests, what="the notification of it")
    outputs = [installation.run("syncs", "run", "web")]
    aws.server.fail("PutSecretValue", times=3)
    outputs += [installation.run("syncs", "run", "web"), installation.run("syncs", "run", "web")]
    assert [one.exit_code for one in outputs] == [1, 1, 0]
    assert values_of(aws, NAME) == {CANARY_KEY: f"{CANARY_VALUE} again"}
    outputs.append(installation.done("runs", "list", "-o", "json"))
    outputs.append(installation.done("syncs", "show", "web", "-o", "json"))
    return outputs


def get_it_wrong(installation: Installation) -> list[Done]:
    """What people get wrong; on SQLite in processes of their own, where Python might have the last word."""
    installation.in_process = "postgresql" in installation.database_url
    credential = ("credentials", "add", "aws", "--type", "access-key", *KEY)
    outputs = [
        installation.run("secrets", "set", "shop/production", CANARY_KEY, CANARY_VALUE),
        installation.run("secrets", "set", "shop/production", CANARY_KEY, "-", "--type", "json", stdin=CANARY_VALUE),
        installation.run("secrets", "set", "shop/staging", CANARY_KEY, "-", stdin=CANARY_VALUE),
        installation.run(*credential, stdin=CANARY_SECRET_ACCESS_KEY),
        installation.run("apps", "list", PHASESYNC_ROOT_KEY=CANARY_VALUE, PHASESYNC_ROOT_KEY_FILE=""),
        installation.run("apps", "list", PHASESYNC_DATABASE_URL=f"mysql://root:{CANARY_VALUE}@localhost/db"),
    ]
    assert all(one.exit_code not in (0, 130) for one in outputs), [one.exit_code for one in outputs]
    installation.in_process = True
    return outputs


def look_at_files(installation: Installation, left: Places) -> None:
    """The database while the daemon works, with its WAL, a backup of it, and its audit log."""
    audit = installation.done("audit", "export", "--format", "jsonl").stdout
    assert "secret.set" in audit, "otherwise there is nothing to find"
    left.add("audit export", audit)
    left.add("commands", installation.done("audit", "export", "--details").stdout)
    backup = installation.folder / "backup.db"
    installation.done("db", "backup", str(backup))
    left.add("backup", backup.read_bytes())
    if "postgresql" in installation.database_url:
        for _, content in dump(installation.database_url):
            left.add("database", content)
        return
    left.add("write-ahead log", (installation.folder / "phasesync.db-wal").read_bytes())


def look_at_processes(installation: Installation, daemon: Daemon, left: Places, *, planted: bool) -> None:
    """What /proc shows of the daemon, and of one that was started as users start it; then its end, by a core dump."""
    started = [daemon]
    if not planted and "postgresql" in installation.database_url:
        started.append(installation.start_daemon(installed=True))
    for one in started:
        left.add("environ", process_files(one, "environ"))
        left.add("cmdline", process_files(one, "cmdline"))
    for one in started[1:]:
        assert b"PHASESYNC_ROOT_KEY_FILE" in process_files(one, "environ"), "otherwise there is nothing to find"
        assert one.stop() == 0
    if "postgresql" in installation.database_url:
        assert daemon.stop() == 0
    else:
        core = core_of(daemon, installation.folder)
        if core is not None:
            left.add("core", core)
        installation.done("db", "status")  # It closes the database as the last one: all of it is in one file now.
        left.add("database", (installation.folder / "phasesync.db").read_bytes())


def assert_only_the_signing_secret_was_shown(installation: Installation, added: Done, outputs: list[Done]) -> None:
    """The secret of the notification was printed once, and is in no file."""
    secret = added.stdout.rpartition("whsec_")[2].strip()
    assert len(secret) > 20
    assert find_in_tree(installation.folder, [secret]) == []
    for one in outputs:
        assert secret not in one.stdout + one.stderr
