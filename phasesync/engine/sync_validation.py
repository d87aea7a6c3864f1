"""
Checks a sync that is added or changed, before anything is stored: names, keys, Regions, limits.

Asks the store, and KMS if a key is named. Changes nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta

from phasesync.core.arns import check_key_arn, is_key_arn
from phasesync.core.canonical_json import canonical_json, parse_json_document
from phasesync.core.credential import Credential
from phasesync.core.lint import lint
from phasesync.core.model import EnvironmentSnapshot, SecretValue
from phasesync.core.names import normalise_path
from phasesync.core.planning.losses import LONGEST_WINDOW
from phasesync.core.planning.ownership import owner_tags
from phasesync.core.regions import check_region, check_same_partition
from phasesync.core.remote_names import check_template, clashes, name_of_key, names_taken
from phasesync.core.sync import AWS_MANAGED_KEY, Layout, Sync, SyncConfig, SyncDraft
from phasesync.core.tags import check_tags
from phasesync.engine.context import Context
from phasesync.errors import AlreadyExistsError, InvalidInputError

SHORTEST_INTERVAL = timedelta(seconds=1)
SHORTEST_WINDOW = timedelta(hours=1)
LONGEST_POLICY = 20_480
"""Characters of a resource policy (User Guide, quotas)."""


class SyncValidator:
    """Checks what an operator configures on a sync."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def normalise(self, draft: SyncDraft, credential: Credential, *, former: SyncConfig | None, ask: bool) -> SyncDraft:
        """
        Check a draft; return it with KMS keys as ARNs and the policy in canonical form.

        Args:
            draft: what the operator asked for.
            credential: of the draft.
            former: the present configuration; None for a new sync. AWS is not asked again about what stays.
            ask: AWS may be asked.

        Raises:
            InvalidInputError: the message says what is wrong and what would be right.
            DestinationError: KMS refused to describe a key.
        """
        config = draft.config
        check_same_partition(check_region(draft.region), credential.region, of=f"the credential {credential.name}")
        _check_layout(config)
        _check_limits(config)
        check_tags(config.tags, ours=len(owner_tags("", "")), tells_case=True)
        _check_replicas(config, draft.region)
        if config.layout is Layout.JSON:
            self._context.destinations.check_name(draft.destination_kind, config.names)
        changes: dict[str, str | None] = {}
        if config.resource_policy is not None:
            changes["resource_policy"] = canonical_policy(config.resource_policy)
        if config.kms_key not in (None, AWS_MANAGED_KEY, former and former.kms_key):
            changes["kms_key"] = self._key(draft, credential, str(config.kms_key), ask=ask)
        elif config.kms_key not in (None, AWS_MANAGED_KEY):
            check_key_arn(str(config.kms_key), draft.region)  # The Region may be another one now.
        return replace(draft, config=replace(config, **changes), path=normalise_path(draft.path))  # type: ignore[arg-type]

    def check_names(
        self,
        draft: SyncDraft,
        *,
        account: str | None,
        except_for: str | None = None,
        stored_as: tuple[str, str] | None = None,
    ) -> tuple[str, ...]:
        """
        Check that no two keys and no two syncs share a remote name; return lint as lines for the operator.

        Args:
            draft: a normalised draft.
            account: the account it writes to; None if it is not known yet.
            except_for: name of the sync that is changed.
            stored_as: app and environment under their present names; None if the draft has these.

        Raises:
            InvalidInputError: a key leads to a name that the destination does not accept.
            AlreadyExistsError: a name is taken by another sync, or two keys would share one.
        """
        others = self._others(draft, account, except_for)
        app, environment = stored_as or (draft.app, draft.environment)
        wanted = {(app.lower(), environment.lower())}
        wanted |= {
            (sync.app.lower(), sync.environment.lower()) for sync in others if sync.config.layout is Layout.PER_KEY
        }
        with self._context.store.secrets.snapshot() as reader:
            loaded = reader.load(frozenset(wanted))
        secrets = _folder(loaded, app, environment, draft.path)
        names = {
            key: name_of_key(draft.config, app=draft.app, environment=draft.environment, path=draft.path, key=key)
            for key in secrets
        }
        if draft.config.layout is Layout.JSON:
            names = {}
        for key, name in names.items():
            try:
                self._context.destinations.check_name(draft.destination_kind, name)
            except InvalidInputError as error:
                raise InvalidInputError(f"the key {key}: {error.message}", hint=error.hint) from None
        for keys in clashes(names).values():
            raise AlreadyExistsError(
                f"the keys {' and '.join(keys)} would have names that are the same, or differ in case only",
                hint="rename one of them, or use another --name-template",
            )
        names_of_others = _names_of(others, loaded)
        for name, other in names_taken(names.values() or [draft.config.names], names_of_others).items():
            raise AlreadyExistsError(
                f"the sync {other} already writes to {name} in this account and Region",
                hint=f"choose another name; phasesync syncs show {other} shows the other sync",
            )
        findings = lint(
            config=draft.config,
            app=draft.app,
            environment=draft.environment,
            path=draft.path,
            secrets=secrets,
            others=names_of_others,
        )
        return tuple(finding.text for finding in findings)

    def remote_names(self, draft: SyncDraft, limit: int | None = 20) -> list[str]:
        """Return the first `limit` remote names that a sync would write to; None means all."""
        if draft.config.layout is Layout.JSON:
            return [draft.config.names]
        listed = self._context.store.secrets.list_secrets(draft.app, draft.environment, path=draft.path)
        return [
            name_of_key(draft.config, app=draft.app, environment=draft.environment, path=draft.path, key=secret.key)
            for secret in listed[:limit]
        ]

    def _others(self, draft: SyncDraft, account: str | None, except_for: str | None) -> list[Sync]:
        """Return the other syncs that write to the same account and Region, and may share a name with it."""
        similar = self._context.store.syncs.find_similar(draft, account=account)
        return [sync for sync in similar if sync.name != except_for]

    def _key(self, draft: SyncDraft, credential: Credential, key: str, *, ask: bool) -> str:
        if is_key_arn(key):
            check_key_arn(key, draft.region)
            if not ask:
                return key
        elif not ask:
            raise InvalidInputError(
                f"{key!r} is not the ARN of a KMS key, and AWS is not to be asked for it",
                hint="give the key's ARN, or leave --no-verify out",
            )
        return self._context.destinations.resolve_key(draft.destination_kind, credential, draft.region, key)


