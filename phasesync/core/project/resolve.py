"""
From an item of a section to what it wants: names and templates are filled in, defaults taken, references noted.

Every problem is noted with its place; what has one is left out. Reads no file: `Scope.read_text` does.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import PurePath
from typing import Any, Final

from phasesync.core.arns import check_partition
from phasesync.core.canonical_json import canonical_json, parse_json_document
from phasesync.core.credential import CredentialType
from phasesync.core.dynamic import DynamicConfig
from phasesync.core.lease_users import DEFAULT_TEMPLATE, OUR_TAGS, check_user_template
from phasesync.core.names import check_name, is_name, normalise_path, parse_environment_label
from phasesync.core.notification import Rules, check_rules, rules_of_words
from phasesync.core.notification_message import Condition
from phasesync.core.planning.ownership import owner_tags
from phasesync.core.project.desired import (
    DesiredApp,
    DesiredCredential,
    DesiredDynamic,
    DesiredEnvironment,
    DesiredNotification,
    DesiredSync,
    Reference,
    SecretOrigin,
    SecretUse,
)
from phasesync.core.project.fields import PolicySource, fill, fix_of, has_placeholder, key_with_folder
from phasesync.core.project.models import (
    AWS_SECRETS_MANAGER,
    NO_EXTERNAL_ID,
    AppItem,
    CredentialItem,
    DynamicItem,
    EnvironmentItem,
    KeptSecret,
    NotificationItem,
    SyncItem,
)
from phasesync.core.project.nodes import Document, Part, Place, Problems
from phasesync.core.project.settings import DYNAMIC, SYNC, word_of
from phasesync.core.sync import Layout, SyncConfig
from phasesync.core.tags import check_tags
from phasesync.core.times import duration_text
from phasesync.errors import InvalidInputError

ReadText = Callable[[str], str]
"""Path -> content of a file. InvalidInputError."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """A setting as it was written: its value, its name there, and where."""

    value: Any
    word: str
    part: Part

    @property
    def place(self) -> Place:
        """Where its value is."""
        return self.part.place(self.word)


@dataclass(frozen=True, kw_only=True)
class Scope:
    """
    What all items of a project can refer to.

    Attributes:
        apps: name in lower case -> as it is written, of the project's apps; likewise environments (`app/env`).
        app: the app of environments that are named without one, None if that is not clear.
        defaults: setting of a sync -> what all syncs take that do not say otherwise.
        read_text: reads a file that a document names.
        problems: what is wrong is noted here.
    """

    apps: Mapping[str, str]
    environments: Mapping[str, str]
    app: str | None
    defaults: Mapping[str, Said]
    read_text: ReadText
    problems: Problems
    texts: dict[str, str] = field(default_factory=dict)

    def label(self, text: str, place: Place, *, app: str | None = None) -> tuple[str, str] | None:
        """
        Return app and environment of a text, in the spelling of their sections; None if there is a problem.

        Args:
            text: `app/env`, or `env` alone.
            place: of the text.
            app: the app of an environment alone; None for that of the project.
        """
        app = app or self.app
        if "/" not in text and is_name(text):
            if app is None:
                self.problems.add(
                    place,
                    f"{text!r} does not say of which app",
                    f"write app/{text}, or name the app in defaults: {{app: NAME}}",
                )
                return None
            text = f"{app}/{text}"
        try:
            parse_environment_label(text)
        except InvalidInputError as error:
            self.problems.add(place, error.message, fix_of(error))
            return None
        known = self.environments.get(text.lower())
        name, _, environment = (known or text).partition("/")
        return (name if known else self.apps.get(name.lower(), name)), environment

    def policy(self, source: PolicySource, said: Said) -> str | None:
        """Return a policy as canonical JSON, from its file if it is in one; None if there is a problem."""
        if source.file is None:
            return source.document
        place = said.part.place(said.word, "file")
        path = beside(said.part.document, source.file)
        try:
            if path not in self.texts:
                self.texts[path] = canonical_json(parse_json_document(self.read_text(path).encode()))
            return self.texts[path]
        except InvalidInputError as error:
            self.problems.add(
                place,
                f"{source.file}: {error.message.replace('the value', 'the file', 1)}",
                fix_of(error) or "it holds one policy as JSON; a relative path starts from the folder of its document",
            )
            return None


def beside(document: Document, path: str) -> str:
    """Return a path that a document names: a relative one starts from the folder of the document."""
    return str(PurePath(document.folder, path))


def apps_of(item: AppItem, part: Part, _: Scope) -> Iterator[DesiredApp]:
    """Return the app of an item."""
    yield DesiredApp(name=item.name, part=part, description=item.description, windows=tuple(item.windows))


def environments_of(item: EnvironmentItem, part: Part, scope: Scope) -> Iterator[DesiredEnvironment]:
    """Return the environment of an item."""
    app, environment = parse_environment_label(item.name)
    app = scope.apps.get(app.lower(), app)
    place = part.place("name")
    values = item.values
    keys = tuple(key_with_folder(key) for key in item.keys)
    for number, key in enumerate(keys):
        if key in keys[:number]:
            scope.problems.add(part.place("keys", number), f"the key {key[1]} is listed twice", "list it once")
    yield DesiredEnvironment(
        name=f"{app}/{environment}",
        part=part,
        app=app,
        environment=environment,
        references=(Reference(kind=DesiredApp.kind, name=app, place=place),),
        folders=tuple(sorted(folder for folder in item.folders if folder != "/")),
        keys=keys,
        values_file=None if values is None else beside(part.document, values.sops),
        values_place=None if values is None else part.place("values", "sops"),
        approvers=item.approvers,
    )


_ROLE_ONLY: Final = ("role_arn", "external_id", "source")
_KEY_ONLY: Final = ("access_key_id", "secret_access_key")


def credentials_of(item: CredentialItem, part: Part, scope: Scope) -> Iterator[DesiredCredential]:
    """Return the credential of an item."""
    for words, owner in ((_ROLE_ONLY, CredentialType.ASSUME_ROLE), (_KEY_ONLY, CredentialType.ACCESS_KEY)):
        for word in words:
            if getattr(item, word) is not None and item.type is not owner:
                scope.problems.add(
                    part.place(word, of_name=True),
                    f"{word} belongs to the type {owner}, and this credential is of the type {item.type}",
                    f"leave it out, or write type: {owner}",
                )
    if item.type is CredentialType.ACCESS_KEY and item.access_key_id is None:
        scope.problems.add(part.place(), "access_key_id is missing", "a credential of the type access-key needs one")
    if item.role_arn is not None:
        try:
            check_partition(item.role_arn, item.region)
        except InvalidInputError as error:
            scope.problems.add(part.place("role_arn"), error.message, fix_of(error))
    references: tuple[Reference, ...] = ()
    if item.source is not None:
        place = part.place("source")
        references = (Reference(kind=DesiredCredential.kind, name=item.source, place=place),)
        if item.source.lower() == item.name.lower():
            scope.problems.add(place, f"the credential {item.name} is its own source", "name another one")
    secret = item.secret_access_key
    none = item.external_id == NO_EXTERNAL_ID
    yield DesiredCredential(
        name=item.name,
        part=part,
        references=references,
        type=item.type,
        region=item.region,
        role_arn=item.role_arn,
        external_id=None if none else item.external_id,
        no_external_id=none,
        source=item.source,
        account=item.account,
        access_key_id=item.access_key_id,
        secret=None
        if secret is None
        else SecretOrigin(
            env=secret.env,
            file=None if secret.file is None else beside(part.document, secret.file),
            prompt=bool(secret.prompt),
            place=part.place("secret_access_key"),
        ),
    )


def notifications_of(item: NotificationItem, part: Part, scope: Scope) -> Iterator[DesiredNotification]:
    """Return the notification of an item."""
    on: tuple[Condition, ...] = ()
    recovered = False
    try:
        on, recovered = rules_of_words(str(word) for word in item.conditions)
    except InvalidInputError as error:
        scope.problems.add(part.place("conditions"), error.message, fix_of(error))
    rules = Rules(on=on, recovered=recovered, after=item.after, quiet=item.quiet, remind_after=item.remind_after)
    try:
        check_rules(rules)
    except InvalidInputError as error:
        scope.problems.add(part.place("remind_after"), error.message, fix_of(error))
    app = None if item.app is None else scope.apps.get(item.app.lower(), item.app)
    yield DesiredNotification(
        name=item.name,
        part=part,
        references=() if app is None else (Reference(kind=DesiredApp.kind, name=app, place=part.place("app")),),
        rules=rules,
        to=item.to if isinstance(item.to, str) else None,
        channel=_kept_secret(item.to, part, "to", SecretUse.CHANNEL),
        signing_secret=_kept_secret(item.signing_secret, part, "signing_secret", SecretUse.SIGNING),
        app=app,
    )


def _kept_secret(source: KeptSecret | str | None, part: Part, word: str, use: SecretUse) -> SecretOrigin | None:
    if source is None or isinstance(source, str):
        return None
    file = None if source.file is None else beside(part.document, source.file)
    return SecretOrigin(use=use, env=source.env, file=file, place=part.place(word))


_NAMES: Final = ("secret_name", "name_template")


class _Sayings:
    """What holds for one sync: what it says itself, and the defaults for the rest."""

    def __init__(self, item: SyncItem, part: Part, defaults: Mapping[str, Said]) -> None:
        self._item, self._part, self._defaults = item, part, dict(defaults)
        if item.model_fields_set & set(_NAMES):
            # A sync that names its secrets itself does not take half of a name from the defaults.
            for word in (*_NAMES, "layout"):
                self._defaults.pop(word, None)

    def find(self, word: str) -> Said | None:
        """Return what was said of a setting, None for the default of a new object."""
        name = "for_" if word == "for" else word
        if name in self._item.model_fields_set:
            value = getattr(self._item, name)
            return None if value is None else Said(value=value, word=word, part=self._part)
        return self._defaults.get(word)

    def value(self, word: str, default: Any = None) -> Any:
        """Return the value of a setting."""
        said = self.find(word)
        return default if said is None else said.value


def syncs_of(item: SyncItem, part: Part, scope: Scope) -> Iterator[DesiredSync]:
    """Return the syncs of an item: one, or one for each environment."""
    says = _Sayings(item, part, scope.defaults)
    targets = _targets(item, part, scope)
    missing = [word for word in ("name", "credential") if says.find(word) is None]
    for word in missing:
        scope.problems.add(part.place(), f"{word} is missing", f"write {word}: here or in defaults: syncs:")
    config = _sync_config(says, part, scope)
    if missing or config is None or not targets:
        return
    name, credential = says.find("name"), says.find("credential")
    assert name is not None and credential is not None  # noqa: S101 - see `missing`
    if len(targets) > 1 and not has_placeholder(name.value):
        scope.problems.add(
            name.place,
            f"the name {name.value!r} would be that of {len(targets)} syncs",
            f"fill in the environment, such as {name.value}-{{env}}",
        )
        return
    for app, environment, place in targets:
        words = _Words(app=app, environment=environment, scope=scope)
        filled = {
            word: words.fill(said, check)
            for word, said, check in (
                ("name", name, lambda text: check_name(text, "sync")),
                ("credential", credential, lambda text: check_name(text, "credential")),
                ("path", says.find("path"), normalise_path),
            )
            if said is not None
        }
        if None in filled.values():
            return
        remote_name = None if config.remote_name is None else fill(config.remote_name, app=app, environment=environment)
        yield DesiredSync(
            name=str(filled["name"]),
            part=part,
            references=(
                Reference(kind=DesiredEnvironment.kind, name=f"{app}/{environment}", place=place),
                Reference(kind=DesiredCredential.kind, name=str(filled["credential"]), place=credential.place),
            ),
            app=app,
            environment=environment,
            path=filled.get("path") or "/",
            credential=str(filled["credential"]),
            destination=says.value("destination", AWS_SECRETS_MANAGER),
            region=says.value("region"),
            config=config if remote_name == config.remote_name else replace(config, remote_name=remote_name),
            adopt=says.value("adopt"),
        )


@dataclass(frozen=True, kw_only=True)
class _Words:
    """An environment, whose names are filled in."""

    app: str
    environment: str
    scope: Scope

    def fill(self, said: Said, check: Callable[[str], str]) -> str | None:
        """Return a template with the names filled in, None if the check refuses it."""
        try:
            return check(fill(said.value, app=self.app, environment=self.environment))
        except InvalidInputError as error:
            self.scope.problems.add(said.place, error.message, fix_of(error))
            return None


def _targets(item: SyncItem, part: Part, scope: Scope) -> list[tuple[str, str, Place]]:
    """Return app, environment and place of the environments of a sync; none if there is a problem."""
    if (item.env is None) == (item.for_ is None):
        scope.problems.add(
            part.place(),
            "a sync has either env or for, and this one has both"
            if item.env is not None
            else "the sync does not say which environment it reads",
            "write env: app/env for one environment, for: [app/env, app/env] for several",
        )
        return []
    named = [(item.env, part.place("env"))] if item.for_ is None else []
    named += [(text, part.place("for", number)) for number, text in enumerate(item.for_ or ())]
    if not named:
        scope.problems.add(part.place("for"), "for is empty", "name an environment, or leave the sync out")
    targets: dict[tuple[str, str], Place] = {}
    for text, place in named:
        label = scope.label(str(text), place, app=item.app)
        if label is None:
            return []
        if (folded := (label[0].lower(), label[1].lower())) in {(a.lower(), e.lower()) for a, e in targets}:
            scope.problems.add(place, f"the environment {'/'.join(label)} is listed twice", "list it once")
            return []
        del folded
        targets[label] = place
    return [(app, environment, place) for (app, environment), place in targets.items()]


def _sync_config(says: _Sayings, part: Part, scope: Scope) -> SyncConfig | None:
    """Return the configuration of a sync with its names not filled in; None if there is a problem."""
    layout = _layout(says, part, scope)
    if layout is None:
        return None
    values: dict[str, Any] = {}
    for each in fields(SyncConfig):
        said = says.find(word_of(each.name, SYNC))
        if said is None:
            continue
        value = said.value
        if isinstance(value, PolicySource):
            value = scope.policy(value, said)
            if value is None:
                return None
        values[each.name] = value
    if (tags := says.find("tags")) is not None and not _tags_pass(tags, scope, ours=len(owner_tags("", ""))):
        return None
    return SyncConfig(**(values | {"layout": layout}))


def _tags_pass(said: Said, scope: Scope, *, ours: int, tells_case: bool = True) -> bool:
    try:
        check_tags(said.value, ours=ours, tells_case=tells_case)
    except InvalidInputError as error:
        scope.problems.add(said.place, error.message, fix_of(error))
        return False
    return True


def _layout(says: _Sayings, part: Part, scope: Scope) -> Layout | None:
    """Return the layout, which follows from the name or the template; None if there is a problem."""
    name, template, layout = says.find("secret_name"), says.find("name_template"), says.find("layout")
    if name is not None and template is not None:
        scope.problems.add(
            template.place,
            "secret_name and name_template exclude each other",
            "secret_name for one secret with all keys, name_template for one secret a key",
        )
        return None
    if name is None and template is None:
        scope.problems.add(
            part.place(),
            "the sync does not say which AWS secret it writes",
            "write secret_name: NAME for one secret with all keys, name_template: '{app}/{env}/{key}' for one a key",
        )
        return None
    follows = Layout.JSON if template is None else Layout.PER_KEY
    if layout is not None and layout.value is not follows:
        needs = "name_template" if follows is Layout.JSON else "secret_name"
        scope.problems.add(layout.place, f"layout {layout.value} takes {needs}", f"write {needs}, or leave layout out")
        return None
    return follows


def dynamics_of(item: DynamicItem, part: Part, scope: Scope) -> Iterator[DesiredDynamic]:
    """Return the dynamic secret of an item."""
    label = scope.label(item.env, part.place("env"))
    values: dict[str, Any] = {"user_template": DEFAULT_TEMPLATE}
    for each in fields(DynamicConfig):
        word = word_of(each.name, DYNAMIC)
        value = getattr(item, word)
        if isinstance(value, PolicySource):
            value = scope.policy(value, Said(value=value, word=word, part=part))
            if value is None:
                return
        if value is not None:
            values[each.name] = value
    config = DynamicConfig(**values)
    if label is None or not _dynamic_passes(item, config, label, part, scope):
        return
    app, environment = label
    yield DesiredDynamic(
        name=item.name,
        part=part,
        references=(
            Reference(kind=DesiredEnvironment.kind, name=f"{app}/{environment}", place=part.place("env")),
            Reference(kind=DesiredCredential.kind, name=item.credential, place=part.place("credential")),
        ),
        app=app,
        environment=environment,
        path=item.path,
        credential=item.credential,
        issuer=item.issuer,
        config=config,
    )


def _dynamic_passes(item: DynamicItem, config: DynamicConfig, label: tuple[str, str], part: Part, scope: Scope) -> bool:
    passes = True
    if config.default_ttl > config.max_ttl:
        scope.problems.add(
            part.place("default_ttl"),
            f"default_ttl {duration_text(config.default_ttl)} is longer than max_ttl {duration_text(config.max_ttl)}",
            f"write default_ttl: {duration_text(config.max_ttl)}, or less",
        )
        passes = False
    try:
        check_user_template(config.user_template, {"app": label[0], "env": label[1], "name": item.name})
    except InvalidInputError as error:
        scope.problems.add(part.place("user_template"), error.message, fix_of(error))
        passes = False
    tags = Said(value=config.tags, word="tags", part=part)
    return _tags_pass(tags, scope, ours=OUR_TAGS, tells_case=False) and passes
