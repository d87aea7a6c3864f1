"""What an operator asks of a `World`: the use cases that the command line calls."""

from __future__ import annotations

from phasesync.core.sync import Adopt
from phasesync.engine.adoption import AdoptionPreview, accept_adoption, preview_adoption
from phasesync.engine.import_values import ImportResult
from phasesync.engine.sync_operations import SyncOperations
from tests.support.stores import ACTOR
from tests.support.world import World


def preview(world: World, adopt: Adopt) -> AdoptionPreview:
    """What `syncs adopt` shows."""
    return preview_adoption(world.context, "web", adopt)


def accept(world: World, shown: AdoptionPreview) -> ImportResult | None:
    """What `syncs adopt` does once the operator has consented."""
    return accept_adoption(world.context, shown, actor=ACTOR)


def operations(world: World) -> SyncOperations:
    """What `syncs plan`, `run` and `approve` use."""
    return SyncOperations(world.context)


def values(world: World) -> dict[str, str]:
    """What the store has in the sync's folder, as it was entered."""
    listed = world.store.secrets.list_secrets("shop", "production", path=world.sync.path)
    return {version.key: version.value.reveal_text() for version in listed if version.value is not None}
