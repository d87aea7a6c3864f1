"""Writes the store as documents that `apply` reads: everything but values."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from phasesync.core.channels import Webhook
from phasesync.core.credential import Credential, CredentialType
from phasesync.core.dynamic import DynamicConfig, DynamicSecret
from phasesync.core.lease_users import DEFAULT_TEMPLATE, default_iam_path
from phasesync.core.model import App, Environment
from phasesync.core.notification import FIRST_REMINDER, USUAL, Notification
from phasesync.core.project.desired import (
    DesiredCredential,
    DesiredDynamic,
    DesiredEnvironment,
    DesiredNotification,
    DesiredSync,
)
from phasesync.core.project.fields import key_text
from phasesync.core.project.kinds import API_VERSION, BY_KIND, KINDS, PROJECT
from phasesync.core.project.models import AWS_IAM_USER, AWS_SECRETS_MANAGER, NO_EXTERNAL_ID
from phasesync.core.project.ownership import Manage, ObjectKind
from phasesync.core.project.settings import DYNAMIC, SYNC, written
from phasesync.core.sync import Sync, SyncConfig
from phasesync.core.times import duration_text
from phasesync.engine.context import Context
from phasesync.engine.dynamic_admin import DEFAULT_KEYS
from phasesync.engine.project.objects import AppliedObjects

Document = dict[str, Any]

DEFAULT_PROJECT: Final = "main"
"""Name of the document that gets what no document owns."""


def dump(context: Context, *, app: str | None = None, project: str = DEFAULT_PROJECT) -> list[Document]:
    """
    Return the store as documents, one for each that owns something, by name.

    Args:
        context: has the store.
        app: only this app, its environments, and the syncs, dynamic secrets and credentials that they use.
        project: name of the document that gets what no document owns.

    Raises:
        NotFoundError: the app.
    """
    store = context.store
    applied = store.projects.applied()
    manage = {each.name: each.manage for each in store.projects.list_projects()}
    only = None if app is None else {each.name for each in store.apps.list_apps() if each.name.lower() == app.lower()}
    if app is not None and not only:
        store.apps.list_environments(app)  # The error names what exists.
    syncs = [each for each in store.syncs.list_syncs() if only is None or each.app in only]
    dynamics = [each for each in store.dynamics.list_all() if only is None or each.app in only]
    credentials = store.credentials.list_all()
    used = {sync.credential for sync in syncs} | {dynamic.credential for dynamic in dynamics}
    regions = {each.name: each.region for each in credentials}
    if only is not None:
        credentials = _used(credentials, used)
    sections: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))

    def put(kind: str, object_id: str, item: Any) -> None:
        owner = applied.get((kind, object_id))
        sections[project if owner is None else owner.project][kind].append(item)

    for each in store.apps.list_apps():
        if only is None or each.name in only:
            put("app", each.id, _app(each))
    for environment in store.apps.list_environments():
        if only is None or environment.app in only:
            put(DesiredEnvironment.kind, environment.id, _environment(context, environment, applied))
    for credential in credentials:
        put(DesiredCredential.kind, credential.id, _credential(credential))
    for sync in syncs:
        put(DesiredSync.kind, sync.id, _sync(sync, regions.get(sync.credential)))
    for dynamic in dynamics:
        put(DesiredDynamic.kind, dynamic.id, _dynamic(context, dynamic))
    for notification in store.notifications.list_all():
        if notification.error is None and (only is None or notification.app in only):
            put(DesiredNotification.kind, notification.id, _notification(notification))
    return [_document(name, manage.get(name, Manage.TRACK), sections[name]) for name in sorted(sections, key=str.lower)]


def _document(name: str, manage: Manage, sections: Mapping[str, list[Any]]) -> Document:
    head: Document = {"apiVersion": API_VERSION, "kind": PROJECT, "name": name}
    if manage is not Manage.TRACK:
        head["manage"] = str(manage)
    return head | {BY_KIND[kind.kind].section: sections[kind.kind] for kind in KINDS if sections.get(kind.kind)}


def _used(credentials: Iterable[Credential], names: set[str]) -> list[Credential]:
    """Return the credentials of some names, with those that assume their roles."""
    by_name = {each.name: each for each in credentials}
    waiting, found = sorted(names), {}
    while waiting:
        credential = by_name[waiting.pop()]
        if credential.name not in found:
            found[credential.name] = credential
            waiting += [] if credential.source_name is None else [credential.source_name]
    return [found[name] for name in sorted(found, key=str.lower)]


def _without_empty(item: Document) -> Document:
    return {word: value for word, value in item.items() if value not in (None, "", [], {})}


def _app(app: App) -> Document | str:
    settings = _without_empty({"description": app.description, "windows": list(app.windows)})
    return {"name": app.name, **settings} if settings else app.name


def _environment(context: Context, environment: Environment, applied: AppliedObjects) -> Document | str:
    owner = applied.get((DesiredEnvironment.kind, environment.id))
    file = applied.get((ObjectKind.VALUES, environment.id))
    item: Document = {"name": environment.label}
    if owner is not None:
        item |= {"folders": owner.spec.get("folders"), "keys": owner.spec.get("keys")}
    else:
        secrets = context.store.secrets.list_secrets(environment.app, environment.name)
        item |= {
            "folders": sorted({secret.path for secret in secrets} - {"/"}),
            "keys": sorted(key_text(secret.path, secret.key) for secret in secrets),
        }
    item |= {"values": None if file is None else dict(file.spec), "approvers": environment.approvers}
    item = _without_empty(item)
    return item if len(item) > 1 else environment.label


def _credential(credential: Credential) -> Document:
    is_role = credential.type is CredentialType.ASSUME_ROLE
    is_key = credential.type is CredentialType.ACCESS_KEY
    return _without_empty(
        {
            "name": credential.name,
            "type": str(credential.type),
            "region": credential.region,
            "role_arn": credential.role_arn,
            "external_id": (credential.external_id or NO_EXTERNAL_ID) if is_role else None,
            "source": credential.source_name,
            "account": credential.account,
            "access_key_id": credential.access_key_id,
            "secret_access_key": {"env": variable_of(credential.name)} if is_key else None,
        }
    )


def variable_of(credential: str) -> str:
    """Return the environment variable in which a dumped document expects the secret access key of a credential."""
    return _variable(credential, "SECRET_ACCESS_KEY")


def _variable(name: str, suffix: str) -> str:
    word = "".join(character if character.isascii() and character.isalnum() else "_" for character in name)
    return f"{word.upper()}_{suffix}"


def _sync(sync: Sync, region: str | None) -> Document:
    settings = written(sync.config, SYNC, SyncConfig())
    settings.pop("layout", None)  # It follows from the name or the template.
    return (
        _without_empty(
            {
                "name": sync.name,
                "env": sync.environment_label,
                "path": sync.path if sync.path != "/" else None,
                "credential": sync.credential,
                "destination": sync.destination_kind if sync.destination_kind != AWS_SECRETS_MANAGER else None,
                "region": sync.region if sync.region != region else None,
            }
        )
        | settings
    )


def _notification(notification: Notification) -> Document:
    channel, rules = notification.channel, notification.rules
    if channel is None or rules is None:
        raise AssertionError("a notification without an error has a channel")
    secret = isinstance(channel, Webhook) and channel.signing_secret is not None
    hidden = channel.shown != channel.url.reveal_text()
    return _without_empty(
        {
            "name": notification.name,
            "to": {"env": _variable(notification.name, "CHANNEL")} if hidden else channel.shown,
            "signing_secret": {"env": _variable(notification.name, "SIGNING_SECRET")} if secret else None,
            "conditions": list(rules.words) if rules.words != USUAL else None,
            "app": notification.app,
            "after": None if rules.after is None else duration_text(rules.after),
            "remind_after": duration_text(rules.remind_after) if rules.remind_after != FIRST_REMINDER else None,
            "quiet": list(rules.quiet),
        }
    )


def _dynamic(context: Context, dynamic: DynamicSecret) -> Document:
    config = dynamic.config
    traits = context.issuers.traits(dynamic.issuer)
    defaults = DynamicConfig(
        user_template=DEFAULT_TEMPLATE,
        iam_path=default_iam_path(dynamic.app, dynamic.environment, dynamic.path) if traits.has_path else None,
        default_ttl=-config.default_ttl,  # Both have to be written.
        max_ttl=-config.max_ttl,
    )
    renamed = {output: key for output, key in config.keys.items() if DEFAULT_KEYS.get(output) != key}
    return _without_empty(
        {
            "name": dynamic.name,
            "env": dynamic.environment_label,
            "path": dynamic.path if dynamic.path != "/" else None,
            "credential": dynamic.credential,
            "issuer": dynamic.issuer if dynamic.issuer != AWS_IAM_USER else None,
        }
    ) | written(replace(config, keys=renamed), DYNAMIC, defaults)
