"""
The port `ChannelSender`: sends a message to a channel of any kind, within one deadline.

The module of a kind is imported when the first message of that kind is sent. Repeats nothing and keeps nothing.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from phasesync.core.channels import Channel, Mail, Slack, Topic, Webhook
from phasesync.core.notification_message import Message
from phasesync.ports.runtime import Clock

if TYPE_CHECKING:
    from phasesync.adapters.aws.session import AwsClients
    from phasesync.adapters.channels.mail import MailSettings
    from phasesync.core.credential import Credential

SEND_WITHIN_S: Final = 15.0
"""Seconds for a whole message: name, connection, TLS and answer. The Standard Webhooks specification has 15 to 30."""


class ChannelSenders:
    """Sends messages to channels of every kind. Safe to share between threads."""

    def __init__(
        self,
        *,
        clock: Clock,
        clients: "Callable[[], AwsClients]",
        credential_of: "Callable[[str], Credential]",
        mail: "Callable[[], MailSettings]",
        within_s: float = SEND_WITHIN_S,
    ) -> None:
        """
        Args:
            clock: the time of signatures.
            clients: returns the shared clients of AWS; called for topics only.
            credential_of: returns a credential of the store by name (NotFoundError).
            mail: returns what the settings say about mail; called for each mail, since settings may change.
            within_s: seconds for one message.
        """
        self._clock = clock
        self._clients = clients
        self._credential_of = credential_of
        self._mail = mail
        self._within_s = within_s

    def send(self, channel: Channel, message: Message) -> str | None:
        """Send a message once; see `ChannelSender`."""
        from phasesync.adapters.aws.bounded_http import own_deadline

        with own_deadline(time.monotonic() + self._within_s):
            match channel:
                case Webhook():
                    from phasesync.adapters.channels.webhook import send_to_webhook

                    send_to_webhook(channel, message, now=self._clock.now())
                case Slack():
                    from phasesync.adapters.channels.slack import send_to_slack

                    send_to_slack(channel, message)
                case Topic():
                    from phasesync.adapters.channels.sns import publish

                    publish(channel, message, clients=self._clients(), credential_of=self._credential_of)
                case Mail():
                    from phasesync.adapters.channels.mail import send_by_mail

                    return send_by_mail(channel, message, self._mail())
        return None
