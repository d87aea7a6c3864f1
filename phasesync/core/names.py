"""
The rules for names, paths and secret keys: checks and normalises text.

It does not know whether an object of that name exists.
"""

import re
import unicodedata
from typing import Final

from phasesync.errors import InvalidInputError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

MAX_KEY_CHARACTERS = 255
MAX_PATH_CHARACTERS = 255

_UNSEEN_CATEGORIES: Final = {
    "Cc": "a control character",
    "Cf": "an invisible character",
    "Co": "a character for private use, which looks like nothing",
    "Cs": "half a character, which has no UTF-8 form",
    "Zl": "a line separator",
    "Zp": "a paragraph separator",
    "Zs": "a space that is not the ordinary one",
}
_INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u3164\ufe00-\ufe0f\uffa0\ufff0-\uffff"
    "\U0001d159\U000e0000-\U000e0fff]"
)
"""Default_Ignorable_Code_Point of Unicode beyond its category Cf; blanks that are not spaces; noncharacters."""
_LOOK_ALIKES: Final = {
    "-": "\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\ufe58\ufe63\uff0d",
    "_": "\u203f\u2017\ufe4d\ufe4e\ufe4f\uff3f",
    ".": "\u2024\ufe52\uff0e",
    "/": "\u2044\u2215\u29f8\uff0f",
    ":": "\u2236\ua789\ufe55\uff1a",
    "=": "\ua78a\ufe66\uff1d",
}
"""Separator -> characters that look like it: they make a pasted key differ from the intended one."""
_LOOKS_LIKE: Final = {other: separator for separator, others in _LOOK_ALIKES.items() for other in others}

ROOT = "/"
"""The root folder, which every environment has."""


def is_name(text: str) -> bool:
    """Return whether text may be the name of an app, an environment, a credential or a sync."""
    return _NAME.fullmatch(text) is not None


def check_name(text: str, kind: str = "name") -> str:
    """
    Return a name as it is.

    Args:
        text: the name.
        kind: the kind of its object, for the message: "app", "sync".

    Raises:
        InvalidInputError: it is not a name.
    """
    if is_name(text):
        return text
    raise InvalidInputError(
        f"{_shown(text)} is not a valid {kind} name{_unseen_in(text)}",
        hint="1 to 64 letters, digits, - and _, beginning with a letter or a digit",
    )


def check_key(text: str) -> str:
    """
    Return a new secret key as it is.

    It has 1 to 255 characters that a person can see and recognise. Characters that are invisible, control a terminal or
    look like a separator are refused, and so is white space at the ends. A space within the key is allowed.

    Raises:
        InvalidInputError: it is not a key. The message names the code point and repeats no text after an equals sign.
    """
    check_stored_key(text)
    if unseen := _unseen_in(text):
        raise InvalidInputError(
            f"{_shown(text)} is not a valid secret key{unseen}",
            hint="type the key again by hand: characters that cannot be seen come with pasted text",
        )
    if text != text.strip(" "):
        raise InvalidInputError(
            f"{_shown(text)} is not a valid secret key: it has white space at its {_end_with_space(text)} (U+0020)",
            hint="write it without",
        )
    return text


def check_stored_key(text: str) -> str:
    """
    Return a key that the store may have, as it is. InvalidInputError.

    It has 1 to 255 characters, none of them a control character. A key that is older than the rules of `check_key` can
    thus still be read, set again and removed.
    """
    if not 1 <= len(text) <= MAX_KEY_CHARACTERS:
        raise InvalidInputError(
            f"a secret key has 1 to {MAX_KEY_CHARACTERS} characters, this one has {len(text)}",
        )
    for place, character in enumerate(text, 1):
        # Lone surrogates have no UTF-8 form, so neither phasesync nor AWS could store them.
        if (category := unicodedata.category(character)) in {"Cc", "Cs"}:
            raise InvalidInputError(
                f"{_shown(text)} is not a valid secret key: character {place} is {_code_point(character)}, "
                f"{_UNSEEN_CATEGORIES[category]}"
            )
    return text


def is_invisible(character: str) -> bool:
    """Return whether a character takes no place where it is shown: format characters and the like, not white space."""
    return unicodedata.category(character) == "Cf" or _INVISIBLE.match(character) is not None


def _unseen_in(text: str) -> str:
    """Return a clause about the first character that cannot be seen or recognised; empty if there is none."""
    for place, character in enumerate(text, 1):
        if (why := _why_refused(character)) is not None:
            return f": character {place} is {_code_point(character)}, {why}"
    return ""


def _why_refused(character: str) -> str | None:
    """Return why a character of a key is refused, None if it is not."""
    category = unicodedata.category(character)
    if character != " " and category in _UNSEEN_CATEGORIES:
        return _UNSEEN_CATEGORIES[category]
    if _INVISIBLE.match(character):
        return "an invisible character"
    if character in _LOOKS_LIKE:
        return f"which looks like {_LOOKS_LIKE[character]}"
    return None


def _code_point(character: str) -> str:
    name = unicodedata.name(character, "")
    return f"U+{ord(character):04X}" + (f" ({name})" if name else "")


def _end_with_space(text: str) -> str:
    return "beginning" if text.startswith(" ") else "end"


def normalise_path(text: str) -> str:
    """
    Return a folder's path with a leading slash and without a trailing one: `/`, `/db/x`.

    Raises:
        InvalidInputError: a folder in it is not a name, or the whole is too long.
    """
    inner = text.removeprefix("/").removesuffix("/")
    if not inner:
        return ROOT
    if not all(is_name(folder) for folder in inner.split("/")) or len(inner) >= MAX_PATH_CHARACTERS:
        raise InvalidInputError(
            f"{_shown(text)} is not a valid path{_unseen_in(text)}",
            hint=f"folders of letters, digits, - and _ with a slash between them, such as /db/replica; "
            f"{MAX_PATH_CHARACTERS} characters at most",
        )
    return f"/{inner}"


def parse_environment_label(text: str) -> tuple[str, str]:
    """Split `APP/ENV` into app and environment. InvalidInputError."""
    app, slash, environment = text.partition("/")
    if not slash or not is_name(app) or not is_name(environment):
        raise InvalidInputError(
            f"{_shown(text)} does not name an environment{_unseen_in(text)}",
            hint="write APP/ENV, such as shop/production",
        )
    return app, environment


def without_value(text: str) -> str:
    """Return a text for a message, without what follows an equals sign: it may be a value in the wrong place."""
    name, equals, value = text.partition("=")
    return f"{name}=…" if equals and value else text


_KEYS: Final = re.compile(r"AGE-SECRET-KEY-[0-9A-Za-z-]+|(?<![A-Za-z0-9+/=])[A-Za-z0-9+/]{43}=(?!=)")
"""An age identity, and 32 bytes as base64, as a root key is written."""


def without_keys(text: str) -> str:
    """Return a text for a message, without keys: one may have been typed where the name of its file is expected."""
    return _KEYS.sub("…", text)


def _shown(text: str) -> str:
    """Quote a name for a message, on one line and not too long."""
    text = without_value(text)
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
