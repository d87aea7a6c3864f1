"""
Names of IAM users and of sessions, from a template, and the IAM path that users are made under.

    {{name}}-{{random}}      {{app}}, {{env}} and {{name}} are those of the dynamic secret

A name that was drawn is used once. Randomness is an argument.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

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
