"""
Every change of a secret but its deletion: CreateSecret, PutSecretValue, UpdateSecret, labels and tags.

A write is checked in this order: the state of the name, then quotas and keys, then the write itself. Each section names
the source of its rules; for the operations that is the API reference's page of each.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from phasesync.emulator.context import Context, Result
from phasesync.emulator.errors import (
    AwsError,
    exists,
    invalid_parameter,
    invalid_request,
    limit_exceeded,
    model_violation,
)
from phasesync.emulator.moto_state import CURRENT, Extras
from phasesync.emulator.request import Call
from phasesync.emulator.secret_deletion import name_is_blocked, refuse_if_owned
from phasesync.emulator.secret_replication import (
    check_regions,
    primary_of_new,
    refuse_value_of_replica,
    replicate,
    statuses_of,
)

# --- Names of secrets
#
# The length is in the API model (`api_model.py`). Characters: API reference, CreateSecret, Name ("ASCII letters,
# numbers, and the following characters: /_+=.@-"). Code and text of the refusal: public, LocalStack's provider, which
# is checked against AWS. The text names `!` because AWS's own services make such names.

_NAME: Final = re.compile(r"[A-Za-z0-9/_+=.@-]+")


def check_name(name: str) -> None:
    """Refuse a name with other characters: ValidationException."""
    if not _NAME.fullmatch(name):
        raise AwsError(
            "ValidationException",
            "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!",
        )


# --- Values: text or bytes, not both, 1 to 65,536 bytes
#
# API reference, PutSecretValue ("You must include SecretBinary or SecretString, but not both"); User Guide, quotas
# ("Secret value size, 65,536 bytes"). The API model counts the characters of a text, the quota counts bytes; both hold.

LIMIT_BYTES: Final = 65_536


@dataclass(frozen=True)
class Value:
    """A value as a request carries it; bytes stay in base64, as moto keeps them."""

    text: str | None = field(default=None, repr=False)
    binary: str | None = field(default=None, repr=False)

    def fields(self) -> dict[str, str]:
        """Return it under the keys of moto's versions."""
        return {"secret_string": self.text} if self.text is not None else {"secret_binary": self.binary or ""}


def read_value(call: Call) -> Value | None:
    """Return the value of a request, or None if it carries no value."""
    text, binary = call.text("SecretString"), call.text("SecretBinary")
    if text is not None and binary is not None:
        raise invalid_parameter(
            "You can't specify both a binary secret value and a string secret value in the same secret."
        )
    if text is None and binary is None:
        return None
    if text is not None and len(text.encode("utf-8", "surrogatepass")) > LIMIT_BYTES:
        raise model_violation(
            "Value at 'secretString' failed to satisfy constraint: "
            f"Member must have length less than or equal to {LIMIT_BYTES}"
        )
    return Value(text, binary)


def require_value(call: Call) -> Value:
    """Return the value of a request that must carry one: InvalidRequestException (public: moto, LocalStack)."""
    value = read_value(call)
    if value is None:
        raise invalid_request("You must provide either SecretString or SecretBinary.")
    return value


def has_value(version: dict[str, object]) -> bool:
    """Return whether a version holds a value; one that a rotation has just begun does not."""
    return "secret_string" in version or "secret_binary" in version


def is_same(version: dict[str, object], value: Value) -> bool:
    """Return whether a version holds this value."""
    return (version.get("secret_string"), version.get("secret_binary")) == (value.text, value.binary)


# --- ClientRequestToken: the id of the version that a write makes, so that a repeated write does nothing
#
# API reference, CreateSecret and PutSecretValue, ClientRequestToken (same token and value: nothing happens; same token,
# other value: it fails); UpdateSecret ("if you call this operation with a ClientRequestToken that matches an existing
# version's VersionId, the operation results in an error"). The length (32 to 64) is in the API model. Texts, and that a
# request without a token is refused: public, LocalStack's provider, moto pull request 9741.


def require_token(call: Call) -> str:
    """Return the token: InvalidRequestException if there is none; SDKs always send one."""
    token = call.text("ClientRequestToken")
    if token is None:
        raise invalid_request("You must provide a ClientRequestToken value. We recommend a UUID-type value.")
    return token


def is_repeated(secret: Any, token: str, value: Value) -> bool:
    """
    Return whether the write with this token was carried out before.

    False: the token is unused, or waits for the value of a rotation. ResourceExistsException: it holds another value.
    """
    version = secret.versions.get(token)
    if version is None or not has_value(version):
        return False
    if not is_same(version, value):
        raise token_in_use(secret, token)
    return True


