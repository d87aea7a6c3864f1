"""Rounds of the chore that sends notifications: failures, pauses, giving up, and channels that hang."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from phasesync.adapters.dispatch import ThreadDispatcher
from phasesync.core.chores import Chore
from phasesync.core.events import Event, MessageFailed, MessageSent, NotificationUnreadable
from phasesync.core.notification_message import Condition
from phasesync.core.sync import SyncConfig, SyncStatus
from phasesync.engine.notifier import CLAIM_TTL, GIVE_UP_AFTER, Notifier
from phasesync.errors import ChannelRejectedError, ChannelUnavailableError, StoreUnavailableError
from phasesync.store import Store
from phasesync.store.outbox import ClaimedMessage
from phasesync.store.tables import notifications
from tests.fakes.channels import FakeChannels
from tests.support.alerts import GATHERED, notify, run_ends, time_passes
from tests.support.context import context_of
from tests.support.stores import add_sync, alter, open_test_store
from tests.support.waiting import wait_until

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
HOUR = timedelta(hours=1)


class Sending:
    """A daemon's notifications on a store; everything that it reports is kept."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.channels = FakeChannels()
        self.events: list[Event] = []
        self.notifier = Notifier(context_of(store, events=self, owner="daemon-1"), self.channels)
        self.dispatcher: ThreadDispatcher[ClaimedMessage] = ThreadDispatcher(
            self.notifier.send, threads=4, events=self, chore=Chore.SEND
        )

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: Any) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def round(self, after: timedelta = timedelta(0)) -> None:
        """Let time pass, and do a round to its end."""
        time_passes(self.store, after)
        self.notifier.round(self.dispatcher)
        wait_until(lambda: not self.dispatcher.running())

    def fails(self, status: SyncStatus = SyncStatus.FAILING) -> None:
        """A sync fails; its message is due with the next round."""
        if not self.store.syncs.has_sync("web"):
            add_sync(self.store)
        run_ends(self.store, "web", status)
        self.notifier.round(self.dispatcher)
        time_passes(self.store, GATHERED)


@pytest.fixture
def sending(migrated_database_url: str) -> Iterator[Sending]:
    store = open_test_store(migrated_database_url)
    yield Sending(store)
    store.close()


def test_a_message_is_sent_and_reported(sending: Sending) -> None:
    notify(sending.store)
    sending.fails()
    sending.round()
    assert [message.condition for message in sending.channels.sent] == [Condition.FAILING]
    [event] = sending.of(MessageSent)
    assert (event.notification, event.channel, event.attempts, event.subjects) == ("ops", "webhook", 1, 1)


