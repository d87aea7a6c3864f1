"""Each alert fires, stays silent and ends where it should, names what exists, and says what fixes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from phasesync.cli.main import cli
from tests.support.promql import unknown
from tests.support.promtool import promtool

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "phasesync.rules.yaml"
TRIED = RULES.with_name("phasesync.rules.test.yaml")
RUNBOOK = ROOT / "docs" / "alerts.md"


def rules(text: str = RULES.read_text()) -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(text)["groups"]:
        yield from group["rules"]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}
DESCRIPTIONS = {
    "PhasesyncLagHigh": "Of the edits of the last 10 minutes, one in twenty took longer than 4m 48s from its",
    "PhasesyncDaemonAbsent": "No daemon of phasesync has answered or worked for 5 minutes.",
    "PhasesyncDatabaseUnavailable": "2 of the daemons of phasesync cannot reach or write the database.",
    "PhasesyncSchemaWaiting": "1 of the daemons of phasesync have waited for 5 minutes for the schema",
    "PhasesyncDaemonNotReady": "1 of the daemons of phasesync have not been ready for 5 minutes.",
    "PhasesyncClockSkew": "The clock of a is 1h 0m 0s from the clock of the other side (aws).",
    "PhasesyncLogLinesDropped": "About 12 lines of the log of a were lost within 15 minutes.",
    "PhasesyncSyncStale": "A sync of phasesync has been behind its environment for 18m 0s:",
    "PhasesyncSyncFailing": "A sync of phasesync has failed for 17m 0s.",
    "PhasesyncSyncHeld": "A change of a sync of phasesync has been held for 33m 0s.",
    "PhasesyncSyncHalted": "A sync of phasesync has been halted for 8m 0s.",
    "PhasesyncVersionBudgetLow": "An object of phasesync has nearly used up its budget of versions, or has.",
    "PhasesyncDriftMissed": "Within the last hour a full sweep of phasesync found objects that others changed",
    "PhasesyncThrottled": "AWS throttled 10% of the calls of phasesync to secretsmanager over 10 minutes.",
    "PhasesyncRevocationOverdue": "A lease of phasesync should have ended 15m 0s ago and is not revoked.",
    "PhasesyncMessagesPending": "A message of phasesync has waited for 17m 0s to be accepted by its channel.",
    "PhasesyncBackupFailing": "The newest attempts at 1 of the scheduled backups of phasesync have failed for 30",
    "PhasesyncBackupMissing": "A scheduled backup of phasesync has been missing for",
}
"""Alert -> how its description begins where its test has it fire."""


# --- what Prometheus says


def test_prometheus_reads_them() -> None:
    done = promtool("check", "rules", RULES)

    assert done.returncode == 0, done.stdout + done.stderr


def test_each_fires_stays_silent_and_ends() -> None:
    done = promtool("test", "rules", TRIED)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("spoilt", ["vector(1)", "vector(1) > 1"], ids=["always fires", "never fires"])
def test_an_alert_that_is_wrong_would_be_found(spoilt: str, tmp_path: Path) -> None:
    """
    Each of them is: the texts of all failures together name all alerts.

    Without what they say, which costs Prometheus most of its time, so that what is found is when they fire.
    """
    document = yaml.safe_load(RULES.read_text())
    for rule in (rule for group in document["groups"] for rule in group["rules"] if "alert" in rule):
        rule.update({"expr": spoilt, "for": "0s"})
        del rule["annotations"]
    tried = yaml.safe_load(TRIED.read_text())
    for test in tried["tests"]:
        test.pop("alert_rule_test", None)
    (tmp_path / RULES.name).write_text(yaml.safe_dump(document))
    (tmp_path / TRIED.name).write_text(yaml.safe_dump(tried))

    done = promtool("test", "rules", TRIED.name, cwd=tmp_path)

    assert done.returncode == 1
    assert set(re.findall(r"\bPhasesync\w+", done.stdout + done.stderr)) >= set(ALERTS)


def test_each_says_what_is_wrong_in_words_of_the_moment(tmp_path: Path) -> None:
    """Only promtool fills in a template: the descriptions alone, in the moment in which the alerts fire."""
    document = yaml.safe_load(RULES.read_text())
    for group in document["groups"]:
        for rule in (rule for rule in group["rules"] if "alert" in rule):
            rule["annotations"] = {"description": rule["annotations"]["description"]}
    tests = [dict(test, promql_expr_test=[], alert_rule_test=[_now(test)]) for test in _first_tests()]
    (tmp_path / RULES.name).write_text(yaml.safe_dump(document))
    (tmp_path / TRIED.name).write_text(yaml.safe_dump({**yaml.safe_load(TRIED.read_text()), "tests": tests}))

    done = promtool("test", "rules", TRIED.name, cwd=tmp_path)

    said = re.findall(r'got:.*?Annotations:\{description="(.*?)"\}', done.stdout + done.stderr, flags=re.DOTALL)
    assert [text for text in said if not text.startswith(tuple(DESCRIPTIONS.values()))] == []
    assert len(said) == len(DESCRIPTIONS)


def _first_tests() -> Iterator[dict[str, Any]]:
    """Return the first test of each alert."""
    found: dict[str, dict[str, Any]] = {}
    for test in yaml.safe_load(TRIED.read_text())["tests"]:
        found.setdefault(test["name"].partition(" ")[0], test)
    return iter(found.values())


def _now(test: dict[str, Any]) -> dict[str, Any]:
    """Ask for the alert without a text when it fires first: promtool prints what it has."""
    alert = test["name"].partition(" ")[0]
    firing = [each for each in test["promql_expr_test"] if "firing" in each["expr"] and "exp_samples" in each]
    return {"eval_time": firing[0]["eval_time"], "alertname": alert, "exp_alerts": [{"exp_labels": {}}]}


# --- what they say to people


def test_every_alert_has_a_test_and_a_description_here() -> None:
    tested = {test["name"].partition(" ")[0] for test in yaml.safe_load(TRIED.read_text())["tests"]}

    assert tested == set(ALERTS) == set(DESCRIPTIONS)


@pytest.mark.parametrize("name", ALERTS)
def test_it_says_how_bad_what_is_wrong_what_fixes_it_and_where_to_read_on(name: str) -> None:
    alert = ALERTS[name]

    assert alert["labels"]["severity"] in ("critical", "warning")
    assert set(alert["annotations"]) == {"summary", "description", "fix", "runbook"}
    assert alert["annotations"]["runbook"] == f"docs/alerts.md#{name.lower()}"


def test_the_runbook_has_a_section_for_each_alert_and_for_nothing_else() -> None:
    sections = re.findall(r"^### (.+)$", RUNBOOK.read_text(), flags=re.MULTILINE)

    assert sections == list(ALERTS), "in the order of the rules"
    for name in ALERTS:
        body = RUNBOOK.read_text().partition(f"### {name}\n")[2].partition("\n### ")[0]
        for part in ("**It means**", "**Look at**", "**It ends**", "**Notification**"):
            assert part in body, f"{part} of {name}"


def test_every_command_of_a_fix_and_of_the_runbook_exists() -> None:
    texts = [*(alert["annotations"]["fix"] for alert in ALERTS.values()), RUNBOOK.read_text()]
    commands = [words for text in texts for words in re.findall(r"`phasesync\s([a-z][^`]*)`", text)]

    assert len(commands) > 40
    for words in commands:
        command: click.Command | None = cli
        rest = words.split()
        while isinstance(command, click.Group):
            command = command.get_command(click.Context(command), rest.pop(0))
        assert command is not None, words
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options, words


# --- what they are about


def test_they_name_metrics_and_labels_that_exist() -> None:
    recorded = [rule["record"] for rule in rules() if "record" in rule]
    wrong, named = unknown([rule["expr"] for rule in rules()], recorded=recorded)

    assert wrong == []
    assert named > 15


def test_a_metric_or_label_that_does_not_exist_would_be_found() -> None:
    asked = 'max(phasesync_syncs{state="held"}) + phasesync_gone_total + process_max_fds{job="phasesync"}'

    assert unknown([asked]) == (["phasesync_syncs{state}", "phasesync_gone_total"], 3)
