"""
What a log line says of an exception: its class and where it was, never its text and never a local variable.

botocore and database drivers repeat arguments in the texts of their exceptions, secret values included, and our own
texts may name secret keys. So `str(exc)` is not even computed here.
"""

import traceback
from collections.abc import Iterator
from types import TracebackType

Described = list[dict[str, object]]
"""One item an exception of the chain, the newest first: `class` and `frames`."""

_MOST_FRAMES = 30
_MOST_EXCEPTIONS = 10


def describe(error: BaseException) -> Described:
    """Return class and frames of an exception, of its causes and of the members of its groups."""
    described: Described = []
    for each in _chain(error):
        described.append({"class": class_name(each), "frames": _frames(each.__traceback__)})
        if len(described) == _MOST_EXCEPTIONS:
            break
    return described


def class_name(error: BaseException) -> str:
    """Return the class of an exception with its module, without the module for Python's own."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def as_text(described: Described) -> str:
    """Return a description as lines for people."""
    lines = []
    for item in described:
        lines.append(str(item["class"]))
        frames = item["frames"]
        lines.extend(f"    {frame}" for frame in (frames if isinstance(frames, list) else []))
    return "\n".join(lines)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop(0)
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, BaseExceptionGroup):
            waiting.extend(each.exceptions)
        waiting.append(each.__cause__ or (None if each.__suppress_context__ else each.__context__))


def _frames(trace: TracebackType | None) -> list[str]:
    """Return `file:line function` from the outermost to the innermost; source lines are left out."""
    frames = [
        f"{frame.f_code.co_filename}:{line} {frame.f_code.co_qualname}" for frame, line in traceback.walk_tb(trace)
    ]
    if len(frames) > _MOST_FRAMES:
        half = _MOST_FRAMES // 2
        frames[half:-half] = [f"{len(frames) - 2 * half} more"]
    return frames
