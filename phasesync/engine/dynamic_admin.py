"""
Adds and updates dynamic secrets, with checks that find problems before the first lease does.

Does not ask AWS: what AWS would reject is known beforehand, and the first lease shows whether the credential may do it.
"""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from typing import Final

from phasesync.core.arns import check_partition, group_name
from phasesync.core.canonical_json import canonical_json, parse_json_document
from phasesync.core.credential import Credential, CredentialStatus
from phasesync.core.dynamic import DynamicConfig, DynamicDraft, DynamicSecret
from phasesync.core.lease_users import OUR_TAGS, check_user_template, default_iam_path
from phasesync.core.names import check_key
from phasesync.core.tags import check_tags
from phasesync.engine.context import Context
from phasesync.engine.renaming import renamed_users, words_of
from phasesync.errors import InvalidInputError

DEFAULT_KEYS: Final[Mapping[str, str]] = {
    "username": "AWS_IAM_USERNAME",
    "access_key_id": "AWS_ACCESS_KEY_ID",
    "secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
}
"""Output -> key of its value; the SDKs of AWS read all but the first from the environment."""


@dataclass(frozen=True, kw_only=True)
class ConfiguredDynamic:
    """An added or changed dynamic secret. `warnings`: problems that its leases will meet, as lines for the operator."""

    dynamic: DynamicSecret
    warnings: tuple[str, ...]


class DynamicAdmin:
    """Adds and changes dynamic secrets."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def add(self, draft: DynamicDraft) -> ConfiguredDynamic:
        """
        Add a dynamic secret.

        Raises:
            InvalidInputError: there is no such issuer, AWS would reject it, or its lifetimes or keys conflict.
            NotFoundError: environment or credential.
            AlreadyExistsError: its name or one of its keys is taken.
        """
        if draft.issuer not in self._context.issuers.kinds():
            raise InvalidInputError(
                f"{draft.issuer!r} is not an issuer", hint=f"issuers: {', '.join(self._context.issuers.kinds())}"
            )
        environment = self._context.store.apps.get_environment(draft.app, draft.environment)
        draft = replace(draft, app=environment.app, environment=environment.name)
        credential = self._context.store.credentials.get(draft.credential)
        words = {"app": draft.app, "env": draft.environment, "name": draft.name}
        config = self._normalise(draft.config, draft.issuer, credential, words, draft.path)
        dynamic = self._context.store.dynamics.add(replace(draft, credential=credential.name, config=config))
        return ConfiguredDynamic(dynamic=dynamic, warnings=tuple(self._warnings(dynamic, credential)))

    def update(
        self, name: str, change: Callable[[DynamicConfig], DynamicConfig], *, credential: str | None = None
    ) -> ConfiguredDynamic:
        """
        Change a dynamic secret. Issued leases stay as they are.

        Args:
            name: of the dynamic secret.
            change: returns the new configuration.
            credential: name of another credential; None keeps it.

        Raises:
            As `add` does.
        """
        former = self._context.store.dynamics.get(name)
        used = self._context.store.credentials.get(credential or former.credential)
        words = {"app": former.app, "env": former.environment, "name": former.name}
        config = self._normalise(
            change(former.config), former.issuer, used, words, former.path, kept=set(former.config.keys.values())
        )
        dynamic = self._context.store.dynamics.update(name, credential=used.name, config=config)
        return ConfiguredDynamic(dynamic=dynamic, warnings=tuple(self._warnings(dynamic, used)))

    def rename(self, name: str, new_name: str) -> ConfiguredDynamic:
        """
        Give a dynamic secret another name. Leases that exist stay as they are, with their users.

        Raises:
            NotFoundError: there is no such dynamic secret.
            AlreadyExistsError: another one has the name.
            InvalidInputError: AWS would not take the names of its users.
        """
        former = self._context.store.dynamics.get(name)
        note = renamed_users(former, words_of(former) | {"name": new_name})
        renamed = self._context.store.dynamics.rename(name, new_name)
        return ConfiguredDynamic(dynamic=renamed, warnings=() if note is None else (note,))

    def _normalise(
        self,
        config: DynamicConfig,
        kind: str,
        credential: Credential,
        words: Mapping[str, str],
        folder: str,
        kept: Container[str] = (),
    ) -> DynamicConfig:
        """Return a configuration in the form that is stored. InvalidInputError for what AWS would reject."""
        path = config.iam_path
        if path is None and self._context.issuers.traits(kind).has_path:
            path = default_iam_path(words["app"], words["env"], folder)
        config = replace(
            config,
            iam_path=path,
            groups=tuple(dict.fromkeys(group_name(group) for group in config.groups)),
            policy_arns=tuple(dict.fromkeys(config.policy_arns)),
            inline_policy=_canonical(config.inline_policy),
            session_policy=_canonical(config.session_policy),
            keys=_keys(config.keys, self._context.issuers.traits(kind).outputs, kept),
        )
        check_user_template(config.user_template, words)
        check_tags(config.tags, ours=OUR_TAGS, tells_case=False)
        self._context.issuers.check(kind, config, credential.type)
        for arn in (*config.policy_arns, config.permission_boundary, config.role_arn):
            if arn is not None:
                check_partition(arn, credential.region)
        return config

    def _warnings(self, dynamic: DynamicSecret, credential: Credential) -> list[str]:
        config = dynamic.config
        warnings = []
        if credential.status is CredentialStatus.INCOMPLETE:
            warnings.append(
                f"the credential {credential.name} has no role yet, and nothing can be issued with it: "
                f"phasesync credentials update {credential.name} --role-arn ARN"
            )
        if self._context.issuers.traits(dynamic.issuer).has_path:
            if not (config.policy_arns or config.groups or config.inline_policy):
                warnings.append("its users may do nothing: there is no --policy-arn, no --group and no --inline-policy")
            if config.permission_boundary is None:
                warnings.append(
                    "its users have no permission boundary: the credential's role needs the right to make users "
                    "without one, so that who holds the role can make any user; give a --permission-boundary"
                )
        return warnings


def _keys(renamed: Mapping[str, str], outputs: tuple[str, ...], kept: Container[str]) -> dict[str, str]:
    """
    Return output -> key for all outputs of an issuer: the renamed ones, and the defaults for the others.

    Keys in `kept` were set before; new ones have to follow the rule for names of keys.
    """
    unknown = sorted(renamed.keys() - set(outputs))
    if unknown:
        raise InvalidInputError(f"there is no output {unknown[0]!r} to rename", hint=f"outputs: {', '.join(outputs)}")
    keys = {output: renamed.get(output) or DEFAULT_KEYS[output] for output in outputs}
    for key in keys.values():
        if key not in kept:
            check_key(key)
    twice = sorted({key for key in keys.values() if list(keys.values()).count(key) > 1})
    if twice:
        raise InvalidInputError(f"two outputs have the key {twice[0]}", hint="give each a name: --key-map OUTPUT=NAME")
    return keys


def _canonical(document: str | None) -> str | None:
    """Return a policy without white space. Return text that is not JSON unchanged: the check of policies reports it."""
    if document is None:
        return None
    try:
        return canonical_json(parse_json_document(document.encode()))
    except InvalidInputError:
        return document
