"""What a rule says of itself."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule."""

    name: str
    module: str
    """The file of this package that holds it."""
    adds: str
    """What it adds to moto."""
    source: str
    """Where it was read."""
