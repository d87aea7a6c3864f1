"""Imports without garbage collection, for the modules that a command starts with."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collection(module: str) -> Iterator[None]:
    """
    Import a module within the block without garbage collection; afterwards the collector ignores what exists then.

    Imports make a hundred thousand objects that stay until the end, and the collector would look at them again and
    again: 6 % of the CPU of a command. Without `freeze`, the first collection afterwards would look at all of them.

    Args:
        module: what the block imports. Nothing happens if it is imported already.
    """
    if module in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
