"""
Service-specific credentials of users, which moto does not have: a name and a password for one service.

Sources: API reference of IAM, CreateServiceSpecificCredential (two sets a service and user; the form of the name),
ListServiceSpecificCredentials, DeleteServiceSpecificCredential. Services, texts and the form of ids and passwords:
LocalStack's provider and its snapshots of AWS. The text of the quota is not public.
"""

import secrets
import string
from typing import Final

from phasesync.testing.aws_shim.iam_errors import no_such, over_quota
from phasesync.testing.aws_shim.iam_named import user_of
from phasesync.testing.aws_shim.iam_pages import iam_page
from phasesync.testing.aws_shim.moto_users import ServiceCredential
from phasesync.testing.aws_shim.request import Call
from phasesync.testing.aws_shim.service import Result, Service

_SERVICES: Final = ("codecommit.amazonaws.com", "cassandra.amazonaws.com")
_MOST: Final = 2
_ID: Final = string.ascii_uppercase + "234567"
_PASSWORD: Final = string.ascii_letters + string.digits + "+/"


def create_service_specific_credential(service: Service, call: Call) -> Result:
    """Make a set; its password is told this once."""
    user, name = user_of(service, call), str(call.text("ServiceName"))
    _check_service(name)
    there = service.world.users.extras(user).service_credentials
    if sum(one.service == name for one in there) >= _MOST:
        raise over_quota("ServiceSpecificCredentialsPerUser", _MOST)
    made = ServiceCredential(
        credential_id="ACCA" + "".join(secrets.choice(_ID) for _ in range(17)),
        service=name,
        service_user=f"{user.name}-at-{call.account}",
        password="".join(secrets.choice(_PASSWORD) for _ in range(59)) + "=",
        created_at=call.now,
    )
    there.append(made)
    return {"ServiceSpecificCredential": _tell(user.name, made) | {"ServicePassword": made.password}}


def list_service_specific_credentials(service: Service, call: Call) -> Result:
    """Tell the sets of a user, of one service or of all."""
    user, name = user_of(service, call), call.text("ServiceName")
    if name is not None:
        _check_service(name)
    there = [one for one in service.world.users.extras(user).service_credentials if name in (None, one.service)]
    return iam_page(
        service,
        call,
        "ServiceSpecificCredentials",
        there,
        key=lambda one: one.credential_id,
        tell=lambda one: _tell(user.name, one),
    )


def delete_service_specific_credential(service: Service, call: Call) -> Result:
    """Take a set away; it must be there."""
    there = service.world.users.extras(user_of(service, call)).service_credentials
    wanted = call.text("ServiceSpecificCredentialId")
    for one in there:
        if one.credential_id == wanted:
            there.remove(one)
            return {}
    raise no_such(f"No such credential {wanted} exists")


def _check_service(name: str) -> None:
    if name not in _SERVICES:
        raise no_such(f"No such service {name} is supported for Service Specific Credentials")


def _tell(user: str, one: ServiceCredential) -> Result:
    return {
        "UserName": user,
        "Status": "Active",
        "ServiceUserName": one.service_user,
        "CreateDate": one.created_at,
        "ServiceSpecificCredentialId": one.credential_id,
        "ServiceName": one.service,
    }
