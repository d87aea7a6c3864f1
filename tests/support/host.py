"""A host that gives no more."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

import pytest


@pytest.fixture
def no_descriptors() -> Iterator[None]:
    """Let this process open nothing any more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
