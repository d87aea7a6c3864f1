"""Plans as Markdown: nothing in them becomes markup, and they fit into a comment."""

from __future__ import annotations

import html
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from phasesync.cli.plan_markdown import MAX_CHARACTERS, code, plain_text, plans_as_markdown
from phasesync.cli.streams import one_line


def planned(sync: str, *names: str, keys: int = 1, **changes: Any) -> dict[str, Any]:
    """The document of a plan with one change a name."""
    kinds = {"added": [f"KEY_{n}" for n in range(keys)], "changed": [], "removed": [], "emptied": []}
    listed = [
        {"action": "put", "remote_name": name, "reason": "the value differs", "held": False, "keys": kinds}
        for name in names
    ]
    return {"sync": sync, "held": [], "problems": [], "changes": listed, **changes}


def markdown(*plans: dict[str, Any], digest: str | None = None) -> str:
    return plans_as_markdown(plans, digest=digest, approve="--all")


@given(st.text(max_size=80))
def test_no_text_becomes_markup(text: str) -> None:
    for written in (code(text).removeprefix("<code>").removesuffix("</code>"), plain_text(text)):
        assert not re.search(r"[<>|*_`\[\]!@~\\\r\n]", written)
        assert not re.search(r"&(?!#\d+;)", written)
    assert html.unescape(code(text)) == f"<code>{one_line(text)}</code>"


def test_names_are_in_code_and_reasons_mention_nobody() -> None:
    text = markdown(planned("web", "a|b@team*x*"), {"sync": "api", "error": {"message": "ask @ops <b>", "hint": None}})
    assert "<code>a&#124;b&#64;team&#42;x&#42;</code>" in text
    assert "ask &#64;&#8288;ops &#60;b&#62;" in text
    assert "| <code>api</code> | - | - | error |" in text


def test_however_much_changes_it_fits_and_says_what_is_left_out() -> None:
    many = [planned(f"sync-{n:05}", "x" * 400, keys=200) for n in range(3_000)]
    one = planned("large", *(f"secret/{n}" for n in range(5_000)))
    text = markdown(one, *many, digest="0123456789abcdef")
    assert len(text) < MAX_CHARACTERS - 5_000
    assert "### phasesync: 3,001 of 3,001 syncs would change" in text
    assert re.search(r"\| … and \d+ more syncs \|", text)
    assert re.search(r"- … and \d+ more\n", text)
    assert re.search(r"_Left out, .*: what changes of \d+ more syncs", text)
    assert text.count("<details>") == text.count("</details>") > 1
    assert "--plan 0123456789abcdef" in text


def test_what_needs_to_be_seen_comes_first() -> None:
    text = markdown(planned("a"), planned("b"), planned("z", "secret/z"))
    assert text.index("<code>z</code>") < text.index("<code>a</code>")
    assert text.count("in step") == 2
    assert "no sync would change" in markdown(planned("a"))


def test_a_closed_window_is_named() -> None:
    window = {"closed": True, "opens_at": None, "text": "opens 2026-12-01 18:00 UTC (deny: 08:00-18:00 UTC)"}
    text = html.unescape(markdown(planned("web", "shop/web", window=window), planned("api", "shop/api", window=None)))

    assert "| waits for its window |" in text
    assert text.count("the maintenance window is closed: opens 2026-12-01 18:00 UTC (deny: 08:00-18:00 UTC)") == 1
