"""What may be set on a dynamic secret: the options of `dynamic add` and `dynamic update`."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial, update_wrapper
from typing import Any, Final

import click

from phasesync.cli.input import text_of
from phasesync.cli.params import COUNT, DURATION, Pair, comma_list_or_empty, merged, pairs
from phasesync.core.dynamic import DynamicConfig


@dataclass(frozen=True, kw_only=True)
class DynamicOptions:
    """
    What was given. None leaves the configuration as it is.

    An empty text takes a setting back.
    """

    user_template: str | None
    iam_path: str | None
    policy_arns: tuple[str, ...]
    groups: tuple[str, ...]
    permission_boundary: str | None
    inline_policy: str | None
    tags: tuple[tuple[str, str], ...]
    role_arn: str | None
    session_policy: str | None
    default_ttl: timedelta | None
    max_ttl: timedelta | None
    max_leases: int | None
    key_map: tuple[tuple[str, str], ...]

    @property
    def empty(self) -> bool:
        """Whether nothing was given."""
        return all(value is None or value == () for value in vars(self).values())

    def apply(self, config: DynamicConfig) -> DynamicConfig:
        """Return a configuration with what was given. InvalidInputError where a file cannot be read."""
        given: dict[str, Any] = {}
        for name in ("default_ttl", "max_ttl", "max_leases"):
            if (value := getattr(self, name)) is not None:
                given[name] = value
        if self.user_template is not None:
            given["user_template"] = self.user_template
        for name in ("iam_path", "permission_boundary", "role_arn"):
            if (text := getattr(self, name)) is not None:
                given[name] = text or None
        for name in ("inline_policy", "session_policy"):
            if (file := getattr(self, name)) is not None:
                given[name] = text_of(file) if file else None
        for name in ("policy_arns", "groups"):
            if names := getattr(self, name):
                given[name] = tuple(one for one in names if one)
        if self.tags:
            given["tags"] = merged(config.tags, self.tags)
        if self.key_map:
            given["keys"] = merged(config.keys, self.key_map)
        return replace(config, **given)


def dynamic_options(*, required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options to a command; it gets them as `options`. `required`: the lives have to be given."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            names = DynamicOptions.__dataclass_fields__
            options = DynamicOptions(**{name: kwargs.pop(name) for name in names})
            return command(*args, options=options, **kwargs)

        decorated: Callable[..., Any] = update_wrapper(wrapper, command)
        for option in reversed((*_lives(required=required), *_OPTIONS)):
            decorated = option(decorated)
        return decorated

    return decorate


def _lives(*, required: bool) -> tuple[Callable[..., Any], ...]:
    return (
        click.option(
            "--default-ttl",
            type=DURATION,
            required=required,
            help="Life of a lease that is issued without --ttl, such as 1h.",
        ),
        click.option(
            "--max-ttl",
            type=DURATION,
            required=required,
            help="Longest life of a lease, however often it is renewed, such as 8h.",
        ),
    )


_OPTIONS: Final = (
    click.option(
        "--user-template",
        metavar="TEMPLATE",
        help="Names of the users, or of the sessions; with {{random}}, and {{app}}, {{env}}, {{name}}. "
        "Default: '{{name}}-{{random}}'.",
    ),
    click.option(
        "--iam-path",
        metavar="PATH",
        help="IAM path of the users, where no others lie. Default, which '' restores: /phasesync/APP/ENV/.",
    ),
    click.option(
        "--policy-arn",
        "policy_arns",
        multiple=True,
        callback=comma_list_or_empty,
        metavar="ARN",
        help="Managed policy of the users, or of the sessions. Repeat it, or separate several with commas. '' "
        "drops those "
        "set before. Default: none.",
    ),
    click.option(
        "--group",
        "groups",
        multiple=True,
        callback=comma_list_or_empty,
        metavar="NAME|ARN",
        help="Group of the users. Repeat it, or separate several with commas. '' drops those set before. Default: "
        "none.",
    ),
    click.option(
        "--permission-boundary",
        metavar="ARN",
        help="Policy that bounds what the users may do. Default, which '' restores: none.",
    ),
    click.option(
        "--inline-policy",
        type=click.Path(),
        metavar="FILE",
        help="JSON file with a policy that every user gets inline. Default, which '' restores: none.",
    ),
    click.option(
        "--tag",
        "tags",
        multiple=True,
        callback=pairs,
        metavar="K=V",
        help="Tag of the users, such as team=web. Repeat it, or separate several with commas. '' drops those set "
        "before. "
        "Default: none.",
    ),
    click.option(
        "--role-arn",
        metavar="ARN",
        help="Role whose sessions are issued, for aws-assume-role, which needs it. No default.",
    ),
    click.option(
        "--session-policy",
        type=click.Path(),
        metavar="FILE",
        help="JSON file with a policy that narrows the sessions down. Default, which '' restores: none.",
    ),
    click.option("--max-leases", type=COUNT, help="How many leases may be live at once. Default: 50."),
    click.option(
        "--key-map",
        multiple=True,
        callback=partial(pairs, form=Pair("OUTPUT=NAME, such as username=CI_USER")),
        metavar="OUTPUT=NAME",
        help="Key under which an output is issued; outputs: username, access_key_id, secret_access_key, session_token. "
        "Repeat it, or separate several with commas. Default: AWS_IAM_USERNAME, AWS_ACCESS_KEY_ID and so on.",
    ),
)
