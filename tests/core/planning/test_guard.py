"""What waits for an approval, and how long an approval holds."""

from dataclasses import replace
from datetime import timedelta

import pytest

from phasesync.core.change import Change, DecisionRow, Plan, PlanContext
from phasesync.core.model import SecretValue, ValueType
from phasesync.core.payloads import build_payload
from phasesync.core.planning import guard
from phasesync.core.planning.guard import MAX_ENFORCEMENTS, GuardedPlan, GuardRule
from phasesync.core.planning.metadata import wanted_metadata
from phasesync.core.planning.plan import make_plan
from phasesync.core.planning.version_budget import BURST, MANUAL_EXTRA, REFILL
from phasesync.core.remote import CURRENT, Action
from phasesync.core.sync import OnDrift, SyncConfig
from tests.support.digests import FixedDigests
from tests.support.values import (
    ACCOUNT,
    INSTANCE,
    NAME,
    NOW,
    REGION,
    TOKEN,
    config,
    desired,
    entry,
    intent,
    new_entry,
    observed,
    payload,
    plan,
)

OTHER = "44444444-4444-4444-8444-444444444444"
"""A version that someone else wrote."""


def of_keys(count: int) -> dict[str, str]:
    """Values for this many keys."""
    return {f"KEY{number:02}": "x" for number in range(count)}


def judge(plan: Plan, config: SyncConfig, approved: str | None, **rest: object) -> GuardedPlan:
    """Judge at a fixed time."""
    return guard.apply_guard(plan, config, approved, now=NOW, **rest)  # type: ignore[arg-type]


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
        PlanContext(instance_id=INSTANCE, account=ACCOUNT, region=REGION, now=NOW),
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


# --- drift


def drifted(**journal: object) -> Plan:
    """A plan for an object that someone else wrote: its value is put back."""
    return plan(desired(), observed(versions={OTHER: frozenset({CURRENT})}), entry(**journal))


def test_drift_is_repaired_or_held_as_the_sync_says() -> None:
    enforced = judge(drifted(), config(), None)
    assert ([change.action for change in enforced.go], enforced.held) == ([Action.PUT], ())

    (waits,) = judge(drifted(), config(on_drift=OnDrift.HOLD), None).held
    assert (waits.rule, waits.change.action) == (GuardRule.DRIFT, Action.PUT)
    assert "the sync holds on drift" in waits.reason


def test_drift_of_a_description_is_held_too_and_a_change_of_the_sync_is_not() -> None:
    """They differ in what the sync was in step with before."""
    wanted = desired(description="ours")
    theirs = plan(wanted, observed(description="theirs"), entry(metadata=wanted_metadata(wanted)))
    of_the_sync = plan(wanted, observed(description="theirs"), entry())

    assert [one.rule for one in judge(theirs, config(on_drift=OnDrift.HOLD), None).held] == [GuardRule.DRIFT]
    assert judge(of_the_sync, config(on_drift=OnDrift.HOLD), None).held == ()


@pytest.mark.parametrize(
    ("hours_ago", "contested"),
    [((), False), ((1, 2), False), ((1, 2, 3), True), ((1, 2, 25), False), ((1, 2, 3, 25), True)],
)
def test_what_was_repaired_three_times_within_a_day_is_contested(hours_ago: tuple[int, ...], contested: bool) -> None:
    enforced = tuple(NOW - timedelta(hours=hours) for hours in hours_ago)
    held = judge(drifted(enforced_at=enforced), config(), None).held
    assert [one.rule for one in held] == ([GuardRule.CONTESTED] if contested else [])
    if contested:
        assert "repaired 3 times within 24 h (limit 3)" in held[0].reason


def test_an_edit_of_a_contested_object_is_written() -> None:
    """Only what someone else changed is held."""
    journal = entry(enforced_at=(NOW,) * MAX_ENFORCEMENTS)
    assert judge(plan(desired(payload=payload({"URL": "new", "USER": "shop"})), observed(), journal), config(), None).go


# --- binary


