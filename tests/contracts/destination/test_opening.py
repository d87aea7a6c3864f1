"""Opening destinations, checking names, counting calls, and keeping Regions apart."""

from __future__ import annotations

import pytest

from phasesync.core.credential import CredentialStatus
from phasesync.errors import CredentialRejectedError, InvalidInputError, NotFoundError
from phasesync.ports.destination import Destination
from tests.contracts.destination.worlds import ELSEWHERE, KIND, NAME, World, create, open_in, put
from tests.support.aws import REGION
from tests.support.aws_builders import access_key_credential, role_credential


def test_counts_its_calls(destination: Destination):
    arn = create(destination).arn
    destination.observe(arn)
    put(destination, arn, "two", 2)
    assert destination.calls == 3


def test_does_not_open_an_incomplete_credential(world: World):
    incomplete = role_credential(None, status=CredentialStatus.INCOMPLETE)
    with pytest.raises(CredentialRejectedError):
        world.destinations().open(KIND, incomplete, REGION)


def test_does_not_open_an_unknown_kind(world: World):
    with pytest.raises(NotFoundError):
        world.destinations().open("vault", access_key_credential(), REGION)


@pytest.mark.parametrize("name", ["", "a" * 513, "a b", "rds!a", "größe", "a\n"])
def test_refuses_names_that_the_destination_would_not_take(world: World, name: str):
    with pytest.raises(InvalidInputError):
        world.destinations().check_name(KIND, name)


@pytest.mark.parametrize("name", ["a", "a" * 512, "Shop/production_1+2=3.4@5-6", "shop-abc123"])
def test_takes_names_that_the_destination_takes(world: World, name: str):
    world.destinations().check_name(KIND, name)
    with pytest.raises(NotFoundError):
        world.destinations().check_name("vault", name)


def test_regions_are_apart(world: World, destination: Destination):
    create(destination)
    elsewhere = open_in(world, ELSEWHERE)
    assert elsewhere.observe(NAME) is None
