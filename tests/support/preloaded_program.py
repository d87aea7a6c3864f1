"""
Forks processes of phasesync that have everything imported; `preloaded.py` starts it and sends it requests.

A request is a line of JSON, with four descriptors: the three streams of the process, and a socket that gets its pid,
and its exit status when it has ended. The process goes on exactly as the script `phasesync` does. This program has one
thread and opens nothing, so that a fork takes nothing along.
"""

import fcntl
import gc
import json
import os
import socket
import sys
import tempfile
import termios
import threading
from contextlib import suppress
from importlib import import_module
from typing import Any

from phasesync.__main__ import main

_AWS = ("boto3.session", "botocore.httpsession")
_EMULATOR = [f"moto.{service}.responses" for service in ("iam", "kms", "secretsmanager", "sts")]
PRELOADED = {
    "daemon": ("phasesync.cli.daemon", "phasesync.daemon.build", "phasesync.daemon.service", *_AWS),
    "demo": (
        "phasesync.cli.demo",
        "phasesync.cli.sandbox",
        "phasesync.demo.sandbox",
        "phasesync.demo.screen",
        "phasesync.demo.tour",
        "phasesync.adapters.destinations",
        "phasesync.store.migrate",
        "alembic.command",
        "moto.moto_server.werkzeug_app",
        *_EMULATOR,
        *_AWS,
    ),
}
"""Kind -> what such a process imports when it starts and at its first call of AWS."""


def serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork for each request; return the request in the process that is to be phasesync, None at the end of all."""
    while True:
        line, descriptors, _, _ = socket.recv_fds(requests, 1 << 20, 4)
        collect_watchers()
        if not line:
            return None
        watcher = os.fork()
        if watcher:
            for descriptor in descriptors:
                os.close(descriptor)
            continue
        request: dict[str, Any] = json.loads(line)
        *streams, status = descriptors
        if (pid := os.fork()) == 0:
            requests.close()
            os.close(status)
            become(streams, request["environ"], terminal=request["terminal"])
            return request
        watch(pid, status)


def collect_watchers() -> None:
    """Wait for the watchers that are done."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            """One of them; there may be more."""


def become(streams: list[int], environ: dict[str, str], *, terminal: bool) -> None:
    """Have the session, the streams and the environment of a process that was just started."""
    os.setsid()
    for stream, descriptor in enumerate(streams):
        os.dup2(descriptor, stream)
    for descriptor in streams:
        os.close(descriptor)
    if terminal:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    # Python decides by what a stream is whether it seeks and when it writes.
    sys.stdin = open(0, encoding=sys.stdin.encoding, errors=sys.stdin.errors, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding=sys.stderr.encoding, errors=sys.stderr.errors, closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environ)


def watch(pid: int, status: int) -> None:
    """Report the pid of a process, and its status when it has ended."""
    with suppress(OSError):  # Nobody may be interested any more.
        os.write(status, pid.to_bytes(4))
        os.write(status, os.waitpid(pid, 0)[1].to_bytes(4))
    os._exit(0)


if __name__ == "__main__":
    for module in PRELOADED[sys.argv[2]]:
        import_module(module)
    assert threading.active_count() == 1 and tempfile.tempdir is None
    gc.collect()
    gc.freeze()
    request = serve(socket.socket(fileno=int(sys.argv[1])))
    if request is not None:
        sys.argv = ["phasesync", *request["arguments"]]
        if request["program"] is None:
            main()
        else:
            exec(compile(request["program"], "<string>", "exec"), {"__name__": "__main__"})
