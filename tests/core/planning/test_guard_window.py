"""What may go out unattended in small steps: no more than in one, since the last approval, within the window."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.change import VALUE_WRITES, Change, DecisionRow, Plan
from phasesync.core.model import SecretValue, ValueType
from phasesync.core.payloads import build_json_payload, build_payload
from phasesync.core.planning.guard import GuardedPlan, GuardRule, apply_guard
from phasesync.core.planning.journal import (
    clamp_to_clock,
    intend_write,
    settle_by_evidence,
    settle_used_token,
    settle_write,
)
from phasesync.core.planning.losses import LONGEST_WINDOW, object_losses, recent_lifetimes
from phasesync.core.remote import CURRENT, Action, JournalEntry, KeyContent, KeyStep, Lifetime, Payload
from phasesync.core.sync import SyncConfig
from phasesync.errors import InvalidInputError
from tests.support.digests import FixedDigests
from tests.support.values import ARN, HOUR, NAME, NOW, VERSION, config, desired, entry, new_entry, observed, plan

DAY = 24 * HOUR
LIMITED = (GuardRule.EMPTYING, GuardRule.SHRINKING)


def payload(values: Mapping[str, str], *, referring: tuple[str, ...] = ()) -> Payload:
    """A payload of these texts, of which some have references in the store."""
    return build_json_payload(
        NAME, {key: SecretValue(value) for key, value in values.items()}, FixedDigests(), referring=referring
    )


class Object:
    """One remote object, as a run after the other leaves it."""

    def __init__(self, values: Mapping[str, str], *, at: datetime = NOW, **limits: object) -> None:
        self.config: SyncConfig = config(**limits)
        self.now = at
        self.entry = new_entry()
        self._write(payload(values), approved=True)

    def run(self, values: Mapping[str, str], *, referring: tuple[str, ...] = (), approved: bool = False) -> GuardedPlan:
        """Write these values if the guard lets them out, or a person approves them; return what it says."""
        wanted = payload(values, referring=referring)
        found = self.judge(wanted)
        if approved and found.digest is not None:
            found = self.judge(wanted, approved=found.digest)
        for change in found.go:
            if change.action in VALUE_WRITES:
                self._write(wanted, approved=change.approved)
        return found

    def judge(self, wanted: Payload, approved: str | None = None) -> GuardedPlan:
        """Return what the guard says of a payload now."""
        seen = observed(versions={self.entry.version_id or VERSION: frozenset({CURRENT})})
        rested = replace(clamp_to_clock(self.entry, self.now), versions_at=())
        return apply_guard(plan(desired(payload=wanted), seen, rested), self.config, approved, now=self.now)

    def _write(self, wanted: Payload, *, approved: bool) -> None:
        action = Action.PUT if self.entry.written_before else Action.CREATE
        intended = intend_write(self.entry, action, wanted, VERSION, self.now, approved=approved)
        self.entry = settle_write(intended, wanted, arn=ARN, version_id=VERSION)


def of_keys(*names: str) -> dict[str, str]:
    """A value for each key."""
    return dict.fromkeys(names, "x")


def rules(found: GuardedPlan) -> list[GuardRule]:
    """Why something waits."""
    return [one.rule for one in found.held]


def test_small_steps_take_no_more_than_one() -> None:
    """Five keys, one after the other: each step is at most half of what is left."""
    one = Object(of_keys("A", "B", "C", "D", "E"))

    assert rules(one.run(of_keys("A", "B", "C", "D"))) == []
    assert rules(one.run(of_keys("A", "B", "C"))) == []
    (held,) = one.run(of_keys("A", "B")).held

    assert held.rule is GuardRule.SHRINKING
    assert held.reason == (
        "would drop 3 of 5 keys within 24 h since the last approval, 1 of them with this change; "
        "the limit is 50 % (from 2 keys on), in one step and within 24 h"
    )


def test_it_stays_held_until_the_window_has_passed() -> None:
    one = Object(of_keys("A", "B", "C", "D", "E"))
    one.run(of_keys("A", "B", "C", "D"))
    one.run(of_keys("A", "B", "C"))
    one.now += DAY - timedelta(seconds=1)
    assert rules(one.run(of_keys("A", "B"))) == [GuardRule.SHRINKING]

    one.now += timedelta(seconds=1)

    assert rules(one.run(of_keys("A", "B"))) == []


def test_a_step_that_drops_nothing_is_not_held_for_others() -> None:
    one = Object(of_keys("A", "B", "C", "D", "E"), shrink_limit_percent=100)
    one.run(of_keys("A"))
    one.config = config()

    assert rules(one.run({"A": "another"})) == []
    assert rules(one.run(of_keys("A", "Z"))) == []
    assert rules(one.run(of_keys("A"))) == [GuardRule.SHRINKING]


def test_an_approval_begins_anew() -> None:
    one = Object(of_keys("A", "B", "C", "D", "E", "F"))
    one.run(of_keys("A", "B", "C", "D"))
    assert one.run(of_keys("A", "B"), approved=True).approved

    assert rules(one.run(of_keys("A"))) == []  # 1 of 2, as ever


def test_keys_that_came_back_are_not_lost() -> None:
    one = Object(of_keys("A", "B", "C", "D", "E"))
    one.run(of_keys("A", "B", "C"))
    one.run(of_keys("A", "B", "C", "D", "E"))

    assert rules(one.run(of_keys("C", "D", "E"))) == []


def test_keys_that_are_added_meanwhile_make_no_loss_look_small() -> None:
    """Else everything of before could go: what there was at the start of the window counts by itself."""
    one = Object(of_keys("A", "B", "C", "D"))
    many = of_keys(*(f"NEW{number}" for number in range(8)))
    one.run(of_keys("A", "B", "C", "D") | many)

    assert rules(one.run(of_keys("A", "B") | many)) == []
    assert rules(one.run(of_keys("A") | many)) == [GuardRule.SHRINKING]


def test_keys_that_came_and_went_within_the_window_are_lost_too() -> None:
    """A new object of the day is protected as well."""
    one = Object({}, at=NOW)
    names = [f"K{number}" for number in range(10)]
    one.run(of_keys(*names))
    for left in range(9, 4, -1):
        assert rules(one.run(of_keys(*names[:left]))) == []

    assert rules(one.run(of_keys(*names[:4]))) == [GuardRule.SHRINKING]


def test_the_window_is_the_sync_s() -> None:
    one = Object(of_keys("A", "B", "C", "D", "E"), guard_window=2 * HOUR)
    one.run(of_keys("A", "B", "C"))
    one.now += HOUR
    (held,) = one.run(of_keys("A", "B")).held
    assert "within 2 h" in held.reason
    one.now += HOUR
    assert rules(one.run(of_keys("A", "B"))) == []


# --- values that become nothing


def test_values_that_become_empty_are_dropped_ones() -> None:
    one = Object(of_keys("A", "B", "C"))

    (held,) = one.run({"A": "", "B": "", "C": "x"}).held

    assert held.rule is GuardRule.SHRINKING
    assert "would drop 2 of 3 keys, all by becoming empty" in held.reason
    assert held.change.keys.emptied == ("A", "B")


def test_one_of_several_that_a_person_empties_goes_out() -> None:
    """Who says --allow-empty means it; the limits are for many."""
    one = Object(of_keys("A", "B", "C"))
    assert rules(one.run({"A": "", "B": "x", "C": "x"})) == []


def test_emptied_in_small_steps_and_removed_afterwards_is_lost_once() -> None:
    one = Object(of_keys("A", "B", "C", "D"))
    assert rules(one.run({"A": "", "B": "x", "C": "x", "D": "x"})) == []
    assert rules(one.run({"B": "", "C": "x", "D": "x"})) == []
    assert rules(one.run({"C": "x", "D": "x"})) == []  # still 2 of 4

    assert rules(one.run({"D": "x"})) == [GuardRule.SHRINKING]


@pytest.mark.parametrize("values", [{"A": ""}, {"A": "", "B": ""}, {"NEW": ""}])
def test_a_payload_that_has_nothing_but_empty_values_left_is_emptied(values: dict[str, str]) -> None:
    one = Object(of_keys("A", "B"), shrink_limit_percent=100)
    assert rules(one.run(values)) == [GuardRule.EMPTYING]


def test_one_value_that_a_reference_empties_waits() -> None:
    """Who emptied the source need not know who refers to it."""
    one = Object(of_keys("A", "B", "C"))

    (held,) = one.run({"A": "", "B": "x", "C": "x"}, referring=("A",)).held

    assert held.rule is GuardRule.EMPTY_REFERENCE
    assert held.reason == "a value that had content would be empty, because the target of the reference is empty"
    assert one.run({"A": "", "B": "x", "C": "x"}, referring=("A",), approved=True).approved
    assert rules(one.run({"A": "", "B": "y", "C": "x"}, referring=("A",))) == []


def test_what_was_never_more_than_empty_may_stay_so() -> None:
    one = Object({"A": "", "B": "x"})
    assert rules(one.run({"A": "", "B": "y", "NEW": ""}, referring=("A", "NEW"))) == []


@pytest.mark.parametrize(
    ("text", "nothing"), [('""', True), ("null", True), (" { } ", True), ("[]", True), ("0", False), ('[""]', False)]
)
def test_documents_that_are_nothing(text: str, nothing: bool) -> None:
    made = build_json_payload(NAME, {"A": SecretValue(text, ValueType.JSON)}, FixedDigests())
    assert made.empty == ({"A"} if nothing else frozenset())


def test_an_object_a_key_that_becomes_empty_is_no_payload() -> None:
    """AWS takes no empty value, so nothing is written there."""
    with pytest.raises(InvalidInputError, match="A is empty"):
        build_payload(NAME, "A", SecretValue(""), FixedDigests(), referring=("A",))
    assert build_payload(NAME, "B", SecretValue('""', ValueType.JSON), FixedDigests()).empty == {"B"}


# --- journals of an earlier release


def test_an_earlier_journal_does_not_say_what_was_empty() -> None:
    """What is empty now and has the same digest was empty then; anything else had content."""
    wrote = payload({"A": "", "B": "", "C": "x", "D": "x", "E": "x"})
    one = Object({})
    one.entry = entry(keys=wrote.keys, fingerprint=wrote.fingerprint)

    assert rules(one.run({"A": "", "B": "", "C": "x", "D": "x", "E": ""})) == []
    assert one.entry.empty == ("A", "B", "E")
    assert one.entry.steps == (KeyStep(at=NOW, former={"E": KeyContent.FULL}),)


# --- retries, crashes, clocks


def test_a_write_that_is_tried_again_counts_once() -> None:
    """Until it is known to have landed nothing is lost; how it is found out does not matter."""
    one = Object(of_keys("A", "B", "C", "D"))
    fewer = payload(of_keys("A", "B"))
    first = intend_write(one.entry, Action.PUT, fewer, "t", NOW)
    again = intend_write(first, Action.PUT, fewer, "t", NOW + HOUR)
    assert again.steps == one.entry.steps == ()
    assert again.intent is not None

    settled = [
        settle_write(again, fewer, arn=ARN, version_id="t"),
        settle_used_token(again, again.intent, arn=ARN),
        settle_by_evidence(again, observed(versions={"t": frozenset({CURRENT})})),
    ]

    step = KeyStep(at=NOW + HOUR, former={"C": KeyContent.FULL, "D": KeyContent.FULL})
    assert [one.steps for one in settled] == [(step,)] * 3


def test_an_approved_write_that_is_found_landed_begins_anew_too() -> None:
    one = Object(of_keys("A", "B", "C", "D", "E"))
    one.run(of_keys("A", "B", "C"))
    intended = intend_write(one.entry, Action.PUT, payload(of_keys("A")), "t", NOW, approved=True)

    assert settle_by_evidence(intended, observed(versions={"t": frozenset({CURRENT})})).steps == ()


def test_a_repair_of_drift_loses_nothing() -> None:
    one = Object(of_keys("A", "B", "C", "D", "E"))
    one.run(of_keys("A", "B", "C"))
    before = one.entry.steps
    one._write(payload(of_keys("A", "B", "C")), approved=False)
    assert one.entry.steps == before


@pytest.mark.parametrize("back", [HOUR, 30 * DAY])
def test_a_clock_that_was_set_back_neither_ends_nor_prolongs_the_window(back: timedelta) -> None:
    one = Object(of_keys("A", "B", "C", "D", "E"))
    one.run(of_keys("A", "B", "C"))
    one.now -= back

    assert rules(one.run(of_keys("A", "B"))) == [GuardRule.SHRINKING]
    one.entry = clamp_to_clock(one.entry, one.now)
    one.now += DAY - timedelta(seconds=1)
    assert rules(one.run(of_keys("A", "B"))) == [GuardRule.SHRINKING]
    one.now += timedelta(seconds=1)
    assert rules(one.run(of_keys("A", "B"))) == []


def test_steps_are_kept_for_the_longest_window_alone() -> None:
    one = Object(of_keys("A", "B", "C", "D", "E", "F"))
    one.run(of_keys("A", "B", "C", "D", "E"))
    one.now += LONGEST_WINDOW
    one.run(of_keys("A", "B", "C", "D"))
    assert [step.at for step in one.entry.steps] == [one.now]


# --- any sequence, against a model


Contents = Mapping[str, str]
KEYS = "ABCDEFGHI"
STEPS = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(KEYS), st.sampled_from([None, None, "", "x"]), max_size=3),
        st.sampled_from([timedelta(minutes=1), 5 * HOUR, 13 * HOUR, DAY, -HOUR]),
        st.booleans(),
    ),
    max_size=20,
)
"""Edits of some keys (None unsets one), the time until the next run, and whether a person approves what it holds."""


def worth(state: Contents, key: str) -> int:
    """No key, an empty value, a value."""
    return 0 if key not in state else 2 if state[key] else 1


def too_much(before: Mapping[str, int], after: Contents) -> bool:
    """Whether more than half of a state's keys, and two at least, are worth less afterwards."""
    had = [key for key, was in before.items() if was]
    lost = [key for key in had if worth(after, key) < before[key]]
    return len(lost) >= 2 and 2 * len(lost) > len(had)


