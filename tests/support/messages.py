"""A message of a notification, and the word that stands for a secret in the channels of tests."""

from datetime import UTC, datetime

from phasesync.core.notification_message import Condition, Message, Step, Subject

CANARY = "kanarienvogel7f3a9c"
NOW = datetime(2026, 11, 29, 8, 0, tzinfo=UTC)

MESSAGE = Message(
    id="0199-message-1",
    notification="on-call",
    step=Step.FIRST,
    condition=Condition.HELD,
    at=NOW,
    subjects=(
        Subject(
            kind="sync",
            alert="0199-alert-1",
            name="shop-production",
            since=NOW,
            reason="3 deletions wait for an approval",
            fix="phasesync syncs approve shop-production",
        ),
    ),
    title="phasesync: shop-production is held",
    text="phasesync: shop-production is held\nsince 2026-11-29 08:00:00Z\nphasesync syncs approve shop-production",
)
