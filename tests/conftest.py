"""What every test has at hand. The fixtures themselves live in tests/support/, one module a subject.

`HYPOTHESIS_PROFILE=thorough make test` tries ten times as many examples. `HYPOTHESIS_PROFILE=exact` tries 10,000: meant
for `tests/cli/test_round_trips.py`.
"""

from __future__ import annotations

import os
import signal
from importlib.util import find_spec

from hypothesis import HealthCheck, settings

from tests.support.sdk import keep_models
from tests.support.sql_cache import share_compiled_statements

# A module that another change brings is loaded as soon as it is there.
_FIXTURE_MODULES = ["tests.support.databases", "tests.support.aws", "tests.support.world", "tests.support.host"]
pytest_plugins = [name for name in _FIXTURE_MODULES if find_spec(name)]

# Deadlines measure the machine, not the code, when two workers share a core.
settings.register_profile("default", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", parent=settings.get_profile("default"), max_examples=1000)
settings.register_profile("exact", parent=settings.get_profile("default"), max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# A suite that was started in the background inherits ignored signals, and so would every process under test.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)

keep_models()
share_compiled_statements()
