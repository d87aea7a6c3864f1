"""
The kinds of objects as code, against the store: how each is listed, described, added, changed and removed.

ONE table, `STORE_KINDS`, has a line for each kind of `core.project.kinds`. Both sides of a comparison are described
here, so that they say the same in the same words.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from phasesync.core.arns import check_role_arn
from phasesync.core.channels import Webhook, parse_channel
from phasesync.core.credential import Credential, CredentialDraft, CredentialType
from phasesync.core.dynamic import DynamicConfig, DynamicDraft, DynamicSecret
from phasesync.core.model import App, Environment, SecretValue
from phasesync.core.notification import Notification, Rules
from phasesync.core.project.compare import Applied, ObjectChange, Present, Spec, Wanted
from phasesync.core.project.desired import (
    Desired,
    DesiredApp,
    DesiredCredential,
    DesiredDynamic,
    DesiredEnvironment,
    DesiredNotification,
    DesiredSync,
    SecretOrigin,
)
from phasesync.core.project.fields import key_text
from phasesync.core.project.models import NO_EXTERNAL_ID
from phasesync.core.project.settings import DYNAMIC, SYNC, described
from phasesync.core.sync import Adopt, Sync, SyncDraft
from phasesync.core.times import duration_text
from phasesync.engine.context import Context
from phasesync.engine.credential_admin import CredentialAdmin
from phasesync.engine.dynamic_admin import DEFAULT_KEYS, DynamicAdmin
from phasesync.engine.notification_admin import NotificationAdmin, NotificationChanges
from phasesync.engine.sync_admin import SyncAdmin
from phasesync.engine.windows import checked_windows
from phasesync.errors import DocumentError

AppliedObjects = Mapping[tuple[str, str], Applied]
"""(kind, id) -> how the object was applied."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """
    What a document is compared and applied with.

    Attributes:
        resolve_secret: returns a secret from where a document says it is; None if it is not there now.
        regions: credential in lower case -> its Region, of the documents and the store.
        actor: who asks.
        warnings: takes lines for the operator.
    """

    context: Context
    resolve_secret: Callable[[SecretOrigin], SecretValue | None]
    regions: dict[str, str] = field(default_factory=dict)
    actor: str
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class StoreKind:
    """
    A kind of objects in the store.

    Attributes:
        listed: returns all objects.
        described: an object of the store, and how it was applied -> how it is.
        wanted: an object of a document -> how it should be, and digests of what is hidden.
        add: adds an object of a document.
        update: changes an object so that it is as a document wants it.
        remove: removes an object, by the name that it has in the store.
    """

    listed: Callable[[Context], Iterable[Any]]
    described: Callable[[Work, Any, Applied | None], Present]
    wanted: Callable[[Work, Any], tuple[Spec, Mapping[str, str]]]
    add: Callable[[Work, Any], None]
    update: Callable[[Work, Any, ObjectChange], None]
    remove: Callable[[Work, str], None]


def describe_all(work: Work, applied: AppliedObjects) -> list[Present]:
    """Return all objects of the store as they are."""
    return [
        kind.described(work, each, applied.get((name, each.id)))
        for name, kind in STORE_KINDS.items()
        for each in kind.listed(work.context)
    ]


def want(work: Work, desired: Desired) -> Wanted:
    """Return an object of a document as it should be. DocumentError for what cannot be compared."""
    spec, hidden = STORE_KINDS[desired.kind].wanted(work, desired)
    return Wanted(
        kind=desired.kind,
        name=desired.name,
        spec=spec,
        place=str(desired.place),
        hidden=hidden,
        on_add={"adopt": str(desired.adopt)} if isinstance(desired, DesiredSync) and desired.adopt else {},
    )


def former_name(desired: Desired, change: ObjectChange) -> str:
    """Return the name that an object has in the store before a change."""
    return str((change.before or {}).get("name", desired.name))


# --- apps


def _app_spec(description: str, windows: Sequence[str]) -> Spec:
    return {"description": description, "windows": list(windows)}


def _describe_app(_: Work, app: App, applied: Applied | None) -> Present:
    return Present(
        kind=DesiredApp.kind, id=app.id, name=app.name, spec=_app_spec(app.description, app.windows), applied=applied
    )


def _want_app(_: Work, app: DesiredApp) -> tuple[Spec, Mapping[str, str]]:
    return _app_spec(app.description, app.windows), {}


def _add_app(work: Work, app: DesiredApp) -> None:
    work.context.store.apps.add_app(app.name, description=app.description, windows=_windows(work, app))


def _update_app(work: Work, app: DesiredApp, change: ObjectChange) -> None:
    work.context.store.apps.update_app(
        former_name(app, change),
        new_name=app.name,
        description=app.description,
        windows=_windows(work, app) if "windows" in (change.after or {}) else None,
    )


def _windows(work: Work, app: DesiredApp) -> tuple[str, ...]:
    return checked_windows(work.context, app.windows, owner=f"the app {app.name}")


def _remove_app(work: Work, name: str) -> None:
    work.context.store.apps.remove_app(name)


# --- environments


def _environment_spec(folders: Iterable[str], keys: Iterable[str], *, of_file: bool) -> dict[str, Any]:
    # Which file has the values may differ from one working directory to the next: what is in it is compared.
    return {"folders": list(folders), "keys": list(keys), "values": "from a file" if of_file else None}


def _describe_environment(_: Work, environment: Environment, applied: Applied | None) -> Present:
    # The store does not know which folders and keys there should be: only a document says so.
    said = {} if applied is None else applied.spec
    return Present(
        kind=DesiredEnvironment.kind,
        id=environment.id,
        name=environment.label,
        spec={
            **_environment_spec(said.get("folders", ()), said.get("keys", ()), of_file=bool(said.get("values"))),
            "approvers": environment.approvers,
            "secrets": environment.keys,
        },
        applied=applied,
    )


def _want_environment(_: Work, environment: DesiredEnvironment) -> tuple[Spec, Mapping[str, str]]:
    keys = sorted(key_text(folder, key) for folder, key in environment.keys)
    spec = _environment_spec(environment.folders, keys, of_file=environment.values_file is not None)
    if environment.approvers is not None:  # A protection that was set by hand is not ended for lack of a word.
        spec["approvers"] = environment.approvers or None
    return spec, {}


def _add_environment(work: Work, environment: DesiredEnvironment) -> None:
    work.context.store.apps.add_environment(environment.app, environment.environment)


def _update_environment(work: Work, environment: DesiredEnvironment, change: ObjectChange) -> None:
    # Its app has its name already: apps are changed before environments.
    former = former_name(environment, change).partition("/")[2]
    if former != environment.environment:
        work.context.store.apps.update_environment(environment.app, former, new_name=environment.environment)


def protect_environment(work: Work, environment: DesiredEnvironment) -> None:
    """Have changes of an environment approved by others, or no longer."""
    work.context.store.apps.protect_environment(
        environment.app, environment.environment, approvers=environment.approvers or None
    )


def _remove_environment(work: Work, name: str) -> None:
    app, _, environment = name.partition("/")
    work.context.store.apps.remove_environment(app, environment)


# --- credentials


def _describe_credential(work: Work, credential: Credential, applied: Applied | None) -> Present:
    secret = credential.secret_access_key
    without = NO_EXTERNAL_ID if credential.type is CredentialType.ASSUME_ROLE else None
    return Present(
        kind=DesiredCredential.kind,
        id=credential.id,
        name=credential.name,
        spec={
            "type": str(credential.type),
            "region": credential.region,
            "role_arn": credential.role_arn,
            "external_id": credential.external_id or without,
            "source": credential.source_name,
            "account": credential.account,
            "access_key_id": credential.access_key_id,
        },
        hidden={} if secret is None else {_SECRET: digest_of_value(work, secret)},
        applied=applied,
    )


_SECRET: Final = "secret_access_key"


def digest_of_value(work: Work, value: SecretValue) -> str:
    """Return a keyed digest of a secret, with which it can be compared but not guessed."""
    return work.context.digests.digest("as-code", value.type.encode(), value.reveal()).hex()


def _want_credential(work: Work, credential: DesiredCredential) -> tuple[Spec, Mapping[str, str]]:
    spec: dict[str, Any] = {
        "type": str(credential.type),
        "region": credential.region,
        "role_arn": credential.role_arn,
        "source": credential.source,
        "access_key_id": credential.access_key_id,
    }
    if credential.external_id is not None or credential.no_external_id:
        spec["external_id"] = credential.external_id or NO_EXTERNAL_ID
    if (account := _account_of(credential)) is not None:
        spec["account"] = account
    secret = _secret_of(work, credential)
    return spec, {} if secret is None else {_SECRET: digest_of_value(work, secret)}


def _account_of(credential: DesiredCredential) -> str | None:
    """Return the account that a document pins: the one it names, or the one of the role."""
    if credential.account is not None or credential.role_arn is None:
        return credential.account
    return check_role_arn(credential.role_arn)


def _secret_of(work: Work, credential: DesiredCredential) -> SecretValue | None:
    return None if credential.secret is None else work.resolve_secret(credential.secret)


def _credential_draft(credential: DesiredCredential, secret: SecretValue | None) -> CredentialDraft:
    return CredentialDraft(
        type=credential.type,
        region=credential.region,
        role_arn=credential.role_arn,
        external_id=credential.external_id,
        source_name=credential.source,
        access_key_id=credential.access_key_id,
        secret_access_key=secret,
    )


def _add_credential(work: Work, credential: DesiredCredential) -> None:
    secret = _secret_of(work, credential)
    if credential.type is CredentialType.ACCESS_KEY and secret is None:
        raise DocumentError(
            [
                f"{credential.place}: the credential {credential.name} is new, and its secret access key is not there; "
                f"{_where(credential.secret)}"
            ]
        )
    admin = CredentialAdmin(work.context)
    draft = _credential_draft(credential, secret)
    added = admin.add(credential.name, draft, generate_external_id=not credential.no_external_id)
    account = _account_of(credential)
    if account is not None:
        admin.update(added.name, replace(draft, external_id=added.external_id), account=account)


def _where(origin: SecretOrigin | None) -> str:
    if origin is None:
        return "say where it comes from: secret_access_key: {env: NAME}, {file: PATH} or {prompt: true}"
    return f"set the environment variable {origin.env}" if origin.env else f"put it into {origin.file}"


def _update_credential(work: Work, credential: DesiredCredential, change: ObjectChange) -> None:
    present = work.context.store.credentials.get(former_name(credential, change))
    if present.type is not credential.type:
        raise DocumentError(
            [
                f"{credential.part.place('type')}: the type of a credential cannot change from {present.type} to "
                f"{credential.type}; give the new credential another name"
            ]
        )
    if present.name != credential.name:
        work.context.store.credentials.rename(present.name, credential.name)
    secret = _secret_of(work, credential) or present.secret_access_key
    draft = _credential_draft(credential, secret)
    if credential.external_id is None and not credential.no_external_id:
        draft = replace(draft, external_id=present.external_id)
    CredentialAdmin(work.context).update(credential.name, draft, account=_account_of(credential))


def _remove_credential(work: Work, name: str) -> None:
    work.context.store.credentials.remove(name)


# --- syncs


def _describe_sync(_: Work, sync: Sync, applied: Applied | None) -> Present:
    return Present(
        kind=DesiredSync.kind,
        id=sync.id,
        name=sync.name,
        spec={
            "env": sync.environment_label,
            "path": sync.path,
            "credential": sync.credential,
            "destination": sync.destination_kind,
            "region": sync.region,
            **described(sync.config, SYNC),
        },
        applied=applied,
    )


def _want_sync(work: Work, sync: DesiredSync) -> tuple[Spec, Mapping[str, str]]:
    return {
        "env": sync.environment_label,
        "path": sync.path,
        "credential": sync.credential,
        "destination": sync.destination,
        "region": _region_of(work, sync),
        **described(sync.config, SYNC),
    }, {}


def _region_of(work: Work, sync: DesiredSync) -> str | None:
    return sync.region or work.regions.get(sync.credential.lower())


def _add_sync(work: Work, sync: DesiredSync) -> None:
    # An import asks AWS, and waits until everything is applied: see `adopt_after`.
    consent = sync.adopt if sync.adopt is Adopt.OVERWRITE else None
    draft = SyncDraft(
        name=sync.name,
        app=sync.app,
        environment=sync.environment,
        path=sync.path,
        credential=sync.credential,
        destination_kind=sync.destination,
        region=_region_of(work, sync) or "",
        config=sync.config,
        account=None,
        adopt=consent,
    )
    # Values are set later: the keys that must exist say whether any are missing.
    added = SyncAdmin(work.context).add(draft, verify=False, actor=work.actor, may_be_empty=True)
    work.warnings.extend([f"the sync {sync.name}: {warning}" for warning in added.warnings])


def _update_sync(work: Work, sync: DesiredSync, change: ObjectChange) -> None:
    _refuse_move(sync, change, "env", "destination")
    former = former_name(sync, change)
    if former != sync.name:
        work.context.store.syncs.rename(former, sync.name)
    if set(change.after or ()) - {"name"}:
        updated = SyncAdmin(work.context).update(
            sync.name,
            change=lambda _: sync.config,
            path=sync.path,
            credential=sync.credential,
            region=_region_of(work, sync),
            ask=False,
            # Of a thousand syncs, those that stay where they are are not compared with all.
            compare=False,
        )
        work.warnings.extend([f"the sync {sync.name}: {warning}" for warning in updated.warnings])


def _refuse_move(desired: Desired, change: ObjectChange, *members: str) -> None:
    for member in members:
        if member in (change.after or {}):
            raise DocumentError(
                [
                    f"{desired.part.place(member)}: the {member} of {desired.name} cannot change from "
                    f"{(change.before or {}).get(member)} to {(change.after or {})[member]}; give it another name, and "
                    "remove the former one"
                ]
            )


def _remove_sync(work: Work, name: str) -> None:
    work.context.store.syncs.remove_sync(name)


# --- dynamic secrets


def _describe_dynamic(_: Work, dynamic: DynamicSecret, applied: Applied | None) -> Present:
    return Present(
        kind=DesiredDynamic.kind,
        id=dynamic.id,
        name=dynamic.name,
        spec={
            "env": dynamic.environment_label,
            "path": dynamic.path,
            "credential": dynamic.credential,
            "issuer": dynamic.issuer,
            **described(dynamic.config, DYNAMIC),
        },
        applied=applied,
    )


def _want_dynamic(work: Work, dynamic: DesiredDynamic) -> tuple[Spec, Mapping[str, str]]:
    config = _full_config(work, dynamic)
    spec = {
        "env": dynamic.environment_label,
        "path": dynamic.path,
        "credential": dynamic.credential,
        "issuer": dynamic.issuer,
        **described(config, DYNAMIC),
    }
    if config.iam_path is None:
        del spec["iam_path"]  # It was chosen when the dynamic secret was added, and stays.
    return spec, {}


def _full_config(work: Work, dynamic: DesiredDynamic) -> DynamicConfig:
    """Return the configuration with a key for every output."""
    if dynamic.issuer not in work.context.issuers.kinds():
        raise DocumentError(
            [
                f"{dynamic.part.place('issuer')}: {dynamic.issuer} is not an issuer; issuers: "
                f"{', '.join(work.context.issuers.kinds())}"
            ]
        )
    outputs = work.context.issuers.traits(dynamic.issuer).outputs
    keys = {output: DEFAULT_KEYS[output] for output in outputs} | dict(dynamic.config.keys)
    return replace(dynamic.config, keys=keys)


def _add_dynamic(work: Work, dynamic: DesiredDynamic) -> None:
    added = DynamicAdmin(work.context).add(
        DynamicDraft(
            name=dynamic.name,
            app=dynamic.app,
            environment=dynamic.environment,
            path=dynamic.path,
            credential=dynamic.credential,
            issuer=dynamic.issuer,
            config=dynamic.config,
        )
    )
    work.warnings.extend([f"the dynamic secret {dynamic.name}: {warning}" for warning in added.warnings])


def _update_dynamic(work: Work, dynamic: DesiredDynamic, change: ObjectChange) -> None:
    _refuse_move(dynamic, change, "env", "path", "issuer")
    former = former_name(dynamic, change)
    if former != dynamic.name:
        work.context.store.dynamics.rename(former, dynamic.name)

    def changed(present: DynamicConfig) -> DynamicConfig:
        return replace(dynamic.config, iam_path=dynamic.config.iam_path or present.iam_path)

    if set(change.after or ()) - {"name"}:
        updated = DynamicAdmin(work.context).update(dynamic.name, changed, credential=dynamic.credential)
        work.warnings.extend([f"the dynamic secret {dynamic.name}: {warning}" for warning in updated.warnings])


def _remove_dynamic(work: Work, name: str) -> None:
    work.context.store.dynamics.remove(name)


# --- notifications

_CHANNEL: Final = "to"
_SIGNING: Final = "signing_secret"


def _describe_notification(work: Work, notification: Notification, applied: Applied | None) -> Present:
    channel, rules = notification.channel, notification.rules
    secret = channel.signing_secret if isinstance(channel, Webhook) else None
    hidden = {} if channel is None else {_CHANNEL: digest_of_value(work, channel.url)}
    return Present(
        kind=DesiredNotification.kind,
        id=notification.id,
        name=notification.name,
        spec={
            "channel": None if channel is None else channel.shown,
            "app": notification.app,
            **({} if rules is None else _rules_spec(rules)),
        },
        hidden=hidden | ({} if secret is None else {_SIGNING: digest_of_value(work, secret)}),
        applied=applied,
    )


def _rules_spec(rules: Rules) -> dict[str, Any]:
    return {
        "conditions": list(rules.words),
        "after": None if rules.after is None else duration_text(rules.after),
        "remind_after": duration_text(rules.remind_after),
        "quiet": list(rules.quiet),
    }


def _want_notification(work: Work, notification: DesiredNotification) -> tuple[Spec, Mapping[str, str]]:
    spec = {"app": notification.app, **_rules_spec(notification.rules)}
    hidden = {}
    if (to := _channel_of(work, notification)) is not None:
        channel = parse_channel(to.reveal_text())
        spec["channel"] = channel.shown
        hidden[_CHANNEL] = digest_of_value(work, channel.url)
    if (secret := _signing_secret_of(work, notification)) is not None:
        hidden[_SIGNING] = digest_of_value(work, secret)
    return spec, hidden


def _channel_of(work: Work, notification: DesiredNotification) -> SecretValue | None:
    if notification.to is not None:
        return SecretValue(notification.to)
    return None if notification.channel is None else work.resolve_secret(notification.channel)


def _signing_secret_of(work: Work, notification: DesiredNotification) -> SecretValue | None:
    origin = notification.signing_secret
    return None if origin is None else work.resolve_secret(origin)


def _notification_changes(work: Work, notification: DesiredNotification) -> NotificationChanges:
    rules = notification.rules
    return NotificationChanges(
        to=_channel_of(work, notification),
        signing_secret=_signing_secret_of(work, notification),
        on=rules.words,
        app=notification.app or "",
        after=rules.after,
        at_once=rules.after is None,
        quiet=rules.quiet,
        remind_after=rules.remind_after,
    )


def _notification_admin(work: Work) -> NotificationAdmin:
    return NotificationAdmin(work.context, random_bytes=os.urandom)


def _add_notification(work: Work, notification: DesiredNotification) -> None:
    changes = _notification_changes(work, notification)
    if changes.to is None:
        origin = notification.channel
        where = "say where it goes: to: mailto:NAME@HOST, to: {env: NAME} or to: {file: PATH}"
        if origin is not None:
            where = f"set the environment variable {origin.env}" if origin.env else f"put it into {origin.file}"
        raise DocumentError(
            [f"{notification.place}: the notification {notification.name} is new, and has no channel; {where}"]
        )
    added = _notification_admin(work).add(notification.name, changes)
    if added.new_secret is not None:
        work.warnings.append(
            f"the notification {notification.name} signs its messages with a secret that nobody has seen; to replace "
            f"and print it: phasesync notifications update {notification.name} --signing-secret new"
        )


def _update_notification(work: Work, notification: DesiredNotification, change: ObjectChange) -> None:
    former = former_name(notification, change)
    changes = _notification_changes(work, notification)
    _notification_admin(work).update(former, changes, new_name=notification.name)


def _remove_notification(work: Work, name: str) -> None:
    work.context.store.notifications.remove(name)


STORE_KINDS: Final[Mapping[str, StoreKind]] = {
    DesiredApp.kind: StoreKind(
        listed=lambda context: context.store.apps.list_apps(),
        described=_describe_app,
        wanted=_want_app,
        add=_add_app,
        update=_update_app,
        remove=_remove_app,
    ),
    DesiredEnvironment.kind: StoreKind(
        listed=lambda context: context.store.apps.list_environments(),
        described=_describe_environment,
        wanted=_want_environment,
        add=_add_environment,
        update=_update_environment,
        remove=_remove_environment,
    ),
    DesiredCredential.kind: StoreKind(
        listed=lambda context: context.store.credentials.list_all(),
        described=_describe_credential,
        wanted=_want_credential,
        add=_add_credential,
        update=_update_credential,
        remove=_remove_credential,
    ),
    DesiredSync.kind: StoreKind(
        listed=lambda context: context.store.syncs.list_syncs(),
        described=_describe_sync,
        wanted=_want_sync,
        add=_add_sync,
        update=_update_sync,
        remove=_remove_sync,
    ),
    DesiredDynamic.kind: StoreKind(
        listed=lambda context: context.store.dynamics.list_all(),
        described=_describe_dynamic,
        wanted=_want_dynamic,
        add=_add_dynamic,
        update=_update_dynamic,
        remove=_remove_dynamic,
    ),
    DesiredNotification.kind: StoreKind(
        listed=lambda context: context.store.notifications.list_all(),
        described=_describe_notification,
        wanted=_want_notification,
        add=_add_notification,
        update=_update_notification,
        remove=_remove_notification,
    ),
}