def canonical_policy(text: str) -> str:
    """Return a resource policy as canonical JSON. InvalidInputError if it is not a policy, or too long."""
    try:
        document = parse_json_document(text.encode())
    except InvalidInputError as error:
        raise InvalidInputError(error.message.replace("the value", "the resource policy", 1)) from None
    if not isinstance(document, dict) or "Statement" not in document:
        raise InvalidInputError("a resource policy is a JSON object with a Statement")
    canonical = canonical_json(document)
    if len(canonical) > LONGEST_POLICY:
        raise InvalidInputError(f"the resource policy has {len(canonical)} characters, AWS takes {LONGEST_POLICY}")
    return canonical


def _folder(
    loaded: Mapping[tuple[str, str], EnvironmentSnapshot], app: str, environment: str, path: str
) -> dict[str, SecretValue]:
    snapshot = loaded.get((app.lower(), environment.lower()))
    if snapshot is None:
        return {}
    return {key: value for (folder, key), value in snapshot.secrets.items() if folder == path}


def _names_of(others: Iterable[Sync], loaded: Mapping[tuple[str, str], EnvironmentSnapshot]) -> dict[str, str]:
    """Return remote name in lower case -> name of the sync that writes it."""
    names: dict[str, str] = {}
    for sync in others:
        if sync.config.layout is Layout.JSON:
            names[sync.config.names.lower()] = sync.name
            continue
        for key in _folder(loaded, sync.app, sync.environment, sync.path):
            name = name_of_key(sync.config, app=sync.app, environment=sync.environment, path=sync.path, key=key)
            names[name.lower()] = sync.name
    return names


def _check_layout(config: SyncConfig) -> None:
    if config.layout is Layout.JSON:
        if config.remote_name is None or config.name_template is not None:
            raise InvalidInputError("layout json takes one name", hint="--layout json --secret-name shop/production")
    elif config.name_template is None or config.remote_name is not None:
        raise InvalidInputError(
            "layout per-key takes a name template", hint="--layout per-key --name-template '{app}/{env}/{key}'"
        )
    else:
        check_template(config.name_template)


def _check_limits(config: SyncConfig) -> None:
    if config.interval < SHORTEST_INTERVAL:
        raise InvalidInputError("the interval is shorter than a second", hint="--interval 5m")
    if not SHORTEST_WINDOW <= config.guard_window <= LONGEST_WINDOW:
        raise InvalidInputError("the guard's window is between one hour and seven days", hint="--guard-window 24h")
    if not 7 <= config.recovery_days <= 30:
        raise InvalidInputError("AWS takes recovery windows of 7 to 30 days")
    if config.description is not None and len(config.description) > 2_048:
        raise InvalidInputError("AWS takes descriptions of up to 2,048 characters")


def _check_replicas(config: SyncConfig, region: str) -> None:
    for replica, key in (config.replicas or {}).items():
        check_same_partition(check_region(replica), region, of="the secret")
        if replica == region:
            raise InvalidInputError(f"{replica} is the secret's own Region", hint="name other Regions for replicas")
        if key != AWS_MANAGED_KEY:
            check_key_arn(key, replica)
