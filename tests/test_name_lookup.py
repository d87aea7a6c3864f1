"""Names are looked up within a limit, whatever the resolver does."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from phasesync import name_lookup
from phasesync.name_lookup import look_up
from tests.support.waiting import HANG_GUARD_S, wait_until

ANSWER = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", 443))]
REAL = socket.getaddrinfo


class Resolver:
    """Answers names when it is told to; addresses are the system's matter."""

    def __init__(self) -> None:
        self.answering = threading.Event()
        self.error: Exception | None = None
        self.asked = 0

    def __call__(self, host: str | None, port: int, *, flags: int = 0, **rest: Any) -> Any:
        if flags & socket.AI_NUMERICHOST:
            return REAL(host, port, flags=flags, **rest)
        self.asked += 1
        assert self.answering.wait(HANG_GUARD_S)
        if self.error is not None:
            raise self.error
        return ANSWER


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    made = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    monkeypatch.setattr(name_lookup, "_lookups", {})
    yield made
    made.answering.set()


def test_an_address_needs_no_name_server(resolver: Resolver) -> None:
    assert look_up("127.0.0.1", 443)[0][4] == ("127.0.0.1", 443)
    assert resolver.asked == 0


def test_a_name_is_looked_up_anew_each_time(resolver: Resolver) -> None:
    resolver.answering.set()
    assert [look_up("aws.example", 443), look_up("aws.example", 443)] == [ANSWER, ANSWER]
    assert resolver.asked == 2, "caching is the system's part"


def test_whoever_asks_waits_no_longer_than_the_limit(resolver: Resolver) -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        look_up("aws.example", 443, within_s=0.05)
    assert time.monotonic() - began < 5


def test_all_who_ask_meanwhile_share_one_lookup_and_get_its_late_answer(resolver: Resolver) -> None:
    for _ in range(5):
        with pytest.raises(TimeoutError):
            look_up("aws.example", 443, within_s=0.01)
    resolver.answering.set()
    assert look_up("aws.example", 443) == ANSWER
    assert resolver.asked == 1


def test_a_lookup_that_takes_long_gets_a_second_one_beside_it(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one waits for its name server to be asked again; the second one may be answered at once."""
    monkeypatch.setattr(name_lookup, "LOOKUP_WITHIN_S", 0.0)
    monkeypatch.setattr(name_lookup, "_MOST_THREADS", 3)
    for _ in range(6):
        with pytest.raises(TimeoutError):
            look_up("aws.example", 443, within_s=0.01)
    wait_until(lambda: resolver.asked == 3, what="three threads, and no more")


def test_a_name_that_nobody_knows_is_asked_for_again(resolver: Resolver) -> None:
    resolver.answering.set()
    resolver.error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    with pytest.raises(socket.gaierror) as refused:
        look_up("aws.example", 443)
    assert refused.value.errno == socket.EAI_NONAME
    resolver.error = None
    assert look_up("aws.example", 443) == ANSWER
