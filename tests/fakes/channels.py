"""The port `ChannelSender` in memory: keeps what is sent, and fails as it is told."""

from __future__ import annotations

from collections.abc import Callable

from phasesync.core.channels import Channel
from phasesync.core.notification_message import Message


class FakeChannels:
    """Takes every message, unless `on_send` raises."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.on_send: Callable[[Channel, Message], None] = lambda channel, message: None

    def send(self, channel: Channel, message: Message) -> str | None:
        """Keep a message."""
        self.on_send(channel, message)
        self.sent.append(message)
        return None
