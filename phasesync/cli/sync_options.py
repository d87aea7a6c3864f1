"""Options for the settings of a sync, shared by `syncs add` and `syncs update`."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import update_wrapper
from typing import Any, Final

import click

from phasesync.cli.input import text_of
from phasesync.cli.params import DURATION, Name, comma_list_or_empty, merged, pairs
from phasesync.cli.window_option import window_option, windows_of
from phasesync.core.sync import AWS_MANAGED_KEY, Layout, OnDrift, OnRemove, SyncConfig, TagMode
from phasesync.errors import InvalidInputError

CREDENTIAL = Name("credential")
name_argument = click.argument("name", type=Name("sync"))

NO_REPLICAS: Final = "none"
"""Word for no replicas at all. Without the option replicas are left alone."""


@dataclass(frozen=True, kw_only=True)
class SyncOptions:
    """
    The options of a command. None leaves the configuration as it is.

    An empty text removes a setting, so that the dimension is left alone again.
    """

    layout: str | None
    secret_name: str | None
    name_template: str | None
    kms_key: str | None
    description: str | None
    tags: tuple[tuple[str, str], ...]
    tag_mode: str | None
    replicas: tuple[str, ...]
    resource_policy: str | None
    on_drift: str | None
    on_remove: str | None
    grace: timedelta | None
    recovery_days: int | None
    interval: timedelta | None
    shrink_limit_percent: int | None
    shrink_limit_keys: int | None
    delete_limit_percent: int | None
    delete_limit_objects: int | None
    guard_window: timedelta | None
    windows: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether no option was used."""
        return all(value is None or value == () for value in vars(self).values())

    def apply(self, config: SyncConfig) -> SyncConfig:
        """Return the configuration with these options. InvalidInputError if one cannot be read."""
        changes: dict[str, Any] = self._naming()
        for name, kind in (("tag_mode", TagMode), ("on_drift", OnDrift), ("on_remove", OnRemove)):
            if (word := getattr(self, name)) is not None:
                changes[name] = kind(word)
        for name in ("kms_key", "description"):
            if (text := getattr(self, name)) is not None:
                changes[name] = text or None
        for name in _UNCONVERTED:
            if (value := getattr(self, name)) is not None:
                changes[name] = value
        if self.windows:
            changes["windows"] = windows_of(self.windows)
        if self.tags:
            changes["tags"] = merged(config.tags, self.tags)
        if self.replicas:
            changes["replicas"] = _replicas(self.replicas)
        if self.resource_policy is not None:
            changes["resource_policy"] = text_of(self.resource_policy) if self.resource_policy else None
        return replace(config, **changes)

    def _naming(self) -> dict[str, Any]:
        """Return layout and names: a name means one secret, a template one a key, unless --layout says otherwise."""
        if self.secret_name is not None and self.name_template is not None:
            raise InvalidInputError(
                "--secret-name and --name-template exclude each other",
                hint="--secret-name for one secret with all keys, --name-template for one secret a key",
            )
        changes: dict[str, Any] = {}
        if self.secret_name is not None:
            changes = {"layout": Layout.JSON, "remote_name": self.secret_name, "name_template": None}
        elif self.name_template is not None:
            changes = {"layout": Layout.PER_KEY, "remote_name": None, "name_template": self.name_template}
        if self.layout is not None:
            changes["layout"] = Layout(self.layout)
        return changes


_UNCONVERTED: Final = (
    "grace",
    "recovery_days",
    "interval",
    "shrink_limit_percent",
    "shrink_limit_keys",
    "delete_limit_percent",
    "delete_limit_objects",
    "guard_window",
)
"""Settings that are stored as they were read."""


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


def _replicas(regions: tuple[str, ...]) -> dict[str, str] | None:
    """Return Region -> key ARN there, or AWS_MANAGED_KEY; None if replicas are left alone again."""
    if regions == ("",):
        return None
    if regions == (NO_REPLICAS,):
        return {}
    if "" in regions or NO_REPLICAS in regions:
        raise InvalidInputError(
            f"--replica {NO_REPLICAS}, and --replica '', stand alone",
            hint="name the Regions: --replica eu-west-1 --replica us-east-1=ARN",
        )
    replicas: dict[str, str] = {}
    for entry in regions:
        region, _, key = entry.partition("=")
        if region in replicas:
            raise InvalidInputError(f"--replica names {region} twice")
        replicas[region] = key or AWS_MANAGED_KEY
    return replicas


