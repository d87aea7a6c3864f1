"""
The settings of a sync and of a dynamic secret, as fields of a document.

The fields are those of SyncConfig and DynamicConfig: their types say how they are written, and a table here describes
each of them. Only what is written in another way than its type suggests has a type in the table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from enum import StrEnum
from types import UnionType
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

from pydantic import Field

from phasesync.core.arns import check_policy_arn, check_role_arn, group_name, is_key_arn
from phasesync.core.canonical_json import Json, NumberLiteral, parse_json_document
from phasesync.core.lease_users import check_iam_path
from phasesync.core.planning.losses import LONGEST_WINDOW
from phasesync.core.project.fields import (
    AnyText,
    Policy,
    Replicas,
    Tags,
    Template,
    Text,
    Window,
    checked,
    distinct,
    duration,
    number,
    words_of,
)
from phasesync.core.remote_names import check_template
from phasesync.core.sync import AWS_MANAGED_KEY
from phasesync.core.times import duration_text
from phasesync.errors import InvalidInputError


@dataclass(frozen=True, kw_only=True)
class Setting:
    """
    How a field of a configuration is written.

    Attributes:
        description: for the JSON Schema.
        examples: values, for the JSON Schema.
        word: its name in a document, None if that is the field's own.
        type: how its value is read, None if the field's type says that.
        required: there is no default.
    """

    description: str
    examples: tuple[Any, ...] = ()
    word: str | None = None
    type: Any = None
    required: bool = False


def _role(arn: str) -> str:
    check_role_arn(arn)
    return arn


def _name_template(text: str) -> str:
    check_template(text)
    return text


def _kms_key(text: str) -> str:
    if text != AWS_MANAGED_KEY and not is_key_arn(text):
        raise InvalidInputError(
            f"{text!r} is not the ARN of a KMS key",
            hint=f"only an ARN, or the word {AWS_MANAGED_KEY}, can be compared without asking AWS: "
            f"aws kms describe-key --key-id {text} prints the ARN",
        )
    return text


_percent: Final = number(0, 100)

SYNC: Final[Mapping[str, Setting]] = {
    "layout": Setting(
        description="One AWS secret with all keys (json), or one for each key (per-key). Default: follows from "
        "secret_name or name_template."
    ),
    "remote_name": Setting(
        word="secret_name",
        type=Template,
        description="Name of the AWS secret, for layout json; {app} and {env} are filled in. No default: this or "
        "name_template.",
        examples=("shop/production", "{app}/{env}"),
    ),
    "name_template": Setting(
        type=Annotated[Text, checked(_name_template)],
        description="Names of the AWS secrets, for layout per-key, with {key}, {app}, {env} and {path}, the folder. No "
        "default: this or secret_name.",
        examples=("{app}/{env}/{key}",),
    ),
    "kms_key": Setting(
        type=Annotated[Text, checked(_kms_key)],
        description="KMS key that encrypts the secret: its ARN; the word default is the AWS-managed one. "
        "Default: left alone.",
        examples=("arn:aws:kms:eu-central-1:111122223333:key/00000000-0000-4000-8000-000000000000", "default"),
    ),
    "description": Setting(description="Description of the AWS secret. Default: left alone.", examples=("Shop",)),
    "tags": Setting(type=Tags, description="Tags of the AWS secret. Default: none.", examples=({"team": "web"},)),
    "tag_mode": Setting(
        description="Tags besides our own marks: never set any; upsert: set yours, others stay; replace-own: also "
        "remove what was set before. Default: upsert."
    ),
    "replicas": Setting(
        type=Replicas,
        description="Regions to copy it to: a list, or a mapping from the Region to the ARN of a KMS key there (the "
        "word default is the AWS-managed one). [] wants no copies. Default: left alone.",
        examples=(["eu-west-1"], {"us-east-1": "default"}),
    ),
    "resource_policy": Setting(
        type=Policy,
        description="Resource policy of the secret: inline, or {file: PATH} with a JSON file. Default: left alone.",
        examples=({"file": "policies/shop.json"},),
    ),
    "on_drift": Setting(
        description="A secret that was changed from outside: enforce what the store has, or hold it for an approval. "
        "Default: enforce."
    ),
    "on_remove": Setting(
        description="What happens to a secret after its key is gone (layout per-key): retain, or delete after the "
        "grace. Default: retain."
    ),
    "grace": Setting(
        description="How long a key has to be gone before its secret is deleted. Default: 1h.", examples=("1h",)
    ),
    "recovery_days": Setting(
        type=number(7, 30), description="Recovery window of deletions, in days, 7 to 30. Default: 30.", examples=(30,)
    ),
    "interval": Setting(
        type=duration(timedelta(seconds=1)),
        description="Time between drift checks where sweeps do not make them. Default: 5m.",
        examples=("5m",),
    ),
    "shrink_limit_percent": Setting(
        type=_percent,
        description="Percent of the keys that a change may drop without an approval. Default: 50.",
        examples=(50,),
    ),
    "shrink_limit_keys": Setting(
        description="Number of dropped keys from which shrink_limit_percent counts; fewer never wait. Default: 2.",
        examples=(2,),
    ),
    "delete_limit_percent": Setting(
        type=_percent,
        description="Percent of the sync's secrets that a run may delete without an approval. Default: 20.",
        examples=(20,),
    ),
    "delete_limit_objects": Setting(
        description="Number of deleted secrets from which delete_limit_percent counts; fewer wait only where none "
        "would be left. Default: 3.",
        examples=(3,),
    ),
    "windows": Setting(
        type=distinct(Window),
        description="Maintenance windows: when it may, or may not, write. Default: none of its own.",
        examples=(["allow: 02:00-04:00 Europe/Berlin"],),
    ),
    "guard_window": Setting(
        type=duration(timedelta(hours=1), LONGEST_WINDOW),
        description="Time over which the limits above also count what was dropped or deleted, 1h to 7d. Default: 1d.",
        examples=("1d",),
    ),
}
"""Field of SyncConfig -> how it is written."""

DYNAMIC: Final[Mapping[str, Setting]] = {
    "user_template": Setting(
        type=Text,
        description="Names of the users, or of the sessions; with {{random}}, and {{app}}, {{env}}, {{name}}. Default: "
        "'{{name}}-{{random}}'.",
        examples=("ci-{{random}}",),
    ),
    "iam_path": Setting(
        type=Annotated[Text, checked(check_iam_path)],
        description="IAM path of the users, without users of others. Default: /phasesync/APP/ENV/.",
        examples=("/ci/shop/",),
    ),
    "policy_arns": Setting(
        type=distinct(Annotated[str, checked(check_policy_arn)]),
        description="Managed policies of the users, or of the sessions. Default: none.",
        examples=(["arn:aws:iam::aws:policy/ReadOnlyAccess"],),
    ),
    "groups": Setting(
        type=distinct(Annotated[str, checked(group_name)]),
        description="Groups of the users: names or ARNs. Default: none.",
        examples=(["deployers"],),
    ),
    "permission_boundary": Setting(
        type=Annotated[str, checked(check_policy_arn)],
        description="ARN of the policy that bounds what the users may do. Default: none.",
        examples=("arn:aws:iam::111122223333:policy/phasesync-boundary",),
    ),
    "inline_policy": Setting(
        type=Policy,
        description="Policy that every user gets inline: a mapping, or {file: PATH} with a JSON file. Default: none.",
        examples=({"file": "policies/ci.json"},),
    ),
    "tags": Setting(type=Tags, description="Tags of the users. Default: none.", examples=({"team": "web"},)),
    "role_arn": Setting(
        type=Annotated[str, checked(_role)],
        description="Role to issue sessions of; required for aws-assume-role. No default.",
        examples=("arn:aws:iam::111122223333:role/ops",),
    ),
    "session_policy": Setting(
        type=Policy,
        description="Policy that narrows the sessions down: a mapping, or {file: PATH} with a JSON file. Default: "
        "none.",
        examples=({"file": "policies/session.json"},),
    ),
    "default_ttl": Setting(
        description="Life of a lease that is issued without a time to live. Required.",
        required=True,
        examples=("1h",),
    ),
    "max_ttl": Setting(
        description="Longest life of a lease, however often it is renewed. Required.",
        required=True,
        examples=("8h",),
    ),
    "max_leases": Setting(description="How many leases may be live at once. Default: 50.", examples=(50,)),
    "keys": Setting(
        word="key_map",
        type=dict[Text, Text],
        description="Output -> key under which it is issued; outputs: username, access_key_id, secret_access_key, "
        "session_token. Default: AWS_IAM_USERNAME, AWS_ACCESS_KEY_ID and so on.",
        examples=({"username": "CI_USER"},),
    ),
}
"""Field of DynamicConfig -> how it is written."""


def word_of(field: str, table: Mapping[str, Setting]) -> str:
    """Return the name of a field in a document."""
    return table[field].word or field


def fields_of(config: type, table: Mapping[str, Setting]) -> dict[str, Any]:
    """
    Return the fields of a model: word -> its type, and what pydantic has to know of it.

    Where it may be None, that takes the default of a new object, whatever the defaults of the project say.
    """
    hints = get_type_hints(config)
    made: dict[str, Any] = {}
    for field in fields(config):
        setting = table[field.name]
        kind = _read_as(hints[field.name]) if setting.type is None else setting.type
        made[word_of(field.name, table)] = (
            kind if setting.required else kind | None,
            Field(
                default=... if setting.required else None,
                description=setting.description,
                examples=list(setting.examples) or None,
            ),
        )
    return made


def _read_as(hint: Any) -> Any:
    """Return how a value of a field's type is read."""
    if get_origin(hint) is UnionType:
        (hint,) = (kind for kind in get_args(hint) if kind is not type(None))
    if hint is timedelta:
        return duration()
    if hint is int:
        return number(1)
    if hint is str:
        return AnyText
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return words_of(hint)
    raise TypeError(f"say in the table how a field of type {hint} is written")


