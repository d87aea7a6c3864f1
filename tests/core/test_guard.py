"""What waits for an approval, and how long an approval holds."""

import pytest

from phasesync.core import guard
from phasesync.core.change import Plan, Policy
from phasesync.core.guard import Guarded
from phasesync.core.model import SyncConfig
from phasesync.core.plan import make_plan
from phasesync.core.remote import Action
from tests.support.values import (
    ACCOUNT,
    INSTANCE,
    NAME,
    NOW,
    REGION,
    config,
    desired,
    entry,
    new_entry,
    observed,
    payload,
    plan,
)


def of_keys(count: int) -> dict[str, str]:
    """Values for this many keys."""
    return {f"KEY{number:02}": "x" for number in range(count)}


def judge(plan: Plan, config: SyncConfig, approved: str | None, **rest: object) -> Guarded:
    """Judge at a fixed time."""
    return guard.judge(plan, config, approved, now=NOW, **rest)  # type: ignore[arg-type]


def held(before: int, after: int, **limits: object) -> bool:
    """Whether a change from this many to that many keys waits."""
    wrote = payload(of_keys(before))
    journal = entry(fingerprint=wrote.fingerprint, keys=wrote.keys)
    changes = plan(desired(payload=payload(of_keys(after))), observed(), journal)
    return bool(judge(changes, config(**limits), None).held)


@pytest.mark.parametrize(
    ("before", "after", "waits"),
    [
        (1, 0, True),
        (10, 0, True),
        (2, 1, False),
        (3, 1, True),
        (4, 2, False),
        (5, 2, True),
        (10, 5, False),
        (10, 4, True),
        (10, 20, False),
        (0, 0, False),
    ],
)
def test_emptying_and_dropping_more_than_half_wait(before: int, after: int, waits: bool) -> None:
    """Emptying always; shrinking from two dropped keys and more than half on."""
    assert held(before, after) is waits


def test_the_limits_are_the_syncs() -> None:
    """A sync may set its own."""
    assert held(10, 8, shrink_limit_percent=10)
    assert not held(10, 2, shrink_limit_percent=90)
    assert not held(10, 4, shrink_limit_keys=7)


def test_the_message_has_numbers_and_limits() -> None:
    """The operator can decide on it."""
    wrote = payload(of_keys(10))
    changes = plan(
        desired(payload=payload(of_keys(3))), observed(), entry(fingerprint=wrote.fingerprint, keys=wrote.keys)
    )

    (first, *_) = judge(changes, config(), None).held

    assert "7 of 10 keys" in first.reason
    assert "50 %" in first.reason


def test_a_first_write_from_an_empty_source_waits() -> None:
    """Probably a mistyped path."""
    guarded = judge(plan(desired(payload=payload({})), None, new_entry()), config(), None)

    assert [one.change.action for one in guarded.held] == [Action.CREATE]
    assert guarded.go == ()


def test_a_sync_that_moves_waits() -> None:
    """The old object would stay behind with old values."""
    moved = make_plan(
        [desired()],
        {NAME: None},
        {NAME: new_entry()},
        [entry(remote_name="old")],
        Policy(instance_id=INSTANCE, account=ACCOUNT, region=REGION, now=NOW),
    )

    assert [one.change.remote_name for one in judge(moved, config(), None).held] == [NAME]


def test_what_did_not_trip_goes_out() -> None:
    """Only the value waits; the description does not."""
    changes = plan(desired(payload=payload({}), description="new"), observed(), entry())
    guarded = judge(changes, config(), None)

    assert [change.action for change in guarded.go] == [Action.SET_DESCRIPTION]
    assert [one.change.action for one in guarded.held] == [Action.PUT]


def test_an_approval_covers_the_held_changes_alone() -> None:
    """It survives a change of something else and lapses when the held payload changes."""
    three = payload(of_keys(3))
    journal = entry(fingerprint=three.fingerprint, keys=three.keys)
    digest = judge(plan(desired(payload=payload({})), observed(), journal), config(), None).digest
    with_text = plan(desired(payload=payload({}), description="new"), observed(), journal)
    other = plan(desired(payload=payload({"KEY00": "y"})), observed(), journal)

    assert judge(with_text, config(), digest).approved
    assert not judge(with_text, config(), digest).held
    assert not judge(other, config(), digest).approved


def test_a_digest_tells_nothing_of_the_values() -> None:
    """Sixteen hex digits over keyed fingerprints."""
    digest = judge(plan(desired(payload=payload({})), None, new_entry()), config(), None).digest

    assert digest is not None
    assert len(digest) == 16
    assert int(digest, 16) >= 0