def _words(kind: type[Layout | TagMode | OnDrift | OnRemove]) -> click.Choice[str]:
    return click.Choice([str(word) for word in kind])


_PERCENT = click.IntRange(0, 100)

_OPTIONS = (
    click.option(
        "--layout",
        type=_words(Layout),
        help="One AWS secret with all keys (json), or one for each key (per-key). Default: follows from the name or "
        "template.",
    ),
    click.option(
        "--secret-name",
        metavar="NAME",
        help="Name of the AWS secret, for layout json. No default: this or --name-template.",
    ),
    click.option(
        "--name-template",
        metavar="TEMPLATE",
        help="Names of the AWS secrets, for layout per-key, such as '{app}/{env}/{key}'; {path} is the folder. No "
        "default: "
        "this or --secret-name.",
    ),
    click.option(
        "--kms-key",
        metavar="ARN|alias|id|default",
        help="KMS key that encrypts the secret; the word default is the AWS-managed one. Default: left alone.",
    ),
    click.option("--description", metavar="TEXT", help="Description of the AWS secret. Default: left alone."),
    click.option(
        "--tag",
        "tags",
        multiple=True,
        callback=pairs,
        metavar="K=V",
        help="Tag of the AWS secret, such as team=web. Repeat it, or separate several with commas. '' drops those set "
        "before. Default: none.",
    ),
    click.option(
        "--tag-mode",
        type=_words(TagMode),
        help="Tags besides our own marks: never set any; upsert: set yours, others stay; replace-own: also remove what "
        "an earlier --tag set. New syncs: upsert.",
    ),
    click.option(
        "--replica",
        "replicas",
        multiple=True,
        callback=comma_list_or_empty,
        metavar="REGION[=KEY]",
        help="Region to copy it to, with the ARN of a KMS key there. Repeat it, or separate several with commas. "
        "none: no "
        "copies. Default: left alone, which '' restores.",
    ),
    click.option(
        "--resource-policy",
        type=click.Path(),
        metavar="FILE",
        help="JSON file with the secret's resource policy. Default: left alone, which '' restores.",
    ),
    click.option(
        "--on-drift",
        type=_words(OnDrift),
        help="A secret that was changed from outside: enforce what the store has, or hold it for an approval. "
        "New syncs: enforce.",
    ),
    click.option(
        "--on-remove",
        type=_words(OnRemove),
        help="What happens to a secret after its key is gone (layout per-key): retain, or delete after the grace. "
        "New syncs: retain.",
    ),
    click.option(
        "--grace", type=DURATION, help="How long a key has to be gone before its secret is deleted. New syncs: 1h."
    ),
    click.option(
        "--recovery-days", type=click.IntRange(7, 30), help="Recovery window of deletions, in days. New syncs: 30."
    ),
    click.option(
        "--interval", type=DURATION, help="Time between drift checks where sweeps do not make them. New syncs: 5m."
    ),
    click.option(
        "--shrink-limit-percent",
        type=_PERCENT,
        help="Percent of the keys that a change may drop without an approval. New syncs: 50.",
    ),
    click.option(
        "--shrink-limit-keys",
        type=click.IntRange(1),
        help="Number of dropped keys from which --shrink-limit-percent counts; fewer never wait. New syncs: 2.",
    ),
    click.option(
        "--delete-limit-percent",
        type=_PERCENT,
        help="Percent of the sync's secrets that a run may delete without an approval. New syncs: 20.",
    ),
    click.option(
        "--delete-limit-objects",
        type=click.IntRange(1),
        help="Number of deleted secrets from which --delete-limit-percent counts; fewer wait only where none would be "
        "left. New syncs: 3.",
    ),
    click.option(
        "--guard-window",
        type=DURATION,
        help="Time over which the limits above also count what was dropped or deleted. New syncs: 24h.",
    ),
    window_option,
)
