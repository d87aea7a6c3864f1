"""How references are written."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.reference_syntax import Reference, escape, malformed_references, pieces, references_in, targets

marks = st.lists(st.sampled_from(["$", "{", "}", "${", "$${", "${{", "}}", "a", ".", "\n", "é"]), max_size=30)
texts = marks.map("".join) | st.text()


def literal(text: str) -> str:
    """The text with its references written as they were."""
    return "".join(piece if isinstance(piece, str) else f"<{piece.expression}>" for piece in pieces(text))


@given(texts)
def test_an_escaped_text_is_literal_and_comes_back_whole(text):
    found = list(pieces(escape(text)))
    literals = [piece for piece in found if isinstance(piece, str)]
    assert literals == found
    assert "".join(literals) == text


@given(texts)
def test_a_text_without_the_mark_is_left_alone(text):
    plain = text.replace("${", "")
    if "${" not in plain:
        assert literal(plain) == plain


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("${A}", "<A>"),
        ("x${A}y${b./c/D}z", "x<A>y<b./c/D>z"),
        ("$${A}", "${A}"),
        ("$$${A}", "$${A}"),
        ("$A {B} $ {C}", "$A {B} $ {C}"),
        ("${{ secrets.X }}", "${{ secrets.X }}"),
        ("${{ secrets.X }}${A}", "${{ secrets.X }}<A>"),
        ("${{X}", "${{X}"),
        ("${{X} ${A}", "${{X} <A>"),
        ("${A", "${A"),
        ("${A\n}", "${A\n}"),
        ("${A\n${B}", "${A\n<B>"),
        ("${A}\n${B", "<A>\n${B"),
        ("${}", "<>"),
        ("${A}$${B}${C}", "<A>${B}<C>"),
    ],
)
def test_how_a_text_is_read(text, read):
    assert literal(text) == read


@pytest.mark.parametrize(
    ("expression", "read"),
    [
        ("KEY", [(None, None, None, "KEY")]),
        ("/KEY", [(None, None, "/", "KEY")]),
        ("/a/b/KEY", [(None, None, "/a/b", "KEY")]),
        ("env.KEY", [(None, None, None, "env.KEY"), (None, "env", "/", "KEY")]),
        ("env./a/KEY", [(None, None, None, "env./a/KEY"), (None, "env", "/a", "KEY")]),
        ("app::env.KEY", [(None, None, None, "app::env.KEY"), ("app", "env", "/", "KEY")]),
        ("app::env./a/KEY", [(None, None, None, "app::env./a/KEY"), ("app", "env", "/a", "KEY")]),
        ("env.a.b", [(None, None, None, "env.a.b"), (None, "env", "/", "a.b")]),
        ("", []),
        ("/", []),
        ("/a/", []),
        ("//KEY", []),
        ("app::KEY", [(None, None, None, "app::KEY")]),
        ("VAR:-x.y", [(None, None, None, "VAR:-x.y")]),
    ],
)
def test_the_ways_to_read_a_reference(expression, read):
    assert [(t.app, t.environment, t.path, t.key) for t in targets(expression)] == read


@pytest.mark.parametrize("text", ["${VAR:-canary}", "${VAR:?canary}", "${VAR%canary}", "${VAR canary}", "${ canary }"])
def test_another_tool_s_syntax_is_noticed_and_only_its_name_is_shown(text):
    (shown,) = malformed_references(text)
    assert "canary" not in shown


@pytest.mark.parametrize("text", ["${KEY}", "${a-b.KEY}", "${x::y./z/KEY}", "$${VAR:-x}", "${{ x }}", "${open"])
def test_what_is_well_formed_or_no_reference_gives_no_warning(text):
    assert malformed_references(text) == []


def test_a_reference_is_listed_once():
    assert references_in("${A} ${B} ${A}") == [Reference("A"), Reference("B")]


@pytest.mark.parametrize("text", ["${" * 200_000, "${{" * 200_000, "${{a}" * 100_000, "${a" * 100_000 + "}"])
def test_hostile_text_is_read_in_one_pass(text):
    # Quadratic reading of these takes minutes; the bound leaves room for a slow machine.
    began = time.monotonic()
    list(pieces(text))
    assert time.monotonic() - began < 20
