"""What a plan and a run look like on a terminal."""

from datetime import UTC, datetime

import pytest

from phasesync.cli.output import Output
from phasesync.cli.show import show_plan, show_run
from phasesync.core.model import Run, RunError
from phasesync.core.status import Outcome, Trigger


def test_key_names_cannot_turn_the_direction_of_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A key may hold any letter, format characters among them."""
    change = {"action": "put", "remote_name": "web", "reason": "edited", "bytes": 1}
    keys = {"added": ["a\u202eb"], "changed": [], "removed": []}
    plan = {"changes": [change | {"keys": keys}], "held": [], "estimate": {"writes": 1, "calls": 2}, "digest": None}

    show_plan(Output(as_json=False), plan)

    assert "+ a b = ***" in capsys.readouterr().out


@pytest.mark.parametrize(("message", "times"), [("AWS refuses (Throttled)", 1), ("AWS refuses", 1)])
def test_the_code_of_an_error_is_shown_once(capsys: pytest.CaptureFixture[str], message: str, times: int) -> None:
    """Whether its message has it or not."""
    now = datetime.now(UTC)
    run = Run(
        id="1",
        sync_id="1",
        sync="web",
        trigger=Trigger.MANUAL,
        actor="me",
        attempt=1,
        outcome=Outcome.FAILED,
        started_at=now,
        ended_at=now,
        revisions={},
        counts={},
        aws_calls=1,
        versions_written=0,
        error=RunError(cls="ThrottledError", code="Throttled", message=message, request_id=None, hint=None),
        next_attempt_at=None,
        changes=(),
    )

    show_run(Output(as_json=False), run)

    assert capsys.readouterr().err.count("Throttled") == times


@pytest.mark.parametrize(
    ("writes", "calls", "said"), [(0, 1, "0 new versions, about 1 call\n"), (1, 2, "1 new version, about 2 calls\n")]
)
def test_one_is_not_many(capsys: pytest.CaptureFixture[str], writes: int, calls: int, said: str) -> None:
    """Also where the number is filled in."""
    estimate = {"writes": writes, "calls": calls}

    show_plan(Output(as_json=False), {"changes": [], "held": [], "estimate": estimate, "digest": None})

    assert capsys.readouterr().out == said
