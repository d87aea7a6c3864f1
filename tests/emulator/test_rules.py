"""Every rule of the emulator has a test that shows it at work, and one that shows what it leaves alone."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import phasesync.emulator as package
from phasesync.emulator import RULES

HERE = Path(__file__).parent


def marks() -> Iterator[tuple[str, str]]:
    """Yield what the tests of this folder are marked with."""
    for path in sorted(HERE.glob("test_*.py")):
        module = importlib.import_module(f"tests.emulator.{path.stem}")
        for name, test in vars(module).items():
            if name.startswith("test_"):
                yield from getattr(test, "rules", ())


@pytest.mark.parametrize("kind", ["refuses", "passes"])
def test_every_rule_is_shown(kind: str):
    assert sorted(rule.name for rule in RULES) == sorted({name for name, one in marks() if one == kind})


def test_no_rule_stands_twice():
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_every_rule_says_where_it_lives_and_where_it_was_read():
    folder = Path(str(package.__file__)).parent
    assert [rule.name for rule in RULES if not (folder / f"{rule.module}.py").exists()] == []
    assert [rule.name for rule in RULES if not rule.source or not rule.adds] == []
