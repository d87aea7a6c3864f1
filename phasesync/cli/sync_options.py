"""Options that say what is set on a sync, shared by `syncs add` and `syncs update`."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import update_wrapper
from typing import Any, Final

import click

from phasesync.cli.input import text_of
from phasesync.cli.params import DURATION, Name, comma_list_or_empty, merged, pairs
from phasesync.core.sync_config import AWS_MANAGED_KEY, Layout, OnDrift, OnRemove, SyncConfig, TagMode
from phasesync.errors import InvalidInputError

CREDENTIAL = Name("credential")
name_argument = click.argument("name", type=Name("sync"))

NO_REPLICAS: Final = "none"
"""Word that asks for no replicas at all; leaving the option out leaves them alone."""


@dataclass(frozen=True, kw_only=True)
class SyncOptions:
    """
    What was given. None leaves the configuration as it is.

    An empty text takes a setting back, so that the dimension is left alone again.
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

    @property
    def empty(self) -> bool:
        """Whether nothing was given."""
        return all(value is None or value == () for value in vars(self).values())

    def apply(self, config: SyncConfig) -> SyncConfig:
        """Return a configuration with what was given. InvalidInputError where it cannot be read."""
        given: dict[str, Any] = self._naming()
        for name, kind in (("tag_mode", TagMode), ("on_drift", OnDrift), ("on_remove", OnRemove)):
            if (word := getattr(self, name)) is not None:
                given[name] = kind(word)
        for name in ("kms_key", "description"):
            if (text := getattr(self, name)) is not None:
                given[name] = text or None
        for name in _AS_GIVEN:
            if (value := getattr(self, name)) is not None:
                given[name] = value
        if self.tags:
            given["tags"] = merged(config.tags, self.tags)
        if self.replicas:
            given["replicas"] = _replicas(self.replicas)
        if self.resource_policy is not None:
            given["resource_policy"] = text_of(self.resource_policy) if self.resource_policy else None
        return replace(config, **given)

    def _naming(self) -> dict[str, Any]:
        """Return layout and names: a name means one secret, a template one a key, unless --layout says otherwise."""
        if self.secret_name is not None and self.name_template is not None:
            raise InvalidInputError(
                "--secret-name and --name-template exclude each other",
                hint="--secret-name for one secret with all keys, --name-template for one secret a key",
            )
        given: dict[str, Any] = {}
        if self.secret_name is not None:
            given = {"layout": Layout.JSON, "remote_name": self.secret_name, "name_template": None}
        elif self.name_template is not None:
            given = {"layout": Layout.PER_KEY, "remote_name": None, "name_template": self.name_template}
        if self.layout is not None:
            given["layout"] = Layout(self.layout)
        return given


_AS_GIVEN: Final = (
    "grace",
    "recovery_days",
    "interval",
    "shrink_limit_percent",
    "shrink_limit_keys",
    "delete_limit_percent",
    "delete_limit_objects",
    "guard_window",
)
"""Settings that are taken over as they were read."""


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


def _replicas(given: tuple[str, ...]) -> dict[str, str] | None:
    """Return Region -> key ARN there, or AWS_MANAGED_KEY; None where replicas are left alone again."""
    if given == ("",):
        return None
    if given == (NO_REPLICAS,):
        return {}
    if "" in given or NO_REPLICAS in given:
        raise InvalidInputError(
            f"--replica {NO_REPLICAS}, and --replica '', stand alone",
            hint="name the Regions: --replica eu-west-1 --replica us-east-1=ARN",
        )
    replicas: dict[str, str] = {}
    for one in given:
        region, _, key = one.partition("=")
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
        help="json: one secret with all keys; per-key: one secret a key. Told from the name or template.",
    ),
    click.option("--secret-name", metavar="NAME", help="Name of the AWS secret (layout json)."),
    click.option(
        "--name-template",
        metavar="TEMPLATE",
        help="Names of the AWS secrets (layout per-key), such as '{app}/{env}/{key}'; {path} is the folder.",
    ),
    click.option(
        "--kms-key",
        metavar="ARN|alias|id|default",
        help="Key that encrypts the secret; default: the AWS-managed one. Not given: left alone.",
    ),
    click.option("--description", metavar="TEXT", help="Description of the secret. Not given: left alone."),
    click.option(
        "--tag",
        "tags",
        multiple=True,
        callback=pairs,
        metavar="K=V",
        help="Tag; may be repeated. Empty: none of those set before.",
    ),
    click.option(
        "--tag-mode",
        type=_words(TagMode),
        help="Tags besides our own marks. never: none; upsert (new syncs): yours are set, others stay; replace-own: "
        "also removes what an earlier --tag set.",
    ),
    click.option(
        "--replica",
        "replicas",
        multiple=True,
        callback=comma_list_or_empty,
        metavar="REGION[=KEY]",
        help="Region to copy it to, with the ARN of a key there; may be repeated. none: no copies; '': left alone.",
    ),
    click.option(
        "--resource-policy",
        type=click.Path(),
        metavar="FILE",
        help="JSON file with the secret's resource policy. '': left alone.",
    ),
    click.option(
        "--on-drift",
        type=_words(OnDrift),
        help="A secret that somebody else changed: put back what the store has (new syncs), or wait for an approval.",
    ),
    click.option(
        "--on-remove",
        type=_words(OnRemove),
        help="A secret whose key is gone (per-key): leave it (new syncs), or delete it after the grace.",
    ),
    click.option(
        "--grace", type=DURATION, help="How long a key has to be gone before its secret is deleted. New syncs: 1h."
    ),
    click.option(
        "--recovery-days", type=click.IntRange(7, 30), help="Recovery window of deletions, in days. New syncs: 30."
    ),
    click.option("--interval", type=DURATION, help="Time between drift checks. New syncs: 5m."),
    click.option(
        "--shrink-limit-percent",
        type=_PERCENT,
        help="A change that drops more of the keys than this waits for an approval. New syncs: 50.",
    ),
    click.option(
        "--shrink-limit-keys",
        type=click.IntRange(1),
        help="... from this many dropped keys on; fewer never wait. New syncs: 2.",
    ),
    click.option(
        "--delete-limit-percent",
        type=_PERCENT,
        help="A run that deletes more of the sync's secrets than this waits for an approval. New syncs: 20.",
    ),
    click.option(
        "--delete-limit-objects",
        type=click.IntRange(1),
        help="... from this many deleted secrets on; fewer wait only where none would be left. New syncs: 3.",
    ),
    click.option(
        "--guard-window",
        type=DURATION,
        help="The limits above are also for all that was dropped or deleted within this time. New syncs: 24h.",
    ),
)
