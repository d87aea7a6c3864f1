"""The table of rules."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Rule:
    name: str


RULES: tuple[Rule, ...] = ()
