"""
Names of IAM users and of sessions, from a template, and the IAM path that users are made under.

    {{name}}-{{random}}      {{app}}, {{env}} and {{name}} are those of the dynamic secret

A name that was drawn is used once. Randomness is an argument.

Users at AWS that carry our marks: how they are marked, and which of them nobody would take back.

Nobody's but ours: the decision is by our instance's tag, and by what the database knows of the lease that it names.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from phasesync.core.lease import LeaseStatus
from phasesync.core.remote import TAG_INSTANCE
from phasesync.errors import InvalidInputError

MAX_NAME: Final = 64
"""Characters of a user name (API reference, CreateUser) and of a session name (STS, AssumeRole)."""
MAX_PATH: Final = 512
"""Characters of an IAM path (API reference, CreateUser, Path)."""
RANDOM: Final = 16
"""Characters of {{random}}."""
RANDOM_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
"""No capitals: IAM does not tell names apart by case. 16 of these hold 82 bits, so that no two leases meet."""
DEFAULT_TEMPLATE: Final = "{{name}}-{{random}}"
PLACEHOLDERS: Final = ("random", "app", "env", "name")

_PLACEHOLDER: Final = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_NAME: Final = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_PATH: Final = re.compile(r"/[!-~]+/")
_NOT_IN_POLICIES: Final = frozenset("*?$")
"""IAM takes them in a path; in a policy they would stand for other characters, or for a variable's value."""
_HINT: Final = "such as --user-template 'ci-{{random}}'; placeholders: " + ", ".join(
    f"{{{{{name}}}}}" for name in PLACEHOLDERS
)


def check_user_template(template: str, words: Mapping[str, str]) -> None:
    """
    Make sure that a template makes names that AWS takes, a new one each time.

    Args:
        template: the template.
        words: what `app`, `env` and `name` stand for.

    Raises:
        InvalidInputError: no {{random}}, an unknown placeholder, a character that AWS does not take, or too long.
    """
    found = _PLACEHOLDER.findall(template)
    unknown = [name for name in found if name not in PLACEHOLDERS]
    if unknown:
        raise InvalidInputError(f"the user template {template!r} has a placeholder that does not exist", hint=_HINT)
    if "random" not in found:
        raise InvalidInputError(
            f"the user template {template!r} has no {{{{random}}}}: every lease would get the same name", hint=_HINT
        )
    name = render_user_name(template, words, lambda: "x" * RANDOM)
    if len(name) > MAX_NAME:
        raise InvalidInputError(
            f"the user template {template!r} makes names of {len(name)} characters; AWS takes {MAX_NAME}", hint=_HINT
        )
    if _NAME.fullmatch(name) is None:
        raise InvalidInputError(
            f"the user template {template!r} has characters that AWS does not take in names",
            hint="letters, digits and + = , . @ - _",
        )


def render_user_name(template: str, words: Mapping[str, str], random: Callable[[], str]) -> str:
    """
    Return one name.

    Args:
        template: as `check_user_template` passed it.
        words: what `app`, `env` and `name` stand for.
        random: returns `RANDOM` characters of `RANDOM_ALPHABET`, from a generator that nobody can guess.
    """
    return _PLACEHOLDER.sub(lambda match: random() if match[1] == "random" else words[match[1]], template)


def default_iam_path(app: str, environment: str, path: str) -> str:
    """Return `/phasesync/app/environment/folder/`: names and folders have no character that IAM does not take."""
    inner = [app, environment, *(folder for folder in path.split("/") if folder)]
    return f"{OUR_PATH}{'/'.join(inner)}/"


OUR_PATH: Final = "/phasesync/"
"""Every path that nobody chose otherwise begins with it."""


def check_iam_path(path: str) -> str:
    """
    Return an IAM path as it is: slashes at both ends, printable ASCII between them.

    Raises:
        InvalidInputError: AWS would not take it; a policy for it would be for other paths as well; or it is `/`, where
            the users of everybody lie.
    """
    if path == "/":
        raise InvalidInputError(
            "the IAM path / is no path of ours: the users of everybody lie there", hint="--iam-path /ci/shop/"
        )
    if _PATH.fullmatch(path) is None or len(path) > MAX_PATH:
        raise InvalidInputError(
            f"{path!r} is not an IAM path",
            hint=f"it begins and ends with a slash, such as /ci/shop/; {MAX_PATH} characters at most, no spaces",
        )
    if found := sorted(_NOT_IN_POLICIES & set(path)):
        raise InvalidInputError(
            f"the IAM path {path!r} has a {found[0]}: the policy for it would be for other paths too",
            hint="leave out * ? and $, such as --iam-path /ci/shop/",
        )
    return path


