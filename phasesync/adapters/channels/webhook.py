"""
Sends a message to a webhook, signed as the Standard Webhooks specification has it.

docs/webhooks.md describes what is sent, and how a receiver checks it.
"""

from datetime import datetime
from typing import Final

from phasesync.adapters.channels.http import check, post
from phasesync.core.channels import Webhook
from phasesync.core.notification_document import document_bytes
from phasesync.core.notification_message import Message
from phasesync.core.webhook_signature import signature_headers

_FIXES: Final = {
    401: "check that the receiver has the signing secret of this notification, and that its clock is right",
    403: "check that the receiver has the signing secret of this notification, and that its clock is right",
    404: "check the path of the URL: the receiver knows none like it",
}


def send_to_webhook(channel: Webhook, message: Message, *, now: datetime) -> None:
    """Send a message, with a signature made `now`. ChannelUnavailableError, ChannelRejectedError."""
    body = document_bytes(message)
    headers = {
        "content-type": "application/json",
        **signature_headers(channel.signing_secret, id=message.id, at=now, body=body),
    }
    to = f"the webhook {channel.shown}"
    check(post(channel.url, body, headers, to=to), to=to, fixes=_FIXES)
