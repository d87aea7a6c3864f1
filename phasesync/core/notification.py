"""A notification as an operator defines it: where it goes, about what, and when. Frozen values."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from phasesync.core.channels import Channel
from phasesync.core.notification_message import Condition, Step
from phasesync.core.times import duration_text
from phasesync.errors import InvalidInputError

RECOVERED: Final = Step.RECOVERED.value
"""The word beside the conditions that asks for a message at their end."""
WORDS: Final = (*(condition.value for condition in Condition), RECOVERED)
"""What `--on` takes."""
USUAL: Final = tuple(word for word in WORDS if word != Condition.DRIFT)
"""What a notification is about if it does not say: all that may need a person. Drift that was repaired does not."""

STALE_AFTER: Final = timedelta(minutes=15)
"""How long a sync has to be out of step to count as stale, if the notification does not say."""
FIRST_REMINDER: Final = timedelta(hours=1)
LONGEST_REMINDER: Final = timedelta(hours=24)
SHORTEST_REMINDER: Final = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """
    What a notification is about, and when it speaks.

    Attributes:
        on: the conditions, in the order of `Condition`.
        recovered: whether the end of a condition is reported too, if its beginning was.
        after: how long a condition has to last first; None: `STALE_AFTER` for stale, and not at all for others.
        quiet: canonical texts of the times in which nothing is sent (`core.windows`, without `deny:`).
        remind_after: from the first message to the first reminder; each pause is twice the one before it, up to
            `LONGEST_REMINDER`. 0: there are no reminders.
    """

    on: tuple[Condition, ...]
    recovered: bool = True
    after: timedelta | None = None
    quiet: tuple[str, ...] = ()
    remind_after: timedelta = FIRST_REMINDER

    @property
    def words(self) -> tuple[str, ...]:
        """What `--on` says."""
        return (*(condition.value for condition in self.on), *((RECOVERED,) if self.recovered else ()))

    def after_of(self, condition: Condition) -> timedelta:
        """Return how long a condition has to last before it is reported."""
        if self.after is not None:
            return self.after
        return STALE_AFTER if condition is Condition.STALE else timedelta(0)


@dataclass(frozen=True, kw_only=True)
class NotificationDraft:
    """
    A notification as it is to be stored.

    Attributes:
        channel: where it goes, with its secrets.
        app: name of the app that it is restricted to; None: everything.
    """

    channel: Channel
    rules: Rules
    app: str | None = None


@dataclass(frozen=True, kw_only=True)
class Sent:
    """
    What a notification has sent.

    Attributes:
        sent_at: when it sent its newest message; None if it sent none that is still kept.
        pending: messages that wait to be sent, again or for the first time.
        error: class of the error with which the newest attempt of one of these failed; None if none failed.
        code: what the receiver answered to it: a status, an error code, or a word such as timeout; None if not known.
        next_at: when the next of these is tried.
    """

    sent_at: datetime | None = None
    pending: int = 0
    error: str | None = None
    code: str | None = None
    next_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Notification:
    """
    A notification.

    Attributes:
        app_id: id of the app that it is restricted to; None: everything.
        app: its name.
        error: why its row is not used: it was altered outside phasesync. Then channel and rules are None.
    """

    id: str
    name: str
    version: int
    channel: Channel | None = field(repr=False)
    rules: Rules | None
    app_id: str | None
    app: str | None
    created_at: datetime
    error: str | None = None


def rules_of_words(words: Iterable[str]) -> tuple[tuple[Condition, ...], bool]:
    """Return the conditions that words of `--on` name, and whether `recovered` is among them. InvalidInputError."""
    named = {word.strip().lower() for word in words if word.strip()}
    if unknown := sorted(named - set(WORDS)):
        raise InvalidInputError(f"{', '.join(unknown)}: no such condition", hint=f"conditions: {', '.join(WORDS)}")
    on = tuple(condition for condition in Condition if condition.value in named)
    if not on:
        raise InvalidInputError(
            "the notification would be about nothing", hint=f"name at least one condition beside {RECOVERED}"
        )
    return on, RECOVERED in named


def check_rules(rules: Rules) -> Rules:
    """Return rules with canonical texts. InvalidInputError."""
    if rules.after is not None and rules.after < timedelta(0):
        raise InvalidInputError("a condition cannot last less than no time")
    if timedelta(0) < rules.remind_after < SHORTEST_REMINDER:
        raise InvalidInputError(
            f"a reminder after {duration_text(rules.remind_after)} comes too soon",
            hint=f"{duration_text(SHORTEST_REMINDER)} at least, or 0s for no reminders",
        )
    if not rules.quiet:
        return rules
    from dataclasses import replace

    from phasesync.core.quiet_hours import canonical_quiet_hours

    return replace(rules, quiet=canonical_quiet_hours(rules.quiet))
