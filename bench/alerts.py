"""
What the database says of alerts and of the messages about them, beside what arrived at the receiver.

Every alert has to have ended, every message has to be sent and to have arrived, and each alert that was reported has to
have been reported once, by one message of all daemons, and its end once.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from bench.webhook import Account
from tests.support.installation import Installation

NOTIFICATIONS = {
    "team": ("--on", "held,halted,failing,drift,contested,lease-overdue,recovered"),
    "late": ("--on", "stale,recovered", "--after", "60s"),
}
"""Name -> about what, and when."""


_RECOVERIES_TO_COME = sa.text(
    "SELECT count(*) FROM notices JOIN alerts ON alerts.id = notices.alert_id "
    "WHERE number > 0 AND ended_at IS NOT NULL AND next_at IS NOT NULL"
)


@dataclass(frozen=True, kw_only=True)
class AlertsFound:
    """
    What became of alerts and messages.

    Attributes:
        fired: condition -> alerts.
        open: those that have not ended.
        unsent: messages that are not sent.
        to_come: recoveries that no message was made for yet.
        wrong: what the database and the receiver do not agree on, as lines.
    """

    fired: dict[str, int]
    open: list[str]
    unsent: int
    to_come: int
    wrong: list[str]


def add_notifications(installation: Installation, url: str) -> None:
    """Have everything reported to a receiver."""
    for name, options in NOTIFICATIONS.items():
        installation.done("notifications", "add", name, "--to", "-", *options, stdin=url)


def alerts_of(installation: Installation, account: Account) -> AlertsFound:
    """Return what became of every alert that there ever was."""
    with installation.database() as connection:
        rows = connection.execute(sa.text("SELECT condition, subject, ended_at FROM alerts")).all()
        messages = connection.execute(sa.text("SELECT id, sent_at FROM messages")).all()
        told = connection.execute(sa.text("SELECT count(*) FROM notices WHERE number > 0")).scalar() or 0
        to_come = connection.execute(_RECOVERIES_TO_COME).scalar() or 0
    fired: dict[str, int] = {}
    for row in rows:
        fired[row.condition] = fired.get(row.condition, 0) + 1
    sent = {row.id for row in messages if row.sent_at is not None}
    return AlertsFound(
        fired=dict(sorted(fired.items())),
        open=[f"{row.condition} {row.subject}" for row in rows if row.ended_at is None],
        unsent=len(messages) - len(sent),
        to_come=to_come,
        wrong=list(_disagreements(account, sent, told)),
    )


def _disagreements(account: Account, sent: set[str], told: int) -> Iterator[str]:
    yield from (f"the message {id_} is sent, and did not arrive" for id_ in sorted(sent - account.ids))
    yield from (f"the message {id_} arrived, and is none of ours" for id_ in sorted(account.ids - sent))
    if (reported := account.reported) != told:
        yield f"{told} alerts were reported by the database, {reported} by what arrived"
