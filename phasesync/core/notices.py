"""
How far a notification is with an alert, and what it says next. Pure: the time is an argument.

        none ──first──▶ 1 ──still──▶ 2 ──still──▶ 3 …
          │             └──────┬──────┘
          ▼                    ▼ recovered
       nothing                over

An alert that ends before its first message was made leaves nothing. A reminder (still) follows after growing pauses.
`recovered` follows only a first message. What has to wait (quiet hours, a sync that is being tried at this moment) is
looked at again later, and decided by what is true then.

Messages of one notification about one condition with one cause are made together: see `together`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from phasesync.core.alert import Alert, Ended
from phasesync.core.notification import LONGEST_REMINDER, Rules
from phasesync.core.notification_message import Condition, Step
from phasesync.core.notification_text import MANY_CAUSES
from phasesync.core.sync import SyncStatus

GATHER: Final = timedelta(seconds=3)
"""From what happened to its message: others with the same cause follow within moments, and go into the same one."""
GATHER_MORE: Final = timedelta(minutes=1)
"""The same once several have been reported with one cause: what else fails for it may take its time."""
_MANY: Final = 3
"""How many reported subjects of one cause make an outage of which the rest is gathered for longer."""
MOST_CAUSES: Final = 20
"""How many causes get a message each: of one notification, condition and step, within `GATHER_MORE`."""
LOOK_AGAIN: Final = timedelta(minutes=1)
"""When a condition is looked at again that does not hold at this moment, and has not ended."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """
    How far a notification is with an alert.

    Attributes:
        number: how many messages there were: 0 = none, 1 = the first.
        next_at: when the next one is due, or looked at; None: there is none.
        made_at: when the newest one was made.
    """

    number: int
    next_at: datetime | None
    made_at: datetime | None = None


def is_about(rules: Rules, condition: Condition) -> bool:
    """Return whether a notification reports a condition. A contested sync is held, too."""
    return condition in rules.on or (condition is Condition.CONTESTED and Condition.HELD in rules.on)


def on_news(rules: Rules, alert: Alert, notice: Notice | None, now: datetime) -> Notice | None:
    """
    Return how far a notification is with an alert that opened or ended, or once the rules changed; None: not at all.

    `notice` is how far it was; None if it has said nothing of the alert and was not going to.
    """
    said = notice is not None and notice.number > 0
    if not is_about(rules, alert.condition):
        return replace(notice, next_at=None) if notice is not None and said else None
    if notice is None or not said:
        if alert.ended_at is not None and alert.ended_by is not Ended.REPAIRED:
            return None
        lasts = timedelta(0) if alert.ended_at is not None else rules.after_of(alert.condition)
        return Notice(number=0, next_at=max(now + GATHER, alert.since + lasts))
    if alert.ended_at is not None:
        wanted = rules.recovered and alert.ended_by is not Ended.REPAIRED
        return replace(notice, next_at=now + GATHER if wanted else None)
    return replace(notice, next_at=_reminder_at(rules, notice.number, notice.made_at or now))


def step_of(rules: Rules, alert: Alert, notice: Notice) -> Step | None:
    """Return what a notification says of an alert next; None: nothing more."""
    if notice.number == 0:
        return Step.FIRST if alert.ended_at is None or alert.ended_by is Ended.REPAIRED else None
    if alert.ended_at is not None:
        return Step.RECOVERED if rules.recovered and alert.ended_by is not Ended.REPAIRED else None
    return Step.STILL if rules.remind_after else None


def said(rules: Rules, alert: Alert, notice: Notice, now: datetime) -> Notice:
    """Return how far a notification is once it has said what was next."""
    number = notice.number + 1
    next_at = None if alert.ended_at is not None else _reminder_at(rules, number, now)
    return Notice(number=number, next_at=next_at, made_at=now)


def pause_after(rules: Rules, number: int) -> timedelta | None:
    """Return the pause from the n-th message to the next reminder; None if there is none."""
    if not rules.remind_after:
        return None
    longest = max(LONGEST_REMINDER, rules.remind_after)
    doublings = min(number - 1, 32)
    return min(longest, rules.remind_after * (1 << doublings))


def _reminder_at(rules: Rules, number: int, made_at: datetime) -> datetime | None:
    pause = pause_after(rules, number)
    return None if pause is None else made_at + pause


_HOLDS_IN: Final = {
    Condition.HELD: SyncStatus.HELD,
    Condition.CONTESTED: SyncStatus.HELD,
    Condition.HALTED: SyncStatus.HALTED,
    Condition.FAILING: SyncStatus.FAILING,
}


def holds_now(condition: Condition, settled: SyncStatus | None) -> bool:
    """
    Return whether a condition of an open alert holds at this moment.

    Not while a sync that failed is being tried again, or has another status in between. `settled`: the status that its
    newest run left; None if it is not known.
    """
    wanted = _HOLDS_IN.get(condition)
    return wanted is None or settled is None or settled is wanted


# --- several at once


@dataclass(frozen=True, kw_only=True)
class Group:
    """What messages are made together for."""

    notification_id: str
    condition: Condition
    cause: str | None


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """
    What one notification may say of one alert.

    Attributes:
        rules: of the notification.
        step: what is next.
        waits: it is not said now, whatever the time is: it does not hold at this moment, or another message says more.
    """

    group: Group
    rules: Rules
    alert: Alert
    notice: Notice
    step: Step
    waits: bool = False


@dataclass(frozen=True, kw_only=True)
class Reported:
    """What was said lately in one group: how many subjects, and when the newest message was made."""

    count: int
    newest_at: datetime


@dataclass(frozen=True, kw_only=True)
class Batches:
    """
    What is said now, and what waits.

    Attributes:
        now: candidates that go into one message, each time; one subject is in a message once.
        later: candidates, and when they are looked at again.
    """

    now: tuple[tuple[Candidate, ...], ...]
    later: tuple[tuple[Candidate, datetime], ...]


_NOTHING_SAID: Final[Mapping[tuple[Group, Step], Reported]] = {}


def together(
    candidates: Iterable[Candidate],
    now: datetime,
    reported: Mapping[tuple[Group, Step], Reported] = _NOTHING_SAID,
) -> Batches:
    """
    Return which candidates go into one message now.

    A message is made once one of its group is due. It takes the others along that are about to be due: those that only
    gather, and reminders that are at most a quarter of their pause early. Once several subjects of a group were
    reported, the next ones gather for longer. Beyond `MOST_CAUSES` all causes go into one message, and from then on the
    subjects in it have the cause `MANY_CAUSES`.

    Args:
        candidates: what may be said, due or not.
        now: the time.
        reported: group and step -> what was said within `GATHER_MORE`.
    """
    batches: list[tuple[Candidate, ...]] = []
    later: list[tuple[Candidate, datetime]] = []
    by_message: dict[tuple[Group, Step], list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        if not candidate.waits:
            by_message[candidate.group, candidate.step].append(candidate)
        elif _is_due(candidate, now):
            later.append((candidate, now + LOOK_AGAIN))
    for key, members in _few_causes(by_message, now, reported).items():
        due = [member for member in members if _is_due(member, now)]
        lately = reported.get(key)
        if key[1] is not Step.STILL and lately is not None and lately.count >= _MANY:
            until = lately.newest_at + GATHER_MORE
            if now < until:
                later += [(member, until) for member in due]
                continue
        if joined := [member for member in members if _may_be_said(member, now)]:
            batches.append(tuple(sorted(joined, key=lambda member: (member.alert.since, member.alert.id))))
        else:
            later += [(member, now + LOOK_AGAIN) for member in due]
    return Batches(now=tuple(batches), later=tuple(later))


def _few_causes(
    by_message: Mapping[tuple[Group, Step], list[Candidate]],
    now: datetime,
    reported: Mapping[tuple[Group, Step], Reported],
) -> dict[tuple[Group, Step], list[Candidate]]:
    """Return the groups of which something is due; those of one notification, condition and step as one if many."""
    due = {key: members for key, members in by_message.items() if any(_is_due(member, now) for member in members)}
    count = Counter(_about_all_causes(*key) for key in {*due, *reported})
    few: dict[tuple[Group, Step], list[Candidate]] = {}
    for (group, step), members in due.items():
        if count[all_causes := _about_all_causes(group, step)] <= MOST_CAUSES:
            few[group, step] = members
        else:
            few.setdefault(all_causes, []).extend(replace(member, group=all_causes[0]) for member in members)
    return few


def _about_all_causes(group: Group, step: Step) -> tuple[Group, Step]:
    return replace(group, cause=MANY_CAUSES), step


def one_end_each(candidates: Iterable[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
    """Return the candidates that are left, and those whose end another one reports: one subject recovers once."""
    newest: dict[tuple[str, str], Candidate] = {}
    left: list[Candidate] = []
    told: list[Candidate] = []
    for candidate in candidates:
        if candidate.step is not Step.RECOVERED:
            left.append(candidate)
            continue
        key = (candidate.group.notification_id, candidate.alert.subject_id)
        if (other := newest.get(key)) is None:
            newest[key] = candidate
        elif (candidate.alert.since, candidate.alert.id) > (other.alert.since, other.alert.id):
            newest[key] = candidate
            told.append(other)
        else:
            told.append(candidate)
    return left + list(newest.values()), told


def _is_due(candidate: Candidate, now: datetime) -> bool:
    return candidate.notice.next_at is not None and candidate.notice.next_at <= now


def _may_be_said(candidate: Candidate, now: datetime) -> bool:
    """Return whether something may go into a message that is made now."""
    next_at = candidate.notice.next_at
    if next_at is None:
        return False
    match candidate.step:
        case Step.FIRST:
            lasts = timedelta(0)
            if candidate.alert.ended_at is None:
                lasts = candidate.rules.after_of(candidate.alert.condition)
            return candidate.alert.since + lasts <= now
        case Step.STILL:
            pause = pause_after(candidate.rules, candidate.notice.number) or timedelta(0)
            return next_at - now <= pause / 4
        case _:
            return True
