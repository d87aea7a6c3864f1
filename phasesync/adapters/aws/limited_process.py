"""
A process that gives credentials, with a time limit: botocore waits for one without end.

Must not log or repeat what a process prints: it prints keys.
"""

import atexit
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Any, Final, cast

MAX_OUTPUT_BYTES: Final = 1024 * 1024
"""Of each of its two streams; credentials have some kilobytes."""

_running: set["LimitedProcess"] = set()
_lock = threading.Lock()


class ProcessOverdueError(Exception):
    """A process has not ended within its time."""


class LimitedProcess:
    """Takes the place of `subprocess.Popen` in botocore's provider: `communicate` and `returncode`."""

    def __init__(self, arguments: Sequence[str], *, deadline: float, **_: Any) -> None:
        """
        Args:
            arguments: the program and its arguments.
            deadline: when it is killed, with every process of its group; in seconds of the monotonic clock.

        Raises:
            OSError: it cannot be started.
        """
        self._deadline = deadline
        # A group of its own, so that what it starts can be killed with it.
        self._process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._streams = (cast("IO[bytes]", self._process.stdout), cast("IO[bytes]", self._process.stderr))
        with _lock:
            _running.add(self)

    @property
    def returncode(self) -> int | None:
        """How it ended, None = it has not."""
        return self._process.returncode

    def communicate(self) -> tuple[bytes, bytes]:
        """
        Return what it printed, when it has ended.

        Raises:
            ProcessOverdueError: it had to be killed: it took too long, or printed too much.
        """
        printed = {stream: bytearray() for stream in self._streams}
        try:
            self._read(printed)
            self._wait(max(0.0, self._deadline - time.monotonic()))
        except BaseException:
            self.kill()
            raise
        finally:
            # A process that has left the group may keep the other ends open for as long as it lives.
            for stream in self._streams:
                stream.close()
            with _lock:
                _running.discard(self)
        out, err = printed.values()
        return bytes(out), bytes(err)

    def _read(self, printed: "dict[IO[bytes], bytearray]") -> None:
        """Read both streams to their ends, in this thread: no end of them can be enforced from another one."""
        with selectors.DefaultSelector() as selector:
            for stream in printed:
                selector.register(stream, selectors.EVENT_READ)
            while selector.get_map():
                left_s = self._deadline - time.monotonic()
                if left_s <= 0:
                    raise ProcessOverdueError
                for key, _ in selector.select(left_s):
                    stream = cast("IO[bytes]", key.fileobj)
                    chunk = os.read(key.fd, 65_536)
                    if not chunk:
                        selector.unregister(stream)
                    printed[stream] += chunk
                    if len(printed[stream]) > MAX_OUTPUT_BYTES:
                        raise ProcessOverdueError

    def kill(self) -> None:
        """Kill it with all processes of its group, and leave no zombie."""
        group = self._process.pid
        if self._process.returncode is not None:
            return  # Its number may be another process's by now.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
        self._process.wait()
        # Where we are process 1 of a container, what it had started is our child now.
        with suppress(ChildProcessError):
            while True:
                os.waitpid(-group, 0)

    def _wait(self, seconds: float) -> None:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise ProcessOverdueError from None


def kill_all() -> None:
    """Kill the processes that run now: phasesync ends, and nobody would read what they print."""
    with _lock:
        running = list(_running)
    for process in running:
        process.kill()


atexit.register(kill_all)
