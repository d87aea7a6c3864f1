"""Which status word a sync has, from what its operator set, what is under way and what was left behind."""

from datetime import timedelta

from phasesync.core.credential import CredentialStatus
from phasesync.core.sync import Paused, SyncStatus, Trigger
from phasesync.core.sync_status import status_of
from tests.support.databases import on_each_database
from tests.support.stores import ACTOR, TTL
from tests.support.world import World

pytestmark = on_each_database


def status(world: World, credential: CredentialStatus = CredentialStatus.VERIFIED) -> SyncStatus:
    """The status word now."""
    return status_of(world.sync, credential)


def test_a_sync_is_pending_until_its_first_run_and_after_every_edit(world: World) -> None:
    """In sync in between."""
    assert status(world) is SyncStatus.PENDING
    world.run()
    assert status(world) is SyncStatus.IN_SYNC
    world.edit(URL="postgres://new")
    assert status(world) is SyncStatus.PENDING


def test_a_change_of_the_sync_is_pending_until_a_run_has_answered_it(world: World) -> None:
    """So that waiting for in-sync after an update waits for the update."""
    world.run()

    world.configure(description="new")

    assert status(world) is SyncStatus.PENDING
    world.run()
    assert status(world) is SyncStatus.IN_SYNC


def test_a_request_is_pending_until_a_run_has_answered_it(world: World) -> None:
    """As is a resume."""
    world.run()
    world.store.sync_requests.request("web", Trigger.MANUAL, actor=ACTOR)
    assert status(world) is SyncStatus.PENDING
    world.run()

    world.store.sync_requests.pause("web", Paused(by=ACTOR, at=world.sync.created_at, reason="", until=None))
    assert status(world) is SyncStatus.PAUSED
    world.store.sync_requests.resume("web", actor=ACTOR)
    assert status(world) is SyncStatus.PENDING


def test_a_claim_that_is_alive_is_running(world: World) -> None:
    """And an expired one is not."""
    world.run()
    claim = world.store.claims.claim(world.sync_id, "daemon", trigger=Trigger.MANUAL, actor=ACTOR, ttl=TTL)
    assert status(world) is SyncStatus.RUNNING
    world.store.claims.release(claim)
    world.store.claims.claim(world.sync_id, "daemon", trigger=Trigger.MANUAL, actor=ACTOR, ttl=timedelta(seconds=-1))
    assert status(world) is not SyncStatus.RUNNING


def test_a_credential_without_a_role_makes_a_sync_incomplete(world: World) -> None:
    """Whatever it read."""
    assert status(world, CredentialStatus.INCOMPLETE) is SyncStatus.INCOMPLETE