@pytest.mark.parametrize(
    ("was", "becomes", "waits"),
    [(False, True, True), (True, False, False), (True, True, False), (False, False, False), (None, True, True)],
)
def test_text_that_would_become_binary_waits(was: bool | None, becomes: bool, waits: bool) -> None:
    """Readers of SecretString would find nothing. None: what was written last is not known, and counts as text."""
    value = SecretValue(b"\xff", ValueType.BINARY) if becomes else SecretValue("new")
    new = build_payload(NAME, "URL", value, FixedDigests())
    changes = plan(desired(payload=new), observed(), entry(binary=was, keys={"URL": "x"}))
    assert [one.rule for one in judge(changes, config(), None).held] == ([GuardRule.BINARY] if waits else [])


# --- deletions


def deletions(count: int, *, of: int, waiting: int = 0, step: Action = Action.DELETE) -> Plan:
    """A plan that deletes some of the objects of a sync, beside more that wait for their grace."""

    def change(number: int, **what: object) -> Change:
        name = f"shop/{number:02}"
        made = Change(
            action=Action.NOOP,
            remote_name=name,
            row=DecisionRow.NO_LONGER_WANTED,
            reason="gone",
            entry=entry(remote_name=name),
        )
        return replace(made, **what)  # type: ignore[arg-type]

    going = [change(number, action=step, deletes=True) for number in range(count)]
    coming = [change(number, due_at=NOW) for number in range(count, count + waiting)]
    return Plan(changes=(*going, *coming), objects=of)


@pytest.mark.parametrize(
    ("count", "objects", "waits"),
    [
        (1, 1, False),
        (2, 2, True),
        (1, 2, False),
        (2, 3, False),
        (3, 3, True),
        (3, 14, True),
        (3, 15, False),
        (4, 20, False),
        (5, 20, True),
        (60, 300, False),
        (61, 300, True),
    ],
)
def test_many_deletions_wait_and_so_does_the_last_of_several(count: int, objects: int, waits: bool) -> None:
    """From three objects and more than a fifth on; or all of two or more."""
    guarded = judge(deletions(count, of=objects), config(), None)
    assert {one.rule for one in guarded.held} == ({GuardRule.DELETIONS} if waits else set())
    assert len(guarded.held) == (count if waits else 0)
    assert len(guarded.go) == (0 if waits else count)


def test_what_waits_for_its_grace_counts_as_well() -> None:
    """Else many keys that go one after the other would never be many."""
    assert judge(deletions(2, of=12), config(), None).held == ()
    guarded = judge(deletions(2, of=12, waiting=1), config(), None)
    assert len(guarded.held) == 2
    assert "would delete 3 of 12 objects; the limit is 20 % (from 3 objects on)" in guarded.held[0].reason


def test_copies_that_go_before_their_object_are_held_with_it() -> None:
    guarded = judge(deletions(2, of=2, step=Action.REPLICATE), config(), None)
    assert [one.change.action for one in guarded.held] == [Action.REPLICATE] * 2


def test_the_limits_of_deletions_are_the_syncs() -> None:
    assert judge(deletions(3, of=14), config(delete_limit_percent=50), None).held == ()
    assert judge(deletions(3, of=14), config(delete_limit_objects=4), None).held == ()
    assert judge(deletions(1, of=2), config(delete_limit_objects=1), None).held
    assert judge(deletions(2, of=2), config(delete_limit_percent=100, delete_limit_objects=9), None).held


# --- the version budget


def edited(**journal: object) -> Plan:
    """A plan that writes a new value."""
    return plan(desired(payload=payload({"URL": "new", "USER": "shop"})), observed(), entry(**journal))


def test_a_write_beyond_the_budget_is_delayed_until_there_is_room() -> None:
    guarded = judge(edited(versions_at=[NOW] * BURST), config(), None)

    assert (guarded.go, guarded.held) == ((), ())
    assert [(one.change.action, one.until) for one in guarded.delayed] == [(Action.PUT, NOW + REFILL)]
    assert judge(edited(versions_at=[NOW] * (BURST - 1)), config(), None).delayed == ()


def test_a_person_may_use_what_is_kept_for_that() -> None:
    assert judge(edited(versions_at=[NOW] * BURST), config(), None, manual=True).delayed == ()
    assert judge(edited(versions_at=[NOW] * (BURST + MANUAL_EXTRA)), config(), None, manual=True).delayed


def test_a_write_that_may_have_landed_is_not_delayed() -> None:
    """It spends its token once more, which makes no further version."""
    assert judge(edited(versions_at=[NOW] * 2 * BURST, intent=intent()), config(), None).delayed == ()


