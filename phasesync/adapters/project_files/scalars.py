"""
What a scalar without quotes means.

YAML 1.1 and 1.2, and the programs that read them, disagree: `on`, `012`, `1e3` and `2026-01-31` are text to some and
something else to others. Only what all of them read alike is taken: `true` and `false`, decimal numbers, and null.
Everything that any of them takes for something else than text is `Unquoted`.

Sources: YAML 1.2.2, 10.3.2 (core schema); YAML 1.1, types bool, int, float, null, timestamp (yaml.org/type).
"""

import re
from typing import Any, Final

from phasesync.core.canonical_json import NumberLiteral
from phasesync.core.project.nodes import Unquoted

_WORDS: Final[dict[str, Any]] = {
    "": None,
    **dict.fromkeys(("~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_BOOLEANS: Final = frozenset({"yes", "no", "on", "off"})
_WHOLE: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_JSON_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_LIKE_NUMBER: Final = re.compile(
    r"""[-+]?(?:
      0b[01_]+ | 0o[0-7_]+ | 0x[0-9a-fA-F_]+        # other bases
    | [0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?   # base 60
    | (?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?
    | \.(?:inf|Inf|INF) )
    | \.(?:nan|NaN|NAN)""",
    re.VERBOSE,
)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}.*)?")
_PLAIN_TEXT: Final = re.compile(r"[A-Za-z/_{*$][^\n]*")


def scalar(text: str) -> Any:
    """Return what a scalar without quotes means: text, bool, int, None, NumberLiteral or Unquoted."""
    if text in _WORDS:
        return _WORDS[text]
    if text.lower() in _BOOLEANS:
        return Unquoted(text, "true or false")
    if _PLAIN_TEXT.match(text):
        return text
    if _WHOLE.fullmatch(text):
        return int(text)
    if _JSON_NUMBER.fullmatch(text):
        return NumberLiteral(text)
    if _LIKE_NUMBER.fullmatch(text):
        return Unquoted(text, "a number")
    if _DATE.fullmatch(text):
        return Unquoted(text, "a date")
    return text
