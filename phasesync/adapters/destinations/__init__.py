"""
Destination kinds, one line each.

A kind is one module that ends in `SPEC`; it is imported when it is asked for, so that naming a kind costs nothing.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Final

from phasesync.adapters.destinations.spec import DestinationSpec
from phasesync.errors import NotFoundError

REGISTRY: Final[Mapping[str, str]] = {
    "aws-secrets-manager": "phasesync.adapters.destinations.aws_secrets_manager",
}
"""Kind -> module."""


def spec_of(kind: str) -> DestinationSpec:
    """Return what a destination kind can do. NotFoundError for a kind that does not exist."""
    if kind not in REGISTRY:
        raise NotFoundError(
            f"{kind!r} is not a destination kind", hint=f"destination kinds: {', '.join(sorted(REGISTRY))}"
        )
    spec = import_module(REGISTRY[kind]).SPEC
    if not isinstance(spec, DestinationSpec):
        raise TypeError(f"the module of {kind} does not end in a SPEC")
    return spec
