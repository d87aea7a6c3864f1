"""Keeps plugins of other packages away from our settings, which hold the root key and the database's password."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

_DISABLE_PLUGINS = "PYDANTIC_DISABLE_PLUGINS"
"""Names of plugins, or `__all__` (pydantic's documentation, "Plugins")."""


@contextmanager
def without_plugins() -> Iterator[None]:
    """
    Have pydantic ignore plugins for the models that are made within the block.

    A plugin gets every value that is validated, and may log it. To look for plugins, pydantic reads the metadata of
    every installed package, which each command would pay for. Child processes do not inherit the variable.
    """
    former = os.environ.get(_DISABLE_PLUGINS)
    os.environ[_DISABLE_PLUGINS] = "__all__"
    try:
        yield
    finally:
        if former is None:
            del os.environ[_DISABLE_PLUGINS]
        else:
            os.environ[_DISABLE_PLUGINS] = former
