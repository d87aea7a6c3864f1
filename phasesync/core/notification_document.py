"""A message of a notification as JSON for programs: what webhooks carry, and topics to programs. Pure and stable."""

import json
from datetime import UTC, datetime

from phasesync.core.notification_message import Message

SCHEMA_VERSION = 1
"""Grows when a field is removed or changes its meaning. New fields may come without."""


MAX_TEXT_CHARACTERS = 10_000
MAX_SUBJECTS = 50
MAX_REASON_CHARACTERS = 500
"""Together far below the 256 KiB that a topic of SNS takes; `more` counts the subjects that are left out."""


def document_of(message: Message) -> dict[str, object]:
    """
    Return a message as a JSON document; docs/webhooks.md describes it.

    Its outer fields `type`, `timestamp` and `data` are those that the Standard Webhooks specification recommends.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "type": f"notification.{message.step}",
        "timestamp": _instant(message.at),
        "data": {
            "id": message.id,
            "notification": message.notification,
            "step": str(message.step),
            "condition": None if message.condition is None else str(message.condition),
            "title": message.title,
            "text": cut(message.text, MAX_TEXT_CHARACTERS),
            "cause": message.cause,
            "subjects": [
                {
                    "kind": subject.kind,
                    "alert": subject.alert,
                    "name": subject.name,
                    "since": _instant(subject.since),
                    "reason": cut(subject.reason, MAX_REASON_CHARACTERS),
                    "fix": cut(subject.fix, MAX_REASON_CHARACTERS),
                }
                for subject in message.subjects[:MAX_SUBJECTS]
            ],
            "more": message.more + max(0, len(message.subjects) - MAX_SUBJECTS),
        },
    }


def document_bytes(message: Message) -> bytes:
    """Return the document as it is sent: the same bytes each time, so that a repeated message has them, too."""
    return json.dumps(document_of(message), ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def cut(text: str, most: int) -> str:
    """Return a text with `most` characters at most; one that was cut ends in an ellipsis."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
