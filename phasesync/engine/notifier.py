"""
Sends notifications: one round makes what is due into messages, and gives them to threads that send them.

Threads of their own, and one message of a notification at a time: a channel that hangs delays neither syncs nor other
channels. A thread whose message was taken goes on with the next one of its notification. What is to be sent is in the
database, so a process that dies loses none. If it dies between a message and its result, the message is sent again with
the same id: receivers can drop it.
"""

import re
import threading
from datetime import timedelta
from typing import Final

from phasesync.core.events import MessageFailed, MessageSent, NotificationUnreadable
from phasesync.core.schedule import backoff
from phasesync.engine.context import Context
from phasesync.engine.defects import error_of
from phasesync.errors import ChannelUnavailableError, PhasesyncError, StoreUnavailableError
from phasesync.ports.channels import ChannelSender
from phasesync.ports.runtime import Dispatcher
from phasesync.store.outbox import ClaimedMessage

CLAIM_TTL: Final = timedelta(minutes=1)
"""Longer than any message takes to be sent (`adapters.channels.SEND_WITHIN_S`)."""
GO_ON_FOR: Final = timedelta(seconds=10)
"""How long a thread begins further messages; then the next round gives one of the notification to a thread."""
LONGEST_PAUSE: Final = timedelta(minutes=30)
GIVE_UP_AFTER: Final = timedelta(days=3)
"""A weekend passes until somebody fixes a channel; what is older helps nobody."""
LONGEST_RETRY_AFTER: Final = timedelta(hours=1)
"""A receiver that asks for a longer pause is asked again all the same."""
CHECK_TIMES_EVERY: Final = timedelta(seconds=15)
"""How often some daemon looks for syncs that are stale and leases that are overdue."""
_CHECK: Final = "alerts-by-time"
_CODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Notifier:
    """Makes and sends the messages of notifications. `send` is for the threads of a dispatcher, `round` for one."""

    def __init__(self, context: Context, channels: ChannelSender) -> None:
        """
        Args:
            context: what use cases work with.
            channels: sends messages.
        """
        self._context = context
        self._channels = channels
        self._reported: frozenset[str] = frozenset()
        self._unstored: dict[str, ClaimedMessage] = {}
        """Id of a message -> its claim: it was sent, and the database could not be told so yet."""
        self._check_at = float("-inf")
        self._stopping = threading.Event()

    def round(self, dispatcher: Dispatcher[ClaimedMessage]) -> None:
        """Make the messages that are due, and submit what is to be sent. StoreUnavailableError."""
        context = self._context
        for sent in tuple(self._unstored.values()):
            self._store_sent(self._unstored.pop(sent.id))
        if (now := context.clock.monotonic()) >= self._check_at:
            self._check_at = now + CHECK_TIMES_EVERY.total_seconds()
            if context.store.daemons.claim_chore(_CHECK, context.owner, every=CHECK_TIMES_EVERY * 0.9):
                context.store.alerts.check_times(stale_after=context.store.alerts.stale_after())
        if not context.store.outbox.has_work():
            return
        self._report(context.store.outbox.make().refused)
        running = [*dispatcher.running(), *self._unstored.values()]
        claimed = context.store.outbox.claim(
            context.owner,
            ttl=CLAIM_TTL,
            limit=dispatcher.free,
            busy=sorted({message.notification_id for message in running}),
        )
        for message in claimed:
            if not dispatcher.submit(message):
                context.store.outbox.release(message)

    def stop(self) -> None:
        """Begin no further message: threads end after the one that they send."""
        self._stopping.set()

    def send(self, claimed: ClaimedMessage) -> None:
        """
        Send a claimed message and store the result, and then what else of its notification is due while all is taken.

        StoreUnavailableError if a result could not be stored.
        """
        context = self._context
        until = context.clock.monotonic() + GO_ON_FOR.total_seconds()
        following: ClaimedMessage | None = claimed
        while following is not None and self._send_one(following):
            if self._stopping.is_set() or context.clock.monotonic() >= until:
                return
            only = claimed.notification_id
            following = next(iter(context.store.outbox.claim(context.owner, ttl=CLAIM_TTL, limit=1, only=only)), None)

    def _send_one(self, claimed: ClaimedMessage) -> bool:
        """Send one claimed message and store the result; return whether the channel took it. StoreUnavailableError."""
        notification, message = claimed.notification, claimed.message
        if notification is None or notification.channel is None or message is None:
            # Altered outside phasesync, or of a notification that is: it comes back once that is fixed.
            self._context.store.outbox.failed(claimed, error="CiphertextError", retry_in=self._pause(claimed, None))
            return False
        try:
            remark = self._channels.send(notification.channel, message)
        except StoreUnavailableError:
            raise
        except PhasesyncError as error:
            failure = error
        except Exception as error:  # noqa: BLE001  A defect must not keep a message from being tried again.
            failure = error_of(error)
        else:
            self._context.events.emit(
                MessageSent(
                    notification=notification.name,
                    channel=notification.channel.kind,
                    message_id=claimed.id,
                    step=message.step,
                    condition=message.condition,
                    subjects=len(message.subjects) + message.more,
                    attempts=claimed.attempts + 1,
                    age_ms=round((claimed.at - claimed.created_at).total_seconds() * 1000),
                    remark=remark,
                )
            )
            self._store_sent(claimed)
            return True
        pause = self._pause(claimed, failure)
        self._context.store.outbox.failed(claimed, error=type(failure).__name__, code=_code_of(failure), retry_in=pause)
        self._context.events.emit(
            MessageFailed(
                notification=notification.name,
                channel=notification.channel.kind,
                message_id=claimed.id,
                step=message.step,
                condition=message.condition,
                attempts=claimed.attempts + 1,
                error=type(failure).__name__,
                code=_code_of(failure),
                retry_in_s=None if pause is None else round(pause.total_seconds(), 1),
            )
        )
        return False

    def release(self, claimed: ClaimedMessage) -> None:
        """Release the claim of a message that was not sent. StoreUnavailableError."""
        self._context.store.outbox.release(claimed)

    def _store_sent(self, claimed: ClaimedMessage) -> None:
        """Store that a message was sent. StoreUnavailableError: the next round does it, or it would be sent again."""
        try:
            self._context.store.outbox.sent(claimed)
        except StoreUnavailableError:
            self._unstored[claimed.id] = claimed
            raise

    def _pause(self, claimed: ClaimedMessage, error: PhasesyncError | None) -> timedelta | None:
        """Return the pause until a message is tried again; None: it is given up."""
        pause = backoff(claimed.attempts + 1, self._context.random(), longest=LONGEST_PAUSE)
        if isinstance(error, ChannelUnavailableError) and error.retry_after is not None:
            pause = max(pause, min(error.retry_after, LONGEST_RETRY_AFTER))
        return None if claimed.at + pause > claimed.created_at + GIVE_UP_AFTER else pause

    def _report(self, refused: tuple[str, ...]) -> None:
        """Report notifications that are used for nothing, each once until that changes."""
        for reason in refused:
            if reason not in self._reported:
                self._context.events.emit(NotificationUnreadable(reason=reason))
        self._reported = frozenset(refused)


def _code_of(error: PhasesyncError) -> str | None:
    """Return the code of an error, if it looks like one: a receiver may answer with anything."""
    return error.code if error.code is not None and _CODE.fullmatch(error.code) else None
