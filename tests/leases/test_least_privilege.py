"""The printed policy is enough for everything that leases do, no more than that, and makes no administrator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from phasesync.core.credential import CredentialDraft, CredentialType
from phasesync.core.iam.lease_policy import STARTER_BOUNDARY, starter_lease_policy
from phasesync.core.lease import LeaseStatus
from phasesync.core.lease_users import TAG_DYNAMIC, TAG_LEASE, TAG_MAX_EXPIRES_AT
from phasesync.core.remote import TAG_INSTANCE
from phasesync.emulator import Answer, Operation, When
from phasesync.emulator.access import asks
from phasesync.engine.iam_policies import policy_of_scope, policy_scope
from phasesync.errors import NotFoundError
from phasesync.store.tables import leases as lease_rows
from tests.support.iam import allows
from tests.support.lease_world import (
    ACCESS_KEY_ID,
    ACCOUNT,
    BOUNDARY,
    INLINE,
    OUR_PATH,
    POLICIES,
    REGION,
    LeaseWorld,
    policy_arn,
)
from tests.support.stores import ACTOR

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)

ADMINISTRATOR = policy_arn("administrator")
Policy = dict[str, Any]


def printed(world: LeaseWorld, *, dynamic: str | None = "ci", credential: str | None = None) -> Policy:
    """The policy as `aws policy --dynamic ci` prints it, or for None, `aws policy --all --credential`."""
    scope = policy_scope(world.context, dynamic=dynamic, credential=credential)
    return policy_of_scope(scope, instance_id=world.store.instance_id, actions=lambda _kind: {})


def starter(world: LeaseWorld, boundary: str | None = None) -> Policy:
    return starter_lease_policy(region=REGION, boundary=boundary, instance_id=world.store.instance_id)


class Judge:
    """AWS allows phasesync's key what a policy says, and nothing else; remembers what was asked for."""

    def __init__(self, world: LeaseWorld, policy: Policy) -> None:
        self.asked: set[str] = set()
        self.refused: list[str] = []
        self._world = world
        self._policy = policy
        world.aws.on_request = self._judge

    def _judge(self, when: When, one: Operation) -> Answer | None:
        if when == "after" or not self._world.is_ours(one) or one.name == "GetCallerIdentity":
            return None
        for action, resource, context in asks(self._world.aws.state, one):
            self.asked.add(action)
            if not allows(self._policy, action, resource, context):
                self.refused.append(f"{action} {resource}")
                return Answer("AccessDenied", f"not authorized to perform: {action}", status=403)
        return None


def hang_everything_on(world: LeaseWorld, name: str) -> None:
    """Someone puts on a user whatever a user can have."""
    iam = world.iam
    iam.create_access_key(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="theirs", PolicyDocument=INLINE)
    iam.create_policy(PolicyName="theirs", PolicyDocument=INLINE)
    iam.attach_user_policy(UserName=name, PolicyArn=policy_arn("theirs"))
    iam.create_login_profile(UserName=name, Password="Correct-Horse-9")
    device = iam.create_virtual_mfa_device(VirtualMFADeviceName=name)["VirtualMFADevice"]["SerialNumber"]
    codes = {"AuthenticationCode1": "123456", "AuthenticationCode2": "654321"}
    iam.enable_mfa_device(UserName=name, SerialNumber=device, **codes)
    iam.create_service_specific_credential(UserName=name, ServiceName="codecommit.amazonaws.com")
    iam.upload_ssh_public_key(UserName=name, SSHPublicKeyBody="ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ")
    iam.upload_signing_certificate(UserName=name, CertificateBody=certificate())


def certificate() -> str:
    """A certificate that no one signed but itself."""
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    began = datetime(2026, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, began, began + timedelta(days=900)).sign(key, None)
    return made.public_bytes(Encoding.PEM).decode()


