"""What is held, for those who are to see no name: fixed words and numbers, whatever the guard holds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phasesync.core.change import Change, DecisionRow, Plan
from phasesync.core.model import SecretValue, ValueType
from phasesync.core.payloads import build_payload
from phasesync.core.planning.guard import MAX_ENFORCEMENTS, GuardRule, HeldChange, apply_guard, brief_of
from phasesync.core.remote import CURRENT, Action
from phasesync.core.sync import OnDrift
from tests.support.digests import FixedDigests
from tests.support.values import NOW, config, desired, entry, new_entry, observed, payload, plan

CANARY = "kanarienvogel7f3a9c"
"""Stands in every name and reason of these plans."""


def keys(count: int, value: str = CANARY) -> dict[str, str]:
    return {f"{CANARY}{number}": value for number in range(count)}


def from_keys_to(before: int, **wanted: str) -> Plan:
    wrote = payload(keys(before))
    return plan(
        desired(payload=payload(wanted), description=CANARY),
        observed(),
        entry(fingerprint=wrote.fingerprint, keys=wrote.keys),
    )


def drifted(**journal: object) -> Plan:
    return plan(desired(), observed(versions={CANARY: frozenset({CURRENT})}), entry(**journal))


def binary() -> Plan:
    new = build_payload(CANARY, CANARY, SecretValue(b"\xff", ValueType.BINARY), FixedDigests())
    return plan(desired(payload=new), observed(), entry(binary=False, keys=new.keys, fingerprint="before"))


def empty_reference() -> Plan:
    wrote, new = payload(keys(9)), payload({**keys(9), f"{CANARY}1": ""})
    return plan(
        desired(payload=replace(new, empty_by_reference=frozenset({f"{CANARY}1"}))),
        observed(),
        entry(fingerprint=wrote.fingerprint, keys=wrote.keys),
    )


def moved() -> Plan:
    made = plan(desired(), None, new_entry())
    return replace(made, changes=tuple(replace(change, moves=True) for change in made.changes))


def deletions() -> Plan:
    changes = [
        Change(
            action=Action.DELETE,
            remote_name=f"{CANARY}{number}",
            row=DecisionRow.NO_LONGER_WANTED,
            reason=CANARY,
            entry=entry(remote_name=f"{CANARY}{number}"),
            deletes=True,
        )
        for number in range(3)
    ]
    return Plan(changes=tuple(changes), objects=4)


PLANS = {
    GuardRule.DRIFT: drifted,
    GuardRule.CONTESTED: lambda: drifted(enforced_at=(NOW,) * MAX_ENFORCEMENTS),
    GuardRule.SOURCE_EMPTY: lambda: plan(desired(payload=payload({})), None, new_entry()),
    GuardRule.MOVES: moved,
    GuardRule.EMPTYING: lambda: from_keys_to(9),
    GuardRule.SHRINKING: lambda: from_keys_to(9, **keys(2)),
    GuardRule.EMPTY_REFERENCE: empty_reference,
    GuardRule.BINARY: binary,
    GuardRule.DELETIONS: deletions,
    GuardRule.RESTORED: drifted,
}


def held_by(rule: GuardRule) -> tuple[HeldChange, ...]:
    """What the guard holds by a rule, of a plan whose names and reasons are all the canary."""
    made = PLANS[rule]()
    made = replace(
        made,
        changes=tuple(
            replace(change, reason=CANARY, remote_name=change.remote_name if change.deletes else CANARY)
            for change in made.changes
        ),
    )
    limits = config(on_drift=OnDrift.HOLD if rule is GuardRule.DRIFT else OnDrift.ENFORCE, remote_name=CANARY)
    return apply_guard(made, limits, None, now=NOW, restored=rule is GuardRule.RESTORED).held


@pytest.mark.parametrize("rule", GuardRule)
def test_no_name_is_in_it(rule: GuardRule) -> None:
    held = held_by(rule)
    assert {item.rule for item in held} == {rule}
    assert CANARY in repr(held), "there are names that could be in it"
    brief = brief_of(held)
    assert brief
    assert CANARY not in brief


def test_the_worst_is_told_with_its_numbers_and_the_rest_is_counted() -> None:
    assert brief_of(()) is None
    shrinking = brief_of(held_by(GuardRule.SHRINKING))
    assert shrinking == "would drop 7 of 9 keys; the limit is 50 % (from 2 keys on)"
    deleting = brief_of(held_by(GuardRule.DELETIONS))
    assert deleting is not None
    assert deleting.startswith("would delete 3 of 4 objects; the limit is 20 %")
    all_of_them = (*held_by(GuardRule.DRIFT), *held_by(GuardRule.SHRINKING), *held_by(GuardRule.DELETIONS))
    assert brief_of(all_of_them) == f"{deleting}; also held: 1 object (shrinking), 1 object (drift)"
    others = tuple(replace(item, change=replace(item.change, remote_name="x")) for item in held_by(GuardRule.SHRINKING))
    both = brief_of((*held_by(GuardRule.SHRINKING), *others))
    assert both == f"{shrinking}; also held: 1 object (shrinking)"