def token_in_use(secret: Any, token: str) -> AwsError:
    """Return the refusal of a token that is already the id of a version."""
    return exists(
        f"You can't use ClientRequestToken {token} because that value is already in use for a version of secret "
        f"{secret.arn}."
    )


# --- Versions: at most 100; those without a label may go when they are a day old
#
# User Guide, quotas ("Versions per secret, 100"); API reference, PutSecretValue ("keeps 100 of the most recent
# versions, but it keeps all secret versions created in the last 24 hours ... you will reach the quota"). AWS removes
# versions in the background; the emulator removes them when room is needed.

KEPT_FOR: Final = timedelta(hours=24)


def make_room(context: Context, secret: Any, call: Call) -> None:
    """Remove what may go, oldest first; LimitExceededException if that is not enough for one more version."""
    oldest_kept = (call.now - KEPT_FOR).timestamp()
    extras = context.state.extras(secret)
    by_age = sorted(secret.versions.items(), key=lambda item: float(item[1]["createdate"]))
    for version_id, version in by_age:
        if len(secret.versions) < context.limits.versions:
            return
        if not version["version_stages"] and version["createdate"] < oldest_kept:
            _remove(secret, extras, version_id)
    if len(secret.versions) >= context.limits.versions:
        raise limit_exceeded(f"You can't create more than {context.limits.versions} versions of a secret.")


def add_version(context: Context, secret: Any, call: Call, version_id: str, value: Value, labels: list[str]) -> None:
    """Write a version under the secret's key and put labels on it; a version that waits for its value gets it."""
    if version_id not in secret.versions:
        make_room(context, secret, call)
    check_labels(context, secret, version_id, labels)
    key = context.keys.encrypt(call, secret, version_id)
    version = secret.versions.setdefault(version_id, {"version_id": version_id, "version_stages": []})
    version.update(createdate=call.now.timestamp(), **value.fields())
    extras = context.state.extras(secret)
    extras.version_keys[version_id] = {key}
    attach(secret, version_id, labels)
    context.state.touch(secret)


def _remove(secret: Any, extras: Extras, version_id: str) -> None:
    del secret.versions[version_id]
    extras.version_keys.pop(version_id, None)
    extras.version_accessed_on.pop(version_id, None)


# --- Staging labels: which version is current, and how labels move
#
# API reference, PutSecretValue (VersionStages), UpdateSecretVersionStage (all parameters); User Guide, "What's in a
# secret?", versions (one label on one version; AWSPREVIOUS follows AWSCURRENT by itself), and quotas (20 labels over
# all versions). moto forgets custom labels of the former version, and still reads it after a label was moved.

PREVIOUS: Final = "AWSPREVIOUS"
PENDING: Final = "AWSPENDING"


def holder(secret: Any, label: str) -> str | None:
    """Return the id of the version that carries a label; None if no version does."""
    return next(
        (version_id for version_id, version in secret.versions.items() if label in version["version_stages"]), None
    )


def check_labels(context: Context, secret: Any, version_id: str, labels: Iterable[str]) -> None:
    """Refuse labels that would exceed the quota: LimitExceededException."""
    carried = {label for version in secret.versions.values() for label in version["version_stages"]}
    wanted = carried | set(labels)
    if CURRENT in wanted and holder(secret, CURRENT) not in (None, version_id) and CURRENT in labels:
        wanted.add(PREVIOUS)
    if len(wanted) > context.limits.labels:
        raise limit_exceeded(f"You can attach at most {context.limits.labels} staging labels to a secret.")


def attach(secret: Any, version_id: str, labels: Iterable[str]) -> None:
    """Put labels on a version, and take them from the versions that carried them."""
    labels = list(labels)
    former = holder(secret, CURRENT)
    for label in labels:
        _detach(secret, label)
        secret.versions[version_id]["version_stages"].append(label)
    if CURRENT in labels and former not in (None, version_id):
        _detach(secret, PREVIOUS)
        secret.versions[former]["version_stages"].append(PREVIOUS)
    secret.set_default_version_id(holder(secret, CURRENT))


def _detach(secret: Any, label: str) -> None:
    for version in secret.versions.values():
        if label in version["version_stages"]:
            version["version_stages"].remove(label)


