"""The host's clock, as one process sees it: ahead or behind, and changed while the process runs."""

from __future__ import annotations

import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

from tests.support.hostile import needs

SOURCE = Path(__file__).with_suffix(".c")


class ShiftedClock:
    """What `set` says is added to the time of day of every process that has `environ`."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock.shift"
        self.set(timedelta(0))
        library = folder / "shifted_clock.so"
        compiler = shutil.which("cc") or ""
        needs(bool(compiler), "C compiler (cc)")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"], check=True)
        self.environ = {"LD_PRELOAD": str(library), "SHIFTED_CLOCK": str(self._file)}

    def set(self, by: timedelta) -> None:
        """Set the clock; processes that run see it at once."""
        seconds = round(by.total_seconds()).to_bytes(8, "little", signed=True)
        if self._file.exists():
            with self._file.open("r+b") as file:
                file.write(seconds)
        else:
            self._file.write_bytes(seconds)
