"""What a scraper sees: the families of an exposition, and single values of it."""

from __future__ import annotations

import urllib.request

from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


class Scrape:
    """One answer of /metrics."""

    def __init__(self, text: str, *, is_openmetrics: bool = False) -> None:
        self.text = text
        parse = openmetrics.text_string_to_metric_families if is_openmetrics else text_string_to_metric_families
        self.families: dict[str, Metric] = {}
        for family in parse(text):
            assert family.name not in self.families, f"{family.name} is there twice"
            self.families[family.name] = family

    def value(self, name: str, **labels: str) -> float | None:
        """Return the value of a sample; None if there is no such sample."""
        values = [
            sample.value
            for family in self.families.values()
            for sample in family.samples
            if sample.name == name and sample.labels == labels
        ]
        assert len(values) <= 1, f"{name} {labels} is there twice"
        return values[0] if values else None

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the samples that have at least these labels."""
        return sum(
            sample.value
            for family in self.families.values()
            for sample in family.samples
            if sample.name == name and sample.labels.items() >= labels.items()
        )


def scrape(address: str, *, accept: str = "") -> Scrape:
    """Ask a daemon for its metrics."""
    request = urllib.request.Request(f"http://{address}/metrics", headers={"Accept": accept} if accept else {})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as response:
        return Scrape(response.read().decode(), is_openmetrics=bool(accept))
