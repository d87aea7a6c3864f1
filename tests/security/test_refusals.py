"""What AWS refuses and what we make of it: keys that are wrong, actions and objects that are not allowed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import time_machine

from phasesync.adapters.aws.session import AwsClients
from phasesync.adapters.aws_secrets_manager.destination import SPEC
from phasesync.core.iam.sync_policy import starter_sync_policy
from phasesync.core.sync import AWS_MANAGED_KEY
from phasesync.errors import CredentialRejectedError, PermissionDeniedError
from phasesync.ports.destination import Destination
from tests.security.conftest import credential_of
from tests.support.accounts import REGION, Account, Key, allow, deny
from tests.support.aws_builders import ambient_credential, payload, token

OpenAs = Callable[..., Destination]

MAKE_WRONG: dict[str, Callable[[Key], Key]] = {
    "unknown key": lambda key: replace(key, id="AKIAUNKNOWNUNKNOWN12"),
    "wrong secret": lambda key: replace(key, secret=key.secret[::-1]),
}
SAID_BY_STS = {"unknown key": "InvalidClientTokenId", "wrong secret": "SignatureDoesNotMatch"}
SAID_BY_SECRETS_MANAGER = {"unknown key": "UnrecognizedClientException", "wrong secret": "InvalidSignatureException"}

POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": "arn:aws:iam::111122223333:root"},
                "Action": "secretsmanager:GetSecretValue",
                "Resource": "*",
            }
        ],
    }
)
CALLS: dict[str, Callable[[Destination, str], Any]] = {
    "DescribeSecret": lambda destination, _: destination.observe("shop/web"),
    "CreateSecret": lambda destination, _: create(destination, "shop/new"),
    "PutSecretValue": lambda destination, arn: destination.put_value(arn, payload(), token=token(2)),
    "UpdateSecret": lambda destination, arn: destination.update_metadata(arn, description="ours"),
    "TagResource": lambda destination, arn: destination.update_metadata(arn, tags={"team": "ours"}),
    "UntagResource": lambda destination, arn: destination.update_metadata(arn, untag=["team"]),
    "DeleteSecret": lambda destination, arn: destination.delete(arn, recovery_days=7),
    "RestoreSecret": lambda destination, arn: destination.restore(arn),
    "ReplicateSecretToRegions": lambda destination, arn: destination.replicate(arn, {"us-east-1": AWS_MANAGED_KEY}),
    "RemoveRegionsFromReplication": lambda destination, arn: destination.remove_replicas(arn, ["us-east-1"]),
    "GetResourcePolicy": lambda destination, arn: destination.resource_policy(arn),
    "ValidateResourcePolicy": lambda destination, arn: destination.put_resource_policy(arn, POLICY),
    "PutResourcePolicy": lambda destination, arn: destination.put_resource_policy(arn, POLICY),
    "ListSecrets": lambda destination, _: destination.list_names(),
    "GetSecretValue": lambda destination, _: destination.read_value("shop/web"),
}
"""Action -> the call of a destination that needs it."""
NEEDED_BESIDE = {
    "PutResourcePolicy": ("secretsmanager:ValidateResourcePolicy",),
    "ValidateResourcePolicy": ("secretsmanager:PutResourcePolicy",),
}
MISSING = frozenset({"RemoveRegionsFromReplication"})
"""What ministack does not have: it refuses those who may not, and has no answer for those who may."""
EVERYTHING = allow("secretsmanager:*")


def create(destination: Destination, name: str) -> Any:
    return destination.create(name, payload(), token=token(1), description=None, kms_key=None, tags={})


def something_for(action: str, home: Account) -> str:
    """Make the secret that an action is tried on."""
    arn = home.add_secret("shop/web")
    if action == "RestoreSecret":
        home.client("secretsmanager").delete_secret(SecretId=arn)
    return arn


# --- keys


@pytest.mark.parametrize("wrong", MAKE_WRONG)
def test_a_wrong_key_has_no_identity(home: Account, clients: AwsClients, wrong: str) -> None:
    key = MAKE_WRONG[wrong](home.add_user("writer", EVERYTHING))

    with pytest.raises(CredentialRejectedError) as caught:
        clients.identity_of(credential_of(key))

    assert caught.value.code == SAID_BY_STS[wrong]


@pytest.mark.parametrize("wrong", MAKE_WRONG)
def test_a_wrong_key_writes_nothing(home: Account, open_as: OpenAs, wrong: str) -> None:
    key = MAKE_WRONG[wrong](home.add_user("writer", EVERYTHING))

    with pytest.raises(CredentialRejectedError) as caught:
        create(open_as(credential_of(key)), "shop/web")

    assert caught.value.code == SAID_BY_SECRETS_MANAGER[wrong]
    assert home.secret_names() == []


def test_a_key_works_until_it_is_switched_off(home: Account, open_as: OpenAs) -> None:
    key = home.add_user("writer", EVERYTHING)
    destination = open_as(credential_of(key))
    create(destination, "shop/web")

    home.client("iam").update_access_key(UserName="writer", AccessKeyId=key.id, Status="Inactive")

    with pytest.raises(CredentialRejectedError):
        create(destination, "shop/late")
    assert home.secret_names() == ["shop/web"]


@pytest.mark.parametrize("broken", ["another token", "no token"])
def test_a_session_without_its_token_is_rejected(
    home: Account, open_as: OpenAs, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    user = home.add_user("host", allow("sts:AssumeRole"))
    trust = {"Version": "2012-10-17", "Statement": [_trusts(user.arn)]}
    session = home.assume(home.add_role("writer", trust, EVERYTHING), by=user)
    for name, value in replace(session, token="not-its-token" if broken == "another token" else None).environ().items():
        monkeypatch.setenv(name, value)

    with pytest.raises(CredentialRejectedError) as caught:
        create(open_as(ambient_credential()), "shop/web")

    assert caught.value.code == "UnrecognizedClientException"
    assert home.secret_names() == []


def test_a_clock_that_is_off_is_named(home: Account, open_as: OpenAs) -> None:
    destination = open_as(credential_of(home.add_user("writer", EVERYTHING)))

    with time_machine.travel(timedelta(minutes=-20), tick=True), pytest.raises(CredentialRejectedError) as caught:
        create(destination, "shop/web")

    assert "clock" in str(caught.value.hint)
    assert home.secret_names() == []


# --- actions


def test_every_action_of_the_destination_is_tried_here() -> None:
    asked = {action for actions in SPEC.actions.values() for action in actions}
    tried = {f"secretsmanager:{name}" for name in CALLS}

    assert {action for action in asked if action.startswith("secretsmanager:")} == tried


@pytest.mark.parametrize("name", CALLS)
def test_a_refusal_names_the_action_and_changes_nothing(home: Account, open_as: OpenAs, name: str) -> None:
    key = home.add_user("writer", EVERYTHING, deny(f"secretsmanager:{name}"))
    arn = something_for(name, home)
    before = home.secret("shop/web") | {"ResponseMetadata": None}

    with pytest.raises(PermissionDeniedError) as caught:
        CALLS[name](open_as(credential_of(key)), arn)

    assert caught.value.action == f"secretsmanager:{name}"
    assert home.secret("shop/web") | {"ResponseMetadata": None} == before
    assert "shop/new" not in home.secret_names()


@pytest.mark.parametrize("name", [name for name in CALLS if name not in MISSING])
def test_the_action_alone_is_enough(home: Account, open_as: OpenAs, name: str) -> None:
    key = home.add_user("writer", allow(f"secretsmanager:{name}", *NEEDED_BESIDE.get(name, ())))
    arn = something_for(name, home)

    CALLS[name](open_as(credential_of(key)), arn)


def test_the_kind_of_policy_that_refused_is_told(home: Account, open_as: OpenAs) -> None:
    destination = open_as(credential_of(home.add_user("writer")))
    home.add_secret("shop/web")

    with pytest.raises(PermissionDeniedError, match="no identity-based policy allows it"):
        destination.observe("shop/web")

    home.set_user_policies("writer", EVERYTHING, deny("secretsmanager:DescribeSecret"))
    with pytest.raises(PermissionDeniedError, match="denied by a policy"):
        destination.observe("shop/web")


def test_a_policy_that_is_put_in_place_helps_at_once(home: Account, open_as: OpenAs) -> None:
    destination = open_as(credential_of(home.add_user("writer")))
    with pytest.raises(PermissionDeniedError):
        create(destination, "shop/web")

    home.set_user_policies("writer", starter_sync_policy(region=REGION))

    create(destination, "shop/web")
    assert home.secret_names() == ["shop/web"]


# --- objects


def test_a_policy_for_some_objects_opens_these_and_no_others(home: Account, open_as: OpenAs) -> None:
    ours = allow("secretsmanager:*", resources=("arn:aws:secretsmanager:*:*:secret:shop/*",))
    destination = open_as(credential_of(home.add_user("writer", ours)))
    theirs = home.add_secret("bank/web")

    create(destination, "shop/web")
    observed = destination.observe("shop/web")
    assert observed is not None
    destination.put_value(observed.arn, payload('{"KEY":"new"}'), token=token(2))

    for refused in (
        lambda: create(destination, "bank/new"),
        lambda: destination.observe("bank/web"),
        lambda: destination.put_value(theirs, payload('{"KEY":"new"}'), token=token(3)),
    ):
        with pytest.raises(PermissionDeniedError):
            refused()
    assert home.secret_names() == ["bank/web", "shop/web"]
    assert (home.secret_values("shop/web"), home.secret_values("bank/web")) == ({"KEY": "new"}, {"KEY": "theirs"})


def test_a_policy_for_the_very_object_opens_no_object_of_a_longer_name(home: Account, open_as: OpenAs) -> None:
    destination = open_as(
        credential_of(home.add_user("writer", starter_sync_policy(region=REGION, names=["shop/web"])))
    )
    arn, longer = home.add_secret("shop/web"), home.add_secret("shop/web-internal")

    destination.put_value(arn, payload('{"KEY":"new"}'), token=token(1))

    with pytest.raises(PermissionDeniedError):
        destination.put_value(longer, payload('{"KEY":"new"}'), token=token(2))
    assert home.secret_values("shop/web-internal") == {"KEY": "theirs"}


def test_the_starter_policy_ends_at_its_region(home: Account, open_as: OpenAs) -> None:
    key = credential_of(home.add_user("writer", starter_sync_policy(region=REGION)))

    create(open_as(key), "shop/web")
    with pytest.raises(PermissionDeniedError):
        create(open_as(key, "us-east-1"), "shop/web")

    assert (home.secret_names(), home.secret_names(region="us-east-1")) == (["shop/web"], [])


def _trusts(arn: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Principal": {"AWS": arn}, "Action": "sts:AssumeRole"}
