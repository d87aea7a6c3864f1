"""What an operator does with a notification: add, change, test."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum, auto

from phasesync.core.channels import Channel, Topic, Webhook, parse_channel
from phasesync.core.model import SecretValue
from phasesync.core.notification import (
    FIRST_REMINDER,
    USUAL,
    Notification,
    NotificationDraft,
    Rules,
    check_rules,
    rules_of_words,
)
from phasesync.core.notification_text import compose_test
from phasesync.core.webhook_signature import NEW_BYTES, new_signing_secret
from phasesync.engine.context import Context
from phasesync.errors import InvalidInputError
from phasesync.ports.channels import ChannelSender


class NewSecret(Enum):
    """In the place of a signing secret."""

    RANDOM = auto()
    """A new one is made."""


@dataclass(frozen=True, kw_only=True)
class NotificationChanges:
    """
    What an operator says of a notification. None: the default for a new one, and as it was for another.

    Attributes:
        to: URL of the channel.
        signing_secret: of a webhook.
        on: words of `--on`.
        app: name of the app that it is about; '' for everything.
        at_once: drop what was set with `after`.
        quiet: quiet hours; empty drops them.
    """

    to: SecretValue | None = None
    signing_secret: SecretValue | NewSecret | None = None
    on: tuple[str, ...] | None = None
    app: str | None = None
    after: timedelta | None = None
    at_once: bool = False
    quiet: tuple[str, ...] | None = None
    remind_after: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class Changed:
    """A notification that was added or changed. `new_secret`: its signing secret, if a new one was made."""

    notification: Notification
    new_secret: SecretValue | None


class NotificationAdmin:
    """The operator's commands on notifications."""

    def __init__(self, context: Context, *, random_bytes: Callable[[int], bytes]) -> None:
        """
        Args:
            context: what use cases work with.
            random_bytes: returns so many bytes that nobody can guess.
        """
        self._context = context
        self._random_bytes = random_bytes

    def add(self, name: str, changes: NotificationChanges) -> Changed:
        """
        Add a notification. A webhook gets a new signing secret, unless one is given.

        Raises:
            InvalidInputError: a part is not valid, or there is no channel.
            AlreadyExistsError, NotFoundError: the name; the app.
        """
        if changes.to is None:
            raise InvalidInputError("a notification needs a channel", hint="phasesync notifications add --help")
        channel, new_secret = self._channel(changes.to, changes.signing_secret, former=None)
        on, recovered = rules_of_words(USUAL if changes.on is None else changes.on)
        rules = Rules(
            on=on,
            recovered=recovered,
            after=changes.after,
            quiet=changes.quiet or (),
            remind_after=FIRST_REMINDER if changes.remind_after is None else changes.remind_after,
        )
        draft = NotificationDraft(channel=channel, rules=check_rules(rules), app=changes.app or None)
        return Changed(notification=self._context.store.notifications.add(name, draft), new_secret=new_secret)

    def update(self, name: str, changes: NotificationChanges, *, new_name: str | None = None) -> Changed:
        """
        Change a notification; a webhook keeps its signing secret, unless another one is asked for.

        Args:
            name: of the notification.
            changes: what is not None.
            new_name: what it is called from now on; None: it keeps its name.

        Raises:
            InvalidInputError: a part is not valid.
            NotFoundError: the notification, or the app.
            CiphertextError: it was altered outside phasesync.
        """
        former = self._context.store.notifications.get(name)
        if former.channel is None or former.rules is None:
            raise AssertionError("a notification that was read has a channel")
        to = former.channel.url if changes.to is None else changes.to
        channel, new_secret = self._channel(to, changes.signing_secret, former=former.channel)
        rules = former.rules
        if changes.on is not None:
            on, recovered = rules_of_words(changes.on)
            rules = replace(rules, on=on, recovered=recovered)
        if changes.after is not None or changes.at_once:
            rules = replace(rules, after=changes.after)
        if changes.quiet is not None:
            rules = replace(rules, quiet=changes.quiet)
        if changes.remind_after is not None:
            rules = replace(rules, remind_after=changes.remind_after)
        app = former.app if changes.app is None else changes.app or None
        draft = NotificationDraft(channel=channel, rules=check_rules(rules), app=app)
        updated = self._context.store.notifications.update(name, draft, new_name=new_name)
        return Changed(notification=updated, new_secret=new_secret)

    def test(self, name: str, channels: ChannelSender) -> str | None:
        """
        Send one message now, by `channels`.

        Returns:
            What was not as asked although it was delivered; None if there is nothing to say.

        Raises:
            NotFoundError, CiphertextError: the notification.
            ChannelUnavailableError, ChannelRejectedError: it could not be delivered.
        """
        notification = self._context.store.notifications.get(name)
        if notification.channel is None:
            raise AssertionError("a notification that was read has a channel")
        message = compose_test(id=uuid.uuid4().hex, notification=notification.name, now=self._context.clock.now())
        return channels.send(notification.channel, message)

    def _channel(
        self, to: SecretValue, secret: SecretValue | NewSecret | None, *, former: Channel | None
    ) -> tuple[Channel, SecretValue | None]:
        """Return the channel, and its signing secret if that is new and was not given."""
        channel = parse_channel(to.reveal_text())
        if isinstance(channel, Topic) and channel.credential is not None:
            self._context.store.credentials.get(channel.credential)  # NotFoundError
        if not isinstance(channel, Webhook):
            if secret is not None:
                raise InvalidInputError(
                    f"a channel of the kind {channel.kind} has no signing secret", hint="leave --signing-secret out"
                )
            return channel, None
        new = None
        if secret is NewSecret.RANDOM or (secret is None and not isinstance(former, Webhook)):
            secret = new = new_signing_secret(self._random_bytes(NEW_BYTES))
        elif secret is None and isinstance(former, Webhook):
            secret = former.signing_secret
        if isinstance(secret, NewSecret):
            raise AssertionError("a new secret was made")
        return parse_channel(to.reveal_text(), signing_secret=secret), new
