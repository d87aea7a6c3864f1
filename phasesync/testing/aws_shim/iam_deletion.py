"""
What keeps a user, a group, a policy or an MFA device from being deleted: whatever hangs on it.

Sources: API reference of IAM, DeleteUser (the list of what has to go before), DeleteGroup, DeletePolicy,
DeleteVirtualMFADevice. Texts: LocalStack's snapshots of AWS (policies of both kinds, service-specific credentials);
public: userplex issue 17 (groups), cloud-custodian issue 1663 (login profile), aws-controllers-k8s issue 2229 (access
keys), aws-nuke issues 281 (MFA), 671 (certificates) and 470 (SSH keys), serverless components issue 312 (DeletePolicy).
AWS tells one of several; which one first is not public. moto asks for policies of a user only.
"""

from collections.abc import Iterator
from typing import Any

from phasesync.testing.aws_shim.iam_errors import conflict
from phasesync.testing.aws_shim.iam_named import group_of, user_of
from phasesync.testing.aws_shim.request import Call
from phasesync.testing.aws_shim.service import Result, Service


def delete_user(service: Service, call: Call) -> Result:
    """Delete a user on which nothing hangs any more; DeleteConflict."""
    user = user_of(service, call)
    for text in _on_user(service, user):
        raise conflict(f"Cannot delete entity, must {text} first.")
    service.world.users.remove(user)
    return {}


def delete_group(service: Service, call: Call) -> None:
    """Refuse to delete a group that has members or policies; DeleteConflict."""
    group = group_of(service, call)
    for there, text in (
        (group.users, "remove users from group"),
        (group.managed_policies, "detach all policies"),
        (group.policies, "delete policies"),
    ):
        if there:
            raise conflict(f"Cannot delete entity, must {text} first.")


def delete_policy(service: Service, call: Call) -> None:
    """Refuse to delete a managed policy that is attached to anything; DeleteConflict."""
    if service.world.users.is_attached(call.account, str(call.text("PolicyArn"))):
        raise conflict("Cannot delete a policy attached to entities.")


def delete_virtual_mfa_device(service: Service, call: Call) -> None:
    """Refuse to delete a device that is somebody's; DeleteConflict."""
    if service.world.users.is_device_in_use(call.account, str(call.text("SerialNumber"))):
        raise conflict("MFA VirtualDevice in use. Must deactivate first.")


def _on_user(service: Service, user: Any) -> Iterator[str]:
    """Yield what has to be done before a user can go."""
    users = service.world.users
    for there, text in (
        (user.managed_policies, "detach all policies"),
        (user.policies, "delete policies"),
        (users.groups_of(user), "remove users from group"),
        (user.password, "delete login profile"),
        (user.access_keys, "delete access keys"),
        (user.mfa_devices, "delete MFA device"),
        (user.signing_certificates, "delete certificates"),
        (user.ssh_public_keys, "remove referenced objects"),
        (users.extras(user).service_credentials, "remove referenced objects"),
    ):
        if there:
            yield text
