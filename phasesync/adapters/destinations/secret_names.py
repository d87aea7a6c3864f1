"""What an AWS secret may be called. Pure."""

import re
from typing import Final

from phasesync.errors import InvalidInputError

MAX_CHARACTERS: Final = 512

_NOT_ALLOWED: Final = re.compile(r"[^A-Za-z0-9/_+=.@-]")


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