TAG_DYNAMIC: Final = "phasesync:dynamic"
TAG_LEASE: Final = "phasesync:lease"
TAG_MAX_EXPIRES_AT: Final = "phasesync:max-expires-at"
TAG_RENEWED: Final = "phasesync:renewed"
OUR_TAGS: Final = 5
"""How many of a user's tags are ours: the marks above, and our instance."""
"""Which renewal of the lease was the last, and its end then. It tells a row of an older copy of the database."""


@dataclass(frozen=True, kw_only=True)
class Renewal:
    """A renewal of a lease, as its user's tag says it. `number`: from 1."""

    number: int
    end: datetime


@dataclass(frozen=True, kw_only=True)
class MarkedUser:
    """A user under one of our IAM paths, and its tags."""

    name: str
    arn: str
    tags: Mapping[str, str]


class OrphanVerdict(StrEnum):
    """What becomes of a user that was found."""

    THEIRS = "theirs"
    """It does not carry our instance's tag: never touched."""
    LIVE = "live"
    """It belongs to a live lease."""
    LEFT_OVER = "left-over"
    """Its lease has ended: it came into being, or came back, afterwards."""
    UNKNOWN = "unknown"
    """No lease of this database; left until no database can want it any more."""
    OVERDUE = "overdue"
    """No lease of this database, and past the end that its tag names."""


REMOVED: Final = (OrphanVerdict.LEFT_OVER, OrphanVerdict.OVERDUE)
"""Fates of users that are removed."""


def user_owner_tags(instance_id: str, *, dynamic_id: str, lease_id: str, max_expires_at: datetime) -> dict[str, str]:
    """Return the tags that say whose a user is, which lease it is for, and when nobody can want it any more."""
    return {
        TAG_INSTANCE: instance_id,
        TAG_DYNAMIC: dynamic_id,
        TAG_LEASE: lease_id,
        TAG_MAX_EXPIRES_AT: _written(max_expires_at),
    }


def user_owner_tags_renewed(tags: Mapping[str, str], renewal: Renewal) -> dict[str, str]:
    """Return our marks among the tags of an order, and the one that a renewal writes."""
    ours = (TAG_INSTANCE, TAG_DYNAMIC, TAG_LEASE, TAG_MAX_EXPIRES_AT)
    return {tag: tags[tag] for tag in ours if tag in tags} | {TAG_RENEWED: f"{renewal.number} {_written(renewal.end)}"}


def renewal_of(tags: Mapping[str, str]) -> Renewal | None:
    """Return the last renewal that a user's tag names; None where there is none or nothing can be read from it."""
    number, _, moment = tags.get(TAG_RENEWED, "").partition(" ")
    end = _read(moment)
    if end is None or not (number.isascii() and number.isdigit() and len(number) <= _DIGITS):
        return None
    return Renewal(number=int(number), end=end)


_DIGITS: Final = 9


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _read(text: str) -> datetime | None:
    try:
        end = datetime.fromisoformat(text)
    except ValueError:
        return None
    return end if end.tzinfo is not None else None


def is_made_for(tags: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Return whether a user's tags say that it was made for the lease whose tags these are."""
    return all(tags.get(mark) == wanted.get(mark) is not None for mark in (TAG_INSTANCE, TAG_LEASE))


def orphan_verdict_of(
    user: MarkedUser, status: LeaseStatus | None, *, instance_id: str, now: datetime
) -> OrphanVerdict:
    """
    Return what becomes of a user.

    Args:
        user: what was found.
        status: of the lease that its tag names; None = this database has no such lease, or cannot read it.
        instance_id: our instance.
        now: the time.
    """
    if user.tags.get(TAG_INSTANCE) != instance_id:
        return OrphanVerdict.THEIRS
    if status in (LeaseStatus.REVOKED, LeaseStatus.EXPIRED):
        return OrphanVerdict.LEFT_OVER
    if status is not None:
        return OrphanVerdict.LIVE
    if TAG_LEASE not in user.tags:
        return OrphanVerdict.UNKNOWN  # Not as we make them.
    end = max_expires_at_of(user.tags)
    return OrphanVerdict.OVERDUE if end is not None and end < now else OrphanVerdict.UNKNOWN


def max_expires_at_of(tags: Mapping[str, str]) -> datetime | None:
    """Return the end that a user's tag names; None where there is none or nothing can be read from it."""
    return _read(tags.get(TAG_MAX_EXPIRES_AT, ""))
