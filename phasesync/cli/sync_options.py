"""Options that say what is set on a sync, shared by `syncs add` and `syncs update`."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import update_wrapper
from typing import Any

import click

from phasesync.cli.params import DURATION, PAIR, Name, comma_list
from phasesync.core.model import Layout, OnDrift, OnRemove, SyncConfig, TagMode

CREDENTIAL = Name("credential")
name_argument = click.argument("name", type=Name("sync"))


@dataclass(frozen=True, kw_only=True)
class SyncOptions:
    """
    What was given. None leaves the configuration as it is.

    An empty text takes a setting back, so that the dimension is left alone again.
    """

    layout: str | None
    kms_key: str | None
    description: str | None
    tags: tuple[tuple[str, str], ...]
    tag_mode: str | None
    on_drift: str | None
    on_remove: str | None
    recovery_days: int | None
    interval: timedelta | None
    shrink_limit_percent: int | None
    shrink_limit_keys: int | None

    @property
    def empty(self) -> bool:
        """Whether nothing was given."""
        return not self.tags and all(value is None for name, value in vars(self).items() if name != "tags")

    def apply(self, config: SyncConfig) -> SyncConfig:
        """Return a configuration with what was given."""
        given: dict[str, Any] = {}
        for name, kind in (("layout", Layout), ("tag_mode", TagMode), ("on_drift", OnDrift), ("on_remove", OnRemove)):
            if (word := getattr(self, name)) is not None:
                given[name] = kind(word)
        for name in ("kms_key", "description"):
            if (text := getattr(self, name)) is not None:
                given[name] = text or None
        for name in ("recovery_days", "interval", "shrink_limit_percent", "shrink_limit_keys"):
            if (value := getattr(self, name)) is not None:
                given[name] = value
        if self.tags:
            given["tags"] = dict(config.tags) | dict(self.tags)
        return replace(config, **given)


def sync_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command; it gets them as `options`."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        names = SyncOptions.__dataclass_fields__
        options = SyncOptions(**{name: kwargs.pop(name) for name in names})
        return command(*args, options=options, **kwargs)

    decorated: Callable[..., Any] = update_wrapper(wrapper, command)
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def _words(kind: type[Layout | TagMode | OnDrift | OnRemove]) -> click.Choice[str]:
    return click.Choice([str(word) for word in kind])


def _pairs(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple(PAIR.convert(pair, param, ctx) for pair in comma_list(ctx, param, value))


_OPTIONS = (
    click.option("--layout", type=_words(Layout), help="json: one secret with all keys."),
    click.option("--kms-key", metavar="ARN|default", help="Customer-managed key. Not given: left alone."),
    click.option("--description", metavar="TEXT", help="Description of the secret. Not given: left alone."),
    click.option("--tag", "tags", multiple=True, callback=_pairs, metavar="K=V", help="Tag; may be repeated."),
    click.option("--tag-mode", type=_words(TagMode), help="What happens to tags besides our own marks."),
    click.option("--on-drift", type=_words(OnDrift), help="What to do with a secret that somebody else changed."),
    click.option("--on-remove", type=_words(OnRemove), help="What to do with a secret that is no longer wanted."),
    click.option("--recovery-days", type=click.IntRange(7, 30), help="Recovery window of deletions, in days."),
    click.option("--interval", type=DURATION, help="Time between drift checks, such as 5m."),
    click.option(
        "--shrink-limit-percent",
        type=click.IntRange(0, 100),
        help="A change that drops more of the keys than this waits for an approval.",
    ),
    click.option(
        "--shrink-limit-keys", type=click.IntRange(1), help="... from this many dropped keys on; fewer never wait."
    ),
)
