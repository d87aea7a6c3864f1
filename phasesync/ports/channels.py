"""Sends notifications: what every kind of channel implements."""

from typing import Protocol

from phasesync.core.channels import Channel
from phasesync.core.notification_message import Message


class ChannelSender(Protocol):
    """Sends messages to channels."""

    def send(self, channel: Channel, message: Message) -> str | None:
        """
        Send a message once, within a deadline of its own. Repeats nothing: the caller does, with the same message.

        A message whose answer is lost may have arrived. Each kind of channel carries the id of the message, so that the
        receiver can drop the second one.

        Returns:
            What was not as asked although the message was delivered, such as one refused address of several; None if
            there is nothing to say.

        Raises:
            ChannelUnavailableError: it could not be delivered now; try again, not before `retry_after`.
            ChannelRejectedError: the receiver refuses it, or the channel is not usable; a person has to change
                something.
        """
        ...
