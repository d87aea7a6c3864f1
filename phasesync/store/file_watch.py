"""
Notices writes to a file by Linux's inotify (man 7 inotify), so that an idle daemon need not look many times a second.

Python has no interface to inotify, and the packages for it do much more than this. Where there is no inotify, the
caller looks in a rhythm instead.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

_IN_MODIFY: Final = 0x00000002
"""From sys/inotify.h: bytes were written, or the file was truncated."""
_EVENTS_BYTES: Final = 4096


class FileWatch:
    """Watches one file."""

    def __init__(self, descriptor: int) -> None:
        """`descriptor`: an instance of inotify with a watch. It becomes readable when the file is written to."""
        self.descriptor = descriptor

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """Watch a file; None where that is not possible."""
        try:
            import ctypes  # slow to load, and for daemons only

            libc = ctypes.CDLL(None, use_errno=True)
            descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            if descriptor < 0:
                return None  # Such as the limit fs.inotify.max_user_instances.
            if libc.inotify_add_watch(descriptor, os.fsencode(path), _IN_MODIFY) < 0:
                os.close(descriptor)
                return None
        except (ImportError, AttributeError, OSError, MemoryError):
            # Another system; or one where ctypes may not make executable memory.
            return None
        return cls(descriptor)

    def drain(self) -> None:
        """Take all events."""
        with suppress(BlockingIOError):
            while os.read(self.descriptor, _EVENTS_BYTES):
                pass

    def close(self) -> None:
        """End the watch."""
        os.close(self.descriptor)
