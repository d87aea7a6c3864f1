"""One answer for many threads: asked once, never waited for without end, and no failure is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from phasesync.adapters.aws import single_flight
from phasesync.adapters.aws.single_flight import MAX_HANGING, SingleFlight
from phasesync.errors import CredentialRejectedError


def overdue(after_s: float) -> CredentialRejectedError:
    return CredentialRejectedError(f"overdue after {after_s:.1f} s")


def always(_: object) -> bool:
    return True


@pytest.fixture
def answer() -> SingleFlight[str]:
    return SingleFlight(within_s=0.2, overdue=overdue)


@pytest.fixture
def hang() -> Iterator[Callable[[], str]]:
    """Asks in vain until the test is over."""
    over = threading.Event()

    def ask() -> str:
        over.wait(30)
        return "late"

    yield ask
    over.set()


def fail() -> str:
    raise CredentialRejectedError("refused")


def test_threads_that_need_it_at_once_ask_once(answer: SingleFlight[str]):
    asked: list[None] = []
    together = threading.Barrier(8)

    def ask() -> str:
        asked.append(None)
        time.sleep(0.05)
        return "here"

    def get(_: int) -> str:
        together.wait()
        return answer.get(ask, usable=always)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(get, range(8))) == ["here"] * 8
    assert len(asked) == 1


def test_a_failure_is_asked_again(answer: SingleFlight[str]):
    with pytest.raises(CredentialRejectedError, match="refused"):
        answer.get(fail, usable=always)
    assert answer.get(lambda: "here", usable=always) == "here"


def test_who_waits_gets_an_error_of_its_own(answer: SingleFlight[str]):
    """Whoever catches it adds the name of its own object to the message."""
    errors = []
    for _ in range(2):
        with pytest.raises(CredentialRejectedError) as caught:
            answer.get(fail, usable=always)
        caught.value.message += " for shop"
        errors.append(caught.value)
    assert [error.message for error in errors] == ["refused for shop"] * 2


def test_a_slow_failure_stands_for_a_moment_and_not_for_another_basis(
    answer: SingleFlight[str], hang: Callable[[], str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(single_flight, "WORTH_KEEPING_S", 0.1)
    with pytest.raises(CredentialRejectedError, match="overdue"):
        answer.get(hang, usable=always, basis="file 1")
    with pytest.raises(CredentialRejectedError, match="overdue"):
        answer.get(lambda: "here", usable=always, basis="file 1")
    assert answer.get(lambda: "here", usable=always, basis="file 2") == "here"


def test_a_person_does_not_wait_for_a_failure_to_pass(
    answer: SingleFlight[str], hang: Callable[[], str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(single_flight, "WORTH_KEEPING_S", 0.1)
    with pytest.raises(CredentialRejectedError):
        answer.get(hang, usable=always)
    answer.drop()
    assert answer.get(lambda: "here", usable=always) == "here"


def test_questions_that_hang_do_not_pile_up(answer: SingleFlight[str], hang: Callable[[], str]):
    before = set(threading.enumerate())
    for _ in range(MAX_HANGING + 3):
        with pytest.raises(CredentialRejectedError):
            answer.get(hang, usable=always)
        answer.drop()
    assert len(set(threading.enumerate()) - before) == MAX_HANGING


def test_an_answer_that_comes_too_late_replaces_none_that_came_since(answer: SingleFlight[str]):
    go, stored = threading.Event(), threading.Event()

    def late() -> str:
        go.wait(10)
        stored.set()
        return "old"

    with pytest.raises(CredentialRejectedError):
        answer.get(late, usable=always, basis=1)
    assert answer.get(lambda: "new", usable=always, basis=2) == "new"
    go.set()
    assert stored.wait(5)
    assert answer.get(lambda: "newer", usable=always, basis=2) == "new"


def test_a_defect_of_who_asks_is_told_without_its_words(answer: SingleFlight[str]):
    def ask() -> str:
        raise RuntimeError("a secret")

    with pytest.raises(CredentialRejectedError) as caught:
        answer.get(ask, usable=always)
    assert "RuntimeError" in caught.value.message
    assert "a secret" not in str(vars(caught.value))
