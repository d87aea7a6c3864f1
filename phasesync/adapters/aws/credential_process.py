"""
Limits for a `credential_process` of AWS's configuration: a deadline for the process, and no loop back to phasesync.

botocore waits for such a process without a time limit. Must not log or repeat what a process prints: it prints keys.
"""

import atexit
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any, Final, cast

from phasesync.errors import Hint, SettingsError

MAX_OUTPUT_BYTES: Final = 1024 * 1024
"""Of each of its two streams; credentials have a few kilobytes."""

_running: set["LimitedProcess"] = set()
_lock = threading.Lock()


class ProcessOverdueError(Exception):
    """A process took too long, or printed too much."""


class LimitedProcess:
    """Takes the place of `subprocess.Popen` in the provider of botocore: `communicate` and `returncode`."""

    def __init__(self, arguments: Sequence[str], *, deadline: float, **_: Any) -> None:
        """
        Args:
            arguments: the program and its arguments.
            deadline: when it is killed, with every process of its group; in seconds of the monotonic clock.

        Raises:
            OSError: it cannot be started.
        """
        self._deadline = deadline
        # In a group of its own, so that the processes that it starts can be killed with it.
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
        """The exit status; None if it has not ended."""
        return self._process.returncode

    def communicate(self) -> tuple[bytes, bytes]:
        """
        Wait for the process to end, and return what it printed.

        Raises:
            ProcessOverdueError: it was killed, because it took too long or printed too much.
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
        """Read both streams to their ends, in this thread: a read in another thread cannot be interrupted."""
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
            return  # By now its number may belong to another process.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
        self._process.wait()
        # If we are process 1 of a container, the processes that it started are our children now.
        with suppress(ChildProcessError):
            while True:
                os.waitpid(-group, 0)

    def _wait(self, seconds: float) -> None:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise ProcessOverdueError from None


def kill_all() -> None:
    """Kill the processes that run now: phasesync ends, so their output is not needed."""
    with _lock:
        running = list(_running)
    for process in running:
        process.kill()


atexit.register(kill_all)


# --- a profile that leads back to phasesync
#
# A profile of AWS's configuration may get its credentials from `phasesync leases issue` (credential_process). If the
# default chain of the SDK takes the same profile, because of AWS_PROFILE or as [default], phasesync would start itself
# without end. Therefore an issue marks its environment, which the processes that the SDK starts inherit.

ISSUING_VARIABLE: Final = "PHASESYNC_ISSUING"
"""Variable that names the dynamic secrets of which parent processes are issuing leases, separated by commas."""
OWN_PROFILE_MESSAGE: Final = (
    "the AWS profile that phasesync takes its identity from gets its credentials from phasesync itself"
)
"""The whole message: the parent process searches for it in the error output that the SDK reports of its child."""


def own_profile_error(**names: str) -> SettingsError:
    """Return the error for a profile that leads back to phasesync. `names`: for its hint, if they are known."""
    profile = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE") or "NAME"
    return SettingsError(
        OWN_PROFILE_MESSAGE,
        hint=Hint(
            "choose the profile with --profile {profile}, not with AWS_PROFILE nor as [default]; or give phasesync an "
            "identity of its own: credential_process = env AWS_PROFILE=host phasesync leases issue {name} …",
            profile=profile,
            **names,
        ),
    )


@contextmanager
def issuing(dynamic: str) -> Iterator[None]:
    """
    Mark the environment of this process while it issues a lease of a dynamic secret.

    Raises:
        SettingsError: a parent process is already issuing a lease of the same dynamic secret, and waits for this one.
    """
    former = os.environ.get(ISSUING_VARIABLE)
    parents = former.split(",") if former else []
    if dynamic.lower() in parents:
        raise own_profile_error(name=dynamic)
    os.environ[ISSUING_VARIABLE] = ",".join([*parents, dynamic.lower()])
    try:
        yield
    finally:
        if former is None:
            del os.environ[ISSUING_VARIABLE]
        else:
            os.environ[ISSUING_VARIABLE] = former
