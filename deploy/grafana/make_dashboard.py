"""
Writes phasesync.json, the dashboard for Grafana 12 or newer, from panels.yaml.

    python deploy/grafana/make_dashboard.py

Import the JSON as it is (Dashboards, New, Import) or provision it: it has no uid, and its first variable is the data
source. docs/metrics.md says what the metrics mean.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

DASHBOARD: Final = Path(__file__).with_name("phasesync.json")
PANELS: Final = Path(__file__).with_name("panels.yaml")
SCHEMA_VERSION: Final = 42
"""Of Grafana 12.2 and newer; older ones read what they know of it."""
COLUMNS: Final = 24

_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_OF: Final = 'job=~"$job",namespace=~"$namespace"'
"""An installation. Without Kubernetes there is no namespace, which `.*` matches."""
_LABELS: Final = {
    "$of": _OF,
    "$each": _OF + ',instance=~"$instance"',
    # Also without a job: that no daemon was ever found is an alert of no installation.
    "$alerts": 'alertname=~"Phasesync.*",job=~"$job|",namespace=~"$namespace|"',
}
_LETTERS: Final = "ABCDEF"


def dashboard(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the dashboard as Grafana stores it, of the rows of panels.yaml."""
    return {
        "title": "phasesync",
        "description": "What phasesync does, what it waits for and what is wrong. docs/alerts.md explains each alert.",
        "tags": ["phasesync"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,  # one crosshair over all panels
        "fiscalYearStartMonth": 0,
        "timezone": "browser",
        "time": {"from": "now-6h", "to": "now"},
        "timepicker": {},
        "refresh": "30s",
        "links": [],
        "annotations": {"list": [_releases()]},
        "templating": {"list": _variables()},
        "panels": _placed(rows),
    }


def _releases() -> dict[str, Any]:
    running = "count by (version) (phasesync_build_info{$of})"
    return {
        "name": "Releases",
        "datasource": _SOURCE,
        "enable": True,
        "iconColor": "blue",
        "expr": _expression(f"{running} unless {running.replace('}', '} offset 5m')}"),
        "titleFormat": "phasesync {{version}}",
        "step": "60s",
    }


def _variables() -> list[dict[str, Any]]:
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1}
    found: list[dict[str, Any]] = [source]
    for name, label, query in (
        ("namespace", "Namespace", "label_values(phasesync_build_info, namespace)"),
        ("job", "Installation", 'label_values(phasesync_build_info{namespace=~"$namespace"}, job)'),
        ("instance", "Daemons", f"label_values(phasesync_build_info{{{_OF}}}, instance)"),
    ):
        every = {"includeAll": True, "allValue": ".*"} if name != "job" else {"includeAll": False}
        found.append(
            {
                "name": name,
                "label": label,
                "type": "query",
                "datasource": _SOURCE,
                "definition": query,
                "query": {"query": query, "refId": "variables"},
                "refresh": 2,  # when the time range changes: replicas come and go
                "sort": 1,
                "multi": name == "instance",
                **every,
            }
        )
    return found