def live_through(world: LeaseWorld) -> None:
    """Do everything that leases do, once."""
    plain = world.issue().lease
    world.operations.renew(plain.id, plain.spec.ttl, actor=ACTOR)
    laden = world.issue().lease
    hang_everything_on(world, laden.spec.name)
    by_hand = world.issue().lease
    world.delete_by_hand(by_hand.spec.name)
    for lease in (plain, laden, by_hand):
        if world.revoke(lease.id).lease.missing_since is not None:
            world.let_time_pass(minutes=6)
        done = world.revoke(lease.id)
        assert (done.lease.status, done.error) == (LeaseStatus.REVOKED, None)
    tags = {TAG_INSTANCE: world.store.instance_id, TAG_LEASE: "lost", TAG_MAX_EXPIRES_AT: "2020-01-01T00:00:00Z"}
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    world.iam.create_user(UserName="ci-lost", Path=OUR_PATH, Tags=listed)
    world.orphan_users.collect(lambda: None)
    assert world.users() == set()


def actions(policy: Policy) -> set[str]:
    return {action for statement in policy["Statement"] for action in statement["Action"]}


def is_of_what_is_gone(refusal: str) -> bool:
    """A user that is gone has no path, and its key no owner: that is refused, and looked into."""
    action, _, resource = refusal.partition(" ")
    return resource.startswith(f"arn:aws:iam::{ACCOUNT}:user/ci-") or action == "iam:GetAccessKeyLastUsed"


def test_the_printed_policy_is_enough_and_no_more(world: LeaseWorld) -> None:
    judge = Judge(world, printed(world))
    for operation in ("AttachUserPolicy", "AddUserToGroup"):
        world.aws.fail(operation, Answer("NoSuchEntity", "which is not said", status=404))

    live_through(world)

    assert all(map(is_of_what_is_gone, judge.refused)), judge.refused
    assert judge.asked == actions(printed(world))


def test_the_policy_to_begin_with_is_enough(make_lease_world: Callable[..., LeaseWorld]) -> None:
    world = make_lease_world(permission_boundary=None, groups=())
    world.iam.create_policy(PolicyName=STARTER_BOUNDARY, PolicyDocument=INLINE)
    bounded = policy_arn(STARTER_BOUNDARY)
    world.dynamic = world.configuration.update("ci", lambda one: replace(one, permission_boundary=bounded)).dynamic
    judge = Judge(world, starter(world))

    live_through(world)

    assert all(map(is_of_what_is_gone, judge.refused)), judge.refused


# --- leases that live while what they were made of is changed

