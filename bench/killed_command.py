"""
A phasesync command that dies by SIGKILL at one of its steps: a process of its own, for `bench.keys`.

    python -m bench.killed_command STEP keys rotate-data

A step is before or after the commit of a write, or before or after a change of a file's name. A command that has fewer
steps ends as it always does.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, Final

import sqlalchemy as sa

from phasesync.cli.main import main
from phasesync.store.database import Database

_RENAMES: Final = ("link", "rename", "replace", "unlink")


def arrange_death(at: int) -> None:
    """Have this process killed at its n-th step, which it names on stderr."""
    numbers = count(1)

    def step(name: str) -> None:
        if next(numbers) == at:
            os.write(2, f"killed {name}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    write: Callable[[Database], Any] = Database._write

    @contextmanager
    def mortal_write(database: Database) -> Iterator[sa.Connection]:
        with write(database) as connection:
            yield connection
            step("before a commit")
        step("after a commit")

    Database._write = mortal_write  # type: ignore[method-assign]
    for name in _RENAMES:
        setattr(os, name, _mortal(getattr(os, name), f"os.{name}", step))


def _mortal(change: Callable[..., Any], name: str, step: Callable[[str], None]) -> Callable[..., Any]:
    def mortal(*args: Any, **kwargs: Any) -> Any:
        step(f"before {name}")
        result = change(*args, **kwargs)
        step(f"after {name}")
        return result

    return mortal


if __name__ == "__main__":
    arrange_death(int(sys.argv.pop(1)))
    main()
