"""Grafana reads the dashboard, every panel says what it shows and in which unit, and asks Prometheus in PromQL."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.promql import unknown
from tests.support.promtool import promtool

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "phasesync.json").read_text())
CHOSEN = {"$job": "phasesync", "$namespace": ".*", "$instance": ".*", "$__rate_interval": "1m"}
"""What Grafana puts in place of its variables."""
UNITS = {
    "s": "second",
    "bytes": "bytes",
    "ops": "per second",
    "reqps": "per second",
    "percentunit": "%",
    "short": "(count",
}
"""Unit of a panel -> what its description has to say."""


def panels(every: list[dict[str, Any]] = DASHBOARD["panels"]) -> Iterator[dict[str, Any]]:
    """Return rows and panels, those of closed rows too."""
    for panel in every:
        yield panel
        yield from panels(panel.get("panels", []))


PANELS = [panel for panel in panels() if panel["type"] != "row"]


def expressions() -> list[str]:
    """Return what Prometheus is asked, as Grafana asks it."""
    found = [target["expr"] for panel in PANELS for target in panel["targets"]]
    found += [annotation["expr"] for annotation in DASHBOARD["annotations"]["list"]]
    for variable, value in CHOSEN.items():
        found = [expression.replace(variable, value) for expression in found]
    return found


def check(asked: list[str], folder: Path) -> tuple[int, str]:
    """Have promtool read expressions, each as a rule; return its exit code and what it says."""
    rules = [{"record": f"asked:{number}", "expr": expression} for number, expression in enumerate(asked)]
    file = folder / "asked.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": rules}]}))
    done = promtool("check", "rules", file)
    return done.returncode, done.stdout + done.stderr


def test_it_is_made_from_the_list_of_panels() -> None:
    """Otherwise: python deploy/grafana/make_dashboard.py"""
    spec = importlib.util.spec_from_file_location("make_dashboard", FOLDER / "make_dashboard.py")
    assert spec is not None and spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)

    assert maker.text() == (FOLDER / "phasesync.json").read_text()


def test_it_fits_any_grafana() -> None:
    sources = re.findall(r'"type": "prometheus", "uid": "([^"]*)"', json.dumps(DASHBOARD))

    assert {"uid", "id"}.isdisjoint(DASHBOARD), "Grafana gives both"
    assert DASHBOARD["schemaVersion"] == 42
    assert len(sources) > len(PANELS) and set(sources) == {"${datasource}"}
    assert (
        DASHBOARD["templating"]["list"][0] | {"name": "datasource", "type": "datasource"}
        == (DASHBOARD["templating"]["list"][0])
    )
    assert {panel["type"] for panel in panels()} <= {"row", "stat", "table", "timeseries", "heatmap"}


def test_every_variable_is_defined() -> None:
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD)))

    assert used - {"__rate_interval"} == {variable["name"] for variable in DASHBOARD["templating"]["list"]}


def test_panels_lie_side_by_side_within_24_columns() -> None:
    ids = [panel["id"] for panel in panels()]
    covered: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {(place["x"] + column, place["y"] + line) for column in range(place["w"]) for line in range(place["h"])}
        assert covered.isdisjoint(cells), panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        covered |= cells

    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_it_says_what_it_shows_and_in_which_unit(panel) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    counted = panel["type"] != "table" and not defaults["mappings"]

    assert panel["targets"], "it asks for something"
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert not counted or UNITS[defaults["unit"]] in panel["description"].lower()


def test_what_is_wrong_comes_first() -> None:
    first = [panel["title"] for panel in panels()][1:3]

    assert first == ["Daemons at work", "Alerts that fire"]


def test_an_alert_without_an_installation_is_shown_too() -> None:
    """That no daemon was ever found: `absent()` has no labels."""
    (asked,) = [expression for expression in expressions() if expression.startswith("ALERTS{")]

    assert all(re.fullmatch(pattern, "") for pattern in re.findall(r'(?:job|namespace)=~"([^"]*)"', asked))


def test_prometheus_understands_every_expression(tmp_path) -> None:
    code, said = check(expressions(), tmp_path)

    assert len(expressions()) > 60
    assert code == 0, said


def test_an_expression_that_is_wrong_would_be_found(tmp_path) -> None:
    code, said = check([*expressions(), "sum by (status (phasesync_syncs)"], tmp_path)

    assert code != 0 and "parse error" in said


def test_it_shows_metrics_and_labels_that_exist() -> None:
    wrong, named = unknown(expressions())

    assert wrong == []
    assert named > 40
