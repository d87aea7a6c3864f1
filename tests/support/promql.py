"""Which metrics an expression names, and whether a daemon exports them: docs/metrics.md, which has its own tests."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
OF_TARGETS = {"cluster", "namespace", "job", "instance", "le"}
"""Labels that Prometheus adds, and that of the buckets of histograms."""


def exported() -> dict[str, set[str]]:
    """Return name of a series -> its labels, of everything that a daemon exports."""
    rows = re.findall(r"^\| `(phasesync_\w+)` \| (\w+)[^|]*\|([^|]*)\|", DOCUMENT.read_text(), flags=re.MULTILINE)
    found: dict[str, set[str]] = {}
    for name, kind, labels in rows:
        for end in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
            found[name + end] = set(re.findall(r"`(\w+)`", labels))
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    found |= {sample.name: set() for family in registry.collect() for sample in family.samples}
    return found


def unknown(expressions: Iterable[str], *, recorded: Iterable[str] = ()) -> tuple[list[str], int]:
    """
    Return what expressions name and no daemon exports, and how many metrics they name.

    Args:
        expressions: in PromQL, with a label selector beside each metric where it has one.
        recorded: names that rules record.
    """
    known, wrong, named = exported(), [], set()
    for expression in expressions:
        for name in recorded:
            expression = expression.replace(name, "")
        for name, labels in re.findall(r"\b((?:phasesync|process)_\w+)(\{[^}]*\})?", expression):
            named.add(name)
            chosen = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", labels)) - OF_TARGETS
            if name not in known:
                wrong.append(name)
            elif chosen - known[name]:
                wrong.append(f"{name}{{{', '.join(sorted(chosen - known[name]))}}}")
    return wrong, len(named)
