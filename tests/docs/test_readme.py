"""The README: short, with a picture of real output, and a table that leads to folders that exist."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


picture = _load(ROOT / "docs" / "make_picture.py")
"""`docs/make_picture.py`; that its text is the tour's is asked where the tour runs, in `tests/demo/test_tour.py`."""


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 80


def test_it_shows_the_picture() -> None:
    assert re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README) == ["docs/picture.svg"]


def test_every_folder_and_file_that_it_names_exists() -> None:
    named = re.findall(r"`((?:phasesync|docs|migrations|deploy)/[\w./]*)`", README)

    assert len(named) > 12
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_folder_of_the_package_is_in_the_table() -> None:
    folders = {path.parent.name for path in (ROOT / "phasesync").glob("*/__init__.py")}

    assert [name for name in folders if f"`phasesync/{name}/`" not in README] == []


def test_every_make_command_that_it_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)|^make ([a-z-]+)", README, flags=re.MULTILINE))

    assert {one or other for one, other in named} <= targets


def test_the_picture_is_drawn_by_its_script() -> None:
    drawn = picture.PICTURE.read_text(encoding="utf-8")

    assert picture.draw(picture.lines_of(drawn)) == drawn


def test_the_picture_is_xml_without_fonts_or_addresses_of_others() -> None:
    drawn = picture.PICTURE.read_text(encoding="utf-8")

    ElementTree.fromstring(drawn)
    assert re.findall(r"https?://\S+", re.sub(r"<text.*</text>", "", drawn)) == ['http://www.w3.org/2000/svg"']
    assert "@import" not in drawn and "@font-face" not in drawn and "<script" not in drawn
    assert len(drawn) < 10_000


def test_a_line_that_the_tour_no_longer_prints_is_missed() -> None:
    lines = picture.lines_of(picture.PICTURE.read_text(encoding="utf-8"))

    assert picture.excerpt("\n".join(lines)) == lines
    for left_out in (line for line in lines[1:] if line):
        with pytest.raises(LookupError):
            picture.excerpt("\n".join(line for line in lines if line != left_out))


def test_a_line_is_too_wide_for_the_picture() -> None:
    lines = picture.lines_of(picture.PICTURE.read_text(encoding="utf-8"))
    wide = [f"{line} {'x' * picture.COLUMNS}" if line.startswith("All ") else line for line in lines]

    with pytest.raises(LookupError, match="wider"):
        picture.excerpt("\n".join(wide))


def test_ids_and_times_are_left_out_of_the_comparison() -> None:
    one = ["All 25 checks held", "--plan f3bad3a5f10b6fd3", "(0.26 s after)", "the edit"]
    other = ["All 26 checks held", "--plan 0000000000000001", "(11.5 s after)", "the edit"]

    assert picture.without_variables(one) == picture.without_variables(other)
    assert picture.without_variables(["the edit"]) != picture.without_variables(["an edit"])
