"""
What names, paths and secret keys may look like.

Checks and normalises text; does not know whether a thing of that name exists.
"""

import re
import unicodedata

from phasesync.errors import InvalidInputError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

MAX_KEY_CHARACTERS = 255
MAX_PATH_CHARACTERS = 255

ROOT = "/"
"""The folder that every environment has."""


def is_name(text: str) -> bool:
    """Return whether text may be the name of an app, an environment, a credential or a sync."""
    return _NAME.fullmatch(text) is not None


def check_name(text: str, what: str = "name") -> str:
    """
    Return a name as it is.

    Args:
        text: the name.
        what: what it names, for the message: "app", "sync".

    Raises:
        InvalidInputError: it is not a name.
    """
    if is_name(text):
        return text
    raise InvalidInputError(
        f"{_shown(text)} is not a valid {what} name",
        hint="1 to 64 letters, digits, - and _, beginning with a letter or a digit",
    )


def check_key(text: str) -> str:
    """Return a secret key as it is: 1 to 255 characters, none of them a control character. InvalidInputError."""
    if not 1 <= len(text) <= MAX_KEY_CHARACTERS:
        raise InvalidInputError(
            f"a secret key has 1 to {MAX_KEY_CHARACTERS} characters, this one has {len(text)}",
        )
    # Cs are lone surrogates: they have no UTF-8 form, so that neither we nor AWS could store them.
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in text):
        raise InvalidInputError(f"{_shown(text)} is not a valid secret key: it has a control character")
    return text


def normalise_path(text: str) -> str:
    """
    Return a folder's path with a leading and without a trailing slash: `/`, `/db/x`.

    Raises:
        InvalidInputError: a folder in it is not a name, or the whole is too long.
    """
    inner = text.removeprefix("/").removesuffix("/")
    if not inner:
        return ROOT
    if not all(is_name(folder) for folder in inner.split("/")) or len(inner) >= MAX_PATH_CHARACTERS:
        raise InvalidInputError(
            f"{_shown(text)} is not a valid path",
            hint=f"folders of letters, digits, - and _ with a slash between them, such as /db/replica; "
            f"{MAX_PATH_CHARACTERS} characters at most",
        )
    return f"/{inner}"


def parse_environment_label(text: str) -> tuple[str, str]:
    """Split `APP/ENV` into app and environment. InvalidInputError."""
    app, slash, environment = text.partition("/")
    if not slash or not is_name(app) or not is_name(environment):
        raise InvalidInputError(
            f"{_shown(text)} does not name an environment",
            hint="write APP/ENV, such as shop/production",
        )
    return app, environment


def _shown(text: str) -> str:
    """Quote text for a message, on one line and not without end."""
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