def written(config: Any, table: Mapping[str, Setting], default: Any) -> dict[str, Any]:
    """
    Return what a document has to say of a configuration, with texts, numbers, lists and mappings only.

    Args:
        config: the configuration.
        table: of its kind.
        default: what a new object has; fields that are equal to it are left out.
    """
    return {
        word_of(field.name, table): _plain(field.name, getattr(config, field.name))
        for field in fields(config)
        if getattr(config, field.name) != getattr(default, field.name)
    }


def described(config: Any, table: Mapping[str, Setting]) -> dict[str, Any]:
    """Return all of a configuration, in the words and forms of a document."""
    return {word_of(field.name, table): _plain(field.name, getattr(config, field.name)) for field in fields(config)}


_POLICIES: Final = ("resource_policy", "inline_policy", "session_policy")


def _plain(name: str, value: Any) -> Any:
    match value:
        case timedelta():
            return duration_text(value)
        case StrEnum():
            return str(value)
        case tuple():
            return list(value)
        case str() if name in _POLICIES:
            return _plain_json(parse_json_document(value.encode()))
        case Mapping() if name == "replicas" and set(value.values()) <= {AWS_MANAGED_KEY}:
            return sorted(value)
        case Mapping():
            return dict(sorted(value.items()))
        case _:
            return value


def _plain_json(document: Json) -> Any:
    match document:
        case dict():
            return {key: _plain_json(member) for key, member in document.items()}
        case list():
            return [_plain_json(member) for member in document]
        case NumberLiteral(literal=literal):
            return int(literal) if literal.lstrip("-").isdigit() else float(literal)
        case _:
            return document
