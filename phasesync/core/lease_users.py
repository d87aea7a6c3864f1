"""
The IAM users of leases: their names, their IAM path, their owner tags, and which of them are orphans. Pure.

Names come from a template. Randomness is an argument, and each name is used once. Sessions of roles get their names in
the same way.

    {{name}}-{{random}}      {{app}}, {{env}} and {{name}} are those of the dynamic secret

An orphan is a user that carries the tag of our instance and belongs to no live lease: no process would revoke it.
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
"""No capitals: IAM names are not case-sensitive. 16 of these hold 82 bits, so no two leases get the same name."""
DEFAULT_TEMPLATE: Final = "{{name}}-{{random}}"
PLACEHOLDERS: Final = ("random", "app", "env", "name")

_PLACEHOLDER: Final = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_NAME: Final = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_PATH: Final = re.compile(r"/[!-~]+/")
_NOT_IN_POLICIES: Final = frozenset("*?$")
"""IAM accepts them in a path; in a policy they are wildcards or begin a variable."""
_DIGITS: Final = 9
"""Of the number of a renewal, at most."""
_HINT: Final = "such as --user-template 'ci-{{random}}'; placeholders: " + ", ".join(
    f"{{{{{name}}}}}" for name in PLACEHOLDERS
)


def check_user_template(template: str, words: Mapping[str, str]) -> None:
    """
    Make sure that a template makes names that AWS accepts, a new one each time.

    Args:
        template: the template.
        words: values of `app`, `env` and `name`.

    Raises:
        InvalidInputError: no {{random}}, an unknown placeholder, a character that AWS does not accept, or too long.
    """
    placeholders = _PLACEHOLDER.findall(template)
    unknown = [name for name in placeholders if name not in PLACEHOLDERS]
    if unknown:
        raise InvalidInputError(f"the user template {template!r} has a placeholder that does not exist", hint=_HINT)
    if "random" not in placeholders:
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
        words: values of `app`, `env` and `name`.
        random: returns `RANDOM` characters of `RANDOM_ALPHABET`, from a cryptographic generator.
    """
    return _PLACEHOLDER.sub(lambda match: random() if match[1] == "random" else words[match[1]], template)


def default_iam_path(app: str, environment: str, path: str) -> str:
    """Return `/phasesync/app/environment/folder/`; IAM accepts every character of names and folders."""
    inner = [app, environment, *(folder for folder in path.split("/") if folder)]
    return f"{OUR_PATH}{'/'.join(inner)}/"


OUR_PATH: Final = "/phasesync/"
"""Beginning of every default path."""


def check_iam_path(path: str) -> str:
    """
    Return an IAM path as it is: slashes at both ends, printable ASCII between them.

    Raises:
        InvalidInputError: AWS would not accept it; a policy for it would match other paths too; or it is `/`, where
            all other users of the account are.
    """
    if path == "/":
        raise InvalidInputError(
            "the IAM path / is no path of ours: it holds the users of everyone", hint="--iam-path /ci/shop/"
        )
    if _PATH.fullmatch(path) is None or len(path) > MAX_PATH:
        raise InvalidInputError(
            f"{path!r} is not an IAM path",
            hint=f"it begins and ends with a slash, such as /ci/shop/; {MAX_PATH} characters at most, no spaces",
        )
    if wildcards := sorted(_NOT_IN_POLICIES & set(path)):
        raise InvalidInputError(
            f"the IAM path {path!r} has a {wildcards[0]}: the policy for it would be for other paths too",
            hint="leave out * ? and $, such as --iam-path /ci/shop/",
        )
    return path


# --- owner tags

TAG_DYNAMIC: Final = "phasesync:dynamic"
TAG_LEASE: Final = "phasesync:lease"
TAG_MAX_EXPIRES_AT: Final = "phasesync:max-expires-at"
TAG_RENEWED: Final = "phasesync:renewed"
"""The last renewal of the lease, and the end that it set. It shows that a row is from an older copy of the database."""
OUR_TAGS: Final = 5
"""How many of a user's tags are ours: the four above, and the tag of our instance."""


