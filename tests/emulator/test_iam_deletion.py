"""What keeps users, groups, policies and devices from being deleted, and service-specific credentials, which do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from phasesync.emulator import AwsEmulator
from tests.emulator.conftest import ACCOUNT, code_of, passes, refusal_of, refuses
from tests.emulator.test_iam_grants import MANAGED, document

GIT = "codecommit.amazonaws.com"
U = {"UserName": "lease"}


@pytest.fixture(autouse=True)
def lease(iam: Any) -> None:
    iam.create_user(**U)
    iam.create_group(GroupName="team")


def certificate() -> str:
    """Return a certificate in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    start = datetime(2030, 1, 1, tzinfo=UTC)
    built = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + timedelta(days=1))
    return built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def enable_device(iam: Any) -> str:
    serial: str = iam.create_virtual_mfa_device(VirtualMFADeviceName="phone")["VirtualMFADevice"]["SerialNumber"]
    iam.enable_mfa_device(**U, SerialNumber=serial, AuthenticationCode1="123456", AuthenticationCode2="654321")
    return serial


def git(iam: Any) -> dict[str, Any]:
    made: dict[str, Any] = iam.create_service_specific_credential(**U, ServiceName=GIT)["ServiceSpecificCredential"]
    return made


def hang_key(iam: Any) -> Callable[[], Any]:
    key = iam.create_access_key(**U)["AccessKey"]["AccessKeyId"]
    return lambda: iam.delete_access_key(**U, AccessKeyId=key)


def hang_managed(iam: Any) -> Callable[[], Any]:
    iam.attach_user_policy(**U, PolicyArn=MANAGED)
    return lambda: iam.detach_user_policy(**U, PolicyArn=MANAGED)


def hang_inline(iam: Any) -> Callable[[], Any]:
    iam.put_user_policy(**U, PolicyName="p", PolicyDocument=document(200))
    return lambda: iam.delete_user_policy(**U, PolicyName="p")


def hang_group(iam: Any) -> Callable[[], Any]:
    iam.add_user_to_group(**U, GroupName="team")
    return lambda: iam.remove_user_from_group(**U, GroupName="team")


def hang_password(iam: Any) -> Callable[[], Any]:
    iam.create_login_profile(**U, Password="Sesame-2030")
    return lambda: iam.delete_login_profile(**U)


def hang_device(iam: Any) -> Callable[[], Any]:
    serial = enable_device(iam)
    return lambda: iam.deactivate_mfa_device(**U, SerialNumber=serial)


def hang_certificate(iam: Any) -> Callable[[], Any]:
    made = iam.upload_signing_certificate(**U, CertificateBody=certificate())["Certificate"]["CertificateId"]
    return lambda: iam.delete_signing_certificate(**U, CertificateId=made)


def hang_ssh_key(iam: Any) -> Callable[[], Any]:
    made = iam.upload_ssh_public_key(**U, SSHPublicKeyBody="ssh-rsa AAAA")["SSHPublicKey"]["SSHPublicKeyId"]
    return lambda: iam.delete_ssh_public_key(**U, SSHPublicKeyId=made)


def hang_git(iam: Any) -> Callable[[], Any]:
    made = git(iam)["ServiceSpecificCredentialId"]
    return lambda: iam.delete_service_specific_credential(**U, ServiceSpecificCredentialId=made)


HANGING = [
    (hang_key, "must delete access keys first."),
    (hang_managed, "must detach all policies first."),
    (hang_inline, "must delete policies first."),
    (hang_group, "must remove users from group first."),
    (hang_password, "must delete login profile first."),
    (hang_device, "must delete MFA device first."),
    (hang_certificate, "must delete certificates first."),
    (hang_ssh_key, "must remove referenced objects first."),
    (hang_git, "must remove referenced objects first."),
]


@refuses("attachments of users")
@pytest.mark.parametrize(("hang", "text"), HANGING)
def test_a_user_on_which_something_hangs_stays(iam: Any, hang: Callable[[Any], Callable[[], Any]], text: str):
    iam.tag_user(**U, Tags=[{"Key": "k", "Value": "v"}])
    before = iam.get_user(**U)["User"]
    take_off = hang(iam)
    refused = ("DeleteConflict", 409, f"Cannot delete entity, {text}")
    assert refusal_of(lambda: iam.delete_user(**U)) == refused
    assert iam.get_user(**U)["User"] == before
    take_off()
    iam.delete_user(**U)
    assert code_of(lambda: iam.get_user(**U)) == "NoSuchEntity"


@passes("attachments of users")
def test_a_user_goes_when_all_is_taken_off_in_any_order(iam: Any):
    for order in (HANGING, HANGING[::-1]):
        for take_off in [hang(iam) for hang, _ in order]:
            assert code_of(lambda: iam.delete_user(**U)) == "DeleteConflict"
            take_off()
        iam.delete_user(**U)
        iam.delete_virtual_mfa_device(SerialNumber=f"arn:aws:iam::{ACCOUNT}:mfa/phone")
        iam.create_user(**U)