def test_a_refused_message_is_tried_again_after_growing_pauses_until_it_is_given_up(sending: Sending) -> None:
    def refuse(*_: object) -> None:
        raise ChannelRejectedError(code="410")

    sending.channels.on_send = refuse
    notify(sending.store)
    sending.fails()
    sending.round()
    sending.round()
    [event] = sending.of(MessageFailed)
    assert (event.error, event.code, event.retry_in_s) == ("ChannelRejectedError", "410", 2.0)
    for _ in range(12):
        sending.round(HOUR)
    pauses = [event.retry_in_s for event in sending.of(MessageFailed)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 900
    sending.round(GIVE_UP_AFTER)
    assert sending.of(MessageFailed)[-1].retry_in_s is None
    assert sending.store.alerts.counts().pending == 0


@pytest.mark.parametrize(("answered", "stored"), [("NotFound", "NotFound"), ("404", "404"), ("<b>\n404", None)])
def test_what_the_receiver_answered_is_kept_if_it_is_a_code(
    sending: Sending, answered: str, stored: str | None
) -> None:
    def refuse(*_: object) -> None:
        raise ChannelRejectedError(code=answered)

    sending.channels.on_send = refuse
    ops = notify(sending.store)
    sending.fails()
    sending.round()
    state = sending.store.notifications.sent([ops.id])[ops.id]
    assert (state.error, state.code) == ("ChannelRejectedError", stored)
    assert [event.code for event in sending.of(MessageFailed)] == [stored]
    sending.channels.on_send = lambda *_: None
    sending.round(HOUR)
    state = sending.store.notifications.sent([ops.id])[ops.id]
    assert (state.pending, state.error, state.code) == (0, None, None)


def test_a_receiver_that_asks_for_a_pause_gets_it(sending: Sending) -> None:
    def busy(*_: object) -> None:
        raise ChannelUnavailableError(retry_after=timedelta(minutes=20))

    sending.channels.on_send = busy
    notify(sending.store)
    sending.fails()
    sending.round()
    assert [event.retry_in_s for event in sending.of(MessageFailed)] == [1200]
    sending.channels.on_send = lambda *_: None
    sending.round(timedelta(minutes=19))
    assert sending.channels.sent == []
    sending.round(timedelta(minutes=2))
    assert len(sending.channels.sent) == 1


def test_a_message_that_was_sent_while_the_database_was_gone_is_not_sent_again(
    sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise StoreUnavailableError("the database is locked by another process")

    notify(sending.store)
    sending.fails()
    with monkeypatch.context() as patch:
        patch.setattr(type(sending.store.outbox), "sent", gone)
        sending.round()
        with pytest.raises(StoreUnavailableError):
            sending.round()
    assert len(sending.channels.sent) == len(sending.of(MessageSent)) == 1
    for _ in range(3):
        sending.round(2 * CLAIM_TTL)
    assert len(sending.channels.sent) == 1
    assert sending.store.alerts.counts().pending == 0


def test_a_defect_of_a_channel_is_a_failure_and_shows_nothing(sending: Sending) -> None:
    def defect(*_: object) -> None:
        raise ValueError("kanarienvogel")

    sending.channels.on_send = defect
    notify(sending.store)
    sending.fails()
    sending.round()
    assert [event.error for event in sending.of(MessageFailed)] == ["InternalError"]
    assert "kanarienvogel" not in repr(sending.events)


def test_a_channel_that_hangs_delays_no_round_and_no_other_channel(sending: Sending) -> None:
    release = threading.Event()

    def hang(channel: Any, _: object) -> None:
        if "slow" in channel.url.reveal_text():
            release.wait(timeout=30)

    sending.channels.on_send = hang
    notify(sending.store, "slow", url="https://slow.example.com/")
    notify(sending.store, "fast")
    sending.fails()
    sending.notifier.round(sending.dispatcher)
    wait_until(lambda: sending.channels.sent, what="the message of the other channel")
    add_sync(sending.store, "api", config=SyncConfig(remote_name="api"), account="444455556666")
    run_ends(sending.store, "api", SyncStatus.HALTED, error="PayloadTooLargeError")
    sending.notifier.round(sending.dispatcher)
    time_passes(sending.store, GATHERED)
    sending.notifier.round(sending.dispatcher)
    wait_until(lambda: len(sending.channels.sent) == 2, what="the next message of the other channel")
    assert {message.notification for message in sending.channels.sent} == {"fast"}
    release.set()
    wait_until(lambda: not sending.dispatcher.running())
    sending.round()
    assert len(sending.channels.sent) == 4


def several_causes(sending: Sending, count: int) -> None:
    """As many messages of each notification are due with the next round."""
    for number in range(count):
        name = f"s{number}"
        add_sync(sending.store, name, config=SyncConfig(remote_name=name), account=f"{number:012}")
        run_ends(sending.store, name, SyncStatus.FAILING, error="PayloadTooLargeError")
    sending.notifier.round(sending.dispatcher)
    time_passes(sending.store, GATHERED)


def test_one_round_sends_all_that_waits_one_after_the_other_while_another_channel_hangs(sending: Sending) -> None:
    release = threading.Event()

    def hang(channel: Any, _: object) -> None:
        if "slow" in channel.url.reveal_text():
            release.wait(timeout=30)

    sending.channels.on_send = hang
    notify(sending.store, "slow", url="https://slow.example.com/")
    notify(sending.store, "fast")
    several_causes(sending, 12)
    sending.notifier.round(sending.dispatcher)
    wait_until(lambda: len(sending.channels.sent) == 12, what="all messages of the other channel")
    assert {message.notification for message in sending.channels.sent} == {"fast"}
    release.set()
    wait_until(lambda: not sending.dispatcher.running())
    assert len(sending.channels.sent) == 24
    assert len({message.id for message in sending.channels.sent}) == 24


def test_a_channel_that_refuses_is_not_asked_again_at_once(sending: Sending) -> None:
    asked: list[object] = []

    def refuse(*message: object) -> None:
        asked.append(message)
        raise ChannelUnavailableError

    sending.channels.on_send = refuse
    notify(sending.store)
    several_causes(sending, 3)
    sending.round()
    assert len(asked) == 1


def test_a_daemon_that_stops_begins_no_further_message(sending: Sending) -> None:
    sending.channels.on_send = lambda *_: sending.notifier.stop()
    notify(sending.store)
    several_causes(sending, 3)
    sending.round()
    assert len(sending.channels.sent) == 1
    assert sending.store.alerts.counts().pending == 2


def test_a_notification_that_was_altered_is_reported_once(sending: Sending) -> None:
    notify(sending.store)
    sending.fails()
    alter(sending.store, notifications, sealed=b"x" * 60)
    for _ in range(3):
        sending.round(HOUR)
    assert len(sending.of(NotificationUnreadable)) == 1
    assert sending.channels.sent == []


def test_syncs_that_stay_out_of_step_are_found_by_a_round(sending: Sending) -> None:
    notify(sending.store, "ops", Condition.STALE)
    add_sync(sending.store)
    time_passes(sending.store, HOUR)
    sending.round()
    sending.round(GATHERED)
    assert [message.condition for message in sending.channels.sent] == [Condition.STALE]
