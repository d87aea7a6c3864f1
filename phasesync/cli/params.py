"""Types of arguments and options: durations, instants, environments, paths, keys and lists."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from phasesync.core.names import check_key, check_name, check_stored_key, normalise_path, parse_environment_label
from phasesync.core.regions import check_region
from phasesync.core.times import is_duration, parse_duration
from phasesync.errors import InvalidInputError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Duration(click.ParamType[timedelta]):
    """`90s`, `15m`, `1h`, `7d` -> timedelta."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read a duration."""
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(str(value))
        except InvalidInputError as error:
            self.fail(error.message, param, ctx)


class Instant(click.ParamType[datetime]):
    """RFC 3339 with an offset -> aware datetime in UTC."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read an instant."""
        if isinstance(value, datetime):
            return value
        try:
            instant = datetime.fromisoformat(str(value))
            return instant.astimezone(UTC) if instant.tzinfo is not None else self._refuse(value, param, ctx)
        except (ValueError, OverflowError):
            self._refuse(value, param, ctx)

    def _refuse(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> NoReturn:
        self.fail(f"{value!r} is not an instant with an offset, such as 2026-01-31T09:00:00Z", param, ctx)


class Moment(click.ParamType[datetime | timedelta]):
    """An instant, or a duration before or after now, as the command defines."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime | timedelta:
        """Read an instant or a duration."""
        if isinstance(value, datetime | timedelta):
            return value
        if is_duration(str(value)):
            return DURATION.convert(value, param, ctx)
        try:
            return INSTANT.convert(value, param, ctx)
        except click.BadParameter:
            self.fail(
                f"{value!r} is neither a duration, such as 90s, 15m, 1h or 7d, nor an instant with an offset, such as "
                "2026-01-31T09:00:00Z",
                param,
                ctx,
            )


class EnvironmentLabel(click.ParamType[tuple[str, str]]):
    """`APP/ENV` -> (app, environment)."""

    name = "app/env"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Read a label. InvalidInputError."""
        return value if isinstance(value, tuple) else parse_environment_label(str(value))


class Name(click.ParamType[str]):
    """A name of `kind`."""

    name = "name"

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check a name. InvalidInputError."""
        if self._kind == "environment" and "/" in str(value):
            alone = str(value).rpartition("/")[2]
            raise InvalidInputError(f"{str(value)!r} names the app too", hint=f"give the name alone: {alone}")
        return check_name(str(value), self._kind)


class FolderPath(click.ParamType[str]):
    """A folder: `/`, `/db`."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read a path. InvalidInputError."""
        return normalise_path(str(value))


class SecretKey(click.ParamType[str]):
    """The key of an existing secret, which may be older than the rule for names of keys."""

    name = "key"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check a key. InvalidInputError."""
        return check_stored_key(str(value))


class WrittenKey(click.ParamType[str]):
    """The key of a secret that gets a value. The command checks the name if the key is new."""

    name = "key"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check a key. InvalidInputError; for KEY=VALUE without the value."""
        if "=" in str(value):
            raise value_as_argument()
        return check_stored_key(str(value))


class NewKey(click.ParamType[str]):
    """The key of a secret that may be new."""

    name = "key"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check a key. InvalidInputError; for KEY=VALUE without the value."""
        if "=" in str(value):
            raise value_as_argument()
        return check_key(str(value))


def value_as_argument() -> InvalidInputError:
    """Return the error for a value that was typed as an argument; it does not repeat it."""
    return InvalidInputError(
        "a value is never taken from an argument: arguments are seen by everyone on this machine",
        hint="name the key alone to be asked for the value, or give - to read stdin, or --from-file FILE; and change "
        "this value",
    )


class Pair(click.ParamType[tuple[str, str]]):
    """`KEY=VALUE` -> (key, value); the value may hold further equal signs and may be empty."""

    name = "key=value"

    def __init__(self, form: str = "KEY=VALUE") -> None:
        self.form = form

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Read a pair."""
        if isinstance(value, tuple):
            return value
        key, equals, rest = str(value).partition("=")
        if not key or not equals:
            self.fail(f"{value!r} is not {self.form}", param, ctx)
        return key, rest


class Count(click.IntRange):
    """A whole number, 1 or more."""

    def __init__(self) -> None:
        super().__init__(1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read a number; click would call another text "not a valid integer range"."""
        if not re.fullmatch(r"-?[0-9]+", str(value)):
            self.fail(f"{value!r} is not a whole number", param, ctx)
        return super().convert(value, param, ctx)


E = TypeVar("E", bound=StrEnum)


class Word(click.Choice[E]):
    """One word of an enum, as its value is written."""

    def __init__(self, words: type[E]) -> None:
        super().__init__(list(words))

    def normalize_choice(self, choice: object, ctx: click.Context | None) -> str:
        """Return the word; click would take the name of the member."""
        return str(choice.value) if isinstance(choice, StrEnum) else str(choice)


class Words(click.ParamType[str]):
    """Some of the given words, separated by commas: a shell completes the last one. `comma_list` takes them apart."""

    name = "words"

    def __init__(self, words: Iterable[str]) -> None:
        self._words = tuple(words)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Leave the text as it is: the command says which words there are."""
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        """Return what a shell may complete the text to: one more word, which is not there yet."""
        from click.shell_completion import CompletionItem

        before, comma, begun = incomplete.rpartition(",")
        left = [word for word in self._words if word not in before.split(",")]
        return [CompletionItem(f"{before}{comma}{word}") for word in left if word.startswith(begun)]


class Region(click.ParamType[str]):
    """A Region of AWS."""

    name = "region"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check a Region's name. InvalidInputError."""
        return check_region(str(value))


class Digest(click.ParamType[str]):
    """The digest of what was looked at and is approved, as it was printed."""

    name = "digest"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check a digest: an empty shell variable leaves the next option, or nothing, in its place."""
        if not re.fullmatch(r"[0-9a-f]{16}", str(value)):
            raise InvalidInputError(
                f"--plan takes a digest of 16 hexadecimal digits, not {str(value)!r}" if value else "--plan is empty",
                hint="the digest is printed with what is to be approved, and looks like 0123456789abcdef",
            )
        return str(value)


DURATION = Duration()
INSTANT = Instant()
MOMENT = Moment()
ENVIRONMENT = EnvironmentLabel()
PATH = FolderPath()
KEY = SecretKey()
WRITTEN_KEY = WrittenKey()
NEW_KEY = NewKey()
PAIR = Pair()
COUNT = Count()
REGION = Region()
DIGEST = Digest()

environment_argument = click.argument("environment", type=ENVIRONMENT, metavar="APP/ENV")
key_argument = click.argument("key", type=KEY)
written_key_argument = click.argument("key", type=WRITTEN_KEY)
path_option = click.option(
    "--path", type=PATH, default="/", show_default=True, help="This folder only, without those in it."
)


def comma_list(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Callback of an option with `multiple=True`: repeats and commas mean the same."""
    parts = (part.strip() for text in value for part in text.split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def comma_list_or_empty(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Callback of an option with `multiple=True` in which an empty text alone has a meaning too."""
    return comma_list(ctx, param, value) or (("",) if value else ())


_RESET = ("", "")
"""Stands for an empty text among pairs, which removes what was set before."""


def pairs(
    ctx: click.Context, param: click.Parameter, value: tuple[str, ...], *, form: Pair = PAIR
) -> tuple[tuple[str, str], ...]:
    """Callback of an option with `multiple=True` that takes KEY=VALUE; see `merged`."""
    parsed = tuple(form.convert(pair, param, ctx) for pair in comma_list(ctx, param, value))
    return (_RESET, *parsed) if "" in value else parsed


def merged(before: Mapping[str, str], new: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Return the former pairs with the new ones; an empty text among the new ones removes the former."""
    kept = {} if _RESET in new else dict(before)
    return kept | dict(pair for pair in new if pair != _RESET)