@refuses("attachments of users")
def test_what_is_taken_off_twice_is_not_there(iam: Any):
    for hang, _ in HANGING:
        take_off = hang(iam)
        take_off()
        if hang is hang_group:
            take_off()  # the one that is no error
        else:
            assert refusal_of(take_off)[:2] == ("NoSuchEntity", 404), hang


@refuses("groups, policies and devices in use")
def test_groups_policies_and_devices_in_use_stay(iam: Any):
    arn = iam.create_policy(PolicyName="p", PolicyDocument=document(200))["Policy"]["Arn"]
    hang_group(iam)
    iam.attach_user_policy(**U, PolicyArn=arn)
    serial = enable_device(iam)
    refused = ("DeleteConflict", 409, "Cannot delete entity, must remove users from group first.")
    assert refusal_of(lambda: iam.delete_group(GroupName="team")) == refused
    refused = ("DeleteConflict", 409, "Cannot delete a policy attached to entities.")
    assert refusal_of(lambda: iam.delete_policy(PolicyArn=arn)) == refused
    refused = ("DeleteConflict", 409, "MFA VirtualDevice in use. Must deactivate first.")
    assert refusal_of(lambda: iam.delete_virtual_mfa_device(SerialNumber=serial)) == refused
    assert [one["GroupName"] for one in iam.list_groups_for_user(**U)["Groups"]] == ["team"]
    assert len(iam.list_mfa_devices(**U)["MFADevices"]) == 1
    iam.get_policy(PolicyArn=arn)


@passes("groups, policies and devices in use")
def test_groups_policies_and_devices_go_when_nobody_has_them(iam: Any):
    arn = iam.create_policy(PolicyName="p", PolicyDocument=document(200))["Policy"]["Arn"]
    iam.attach_group_policy(GroupName="team", PolicyArn=arn)
    assert code_of(lambda: iam.delete_group(GroupName="team")) == "DeleteConflict"
    iam.detach_group_policy(GroupName="team", PolicyArn=arn)
    iam.delete_group(GroupName="team")
    iam.delete_policy(PolicyArn=arn)
    assert code_of(lambda: iam.delete_group(GroupName="team")) == "NoSuchEntity"
    assert code_of(lambda: iam.delete_policy(PolicyArn=arn)) == "NoSuchEntity"


# --- service-specific credentials


@passes("service-specific credentials")
def test_credentials_for_a_service_are_made_listed_and_deleted(aws: AwsEmulator, iam: Any):
    made = git(iam)
    assert made.pop("ServicePassword").endswith("=")
    assert made["ServiceUserName"] == f"lease-at-{ACCOUNT}"
    assert abs(made["CreateDate"] - aws.clock.now()).total_seconds() < 1
    assert iam.list_service_specific_credentials(**U)["ServiceSpecificCredentials"] == [made]
    assert iam.list_service_specific_credentials(**U, ServiceName=GIT)["ServiceSpecificCredentials"] == [made]
    other = "cassandra.amazonaws.com"
    assert iam.list_service_specific_credentials(**U, ServiceName=other)["ServiceSpecificCredentials"] == []
    iam.delete_service_specific_credential(**U, ServiceSpecificCredentialId=made["ServiceSpecificCredentialId"])
    assert iam.list_service_specific_credentials(**U)["ServiceSpecificCredentials"] == []


@refuses("service-specific credentials")
def test_there_are_two_for_a_service_and_only_services_that_have_them(iam: Any):
    iam.create_service_specific_credential(**U, ServiceName="cassandra.amazonaws.com")
    ids = {git(iam)["ServiceSpecificCredentialId"] for _ in range(2)}
    assert refusal_of(lambda: git(iam))[:2] == ("LimitExceeded", 409)
    listed = iam.list_service_specific_credentials(**U, ServiceName=GIT)["ServiceSpecificCredentials"]
    assert {one["ServiceSpecificCredentialId"] for one in listed} == ids
    refused = ("NoSuchEntity", 404, "No such service s3.amazonaws.com is supported for Service Specific Credentials")
    make = {**U, "ServiceName": "s3.amazonaws.com"}
    assert refusal_of(lambda: iam.create_service_specific_credential(**make)) == refused
    gone = {**U, "ServiceSpecificCredentialId": "ACCA" + "X" * 17}
    assert code_of(lambda: iam.delete_service_specific_credential(**gone)) == "NoSuchEntity"


def test_a_new_user_of_the_same_name_has_none_of_the_old_ones(iam: Any):
    take_off = hang_git(iam)
    take_off()
    iam.delete_user(**U)
    iam.create_user(**U)
    assert iam.list_service_specific_credentials(**U)["ServiceSpecificCredentials"] == []
