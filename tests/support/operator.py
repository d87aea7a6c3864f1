"""What an operator asks of a `World`: each returns the engine's part that the command line uses."""

from __future__ import annotations

from phasesync.adapters.clock import SystemClock
from phasesync.engine.adoption import Adoption
from phasesync.engine.claims import ClaimTaker
from phasesync.engine.explanation import Explainer
from phasesync.engine.operations import SyncOperations
from phasesync.engine.removal import ForceDeletion, RemoteDeletion, SyncRelease
from phasesync.engine.verification import Verification
from tests.support.stores import TTL
from tests.support.world import World


def claims(world: World) -> ClaimTaker:
    """Takes claims as a command does."""
    return ClaimTaker(world.store.state, SystemClock(), owner="cli", ttl=TTL)


def adoption(world: World) -> Adoption:
    """What `syncs adopt` uses."""
    return Adoption(
        environments=world.store.environments,
        state=world.store.state,
        destinations=world.destinations,
        instance_id=world.store.instance_id,
    )


def release(world: World) -> SyncRelease:
    """What `syncs release` uses."""
    return SyncRelease(
        state=world.store.state,
        destinations=world.destinations,
        claims=claims(world),
        instance_id=world.store.instance_id,
        clock=world.clock,
    )


def remote_deletion(world: World) -> RemoteDeletion:
    """What `syncs remove --remote delete` uses."""
    return RemoteDeletion(
        state=world.store.state,
        destinations=world.destinations,
        claims=claims(world),
        instance_id=world.store.instance_id,
        clock=world.clock,
    )


def force_deletion(world: World) -> ForceDeletion:
    """What `aws force-delete` uses."""
    return ForceDeletion(
        credentials=world.store.credentials,
        state=world.store.state,
        destinations=world.destinations,
        claims=claims(world),
        instance_id=world.store.instance_id,
        clock=world.clock,
    )


def explainer(world: World) -> Explainer:
    """What `syncs why` uses."""
    return Explainer(
        state=world.store.state, reconciler=world.reconciler, instance_id=world.store.instance_id, clock=world.clock
    )


def verification(world: World) -> Verification:
    """What `syncs verify` uses."""
    return Verification(
        environments=world.store.environments,
        state=world.store.state,
        destinations=world.destinations,
        digests=world.store.keys.digests,
    )


def operations(world: World) -> SyncOperations:
    """What `syncs plan`, `run` and `approve` use."""
    return SyncOperations(
        credentials=world.store.credentials,
        state=world.store.state,
        reconciler=world.reconciler,
        claims=claims(world),
        daemons=world.store.daemons,
        clock=world.clock,
    )


def values(world: World) -> dict[str, str]:
    """What the store has in the sync's folder, as it was entered."""
    listed = world.store.secrets.list_secrets("shop", "production", path=world.sync.path)
    return {one.key: one.value.reveal_text() for one in listed if one.value is not None}
