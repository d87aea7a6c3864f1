"""Finding KMS keys."""

from __future__ import annotations

import pytest

from phasesync.core.credential import CredentialStatus
from phasesync.core.sync import AWS_MANAGED_KEY
from phasesync.errors import CredentialRejectedError, InvalidInputError, NotFoundError, PermissionDeniedError
from tests.contracts.destination.worlds import ELSEWHERE, KIND, World
from tests.support.aws import REGION
from tests.support.aws_builders import access_key_credential, role_credential

NOWHERE = "00000000-1111-4222-8333-444444444444"


def resolve(world: World, key: str, *, region: str = REGION) -> str:
    """Ask for a key."""
    return world.destinations().resolve_key(KIND, access_key_credential(), region, key)


def test_a_key_is_found_by_arn_id_and_alias(world: World):
    arn = world.key(alias="alias/shop")
    key_id = arn.rpartition("/")[2]
    alias_arn = f"{arn.partition(':key/')[0]}:alias/shop"
    assert [resolve(world, name) for name in (arn, key_id, "alias/shop", alias_arn)] == [arn] * 4


def test_the_aws_managed_key_is_returned_as_it_is(world: World):
    assert resolve(world, AWS_MANAGED_KEY) == AWS_MANAGED_KEY
    assert resolve(world, "alias/aws/secretsmanager") == AWS_MANAGED_KEY


@pytest.mark.parametrize("name", ["alias/nowhere", NOWHERE, f"arn:aws:kms:{REGION}:{{account}}:key/{NOWHERE}"])
def test_a_key_that_does_not_exist_is_refused(world: World, name: str):
    with pytest.raises(InvalidInputError):
        resolve(world, name.format(account=world.account))


@pytest.mark.parametrize("name", ["", "shop", "alias/", "alias/with space", "arn:aws:s3:::bucket", "key/" + NOWHERE])
def test_what_has_not_the_form_of_a_key_is_refused(world: World, name: str):
    with pytest.raises(InvalidInputError):
        resolve(world, name)


def test_a_key_that_is_disabled_is_refused(world: World):
    world.key(alias="alias/shop", enabled=False)
    with pytest.raises(InvalidInputError, match="Disabled"):
        resolve(world, "alias/shop")


def test_a_key_that_is_not_symmetric_is_refused(world: World):
    world.key(alias="alias/shop", symmetric=False)
    with pytest.raises(InvalidInputError, match="symmetric"):
        resolve(world, "alias/shop")


def test_a_key_of_another_region_is_refused(world: World):
    arn = world.key(region=ELSEWHERE, alias="alias/shop")
    for name in (arn, f"{arn.partition(':key/')[0]}:alias/shop", "alias/shop"):
        with pytest.raises(InvalidInputError):
            resolve(world, name)
    assert resolve(world, "alias/shop", region=ELSEWHERE) == arn


def test_without_the_right_to_ask_a_full_arn_is_taken_as_it_is(world: World):
    arn = world.key(alias="alias/shop")
    world.deny_keys()
    assert resolve(world, arn) == arn
    assert resolve(world, AWS_MANAGED_KEY) == AWS_MANAGED_KEY
    with pytest.raises(InvalidInputError):
        resolve(world, arn, region=ELSEWHERE)


@pytest.mark.parametrize("by", ["alias", "alias ARN", "id"])
def test_without_the_right_to_ask_other_names_are_refused_with_the_way_out(world: World, by: str):
    arn = world.key(alias="alias/shop")
    names = {
        "alias": "alias/shop",
        "alias ARN": f"{arn.partition(':key/')[0]}:alias/shop",
        "id": arn.rpartition("/")[2],
    }
    world.deny_keys()
    with pytest.raises(PermissionDeniedError) as caught:
        resolve(world, names[by])
    assert caught.value.action == "kms:DescribeKey"
    assert "full ARN" in str(caught.value.hint)


def test_keys_are_not_asked_for_with_an_incomplete_credential_or_kind(world: World):
    incomplete = role_credential(None, status=CredentialStatus.INCOMPLETE)
    with pytest.raises(CredentialRejectedError):
        world.destinations().resolve_key(KIND, incomplete, REGION, "alias/shop")
    with pytest.raises(NotFoundError):
        world.destinations().resolve_key("vault", access_key_credential(), REGION, "alias/shop")