@given(STEPS)
def test_no_sequence_of_steps_takes_more_than_the_limit_since_the_last_approval(
    steps: list[tuple[dict[str, str | None], timedelta, bool]],
) -> None:
    """The model keeps every state that AWS had; the journal keeps differences alone."""
    first = of_keys(*KEYS[:6])
    one = Object(first)
    store: dict[str, str | None] = dict(first)
    states: list[tuple[datetime, Contents]] = [(NOW, first)]
    for edit, later, approves in steps:
        store |= edit
        values = {key: value for key, value in store.items() if value is not None}
        one.now += later
        states = [(min(at, one.now), state) for at, state in states]
        one.entry = clamp_to_clock(one.entry, one.now)
        current = states[-1][1]
        recent = [state for at, state in states if one.now - at < DAY]
        start = next((state for at, state in reversed(states) if one.now - at >= DAY), states[0][1])
        seen = [start, *recent]
        start = next((state for state in seen if state), start)  # Of nothing, nothing is lost.

        found = one.run(values, approved=approves)

        bases = [
            {key: worth(current, key) for key in KEYS},
            {key: worth(start, key) for key in KEYS},
            {key: max(worth(state, key) for state in seen) for key in KEYS},
        ]
        loses = any(worth(values, key) < worth(current, key) for key in KEYS)
        emptied = (bool(current) and not values) or (any(current.values()) and not any(values.values()))
        waits = loses and (emptied or any(too_much(base, values) for base in bases))
        assert (found.digest is not None and found.digest != "") is waits
        if approves and waits:
            states = [(one.now, values)]
        elif not waits and values != dict(current):
            states.append((one.now, values))
        assert one.entry.empty == tuple(sorted(key for key, value in states[-1][1].items() if not value))


