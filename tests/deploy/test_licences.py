"""THIRD-PARTY-LICENSES.txt has the licence of each package that a release brings, and no release brings another one."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def licences(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """deploy/release/licences.py."""
    monkeypatch.syspath_prepend(ROOT / "deploy" / "release")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield importlib.import_module("licences")
    for name in ("licences", "pins"):
        sys.modules.pop(name, None)


def test_the_file_is_of_the_packages_that_are_pinned(licences: Any) -> None:
    """`make licences` writes it anew."""
    assert licences.document(licences.read_pins(licences.PINNED)) == licences.DOCUMENT.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("said", "licence"),
    [
        ("License-Expression: MIT OR Apache-2.0", "MIT OR Apache-2.0"),
        ("License: Apache License 2.0", "Apache-2.0"),
        ("License: UNKNOWN\nClassifier: License :: OSI Approved :: MIT License", "MIT"),
    ],
)
def test_a_licence_is_found_where_a_package_names_it(licences: Any, tmp_path: Path, said: str, licence: str) -> None:
    assert licences.expression_of("some", installed(tmp_path, said)) == licence


@pytest.mark.parametrize("said", ["License-Expression: MIT AND AGPL-3.0-only", "License: Proprietary", "Name: some"])
def test_a_licence_that_nobody_decided_about_is_an_error(licences: Any, tmp_path: Path, said: str) -> None:
    with pytest.raises(SystemExit, match="some: no licence that may be passed on"):
        licences.expression_of("some", installed(tmp_path, said))


def installed(folder: Path, metadata: str) -> Distribution:
    place = folder / "some-1.dist-info"
    place.mkdir()
    (place / "METADATA").write_text(f"Metadata-Version: 2.4\n{metadata}\n")
    return Distribution.at(place)
