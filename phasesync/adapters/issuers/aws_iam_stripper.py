"""
Takes off a user everything that keeps IAM from deleting it (API reference, DeleteUser: the list of what has to go).

Called only where IAM refused to delete a user that is proven ours. Must not delete the user itself.
"""

from collections.abc import Callable
from typing import Any, Final

from phasesync.adapters.issuers.iam_caller import IamCaller
from phasesync.errors import PhasesyncError
from phasesync.ports import Leave

_LISTED: Final[tuple[tuple[str, str, str, Callable[[Any], dict[str, str]]], ...]] = (
    # operation that lists, member of its answer, operation that takes one off, arguments for an entry. Keys come first.
    ("ListAccessKeys", "AccessKeyMetadata", "DeleteAccessKey", lambda one: {"AccessKeyId": one["AccessKeyId"]}),
    ("ListUserPolicies", "PolicyNames", "DeleteUserPolicy", lambda one: {"PolicyName": one}),
    ("ListAttachedUserPolicies", "AttachedPolicies", "DetachUserPolicy", lambda one: {"PolicyArn": one["PolicyArn"]}),
    ("ListGroupsForUser", "Groups", "RemoveUserFromGroup", lambda one: {"GroupName": one["GroupName"]}),
    (
        "ListSigningCertificates",
        "Certificates",
        "DeleteSigningCertificate",
        lambda one: {"CertificateId": one["CertificateId"]},
    ),
    ("ListSSHPublicKeys", "SSHPublicKeys", "DeleteSSHPublicKey", lambda one: {"SSHPublicKeyId": one["SSHPublicKeyId"]}),
    (
        "ListServiceSpecificCredentials",
        "ServiceSpecificCredentials",
        "DeleteServiceSpecificCredential",
        lambda one: {"ServiceSpecificCredentialId": one["ServiceSpecificCredentialId"]},
    ),
)
_NOT_THERE: Final = "NotSupportedService"
"""Said of services that a partition does not have: nothing of theirs hangs on a user."""


def strip(iam: IamCaller, user: str, leave: Leave) -> None:
    """
    Take off a user whatever hangs on it.

    Args:
        iam: who does it.
        user: its name.
        leave: asked before every call that takes something off.

    Raises:
        DestinationError: something could not be listed or taken off.
    """
    for listing, member, taking_off, arguments in _LISTED:
        for one in _items(iam, listing, member, user):
            iam.take_away(taking_off, leave, UserName=user, **arguments(one))
    for device in _items(iam, "ListMFADevices", "MFADevices", user):
        serial = device["SerialNumber"]
        iam.take_away("DeactivateMFADevice", leave, UserName=user, SerialNumber=serial)
        if ":mfa/" in serial:  # A virtual device has an ARN of this form, and stays behind until it is deleted itself.
            iam.take_away("DeleteVirtualMFADevice", leave, SerialNumber=serial)
    iam.take_away("DeleteLoginProfile", leave, UserName=user)


def _items(iam: IamCaller, operation: str, member: str, user: str) -> list[Any]:
    try:
        return list(iam.pages(operation, member, UserName=user))
    except PhasesyncError as error:
        if error.code != _NOT_THERE:
            raise
        return []
