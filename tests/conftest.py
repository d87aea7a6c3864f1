"""What every test has at hand. The fixtures themselves live in tests/support/, one module a subject.

`HYPOTHESIS_PROFILE=thorough make test` tries ten times as many examples. `HYPOTHESIS_PROFILE=exact` tries 10,000: meant
for `tests/cli/test_round_trips.py`.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
from importlib.util import find_spec

import pytest
from hypothesis import HealthCheck, settings

from tests.support.sdk import keep_event_names, keep_models
from tests.support.sql_cache import share_compiled_statements

# A module that another change brings is loaded as soon as it is there.
_FIXTURE_MODULES = ["tests.support.reads", "tests.support.databases", "tests.support.aws", "tests.support.world"]
_FIXTURE_MODULES += ["tests.support.host", "tests.support.preloaded", "tests.support.wheels"]
pytest_plugins = [name for name in _FIXTURE_MODULES if find_spec(name)]

# Deadlines measure the machine, not the code, when two workers share a core.
settings.register_profile("default", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", parent=settings.get_profile("default"), max_examples=1000)
settings.register_profile("exact", parent=settings.get_profile("default"), max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# A suite that was started in the background inherits ignored signals, and so would every process under test.
for _number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)

keep_models()
keep_event_names()
share_compiled_statements()

# Databases of tests are small and short-lived: in memory, a commit waits for no disk. It is pytest's own variable for
# the folder of all tmp_path; what a test that passed leaves there is removed at once.
_MEMORY, _ROOM = "/dev/shm", 4 << 30
_NOEXEC = getattr(os, "ST_NOEXEC", 0)  # Some tests run scripts of their own.
if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM and not os.statvfs(_MEMORY).f_flag & _NOEXEC:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", _MEMORY)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """
    Begin with what takes long where workers share the tests: none of them is left alone with it at the end.

    It waits for processes most of the time. Each worker gets a part of the list: half of what is slow stands at the
    beginning and half in the middle, so that half of the workers wait while the others use the processors.
    """
    if hasattr(config, "workerinput"):
        slow = [item for item in items if any(item.get_closest_marker(name) for name in ("slow", "e2e"))]
        those = set(slow)
        quick = [item for item in items if item not in those]
        half, middle = len(slow) // 2, len(quick) // 2
        items[:] = slow[:half] + quick[:middle] + slow[half:] + quick[middle:]


def pytest_collection_finish() -> None:
    """Have Python's garbage collector leave out what is there by now: all modules and tests, a million objects."""
    gc.collect()
    gc.freeze()
