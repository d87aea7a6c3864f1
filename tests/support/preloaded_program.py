"""
Forks processes of phasesync that have everything imported; `preloaded.py` starts it and sends it requests.

A request is a line of JSON, with two descriptors: stderr of the process, and a socket that gets its pid, and its exit
status when it has ended. The process goes on exactly as the script `phasesync` does. This program has one thread and
opens nothing, so that a fork takes nothing along.
"""

import gc
import json
import os
import socket
import sys
from contextlib import suppress

import phasesync.cli.daemon
import phasesync.daemon.build
import phasesync.daemon.service  # noqa: F401 - what a daemon imports when it starts
from phasesync.__main__ import main

# What a daemon imports at its first call of AWS.
import boto3.session  # noqa: F401  # isort: skip
import botocore.httpsession  # noqa: F401  # isort: skip


def serve(requests: socket.socket) -> list[str] | None:
    """Fork for each request; return the arguments in the process that is to be phasesync, None at the end of all."""
    while True:
        line, descriptors, _, _ = socket.recv_fds(requests, 1 << 20, 2)
        collect_watchers()
        if not line:
            return None
        watcher = os.fork()
        if watcher:
            for descriptor in descriptors:
                os.close(descriptor)
            continue
        request = json.loads(line)
        stderr, status = descriptors
        if (pid := os.fork()) == 0:
            requests.close()
            os.close(status)
            become(stderr, request["environ"])
            return ["phasesync", *request["arguments"]]
        watch(pid, status)


def collect_watchers() -> None:
    """Wait for the watchers that are done."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            """One of them; there may be more."""


def become(stderr: int, environ: dict[str, str]) -> None:
    """Have the session, the streams and the environment of a process that was just started."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor, stream in ((nothing, 0), (nothing, 1), (stderr, 2)):
        os.dup2(descriptor, stream)
    for descriptor in (nothing, stderr):
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environ)


def watch(pid: int, status: int) -> None:
    """Report the pid of a process, and its status when it has ended."""
    with suppress(OSError):  # No one may be interested any more.
        os.write(status, pid.to_bytes(4))
        os.write(status, os.waitpid(pid, 0)[1].to_bytes(4))
    os._exit(0)


if __name__ == "__main__":
    gc.collect()
    gc.freeze()
    arguments = serve(socket.socket(fileno=int(sys.argv[1])))
    if arguments is not None:
        sys.argv = arguments
        main()
