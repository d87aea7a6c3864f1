"""
Figures, their goals and their verdicts; and how they are written: Markdown, JSON and a picture.

A figure is one number of one database. What the peers' ways take for the same on the same endpoint in the same run is
beside it, in the same unit.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from math import log10
from typing import Any, Final

MODEL: Final = "Phase"
"""The peer that ratios are of: the product that phasesync is modelled on."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """
    One number.

    Attributes:
        key: names the row in JSON; the same for both databases.
        what: the row, for people.
        database: "" where none is involved.
        value: the number.
        unit: "" for a count.
        goal: the bound; None where there is none.
        at_least: the goal is the least value, and more is better. Otherwise it is the greatest.
        peers: peer -> its number.
        ratio_goal: how many times better than the model's way it has to be.
        note: what a reader has to know.
    """

    key: str
    what: str
    database: str = ""
    value: float
    unit: str = ""
    goal: float | None = None
    at_least: bool = False
    peers: Mapping[str, float] = field(default_factory=dict)
    ratio_goal: float | None = None
    note: str = ""

    @property
    def ratios(self) -> dict[str, float]:
        """Peer -> how many times better we are."""
        return {
            name: float(f"{self.value / other if self.at_least else other / self.value:.3g}")
            for name, other in self.peers.items()
            if other and self.value
        }

    @property
    def missed(self) -> list[str]:
        """What falls below a goal, as text; empty if nothing does."""
        missed = []
        if self.goal is not None and (self.value < self.goal if self.at_least else self.value > self.goal):
            missed.append(f"{shown(self.value)} {self.unit}, the goal is {self.bound}".replace(" ,", ","))
        if self.ratio_goal is not None and (ratio := self.ratios.get(MODEL, 0.0)) < self.ratio_goal:
            missed.append(f"{shown(ratio)} times the way of {MODEL}, the goal is {shown(self.ratio_goal)} times")
        return missed

    @property
    def bound(self) -> str:
        """The goal as text."""
        return "" if self.goal is None else f"{'≥' if self.at_least else '≤'} {shown(self.goal)}"

    @property
    def verdict(self) -> str:
        """met, missed, or a dash where there is no goal."""
        return "–" if self.goal is None and self.ratio_goal is None else "missed" if self.missed else "met"


@dataclass(frozen=True, kw_only=True)
class Section:
    """
    The figures of one benchmark.

    Attributes:
        name: of its module.
        command: prints them again.
        load_before: load average when it began.
        load_during: the highest while it ran.
        measured_at: when; "" where it does not matter.
    """

    name: str
    title: str
    command: str
    figures: Sequence[Figure]
    load_before: float
    load_during: float
    seconds: float
    measured_at: str = ""


def shown(value: float) -> str:
    """Return a number as people read it: three digits that count, no more."""
    if value == 0 or abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def missed(sections: Iterable[Section]) -> list[str]:
    """Return a line for every goal that is missed."""
    return [
        f"{section.name}: {figure.what}{f' ({figure.database})' if figure.database else ''}: {text}"
        for section in sections
        for figure in section.figures
        for text in figure.missed
    ]


# --- Markdown


def markdown(sections: Sequence[Section]) -> str:
    """Return a table for each section, with its command and the load beside it."""
    return "\n".join(_section(section) for section in sections)


def _section(section: Section) -> str:
    rows = [["figure", "SQLite", "PostgreSQL", "goal", "peers' ways", "times better", "verdict"]]
    for figures in _by_key(section.figures).values():
        first = figures[0]
        by_database = {figure.database: figure for figure in figures}
        cells = [_cell(by_database.get(name) or by_database.get("")) for name in ("sqlite", "postgresql")]
        if "" in by_database:
            cells[1] = ""
        bounds = dict.fromkeys(_goal(figure) for figure in figures)
        verdicts = dict.fromkeys(figure.verdict for figure in figures)
        ratios = {figure.database: figure.ratios for figure in figures}
        names = list(first.peers)
        rows.append(
            [
                first.what + (f" ({first.unit})" if first.unit else ""),
                *cells,
                " / ".join(bounds),
                "<br>".join(f"{name} {shown(first.peers[name])}" for name in names),
                "<br>".join(" / ".join(shown(own[name]) for own in ratios.values() if name in own) for name in names),
                " / ".join(verdicts) if len(verdicts) > 1 else next(iter(verdicts)),
            ]
        )
    lines = [f"## {section.title}", "", f"    {section.command}", "", *_aligned(rows), ""]
    notes = dict.fromkeys(figure.note for figure in section.figures if figure.note)
    if notes:
        lines += [*notes, ""]
    load = f"{section.load_before:.1f} before, up to {section.load_during:.1f} during"
    at = f"; measured {section.measured_at}" if section.measured_at else ""
    lines += [f"Load average {load}; {section.seconds:.0f} s{at}.", ""]
    return "\n".join(lines)


def _goal(figure: Figure) -> str:
    ratio = "" if figure.ratio_goal is None else f"≥ {shown(figure.ratio_goal)} times"
    return ", ".join(part for part in (figure.bound, ratio) if part)


def _cell(figure: Figure | None) -> str:
    return "" if figure is None else shown(figure.value)


def _by_key(figures: Iterable[Figure]) -> dict[str, list[Figure]]:
    grouped: dict[str, list[Figure]] = {}
    for figure in figures:
        grouped.setdefault(figure.key, []).append(figure)
    return grouped


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for number, row in enumerate(rows):
        cells = [
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("| " + " | ".join(cells) + " |")
        if number == 0:
            dashes = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
            lines.append("| " + " | ".join(dashes) + " |")
    return lines


# --- JSON


def document(machine: Mapping[str, object], sections: Sequence[Section]) -> str:
    """Return everything as JSON: goals, values, peers, ratios and verdicts."""
    return json.dumps(
        {
            "machine": dict(machine),
            "missed": missed(sections),
            "sections": [
                {
                    "name": section.name,
                    "title": section.title,
                    "measured_at": section.measured_at,
                    "command": section.command,
                    "load_before": round(section.load_before, 2),
                    "load_during": round(section.load_during, 2),
                    "seconds": round(section.seconds),
                    "figures": [_plain(figure) for figure in section.figures],
                }
                for section in sections
            ],
        },
        indent=1,
        ensure_ascii=False,
    )


def _plain(figure: Figure) -> dict[str, Any]:
    return {
        "key": figure.key,
        "what": figure.what,
        "database": figure.database or None,
        "value": float(f"{figure.value:.4g}"),
        "unit": figure.unit,
        "goal": figure.goal,
        "goal_is": "least" if figure.at_least else "greatest",
        "peers": {name: float(f"{value:.4g}") for name, value in figure.peers.items()},
        "ratios": figure.ratios,
        "ratio_goal": figure.ratio_goal,
        "note": figure.note,
        "verdict": figure.verdict,
    }


def sections_of(text: str) -> list[Section]:
    """Return the sections of a `document`."""
    return [
        Section(
            **{name: section[name] for name in ("name", "title", "command", "load_before", "load_during", "seconds")},
            measured_at=section["measured_at"],
            figures=[
                Figure(
                    **{name: plain[name] for name in ("key", "what", "value", "unit", "goal", "peers", "ratio_goal")},
                    database=plain["database"] or "",
                    at_least=plain["goal_is"] == "least",
                    note=plain["note"],
                )
                for plain in section["figures"]
            ],
        )
        for section in json.loads(text)["sections"]
    ]


# --- a picture

_COLOURS: Final = {"sqlite": "#1f6f8b", "postgresql": "#2e9c8f", "": "#1f6f8b"}
_PEER: Final = "#b9b4a7"
_LEFT, _WIDTH, _BAR, _GAP = 300, 420, 15, 22


def picture(sections: Sequence[Section]) -> str:
    """Return bars as SVG: each figure that has peers, beside theirs, on a scale of powers of ten."""
    groups = [
        figures
        for section in sections
        for figures in _by_key(section.figures).values()
        if figures[0].peers and all(figure.value > 0 for figure in figures)
    ]
    parts, y = [], 46
    for figures in groups:
        first = figures[0]
        bars = [(figure.database or "phasesync", figure.value, _COLOURS[figure.database]) for figure in figures]
        bars += [(f"{name}'s way", value, _PEER) for name, value in first.peers.items() if value > 0]
        low = min(value for _, value, _ in bars) / 2
        high = max(value for _, value, _ in bars)
        better = "more is better" if first.at_least else "less is better"
        title = f"{first.what}{f', {first.unit}' if first.unit else ''}"
        parts.append(f'<text x="12" y="{y}" class="t">{escape(title)} <tspan class="n">{better}</tspan></text>')
        y += 8
        for name, value, colour in bars:
            width = max(2.0, _WIDTH * log10(value / low) / log10(high / low))
            parts.append(f'<text x="{_LEFT - 8}" y="{y + 12}" text-anchor="end">{escape(name)}</text>')
            parts.append(f'<rect x="{_LEFT}" y="{y}" width="{width:.0f}" height="{_BAR}" rx="2" fill="{colour}"/>')
            parts.append(f'<text x="{_LEFT + width + 6:.0f}" y="{y + 12}">{shown(value)}</text>')
            y += _BAR + 4
        y += _GAP
    style = "text{font:12px system-ui,sans-serif;fill:#333}.t{font-weight:600}.n{font-weight:400;fill:#777}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 820 {y}" role="img" '
        'aria-label="phasesync beside the peers\' ways">\n'
        f"<style>{style}</style>\n"
        f'<rect width="820" height="{y}" fill="#fff"/>\n'
        '<text x="12" y="22" class="n">Bars are on a scale of powers of ten. '
        "The peers' ways are their AWS calls alone.</text>\n" + "\n".join(parts) + "\n</svg>\n"
    )
