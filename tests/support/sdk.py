"""
The AWS SDK in tests: the models of its services are found and read once for a process.

Each session of the SDK looks for them and reads them anew, some megabytes of JSON, and thousands of sessions are made
here. Each also finds out anew what its hundred handlers and their events are called and take, which is most of the CPU
time that it costs then.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import botocore.compat
import botocore.hooks
import botocore.loaders
import botocore.session


def keep_models() -> None:
    """Have all sessions share one loader for each place that models are looked for in, from now on."""
    botocore.session.create_loader = cache(botocore.loaders.create_loader)


def keep_event_names() -> None:
    """Have all sessions and clients share the full names of events, and know at once what a handler takes."""
    names: dict[str, str] = {}
    aliaser: Any = botocore.hooks.EventAliaser
    begin = aliaser.__init__

    def with_names(self: Any, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        if self._event_aliases == botocore.hooks.EVENT_ALIASES:
            self._alias_name_cache = names

    def accepts_kwargs(handler: Callable[..., object]) -> object:
        code = getattr(handler, "__code__", None)
        return botocore.compat.accepts_kwargs(handler) if code is None else code.co_flags & inspect.CO_VARKEYWORDS

    aliaser.__init__ = with_names
    vars(botocore.hooks)["accepts_kwargs"] = accepts_kwargs
