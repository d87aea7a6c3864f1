"""
A file with secret values for another program: on memory-backed storage, for this user alone, and wiped at the end.

Its folder is private too, so that what an editor puts beside it (swap files, backups) is wiped with it. Memory may
still be swapped out; docs/security.md says what helps.
"""

import os
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from phasesync.errors import InvalidInputError, OperatorError
from phasesync.host_files import mount_of

_IN_MEMORY: Final = ("tmpfs", "ramfs")
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - what is made there is private
_NOT_ENDING: Final = frozenset(
    {
        *(signal.SIGKILL, signal.SIGSTOP),  # cannot be handled
        *(signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH),  # end nothing
        *(signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),  # stop, and go on later
        *(signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS),
    }
)
"""Signals that do not end a process by default, or that come from a fault after which it cannot go on (signal(7))."""
_BLOCK: Final = 1_048_576


@contextmanager
def private_file(name: str, content: bytes) -> Iterator[Path]:
    """
    Yield a new file, mode 0600, in a folder of its own, mode 0700; at the end both are gone, and their content too.

    That holds for errors, Ctrl-C and signals that end a process as well, but SIGKILL: these end it with 128 and their
    number.

    Raises:
        OperatorError: there is no memory-backed storage.
    """
    parent = memory_folder()
    with _ending_by_signals():
        folder = Path(tempfile.mkdtemp(prefix="phasesync-edit-", dir=parent))
        try:
            file = folder / name
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(file, flags, 0o600), "wb") as opened:
                opened.write(content)
            yield file
        finally:
            _wipe_whatever_comes(folder)


def memory_folder() -> Path:
    """Return a folder on storage that is no disk. OperatorError if there is none."""
    candidates = [_SHARED_MEMORY]
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        candidates.append(Path(runtime))
    reasons = []
    for folder in candidates:
        mount = mount_of(folder) if folder.is_dir() else None
        if mount is None:
            reasons.append(f"{folder} is missing")
        elif mount.kind not in _IN_MEMORY:
            reasons.append(f"{folder} is on {mount.kind}")
        elif not os.access(folder, os.W_OK | os.X_OK):
            reasons.append(f"{folder} cannot be written")
        else:
            return folder
    raise OperatorError(
        f"there is no place in memory for a file with values, and none is put on a disk: {', '.join(reasons)}",
        hint="mount a tmpfs at /dev/shm, or at $XDG_RUNTIME_DIR; or set keys one by one: phasesync secrets set --help",
    )


def read_private(file: Path, max_bytes: int) -> bytes:
    """Return what a program left in the file. InvalidInputError if it is no file of up to `max_bytes` any more."""
    try:
        opened = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidInputError(f"the edited file cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise InvalidInputError("the edited file is no regular file any more")
    with open(opened, "rb") as stream:
        data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise InvalidInputError(f"the edited file is larger than {max_bytes:,} bytes")
    return data


def wipe(folder: Path) -> None:
    """Overwrite every file below a folder with zeros, and remove all of it."""
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # Another user's, or gone already: what is left is removed below.
                _overwrite(Path(root, name))
    shutil.rmtree(folder, ignore_errors=True)


def _overwrite(file: Path) -> None:
    opened = os.open(file, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(opened)
        if not stat.S_ISREG(status.st_mode):
            return
        for start in range(0, status.st_size, _BLOCK):
            os.pwrite(opened, bytes(min(_BLOCK, status.st_size - start)), start)
    finally:
        os.close(opened)


@contextmanager
def _ending_by_signals() -> Iterator[None]:
    """Have signals that would end the process at once end it as an error does: what is open is closed."""

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    former = {
        number: handler
        for number in signal.valid_signals() - _NOT_ENDING
        if (handler := signal.getsignal(number)) is signal.SIG_DFL
    }
    for number in former:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _wipe_whatever_comes(folder: Path) -> None:
    """Wipe a folder; an interruption meanwhile takes effect when that is done."""
    interruption: BaseException | None = None
    while folder.exists():
        try:
            wipe(folder)
            break
        except (KeyboardInterrupt, SystemExit) as error:
            interruption = error
    if interruption is not None:
        raise interruption
