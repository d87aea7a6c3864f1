"""Writes metrics in the form that the scraper asks for: OpenMetrics with exemplars, or text; compressed if allowed."""

import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder

_WORTH_COMPRESSING: Final = 1024
_LEVEL: Final = 1
"""Metrics are repetitive: a higher level takes several times the CPU for little."""


@dataclass(frozen=True, kw_only=True)
class Exposition:
    """
    Metrics as they are sent.

    Attributes:
        encoding: of the content; None if it is plain.
    """

    content_type: str
    content: bytes
    encoding: str | None = None


def expose(registry: CollectorRegistry, *, accept: str, accept_encoding: str) -> Exposition:
    """
    Return all metrics of a registry.

    Args:
        registry: the metrics.
        accept: HTTP header: OpenMetrics if it names that form, else text.
        accept_encoding: HTTP header: compressed if it names gzip.
    """
    encode, content_type = choose_encoder(accept)
    content = encode(registry)
    if len(content) < _WORTH_COMPRESSING or not _accepts_gzip(accept_encoding):
        return Exposition(content_type=content_type, content=content)
    return Exposition(content_type=content_type, content=gzip.compress(content, compresslevel=_LEVEL), encoding="gzip")


def as_text(families: Iterable[Metric]) -> bytes:
    """Return metrics as text of the oldest form, which every reader knows; see `CONTENT_TYPE`."""
    return generate_latest(_Families(families))


CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4


class _Families:
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _accepts_gzip(accept_encoding: str) -> bool:
    """Return whether a header names gzip, and not with a weight of 0."""
    for part in accept_encoding.lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() in ("gzip", "*"):
            value = weight.strip().removeprefix("q=")
            return not value or value.strip("0.") != ""
    return False