# --- objects


def made(name: str, **changes: object) -> JournalEntry:
    """The journal of one of many objects."""
    return entry(remote_name=name, **changes)


def test_objects_that_were_deleted_within_the_window_count() -> None:
    """Ten objects, one after the other: the third is more than a fifth."""
    gone = [made("a", deletion_at=NOW - HOUR), made("b", deletion_at=NOW - 2 * HOUR)]
    standing = [made(name) for name in "cdefghij"]
    lives = list(recent_lifetimes(standing, gone, {"c"}))

    losses = object_losses(1, 8, lives, now=NOW, window=DAY)

    assert [(one.lost, one.had) for one in losses] == [(1, 8), (3, 10), (3, 10)]
    assert [(one.lost, one.had) for one in object_losses(1, 8, lives, now=NOW, window=2 * HOUR)][1:] == [(2, 9), (2, 9)]


@pytest.mark.parametrize(("before", "waits"), [(1, False), (2, True)])
def test_a_deletion_waits_for_what_others_before_it_deleted(before: int, waits: bool) -> None:
    """Two of ten may go unattended, in one run or in several."""
    change = Change(
        action=Action.DELETE,
        remote_name="z",
        row=DecisionRow.NO_LONGER_WANTED,
        reason="gone",
        entry=made("z"),
        deletes=True,
    )
    lives = tuple(Lifetime(deleted_at=NOW - HOUR) for _ in range(before))

    found = apply_guard(Plan(changes=(change,), objects=10 - before, lifetimes=lives), config(), None, now=NOW)

    assert rules(found) == ([GuardRule.DELETIONS] if waits else [])


def test_deletions_before_an_approved_one_do_not_count() -> None:
    gone = [
        made("a", deletion_at=NOW - 3 * HOUR),
        made("b", deletion_at=NOW - 2 * HOUR, deletion_approved=True),
        made("c", deletion_at=NOW - HOUR),
    ]
    assert [lifetime.deleted_at for lifetime in recent_lifetimes([], gone, ())] == [NOW - HOUR]


def test_objects_that_were_made_meanwhile_make_no_deletion_look_small() -> None:
    gone = [made("a", deletion_at=NOW - HOUR)]
    standing = [made("b"), *(made(f"new{number}", created_at=NOW - HOUR) for number in range(8))]
    lives = list(recent_lifetimes(standing, gone, {"b"}))

    losses = object_losses(1, 9, lives, now=NOW, window=DAY)

    assert [(one.lost, one.had) for one in losses] == [(1, 9), (2, 2), (2, 10)]
