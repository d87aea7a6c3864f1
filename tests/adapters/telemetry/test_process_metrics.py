"""What is exported of the operating system's process."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from phasesync.adapters.telemetry.process_metrics import ProcessMetrics

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


def exported(proc: Path) -> dict[str, float]:
    registry = CollectorRegistry()
    ProcessMetrics(registry=registry, proc=str(proc))
    return {sample.name: sample.value for metric in registry.collect() for sample in metric.samples}


def test_a_unit_that_sees_no_more_than_processes_exports_the_same(tmp_path) -> None:
    """`ProcSubset=pid` leaves /proc/PID, and hides /proc/stat."""
    (tmp_path / "self").symlink_to("/proc/self")
    hidden, usual = exported(tmp_path), exported(Path("/proc"))

    assert hidden.keys() == usual.keys() >= {"process_resident_memory_bytes", "process_open_fds", "process_max_fds"}
    assert hidden["process_start_time_seconds"] == pytest.approx(usual["process_start_time_seconds"], abs=2)
    assert time.time() - 86_400 < hidden["process_start_time_seconds"] <= time.time()
