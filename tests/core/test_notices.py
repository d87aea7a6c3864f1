"""What a notification says of an alert and when: any history, any clock, each step once and in order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.alert import Alert, Ended, SubjectKind
from phasesync.core.notices import (
    GATHER,
    GATHER_MORE,
    MOST_CAUSES,
    Candidate,
    Group,
    Notice,
    Reported,
    holds_now,
    on_news,
    one_end_each,
    pause_after,
    said,
    step_of,
    together,
)
from phasesync.core.notification import Rules, rules_of_words
from phasesync.core.notification_message import Condition, Step
from phasesync.core.notification_text import MANY_CAUSES
from phasesync.core.quiet_hours import canonical_quiet_hours, quiet_until
from phasesync.core.sync import SyncStatus
from phasesync.errors import InvalidInputError

START = datetime(2026, 3, 2, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
OPEN = Alert(
    id="a",
    condition=Condition.FAILING,
    subject_kind=SubjectKind.SYNC,
    subject_id="s",
    subject="web",
    since=START,
)
GROUP = Group(notification_id="n", condition=Condition.FAILING, cause=None)


def candidate(rules: Rules, alert: Alert, notice: Notice, group: Group = GROUP) -> Candidate | None:
    step = step_of(rules, alert, notice)
    return None if step is None else Candidate(group=group, rules=rules, alert=alert, notice=notice, step=step)


@st.composite
def histories(draw: st.DrawFn) -> tuple[Rules, timedelta | None, list[timedelta]]:
    """Rules, how long the alert is open (None: for ever), and when somebody looks."""
    rules = Rules(
        on=(Condition.FAILING,),
        recovered=draw(st.booleans()),
        after=draw(st.sampled_from([None, timedelta(0), 15 * MINUTE, 3 * HOUR])),
        remind_after=draw(st.sampled_from([timedelta(0), MINUTE, HOUR, 30 * HOUR])),
    )
    lasts = draw(st.one_of(st.none(), st.integers(0, 400_000).map(lambda seconds: seconds * SECOND)))
    looks = draw(st.lists(st.integers(1, 50_000).map(lambda seconds: seconds * SECOND), min_size=1, max_size=60))
    return rules, lasts, looks


@given(histories())
def test_each_step_comes_once_and_in_order(history: tuple[Rules, timedelta | None, list[timedelta]]) -> None:
    rules, lasts, looks = history
    alert, notice = OPEN, on_news(rules, OPEN, None, START)
    at, told, times = START, list[Step](), list[datetime]()
    for pause in looks:
        at += pause
        if lasts is not None and alert.ended_at is None and at >= START + lasts:
            alert = replace(alert, ended_at=START + lasts, ended_by=Ended.IN_SYNC)
            notice = on_news(rules, alert, notice, at)
        if notice is None or (one := candidate(rules, alert, notice)) is None:
            continue
        batches = together([one], at)
        if batches.now:
            notice = said(rules, alert, notice, at)
            told.append(one.step)
            times.append(at)

    assert told.count(Step.FIRST) <= 1
    assert told.count(Step.RECOVERED) <= (1 if rules.recovered and lasts is not None else 0)
    if told:
        assert told[0] is Step.FIRST
        assert Step.RECOVERED not in told[:-1]
        after = rules.after or timedelta(0)
        assert times[0] >= START + max(after, GATHER)
    stills = [time for step, time in zip(told, times, strict=True) if step is not Step.RECOVERED]
    for number, (former, following) in enumerate(pairwise(stills), start=1):
        due = pause_after(rules, number)
        assert due is not None
        assert following - former >= due * 3 / 4
    if rules.remind_after == timedelta(0):
        assert Step.STILL not in told
    if lasts is not None and lasts < (rules.after or timedelta(0)) and at >= START + lasts:
        assert told == [] or times[0] < START + lasts, "what ended before its time is not told"


def test_pauses_grow_up_to_a_day() -> None:
    rules = Rules(on=(Condition.FAILING,))
    assert [pause_after(rules, number) for number in (1, 2, 3, 6, 60)] == [
        HOUR,
        2 * HOUR,
        4 * HOUR,
        24 * HOUR,
        24 * HOUR,
    ]
    assert pause_after(replace(rules, remind_after=30 * HOUR), 5) == 30 * HOUR


def test_what_has_one_cause_goes_into_one_message_and_what_has_another_does_not() -> None:
    rules, now = Rules(on=(Condition.FAILING,)), START + GATHER
    other = replace(GROUP, cause="another")
    made = [
        candidate(rules, replace(OPEN, id=str(n)), Notice(number=0, next_at=START + n * SECOND), group)
        for n, group in ((3, GROUP), (5, GROUP), (3, other), (9, other))
    ]
    batches = together([one for one in made if one], now).now
    assert sorted([one.alert.id for one in batch] for batch in batches) == [["3", "5"], ["3", "9"]]
    late = together([one for one in made if one], now, {(GROUP, Step.FIRST): Reported(count=3, newest_at=START)})
    assert [(one.group, at) for one, at in late.later] == [(GROUP, START + MINUTE)]


@pytest.mark.parametrize("step", [Step.FIRST, Step.STILL, Step.RECOVERED])
def test_many_causes_go_into_one_message(step: Step) -> None:
    rules = Rules(on=(Condition.FAILING,))
    alert = replace(OPEN, ended_at=START, ended_by=Ended.IN_SYNC) if step is Step.RECOVERED else OPEN
    number = 0 if step is Step.FIRST else 1

    def of(causes: int, notification: str = "n") -> list[Candidate]:
        made = [
            candidate(
                rules,
                replace(alert, id=str(n)),
                Notice(number=number, next_at=START),
                replace(GROUP, cause=str(n), notification_id=notification),
            )
            for n in range(causes)
        ]
        return [one for one in made if one is not None]

    assert len(together(of(MOST_CAUSES), START).now) == MOST_CAUSES
    [digest] = together(of(MOST_CAUSES + 1), START).now
    assert {(one.group.cause, one.step) for one in digest} == {(MANY_CAUSES, step)}
    assert len(digest) == MOST_CAUSES + 1
    others = together([*of(MOST_CAUSES), *of(MOST_CAUSES, notification="other")], START)
    assert len(others.now) == 2 * MOST_CAUSES, "of each notification"


def test_causes_that_come_one_after_the_other_are_many_too() -> None:
    rules = Rules(on=(Condition.FAILING,))
    lately = {
        (replace(GROUP, cause=str(n)), Step.FIRST): Reported(count=1, newest_at=START) for n in range(MOST_CAUSES)
    }
    one = candidate(rules, OPEN, Notice(number=0, next_at=START), replace(GROUP, cause="one more"))
    assert one is not None
    [[said_now]] = together([one], START + GATHER, lately).now
    assert said_now.group.cause == MANY_CAUSES
    lately[said_now.group, Step.FIRST] = Reported(count=3, newest_at=START)
    assert [at for _, at in together([one], START + GATHER, lately).later] == [START + GATHER_MORE]


def test_a_subject_recovers_once_from_all_that_was_wrong_with_it() -> None:
    rules = Rules(on=(Condition.FAILING, Condition.HALTED))
    ended = replace(OPEN, ended_at=START, ended_by=Ended.IN_SYNC)
    notice = Notice(number=1, next_at=START)
    halted = replace(ended, id="b", condition=Condition.HALTED, since=START + SECOND)
    both = [one for alert in (ended, halted) if (one := candidate(rules, alert, notice))]
    left, told = one_end_each(both)
    assert ([one.alert.id for one in left], [one.alert.id for one in told]) == (["b"], ["a"])


@pytest.mark.parametrize(
    ("condition", "status", "holds"),
    [
        (Condition.FAILING, SyncStatus.FAILING, True),
        (Condition.FAILING, SyncStatus.PENDING, False),
        (Condition.CONTESTED, SyncStatus.HELD, True),
        (Condition.STALE, SyncStatus.PENDING, True),
        (Condition.DRIFT, SyncStatus.HELD, True),
    ],
)
def test_a_condition_holds_in_its_status(condition: Condition, status: SyncStatus, holds: bool) -> None:
    assert holds_now(condition, status) is holds


def test_words_of_conditions() -> None:
    assert rules_of_words(["Held", "recovered", " stale"]) == ((Condition.HELD, Condition.STALE), True)
    with pytest.raises(InvalidInputError, match="helt"):
        rules_of_words(["helt"])
    with pytest.raises(InvalidInputError, match="about nothing"):
        rules_of_words(["recovered"])


def test_quiet_hours_are_windows_without_their_first_word() -> None:
    (text,) = canonical_quiet_hours(["22:00-07:00 Mon-Fri Europe/Berlin"])
    assert text == "22:00-07:00 Mon-Fri Europe/Berlin"
    night = datetime(2026, 3, 2, 22, 30, tzinfo=UTC)
    assert quiet_until([text], night) == datetime(2026, 3, 3, 6, tzinfo=UTC)
    assert quiet_until([text], datetime(2026, 3, 2, 12, tzinfo=UTC)) is None
    assert quiet_until(["00:00-24:00 UTC"], night) == night + timedelta(days=1)
    with pytest.raises(InvalidInputError, match="begin with deny"):
        canonical_quiet_hours(["deny: 22:00-07:00"])
    with pytest.raises(InvalidInputError, match="the quiet hours '25:00"):
        canonical_quiet_hours(["25:00-07:00"])
