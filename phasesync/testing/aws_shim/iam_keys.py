"""
Access keys of users: made, told, switched off, deleted.

Sources: API reference of IAM, CreateAccessKey, ListAccessKeys, UpdateAccessKey, DeleteAccessKey; IAM User Guide,
quotas (2 a user). Texts: LocalStack's snapshots of AWS. That GetAccessKeyLastUsed refuses a key that is not there as it
refuses who has no right to it: public, in code that repeats AWS's text. What a key that is gone, off or new does not
open any more is in `trust.py`.
"""

from typing import Any, Final

from phasesync.testing.aws_shim.errors import AwsError
from phasesync.testing.aws_shim.iam_errors import no_such, over_quota
from phasesync.testing.aws_shim.iam_named import user_of
from phasesync.testing.aws_shim.iam_pages import iam_page
from phasesync.testing.aws_shim.request import Call
from phasesync.testing.aws_shim.service import Result, Service

_LAST_USED: Final = "iam:GetAccessKeyLastUsed"


def create_access_key(service: Service, call: Call) -> Result:
    """Make a key; its secret part is told this once."""
    user = user_of(service, call)
    if len(user.access_keys) >= service.limits.user_keys:
        raise over_quota("AccessKeysPerUser", service.limits.user_keys)
    key = service.world.users.create_key(user)
    return {"AccessKey": _tell(key) | {"SecretAccessKey": key.secret_access_key}}


def list_access_keys(service: Service, call: Call) -> Result:
    """Tell the keys of a user."""
    keys = user_of(service, call).access_keys
    return iam_page(service, call, "AccessKeyMetadata", keys, key=lambda one: str(one.access_key_id), tell=_tell)


def update_access_key(service: Service, call: Call) -> Result:
    """Switch a key on or off."""
    _key(service, call).status = call.text("Status")
    return {}


def delete_access_key(service: Service, call: Call) -> Result:
    """Take a key away for good."""
    service.world.users.delete_key(user_of(service, call), _key(service, call))
    return {}


def get_access_key_last_used(service: Service, call: Call) -> Result:
    """Tell whose a key of the account is. When it was used is not kept: that is told as of a key never used."""
    key_id, users = str(call.text("AccessKeyId")), service.world.users
    account, user = users.whose(key_id)
    if user is None or account != call.account or users.is_hidden(user, by_key=True):
        text = f"User: {call.principal.arn} is not authorized to perform: {_LAST_USED} on resource: access key {key_id}"
        raise AwsError("AccessDenied", text, status=403)
    return {"UserName": user.name, "AccessKeyLastUsed": {"ServiceName": "N/A", "Region": "N/A"}}


def _key(service: Service, call: Call) -> Any:
    wanted = call.text("AccessKeyId")
    for key in user_of(service, call).access_keys:
        if key.access_key_id == wanted:
            return key
    raise no_such(f"The Access Key with id {wanted} cannot be found.")


def _tell(key: Any) -> Result:
    return {
        "UserName": key.user_name,
        "AccessKeyId": key.access_key_id,
        "Status": key.status,
        "CreateDate": key.create_date,
    }
