"""What notifications say of syncs and leases: each step once, whoever asks, on each database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from phasesync.core.credential import CredentialType
from phasesync.core.notification_message import Condition, Step
from phasesync.core.sync import Paused, SyncConfig, SyncStatus
from phasesync.errors import IllegalTransitionError
from phasesync.store import Store, message_making
from phasesync.store.tables import alerts, messages, notices, notifications, runs, syncs
from tests.support.alerts import CANARY, claim, draft, notify, run_ends, said, sent, short, time_passes
from tests.support.sql import counted
from tests.support.stores import (
    ACTOR,
    access_key,
    add_dynamic,
    add_sync,
    alter,
    at_once,
    end_lease,
    fail_lease,
    issue_lease,
    move_lease,
    open_test_store,
)

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
IN_SYNC, FAILING, HALTED, HELD, PENDING = (
    SyncStatus.IN_SYNC,
    SyncStatus.FAILING,
    SyncStatus.HALTED,
    SyncStatus.HELD,
    SyncStatus.PENDING,
)


def shorts(found) -> list[str]:
    return [short(message) for message in found]


def test_a_failure_is_reported_again_after_growing_pauses_and_its_end_once(store: Store) -> None:
    notify(store)
    add_sync(store)
    run_ends(store, "web", FAILING)
    assert shorts(said(store)) == ["first failing web"]
    assert said(store, timedelta(minutes=50)) == []
    assert shorts(said(store, timedelta(minutes=11))) == ["still failing web"]
    assert said(store, timedelta(minutes=110)) == []
    assert shorts(said(store, timedelta(minutes=11))) == ["still failing web"]
    run_ends(store, "web", IN_SYNC)
    assert shorts(said(store)) == ["recovered failing web"]
    run_ends(store, "web", IN_SYNC)
    assert said(store, DAY) == []


def test_what_is_tried_again_and_fails_again_is_one_alert(store: Store) -> None:
    notify(store)
    add_sync(store)
    run_ends(store, "web", FAILING)
    assert shorts(said(store)) == ["first failing web"]
    for status in (PENDING, FAILING, PENDING, HALTED, FAILING):
        run_ends(store, "web", status)
    assert shorts(said(store)) == [], "halted does not hold at this moment"
    run_ends(store, "web", IN_SYNC)
    assert shorts(said(store)) == ["recovered failing web"]
    assert store.alerts.counts().open[Condition.FAILING] == 0


def test_what_ends_before_its_time_is_not_reported(store: Store) -> None:
    notify(store, after=timedelta(minutes=15))
    add_sync(store)
    run_ends(store, "web", FAILING)
    assert said(store, timedelta(minutes=14)) == []
    run_ends(store, "web", IN_SYNC)
    assert said(store, HOUR) == []
    run_ends(store, "web", HALTED)
    assert shorts(said(store, timedelta(minutes=15))) == ["first halted web"]


def test_a_paused_and_a_removed_sync_end_their_alerts_and_say_so(store: Store) -> None:
    notify(store)
    for name in ("web", "api", "jobs"):
        add_sync(store, name, config=SyncConfig(remote_name=name))
        run_ends(store, name, FAILING, error="PayloadTooLargeError")
    assert len(said(store)) == 1
    now = datetime.now(UTC)
    store.sync_requests.pause("web", Paused(by="ana", at=now, reason="", until=None))
    store.sync_requests.pause_all(["api"], Paused(by="ana", at=now, reason="", until=None))
    store.syncs.remove_sync("jobs")
    [recovered] = said(store)
    assert {subject.name: subject.reason.partition(",")[0] for subject in recovered.subjects} == {
        "web": "paused",
        "api": "paused",
        "jobs": "removed",
    }
    store.sync_requests.resume("web", actor=ACTOR)
    run_ends(store, "web", FAILING)
    assert shorts(said(store)) == ["first failing web"]


def test_a_recovery_that_was_gathered_is_not_told_while_the_syncs_are_reported_again(store: Store) -> None:
    notify(store)
    names = ("web", "api", "jobs")
    for name in names:
        add_sync(store, name, config=SyncConfig(remote_name=name))

    def turn(status: SyncStatus) -> None:
        for name in names:
            run_ends(store, name, status)

    turn(FAILING)
    assert [message.step for message in said(store)] == [Step.FIRST]
    turn(IN_SYNC)
    assert [message.step for message in said(store)] == [Step.RECOVERED]
    turn(FAILING)
    assert [message.step for message in said(store)] == [Step.FIRST]
    turn(IN_SYNC)
    assert said(store) == [], "after three recoveries the next ones are gathered for a minute"
    turn(FAILING)
    assert [message.step for message in said(store)] == [Step.FIRST]
    assert said(store, timedelta(seconds=61)) == [], "they are failing"
    assert said(store, timedelta(seconds=61)) == []
    turn(IN_SYNC)
    assert [message.step for message in said(store)] == [Step.RECOVERED]
    assert said(store, timedelta(minutes=5)) == []


def test_drift_that_a_run_repaired_is_told_once_and_never_recovers(store: Store) -> None:
    notify(store, "ops", Condition.DRIFT)
    add_sync(store)
    run_ends(store, "web", IN_SYNC, drifted=True)
    [message] = said(store)
    assert (message.step, message.condition) == (Step.FIRST, Condition.DRIFT)
    assert "repaired" in message.title
    run_ends(store, "web", IN_SYNC)
    assert said(store, DAY) == []
    run_ends(store, "web", HELD, drifted=True)
    run_ends(store, "web", HELD, drifted=True)
    assert shorts(said(store)) == ["first drift web"]
    run_ends(store, "web", IN_SYNC, drifted=True)
    assert shorts(said(store)) == ["recovered drift web"]


def test_drift_that_a_run_repaired_is_told_of_a_sync_that_was_failing(store: Store) -> None:
    notify(store, "ops", Condition.DRIFT, Condition.FAILING)
    add_sync(store)
    run_ends(store, "web", FAILING)
    assert shorts(said(store)) == ["first failing web"]
    run_ends(store, "web", IN_SYNC, drifted=True)
    assert sorted(shorts(said(store))) == ["first drift web", "recovered failing web"]
    assert said(store, DAY) == []


def test_a_contested_sync_is_told_as_such_to_those_who_ask_for_held_ones(store: Store) -> None:
    notify(store, "ops", Condition.HELD)
    add_sync(store)
    run_ends(store, "web", HELD, contested=True)
    assert shorts(said(store)) == ["first contested web"]


def test_many_that_fail_for_one_cause_are_one_message(store: Store) -> None:
    notify(store)
    for number in range(30):
        add_sync(store, f"s{number:02}", config=SyncConfig(remote_name=f"s{number}"))
        run_ends(store, f"s{number:02}", FAILING)
    [message] = said(store)
    assert (len(message.subjects), message.more, message.cause) == (10, 20, "the credential aws")
    assert "30 syncs are failing" in message.title
    assert "and 20 more" in message.text
    add_sync(store, "late", config=SyncConfig(remote_name="late"))
    run_ends(store, "late", FAILING)
    assert said(store) == [], "after an outage was reported, what follows is gathered for longer"
    assert shorts(said(store, timedelta(minutes=1))) == ["first failing late"]
    for number in range(30):
        run_ends(store, f"s{number:02}", IN_SYNC)
    [message] = said(store)
    assert (message.step, len(message.subjects), message.more) == (Step.RECOVERED, 10, 20)


def test_another_cause_is_another_message(store: Store) -> None:
    notify(store)
    errors = {"a": "ThrottledError", "b": "CredentialRejectedError", "c": "PayloadTooLargeError"}
    for name, error in errors.items():
        add_sync(store, name, config=SyncConfig(remote_name=name), account="111122223333")
        run_ends(store, name, FAILING, error=error)
    assert sorted(shorts(said(store))) == [f"first failing {name}" for name in errors]


def test_roles_that_are_assumed_with_one_rejected_credential_are_one_message(store: Store) -> None:
    notify(store)
    store.credentials.add("root", access_key())
    for number in range(5):
        role = access_key(
            type=CredentialType.ASSUME_ROLE,
            role_arn=f"arn:aws:iam::{number:012}:role/sync",
            source_name="root",
            access_key_id=None,
            secret_access_key=None,
        )
        store.credentials.add(f"role{number}", role)
        config = SyncConfig(remote_name=f"s{number}")
        add_sync(store, f"s{number}", config=config, credential=f"role{number}", account=f"{number:012}")
        run_ends(store, f"s{number}", FAILING)
    [message] = said(store)
    assert (len(message.subjects), message.cause) == (5, "the credential root")


def test_many_causes_are_one_message_at_each_step(store: Store) -> None:
    notify(store)
    names = [f"s{number:02}" for number in range(25)]
    for number, name in enumerate(names):
        add_sync(store, name, config=SyncConfig(remote_name=name), account=f"{number:012}")
        run_ends(store, name, FAILING, error="PayloadTooLargeError")
    [first] = said(store)
    assert (first.step, len(first.subjects), first.more, first.cause) == (Step.FIRST, 10, 15, "many causes")
    [still] = said(store, timedelta(minutes=61))
    assert (still.step, still.more) == (Step.STILL, 15)
    run_ends(store, names[0], IN_SYNC)
    assert shorts(said(store)) == ["recovered failing s00"]
    for name in names[1:]:
        run_ends(store, name, IN_SYNC)
    [recovered] = said(store)
    assert (recovered.step, recovered.more) == (Step.RECOVERED, 14)


def test_what_one_transaction_makes_is_bounded_and_the_next_one_goes_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_making, "_MESSAGES_AT_ONCE", 2)
    for name in ("one", "two", "three"):
        notify(store, name)
    add_sync(store)
    run_ends(store, "web", FAILING)
    store.outbox.make()
    time_passes(store, timedelta(seconds=4))
    assert store.outbox.make().messages == 2
    assert store.outbox.has_work()
    assert store.outbox.make().messages == 1
    assert sorted(message.notification for message in sent(store)) == ["one", "three", "two"]
    assert said(store) == []


def test_quiet_hours_hold_back_and_then_only_what_is_still_open_is_told(store: Store) -> None:
    always = "00:00-24:00 UTC"
    notify(store, quiet=(always,))
    for name in ("web", "api"):
        add_sync(store, name, config=SyncConfig(remote_name=name))
        run_ends(store, name, FAILING)
    assert said(store) == []
    run_ends(store, "api", IN_SYNC)
    assert said(store, HOUR) == []
    store.notifications.update("ops", draft())
    assert shorts(said(store)) == ["first failing web"]


def test_a_message_that_was_made_waits_for_the_end_of_quiet_hours(store: Store) -> None:
    notify(store)
    add_sync(store)
    run_ends(store, "web", FAILING)
    store.outbox.make()
    time_passes(store, timedelta(seconds=4))
    store.outbox.make()
    store.notifications.update("ops", draft(quiet=("00:00-24:00 UTC",)))
    assert claim(store) == []
    assert store.alerts.counts().pending == 1


def test_a_stale_sync_is_told_unless_something_else_was_told_of_it(store: Store) -> None:
    notify(store)
    for name in ("web", "api"):
        add_sync(store, name, config=SyncConfig(remote_name=name))
    run_ends(store, "web", FAILING)
    assert shorts(said(store)) == ["first failing web"]
    store.alerts.check_times(stale_after=timedelta(minutes=15))
    assert store.alerts.counts().open[Condition.STALE] == 0
    time_passes(store, timedelta(minutes=16))
    store.alerts.check_times(stale_after=timedelta(minutes=15))
    assert store.alerts.counts().open[Condition.STALE] == 2
    assert shorts(said(store)) == ["first stale api"]
    run_ends(store, "api", IN_SYNC)
    with store.database.write() as connection:
        connection.execute(syncs.update().where(syncs.c.name == "api").values(behind_since=None))
    store.alerts.check_times(stale_after=timedelta(minutes=15))
    assert shorts(said(store)) == ["recovered stale api"]


def test_a_sync_that_is_paused_waits_for_a_window_or_has_no_role_yet_is_not_stale(store: Store) -> None:
    add_sync(store, "paused", config=SyncConfig(remote_name="a"))
    store.sync_requests.pause("paused", Paused(by="ana", at=datetime.now(UTC), reason="", until=None))
    add_sync(store, "windowed", config=SyncConfig(remote_name="b"))
    run_ends(store, "windowed", PENDING, waits_for_window=True)
    time_passes(store, HOUR)
    store.alerts.check_times(stale_after=timedelta(minutes=15))
    assert store.alerts.counts().open[Condition.STALE] == 0


def test_a_lease_that_could_not_be_revoked_is_overdue_until_it_ends(store: Store) -> None:
    notify(store)
    lease = issue_lease(store, add_dynamic(store))
    fail_lease(store, lease)
    assert shorts(said(store)) == [f"first lease-overdue ci/{lease.id}"]
    store.alerts.check_times(stale_after=HOUR)
    assert store.alerts.counts().open[Condition.LEASE_OVERDUE] == 1
    end_lease(store, lease)
    assert shorts(said(store)) == [f"recovered lease-overdue ci/{lease.id}"]


def test_a_lease_that_nobody_ended_is_overdue_by_time(store: Store) -> None:
    notify(store)
    lease = issue_lease(store, add_dynamic(store))
    store.alerts.check_times(stale_after=HOUR)
    assert store.alerts.counts().open[Condition.LEASE_OVERDUE] == 0
    move_lease(store, lease, -timedelta(days=2), "requested_at", "expires_at", "max_expires_at")
    store.alerts.check_times(stale_after=HOUR)
    assert shorts(said(store)) == [f"first lease-overdue ci/{lease.id}"]


def test_only_what_belongs_to_the_app_is_told(store: Store) -> None:
    add_sync(store)
    store.apps.add_app("other")
    notify(store, "others", app="other")
    notify(store, "ours", app="shop")
    run_ends(store, "web", FAILING)
    assert [message.notification for message in said(store)] == ["ours"]
    with pytest.raises(IllegalTransitionError, match="others"):
        store.apps.remove_app("other")


def test_a_recovery_has_the_id_of_the_alert_that_the_first_message_had(store: Store) -> None:
    notify(store)
    for name in ("web", "api"):
        add_sync(store, name, config=SyncConfig(remote_name=name))
        run_ends(store, name, FAILING)
    [first] = said(store)
    [still] = said(store, timedelta(minutes=61))
    run_ends(store, "api", IN_SYNC)
    [one] = said(store)
    run_ends(store, "web", IN_SYNC)
    [other] = said(store)
    began = {subject.name: subject.alert for subject in first.subjects}
    assert len({*began.values()}) == 2
    assert {subject.name: subject.alert for subject in still.subjects} == began
    assert {subject.name: subject.alert for subject in (*one.subjects, *other.subjects)} == began
    run_ends(store, "web", FAILING)
    [again] = said(store)
    assert again.subjects[0].alert not in began.values(), "it is another time"


def test_a_new_notification_tells_what_is_wrong_already(store: Store) -> None:
    add_sync(store)
    run_ends(store, "web", FAILING)
    assert said(store) == []
    notify(store)
    assert shorts(said(store)) == ["first failing web"]


def test_recovered_is_told_only_if_it_is_asked_for(store: Store) -> None:
    notify(store, recovered=False)
    add_sync(store)
    run_ends(store, "web", FAILING)
    assert len(said(store)) == 1
    run_ends(store, "web", IN_SYNC)
    assert said(store, DAY) == []


def test_nothing_that_an_error_or_a_reason_says_is_in_a_message(store: Store) -> None:
    """They name keys and remote objects. A name of a sync is shown, so that what is looked for would be found."""
    notify(store)
    remote = SyncConfig(remote_name=f"shop/{CANARY}")
    add_sync(store, "web", config=remote)
    found = []
    for status in (FAILING, HALTED, HELD):
        run_ends(store, "web", status, drifted=True, contested=status is HELD)
        found += said(store)
    run_ends(store, "web", IN_SYNC)
    found += said(store)
    assert {message.step for message in found} == {Step.FIRST, Step.RECOVERED}
    assert [message for message in found if CANARY in repr(message)] == []
    add_sync(store, CANARY, config=SyncConfig(remote_name="another"))
    run_ends(store, CANARY, FAILING)
    assert [CANARY in repr(message) for message in said(store)] == [True]


def test_a_message_about_a_held_sync_says_what_is_held(store: Store) -> None:
    notify(store, "ops", Condition.HELD, remind_after=timedelta(minutes=10))
    add_sync(store)
    brief = "would drop 5 of 6 keys; the limit is 50 % (from 2 keys on)"
    run_ends(store, "web", HELD, error="PlanHeldError", held=brief)
    [first] = said(store)
    assert [subject.reason for subject in first.subjects] == [brief]
    assert f"why: {brief}" in first.text
    run_ends(store, "web", HELD, error="PlanHeldError", held="would empty the payload: it has 6 keys")
    [still] = said(store, timedelta(minutes=11))
    assert "why: would empty the payload" in still.text
    with store.database.write() as connection:
        connection.execute(runs.update().values(details=b"x" * 60))
    [altered] = said(store, timedelta(minutes=22))
    assert "why: the guard holds its changes" in altered.text


# --- sending


def made(store: Store) -> None:
    """One message waits."""
    notify(store)
    add_sync(store)
    run_ends(store, "web", FAILING)
    store.outbox.make()
    time_passes(store, timedelta(seconds=4))
    assert store.outbox.has_work()
    assert store.outbox.make().messages == 1


def test_a_message_has_one_sender_and_goes_again_with_its_id_after_the_sender_died(store: Store) -> None:
    made(store)
    [first] = claim(store, "one")
    assert claim(store, "two") == []
    assert not store.outbox.has_work()
    time_passes(store, HOUR)
    [second] = claim(store, "two")
    assert second.message == first.message
    store.outbox.sent(first)
    assert store.alerts.counts().pending == 1, "a claim that was lost stores nothing"
    store.outbox.sent(second)
    assert store.alerts.counts().pending == 0


def test_two_that_make_messages_at_once_make_each_once(store: Store, migrated_database_url: str) -> None:
    notify(store)
    add_sync(store)
    run_ends(store, "web", FAILING)
    store.outbox.make()
    time_passes(store, timedelta(seconds=4))
    other = open_test_store(migrated_database_url)
    at_once(*[store.outbox.make, other.outbox.make] * 4)
    found = at_once(*[lambda: claim(store), lambda: claim(other, "two")] * 2)
    assert sorted(len(claimed) for claimed in found if isinstance(claimed, list)) == [0, 0, 0, 1]
    other.close()


def test_a_failed_message_waits_and_the_end_waits_for_it(store: Store) -> None:
    made(store)
    [claimed] = claim(store)
    store.outbox.failed(claimed, error="ChannelUnavailableError", retry_in=timedelta(minutes=10))
    run_ends(store, "web", IN_SYNC)
    assert said(store) == [], "what recovered is not told before what failed"
    state = store.notifications.sent([claimed.notification_id])[claimed.notification_id]
    assert (state.pending, state.error) == (2, "ChannelUnavailableError")
    assert shorts(said(store, timedelta(minutes=10))) == ["first failing web", "recovered failing web"]


def test_a_recovery_that_waits_is_dropped_once_its_sync_is_reported_again(store: Store) -> None:
    made(store)
    assert shorts(sent(store)) == ["first failing web"]
    run_ends(store, "web", IN_SYNC)
    store.outbox.make()
    time_passes(store, timedelta(seconds=4))
    store.outbox.make()
    [claimed] = claim(store)
    store.outbox.failed(claimed, error="ChannelUnavailableError", retry_in=HOUR / 2)
    run_ends(store, "web", FAILING)
    assert shorts(said(store)) == ["first failing web"]
    assert said(store, timedelta(minutes=31)) == [], "it is failing"
    run_ends(store, "web", IN_SYNC)
    assert shorts(said(store)) == ["recovered failing web"]


def test_what_waits_is_tried_at_once_when_its_notification_is_changed(store: Store) -> None:
    made(store)
    [claimed] = claim(store)
    store.outbox.failed(claimed, error="ChannelUnavailableError", retry_in=HOUR)
    assert sent(store) == []
    store.notifications.update("ops", draft(url="https://hooks.example.com/b"))
    assert shorts(sent(store)) == ["first failing web"]


def test_without_a_first_message_there_is_no_recovery(store: Store) -> None:
    made(store)
    [claimed] = claim(store)
    store.outbox.failed(claimed, error="ChannelRejectedError", retry_in=None)
    run_ends(store, "web", IN_SYNC)
    assert said(store) == []
    assert store.alerts.counts().pending == 0


def test_a_channel_that_is_busy_keeps_no_other_from_its_message(store: Store) -> None:
    notify(store, "slow")
    notify(store, "fast")
    add_sync(store)
    run_ends(store, "web", FAILING)
    store.outbox.make()
    time_passes(store, timedelta(seconds=4))
    store.outbox.make()
    slow = store.notifications.get("slow").id
    assert [one.notification.name for one in claim(store, busy=[slow]) if one.notification] == ["fast"]


def test_old_messages_and_alerts_are_deleted_and_those_that_wait_stay(store: Store) -> None:
    made(store)
    time_passes(store, DAY)
    assert store.outbox.prune(older_than=HOUR, limit=10) == 0
    sent(store)
    run_ends(store, "web", IN_SYNC)
    assert len(said(store)) == 1
    time_passes(store, DAY)
    assert store.outbox.prune(older_than=HOUR, limit=10) == 3
    with store.database.read() as connection:
        assert connection.execute(notices.select()).all() == []


def test_a_message_that_was_altered_or_belongs_to_another_notification_is_not_sent(store: Store) -> None:
    made(store)
    other = notify(store, "other", url="https://elsewhere.example.com/")
    alter(store, messages, notification_id=other.id)
    [claimed] = claim(store)
    assert (claimed.notification, claimed.message) == (None, None)


@pytest.mark.parametrize("change", [{"sealed": b"x" * 60}, {"version": 7}, {"name": "another", "name_key": "another"}])
def test_a_notification_that_was_altered_sends_nothing_and_is_reported(store: Store, change) -> None:
    made(store)
    alter(store, notifications, **change)
    assert len(store.outbox.make().refused) == 1
    assert [one.message for one in claim(store)] == [None]
    assert store.notifications.list_all()[0].error is not None


def test_what_was_altered_makes_no_work_for_ever(store: Store) -> None:
    notify(store)
    add_sync(store)
    run_ends(store, "web", FAILING)
    store.outbox.make()
    time_passes(store, timedelta(seconds=4))
    alter(store, notifications, sealed=b"x" * 60)
    assert store.outbox.has_work()
    assert store.outbox.make().messages == 0
    assert not store.outbox.has_work()
    store.notifications.update("ops", draft())
    assert shorts(said(store)) == ["first failing web"]
    run_ends(store, "web", IN_SYNC)
    alter(store, alerts, condition="flailing")
    assert not store.outbox.has_work()


def test_a_notification_that_was_deleted_behind_our_back_is_reported(store: Store) -> None:
    notify(store)
    with store.database.write() as connection:
        connection.execute(notifications.delete())
    add_sync(store)
    run_ends(store, "web", FAILING)
    assert ["missing" in reason for reason in store.outbox.make().refused] == [True]


# --- what it costs


def test_a_run_that_leaves_everything_as_it_is_sends_no_statement_more(store: Store) -> None:
    notify(store)
    add_sync(store)

    def statements(status: SyncStatus) -> list[str]:
        with counted(store.database.engine) as sent_statements:
            run_ends(store, "web", status)
        return [text for text in sent_statements if "alerts" in text]

    assert statements(IN_SYNC) == []
    assert statements(IN_SYNC) == []
    assert len(statements(FAILING)) == 1
    assert statements(FAILING) == []
    assert statements(PENDING) == []
    assert len(statements(IN_SYNC)) == 1


def test_a_round_without_work_is_one_statement(store: Store) -> None:
    notify(store)
    add_sync(store)
    with counted(store.database.engine) as statements:
        assert not store.outbox.has_work()
    assert len(statements) == 1


def test_a_credential_that_publishes_keeps_its_name_and_its_place(store: Store) -> None:
    add_sync(store)
    store.credentials.add("publisher", access_key())
    topic = "sns:arn:aws:sns:eu-west-1:111122223333:ops?credential=Publisher"
    notify(store, url=topic)
    for act in (lambda: store.credentials.remove("publisher"), lambda: store.credentials.rename("publisher", "other")):
        with pytest.raises(IllegalTransitionError, match="channel of the notification ops") as refusal:
            act()
        assert "notifications update ops --to" in str(refusal.value.hint)
    store.credentials.rename("publisher", "Publisher")
    store.notifications.remove("ops")
    store.credentials.remove("publisher")
