"""The worlds as fixtures: every test of this folder that asks for `world` or `destination` runs in each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from phasesync.ports.destination import Destination
from tests.contracts.destination.worlds import WORLDS, EmulatorWorld, FakeWorld, World, open_in
from tests.support.aws import REGION, Aws


@pytest.fixture
def fake_world() -> FakeWorld:
    return FakeWorld()


@pytest.fixture
def emulator_world(aws: Aws) -> Iterator[EmulatorWorld]:
    world = EmulatorWorld(aws.server)
    yield world
    world.close()


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> World:
    found: World = request.getfixturevalue(f"{request.param}_world")
    return found


@pytest.fixture
def destination(world: World) -> Destination:
    return open_in(world, REGION)
