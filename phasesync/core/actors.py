"""
Actors, and which of them are one person.

An actor is a text: the user of the operating system, and the name that this user claims: `ada as deployer`.
"""

import unicodedata
from typing import Final

from phasesync.core.names import is_invisible

BY_ACTOR: Final = "actor"
"""Two people are told apart by the whole text of the actor, `--actor` included."""
BY_OS_USER: Final = "os-user"
"""Two people are told apart by the user of the operating system alone."""


def is_same_person(one: str, other: str, by: str = BY_ACTOR) -> bool:
    """Return whether two actors count as one person. `by`: `BY_ACTOR` or `BY_OS_USER`."""
    return person_of(one, by) == person_of(other, by)


def person_of(actor: str, by: str = BY_ACTOR) -> str:
    """
    Return who an actor is: equal for two actors that a reader would take for one.

    Case, width, invisible characters and the amount of white space make nobody another person. Look-alike letters of
    another script do.
    """
    if by == BY_OS_USER:
        actor = actor.partition(" as ")[0]
    # Case folding can undo the normal form, so it is made twice (Unicode, section 3.13: NFKC_Casefold).
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", _seen_of(actor)).casefold())
    return " ".join(_seen_of(folded).split())


def _seen_of(text: str) -> str:
    return "".join(character for character in text if not is_invisible(character))
