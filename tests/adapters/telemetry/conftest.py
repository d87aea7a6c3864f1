"""Logging as a test sets it up, and as it was before afterwards."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from phasesync.adapters.telemetry.logging import configure_logging


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.root
    handlers, root_level, raising = root.handlers[:], root.level, logging.raiseExceptions
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning
    known = {name: logging.getLogger(name) for name in list(root.manager.loggerDict)}
    before = {name: (logger.level, logger.propagate, logger.handlers[:]) for name, logger in known.items()}
    yield
    root.handlers[:], logging.raiseExceptions = handlers, raising
    root.setLevel(root_level)
    sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = hooks
    for name in list(root.manager.loggerDict):
        level, propagate, of = before.get(name, (logging.NOTSET, True, []))
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.propagate, logger.handlers[:] = propagate, of
    structlog.reset_defaults()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def lines(stream: io.StringIO) -> Callable[[], list[dict[str, Any]]]:
    """Set logging up as JSON at info; the function returns what was written so far."""
    configure_logging(level="info", format="json", stream=stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
