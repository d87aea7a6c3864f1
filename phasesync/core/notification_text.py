"""
What a message of a notification says. Pure.

It is made of names of apps, environments, syncs, credentials and dynamic secrets, of instants, of texts that are fixed
for each class of error, and of what the guard holds in numbers (`core.planning.guard.brief_of`). The message of an
error is not used, nor the reason of a status: they may name keys and remote objects.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from inspect import cleandoc
from typing import Final

from phasesync import errors
from phasesync.core.alert import Alert, Ended
from phasesync.core.notification_message import Condition, Message, Step, Subject
from phasesync.core.times import instant_text
from phasesync.errors import (
    AccountMismatchError,
    CredentialRejectedError,
    DestinationUnavailableError,
    Hint,
    OwnershipConflictError,
    PermissionDeniedError,
    PhasesyncError,
    ThrottledError,
)

NAMES_SHOWN: Final = 10
"""How many subjects a digest names; it counts the others."""
MANY_CAUSES: Final = "many causes"
"""In place of the cause of a digest about subjects that have none in common."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """
    What is known now of the subject of an alert. All None: it was removed.

    Attributes:
        name: its name now; of a lease that of its dynamic secret and its id.
        owner: app and environment.
        credential: name of its credential.
        source: name of the credential that its credential uses to assume a role; None if it uses none.
        account: its AWS account, if it is known.
        region: where a sync writes.
        status: its status as it was left by the newest run, in words.
        error_class: of its newest run, None if that had no error.
        next_try_at: when a daemon tries again; None if it does not, or not by time.
        held: what the guard holds of it, in fixed words and numbers; None if that is not known.
    """

    name: str | None = None
    owner: str | None = None
    credential: str | None = None
    source: str | None = None
    account: str | None = None
    region: str | None = None
    status: str | None = None
    error_class: str | None = None
    next_try_at: datetime | None = None
    held: str | None = None


NOTHING_KNOWN: Final = Facts()


@dataclass(frozen=True, kw_only=True)
class Story:
    """One subject of a message: its alert, and what is known of it."""

    alert: Alert
    facts: Facts


def cause_of(condition: Condition, facts: Facts) -> str | None:
    """Return what an alert may have in common with others, as words without an article; None if nothing is known."""
    error = _error_named(facts.error_class)
    if condition in (Condition.FAILING, Condition.HALTED) and error is not None:
        if issubclass(error, CredentialRejectedError) and facts.source:
            return f"credential {facts.source}"
        if issubclass(error, CredentialRejectedError | PermissionDeniedError | AccountMismatchError):
            return _credential(facts)
        if issubclass(error, ThrottledError | DestinationUnavailableError):
            return f"AWS endpoint in {facts.region}"
    if condition is Condition.LEASE_OVERDUE:
        return _credential(facts)
    return f"AWS account {facts.account}" if facts.account else _credential(facts)


def _credential(facts: Facts) -> str | None:
    return f"credential {facts.credential}" if facts.credential else None


def compose(
    *,
    id: str,
    notification: str,
    step: Step,
    condition: Condition,
    cause: str | None,
    stories: Sequence[Story],
    count: int,
    now: datetime,
) -> Message:
    """
    Return the message about one or several subjects.

    Args:
        id: of the message.
        notification: its name.
        step: what it says of them; not a test.
        condition: what is wrong with them, or was.
        cause: what they have in common; used if there are several.
        stories: the subjects that are named, at most `NAMES_SHOWN`; at least one.
        count: how many there are altogether.
        now: when it is made.
    """
    stories = [_plain_story(story) for story in stories]
    cause = _plain(cause, _CAUSE)
    subjects = tuple(_subject(condition, step, story, now) for story in stories)
    title = _title(condition, step, stories, count, cause, now)
    lines = [title, ""]
    for subject, story in zip(subjects, stories, strict=True):
        lines += _paragraph(condition, step, subject, story, now)
        lines.append("")
    if count > len(stories):
        lines += [f"and {count - len(stories):,} more: {_list_command(condition)}", ""]
    return Message(
        id=id,
        notification=notification,
        step=step,
        condition=condition,
        at=now,
        subjects=subjects,
        more=count - len(stories),
        cause=None if cause is None or count == 1 else cause if cause == MANY_CAUSES else f"the {cause}",
        title=title,
        text="\n".join(lines).rstrip(),
    )


_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,199}")
_CAUSE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./ -]{0,199}")
_ALTERED: Final = "(altered)"


def _plain_story(story: Story) -> Story:
    """
    Return a story whose texts are names such as phasesync makes.

    The rows that they come from are not authenticated. Whoever can write to the database is not to put lines, links or
    commands into messages that people trust.
    """
    facts, alert = story.facts, story.alert
    return Story(
        alert=replace(
            alert,
            id=_plain(alert.id) or _ALTERED,
            subject=_plain(alert.subject) or _ALTERED,
            subject_id=_plain(alert.subject_id) or _ALTERED,
        ),
        facts=replace(
            facts,
            name=_plain(facts.name),
            owner=_plain(facts.owner),
            credential=_plain(facts.credential),
            source=_plain(facts.source),
            account=_plain(facts.account),
            region=_plain(facts.region),
        ),
    )


def _plain(text: object, form: re.Pattern[str] = _NAME) -> str | None:
    """Return a text of a form, None as it is, and the word for an altered one in place of another."""
    return None if text is None else text if isinstance(text, str) and form.fullmatch(text) else _ALTERED


def compose_test(*, id: str, notification: str, now: datetime) -> Message:
    """Return the message that `phasesync notifications test` sends."""
    title = f"phasesync: test of the notification {notification}"
    return Message(
        id=id,
        notification=notification,
        step=Step.TEST,
        condition=None,
        at=now,
        subjects=(),
        title=title,
        text=f"{title}\n\nSomebody asked for this test at {instant_text(now)}. Nothing is wrong.",
    )


def lasting_text(duration: timedelta) -> str:
    """Return a duration for people: its two largest units, such as 3 h 20 min."""
    seconds = max(0, int(duration.total_seconds()))
    parts = [(seconds // 86_400, "d"), (seconds // 3_600 % 24, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s")]
    first = next((place for place, (count, _) in enumerate(parts) if count), len(parts) - 1)
    shown = [f"{count} {unit}" for count, unit in parts[first : first + 2] if count]
    return " ".join(shown) or "0 s"


# --- the title

_ONE: Final = {
    Condition.HELD: "waits for an approval",
    Condition.HALTED: "is halted",
    Condition.FAILING: "is failing",
    Condition.STALE: "is out of step",
    Condition.DRIFT: "was changed by somebody else",
    Condition.CONTESTED: "is contested",
    Condition.LEASE_OVERDUE: "is overdue",
}
_SEVERAL: Final = {
    **_ONE,
    Condition.HELD: "wait for an approval",
    Condition.HALTED: "are halted",
    Condition.FAILING: "are failing",
    Condition.STALE: "are out of step",
    Condition.DRIFT: "were changed by somebody else",
    Condition.CONTESTED: "are contested",
    Condition.LEASE_OVERDUE: "are overdue",
}
_ENDS: Final = {
    Ended.IN_SYNC: "in step again",
    Ended.REPAIRED: "repaired",
    Ended.PAUSED: "paused",
    Ended.REMOVED: "removed",
    Ended.OVER: "over",
}


def _title(
    condition: Condition, step: Step, stories: Sequence[Story], count: int, cause: str | None, now: datetime
) -> str:
    several = count > 1
    first = stories[0]
    who = f"{count:,} {first.alert.subject_kind}s" if several else f"{first.alert.subject_kind} {_name(first)}"
    common = f" ({cause})" if several and cause is not None else ""
    if step is Step.RECOVERED:
        ends = {story.alert.ended_by or Ended.OVER for story in stories}
        end = _ENDS[ends.pop()] if len(ends) == 1 else "in step again, paused or removed"
        return f"phasesync: {who} {'are' if several else 'is'} {end}{common}"
    words = (_SEVERAL if several else _ONE)[condition]
    if step is Step.STILL:
        longest = lasting_text(now - min(story.alert.since for story in stories))
        return f"phasesync: still after {longest}: {who} {words}{common}"
    if all(story.alert.ended_by is Ended.REPAIRED for story in stories):
        return f"phasesync: {who} {words}, and repaired{common}"
    return f"phasesync: {who} {words}{common}"


def _name(story: Story) -> str:
    return story.facts.name or story.alert.subject


def _list_command(condition: Condition) -> str:
    match condition:
        case Condition.LEASE_OVERDUE:
            return "phasesync leases list"
        case Condition.HELD | Condition.CONTESTED:
            return "phasesync syncs list --status held"
        case Condition.HALTED | Condition.FAILING:
            return f"phasesync syncs list --status {condition}"
        case _:
            return "phasesync syncs list"


# --- one subject


def _subject(condition: Condition, step: Step, story: Story, now: datetime) -> Subject:
    alert = story.alert
    reason, fix = _reason(condition, story), _fix(condition, story)
    if step is Step.RECOVERED:
        ended = _ENDS[alert.ended_by or Ended.OVER]
        reason, fix = f"{ended}, after {lasting_text((alert.ended_at or now) - alert.since)}", "nothing is to be done"
    return Subject(
        kind=alert.subject_kind, alert=alert.id, name=_name(story), since=alert.since, reason=reason, fix=fix
    )


def _paragraph(condition: Condition, step: Step, subject: Subject, story: Story, now: datetime) -> list[str]:
    facts = story.facts
    owner = f" ({facts.owner})" if facts.owner else ""
    if step is Step.RECOVERED:
        began = f"it began at {instant_text(subject.since)}"
        return [f"{subject.kind} {subject.name}{owner}: {subject.reason}; {began}"]
    lasts = lasting_text((story.alert.ended_at or now) - subject.since)
    since = f"since {instant_text(subject.since)}, for {lasts}"
    if story.alert.ended_by is Ended.REPAIRED:
        since = f"at {instant_text(subject.since)}"
    lines = [f"{subject.kind} {subject.name}{owner} {_ONE[condition]} {since}", f"  why: {subject.reason}"]
    if facts.next_try_at is not None and condition in (Condition.FAILING, Condition.HALTED, Condition.LEASE_OVERDUE):
        lines.append(f"  next try: {instant_text(facts.next_try_at) if facts.next_try_at > now else 'now'}")
    return [*lines, f"  to do: {subject.fix}"]


_REASONS: Final = {
    Condition.HELD: "the guard holds its changes until somebody approves them",
    Condition.CONTESTED: "another writer keeps changing what is written, so that it is repaired no more",
    Condition.LEASE_OVERDUE: "it has not ended at its time: what it gave out may still work",
}


def _reason(condition: Condition, story: Story) -> str:
    facts = story.facts
    if condition is Condition.STALE:
        status = f"; the status that its newest run left is {facts.status}" if facts.status else ""
        return f"what is at AWS is older than what is wanted{status}"
    if condition is Condition.DRIFT:
        if story.alert.ended_by is Ended.REPAIRED:
            return "somebody else changed a managed object at AWS; the state of the store was written again"
        return "somebody else changed a managed object at AWS, and that is not repaired"
    if condition is Condition.HELD and facts.held is not None:
        return facts.held
    if (fixed := _REASONS.get(condition)) is not None:
        return fixed
    error = _error_named(facts.error_class)
    return "the reason is not known any more" if error is None else _sentence(error)


def _fix(condition: Condition, story: Story) -> str:
    name = _name(story)
    match condition:
        case Condition.HELD:
            return f"phasesync syncs plan {name} shows what is held, and how to approve it"
        case Condition.CONTESTED:
            return f"find the other writer (CloudTrail), then: phasesync syncs plan {name}"
        case Condition.DRIFT:
            return f"phasesync runs list --sync {name} shows what was changed; find the other writer (CloudTrail)"
        case Condition.STALE:
            return f"phasesync syncs why {name}; phasesync status"
        case Condition.LEASE_OVERDUE:
            lease = story.alert.subject_id
            return f"phasesync leases show {lease} says why; then: phasesync leases revoke {lease}"
        case _:
            return _fix_of_error(name, story.facts)


_FIXES: Final = {
    OwnershipConflictError: "phasesync syncs why {name} says whose object it is; if it is to be replaced: "
    "phasesync syncs adopt {name}",
    PermissionDeniedError: "phasesync syncs why {name} names the refused action, phasesync aws policy {name} prints "
    "the whole policy",
    AccountMismatchError: "correct the credential: phasesync credentials show {credential}",
    DestinationUnavailableError: "the network, a proxy or AWS: phasesync credentials test {credential}",
    ThrottledError: "nothing, unless it lasts: others use up the request rate of this account",
}


def _fix_of_error(name: str, facts: Facts) -> str:
    error = _error_named(facts.error_class)
    why = f"phasesync syncs why {name}"
    if error is None:
        return why
    # Only hints of classes: those of single errors may contain names of keys and remote objects.
    hint = Hint(_FIXES[error]) if error in _FIXES else error.default_hint
    if isinstance(hint, Hint):
        hint = hint.filled(name=name, policy_for=name, credential=facts.credential or "NAME")
    return why if hint is None else str(hint) if why in hint else f"{hint}; more: {why}"


def _error_named(word: str | None) -> type[PhasesyncError] | None:
    """Return the class of an error; None for a word that is none, such as an altered one."""
    found = getattr(errors, word or "", None)
    return found if isinstance(found, type) and issubclass(found, PhasesyncError) else None


def _sentence(error: type[PhasesyncError]) -> str:
    """Return the default message of a class: the first line of its docstring."""
    line = cleandoc(error.__doc__ or "").partition("\n")[0].rstrip(".")
    return line[:1].lower() + line[1:] if line[1:2].islower() else line
