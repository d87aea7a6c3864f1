"""
Maintenance windows: when writes are allowed and when they are forbidden. Pure; instants are arguments.

    deny: 08:00-18:00 Mon-Fri Europe/Berlin         at these times of these days; without days: every day
    allow: 22:00-04:00 Sat,Sun UTC                  over midnight: belongs to the day that it starts on
    deny: 2026-12-20..2027-01-03 Europe/Berlin      whole days, the last one included
    deny: cron '0 8 * * 1-5' for 10h Europe/Berlin  from each start on, for a time that passes

Without a zone the times are in UTC. Writes are open unless a deny window is in force; if there are allow windows, at
least one of them has to be in force too. Windows of several levels (a sync, its app, all syncs) apply together.

A local time that does not exist, or exists twice, since clocks are changed, has two readings. A deny window lasts from
the earliest reading of its start to the latest of its end; an allow window from the latest to the earliest. So doubt
closes, and never opens. The same holds for the starts of cron; those that come before the one before has ended are one
window.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from phasesync.core.times import duration_text
from phasesync.errors import InvalidInputError

EXAMPLES: Final = (
    "'deny: 08:00-18:00 Mon-Fri Europe/Berlin', 'allow: 22:00-04:00 Sat,Sun UTC', "
    "'deny: 2026-12-20..2027-01-03 Europe/Berlin' or \"deny: cron '0 8 * * 1-5' for 10h Europe/Berlin\""
)
HORIZON: Final = timedelta(days=366)
"""What does not open within this time counts as never open."""

LONGEST_DURATION: Final = timedelta(days=31)
MOST_WINDOWS: Final = 20
"""Of one level: each costs time in every run."""

_DAY: Final = timedelta(days=1)
_MINUTE: Final = timedelta(minutes=1)
_LARGEST_CHANGE: Final = timedelta(hours=3)
"""No zone changes its clocks by more, apart from islands that changed sides of the date line."""


class WindowKind(StrEnum):
    """What a window does while it is in force."""

    ALLOW = "allow"
    """Writes are open, and closed at all times without such a window."""
    DENY = "deny"
    """Writes are closed."""


_Span = tuple[datetime, "datetime | _Following"]
"""A start and an end as local times without a zone, or an end by a time that passes."""


@dataclass(frozen=True, kw_only=True)
class DailyTimes:
    """
    Times of some days of the week.

    Attributes:
        start: minutes after midnight, below a day.
        end: minutes after midnight, up to a day; not later than `start` means on the next day.
        days: 0 = Monday; all seven if there is no restriction.
    """

    start: int
    end: int
    days: frozenset[int]

    def text(self) -> str:
        """Return the canonical text."""
        times = f"{_clock_text(self.start)}-{_clock_text(self.end)}"
        return times if len(self.days) == len(_DAYS) else f"{times} {_days_text(self.days)}"

    def before(self, wall: datetime) -> Iterator[_Span]:
        """Yield the spans that may be in force at a local time."""
        return self._between(wall.date() - 2 * _DAY, 4)

    def after(self, wall: datetime) -> Iterator[_Span]:
        """Yield the spans that may start next after a local time, and some before and after."""
        return self._between(wall.date() - 2 * _DAY, 21)

    def _between(self, first: date, count: int) -> Iterator[_Span]:
        length = self.end - self.start + (0 if self.end > self.start else 1440)
        for day in (first + n * _DAY for n in range(count)):
            if day.weekday() in self.days:
                start = _midnight(day) + self.start * _MINUTE
                yield start, start + length * _MINUTE


@dataclass(frozen=True, kw_only=True)
class WholeDays:
    """Days from the first to the last, both included."""

    first: date
    last: date

    def text(self) -> str:
        """Return the canonical text."""
        return f"{self.first}" if self.first == self.last else f"{self.first}..{self.last}"

    def before(self, wall: datetime) -> Iterator[_Span]:
        """Yield the only span."""
        del wall
        yield _midnight(self.first), _midnight(self.last + _DAY)

    after = before


@dataclass(frozen=True, kw_only=True)
class CronTimes:
    """Starts by five fields of cron in local time, and how long each lasts."""

    expression: str
    duration: timedelta

    def text(self) -> str:
        """Return the canonical text."""
        return f"cron '{self.expression}' for {duration_text(self.duration)}"

    def before(self, wall: datetime) -> Iterator[_Span]:
        """Yield the spans that may be in force at a local time."""
        first = (wall - self.duration).date() - _DAY
        return self._between(first, (wall.date() - first).days + 2)

    def after(self, wall: datetime) -> Iterator[_Span]:
        """Yield the spans that may start next after a local time, and some before and after."""
        return self._between(wall.date() - _DAY, HORIZON.days + 2)

    def _between(self, first: date, count: int) -> Iterator[_Span]:
        cron, rows = _rows_of_cron(self.expression, self.duration)
        for day in (first + n * _DAY for n in range(count)):
            if day.month in cron.months and cron.match_day(day):
                for start, last in rows:
                    yield (
                        _midnight(day) + start * _MINUTE,
                        _Following(last=_midnight(day) + last * _MINUTE, lasts=self.duration),
                    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Following:
    """The end of a span: a time that passes after its last start."""

    last: datetime
    lasts: timedelta


@lru_cache(maxsize=512)
def _rows_of_cron(expression: str, duration: timedelta) -> tuple[CronSim, tuple[tuple[int, int], ...]]:
    """
    Return what knows the days of an expression, and the starts of a day as rows: the minutes of first and last.

    In a row each start comes before the one before it has ended, so that all of them are one span.
    """
    cron = CronSim(expression, _midnight(date(2024, 1, 1)))
    rows: list[tuple[int, int]] = []
    for start in (hour * 60 + minute for hour in sorted(cron.hours) for minute in sorted(cron.minutes)):
        if rows and (start - rows[-1][1]) * _MINUTE <= duration:
            rows[-1] = (rows[-1][0], start)
        else:
            rows.append((start, start))
    return cron, tuple(rows)


@dataclass(frozen=True, kw_only=True)
class Window:
    """A maintenance window. Make one with `parse_window`."""

    kind: WindowKind
    times: DailyTimes | WholeDays | CronTimes
    zone: str

    @property
    def text(self) -> str:
        """Canonical text: `parse_window` returns an equal window for it."""
        return f"{self.kind}: {self.times.text()} {self.zone}"

    def until(self, at: datetime) -> datetime | None:
        """Return the end of the window that is in force at an instant; None if none is."""
        zone = ZoneInfo(self.zone)
        spans = (self._instants(span, zone) for span in self.times.before(_wall(at, zone)))
        return max((end for start, end in spans if start <= at < end), default=None)

    def next_start(self, at: datetime) -> datetime | None:
        """Return the first start after an instant; None if there is none within the horizon."""
        zone = ZoneInfo(self.zone)
        first: datetime | None = None
        for span in self.times.after(_wall(at, zone)):
            # In the order of local times, which is nearly that of instants.
            if first is not None and span[0] - _wall(first, zone) > _LARGEST_CHANGE:
                break
            start, end = self._instants(span, zone)
            if at < start < end and (first is None or start < first):
                first = start
        return first

    def _instants(self, span: _Span, zone: ZoneInfo) -> tuple[datetime, datetime]:
        """Return start and end as instants; the end is not after the start where no such time is left."""
        starts, end = _readings(span[0], zone), span[1]
        if isinstance(end, _Following):
            ends = [last + end.lasts for last in _readings(end.last, zone)]
        else:
            ends = _readings(end, zone)
        if self.kind is WindowKind.DENY:
            return min(starts), max(ends)
        return max(starts), min(ends)


@dataclass(frozen=True, kw_only=True)
class WindowLevel:
    """
    The windows of one level.

    Attributes:
        owner: whose they are, such as `the app shop`.
        windows: at least one.
    """

    owner: str
    windows: tuple[Window, ...]


@dataclass(frozen=True, kw_only=True)
class Closure:
    """
    Why writes are closed, and until when.

    Attributes:
        window: the window that closes them; of several, the one that does so longest.
        owner: whose window it is.
        opens_at: when they open; None if that is not within a year.
    """

    window: Window
    owner: str
    opens_at: datetime | None

    @property
    def opens_text(self) -> str:
        """When they open, in the zone of the window."""
        if self.opens_at is None:
            return "does not open within a year"
        return f"opens {self.opens_at.astimezone(ZoneInfo(self.window.zone)):%Y-%m-%d %H:%M} {self.window.zone}"

    @property
    def text(self) -> str:
        """One line: when it opens, which window closes it, and whose that is."""
        return f"{self.opens_text} ({self.window.text}; of {self.owner})"


def closure_at(levels: Sequence[WindowLevel], at: datetime) -> Closure | None:
    """Return why writes are closed at an instant; None if they are open."""
    closing = list(_closing(levels, at))
    if not closing:
        return None
    window, owner, _ = max(closing, key=lambda item: (item[2] is None, item[2] or at))
    return Closure(window=window, owner=owner, opens_at=opens_at(levels, at))


def opens_at(levels: Sequence[WindowLevel], at: datetime) -> datetime | None:
    """
    Return the first instant, from `at` on, at which writes are open; None if there is none within a year.

    While writes are closed it lies after `at`.
    """
    cursor = at
    while cursor < at + HORIZON:
        ends = [until for _, _, until in _closing(levels, cursor)]
        if not ends:
            return cursor
        latest = max((until for until in ends if until is not None), default=cursor)
        if None in ends or latest <= cursor:
            return None
        cursor = latest
    return None


def _closing(levels: Iterable[WindowLevel], at: datetime) -> Iterator[tuple[Window, str, datetime | None]]:
    """Yield what closes writes: a window, its owner, and when it may open; None if it does not within the horizon."""
    for level in levels:
        allowing = [window for window in level.windows if window.kind is WindowKind.ALLOW]
        for window in level.windows:
            if window.kind is WindowKind.DENY and (until := window.until(at)) is not None:
                yield window, level.owner, until
        if allowing and all(window.until(at) is None for window in allowing):
            starts = [(start, n) for n, window in enumerate(allowing) if (start := window.next_start(at)) is not None]
            first, n = min(starts, default=(None, 0))
            yield allowing[n], level.owner, first


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time())


def _wall(at: datetime, zone: ZoneInfo) -> datetime:
    """Return the local time of an instant, without its zone and seconds."""
    return at.astimezone(zone).replace(tzinfo=None, fold=0, second=0, microsecond=0)


def _readings(wall: datetime, zone: ZoneInfo) -> list[datetime]:
    """Return the instants that a local time can mean."""
    return [wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]


# --- the text form

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_TIMES: Final = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})")
_DATES: Final = re.compile(r"(\d{4}-\d{2}-\d{2})(?:\.\.(\d{4}-\d{2}-\d{2}))?")
_CRON: Final = re.compile(r"cron\s+(['\"])([^'\"]*)\1(?:\s+for\s+(\S+))?(?:\s+(.*))?", re.IGNORECASE)
_DURATION: Final = re.compile(r"(\d{1,5})([mhd])")
_UNITS: Final = {"m": _MINUTE, "h": timedelta(hours=1), "d": _DAY}
_NOT_ZONES: Final = ("localtime", "Factory", "posixrules")
"""What zone directories also hold; they depend on the host."""


@lru_cache(maxsize=512)
def parse_window(text: str) -> Window:
    """Return the window of a text. InvalidInputError says which part is wrong, and what would be right."""
    kind, colon, rest = text.partition(":")
    word = kind.strip().lower()
    if not colon or word not in set(WindowKind):
        raise _wrong(text, f"begins with neither 'allow:' nor 'deny:'{_nearest(word, list(WindowKind))}")
    times, zone = _parse_times(text, rest.strip())
    return Window(kind=WindowKind(word), times=times, zone=_parse_zone(text, zone))


def parse_windows(texts: Iterable[str]) -> tuple[Window, ...]:
    """Return the windows of texts, each once. InvalidInputError."""
    windows = tuple(dict.fromkeys(parse_window(text) for text in texts))
    if len(windows) > MOST_WINDOWS:
        raise InvalidInputError(
            f"{len(windows)} maintenance windows are more than the limit of {MOST_WINDOWS}",
            hint="a window takes several days, such as Mon-Fri",
        )
    return windows


def canonical_windows(texts: Iterable[str]) -> tuple[str, ...]:
    """Return canonical texts, each once. InvalidInputError."""
    return tuple(window.text for window in parse_windows(texts))


def levels_of(owned: Iterable[tuple[str, Sequence[str]]]) -> tuple[WindowLevel, ...]:
    """Return the levels that have windows, of pairs of an owner and its texts. InvalidInputError."""
    return tuple(WindowLevel(owner=owner, windows=parse_windows(texts)) for owner, texts in owned if texts)


def check_opens(levels: Sequence[WindowLevel], at: datetime) -> None:
    """Raise InvalidInputError if writes do not open within a year from an instant."""
    if (closure := closure_at(levels, at)) is not None and closure.opens_at is None:
        texts = "; ".join(f"{window.text} (of {level.owner})" for level in levels for window in level.windows)
        raise InvalidInputError(
            f"with these maintenance windows nothing could be written within a year: {texts}",
            hint="each allow window needs a time that no deny window covers; to stop a sync, pause it: "
            "phasesync syncs pause NAME",
        )


def _parse_times(text: str, rest: str) -> tuple[DailyTimes | WholeDays | CronTimes, str]:
    """Return the times, and what follows them: the zone."""
    if rest.lower().startswith("cron"):
        return _parse_cron(text, rest)
    first, *words = rest.split()[:3] or [""]
    extra = rest.split()[3:]
    if (dates := _DATES.fullmatch(first)) is not None:
        extra = words[1:] + extra
        zone = words[0] if words else ""
        times: DailyTimes | WholeDays = _parse_dates(text, dates)
    else:
        has_days = bool(words) and _looks_like_days(words[0])
        days = _parse_days(text, words[0]) if has_days else frozenset(range(7))
        times = _parse_daily(text, first, days)
        left = words[1:] if has_days else words
        zone, extra = (left[0] if left else ""), left[1:] + extra
    if extra:
        raise _wrong(text, f"has {' '.join(extra)!r} after its end: times, days and a zone are all there is")
    return times, zone


def _parse_daily(text: str, word: str, days: frozenset[int]) -> DailyTimes:
    match = _TIMES.fullmatch(word)
    if match is None:
        raise _wrong(text, f"has {word!r} where times are expected, such as 08:00-18:00" if word else "has no times")
    hour, minute, end_hour, end_minute = map(int, match.groups())
    start, end = hour * 60 + minute, end_hour * 60 + end_minute
    if hour > 23 or minute > 59 or end > 1440 or end_minute > 59:
        raise _wrong(text, f"has {word!r}, which is no time of a day: 00:00 to 23:59, and 24:00 as an end")
    if start == end or (start, end) == (0, 0):
        raise _wrong(text, "starts and ends at the same time; a whole day is 00:00-24:00")
    return DailyTimes(start=start, end=end, days=days)


def _parse_dates(text: str, match: "re.Match[str]") -> WholeDays:
    try:
        first = date.fromisoformat(match[1])
        last = date.fromisoformat(match[2] or match[1])
    except ValueError:
        raise _wrong(text, f"has {match[0]!r}, which is no date of the calendar") from None
    if last < first:
        raise _wrong(text, f"ends before it starts: {match[0]}")
    if first.year < 1970 or last.year > 9998:
        raise _wrong(text, f"has {match[0]!r}: years are 1970 to 9998")
    return WholeDays(first=first, last=last)


def _parse_cron(text: str, rest: str) -> tuple[CronTimes, str]:
    match = _CRON.fullmatch(rest)
    if match is None:
        raise _wrong(text, "needs quotes around the five fields of cron, such as cron '0 8 * * 1-5' for 10h")
    expression, duration, zone = " ".join(match[2].upper().split()), match[3], (match[4] or "").strip()
    if len(expression.split()) != 5:
        raise _wrong(text, f"has {len(expression.split())} fields of cron; five are expected, minute first")
    length = _DURATION.fullmatch(duration.lower()) if duration else None
    if length is None:
        raise _wrong(text, "does not say how long each time lasts: cron '…' for 10h, in m, h or d")
    lasts = int(length[1]) * _UNITS[length[2]]
    if not _MINUTE <= lasts <= LONGEST_DURATION:
        raise _wrong(text, f"lasts {duration}; one minute to {LONGEST_DURATION.days} days are accepted")
    try:
        next(CronSim(expression, _midnight(date(2024, 1, 1))))
    except CronSimError as error:
        raise _wrong(text, f"has fields that cron does not know ({str(error).lower()})") from None
    except StopIteration:
        raise _wrong(text, "never starts: no day matches its fields") from None
    if " " in zone:
        raise _wrong(text, f"has {zone!r} after its duration, where one zone is expected")
    return CronTimes(expression=expression, duration=lasts), zone


def _looks_like_days(word: str) -> bool:
    """Return whether a word is meant as days and not as a zone."""
    if word.lower() in _SHORT or word.lower() in _LONG or word.lower() in _SETS:
        return True
    return (
        word[0].isalpha() and "/" not in word and word not in _ZONES_WITH_A_DASH and re.search("[-,]", word) is not None
    )


_ZONES_WITH_A_DASH: Final = ("GB-Eire", "NZ-CHAT", "W-SU")
_SHORT: Final = {day.lower(): n for n, day in enumerate(_DAYS)}
_LONG: Final = {
    name: n for n, name in enumerate(("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"))
}
_SETS: Final = {"daily": frozenset(range(7)), "weekdays": frozenset(range(5)), "weekends": frozenset((5, 6))}


def _parse_days(text: str, word: str) -> frozenset[int]:
    if word.lower() in _SETS:
        return _SETS[word.lower()]
    days: set[int] = set()
    for part in word.split(","):
        first, dash, last = part.partition("-")
        start = _parse_day(text, first)
        end = _parse_day(text, last) if dash else start
        days.update((start + n) % 7 for n in range((end - start) % 7 + 1))
    return frozenset(days)


def _parse_day(text: str, word: str) -> int:
    day = _SHORT.get(word.lower(), _LONG.get(word.lower()))
    if day is None:
        near = _nearest(word.lower(), [*_SHORT, *_LONG], known={name.lower(): name for name in _DAYS})
        raise _wrong(text, f"has {word!r}, which is no day{near}; days are {', '.join(_DAYS)}, and Mon-Fri or Sat,Sun")
    return day


def _parse_zone(text: str, word: str) -> str:
    if not word:
        return "UTC"
    key = "UTC" if word.upper() in ("UTC", "Z") else word
    try:
        if key in _NOT_ZONES or key.startswith(("posix/", "right/")):
            raise ValueError
        ZoneInfo(key)
    except (ValueError, KeyError, OSError):  # A directory, a wrong name, a name that is no file name.
        zones = {zone.rpartition("/")[2].lower(): zone for zone in sorted(available_timezones())}
        zones |= {zone.lower(): zone for zone in available_timezones()}
        near = zones.get(next(iter(difflib.get_close_matches(word.lower(), zones, 1, 0.75)), ""))
        city = f"; did you mean {near}?" if near else "; a zone is named by its city, such as Europe/Berlin, or is UTC"
        if _looks_like_a_day(word):
            city = f"; days come before the zone: {', '.join(_DAYS)}"
        raise _wrong(text, f"has {word!r}, which is no time zone{city}") from None
    return key


def _looks_like_a_day(word: str) -> bool:
    return bool(difflib.get_close_matches(re.split("[-,]", word)[0].lower(), [*_SHORT, *_LONG], 1))


def _nearest(word: str, words: Sequence[str], known: dict[str, str] | None = None) -> str:
    matches = difflib.get_close_matches(word, words, 1)
    return (
        f"; did you mean {(known or {}).get(matches[0], matches[0].capitalize() if known else matches[0])}?"
        if (matches)
        else ""
    )


def _wrong(text: str, what: str) -> InvalidInputError:
    return InvalidInputError(f"the maintenance window {text!r} {what}", hint=f"windows look like {EXAMPLES}")


def _clock_text(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _days_text(days: frozenset[int]) -> str:
    """Return days as ranges of three or more and single ones: Mon-Wed,Fri."""
    rows: list[list[int]] = []
    for day in sorted(days):
        if rows and rows[-1][-1] == day - 1:
            rows[-1].append(day)
        else:
            rows.append([day])
    parts = []
    for row in rows:
        names = [_DAYS[day] for day in row]
        parts += [f"{names[0]}-{names[-1]}"] if len(names) > 2 else names
    return ",".join(parts)
