"""The metrics of the operating system's process: memory, CPU, descriptors, its start. prometheus-client reads them."""

import time
from typing import Final

from prometheus_client import ProcessCollector

_CLOCK_SINCE_BOOT: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class ProcessMetrics(ProcessCollector):
    """
    The library's metrics of this process, also where /proc shows processes and nothing else.

    The library reads the time of the boot from /proc/stat and exports nothing without it. The unit hides that file
    (`ProcSubset=pid`); the clocks say the same.
    """

    def _boot_time(self) -> float:
        try:
            found: float = super()._boot_time()  # type: ignore[no-untyped-call]
        except OSError:
            return time.time() - time.clock_gettime(_CLOCK_SINCE_BOOT)
        return found
