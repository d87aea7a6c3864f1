"""What AWS Secrets Manager accepts: names, values, recovery windows and resource policies. Pure."""

import re
from typing import Final

from phasesync.core.payloads import check_size
from phasesync.core.remote import Payload
from phasesync.errors import DestinationRejectedError, InvalidInputError

MAX_NAME_CHARACTERS: Final = 512
RECOVERY_DAYS: Final = range(7, 31)
"""Recovery windows of a deletion, in days (API reference, DeleteSecret)."""
MAX_POLICY_CHARACTERS: Final = 20_480
"""Longest resource policy (User Guide, quotas)."""

_NOT_ALLOWED: Final = re.compile(r"[^A-Za-z0-9/_+=.@-]")


def validate_name(name: str) -> None:
    """
    Check the name of an AWS secret: 1 to 512 ASCII letters, digits and / _ + = . @ - (User Guide, create a secret).

    Raises:
        InvalidInputError: it says what is wrong.
    """
    if not 1 <= len(name) <= MAX_NAME_CHARACTERS:
        raise InvalidInputError(f"the name of an AWS secret has 1 to {MAX_NAME_CHARACTERS} characters, not {len(name)}")
    if "!" in name:
        raise InvalidInputError(
            "the name of an AWS secret may not contain '!': AWS keeps it for secrets that one of its services manages"
        )
    if name.startswith("arn:"):
        raise InvalidInputError(
            f"{name[:200]!r} is an ARN, not a name",
            hint="give the name alone: what stands after :secret: without the hyphen and six characters at its end",
        )
    wrong = sorted(set(_NOT_ALLOWED.findall(name)))
    if wrong:
        raise InvalidInputError(
            f"the name of an AWS secret may not contain {', '.join(repr(character) for character in wrong)}",
            hint="allowed are letters, digits and / _ + = . @ -",
        )


def check_name(name: str) -> None:
    """Refuse a name of a template that AWS would refuse: it grows with the keys. DestinationRejectedError."""
    try:
        validate_name(name)
    except InvalidInputError as error:
        raise DestinationRejectedError(error.message, hint=error.hint) from None


def check_payload(payload: Payload) -> None:
    """Refuse a payload that AWS would refuse. PayloadTooLargeError; DestinationRejectedError if it is empty."""
    check_size(payload)
    if len(payload.value) == 0:
        raise DestinationRejectedError("AWS does not take an empty value", hint="give the key a value, or unset it")


def check_recovery_days(days: int) -> None:
    """Refuse a recovery window that AWS would refuse. DestinationRejectedError."""
    if days not in RECOVERY_DAYS:
        raise DestinationRejectedError(
            f"a recovery window has {RECOVERY_DAYS.start} to {RECOVERY_DAYS.stop - 1} days, not {days}"
        )


def check_policy_length(policy: str) -> None:
    """Refuse a resource policy that is too long. DestinationRejectedError."""
    if len(policy) > MAX_POLICY_CHARACTERS:
        raise DestinationRejectedError(
            f"the resource policy has {len(policy):,} characters, the limit is {MAX_POLICY_CHARACTERS:,}",
            hint="name fewer principals, or a role or an organization that stands for them",
        )