def test_only_values_wait_for_the_budget() -> None:
    changes = plan(
        desired(payload=payload({"URL": "new", "USER": "shop"}), description="new"),
        observed(),
        entry(versions_at=(NOW,) * BURST),
    )
    guarded = judge(changes, config(), None)
    assert [change.action for change in guarded.go] == [Action.SET_DESCRIPTION]
    assert [one.change.action for one in guarded.delayed] == [Action.PUT]


def test_what_is_held_is_not_delayed_and_what_is_approved_may_be() -> None:
    changes = plan(desired(payload=payload({})), observed(), entry(versions_at=(NOW,) * BURST))
    first = judge(changes, config(), None)
    assert (len(first.held), first.delayed) == (1, ())

    approved = judge(changes, config(), first.digest)
    assert (approved.held, len(approved.delayed), approved.approved) == ((), 1, True)


# --- digests


def digest(changes: Plan, **limits: object) -> str:
    """What an approval of the held changes names."""
    found = judge(changes, config(**limits), None).digest
    assert found is not None
    return found


EMPTIED = {"wanted": desired(payload=payload({})), "seen": observed(), "journal": entry()}


def emptied(**changes: object) -> Plan:
    """A plan that empties an object; each part may be another."""
    return plan(**(EMPTIED | changes))  # type: ignore[arg-type]


def test_a_digest_is_the_same_for_the_same_held_changes() -> None:
    with_more = desired(payload=payload({}), description="new")
    assert digest(emptied()) == digest(emptied()) == digest(emptied(wanted=with_more))
    assert digest(emptied()) == digest(emptied(journal=entry(versions_at=(NOW,) * BURST)))


def test_a_digest_is_another_for_another_place_or_rule_or_value() -> None:
    nine = payload(of_keys(9))
    shrinking = plan(
        desired(payload=payload(of_keys(1))), observed(), entry(fingerprint=nine.fingerprint, keys=nine.keys)
    )
    one_left = plan(
        desired(payload=payload(of_keys(2))), observed(), entry(fingerprint=nine.fingerprint, keys=nine.keys)
    )
    every = [
        digest(emptied()),
        digest(emptied(journal=entry(account="999999999999"))),
        digest(emptied(journal=entry(region="us-east-1"))),
        digest(shrinking),
        digest(one_left),
        digest(deletions(2, of=2)),
        digest(deletions(3, of=3)),
        digest(drifted(), on_drift=OnDrift.HOLD),
    ]
    assert len(set(every)) == len(every)


def test_a_digest_is_another_where_the_same_payload_trips_another_rule() -> None:
    """Who approved that text becomes binary has not seen that keys are dropped as well."""
    new = build_payload(NAME, "URL", SecretValue(b"\xff", ValueType.BINARY), FixedDigests())
    binary = plan(desired(payload=new), observed(), entry(binary=False, keys=new.keys, fingerprint="before"))
    dropped = plan(desired(payload=new), observed(), entry(keys=payload(of_keys(9)).keys, fingerprint="before"))

    assert [one.rule for one in judge(binary, config(), None).held] == [GuardRule.BINARY]
    assert [one.rule for one in judge(dropped, config(), None).held] == [GuardRule.SHRINKING]
    assert digest(binary) != digest(dropped)


def test_an_approval_of_drift_is_for_the_version_that_was_seen() -> None:
    """What someone else writes afterwards is not written over unseen."""
    later = plan(desired(), observed(versions={TOKEN: frozenset({CURRENT})}), entry())
    seen = digest(drifted(), on_drift=OnDrift.HOLD)

    assert judge(drifted(), config(on_drift=OnDrift.HOLD), seen).approved
    assert not judge(later, config(on_drift=OnDrift.HOLD), seen).approved


def test_one_more_held_change_lapses_the_approval_of_all() -> None:
    two = digest(deletions(2, of=2))
    guarded = judge(deletions(3, of=3), config(), two)
    assert (guarded.approved, len(guarded.held), guarded.go) == (False, 3, ())


def test_where_nothing_is_held_there_is_no_digest_and_nothing_to_approve() -> None:
    guarded = judge(edited(), config(), "0123456789abcdef")
    assert (guarded.digest, guarded.approved, guarded.held) == (None, False, ())