def _placed(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = []
    numbers = iter(range(1, 1000))
    y = 0
    for row in rows:
        collapsed = row.get("collapsed", False)
        head = {"id": next(numbers), "type": "row", "title": row["row"], "collapsed": collapsed}
        head["gridPos"] = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        inside, y = _flow(row["panels"], y + 1, numbers)
        panels += [head | {"panels": inside}] if collapsed else [head | {"panels": []}, *inside]
    return panels


def _flow(panels: Sequence[Mapping[str, Any]], y: int, numbers: Iterator[int]) -> tuple[list[dict[str, Any]], int]:
    """Return panels from left to right and line by line from y on, and where the next one goes."""
    placed: list[dict[str, Any]] = []
    x = tallest = 0
    for panel in panels:
        side = 4 if panel.get("kind") == "stat" else 8
        width, height = panel.get("width", side), panel.get("height", side)
        if x + width > COLUMNS:
            x, y, tallest = 0, y + tallest, 0
        placed.append({"id": next(numbers), "gridPos": {"x": x, "y": y, "w": width, "h": height}, **_panel(panel)})
        x, tallest = x + width, max(tallest, height)
    return placed, y + tallest


def _panel(panel: Mapping[str, Any]) -> dict[str, Any]:
    kind = panel.get("kind", "timeseries")
    options, custom = _LOOKS[kind]
    if panel.get("stacked"):
        custom = custom | {"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 40}
    # The first colour is also that of everything below it.
    steps = list(panel.get("steps", {0: "text"}).items())
    defaults = {
        "unit": panel.get("unit", "short"),
        "color": {"mode": "palette-classic" if kind == "timeseries" else "thresholds"},
        "thresholds": {
            "mode": "absolute",
            "steps": [{"value": at if number else None, "color": color} for number, (at, color) in enumerate(steps)],
        },
        "mappings": [_words(panel["words"])] if "words" in panel else [],
        "custom": custom,
    }
    if kind == "timeseries" and not panel.get("signed"):
        defaults["min"] = 0
    return {
        "type": kind,
        "title": panel["title"],
        "description": panel["description"],
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            _target(kind, letter, legend, expression, exemplars=panel.get("exemplars", False))
            for letter, (legend, expression) in zip(_LETTERS, panel["queries"].items(), strict=False)
        ],
        "transformations": [_WITHOUT_NOISE] if kind == "table" else [],
    }


def _target(kind: str, letter: str, legend: str, expression: str, *, exemplars: bool) -> dict[str, Any]:
    now = kind in ("stat", "table")
    return {
        "refId": letter,
        "datasource": _SOURCE,
        "editorMode": "code",
        "expr": _expression(expression),
        "legendFormat": legend,
        "format": {"table": "table", "heatmap": "heatmap"}.get(kind, "time_series"),
        "instant": now,
        "range": not now,
        "exemplar": exemplars,
    }


def _expression(text: str) -> str:
    for short, labels in _LABELS.items():
        text = text.replace(short, labels)
    return text


def _words(words: Mapping[int, str]) -> dict[str, Any]:
    texts = {str(value): {"text": word, "index": number} for number, (value, word) in enumerate(words.items())}
    return {"type": "value", "options": texts}


_WITHOUT_NOISE: Final = {
    "id": "organize",
    "options": {
        "excludeByName": dict.fromkeys(("Time", "Value", "__name__", "endpoint", "container", "service"), True),
        "indexByName": {},
        "renameByName": {},
    },
}
_LOOKS: Final[dict[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    "timeseries": (
        {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        {
            "drawStyle": "line",
            "lineInterpolation": "linear",
            "lineWidth": 1,
            "fillOpacity": 10,
            "showPoints": "auto",
            "spanNulls": False,
            "stacking": {"mode": "none", "group": "A"},
        },
    ),
    "stat": (
        {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "background",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "textMode": "value",
            "wideLayout": True,
        },
        {},
    ),
    "heatmap": (
        {
            "calculate": False,
            "cellGap": 1,
            "color": {"mode": "scheme", "scheme": "Turbo", "exponent": 0.5, "steps": 64, "reverse": False},
            "exemplars": {"color": "rgba(255,0,255,0.7)"},
            "filterValues": {"le": 1e-9},
            "legend": {"show": True},
            "rowsFrame": {"layout": "auto"},
            "tooltip": {"mode": "single", "yHistogram": False, "showColorScale": False},
            "yAxis": {"axisPlacement": "left", "unit": "s", "reverse": False},
        },
        {},
    ),
    "table": (
        {"showHeader": True, "cellHeight": "sm"},
        {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False},
    ),
}
"""Kind of a panel -> its options, and its custom fields."""


def text() -> str:
    """Return what phasesync.json has to hold."""
    return json.dumps(dashboard(yaml.safe_load(PANELS.read_text())), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    DASHBOARD.write_text(text(), encoding="utf-8")
