"""What a plan and a run look like on a terminal."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from phasesync.cli.documents import run_document
from phasesync.cli.output import Output
from phasesync.cli.runs import row_of
from phasesync.cli.text import show_plan, show_run
from phasesync.core.run import WAITS_FOR_WINDOW, ChangeResult, Outcome, Run, RunError
from phasesync.core.sync import Trigger


def change(**members: Any) -> dict[str, Any]:
    """One change of a plan."""
    keys: dict[str, list[str]] = {"added": [], "changed": [], "removed": [], "emptied": []}
    made = {"action": "put", "remote_name": "web", "reason": "edited", "held": False, "delayed_until": None}
    made |= {"hint": None}
    return made | {"keys": keys, "bytes": 1, "versions_used_24h": 0} | members


def planned(*changes: dict[str, Any], digest: str | None = None) -> dict[str, Any]:
    """A plan of them."""
    plan: dict[str, Any] = {"sync": "web", "changes": changes, "held": [], "problems": [], "digest": digest}
    return plan | {"estimate": {"writes": 1, "calls": 2}}


def a_run(**members: Any) -> Run:
    """A run of `web`."""
    now = datetime.now(UTC)
    run = Run(
        id="1",
        sync_id="1",
        sync="web",
        trigger=Trigger.CHANGE,
        actor="me",
        attempt=1,
        outcome=Outcome.UNCHANGED,
        started_at=now,
        ended_at=now,
        revisions={},
        counts={},
        aws_calls=1,
        versions_written=0,
        error=None,
        next_attempt_at=None,
        changes=(),
    )
    return replace(run, **members)


def test_a_plan_for_many_objects_stays_readable(capsys: pytest.CaptureFixture[str]) -> None:
    """What is left as it is becomes a number, of the rest the first ones stand for all."""
    same = [change(action="noop", remote_name=f"n{number}", reason="as wanted") for number in range(180)]
    made = [change(action="create", remote_name=f"c{number:03}") for number in range(100)]
    gone = [change(action="delete", remote_name=f"d{number:03}", held=True) for number in range(20)]

    show_plan(Output(as_json=False), planned(*same, *made, *gone, digest="0123456789abcdef"))

    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert len(lines) == 1 + 6 + 6 + 1
    assert lines[0].split() == ["noop", "180", "objects"]
    assert lines[1].split() == ["create", "c000", "edited"]
    assert lines[6].endswith("... and 95 more")
    assert lines[12].endswith("... and 15 more (15 held)")
    assert "approve web --plan 0123456789abcdef" in printed.err


def test_a_plan_for_a_few_objects_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """In the order in which it is carried out, with what waits."""
    show_plan(Output(as_json=False), planned(change(action="retag", held=True), change(action="noop")))

    assert capsys.readouterr().out.splitlines()[0].split() == ["retag", "web", "edited", "(held)"]


def test_key_names_cannot_turn_the_direction_of_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A key may hold any letter, format characters among them."""
    keys = {"added": ["a\u202eb"], "changed": [], "removed": [], "emptied": []}

    show_plan(Output(as_json=False), planned(change(keys=keys)))

    assert "+ a b = ***" in capsys.readouterr().out


@pytest.mark.parametrize(("message", "times"), [("AWS refuses (Throttled)", 1), ("AWS refuses", 1)])
def test_the_code_of_an_error_is_shown_once(capsys: pytest.CaptureFixture[str], message: str, times: int) -> None:
    """Whether its message has it or not."""
    failed = RunError(cls="ThrottledError", code="Throttled", message=message, request_id=None, hint=None)

    show_run(Output(as_json=False), a_run(outcome=Outcome.FAILED, error=failed))

    assert capsys.readouterr().err.count("Throttled") == times


@pytest.mark.parametrize(
    ("reason", "waits_for", "said"),
    [
        (f"edited; {WAITS_FOR_WINDOW}: opens Monday", "maintenance-window", "put:1 (waits for the maintenance window)"),
        ("edited; version budget used up", "version-budget", "put:1 (waits for the version budget)"),
    ],
)
def test_a_run_that_waits_says_for_what(
    capsys: pytest.CaptureFixture[str], reason: str, waits_for: str, said: str
) -> None:
    """Its outcome is unchanged, which a put beside it would contradict."""
    put = ChangeResult(action="put", remote_name="web", outcome=Outcome.UNCHANGED, reason=reason)
    run = a_run(counts={"put": 1}, changes=(put,))

    show_run(Output(as_json=False), run)

    assert f"web  waits: {reason}" in capsys.readouterr().out
    document = run_document(run)
    assert (document["waits_for"], document["outcome"], row_of(run)["changes"]) == (waits_for, "unchanged", said)
    assert run_document(a_run())["waits_for"] is None


@pytest.mark.parametrize(
    ("writes", "calls", "said"), [(0, 1, "0 new versions, about 1 call\n"), (1, 2, "1 new version, about 2 calls\n")]
)
def test_one_is_not_many(capsys: pytest.CaptureFixture[str], writes: int, calls: int, said: str) -> None:
    """Also where the number is filled in."""
    estimate = {"writes": writes, "calls": calls}

    show_plan(Output(as_json=False), {"problems": [], "changes": [], "held": [], "estimate": estimate, "digest": None})

    assert capsys.readouterr().out == said
