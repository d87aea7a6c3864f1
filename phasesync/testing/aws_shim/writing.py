"""
CreateSecret, PutSecretValue and UpdateSecret.

Sources: the API reference's page of each. What is checked, and where each rule was read, stands in the modules that are
called; the order is: the state of the name, then quotas and keys, then the write.
"""

from typing import Any

from phasesync.testing.aws_shim.cross_account import primary_of_new, refuse_value_of_replica
from phasesync.testing.aws_shim.deletion import name_is_blocked
from phasesync.testing.aws_shim.errors import exists, invalid_parameter, limit_exceeded
from phasesync.testing.aws_shim.labels import PENDING, holder
from phasesync.testing.aws_shim.moto_world import CURRENT
from phasesync.testing.aws_shim.names import check_name
from phasesync.testing.aws_shim.owning import refuse_if_owned
from phasesync.testing.aws_shim.replication import check_regions, replicate, statuses_of
from phasesync.testing.aws_shim.request import Call
from phasesync.testing.aws_shim.service import Result, Service
from phasesync.testing.aws_shim.tags import read_tags, set_tags
from phasesync.testing.aws_shim.tokens import is_repeated, require_token, spent
from phasesync.testing.aws_shim.values import Value, read_value, require_value
from phasesync.testing.aws_shim.versions import add_version


def create_secret(service: Service, call: Call) -> Result:
    """Make a secret, with a first version where the request carries a value."""
    name, token, value = call.secret_id, require_token(call), read_value(call)
    check_name(name)
    there = service.world.find(call.account, call.region, name)
    if there is not None:
        if service.world.extras(there).gone_at is not None:
            raise name_is_blocked()
        if value is not None and not service.world.is_replica(there) and is_repeated(there, token, value):
            return _made(service, there, token)
        raise exists(f"The operation failed because the secret {name} already exists.")
    if service.world.count(call.account, call.region) >= service.limits.secrets:
        raise limit_exceeded(f"You can't have more than {service.limits.secrets} secrets in a Region.")
    primary = primary_of_new(call)
    tags = read_tags(service, {}, call.listed("Tags"))
    key_id = service.keys.choose(call, call.text("KmsKeyId"))
    regions = check_regions(service, call)
    secret = service.world.create(call.account, call.region, name, now=call.now)
    try:
        secret.description, secret.kms_key_id = call.text("Description") or "", key_id
        set_tags(secret, tags)
        service.world.extras(secret).external_type = call.text("Type") or None
        service.world.extras(secret).cross_account_primary = primary
        if value is not None:
            add_version(service, secret, call, token, value, [CURRENT])
    except BaseException:
        service.world.remove(secret)
        raise
    replicate(service, call, secret, regions)
    return _made(service, secret, token if value is not None else None)


def put_secret_value(service: Service, call: Call) -> Result:
    """Write a version."""
    secret, token, value = service.secret(call), require_token(call), require_value(call)
    refuse_if_owned(secret)
    refuse_value_of_replica(service, secret)
    if token in secret.versions:
        # To compare the values it decrypts the version that is there (User Guide, encryption, when KMS is called).
        service.keys.decrypt(call, secret, token)
    if not is_repeated(secret, token, value):
        labels = call.listed("VersionStages") or [CURRENT]
        if holder(secret, CURRENT) is None and CURRENT not in labels:
            labels.append(CURRENT)
        add_version(service, secret, call, token, value, labels)
        _abandon_rotation(secret, token, labels)
    labels = list(secret.versions[token]["version_stages"])
    return {"ARN": secret.arn, "Name": secret.name, "VersionId": token, "VersionStages": labels}


def update_secret(service: Service, call: Call) -> Result:
    """Change description, key or value; what is not given stays."""
    value, key_id, description = read_value(call), call.text("KmsKeyId"), call.text("Description")
    found = service.world.find(call.account, call.region, call.secret_id)
    if found is not None and service.world.is_replica(found) and value is None and description is None:
        # A replica is read-only "except for its encryption key" (User Guide, replicas).
        service.world.replica_extras(found).kms_key = service.keys.choose(call, key_id)
        return {"ARN": found.arn, "Name": found.name}
    secret = service.secret(call)
    refuse_if_owned(secret)
    if value is not None:
        refuse_value_of_replica(service, secret)
    token = require_token(call) if value is not None else ""
    if token and token in secret.versions:
        raise spent(secret, token)
    if key_id is not None:
        _change_key(service, call, secret, key_id)
    if description is not None:
        secret.description = description
    if (kind := call.text("Type")) is not None:
        service.world.extras(secret).external_type = kind or None
    service.world.touch(secret)
    answer = {"ARN": secret.arn, "Name": secret.name}
    if value is not None:
        _add_current(service, call, secret, token, value)
        answer["VersionId"] = token
    return answer


def _add_current(service: Service, call: Call, secret: Any, token: str, value: Value) -> None:
    add_version(service, secret, call, token, value, [CURRENT])
    _abandon_rotation(secret, token, [CURRENT])


def _change_key(service: Service, call: Call, secret: Any, key_id: str) -> None:
    """Take another key; "" is the AWS-managed one (API reference, UpdateSecret, KmsKeyId)."""
    if len(key_id) == 0 and secret.account_id != call.account:
        raise invalid_parameter("You can't use the AWS managed key for a secret of another account.")
    secret.kms_key_id = service.keys.choose(call, key_id)
    service.keys.encrypt_again(call, secret)


def _abandon_rotation(secret: Any, version_id: str, labels: list[str]) -> None:
    """A new current version ends a rotation that is under way (User Guide, CloudTrail entries, RotationAbandoned)."""
    pending = holder(secret, PENDING)
    if CURRENT in labels and pending not in (None, version_id):
        secret.versions[pending]["version_stages"].remove(PENDING)


def _made(service: Service, secret: Any, version_id: str | None) -> Result:
    answer: Result = {"ARN": secret.arn, "Name": secret.name}
    if version_id is not None:
        answer["VersionId"] = version_id
    if secret.replicas:
        answer["ReplicationStatus"] = statuses_of(service, secret)
    return answer
