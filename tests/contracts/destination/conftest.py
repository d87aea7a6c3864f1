"""The worlds as fixtures: every test of this folder that asks for `world` or `destination` runs in each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from phasesync.ports import Destination
from phasesync.testing.aws_shim import AwsShim
from tests.contracts.destination.worlds import WORLDS, FakeWorld, MotoWorld, ShimWorld, World, open_in
from tests.support.aws import REGION, Aws


@pytest.fixture(scope="session")
def shim_server() -> Iterator[AwsShim]:
    """One shim for the tests of this process."""
    with AwsShim() as shim:
        yield shim


@pytest.fixture
def fake_world() -> FakeWorld:
    return FakeWorld()


@pytest.fixture
def moto_world(aws: Aws) -> Iterator[MotoWorld]:
    world = MotoWorld(aws)
    yield world
    world.close()


@pytest.fixture
def shim_world(aws: Aws, shim_server: AwsShim) -> Iterator[ShimWorld]:
    shim_server.reset()
    world = ShimWorld(aws, shim_server)
    yield world
    world.close()


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> World:
    found: World = request.getfixturevalue(f"{request.param}_world")
    return found


@pytest.fixture
def destination(world: World) -> Destination:
    return open_in(world, REGION)
