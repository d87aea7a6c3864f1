"""
Programs that a daemon of a test runs before it becomes phasesync: its libraries at their most talkative, and leaks.

    installation.start_daemon(first=all_debug(folder, value))                  what has to leave nothing
    installation.start_daemon(first=all_debug(folder, value) + leaks(value))   a leak at each place that is searched

Both repeat a value in the source of the program, which is in no file, argument or variable.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

from tests.support.daemon import Daemon

LIBRARIES = (
    "alembic",
    "apscheduler",
    "asyncio",
    "boto3",
    "botocore",
    "opentelemetry",
    "procrastinate",
    "psycopg",
    "s3transfer",
    "sqlalchemy",
    "urllib3",
)
"""Loggers of what a daemon is made of. pyrage, cryptography and pydantic have none."""
TALKATIVE = {"OTEL_LOG_LEVEL": "debug", "PYTHONASYNCIODEBUG": "1", "RUST_BACKTRACE": "full", "RUST_LOG": "trace"}
"""Variables by which libraries are asked for more."""

_ALL_DEBUG = """
import http.client, logging, os, resource, sys
import boto3
from sqlalchemy import event
from sqlalchemy.pool import Pool
import phasesync.adapters.aws.sdk as sdk
import phasesync.adapters.telemetry.logging as ours

os.chdir(FOLDER)
os.dup2(os.open("stdout", os.O_CREAT | os.O_WRONLY), 1)
sys.stdout = open(1, "w", 1, closefd=False)

# `ulimit -c unlimited`; without the pages of files (core(5)), which are programs.
resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
with open("/proc/self/coredump_filter", "w") as coredump_filter:
    coredump_filter.write("1")

# As people do who look for a fault: before phasesync sets its logging up, and where http.client prints.
logging.basicConfig(level=logging.DEBUG)
boto3.set_stream_logger("")
http.client.HTTPConnection.debuglevel = 1

def let_them_talk():
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in LIBRARIES]
    for name in (*LIBRARIES, *names):
        logging.getLogger(name).setLevel(logging.DEBUG)
    for name in LIBRARIES:
        logging.getLogger(name).debug("parameters: %s", VALUE)
        logging.getLogger(name).debug("parameters: %(one)s", {"one": VALUE})

ours._limit_foreign_loggers = let_them_talk
sdk.quiet_sdk_loggers = lambda: None

@event.listens_for(Pool, "connect")
def trace_the_protocol(connection, _):
    if hasattr(connection, "pgconn"):
        connection.pgconn.trace(os.open("libpq-trace", os.O_CREAT | os.O_APPEND | os.O_WRONLY))
"""

_LEAKS = """
import subprocess
from prometheus_client import Gauge
import phasesync.adapters.aws.bounded_http as bounded_http
import phasesync.adapters.telemetry.log_events as log_events
import phasesync.adapters.telemetry.metrics as metrics
import phasesync.adapters.telemetry.tracing as tracing
import phasesync.core.notification_text as notification_text
import phasesync.daemon.service as service
import phasesync.store.daemons as daemons

def after(owner, name, act):
    original = getattr(owner, name)
    def both(self, *args, **kwargs):
        answer = original(self, *args, **kwargs)
        act(self)
        return answer
    setattr(owner, name, both)

# Defences that are taken away.
ours._mask_foreign = lambda line: True
bounded_http.NO_DEBUG = 1
service.harden = lambda: ()

# Leaks of our own.
def store(registry):
    with registry._database.write() as connection:
        connection.exec_driver_sql(f"UPDATE apps SET description = '{VALUE}'")

after(log_events.LogEvents, "__init__", lambda self: self._log.info("opened", value=VALUE))
after(metrics.Metrics, "__init__", lambda self: Gauge("leak", "-", ["of"], registry=self.registry).labels(VALUE).set(1))
after(tracing._Span, "note", lambda self: self._span.set_attribute("value", VALUE))
after(daemons.DaemonRegistry, "beat", store)
title = notification_text._title
notification_text._title = lambda *args: title(*args) + VALUE
subprocess.Popen(["sh", "-c", "read _", "sh", VALUE], stdin=subprocess.PIPE, env={"VALUE": VALUE})
"""


def all_debug(folder: Path, value: str) -> str:
    """
    Return a program with each library in its debug mode: what it prints and traces goes to files in the folder.

    It takes the levels away that phasesync sets, and has each library's logger write a line with the value as argument.
    """
    return f"FOLDER, VALUE, LIBRARIES = {str(folder)!r}, {value!r}, {LIBRARIES!r}\n{_ALL_DEBUG}"


def leaks(value: str) -> str:
    """Return a program that goes on after `all_debug` and leaks the value wherever something is searched for."""
    return f"VALUE = {value!r}\n{_LEAKS}"


def lines_of(log: bytes, library: str) -> bytes:
    """Return the lines of a library in a log of JSON lines."""
    written = re.compile(rb'"logger": "' + library.encode() + rb'[".]')
    return b"\n".join(line for line in log.splitlines() if written.search(line))


def process_files(daemon: Daemon, name: str) -> bytes:
    """Return /proc/PID/`name`, such as `environ`, of every process of a daemon's group."""
    return b"\n".join(Path(f"/proc/{pid}/{name}").read_bytes() for pid in _group_of(daemon.pid))


def core_of(daemon: Daemon, folder: Path) -> bytes | None:
    """
    Have the kernel dump a daemon that runs `all_debug` in this folder; return the core.

    Empty: there is none. None: this machine sends cores elsewhere, so that nobody can tell.
    """
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if pattern.startswith(("|", "/")):
        return None
    daemon.signal(signal.SIGABRT)
    assert daemon.ends() == -signal.SIGABRT
    found = list(folder.glob(f"{pattern.partition('%')[0]}*"))
    content = b"".join(piece for path in found for piece in _without_holes(path))
    for path in found:
        path.unlink()  # It is as large as the process was.
    return content


def plain_trace(trace: bytes) -> bytes:
    """Return a trace of libpq, which writes what is no ASCII as \\xc3, with these bytes as they are."""
    return re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), trace)


def _without_holes(path: Path) -> Iterator[bytes]:
    """Yield what a sparse file has: most of a core are pages that nobody used."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        at = 0
        while at < end:
            try:
                begins = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:  # Nothing but a hole is left.
                return
            at = os.lseek(file.fileno(), begins, os.SEEK_HOLE)
            yield os.pread(file.fileno(), at - begins, begins)


def _group_of(leader: int) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                group = os.getpgid(int(entry.name))
            except ProcessLookupError:
                continue
            if group == leader:
                yield int(entry.name)
