"""
The sections of a project as models of pydantic: what each field takes, and its description.

They check form only. Names that have to exist and templates are the matter of `resolve.py`. `kinds.py` makes the whole
project of them.
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    create_model,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from phasesync.core.arns import check_role_arn
from phasesync.core.credential import CredentialType, check_access_key_id, check_external_id
from phasesync.core.dynamic import DynamicConfig
from phasesync.core.notification import FIRST_REMINDER, USUAL, WORDS
from phasesync.core.project import settings
from phasesync.core.project.fields import (
    AnyText,
    Folder,
    Key,
    Label,
    Region,
    Template,
    Text,
    Window,
    checked,
    distinct,
    duration,
    list_of,
    name_of,
    not_text,
    number,
    one_of,
    words_of,
    wrong,
)
from phasesync.core.sync import Adopt, SyncConfig
from phasesync.errors import InvalidInputError

NO_EXTERNAL_ID: Final = "none"
"""Word for a role without an External ID."""
AWS_SECRETS_MANAGER: Final = "aws-secrets-manager"
AWS_IAM_USER: Final = "aws-iam-user"


class Strict(BaseModel):
    """What all parts of a document have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class Short(Strict):
    """A part that may also be written as its name alone."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, data: Any) -> Any:
        return {"name": data} if isinstance(data, str) else data

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler.resolve_ref_schema(handler(core_schema))
        whole = dict(schema)
        short = {"type": "string", "description": "The name alone."}
        schema.clear()
        schema |= {"title": whole.pop("title"), "description": whole.pop("description"), "anyOf": [short, whole]}
        return schema


class AppItem(Short):
    """An app; the name alone will do."""

    name: Annotated[str, name_of("app")] = Field(description="Name of the app.", examples=["shop"])
    description: AnyText = Field(default="", description="What it is. Default: none.", examples=["The web shop"])
    windows: distinct(Window) = Field(  # type: ignore[valid-type]
        default=(),
        description="Maintenance windows of its syncs: when they may, or may not, write. Default: none.",
        examples=[["deny: 08:00-18:00 Mon-Fri Europe/Berlin"]],
    )


class SopsSource(Strict):
    """Where the values of an environment come from."""

    sops: Text = Field(
        description="File that sops has encrypted, relative to this document. Its values become those of the "
        "environment.",
        examples=["secrets/production.enc.yaml"],
    )


def _values(value: Any) -> Any:
    # The names of other members are not repeated, nor is anything else: values may be written here by mistake.
    if value is None:
        raise wrong("is empty", "write {sops: PATH}, or leave it out")
    if isinstance(value, dict) and value.keys() == {"sops"}:
        return value
    raise wrong(
        "values are never written in a document",
        "write {sops: PATH} with a file that sops has encrypted, or set them with phasesync secrets set",
        whole=True,
    )


class EnvironmentItem(Short):
    """An environment; its name alone, `app/env`, will do."""

    name: Label = Field(description="The app and the environment.", examples=["shop/production"])
    folders: distinct(Folder) = Field(  # type: ignore[valid-type]
        default=(), description="Folders that it has besides /. Default: none.", examples=[["/db", "/mail"]]
    )
    keys: distinct(Key) = Field(  # type: ignore[valid-type]
        default=(),
        description="Keys that must exist: diff and apply name those that do not. Never values. A key in a "
        "folder begins with the folder. Default: none.",
        examples=[["API_TOKEN", "/db/PASSWORD"]],
    )
    values: Annotated[SopsSource | None, BeforeValidator(_values)] = Field(
        default=None, description="A file that holds its values. Default: they are set by hand."
    )
    approvers: number(0, 10) | None = Field(  # type: ignore[valid-type]
        default=None,
        description="Protects it: how many others have to approve a change; 0: nobody. Default: left alone.",
        examples=[1],
    )


class SecretSource(Strict):
    """Where a secret access key comes from: an environment variable, a file, or a prompt."""

    env: Text | None = Field(default=None, description="Name of an environment variable.", examples=["AWS_SECRET"])
    file: Text | None = Field(
        default=None, description="File that holds it alone, relative to this document.", examples=["aws.key"]
    )
    prompt: bool | None = Field(default=None, description="true: it is asked for.", examples=[True])


_SOURCE: Final = "write {env: NAME}, {file: PATH} or {prompt: true}"


def _source(value: Any) -> Any:
    # Nothing of it is repeated: it may be the key.
    if value is None:
        raise wrong("is empty", f"{_SOURCE}, or leave it out")
    if not isinstance(value, dict):
        raise wrong(
            "a secret access key is never written in a document", f"{_SOURCE}; and replace the key at AWS", whole=True
        )
    if len(value) != 1 or not value.keys() <= SecretSource.model_fields.keys():
        raise wrong("does not say where the secret access key comes from", _SOURCE)
    ((word, content),) = value.items()
    if word == "prompt" and content is not True:
        raise wrong("is not true", _SOURCE, at=(word,))
    if word != "prompt" and (refused := not_text(content)) is not None:
        raise wrong(*refused, at=(word,))
    return value


def _role(arn: str) -> str:
    check_role_arn(arn)
    return arn


def _external_id(text: str) -> str:
    try:
        return text if text == NO_EXTERNAL_ID else check_external_id(text)
    except InvalidInputError as error:
        fix = "give the one of the role's trust policy; leave it out for a new one, or write none"
        raise wrong(error.message, fix, whole=True) from None


def _account(text: str) -> str:
    # The text is not repeated: it may be another part of a credential.
    if not (len(text) == 12 and text.isascii() and text.isdigit()):
        raise wrong("is not the id of an AWS account", "it has 12 digits, in quotes")
    return text


class CredentialItem(Strict):
    """A credential: how phasesync authenticates to AWS."""

    name: Annotated[str, name_of("credential")] = Field(description="Name of the credential.", examples=["aws"])
    type: words_of(CredentialType) = Field(  # type: ignore[valid-type]
        description="How it authenticates: by assuming a role, with an access key, or with the SDK's own settings.",
        examples=["assume-role"],
    )
    region: Region = Field(description="AWS Region of STS, and of syncs that name none.", examples=["eu-central-1"])
    role_arn: Annotated[str, checked(_role)] | None = Field(
        default=None,
        description="Role to assume, for assume-role. Default: none yet.",
        examples=["arn:aws:iam::111122223333:role/phasesync"],
    )
    external_id: Annotated[str, AfterValidator(_external_id)] | None = Field(
        default=None,
        description="External ID of assume-role; the word none: without one. Default: a new random one, which is kept.",
    )
    source: Annotated[str, name_of("credential")] | None = Field(
        default=None,
        description="Credential that assumes the role. Default: AWS's default chain.",
        examples=["base"],
    )
    account: Annotated[str, AfterValidator(_account)] | None = Field(
        default=None,
        description="AWS account that it must lead to, 12 digits in quotes. Default: the first one that it leads to.",
        examples=["111122223333"],
    )
    access_key_id: Annotated[str, checked(check_access_key_id)] | None = Field(
        default=None, description="Access key id, for access-key.", examples=["AKIAIOSFODNN7EXAMPLE"]
    )
    secret_access_key: Annotated[SecretSource | None, BeforeValidator(_source)] = Field(
        default=None,
        description="Where the secret access key comes from, for access-key. Default: the stored one is kept.",
    )


class SyncBase(Strict):
    """What may be said of one sync, or of all syncs of a project, besides the settings of SyncConfig."""

    name: Template | None = Field(
        default=None,
        description="Name of the sync; {app} and {env} are filled in. Required here or in defaults.",
        examples=["shop-production", "{app}-{env}"],
    )
    path: Template | None = Field(
        default=None,
        description="Folder that it reads, without those in it; {app} and {env} are filled in. Default: /.",
        examples=["/db"],
    )
    credential: Template | None = Field(
        default=None,
        description="Credential that it reaches AWS with; {app} and {env} are filled in. Required here or in defaults.",
        examples=["aws", "aws-{env}"],
    )
    destination: Text | None = Field(
        default=None,
        description=f"Kind of destination that it writes to. Default: {AWS_SECRETS_MANAGER}.",
        examples=[AWS_SECRETS_MANAGER],
    )
    region: Region | None = Field(
        default=None, description="AWS Region of the secrets. Default: the credential's.", examples=["eu-central-1"]
    )
    adopt: words_of(Adopt) | None = Field(  # type: ignore[valid-type]
        default=None,
        description="Take over a secret that exists: overwrite it, or merge it into the environment first. Applies "
        "when the sync is added. Default: leave it alone.",
    )


class SyncTarget(SyncBase):
    """A sync, or one for each of several environments."""

    env: Text | None = Field(
        default=None,
        description="Environment that it reads: app/env, or env alone if the app is clear. This or for.",
        examples=["shop/production"],
    )
    for_: list_of(Text) | None = Field(  # type: ignore[valid-type]
        default=None,
        alias="for",
        description="Environments, each of which gets such a sync: app/env, or env alone if the app is clear. This or "
        "env.",
        examples=[["production", "staging"]],
    )
    app: Annotated[str, name_of("app")] | None = Field(
        default=None,
        description="App of environments that are named without one. Default: that of defaults, or the only app of "
        "the project.",
        examples=["shop"],
    )


class DynamicBase(Strict):
    """A dynamic secret: a recipe for short-lived AWS credentials."""

    name: Annotated[str, name_of("dynamic secret")] = Field(description="Name of the dynamic secret.", examples=["ci"])
    env: Text = Field(
        description="Environment that it belongs to: app/env, or env alone if the app is clear.",
        examples=["shop/production"],
    )
    path: Folder = Field(default="/", description="Folder that it is in. Default: /.", examples=["/ops"])
    credential: Text = Field(description="Who makes the users, or assumes the role.", examples=["aws"])
    issuer: Text = Field(
        default=AWS_IAM_USER,
        description=f"A user for each lease (aws-iam-user), or a session of a role (aws-assume-role). Default: "
        f"{AWS_IAM_USER}.",
        examples=[AWS_IAM_USER, "aws-assume-role"],
    )


class KeptSecret(Strict):
    """Where a secret comes from: an environment variable, or a file."""

    env: Text | None = Field(default=None, description="Name of an environment variable.", examples=["OPS_CHANNEL"])
    file: Text | None = Field(
        default=None, description="File that holds it alone, relative to this document.", examples=["ops.channel"]
    )


_KEPT: Final = "write {env: NAME} or {file: PATH}"


def _kept(value: Any) -> Any:
    # Nothing of it is repeated: it may be the secret.
    if value is None:
        raise wrong("is empty", f"{_KEPT}, or leave it out")
    if not isinstance(value, dict):
        raise wrong("a signing secret is never written in a document", f"{_KEPT}, and make another one", whole=True)
    if len(value) != 1 or not value.keys() <= KeptSecret.model_fields.keys():
        raise wrong("does not say where the secret comes from", _KEPT)
    ((word, content),) = value.items()
    if (refused := not_text(content)) is not None:
        raise wrong(*refused, at=(word,))
    return value


def _channel(value: Any) -> Any:
    if not isinstance(value, str):
        return _kept(value)
    from phasesync.core.channels import parse_channel

    try:
        channel = parse_channel(value)
    except InvalidInputError as error:
        raise wrong(error.message, error.hint, whole=True) from None
    if channel.shown != channel.url.reveal_text():
        raise wrong("the URL of this channel is a secret, which is never written in a document", _KEPT, whole=True)
    return value


def _quiet(text: str) -> str:
    from phasesync.core.quiet_hours import canonical_quiet_hours

    (canonical,) = canonical_quiet_hours([text])
    return canonical


class NotificationItem(Strict):
    """A notification: whom to tell what is wrong."""

    name: Annotated[str, name_of("notification")] = Field(description="Name of the notification.", examples=["ops"])
    to: Annotated[str | KeptSecret | None, BeforeValidator(_channel)] = Field(
        default=None,
        description="Where it goes: mailto:NAME@HOST or sns:ARN; for a channel whose URL is a secret, where that comes "
        "from. Default: the stored one is kept.",
        examples=["mailto:ops@example.com"],
    )
    signing_secret: Annotated[KeptSecret | None, BeforeValidator(_kept)] = Field(
        default=None,
        description="Where the signing secret of a webhook comes from. Default: the stored one is kept; a new webhook "
        "gets a new one, which phasesync notifications update --signing-secret new replaces and prints.",
    )
    # Not `on`, which is true to programs that read YAML.
    conditions: distinct(one_of(WORDS)) = Field(  # type: ignore[valid-type]
        default=USUAL,
        description="What it reports. Default: everything but drift.",
        examples=[["halted", "held", "recovered"]],
    )
    app: Annotated[str, name_of("app")] | None = Field(
        default=None, description="Report only what belongs to this app. Default: everything.", examples=["shop"]
    )
    after: duration(timedelta(0)) | None = Field(  # type: ignore[valid-type]
        default=None,
        description="Report what has lasted so long. Default: at once, and stale after 15m.",
        examples=["15m"],
    )
    remind_after: duration(timedelta(0)) = Field(  # type: ignore[valid-type]
        default=FIRST_REMINDER,
        description="When to remind of what is still wrong; 0s: never. Default: 1h.",
        examples=["4h"],
    )
    quiet: distinct(Annotated[Text, checked(_quiet)]) = Field(  # type: ignore[valid-type]
        default=(),
        description="When nothing is sent. Default: never.",
        examples=[["22:00-07:00 Mon-Fri Europe/Berlin"]],
    )


class DefaultsBase(Strict):
    """What holds for all syncs of the project that do not say otherwise."""

    section: ClassVar[str] = "defaults"

    app: Annotated[str, name_of("app")] | None = Field(
        default=None,
        description="App of environments that are named without one. Default: the only app of the project.",
        examples=["shop"],
    )


if TYPE_CHECKING:
    # The settings are read by their names, so that their types do not matter to a type checker.
    SyncDefaults = SyncBase
    SyncItem = SyncTarget
    DynamicItem = DynamicBase
    Defaults = DefaultsBase
else:
    _SYNC = settings.fields_of(SyncConfig, settings.SYNC)
    SyncDefaults = create_model("SyncDefaults", __base__=SyncBase, __doc__=SyncBase.__doc__, **_SYNC)
    SyncItem = create_model("SyncItem", __base__=SyncTarget, __doc__=SyncTarget.__doc__, **_SYNC)
    DynamicItem = create_model(
        "DynamicItem",
        __base__=DynamicBase,
        __doc__=DynamicBase.__doc__,
        **settings.fields_of(DynamicConfig, settings.DYNAMIC),
    )
    Defaults = create_model(
        "Defaults",
        __base__=DefaultsBase,
        __doc__=DefaultsBase.__doc__,
        syncs=(
            SyncDefaults | None,
            Field(default=None, description="Settings of all syncs that do not say otherwise. Default: none."),
        ),
    )
