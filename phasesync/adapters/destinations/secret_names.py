"""What an AWS secret may be called. Pure."""

import re
from typing import Final

from phasesync.errors import InvalidInputError

MAX_CHARACTERS: Final = 512

_NOT_ALLOWED: Final = re.compile(r"[^A-Za-z0-9/_+=.@-]")
_LIKE_AN_ARN: Final = re.compile(r"-[A-Za-z0-9]{6}")


def validate_name(name: str) -> None:
    """
    Check the name of an AWS secret: 1 to 512 ASCII letters, digits and / _ + = . @ - (User Guide, create a secret).

    Raises:
        InvalidInputError: it says what is wrong.
    """
    if not 1 <= len(name) <= MAX_CHARACTERS:
        raise InvalidInputError(f"the name of an AWS secret has 1 to {MAX_CHARACTERS} characters, not {len(name)}")
    if "!" in name:
        raise InvalidInputError(
            "the name of an AWS secret may not contain '!': AWS keeps it for secrets that one of its services manages"
        )
    wrong = sorted(set(_NOT_ALLOWED.findall(name)))
    if wrong:
        raise InvalidInputError(
            f"the name of an AWS secret may not contain {', '.join(repr(character) for character in wrong)}",
            hint="allowed are letters, digits and / _ + = . @ -",
        )


def warn_of_name(name: str) -> tuple[str, ...]:
    """Return what may go wrong with a valid name, as lines for the operator."""
    if _LIKE_AN_ARN.search(name[-7:]):
        return (
            f"the name ends in {name[-7:]!r}, which looks like the end of an ARN: others who look it up by a shortened "
            "ARN may not find it (User Guide, troubleshooting)",
        )
    return ()