CHANGES: dict[str, dict[str, Any]] = {
    "path": {"iam_path": "/elsewhere/"},
    "path of a folder": {"iam_path": "/phasesync/shop/production/inner/"},
    "groups": {"groups": ("others",)},
    "policies": {"policy_arns": POLICIES[:1], "inline_policy": None},
    "boundary": {"permission_boundary": policy_arn("another")},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_lives_is_taken_back_under_the_policy_that_is_printed_now(
    world: LeaseWorld, change: dict[str, Any]
) -> None:
    plain, laden = world.issue().lease, world.issue().lease
    hang_everything_on(world, laden.spec.name)
    world.configuration.update("ci", lambda config: replace(config, **change))

    judge = Judge(world, printed(world))

    for lease in (plain, laden):
        assert world.revoke(lease.id).lease.status is LeaseStatus.REVOKED
    assert (judge.refused, world.users()) == ([], set())


def test_a_lease_with_a_former_name_is_found_gone(world: LeaseWorld) -> None:
    lease = world.issue().lease
    world.configuration.update("ci", lambda config: replace(config, user_template="zz-{{random}}"))
    Judge(world, printed(world))
    world.aws.on_request, judge = None, world.aws.on_request
    world.delete_by_hand(lease.spec.name)
    world.aws.on_request = judge

    assert world.revoke(lease.id).lease.missing_since is not None
    world.let_time_pass(minutes=6)
    assert world.revoke(lease.id).lease.status is LeaseStatus.REVOKED


def test_a_former_credential_has_a_policy_while_its_leases_live(world: LeaseWorld) -> None:
    lease = world.issue().lease
    world.store.credentials.add("two", CredentialDraft(type=CredentialType.AMBIENT, region=REGION))
    world.configuration.update("ci", lambda config: config, credential="two")

    assert actions(printed(world, dynamic=None, credential="two")) >= {"iam:CreateUser", "iam:CreateAccessKey"}
    policy = printed(world, dynamic=None, credential="aws")
    assert not actions(policy) & {"iam:CreateUser", "iam:CreateAccessKey", "iam:AddUserToGroup"}
    (renewing,) = [one for one in policy["Statement"] if "iam:TagUser" in one["Action"]]
    assert f"aws:ResourceTag/{TAG_INSTANCE}" in renewing["Condition"]["StringEquals"], "users that are ours already"
    judge = Judge(world, policy)
    world.operations.renew(lease.id, lease.spec.ttl, actor=ACTOR)
    assert world.revoke(lease.id).lease.status is LeaseStatus.REVOKED
    assert judge.refused == []
    with pytest.raises(NotFoundError):
        printed(world, dynamic=None, credential="aws")


def test_a_lease_that_somebody_altered_adds_nothing(world: LeaseWorld) -> None:
    without = printed(world)
    world.issue()
    with world.store.database.write() as connection:
        connection.execute(lease_rows.update().values(details=b"altered"))

    assert printed(world) == without


# --- what who holds the role cannot do


FITTING = "ci-" + "0" * 16
"""A name as the dynamic secret would give one."""
OTHERS = "ci-" + "1" * 16
"""The user of another installation."""


def tags_of(world: LeaseWorld, dynamic: str | None = None, *, instance: str | None = None) -> list[dict[str, str]]:
    tags = {TAG_INSTANCE: instance or world.store.instance_id}
    if dynamic is not None:
        tags[TAG_DYNAMIC] = world.store.dynamics.get(dynamic).id
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def user_of_another_dynamic(world: LeaseWorld) -> str:
    """The user of a lease of another dynamic secret in the environment, without a boundary."""
    keys = {"username": "A", "access_key_id": "B", "secret_access_key": "C"}
    config = replace(world.dynamic.config, policy_arns=(ADMINISTRATOR,), groups=(), permission_boundary=None, keys=keys)
    world.add("admin", config=replace(config, user_template="ci-{{random}}"))
    return world.operations.issue("admin", actor=ACTOR, probe_for=None).lease.spec.name


def attacks(world: LeaseWorld, iam: Any, ours: str, another: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what someone would try who got hold of the daemon's role."""
    tags = tags_of(world, "ci")
    bounded = {"PermissionsBoundary": BOUNDARY, "Tags": tags}
    yield "no boundary", lambda: iam.create_user(UserName=FITTING, Path=OUR_PATH, Tags=tags)
    yield (
        "another boundary",
        lambda: iam.create_user(UserName=FITTING, Path=OUR_PATH, Tags=tags, PermissionsBoundary=ADMINISTRATOR),
    )
    yield "another path", lambda: iam.create_user(UserName=FITTING, Path="/", **bounded)
    yield "a path beside", lambda: iam.create_user(UserName=FITTING, Path="/phasesync/shop/", **bounded)
    yield (
        "another's mark",
        lambda: iam.create_user(UserName=FITTING, Path=OUR_PATH, PermissionsBoundary=BOUNDARY, Tags=tags_of(world)),
    )
    yield "another name", lambda: iam.create_user(UserName="alice", Path=OUR_PATH, **bounded)
    yield "no tag", lambda: iam.create_user(UserName=FITTING, Path=OUR_PATH, PermissionsBoundary=BOUNDARY)
    yield "administrator", lambda: iam.attach_user_policy(UserName=ours, PolicyArn=ADMINISTRATOR)
    yield "rights without a boundary", lambda: iam.attach_user_policy(UserName="unbounded", PolicyArn=POLICIES[0])
    yield (
        "inline without a boundary",
        lambda: iam.put_user_policy(UserName="unbounded", PolicyName="x", PolicyDocument=INLINE),
    )
    yield "boundary off", lambda: iam.delete_user_permissions_boundary(UserName=ours)
    yield (
        "boundary changed",
        lambda: iam.put_user_permissions_boundary(UserName=ours, PermissionsBoundary=ADMINISTRATOR),
    )
    yield "boundary rewritten", lambda: iam.create_policy_version(PolicyArn=BOUNDARY, PolicyDocument=INLINE)
    yield "another group", lambda: iam.add_user_to_group(UserName=ours, GroupName="admins")
    for name in ("somebody", "theirs", OTHERS, another):
        yield from taking_over(iam, name, tags)
    for name in ("somebody", "theirs", OTHERS):
        yield f"deleting {name}", partial(iam.delete_user, UserName=name)
    yield "a password", lambda: iam.create_login_profile(UserName=ours, Password="Correct-Horse-9")


def taking_over(iam: Any, name: str, tags: list[dict[str, str]]) -> Iterator[tuple[str, Callable[[], object]]]:
    yield f"our tags on {name}", partial(iam.tag_user, UserName=name, Tags=tags)
    yield f"a key of {name}", partial(iam.create_access_key, UserName=name)
    yield f"rights for {name}", partial(iam.attach_user_policy, UserName=name, PolicyArn=POLICIES[0])
    yield f"fewer rights for {name}", partial(iam.delete_user_policy, UserName=name, PolicyName="theirs")


def is_refused(attack: Callable[[], object]) -> bool:
    """Return whether AWS says that someone may not do something; other errors pass."""
    try:
        attack()
    except ClientError as error:
        if error.response["Error"]["Code"] == "AccessDenied":
            return True
        raise
    return False


def role_under(world: LeaseWorld, policy: Policy) -> Any:
    """IAM as someone uses it who got hold of a role with a policy."""
    Judge(world, policy)
    return world.boto("iam", aws_access_key_id=ACCESS_KEY_ID, aws_secret_access_key="stolen")


def test_who_holds_the_role_makes_no_administrator_and_touches_nobody(world: LeaseWorld) -> None:
    iam = world.iam
    iam.create_policy(PolicyName="administrator", PolicyDocument=INLINE)
    iam.create_group(GroupName="admins")
    iam.create_user(UserName="somebody")
    iam.create_user(UserName="theirs", Path=OUR_PATH)
    iam.create_user(UserName="unbounded", Path=OUR_PATH, Tags=tags_of(world, "ci"))
    iam.create_user(UserName=OTHERS, Path=OUR_PATH, Tags=tags_of(world, "ci", instance="another"))
    ours, another = world.issue().lease.spec.name, user_of_another_dynamic(world)
    iam.put_user_policy(UserName=another, PolicyName="theirs", PolicyDocument=INLINE)
    role = role_under(world, printed(world))

    got_through = [name for name, attack in attacks(world, role, ours, another) if not is_refused(attack)]

    # Revoking is for all users of our installation, lost ones too.
    assert got_through == [f"fewer rights for {another}"]
    assert world.users() == {ours, another, "theirs", "unbounded", OTHERS}


def test_who_holds_the_role_to_begin_with_touches_no_other_installation(world: LeaseWorld) -> None:
    tags = tags_of(world, instance="another")
    world.iam.create_user(UserName=OTHERS, Path="/phasesync/other/prod/", Tags=tags)
    role = role_under(world, starter(world, BOUNDARY))

    got_through = [name for name, attack in taking_over(role, OTHERS, tags_of(world)) if not is_refused(attack)]

    assert got_through == []