def update_secret_version_stage(context: Context, call: Call) -> Result:
    """Move, add or remove a label."""
    secret = context.secret(call)
    refuse_if_owned(secret)
    refuse_value_of_replica(context, secret)
    label, source, target = (call.text(name) for name in ("VersionStage", "RemoveFromVersionId", "MoveToVersionId"))
    label = label or ""
    for version_id in (source, target):
        if version_id is not None and version_id not in secret.versions:
            raise invalid_parameter(f"Not a valid version: {version_id}")
    carrier = holder(secret, label)
    if source is not None and carrier != source:
        raise invalid_parameter(f"Version stage {label} not found in version {source}")
    if source is None and carrier is not None and carrier != target:
        raise invalid_parameter(
            "The parameter RemoveFromVersionId can't be empty. "
            f"Staging label {label} is currently attached to version {carrier}, "
            "so you must explicitly reference that version in RemoveFromVersionId."
        )
    if target is None:
        if label == CURRENT:
            raise invalid_parameter(f"You can't remove {CURRENT} from a version without moving it to another one.")
        _detach(secret, label)
    else:
        check_labels(context, secret, target, [label])
        attach(secret, target, [label])
        if label == CURRENT and PREVIOUS in secret.versions[target]["version_stages"]:
            secret.versions[target]["version_stages"].remove(PREVIOUS)
    context.state.touch(secret)
    return {"ARN": secret.arn, "Name": secret.name}


# --- CreateSecret, PutSecretValue, UpdateSecret


def create_secret(context: Context, call: Call) -> Result:
    """Make a secret, with a first version if the request carries a value."""
    name, token, value = call.secret_id, require_token(call), read_value(call)
    check_name(name)
    existing = context.state.find(call.account, call.region, name)
    if existing is not None:
        if context.state.extras(existing).gone_at is not None:
            raise name_is_blocked()
        if value is not None and not context.state.is_replica(existing) and is_repeated(existing, token, value):
            return _created(context, existing, token)
        raise exists(f"The operation failed because the secret {name} already exists.")
    if context.state.count(call.account, call.region) >= context.limits.secrets:
        raise limit_exceeded(f"You can't have more than {context.limits.secrets} secrets in a Region.")
    primary = primary_of_new(call)
    tags = merge_tags(context, {}, call.listed("Tags"))
    key_id = context.keys.choose(call, call.text("KmsKeyId"))
    regions = check_regions(context, call)
    secret = context.state.create(call.account, call.region, name, now=call.now)
    try:
        secret.description, secret.kms_key_id = call.text("Description") or "", key_id
        set_tags(secret, tags)
        context.state.extras(secret).external_type = call.text("Type") or None
        context.state.extras(secret).cross_account_primary = primary
        if value is not None:
            add_version(context, secret, call, token, value, [CURRENT])
    except BaseException:
        context.state.remove(secret)
        raise
    replicate(context, call, secret, regions)
    return _created(context, secret, token if value is not None else None)


def put_secret_value(context: Context, call: Call) -> Result:
    """Write a version."""
    secret, token, value = context.secret(call), require_token(call), require_value(call)
    refuse_if_owned(secret)
    refuse_value_of_replica(context, secret)
    if token in secret.versions:
        # To compare the values it decrypts the version that is there (User Guide, encryption, when KMS is called).
        context.keys.decrypt(call, secret, token)
    if not is_repeated(secret, token, value):
        labels = call.listed("VersionStages") or [CURRENT]
        if holder(secret, CURRENT) is None and CURRENT not in labels:
            labels.append(CURRENT)
        add_version(context, secret, call, token, value, labels)
        _abandon_rotation(secret, token, labels)
    labels = list(secret.versions[token]["version_stages"])
    return {"ARN": secret.arn, "Name": secret.name, "VersionId": token, "VersionStages": labels}


def update_secret(context: Context, call: Call) -> Result:
    """Change description, key or value; what is not given stays."""
    value, key_id, description = read_value(call), call.text("KmsKeyId"), call.text("Description")
    replica = context.state.find(call.account, call.region, call.secret_id)
    if replica is not None and context.state.is_replica(replica) and value is None and description is None:
        # A replica is read-only "except for its encryption key" (User Guide, replicas).
        context.state.replica_extras(replica).kms_key = context.keys.choose(call, key_id)
        return {"ARN": replica.arn, "Name": replica.name}
    secret = context.secret(call)
    refuse_if_owned(secret)
    if value is not None:
        refuse_value_of_replica(context, secret)
    token = require_token(call) if value is not None else ""
    if token and token in secret.versions:
        raise token_in_use(secret, token)
    if key_id is not None:
        _change_key(context, call, secret, key_id)
    if description is not None:
        secret.description = description
    if (kind := call.text("Type")) is not None:
        context.state.extras(secret).external_type = kind or None
    context.state.touch(secret)
    answer = {"ARN": secret.arn, "Name": secret.name}
    if value is not None:
        _add_current(context, call, secret, token, value)
        answer["VersionId"] = token
    return answer


