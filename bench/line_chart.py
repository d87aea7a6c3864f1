"""Lines over time, as SVG: panels below each other and beside each other, each with a scale that begins at zero."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from math import floor, log10
from typing import Any, Final

_COLOURS: Final = ("#1f6f8b", "#2e9c8f", "#d08c2f")
_PANEL_WIDTH, _PANEL_HEIGHT, _LEFT, _TOP, _GAP = 330, 130, 56, 80, 74
_TICKS: Final = 4


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line: `points` are minutes and values, in the order of time. Lines of one name have one colour."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel. `shaded_until`: the minute up to which its background is shaded."""

    title: str
    lines: Sequence[Line]
    minutes: float
    shaded_until: float = 0.0


def line_chart(rows: Sequence[Sequence[Panel]], *, caption: str) -> str:
    """Return rows of panels as SVG."""
    columns = max(len(row) for row in rows)
    width = _LEFT + columns * (_PANEL_WIDTH + _GAP)
    height = _TOP + len(rows) * (_PANEL_HEIGHT + _GAP) - 16
    parts = [
        _panel(panel, _LEFT + column * (_PANEL_WIDTH + _GAP), _TOP + row * (_PANEL_HEIGHT + _GAP))
        for row, panels in enumerate(rows)
        for column, panel in enumerate(panels)
    ]
    style = (
        "text{font:12px system-ui,sans-serif;fill:#333}.t{font-weight:600}.n{fill:#777}"
        "polyline{fill:none;stroke-width:1.5}.g{stroke:#ddd}.s{fill:#f4f1ea}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(caption)}">\n<style>{style}</style>\n'
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n'
        f'<text x="12" y="22" class="n">{escape(caption)}</text>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _panel(panel: Panel, left: float, top: float) -> str:
    step = _step(max((value for line in panel.lines for _, value in line.points), default=1.0))
    highest, bottom = step * _TICKS, top + _PANEL_HEIGHT
    parts = [f'<text x="{left}" y="{top - 26}" class="t">{escape(panel.title)}</text>']
    shaded = _PANEL_WIDTH * min(1.0, panel.shaded_until / panel.minutes)
    parts.append(f'<rect x="{left}" y="{top}" width="{shaded:.0f}" height="{_PANEL_HEIGHT}" class="s"/>')
    for tick in range(_TICKS + 1):
        y = bottom - _PANEL_HEIGHT * tick / _TICKS
        parts.append(f'<line x1="{left}" x2="{left + _PANEL_WIDTH}" y1="{y:.0f}" y2="{y:.0f}" class="g"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end" class="n">{tick * step:g}</text>')
        minute = panel.minutes * tick / _TICKS
        x = left + _PANEL_WIDTH * tick / _TICKS
        parts.append(f'<text x="{x:.0f}" y="{bottom + 16}" text-anchor="middle" class="n">{minute:.2g} min</text>')
    names = list(dict.fromkeys(line.name for line in panel.lines))
    for line in panel.lines:
        points = " ".join(
            f"{left + _PANEL_WIDTH * minute / panel.minutes:.1f},{bottom - _PANEL_HEIGHT * value / highest:.1f}"
            for minute, value in line.points
        )
        colour = _COLOURS[names.index(line.name) % len(_COLOURS)]
        parts.append(f'<polyline points="{points}" stroke="{colour}"/>')
    for number, name in enumerate(names):
        colour = _COLOURS[number % len(_COLOURS)]
        parts.append(f'<text x="{left + 84 * number}" y="{top - 9}" style="fill:{colour}">{escape(name)}</text>')
    return "\n".join(parts)


def _step(highest: float) -> float:
    """Return a round number of which `_TICKS` reach the highest value."""
    least = max(highest, 1e-9) / _TICKS
    power = 10.0 ** floor(log10(least))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= least)


# --- the chart of soaks

_NAMES: Final = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
_SHOWN: Final = {"rss_mb": "memory, MB", "descriptors": "descriptors", "connections": "database connections"}


def soak_chart(soaks: Iterable[Mapping[str, Any]]) -> str:
    """Return the chart of what `bench.soak` wrote: a column for each database."""
    by_database = sorted(soaks, key=lambda soak: str(soak["database"]), reverse=True)
    rows = [[_of_soak(soak, what, title) for soak in by_database] for what, title in _SHOWN.items()]
    return line_chart(rows, caption="A line for each process; faults as long as the background is shaded.")


def _of_soak(soak: Mapping[str, Any], what: str, title: str) -> Panel:
    samples = sorted(soak["samples"], key=lambda sample: (sample["replica"], sample["pid"], sample["at"]))
    lines = []
    for (replica, _), own in groupby(samples, key=lambda sample: (sample["replica"], sample["pid"])):
        # Connections cannot be counted while PostgreSQL is stopped.
        points = [(sample["at"] / 60, sample[what]) for sample in own if sample[what] is not None]
        lines.append(Line(name=replica, points=points))
    minutes = max([float(soak["minutes"]), *(minute for line in lines for minute, _ in line.points)])
    return Panel(
        title=f"{_NAMES[soak['database']]}: {title}",
        lines=lines,
        minutes=minutes,
        shaded_until=float(soak["chaos_minutes"]),
    )
