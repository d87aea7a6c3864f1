"""What an operator asks of a `World`: the use cases that the command line calls."""

from __future__ import annotations

from phasesync.engine.adoption import Adoption
from phasesync.engine.operations import SyncOperations
from tests.support.world import World


def adoption(world: World) -> Adoption:
    """What `syncs adopt` uses."""
    return Adoption(world.context)


def operations(world: World) -> SyncOperations:
    """What `syncs plan`, `run` and `approve` use."""
    return SyncOperations(world.context)


def values(world: World) -> dict[str, str]:
    """What the store has in the sync's folder, as it was entered."""
    listed = world.store.secrets.list_secrets("shop", "production", path=world.sync.path)
    return {version.key: version.value.reveal_text() for version in listed if version.value is not None}