def _add_current(context: Context, call: Call, secret: Any, token: str, value: Value) -> None:
    add_version(context, secret, call, token, value, [CURRENT])
    _abandon_rotation(secret, token, [CURRENT])


def _change_key(context: Context, call: Call, secret: Any, key_id: str) -> None:
    """Take another key; "" is the AWS-managed one (API reference, UpdateSecret, KmsKeyId)."""
    if len(key_id) == 0 and secret.account_id != call.account:
        raise invalid_parameter("You can't use the AWS managed key for a secret of another account.")
    secret.kms_key_id = context.keys.choose(call, key_id)
    context.keys.encrypt_again(call, secret)


def _abandon_rotation(secret: Any, version_id: str, labels: list[str]) -> None:
    """A new current version ends a rotation that is under way (User Guide, CloudTrail entries, RotationAbandoned)."""
    pending = holder(secret, PENDING)
    if CURRENT in labels and pending not in (None, version_id):
        secret.versions[pending]["version_stages"].remove(PENDING)


def _created(context: Context, secret: Any, version_id: str | None) -> Result:
    answer: Result = {"ARN": secret.arn, "Name": secret.name}
    if version_id is not None:
        answer["VersionId"] = version_id
    if secret.replicas:
        answer["ReplicationStatus"] = statuses_of(context, secret)
    return answer


# --- Tags: how many, which characters, which prefix
#
# API reference, Tag (key 1-128, value 0-256; in the API model), CreateSecret ("For tag quotas and naming restrictions,
# see Service quotas for Tagging in the AWS General Reference": 50 tags a resource, `aws:` in any case is reserved and
# does not count, letters, numbers, spaces and + - = . _ : / @). The code is InvalidParameterException, the only fitting
# one that TagResource declares.

_RESERVED_PREFIX: Final = "aws:"
_TAG_TEXT: Final = re.compile(r"(?:[\w.:/=+\-@]|[^\S\t\n\r\f\v])*")


def merge_tags(context: Context, present: Mapping[str, str], added: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return what a secret's tags become; InvalidParameterException."""
    new: dict[str, str] = {}
    for tag in added:
        key, value = tag.get("Key", ""), tag.get("Value", "")
        _check_tag_key(key)
        if not _TAG_TEXT.fullmatch(key) or not _TAG_TEXT.fullmatch(value):
            raise invalid_parameter("A tag has characters that are not allowed in tags.")
        if key in new:
            raise invalid_parameter(f"Duplicate tag keys found: {key}")
        new[key] = value
    result = {**present, **new}
    if sum(not key.lower().startswith(_RESERVED_PREFIX) for key in result) > context.limits.tags:
        raise invalid_parameter(f"A secret can have at most {context.limits.tags} tags.")
    return result


def tags_of(secret: Any) -> dict[str, str]:
    """Return the tags of a secret."""
    return {tag["Key"]: tag.get("Value") or "" for tag in secret.tags or []}


def set_tags(secret: Any, tags: Mapping[str, str]) -> None:
    """Replace the tags of a secret."""
    secret.tags = [{"Key": key, "Value": value} for key, value in tags.items()] or None


def tag_resource(context: Context, call: Call) -> Result:
    """Add tags; an existing key gets the new value."""
    secret = context.secret(call)
    set_tags(secret, merge_tags(context, tags_of(secret), call.listed("Tags")))
    context.state.touch(secret)
    return {}


def untag_resource(context: Context, call: Call) -> Result:
    """Remove tags; those that are not there are no error (API reference, UntagResource)."""
    secret = context.secret(call)
    for key in call.listed("TagKeys"):
        _check_tag_key(key)
    kept = {key: value for key, value in tags_of(secret).items() if key not in call.listed("TagKeys")}
    if kept != tags_of(secret):
        set_tags(secret, kept)
        context.state.touch(secret)
    return {}


def _check_tag_key(key: str) -> None:
    if key.lower().startswith(_RESERVED_PREFIX):
        raise invalid_parameter("Tag keys that begin with aws: are reserved for AWS.")
