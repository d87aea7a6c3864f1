"""
Issuers of short-lived credentials, one line each.

A kind is one module that ends in `SPEC`; it is imported when it is asked for, so that naming a kind costs nothing.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Final

from phasesync.adapters.issuers.spec import IssuerSpec
from phasesync.errors import NotFoundError

REGISTRY: Final[Mapping[str, str]] = {
    "aws-iam-user": "phasesync.adapters.issuers.aws_iam_user",
    "aws-assume-role": "phasesync.adapters.issuers.aws_assume_role",
}
"""Kind -> module."""


def spec_of(kind: str) -> IssuerSpec:
    """Return what an issuer can do. NotFoundError for a kind that does not exist."""
    if kind not in REGISTRY:
        raise NotFoundError(f"{kind!r} is not an issuer", hint=f"issuers: {', '.join(REGISTRY)}")
    spec = import_module(REGISTRY[kind]).SPEC
    if not isinstance(spec, IssuerSpec):
        raise TypeError(f"the module of {kind} does not end in a SPEC")
    return spec