@dataclass(frozen=True, kw_only=True)
class Renewal:
    """A renewal of a lease, from the tag of its user. `number`: from 1."""

    number: int
    end: datetime


@dataclass(frozen=True, kw_only=True)
class MarkedUser:
    """A user under one of our IAM paths, and its tags."""

    name: str
    arn: str
    tags: Mapping[str, str]


def user_owner_tags(instance_id: str, *, dynamic_id: str, lease_id: str, max_expires_at: datetime) -> dict[str, str]:
    """Return the tags that name the owner of a user, its lease, and the time after which it is not needed."""
    return {
        TAG_INSTANCE: instance_id,
        TAG_DYNAMIC: dynamic_id,
        TAG_LEASE: lease_id,
        TAG_MAX_EXPIRES_AT: _format(max_expires_at),
    }


def user_owner_tags_renewed(tags: Mapping[str, str], renewal: Renewal) -> dict[str, str]:
    """Return our tags of a user, with the tag of a renewal."""
    ours = (TAG_INSTANCE, TAG_DYNAMIC, TAG_LEASE, TAG_MAX_EXPIRES_AT)
    return {tag: tags[tag] for tag in ours if tag in tags} | {TAG_RENEWED: f"{renewal.number} {_format(renewal.end)}"}


def renewal_of(tags: Mapping[str, str]) -> Renewal | None:
    """Return the last renewal from a user's tags; None if there is none or it cannot be parsed."""
    number, _, moment = tags.get(TAG_RENEWED, "").partition(" ")
    end = _parse(moment)
    if end is None or not (number.isascii() and number.isdigit() and len(number) <= _DIGITS):
        return None
    return Renewal(number=int(number), end=end)


def _format(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _parse(text: str) -> datetime | None:
    try:
        end = datetime.fromisoformat(text)
    except ValueError:
        return None
    return end if end.tzinfo is not None else None


def is_made_for(tags: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Return whether a user was made for the lease that has the wanted tags."""
    return all(tags.get(mark) == wanted.get(mark) is not None for mark in (TAG_INSTANCE, TAG_LEASE))


# --- orphans


class OrphanVerdict(StrEnum):
    """Whether a user is an orphan, and what to do with it."""

    THEIRS = "theirs"
    """It does not carry our instance's tag: never touched."""
    LIVE = "live"
    """It belongs to a live lease."""
    LEFT_OVER = "left-over"
    """Its lease has ended: the user was created, or created again, afterwards."""
    UNKNOWN = "unknown"
    """It has no lease in this database; it stays until its maximum end, because another database may have its lease."""
    OVERDUE = "overdue"
    """It has no lease in this database, and the end in its tag has passed."""


REMOVED: Final = (OrphanVerdict.LEFT_OVER, OrphanVerdict.OVERDUE)
"""Verdicts on users that are removed."""


def orphan_verdict_of(
    user: MarkedUser, status: LeaseStatus | None, *, instance_id: str, now: datetime
) -> OrphanVerdict:
    """
    Return whether a user is an orphan.

    Args:
        user: the user.
        status: of the lease that its tag names; None if this database has no such lease, or cannot read it.
        instance_id: of our instance.
        now: the time.
    """
    if user.tags.get(TAG_INSTANCE) != instance_id:
        return OrphanVerdict.THEIRS
    if status in (LeaseStatus.REVOKED, LeaseStatus.EXPIRED):
        return OrphanVerdict.LEFT_OVER
    if status is not None:
        return OrphanVerdict.LIVE
    if TAG_LEASE not in user.tags:
        return OrphanVerdict.UNKNOWN  # phasesync makes no such user.
    end = max_expires_at_of(user.tags)
    return OrphanVerdict.OVERDUE if end is not None and end < now else OrphanVerdict.UNKNOWN


def max_expires_at_of(tags: Mapping[str, str]) -> datetime | None:
    """Return the maximum end from a user's tags; None if there is none or it cannot be parsed."""
    return _parse(tags.get(TAG_MAX_EXPIRES_AT, ""))
