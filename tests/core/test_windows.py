"""Maintenance windows: the text form, and when writes are open. The oracle looks at local clocks, minute by minute."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from phasesync.core.windows import (
    HORIZON,
    MOST_WINDOWS,
    CronTimes,
    DailyTimes,
    WholeDays,
    Window,
    WindowKind,
    WindowLevel,
    canonical_windows,
    check_opens,
    closure_at,
    levels_of,
    opens_at,
    parse_window,
    parse_windows,
)
from phasesync.errors import InvalidInputError

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
BERLIN = "Europe/Berlin"
ZONES = ("UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kolkata", "America/St_Johns")
"""With changes of an hour, of half an hour, at midnight, of none, and with half hours."""
GAP = date(2026, 3, 29)
"""In Berlin 02:00 to 03:00 does not exist."""
TWICE = date(2026, 10, 25)
"""In Berlin 02:00 to 03:00 exists twice."""

days = st.frozensets(st.integers(0, 6), min_size=1)
minutes = st.integers(0, 1439)
daily = st.builds(DailyTimes, start=minutes, end=st.integers(1, 1440), days=days).filter(
    lambda times: times.start != times.end
)
dates = st.builds(
    lambda first, length: WholeDays(first=first, last=first + length * DAY),
    st.dates(date(2025, 12, 1), date(2027, 1, 31)),
    st.integers(0, 40),
)
cron = st.builds(
    CronTimes,
    expression=st.sampled_from(
        ["0 8 * * 1-5", "30 2 * * *", "*/20 1-3 * * *", "0 0 1 * *", "15 22 * * SUN", "0 0 L * *"]
    ),
    duration=st.integers(1, 3_000).map(lambda count: count * MINUTE),
)
windows = st.builds(Window, kind=st.sampled_from(WindowKind), times=daily | dates | cron, zone=st.sampled_from(ZONES))
instants = st.integers(0, 364 * 1440).map(lambda count: datetime(2026, 1, 1, tzinfo=UTC) + count * MINUTE)
near_changes = st.sampled_from(
    [
        datetime(2026, 3, 29, 1, tzinfo=UTC),
        datetime(2026, 10, 25, 1, tzinfo=UTC),
        datetime(2026, 3, 8, 7, tzinfo=UTC),
        datetime(2026, 11, 1, 6, tzinfo=UTC),
        datetime(2026, 4, 4, 15, tzinfo=UTC),
        datetime(2026, 10, 3, 15, 30, tzinfo=UTC),
        datetime(2026, 4, 23, 22, tzinfo=UTC),
        datetime(2026, 10, 29, 21, tzinfo=UTC),
    ]
).flatmap(lambda at: st.integers(-1_600, 1_600).map(lambda count: at + count * MINUTE))


def wall(at: datetime, zone: str) -> datetime:
    """What the clocks there show, without their zone."""
    return at.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)


def clock_says(window: Window, at: datetime) -> bool:
    """Whether the clocks there are inside a window, as a person would read them off. Not for cron."""
    now = wall(at, window.zone)
    match window.times:
        case DailyTimes() as times:
            length = (times.end - times.start) % 1440 or 1440
            for day in (now.date() - DAY, now.date()):
                start = datetime.combine(day, time()) + times.start * MINUTE
                if day.weekday() in times.days and start <= now < start + length * MINUTE:
                    return True
            return False
        case WholeDays() as times:
            return times.first <= now.date() <= times.last
        case _:
            raise AssertionError("cron has an oracle of its own")


def changes_near(at: datetime, zone: str) -> bool:
    """Whether clocks change within the days around an instant."""
    return len({(at + n * HOUR).astimezone(ZoneInfo(zone)).utcoffset() for n in range(-72, 73)}) > 1


def in_force(window: Window, at: datetime) -> bool:
    return window.until(at) is not None


@given(window=windows)
def test_a_window_is_what_its_text_says(window: Window) -> None:
    assert parse_window(window.text) == window
    assert canonical_windows([window.text]) == (window.text,)


@given(window=windows.filter(lambda window: not isinstance(window.times, CronTimes)), at=instants | near_changes)
def test_windows_follow_the_local_clocks(window: Window, at: datetime) -> None:
    """Where clocks change, a deny window may last longer, and an allow window shorter. Never the other way around."""
    said, found = clock_says(window, at), in_force(window, at)

    if not changes_near(at, window.zone):
        assert found is said
    elif window.kind is WindowKind.DENY:
        assert found or not said
    else:
        assert said or not found


@given(times=cron, kind=st.sampled_from(WindowKind), zone=st.sampled_from(ZONES), at=instants | near_changes)
def test_windows_of_cron_begin_at_their_minutes(times: CronTimes, kind: WindowKind, zone: str, at: datetime) -> None:
    """Each minute of the time before is asked whether cron starts in it."""
    at = at.replace(second=0, microsecond=0)
    window = Window(kind=kind, times=times, zone=zone)
    said = any(starts(times, wall(at - n * MINUTE, zone)) for n in range(times.duration // MINUTE))

    if not changes_near(at, zone):
        assert in_force(window, at) is said
    elif kind is WindowKind.DENY:
        assert in_force(window, at) or not said
    else:
        assert said or not in_force(window, at)


def starts(times: CronTimes, at: datetime) -> bool:
    """Whether an expression of the tests starts in a minute of local time."""
    last_of_month = (at + DAY).month != at.month
    hour, minute, weekday = at.hour, at.minute, at.weekday()
    return {
        "0 8 * * 1-5": (hour, minute) == (8, 0) and weekday < 5,
        "30 2 * * *": (hour, minute) == (2, 30),
        "*/20 1-3 * * *": hour in (1, 2, 3) and minute % 20 == 0,
        "0 0 1 * *": (at.day, hour, minute) == (1, 0, 0),
        "15 22 * * SUN": (weekday, hour, minute) == (6, 22, 15),
        "0 0 L * *": last_of_month and (hour, minute) == (0, 0),
    }[times.expression]


@given(levels=st.lists(st.lists(windows, min_size=1, max_size=3), min_size=1, max_size=2), at=instants | near_changes)
def test_writes_open_at_the_first_minute_that_nothing_closes(levels: list[list[Window]], at: datetime) -> None:
    """Deny wins; where a level has allow windows, one of them has to be in force."""
    at = at.replace(second=0, microsecond=0)
    owned = [WindowLevel(owner=f"level {n}", windows=tuple(level)) for n, level in enumerate(levels)]

    found = opens_at(owned, at)
    closure = closure_at(owned, at)

    assert (closure is None) is is_open(levels, at)
    assert (closure is None) is (found == at)
    assert closure is None or closure.opens_at == found
    assert found is None or is_open(levels, found)
    last = HORIZON if found is None else found - at
    # Minutes all over the time before, and each of the last ones.
    closed = {at + (n * last // 50) // MINUTE * MINUTE for n in range(50)} | {
        at + last - n * MINUTE for n in range(1, 20)
    }
    assert not any(is_open(levels, before) for before in closed if at <= before < at + last)


def is_open(levels: list[list[Window]], at: datetime) -> bool:
    return all(
        not any(in_force(window, at) for window in level if window.kind is WindowKind.DENY)
        and (
            all(window.kind is WindowKind.DENY for window in level)
            or any(in_force(window, at) for window in level if window.kind is WindowKind.ALLOW)
        )
        for level in levels
    )


@pytest.mark.parametrize("night", [GAP, TWICE])
@settings(max_examples=20)
@given(start=st.integers(0, 1438), length=st.integers(1, 500), kind=st.sampled_from(WindowKind))
@example(start=135, length=30, kind=WindowKind.DENY)
@example(start=135, length=30, kind=WindowKind.ALLOW)
def test_no_deny_window_vanishes_where_clocks_change(night: date, start: int, length: int, kind: WindowKind) -> None:
    """Every day has its window, and closes at least as long as it does on any other day, but for the missing hour."""
    times = DailyTimes(start=start, end=(start + length - 1) % 1440 + 1, days=frozenset([night.weekday()]))
    window = Window(kind=kind, times=times, zone=BERLIN)
    begin = datetime.combine(night - DAY, time(20), UTC)

    closed = [at for at in (begin + n * MINUTE for n in range(36 * 60)) if in_force(window, at)]

    said = {at for at in (begin + n * MINUTE for n in range(36 * 60)) if clock_says(window, at)}
    if kind is WindowKind.ALLOW:
        assert set(closed) <= said
    else:
        assert set(closed) >= said
        assert len(closed) >= max(1, length - 60 if night == GAP else length)
        assert closed[-1] - closed[0] == (len(closed) - 1) * MINUTE


@pytest.mark.parametrize(
    ("text", "first", "until"),
    [
        # It does not exist that night: from the earliest time that it can mean to the latest.
        ("deny: 02:15-02:45 Europe/Berlin", "2026-03-29T00:15Z", "2026-03-29T01:45Z"),
        # It exists twice: closed from the first to the end of the second.
        ("deny: 02:15-02:45 Europe/Berlin", "2026-10-25T00:15Z", "2026-10-25T01:45Z"),
        ("deny: cron '30 2 * * *' for 30m Europe/Berlin", "2026-03-29T00:30Z", "2026-03-29T02:00Z"),
        ("deny: cron '30 2 * * *' for 30m Europe/Berlin", "2026-10-25T00:30Z", "2026-10-25T02:00Z"),
        # 08:00 stays 08:00 there.
        ("deny: 08:00-18:00 Europe/Berlin", "2026-03-28T07:00Z", "2026-03-28T17:00Z"),
        ("deny: 08:00-18:00 Europe/Berlin", "2026-03-29T06:00Z", "2026-03-29T16:00Z"),
        ("deny: 08:00-18:00 Europe/Berlin", "2026-10-25T07:00Z", "2026-10-25T17:00Z"),
        ("deny: 22:00-04:00 Europe/Berlin", "2026-03-28T21:00Z", "2026-03-29T02:00Z"),
        ("deny: 22:00-04:00 Europe/Berlin", "2026-10-24T20:00Z", "2026-10-25T03:00Z"),
        ("deny: 2026-03-29 Europe/Berlin", "2026-03-28T23:00Z", "2026-03-29T22:00Z"),
        ("deny: 2026-10-25 Europe/Berlin", "2026-10-24T22:00Z", "2026-10-25T23:00Z"),
        # Over midnight it belongs to the day that it starts on: the night to Monday.
        ("deny: 22:00-04:00 Sun UTC", "2026-03-29T22:00Z", "2026-03-30T04:00Z"),
        # One window of cron follows the other.
        ("deny: cron '*/10 8-9 * * *' for 10m", "2026-03-29T08:00Z", "2026-03-29T10:00Z"),
        ("deny: 2026-12-20..2027-01-03 Europe/Berlin", "2026-12-19T23:00Z", "2027-01-03T23:00Z"),
    ],
)
def test_where_clocks_change_a_window_closes_like_this(text: str, first: str, until: str) -> None:
    begins, ends = datetime.fromisoformat(first), datetime.fromisoformat(until)
    levels = levels_of([("the sync web", [text])])

    assert opens_at(levels, begins - MINUTE) == begins - MINUTE
    closure = closure_at(levels, begins)
    assert closure is not None
    assert closure.opens_at == ends
    assert closure_at(levels, ends - timedelta(microseconds=1)) is not None
    assert closure_at(levels, ends) is None


def test_what_closes_writes_is_said_in_its_zone() -> None:
    levels = levels_of(
        [
            ("the sync web", ["deny: 08:00-12:00 Mon-Fri Europe/Berlin"]),
            ("the app shop", ["deny: 08:00-18:00 Mon-Fri Europe/Berlin"]),
            ("all syncs", []),
        ]
    )

    closure = closure_at(levels, datetime(2026, 12, 1, 8, tzinfo=UTC))

    assert closure is not None
    assert closure.text == (
        "opens 2026-12-01 18:00 Europe/Berlin (deny: 08:00-18:00 Mon-Fri Europe/Berlin; of the app shop)"
    )


@pytest.mark.parametrize(
    "texts",
    [
        ["deny: 00:00-24:00"],
        ["deny: 00:00-12:00", "deny: 12:00-00:00"],
        ["deny: cron '*/30 * * * *' for 30m"],
        ["deny: cron '* * * * *' for 1m Europe/Berlin"],
        ["allow: 08:00-09:00", "deny: 07:00-10:00"],
        ["allow: 2020-01-01"],
        ["deny: 2026-01-01..2027-07-01"],
        ["allow: 08:00-09:00 Mon", "deny: 00:00-24:00 Mon"],
    ],
)
def test_windows_that_never_open_are_refused(texts: list[str]) -> None:
    levels, now = levels_of([("the sync web", texts)]), datetime(2026, 6, 1, 8, 30, tzinfo=UTC)

    assert opens_at(levels, now) is None
    with pytest.raises(InvalidInputError, match="nothing could be written within a year") as refused:
        check_opens(levels, now)

    assert "of the sync web" in refused.value.message


def test_two_levels_that_allow_nothing_together_are_refused() -> None:
    levels = levels_of([("the sync web", ["allow: 08:00-09:00"]), ("the app shop", ["allow: 09:00-10:00"])])

    with pytest.raises(InvalidInputError, match="of the app shop"):
        check_opens(levels, datetime(2026, 6, 1, tzinfo=UTC))


def test_a_freeze_within_the_year_is_accepted() -> None:
    check_opens(levels_of([("all syncs", ["deny: 2026-06-01..2027-05-01"])]), datetime(2026, 6, 1, tzinfo=UTC))
    assert HORIZON > 365 * DAY


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("DENY:8:00-18:00 monday-fri Europe/Berlin", "deny: 08:00-18:00 Mon-Fri Europe/Berlin"),
        ("allow: 22:00-04:00 Sun,Sat", "allow: 22:00-04:00 Sat,Sun UTC"),
        ("allow: 09:00-10:00 fri-mon utc", "allow: 09:00-10:00 Mon,Fri-Sun UTC"),
        ("deny: 00:00-24:00 weekends", "deny: 00:00-24:00 Sat,Sun UTC"),
        ("deny: 22:00-00:00 daily NZ-CHAT", "deny: 22:00-00:00 NZ-CHAT"),
        ("deny: 2026-12-24..2026-12-24", "deny: 2026-12-24 UTC"),
        ('deny:  cron "0  8 * * mon-fri"  for 600m', "deny: cron '0 8 * * MON-FRI' for 10h UTC"),
    ],
)
def test_texts_have_one_canonical_form(text: str, canonical: str) -> None:
    assert parse_window(text).text == canonical


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "begins with neither 'allow:' nor 'deny:'"),
        ("dney: 08:00-18:00", "did you mean deny?"),
        ("deny", "begins with neither"),
        ("deny:", "has no times"),
        ("deny: 8-18", "has '8-18' where times are expected, such as 08:00-18:00"),
        ("deny: 08:00-25:00", "no time of a day"),
        ("deny: 24:00-08:00", "no time of a day"),
        ("deny: 08:60-09:00", "no time of a day"),
        ("deny: 08:00-08:00", "a whole day is 00:00-24:00"),
        ("deny: 08:00-18:00 Mno-Fri", "has 'Mno', which is no day; did you mean Mon?"),
        ("deny: 08:00-18:00 Mon,,Fri", "has '', which is no day"),
        ("deny: 08:00-18:00 Mno", "days come before the zone: Mon, Tue"),
        ("deny: 08:00-18:00 Mon-Fri europe/berlin", "did you mean Europe/Berlin?"),
        ("deny: 08:00-18:00 Berln", "did you mean Europe/Berlin?"),
        ("deny: 08:00-18:00 +01:00", "which is no time zone; a zone is named by its city"),
        ("deny: 08:00-18:00 Europe", "which is no time zone"),
        ("deny: 08:00-18:00 ../../etc/passwd", "which is no time zone"),
        ("deny: 08:00-18:00 localtime", "which is no time zone"),
        ("deny: 08:00-18:00 UTC Mon-Fri", "has 'Mon-Fri' after its end"),
        ("deny: 2026-13-01", "no date of the calendar"),
        ("deny: 2026-02-30..2026-03-01", "no date of the calendar"),
        ("deny: 2026-03-02..2026-03-01", "ends before it starts"),
        ("deny: 0001-01-01", "years are 1970 to 9998"),
        ("deny: cron 0 8 * * 1-5 for 10h", "needs quotes"),
        ("deny: cron '0 8 * *' for 10h", "has 4 fields of cron; five are expected"),
        ("deny: cron '0 8 * * 1-5'", "does not say how long"),
        ("deny: cron '0 8 * * 1-5' for ever", "does not say how long"),
        ("deny: cron '0 8 * * 1-5' for 0m", "one minute to 31 days"),
        ("deny: cron '0 8 * * 1-5' for 32d", "one minute to 31 days"),
        ("deny: cron '0 88 * * *' for 1h", "bad hour"),
        ("deny: cron '0 0 31 2 *' for 1h", "bad day-of-month"),
        ("deny: cron '0 0 31 4 *' for 1h", "bad day-of-month"),
        ("deny: cron '* * * * *' for 1h for 2h", "where one zone is expected"),
    ],
)
def test_what_is_wrong_with_a_text_is_said(text: str, what: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        parse_window(text)

    assert what in refused.value.message
    assert repr(text) in refused.value.message
    assert "deny: 08:00-18:00 Mon-Fri Europe/Berlin" in str(refused.value.hint)


def test_windows_are_counted_once_and_not_without_end() -> None:
    assert len(parse_windows(["deny: 01:00-02:00", "deny: 1:00-2:00 UTC"])) == 1
    with pytest.raises(InvalidInputError, match=f"limit of {MOST_WINDOWS}"):
        parse_windows([f"deny: 01:{n:02}-02:00" for n in range(MOST_WINDOWS + 1)])


@given(text=st.text(max_size=40) | st.text(max_size=30).map(lambda text: f"deny: {text}"))
def test_any_text_is_a_window_or_an_error_that_says_why(text: str) -> None:
    try:
        window = parse_window(text)
    except InvalidInputError:
        return
    assert parse_window(window.text) == window
