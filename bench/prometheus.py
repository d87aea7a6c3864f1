"""
A real Prometheus on loopback that scrapes one address and evaluates our rules, with all times shortened.

    with Prometheus(folder, target="127.0.0.1:8787", rules=shortened(text, 60)) as prometheus:
        prometheus.alerts()             those that are pending or fire
        prometheus.value("up")
"""

import json
import re
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

import yaml

from tests.support.waiting import wait_until

PROGRAM: Final = Path(sys.prefix) / "promtool" / "prometheus"
"""Where `make .venv/.promtool` puts it."""
SCRAPED_EVERY_S: Final = 2.5
"""A scrape of a daemon without its database takes 2 s."""
EVALUATED_EVERY_S: Final = 0.5
JOB: Final = "phasesync"

_open: Final = build_opener(ProxyHandler({})).open
_UNITS_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
_LAPSES: Final = re.compile(r"^PhasesyncLagHigh$|_seconds")
_CLOCK: Final = "PhasesyncClockSkew"


@dataclass(frozen=True, kw_only=True)
class Alert:
    """An alert that is pending or fires."""

    name: str
    state: str
    active_at: datetime
    value: float
    labels: dict[str, str]
    description: str


def shortened(text: str, factor: int) -> str:
    """
    Return rules whose times pass `factor` times as fast.

    Shortened are `for`, the ranges in brackets, and the thresholds that are times: how long something has lasted. How
    far two clocks differ is none, and stays.
    """
    document = yaml.safe_load(text)
    for rule in (rule for group in document["groups"] for rule in group["rules"]):
        expression = re.sub(r"\[(\w+)\]", lambda found: f"[{_shorter(found[1], factor)}]", rule["expr"])
        name = rule.get("alert", "")
        if name != _CLOCK and (_LAPSES.search(name) or _LAPSES.search(expression)):
            expression = re.sub(r"> ([1-9]\d+)", lambda found: f"> {int(found[1]) / factor:g}", expression)
        rule["expr"] = expression
        if "for" in rule:
            rule["for"] = _shorter(rule["for"], factor)
    return yaml.safe_dump(document, sort_keys=False)


def _shorter(duration: str, factor: int) -> str:
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", duration).groups()  # type: ignore[union-attr]
    return f"{int(number) * _UNITS_MS[unit] // factor}ms"


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Prometheus:
    """The process."""

    def __init__(self, folder: Path, *, target: str, rules: str) -> None:
        """
        Start it; returns when it answers.

        Args:
            folder: for its files.
            target: HOST:PORT that it scrapes.
            rules: the text of a file of rules.
        """
        if not PROGRAM.exists():
            raise SystemExit(f"there is no {PROGRAM}: run `make .venv/.promtool`")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "rules.yaml").write_text(rules)
        scrape = {"job_name": JOB, "static_configs": [{"targets": [target]}]}
        every = {
            "scrape_interval": f"{SCRAPED_EVERY_S * 1000:.0f}ms",
            "scrape_timeout": f"{SCRAPED_EVERY_S * 1000:.0f}ms",
        }
        configuration = {
            "global": {**every, "evaluation_interval": f"{EVALUATED_EVERY_S * 1000:.0f}ms"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [scrape],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        self.url = f"http://127.0.0.1:{free_port()}"
        with (folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    str(PROGRAM),
                    f"--config.file={folder}/prometheus.yml",
                    f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address={self.url.removeprefix('http://')}",
                    "--enable-feature=exemplar-storage",
                    "--log.level=warn",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._ready, what=f"Prometheus ({folder}/prometheus.log)")

    def _ready(self) -> bool:
        try:
            with _open(f"{self.url}/-/ready", timeout=5) as answer:
                return int(answer.status) == 200
        except OSError:
            return False

    def alerts(self) -> list[Alert]:
        """Return what is pending or fires."""
        return [
            Alert(
                name=found["labels"]["alertname"],
                state=found["state"],
                active_at=datetime.fromisoformat(re.sub(r"\.\d+", "", found["activeAt"])),
                value=float(found["value"]),
                labels=found["labels"],
                description=found["annotations"]["description"],
            )
            for found in self._get("alerts")["alerts"]
        ]

    def firing(self) -> dict[str, Alert]:
        """Return name -> alert of those that fire."""
        return {alert.name: alert for alert in self.alerts() if alert.state == "firing"}

    def value(self, expression: str) -> float | None:
        """Return the greatest value of an expression now; None if there is none."""
        found = self._get("query", query=expression)["result"]
        return max((float(series["value"][1]) for series in found), default=None)

    def exemplars(self, metric: str) -> int:
        """Return how many exemplars of a metric are stored."""
        now = time.time()
        found = self._get("query_exemplars", query=metric, start=str(now - 3600), end=str(now + 60))
        return sum(len(series["exemplars"]) for series in found)

    def _get(self, what: str, **query: str) -> Any:
        with _open(f"{self.url}/api/v1/{what}?{urlencode(query)}", timeout=30) as answer:
            return json.load(answer)["data"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)
