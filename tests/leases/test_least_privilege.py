"""The printed policy is enough for everything that leases do, no more than that, and makes no administrator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from phasesync.adapters.aws.dynamic_policies import STARTER_BOUNDARY, Issuing, dynamic_statements, starter_policy
from phasesync.adapters.aws.least_privilege import policy_of
from phasesync.core.lease import LeaseStatus
from phasesync.core.orphans import TAG_LEASE, TAG_MAX_EXPIRES_AT
from phasesync.core.remote import TAG_INSTANCE
from phasesync.testing.aws_shim import Answer, Operation, When
from phasesync.testing.aws_shim.rights import asks
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


def printed(world: LeaseWorld) -> Policy:
    """The policy as `aws policy --dynamic ci` prints it."""
    issuing = Issuing(config=world.dynamic.config, name=world.dynamic.name, region=REGION, account=ACCOUNT)
    more = dynamic_statements([issuing], instance_id=world.store.instance_id)
    return policy_of([], instance_id=world.store.instance_id, more=more)


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
        for action, resource, context in asks(self._world.aws.world, one):
            self.asked.add(action)
            if not allows(self._policy, action, resource, context):
                self.refused.append(f"{action} {resource}")
                return Answer("AccessDenied", f"not authorized to perform: {action}", status=403)
        return None


def hang_everything_on(world: LeaseWorld, name: str) -> None:
    """Somebody puts on a user whatever a user can have."""
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
    """A certificate that nobody signed but itself."""
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    began = datetime(2026, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, began, began + timedelta(days=900)).sign(key, None)
    return made.public_bytes(Encoding.PEM).decode()


def live_through(world: LeaseWorld) -> None:
    """Do everything that leases do, once."""
    plain = world.issue().lease
    world.operations.renew(plain.id, plain.order.ttl, actor=ACTOR)
    laden = world.issue().lease
    hang_everything_on(world, laden.order.name)
    by_hand = world.issue().lease
    world.delete_by_hand(by_hand.order.name)
    for lease in (plain, laden, by_hand):
        done = world.revoke(lease.id)
        assert (done.lease.status, done.error) == (LeaseStatus.REVOKED, None)
    tags = {TAG_INSTANCE: world.store.instance_id, TAG_LEASE: "lost", TAG_MAX_EXPIRES_AT: "2020-01-01T00:00:00Z"}
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    world.iam.create_user(UserName="ci-lost", Path=OUR_PATH, Tags=listed)
    world.reaper.reap(lambda: None)
    assert world.users() == set()


def actions(policy: Policy) -> set[str]:
    return {action for statement in policy["Statement"] for action in statement["Action"]}


def test_the_printed_policy_is_enough_and_no_more(world: LeaseWorld) -> None:
    judge = Judge(world, printed(world))

    live_through(world)

    # A user that is gone has no path: that is refused, and looked into.
    gone = f"arn:aws:iam::{ACCOUNT}:user/ci-"
    assert all(refusal.partition(" ")[2].startswith(gone) for refusal in judge.refused), judge.refused
    assert judge.asked == actions(printed(world))


def test_the_policy_to_begin_with_is_enough(make_lease_world: Callable[..., LeaseWorld]) -> None:
    world = make_lease_world(permission_boundary=None, groups=())
    world.iam.create_policy(PolicyName=STARTER_BOUNDARY, PolicyDocument=INLINE)
    bounded = policy_arn(STARTER_BOUNDARY)
    world.dynamic = world.configuration.update("ci", lambda one: replace(one, permission_boundary=bounded)).dynamic
    judge = Judge(world, starter_policy(region=REGION, boundary=None))

    live_through(world)

    gone = f"arn:aws:iam::{ACCOUNT}:user/ci-"
    assert all(refusal.partition(" ")[2].startswith(gone) for refusal in judge.refused), judge.refused


# --- what who holds the role cannot do


def tags_of(world: LeaseWorld) -> list[dict[str, str]]:
    return [{"Key": TAG_INSTANCE, "Value": world.store.instance_id}]


def attacks(world: LeaseWorld, iam: Any, ours: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what somebody would try who got hold of the daemon's role."""
    tags = tags_of(world)
    bounded = {"PermissionsBoundary": BOUNDARY, "Tags": tags}
    yield "no boundary", lambda: iam.create_user(UserName="ci-1", Path=OUR_PATH, Tags=tags)
    yield (
        "another boundary",
        lambda: iam.create_user(UserName="ci-1", Path=OUR_PATH, Tags=tags, PermissionsBoundary=ADMINISTRATOR),
    )
    yield "another path", lambda: iam.create_user(UserName="ci-1", Path="/", **bounded)
    yield "a path beside", lambda: iam.create_user(UserName="ci-1", Path="/phasesync/shop/", **bounded)
    yield "no tag", lambda: iam.create_user(UserName="ci-1", Path=OUR_PATH, PermissionsBoundary=BOUNDARY)
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
    yield "a key of somebody", lambda: iam.create_access_key(UserName="somebody")
    yield "a key of another under our path", lambda: iam.create_access_key(UserName="theirs")
    yield "another under our path", lambda: iam.delete_user(UserName="theirs")
    yield "somebody", lambda: iam.delete_user(UserName="somebody")
    yield "our tag on somebody", lambda: iam.tag_user(UserName="somebody", Tags=tags)
    yield "a password", lambda: iam.create_login_profile(UserName=ours, Password="Correct-Horse-9")


def is_refused(attack: Callable[[], object]) -> bool:
    """Return whether AWS says that somebody may not do something; other errors pass."""
    try:
        attack()
    except ClientError as error:
        if error.response["Error"]["Code"] == "AccessDenied":
            return True
        raise
    return False


def test_who_holds_the_role_makes_no_administrator_and_touches_nobody(world: LeaseWorld) -> None:
    iam = world.iam
    iam.create_policy(PolicyName="administrator", PolicyDocument=INLINE)
    iam.create_group(GroupName="admins")
    iam.create_user(UserName="somebody")
    iam.create_user(UserName="theirs", Path=OUR_PATH)
    iam.create_user(UserName="unbounded", Path=OUR_PATH, Tags=tags_of(world))
    ours = world.issue().lease.order.name
    Judge(world, printed(world))
    role = world.boto("iam", aws_access_key_id=ACCESS_KEY_ID, aws_secret_access_key="stolen")

    got_through = [name for name, attack in attacks(world, role, ours) if not is_refused(attack)]

    assert got_through == []
    assert world.users() == {ours, "theirs", "unbounded"}
